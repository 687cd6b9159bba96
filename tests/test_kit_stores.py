"""The shipped stores keep every promise; the kit catches every store that breaks one, by the check that names it."""

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from broken_stores import TWINS, AsyncTwinKit, KeepsItsCallersLocals, TwinKit
from harness import open_file, open_file_async, put
from profiles import unshrunk
from resetkit import AsyncTokenStore, TokenStore
from resetkit.stores import AsyncMemoryTokenStore, MemoryTokenStore, sqlite
from resetkit.testing import AsyncTokenStoreConformance, BrokenPromiseError, TokenStoreConformance, unsupported
from resetkit.testing._records import record


class TestMemory(TokenStoreConformance):
    other_process = unsupported("it keeps nothing outside this process")
    drivers = unsupported("it has no driver")

    @contextmanager
    def open_store(self) -> Generator[TokenStore, None, None]:
        yield MemoryTokenStore()

    def dump(self, store: Any, /) -> bytes:
        return repr(vars(store)).encode()


@pytest.mark.no_cover  # the same lines as above
class TestAsyncMemory(AsyncTokenStoreConformance):
    examples = 30
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


def test_memory_is_bounded_by_the_records_however_often_they_change() -> None:
    store = MemoryTokenStore()
    put(store, record())
    for _ in range(99):
        store.attempt(record().selector, limit=99)
    assert len(store._keep) == 1
    store.purge(before=record().keep_until + timedelta(seconds=1), limit=1)
    assert (store._keep, store._records, store._selectors) == ([], {}, {})


class Expiring(MemoryTokenStore):
    """A store whose backend takes entries away by its own clock, so that nothing is ever left to purge."""

    def purge(self, *, before: datetime, limit: int) -> int:
        return 0


@pytest.mark.no_cover  # the same lines as the first
class TestExpiring(TokenStoreConformance):
    examples = 30
    expires_by_itself = True
    other_process = drivers = dump = unsupported("as TestMemory")

    @contextmanager
    def open_store(self) -> Generator[TokenStore, None, None]:
        yield Expiring()


def catches(kit: Any, check: str) -> None:
    with unshrunk(), pytest.raises(BrokenPromiseError) as broken:
        getattr(kit, check)()
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


STATEMENTS = [
    ("_COUNT", ">= ?", "> ?", "test_a_quota_counts_from_its_since_on_and_includes_it"),
    ("_COUNT", "kind = ?", "kind != ?", "test_a_quota_refuses_when_it_is_exactly_reached"),
    ("_SUPERSEDE", "DESC", "ASC", "test_all_but_the_newest_are_superseded"),
    ("_SUPERSEDE", "position DESC", "created_at DESC", "test_newest_is_the_order_of_add_not_of_clocks"),
    (
        "_SUPERSEDE",
        "CASE state WHEN 'outstanding' THEN 'superseded' ELSE state END",
        "'superseded'",
        "test_only_outstanding_records_are_superseded",
    ),
    ("_SUPERSEDE", "claim_id = NULL, ", "", "test_a_late_release_revives_nothing_after_an_add"),
    ("_SUPERSEDE", "> ?", ">= ?", "test_an_expired_record_takes_no_place_among_the_newest"),
    ("_ATTEMPT", "< ?", "<= ?", "test_at_most_limit_guesses_are_counted"),
    ("_ATTEMPT", "guesses + 1", "guesses", "test_at_most_limit_guesses_are_counted"),
    ("_USE", "'used'", "'revoked'", "test_a_claim_uses_the_record_and_ends_its_siblings_of_every_kind"),
    ("_USE", "claim_id = ?", "claim_id = upper(?)", "test_the_winner_is_answered_true_again"),
    ("_USE", "state = 'outstanding' AND", "", "test_a_claim_on_what_is_not_outstanding_is_false_and_changes_nothing"),
    ("_USE", "> ?", ">= ?", "test_expiry_is_exclusive"),
    ("_END_OTHERS", "<> ?", ">= ?", "test_a_claim_uses_the_record_and_ends_its_siblings_of_every_kind"),
    ("_END_OTHERS", "expires_at > ?", "expires_at >= ?", "test_expired_siblings_keep_their_state"),
    ("_END_OTHERS", "claim_id = NULL, ", "", "test_a_late_release_revives_nothing_after_another_claim"),
    ("_CLAIMED", "AND claim_id = ?", "AND claim_id >= ?", "test_claim_ids_are_compared_byte_for_byte"),
    ("_RELEASE", "AND claim_id = ?", "AND claim_id != ?", "test_only_the_holder_may_release"),
    ("_RELEASE", "claim_id = NULL", "claim_id = claim_id", "test_only_the_holder_may_release"),
    ("_RELEASE", "guesses - ?", "guesses - 0 * ?", "test_a_release_takes_back_one_guess_if_it_was_one"),
    ("_RELEASE", "max(0, ", "max(-1, ", "test_a_release_takes_back_one_guess_if_it_was_one"),
    ("_REVOKE", "state = 'outstanding' AND", "", "test_a_revoke_leaves_what_ended_as_it_is"),
    ("_REVOKE", "> ?", ">= ?", "test_a_revoke_ends_all_outstanding_of_the_account_and_counts_them"),
    ("_CLEAR_CLAIMS", "= NULL", "= claim_id", "test_a_late_release_revives_nothing_after_a_revoke"),
    ("_PURGE", "< ?", "<= ?", "test_a_purge_deletes_what_is_past_its_keep_time_only"),
    ("_PURGE", "BY keep_until", "BY position", "test_a_purge_takes_the_oldest_first_and_at_most_limit"),
    ("_PURGE", "LIMIT ?", "LIMIT 1 + ?", "test_a_purge_takes_the_oldest_first_and_at_most_limit"),
]


@pytest.mark.parametrize(("name", "part", "broken", "check"), STATEMENTS)
def test_a_broken_statement_is_caught(
    name: str, part: str, broken: str, check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = getattr(sqlite, name)
    assert statement.count(part) == 1
    monkeypatch.setattr(sqlite, name, statement.replace(part, broken))
    catches(TestSQLite(), check)


def test_every_promise_has_a_broken_twin() -> None:
    """A check that cannot fail is a defect."""
    named = {check for checks in TWINS.values() for check in checks}
    assert named == set(AsyncTokenStoreConformance.promises())
    assert set(TokenStoreConformance.promises()) == named - {"test_a_cancelled_call_has_happened_or_has_not"}


def test_the_twins_are_as_many_as_promised() -> None:
    assert len(TWINS) >= 30
    assert all(twin.__doc__ for twin in TWINS)
