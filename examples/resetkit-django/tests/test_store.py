"""The conformance kit on the store, with SQLite in a file."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.db.backends.signals import connection_created

from resetkit.testing import AsyncTokenStoreConformance, TokenStoreConformance

settings.configure(
    INSTALLED_APPS=["resetkit_django"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "the tests choose"}},
)
django.setup()

from resetkit_django.models import AccountLock, Token  # noqa: E402  # Django must be set up first
from resetkit_django.store import AsyncDjangoTokenStore, DjangoTokenStore  # noqa: E402  # as above


def hurry(connection: Any, **_: object) -> None:
    """Wait for no disk: no test here cuts the power, and without this they take several times as long."""
    connection.cursor().execute("PRAGMA synchronous = OFF")


connection_created.connect(hurry)


@contextmanager
def opened(path: Path) -> Generator[DjangoTokenStore, None, None]:
    """The store on the database in `path`, in this process or in another."""
    connections.settings["default"]["NAME"] = str(path)
    try:
        yield DjangoTokenStore()
    finally:
        connections.close_all()


@asynccontextmanager
async def opened_async(path: Path) -> AsyncGenerator[AsyncDjangoTokenStore, None]:
    """The same for the async one, which closes its connections itself."""
    connections.settings["default"]["NAME"] = str(path)
    yield AsyncDjangoTokenStore()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with tables. Made once, since each test opens some, and one of them hundreds of stores."""
    path = tmp_path_factory.mktemp("database") / "tokens.sqlite3"
    with opened(path):
        call_command("migrate", verbosity=0)
    return path


def empty(path: Path) -> None:
    """Forget everything."""
    with opened(path):
        Token.objects.all().delete()
        AccountLock.objects.all().delete()


class OnDatabase:
    """What both classes share."""

    examples = 8  # enough for every run; without it, a hundred
    path: Path

    @pytest.fixture(autouse=True)
    def take_path(self, migrated: Path) -> None:
        self.path = migrated

    def drivers(self) -> list[str]:
        return ["sqlite3"]

    def kept(self) -> bytes:
        return b"".join(file.read_bytes() for file in self.path.parent.iterdir())


class TestDjangoTokenStore(OnDatabase, TokenStoreConformance):
    @contextmanager
    def open_store(self) -> Generator[DjangoTokenStore, None, None]:
        empty(self.path)
        with opened(self.path) as store:
            yield store

    def other_process(self, store: object) -> Callable[[], AbstractContextManager[DjangoTokenStore]]:
        return partial(opened, self.path)

    def dump(self, store: object) -> bytes:
        return self.kept()


class TestAsyncDjangoTokenStore(OnDatabase, AsyncTokenStoreConformance):
    @asynccontextmanager
    async def open_store(self) -> AsyncGenerator[AsyncDjangoTokenStore, None]:
        await asyncio.to_thread(empty, self.path)  # Django refuses database calls in an event loop
        async with opened_async(self.path) as store:
            yield store

    def other_process(self, store: object) -> Callable[[], AbstractAsyncContextManager[AsyncDjangoTokenStore]]:
        return partial(opened_async, self.path)

    async def dump(self, store: object) -> bytes:
        return self.kept()
