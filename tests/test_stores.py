"""What a store promises: on every store in both colours, and on broken twins that must be caught."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import store_contract
from broken_stores import TWINS
from resetkit import TokenStore
from resetkit.stores import AsyncMemoryTokenStore, AsyncSQLiteTokenStore, MemoryTokenStore, SQLiteTokenStore

CHECKS = sorted(store_contract.CHECKS.values(), key=lambda check: check.__name__)


class Stepped:
    """An async store behind sync methods, each run in a loop of its own, so that one check serves both colours."""

    def __init__(self, store: object) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)

        def run(*args: Any, **kwargs: Any) -> Any:
            return asyncio.run(method(*args, **kwargs))

        return run


@pytest.fixture(params=["memory", "sqlite", "async memory", "async sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    path = tmp_path / "tokens.sqlite3"
    match request.param:
        case "memory":
            yield MemoryTokenStore()
        case "async memory":
            yield Stepped(AsyncMemoryTokenStore())
        case "sqlite":
            plain = SQLiteTokenStore(path)
            yield plain
            plain.close()
        case _:
            file = AsyncSQLiteTokenStore(path)
            yield Stepped(file)
            file.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_store_keeps_its_promise(store: TokenStore, check: store_contract.Check) -> None:
    check(store)


@pytest.mark.parametrize(
    ("twin", "check"),
    [(twin, check) for twin, checks in TWINS.items() for check in checks],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_broken_twin_is_caught(twin: type[MemoryTokenStore], check: str) -> None:
    with pytest.raises(AssertionError):
        store_contract.CHECKS[check](twin())


def test_every_promise_has_a_broken_twin() -> None:
    """A check that cannot fail is a defect."""
    assert {name for names in TWINS.values() for name in names} == set(store_contract.CHECKS)
