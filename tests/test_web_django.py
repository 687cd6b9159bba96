"""Django's users keep every promise of a directory; their sessions are Django's own, and judged by it."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from django_site import migrated_database
from resetkit import AccountDirectory
from resetkit.testing import AccountDirectoryConformance

ALICE, BOB = "alice@example.org", "bob@example.org"


@pytest.mark.filterwarnings(
    "ignore:unclosed database:ResourceWarning"
)  # Django keeps one for each of the kit's threads
class TestDjango(AccountDirectoryConformance):
    other_identifier = BOB

    @contextmanager
    def open_accounts(self) -> Generator[AccountDirectory, None, None]:
        empty = migrated_database()
        from django.db import connections  # noqa: PLC0415  # after Django's setup, as all that follows
        from website.accounts import Accounts  # noqa: PLC0415  # once Django is set up
        from website.models import User  # noqa: PLC0415  # once Django is set up

        with TemporaryDirectory() as folder:
            path = Path(folder) / "site.sqlite3"
            path.write_bytes(empty.read_bytes())
            connections.close_all()
            connections.databases["default"]["NAME"] = str(path)
            for each in (ALICE, BOB):
                User.objects.create_user(each, "old and long password")
            yield Accounts()
            connections.close_all()

    def rejected_password(self) -> str:
        return "short"

    def log_in(self, accounts: Any, account_id: str, /) -> Callable[[], bool]:
        from django.contrib import auth  # noqa: PLC0415  # once Django is set up
        from django.contrib.sessions.backends.db import SessionStore  # noqa: PLC0415  # once Django is set up
        from django.test import RequestFactory  # noqa: PLC0415  # once Django is set up
        from website.models import User  # noqa: PLC0415  # once Django is set up

        request = RequestFactory().get("/")
        request.session = SessionStore()
        auth.login(request, User.objects.get(id=account_id), "django.contrib.auth.backends.ModelBackend")
        request.session.save()
        key = request.session.session_key

        def lives() -> bool:
            later = RequestFactory().get("/")
            later.session = SessionStore(key)
            return bool(auth.get_user(later).is_authenticated)

        return lives

    def knows_password(self, accounts: Any, account_id: str, password: str, /) -> bool:
        from django.contrib import auth  # noqa: PLC0415  # once Django is set up

        return auth.authenticate(username=accounts.get(account_id).email, password=password) is not None

    def change_address(self, accounts: Any, account_id: str, address: str, /) -> None:
        from website.models import User  # noqa: PLC0415  # once Django is set up

        User.objects.filter(id=account_id).update(email=address)

    def remove(self, accounts: Any, account_id: str, /) -> None:
        from website.models import User  # noqa: PLC0415  # once Django is set up

        User.objects.filter(id=account_id).delete()
