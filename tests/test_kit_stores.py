"""The shipped stores keep every promise; the kit catches every store that breaks one, by the check that names it."""

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import Phase, settings

from broken_stores import TWINS, AsyncTwinKit, KeepsItsCallersLocals, TwinKit
from harness import open_file, open_file_async
from resetkit import AsyncTokenStore, TokenStore
from resetkit.stores import AsyncMemoryTokenStore, MemoryTokenStore
from resetkit.testing import AsyncTokenStoreConformance, BrokenPromiseError, TokenStoreConformance, unsupported


class TestMemory(TokenStoreConformance):
    other_process = unsupported("it keeps nothing outside this process")
    drivers = unsupported("it has no driver")

    @contextmanager
    def open_store(self) -> Generator[TokenStore, None, None]:
        yield MemoryTokenStore()

    def dump(self, store: Any, /) -> bytes:
        return repr(vars(store)).encode()


class TestAsyncMemory(AsyncTokenStoreConformance):
    other_process = unsupported("it keeps nothing outside this process")
    drivers = unsupported("it has no driver")

    @asynccontextmanager
    async def open_store(self) -> AsyncGenerator[AsyncTokenStore, None]:
        yield AsyncMemoryTokenStore()

    async def dump(self, store: Any, /) -> bytes:
        return repr(vars(store._store)).encode()


class TestSQLite(TokenStoreConformance):
    examples = 30

    @contextmanager
    def open_store(self) -> Generator[TokenStore, None, None]:
        with TemporaryDirectory() as folder:
            self.path = Path(folder) / "tokens.sqlite3"
            with open_file(self.path) as store:
                yield store

    def other_process(self, store: Any, /) -> Any:
        return partial(open_file, self.path)

    def drivers(self) -> Sequence[str]:
        return ("sqlite3",)

    def dump(self, store: Any, /) -> bytes:
        return b"".join(each.read_bytes() for each in self.path.parent.iterdir())


class TestAsyncSQLite(AsyncTokenStoreConformance):
    examples = 15

    @asynccontextmanager
    async def open_store(self) -> AsyncGenerator[AsyncTokenStore, None]:
        with TemporaryDirectory() as folder:
            self.path = Path(folder) / "tokens.sqlite3"
            async with open_file_async(self.path) as store:
                yield store

    def other_process(self, store: Any, /) -> Any:
        return partial(open_file_async, self.path)

    def drivers(self) -> Sequence[str]:
        return ("sqlite3",)

    async def dump(self, store: Any, /) -> bytes:
        return b"".join(each.read_bytes() for each in self.path.parent.iterdir())


class Expiring(MemoryTokenStore):
    """A store whose backend takes entries away by its own clock, so that nothing is ever left to purge."""

    def purge(self, *, before: datetime, limit: int) -> int:
        return 0


class TestExpiring(TokenStoreConformance):
    expires_by_itself = True
    other_process = drivers = dump = unsupported("as TestMemory")

    @contextmanager
    def open_store(self) -> Generator[TokenStore, None, None]:
        yield Expiring()


def catches(kit: Any, check: str) -> None:
    settings.register_profile("unshrunk", settings.get_profile("resetkit"), phases=[Phase.generate])
    settings.load_profile("unshrunk")  # the shortest sequence is of no interest here
    try:
        with pytest.raises(BrokenPromiseError) as broken:
            getattr(kit, check)()
    finally:
        settings.load_profile("resetkit")
    assert type(kit).promises()[check].says in str(broken.value)


TWINS_AND_CHECKS = [(twin, check) for twin, checks in TWINS.items() for check in checks]
PAIRS = pytest.mark.parametrize(
    ("twin", "check"), TWINS_AND_CHECKS, ids=[f"{twin.__name__}-{check}" for twin, check in TWINS_AND_CHECKS]
)


@PAIRS
def test_a_broken_store_is_caught(twin: Any, check: str) -> None:
    if check in TokenStoreConformance.promises():
        catches(TwinKit(twin), check)
    else:
        assert issubclass(twin, AsyncMemoryTokenStore)


@PAIRS
def test_a_broken_async_store_is_caught(twin: Any, check: str) -> None:
    if twin is not KeepsItsCallersLocals:  # its calls are made in a thread, where no caller's locals are
        catches(AsyncTwinKit(twin), check)


def test_every_promise_has_a_broken_twin() -> None:
    """A check that cannot fail is a defect."""
    named = {check for checks in TWINS.values() for check in checks}
    assert named == set(AsyncTokenStoreConformance.promises())
    assert set(TokenStoreConformance.promises()) == named - {"test_a_cancelled_call_has_happened_or_has_not"}


def test_the_twins_are_as_many_as_promised() -> None:
    assert len(TWINS) >= 30
    assert all(twin.__doc__ for twin in TWINS)
