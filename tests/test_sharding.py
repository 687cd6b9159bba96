"""The store over several stores, of docs/scale.md: it keeps every promise, and what its directory is for shows."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from sharded_store import ShardedTokenStore

from resetkit import TokenStore
from resetkit.stores import MemoryTokenStore
from resetkit.testing import TokenStoreConformance, unsupported
from resetkit.testing._records import NOW, record


class Directory:
    """In memory, for one process."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[int, datetime]] = {}
        self._lock = threading.Lock()

    def place(self, selector: str, shard: int, /, *, keep_until: datetime) -> int:
        with self._lock:
            found, until = self._entries.get(selector, (shard, keep_until))
            self._entries[selector] = found, max(until, keep_until)
            return found

    def find(self, selector: str, /) -> int | None:
        with self._lock:
            return self._entries.get(selector, (None, None))[0]

    def purge(self, *, before: datetime) -> None:
        with self._lock:
            for selector in [name for name, (_, until) in self._entries.items() if until < before]:
                del self._entries[selector]


class TestOneShard(TokenStoreConformance):
    other_process = unsupported("its shards are kept in this process")
    drivers = unsupported("it has no driver")
    shards = 1

    @contextmanager
    def open_store(self) -> Generator[TokenStore, None, None]:
        yield ShardedTokenStore([MemoryTokenStore() for _ in range(self.shards)], Directory())

    def dump(self, store: Any, /) -> bytes:
        return repr([vars(each) for each in store._shards]).encode()


class TestSharded(TestOneShard):
    """Five, so that the kit's accounts are in several."""

    shards = 5
    test_any_sequence_of_calls_is_answered_as_the_model_says = unsupported(
        "a purge takes the oldest first of each shard, the model's the oldest of all"
    )


class ByHashOfSelector(ShardedTokenStore):
    """The broken twin: each record by itself, so that those of an account are in many places."""

    def add(self, made: Any, /, **options: Any) -> bool:
        number = self._number(made.selector)
        self._directory.place(made.selector, number, keep_until=made.keep_until)
        return self._shards[number].add(made, **options)


@pytest.mark.parametrize(("kind", "outstanding"), [(ShardedTokenStore, 1), (ByHashOfSelector, 3)])
def test_siblings_end_only_where_they_are_in_one_place(kind: type[ShardedTokenStore], outstanding: int) -> None:
    store = kind([MemoryTokenStore() for _ in range(64)], Directory())
    for name in ("s1", "s2", "s3"):
        assert store.add(record(name), quotas=(), keep=1)
    found = [store.get(name) for name in ("s1", "s2", "s3")]
    assert sum(each is not None and each.is_outstanding(NOW) for each in found) == outstanding


def test_an_entry_without_a_record_finds_nothing() -> None:
    """A process that was killed between the two writes leaves a token that is unknown, as if there were none."""
    directory = Directory()
    directory.place("s1", 0, keep_until=NOW)
    store = ShardedTokenStore([MemoryTokenStore()], directory)
    assert store.get("s1") is None
    assert not store.claim("s1", claim_id="c1", now=NOW)
    assert store.add(record("s1"), quotas=(), keep=1)
