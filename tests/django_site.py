"""Django's example for web_sites.py. Django has one project in a process: each site gets a database of its own."""

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from resetkit import ResetManager
from resetkit.dispatch import ThreadDispatcher
from resetkit.mailers import SMTPMailer


@contextmanager
def django_site(options: Any) -> Generator[tuple[Any, Callable[[str, str], None]], None, None]:
    """Django has one project in a process; each site gets a database and settings of its own."""
    empty = migrated_database()
    from django.core.wsgi import get_wsgi_application  # noqa: PLC0415  # after Django's setup, as all that follows
    from django.db import connections  # noqa: PLC0415  # once Django is set up
    from django.test import override_settings  # noqa: PLC0415  # once Django is set up
    from resetkit_django.store import DjangoTokenStore  # noqa: PLC0415  # once Django is set up
    from website import accounts, reset  # noqa: PLC0415  # once Django is set up
    from website.models import User  # noqa: PLC0415  # once Django is set up

    def sign_up(email: str, password: str) -> None:
        apart(User.objects.create_user, email, password)

    shutil.copyfile(empty, options.database)
    connections.databases["default"]["NAME"] = str(options.database)
    secure = options.origin.startswith("https:")
    changed = {
        "ALLOWED_HOSTS": ["127.0.0.1"],
        "CSRF_TRUSTED_ORIGINS": [options.origin],
        "SESSION_COOKIE_SECURE": secure,
        "CSRF_COOKIE_SECURE": secure,
    }
    shipped = reset.manager
    dispatcher = ThreadDispatcher(around=reset.fresh_connections)
    store = DjangoTokenStore()
    with (
        override_settings(**changed),
        options.manager(ResetManager, accounts.Accounts(), store, SMTPMailer, dispatcher=dispatcher) as reset.manager,
    ):
        yield get_wsgi_application(), sign_up
    reset.manager = shipped


@cache
def migrated_database() -> Path:
    """Empty, with all tables. Django is set up by the way."""
    folder = tempfile.TemporaryDirectory(prefix="rk-")
    atexit.register(folder.cleanup)
    path = Path(folder.name) / "empty.sqlite3"
    told = {"DJANGO_SETTINGS_MODULE": "website.settings", "DATABASE": str(path)}
    os.environ |= told

    import django  # noqa: PLC0415  # once its settings are named
    from django.conf import settings  # noqa: PLC0415  # as above
    from django.core.management import call_command  # noqa: PLC0415  # as above

    django.setup()
    settings.PASSWORD_HASHERS = ["quick_hashes.QuickHasher"]
    for name in told:
        del os.environ[name]
    logging.getLogger("django").setLevel(logging.CRITICAL)
    apart(call_command, "migrate", verbosity=0)
    return path


def apart(work: Callable[..., object], *args: object, **named: object) -> None:
    """In a thread: Playwright runs a loop in this one, where Django takes every call of its own for an async one's."""
    from django.db import connections  # noqa: PLC0415  # once Django is set up

    def do() -> None:
        try:
            work(*args, **named)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(do).result()
