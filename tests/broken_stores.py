"""Stores that break a promise, as a real author would: the checks that name it must catch each of them.

The docstring says what the author did. Each runs in both colours: `InThreads` makes an async store of a sync one.
"""

import asyncio
import logging
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from resetkit import DuplicateSelectorError, Quota, TokenRecord
from resetkit.stores import AsyncMemoryTokenStore, AsyncSQLiteTokenStore, MemoryTokenStore, SQLiteTokenStore
from resetkit.testing import AsyncTokenStoreConformance, TokenStoreConformance

Twin = type[MemoryTokenStore] | type[SQLiteTokenStore] | type[AsyncMemoryTokenStore]

T = TypeVar("T", bound=Twin)

TWINS: Final[dict[Twin, tuple[str, ...]]] = {}


def breaks(*checks: str) -> Callable[[T], T]:
    """Each of the checks must fail for this twin."""

    def register(twin: T) -> T:
        TWINS[twin] = checks
        return twin

    return register


class Gap:
    """Where a check and the act that follows are two steps: lets other threads in between."""

    @staticmethod
    def wait() -> None:
        time.sleep(0.002)  # the race that a real author left open, made wide


METHODS: Final = frozenset({"add", "get", "attempt", "claim", "release", "revoke", "purge"})


class InThreads:
    """A sync store as an async one, each call in a thread."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if name not in METHODS:
            raise AttributeError(name)
        return partial(asyncio.to_thread, getattr(self._store, name))

    def __repr__(self) -> str:
        return repr(self._store)


# How the kit opens a twin.


@contextmanager
def opened(twin: Any, path: Path) -> Generator[Any, None, None]:
    """A store in memory, or in the file."""
    if not issubclass(twin, SQLiteTokenStore | AsyncSQLiteTokenStore):
        yield twin()
        return
    store = twin(path, busy_timeout=timedelta(seconds=1))
    try:
        yield store
    finally:
        store.close()


@asynccontextmanager
async def opened_async(twin: Any, path: Path) -> AsyncGenerator[Any, None]:
    with opened(twin, path) as store:
        yield store if isinstance(store, AsyncMemoryTokenStore | AsyncSQLiteTokenStore) else InThreads(store)


class TwinKit(TokenStoreConformance):
    """The kit for a store class."""

    __test__ = False

    def __init__(self, twin: Twin) -> None:
        self.twin = twin

    @contextmanager
    def open_store(self) -> Generator[Any, None, None]:
        with TemporaryDirectory() as folder:
            self.path = Path(folder) / "tokens"
            with opened(self.twin, self.path) as store:
                yield store

    def other_process(self, store: Any, /) -> Any:
        return partial(opened, self.twin, self.path)

    def drivers(self) -> Sequence[str]:
        return ("sqlite3",)

    def dump(self, store: Any, /) -> bytes:
        return dump_of(store, self.path)


class AsyncTwinKit(AsyncTokenStoreConformance):
    """The kit for a store class, in threads if it is a sync one."""

    __test__ = False

    def __init__(self, twin: Twin) -> None:
        self.twin = twin

    @asynccontextmanager
    async def open_store(self) -> AsyncGenerator[Any, None]:
        with TemporaryDirectory() as folder:
            self.path = Path(folder) / "tokens"
            async with opened_async(self.twin, self.path) as store:
                yield store

    def other_process(self, store: Any, /) -> Any:
        return partial(opened_async, self.twin, self.path)

    def drivers(self) -> Sequence[str]:
        return ("sqlite3",)

    async def dump(self, store: Any, /) -> bytes:
        return dump_of(store, self.path)


def dump_of(store: Any, path: Path) -> bytes:
    """A file's bytes, with its log; or what hangs on a store in memory, and on the one that it wraps."""
    if path.exists():
        return b"".join(each.read_bytes() for each in sorted(path.parent.iterdir()))
    inner = getattr(store, "_store", None)
    return repr(vars(store)).encode() + (dump_of(inner, path) if inner else b"")


# Each operation in turn, in memory.


@breaks("test_of_simultaneous_claims_one_wins")
class ClaimChecksThenActs(MemoryTokenStore):
    """Reads the record, then writes it: two claims read it before either writes."""

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        record = self._records.get(selector)
        if record is None or not record.is_outstanding(now):
            return record is not None and record.claim_id == claim_id
        Gap.wait()
        self._revoke(record.account_id, now)
        self._put(replace(record, state="used", claim_id=claim_id))
        return True


@breaks("test_of_simultaneous_claims_on_siblings_one_wins")
class ClaimLocksTheRecordOnly(MemoryTokenStore):
    """Marks the record in one guarded statement, and its siblings in another, later."""

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        with self._lock:
            record = self._records.get(selector)
            if record is None or not record.is_outstanding(now):
                return record is not None and record.claim_id == claim_id
            self._put(replace(record, state="used", claim_id=claim_id))
        Gap.wait()
        with self._lock:
            for other in list(self._of(record.account_id)):
                if other.is_outstanding(now):
                    self._put(replace(other, state="revoked"))
        return True


@breaks("test_a_claim_uses_the_record_and_ends_its_siblings_of_every_kind")
class ClaimIgnoresSiblings(MemoryTokenStore):
    """Marks the record used and forgets the account's other tokens."""

    def _revoke(self, account_id: str, now: datetime, *, spared: TokenRecord | None = None) -> int:
        self._clear_claims(account_id)
        return 0


@breaks("test_expiry_is_exclusive")
class ExpiryOffByOne(MemoryTokenStore):
    """Compares with <= where < is meant: good for a second too long."""

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        return super().claim(selector, claim_id=claim_id, now=now - timedelta(seconds=1))


@breaks("test_expiry_is_exclusive")
class ClaimIgnoresExpiry(MemoryTokenStore):
    """Looks at the state alone."""

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        record = self._records.get(selector)
        return super().claim(selector, claim_id=claim_id, now=min(now, record.created_at) if record else now)


@breaks("test_the_winner_is_answered_true_again")
class ClaimIsNotIdempotent(MemoryTokenStore):
    """Tells the winner False when the driver asks again after a lost reply."""

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        record = self._records.get(selector)
        return (
            record is not None and record.claim_id != claim_id and super().claim(selector, claim_id=claim_id, now=now)
        )


@breaks(
    "test_a_claim_on_what_is_not_outstanding_is_false_and_changes_nothing", "test_the_winner_is_answered_true_again"
)
class ClaimIsIdempotentForEverybody(MemoryTokenStore):
    """Answers True for whatever is used, whoever asks."""

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        record = self._records.get(selector)
        if record is not None and record.state == "used":
            return True
        return super().claim(selector, claim_id=claim_id, now=now)


@breaks("test_a_losing_claim_leaves_the_winners_right")
class LosingClaimTakesTheWinnersId(MemoryTokenStore):
    """Clears the account's claim ids before it knows who wins."""

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        won = super().claim(selector, claim_id=claim_id, now=now)
        if not won and (record := self._records.get(selector)):
            self._clear_claims(record.account_id)
        return won


@breaks("test_a_claim_on_what_is_not_outstanding_is_false_and_changes_nothing")
class LosingClaimEndsSiblings(MemoryTokenStore):
    """Ends the siblings before it knows who wins."""

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        won = super().claim(selector, claim_id=claim_id, now=now)
        if not won and (record := self._records.get(selector)):
            claims = [other for other in self._of(record.account_id) if other.claim_id]
            self._revoke(record.account_id, now)
            for other in claims:
                self._put(other)
        return won


@breaks("test_expired_siblings_keep_their_state", "test_a_revoke_ends_all_outstanding_of_the_account_and_counts_them")
class RevokeForgetsExpiry(MemoryTokenStore):
    """Ends whatever says outstanding, expired or not."""

    def _revoke(self, account_id: str, now: datetime, *, spared: TokenRecord | None = None) -> int:
        return super()._revoke(account_id, now - timedelta(days=999), spared=spared)


@breaks("test_a_quota_holds_against_simultaneous_adds")
class QuotaOutsideTheTransaction(MemoryTokenStore):
    """Counts first, and inserts in a transaction of its own."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        for quota in quotas:
            if sum(other.created_at >= quota.since for other in list(self._of(record.account_id))) >= quota.count:
                return False
        Gap.wait()
        return super().add(record, quotas=(), keep=keep)


@breaks("test_a_quota_counts_records_of_any_state")
class QuotaCountsLiveOnesOnly(MemoryTokenStore):
    """Counts outstanding records only, so that the quota refills by itself."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        live = sum(other.is_outstanding(record.created_at) for other in self._of(record.account_id))
        fresh = record.selector not in self._records
        if fresh and any(live >= quota.count for quota in quotas):
            return False
        return super().add(record, quotas=(), keep=keep)


@breaks("test_a_quota_refuses_when_it_is_exactly_reached")
class QuotaOffByOne(MemoryTokenStore):
    """Refuses above the count, not at it."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        return super().add(record, quotas=[Quota(quota.count + 1, quota.since) for quota in quotas], keep=keep)


@breaks("test_a_quota_counts_from_its_since_on_and_includes_it")
class QuotaExcludesItsSince(MemoryTokenStore):
    """Counts what is after `since`, not at it."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        second = timedelta(seconds=1)
        return super().add(record, quotas=[Quota(quota.count, quota.since + second) for quota in quotas], keep=keep)


@breaks("test_every_quota_must_have_room")
class FirstQuotaOnly(MemoryTokenStore):
    """Looks at the first quota of the list."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        return super().add(record, quotas=quotas[:1], keep=keep)


@breaks("test_a_quota_counts_one_account_and_one_kind", "test_supersession_stays_within_account_and_kind")
class KindsAreMixed(MemoryTokenStore):
    """Counts and supersedes without looking at the kind."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        kinds = {other.selector: other.kind for other in self._of(record.account_id)}
        for selector in kinds:
            self._put(replace(self._records[selector], kind=record.kind))
        try:
            return super().add(record, quotas=quotas, keep=keep)
        finally:
            for selector, kind in kinds.items():
                self._put(replace(self._records[selector], kind=kind))


@breaks("test_a_quota_refuses_when_it_is_exactly_reached")
class RefusedAddSupersedes(MemoryTokenStore):
    """Supersedes although the quota refused."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        added = super().add(record, quotas=quotas, keep=keep)
        if not added:
            for other in list(self._of(record.account_id))[: -keep or None]:
                if other.state == "outstanding":
                    self._put(replace(other, state="superseded"))
        return added


@breaks("test_what_was_refused_takes_no_right_away")
class RefusedAddTakesTheClaim(MemoryTokenStore):
    """Clears claim ids although the quota refused."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        self._clear_claims(record.account_id)
        return super().add(record, quotas=quotas, keep=keep)


@breaks("test_all_but_the_newest_are_superseded")
class KeepsOneTooMany(MemoryTokenStore):
    """Keeps `keep` records beside the new one."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        return super().add(record, quotas=quotas, keep=keep + 1)


@breaks("test_newest_is_the_order_of_add_not_of_clocks")
class NewestByTheClock(MemoryTokenStore):
    """Orders by created_at instead of the order of add."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        added = super().add(record, quotas=quotas, keep=99)
        mine = [other for other in self._of(record.account_id) if other.is_outstanding(record.created_at)]
        same = sorted((other for other in mine if other.kind == record.kind), key=lambda other: other.created_at)
        for other in same[:-keep] if added else []:
            self._put(replace(other, state="superseded"))
        return added


@breaks("test_only_outstanding_records_are_superseded")
class SupersedesWhatEnded(MemoryTokenStore):
    """Marks revoked records superseded."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        added = super().add(record, quotas=quotas, keep=keep)
        for other in [other for other in self._of(record.account_id) if other.state == "revoked"]:
            self._put(replace(other, state="superseded"))
        return added


@breaks("test_an_expired_record_takes_no_place_among_the_newest")
class ExpiredTakesAPlace(MemoryTokenStore):
    """Counts expired records among the newest."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        added = super().add(record, quotas=quotas, keep=99)
        same = [other for other in self._of(record.account_id) if other.kind == record.kind]
        for other in [other for other in same if other.state == "outstanding"][:-keep]:
            self._put(replace(other, state="superseded"))
        return added


@breaks("test_a_selector_of_another_account_is_an_error_and_changes_nothing")
class AddOverwrites(MemoryTokenStore):
    """An upsert that takes another account's selector over."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        if (existing := self._records.get(record.selector)) and existing.account_id != record.account_id:
            self._delete(existing)
        return super().add(record, quotas=quotas, keep=keep)


@breaks("test_a_second_add_revives_nothing_that_ended")
class SecondAddRevives(MemoryTokenStore):
    """An upsert that sets the state too."""

    def _replace(self, existing: TokenRecord, record: TokenRecord) -> bool:
        if existing.account_id == record.account_id:
            self._put(replace(existing, state="outstanding", claim_id=None))
        return super()._replace(self._records[record.selector], record)


@breaks("test_a_second_add_replaces_hashes_and_expiries_and_nothing_else")
class SecondAddForgetsGuesses(MemoryTokenStore):
    """An upsert that sets the count of guesses to none."""

    def _replace(self, existing: TokenRecord, record: TokenRecord) -> bool:
        return super()._replace(replace(existing, guesses=0), record)


@breaks(
    "test_a_second_add_replaces_hashes_and_expiries_and_nothing_else", "test_a_purge_goes_by_the_replaced_keep_time"
)
class SecondAddKeepsTheHashes(MemoryTokenStore):
    """Inserts unless it exists, and answers True."""

    def _replace(self, existing: TokenRecord, record: TokenRecord) -> bool:
        done = super()._replace(existing, record)
        if done:
            self._put(existing)
        return done


@breaks("test_a_second_add_counts_against_no_quota_and_supersedes_nothing")
class SecondAddIsCounted(MemoryTokenStore):
    """Counts before it looks whether the selector exists."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        count = sum(1 for _ in self._of(record.account_id))
        if any(count >= quota.count for quota in quotas) and record.selector in self._records:
            return False
        return super().add(record, quotas=quotas, keep=keep)


@breaks("test_a_second_add_keeps_its_place_in_the_order")
class SecondAddBecomesTheNewest(MemoryTokenStore):
    """Deletes and inserts: the place in the order is lost."""

    def _replace(self, existing: TokenRecord, record: TokenRecord) -> bool:
        done = super()._replace(existing, record)
        order = self._selectors[existing.account_id]
        order.append(order.pop(order.index(existing.selector)))
        return done


@breaks("test_at_most_limit_guesses_are_counted")
class AttemptAllowsOneMore(MemoryTokenStore):
    """Compares with <= where < is meant: one guess too many."""

    def attempt(self, selector: str, /, *, limit: int) -> bool:
        return super().attempt(selector, limit=limit + 1)


@breaks("test_guesses_are_bounded_however_parallel")
class AttemptChecksThenActs(MemoryTokenStore):
    """Reads the count, then writes it: parallel guesses read the same."""

    def attempt(self, selector: str, /, *, limit: int) -> bool:
        record = self._records.get(selector)
        if record is None or record.guesses >= limit:
            return False
        Gap.wait()
        self._put(replace(self._records[selector], guesses=self._records[selector].guesses + 1))
        return True


@breaks("test_a_guess_counts_whatever_the_state")
class EndedIsGuessedForFree(MemoryTokenStore):
    """Counts guesses at outstanding records only, and answers True for others."""

    def attempt(self, selector: str, /, *, limit: int) -> bool:
        record = self._records.get(selector)
        if record is not None and record.state != "outstanding":
            return True
        return super().attempt(selector, limit=limit)


@breaks("test_an_attempt_on_nothing_is_false")
class AttemptOnNothingIsTrue(MemoryTokenStore):
    """Answers True where no record is."""

    def attempt(self, selector: str, /, *, limit: int) -> bool:
        return selector not in self._records or super().attempt(selector, limit=limit)


@breaks("test_a_release_makes_it_outstanding_again_and_revives_no_sibling")
class ReleaseRevivesSiblings(MemoryTokenStore):
    """Undoes what the claim did to the siblings as well."""

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        done = super().release(selector, claim_id=claim_id, guess=guess)
        for other in list(self._of(self._records[selector].account_id)) if done else []:
            self._put(replace(other, state="outstanding", claim_id=None))
        return done


@breaks("test_only_the_holder_may_release")
class AnyoneReleases(MemoryTokenStore):
    """Releases by the selector alone, whoever asks."""

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        record = self._records.get(selector)
        holder = record.claim_id if record and record.claim_id else claim_id
        return super().release(selector, claim_id=holder, guess=guess)


@breaks("test_a_release_takes_back_one_guess_if_it_was_one")
class ReleaseKeepsTheGuess(MemoryTokenStore):
    """Forgets to take the guess back."""

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        return super().release(selector, claim_id=claim_id, guess=False)


@breaks("test_a_release_takes_back_one_guess_if_it_was_one")
class ReleaseTakesALinksGuess(MemoryTokenStore):
    """Takes a guess back although a link was claimed."""

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        return super().release(selector, claim_id=claim_id, guess=True)


@breaks(
    "test_a_late_release_revives_nothing_after_an_add",
    "test_a_late_release_revives_nothing_after_a_revoke",
    "test_a_late_release_revives_nothing_after_another_claim",
)
class ClaimsAreNeverTaken(MemoryTokenStore):
    """Keeps claim ids for ever, so that a late release revives."""

    def _clear_claims(self, account_id: str) -> None:
        pass


@breaks("test_a_late_release_revives_nothing_after_a_revoke")
class RevokeOfNothingTakesNoClaim(MemoryTokenStore):
    """Returns early if nothing is outstanding."""

    def revoke(self, account_id: str, /, *, now: datetime) -> int:
        if not any(record.is_outstanding(now) for record in self._of(account_id)):
            return 0
        return super().revoke(account_id, now=now)


@breaks("test_a_purge_deletes_what_is_past_its_keep_time_only")
class PurgeInvertsItsCondition(MemoryTokenStore):
    """Deletes what is to be kept, and keeps what is past."""

    def purge(self, *, before: datetime, limit: int) -> int:
        live = [record for record in self._records.values() if record.keep_until >= before][:limit]
        for record in live:
            self._delete(record)
        return len(live)


@breaks("test_a_purge_deletes_what_is_past_its_keep_time_only")
class PurgeIsInclusive(MemoryTokenStore):
    """Deletes at the very instant of keep_until."""

    def purge(self, *, before: datetime, limit: int) -> int:
        return super().purge(before=before + timedelta(seconds=1), limit=limit)


@breaks("test_a_purge_takes_the_oldest_first_and_at_most_limit")
class PurgeIgnoresItsLimit(MemoryTokenStore):
    """Deletes all at once."""

    def purge(self, *, before: datetime, limit: int) -> int:
        return super().purge(before=before, limit=limit + 99)


@breaks("test_a_purge_takes_the_oldest_first_and_at_most_limit")
class PurgeInOrderOfAdd(MemoryTokenStore):
    """Deletes by the order of add instead of the keep time."""

    def purge(self, *, before: datetime, limit: int) -> int:
        past = [record for record in self._records.values() if record.keep_until < before][:limit]
        for record in past:
            self._delete(record)
        return len(past)


@breaks("test_account_ids_are_compared_byte_for_byte")
class CaseInsensitiveAccounts(MemoryTokenStore):
    """A column with a case-insensitive collation."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        return super().add(replace(record, account_id=record.account_id.lower()), quotas=quotas, keep=keep)


@breaks("test_account_ids_are_compared_byte_for_byte")
class TruncatedAccounts(MemoryTokenStore):
    """A column of 191 characters that cuts silently."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        return super().add(replace(record, account_id=record.account_id[:191]), quotas=quotas, keep=keep)


@breaks("test_a_selector_is_matched_exactly")
class PrefixSearch(MemoryTokenStore):
    """Finds a selector by its beginning."""

    def get(self, selector: str, /) -> TokenRecord | None:
        return next((record for key, record in self._records.items() if key.startswith(selector)), None)


@breaks("test_a_selector_is_matched_exactly")
class CaseInsensitiveSelectors(MemoryTokenStore):
    """Finds a selector in any case."""

    def get(self, selector: str, /) -> TokenRecord | None:
        return next((record for key, record in self._records.items() if key.lower() == selector.lower()), None)


@breaks("test_a_record_comes_back_as_it_was_added")
class ForgetsTheCode(MemoryTokenStore):
    """Forgets the code's columns when it reads."""

    def get(self, selector: str, /) -> TokenRecord | None:
        record = super().get(selector)
        return record and replace(record, code_expires_at=None, code_hash=None)


@breaks("test_at_most_limit_guesses_are_counted")
class CacheInFrontOfReads(MemoryTokenStore):
    """A cache in front of reads that writes do not clear."""

    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[str, TokenRecord | None] = {}

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        added = super().add(record, quotas=quotas, keep=keep)
        self._cache[record.selector] = super().get(record.selector)
        return added

    def get(self, selector: str, /) -> TokenRecord | None:
        return self._cache.setdefault(selector, super().get(selector))


@breaks("test_a_purged_account_can_begin_anew")
class PurgeLeavesTheCount(MemoryTokenStore):
    """A counter for the quota that a purge does not touch."""

    def __init__(self) -> None:
        super().__init__()
        self._ever: dict[str, int] = {}

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        if any(self._ever.get(record.account_id, 0) >= quota.count for quota in quotas):
            return False
        self._ever[record.account_id] = self._ever.get(record.account_id, 0) + 1
        return super().add(record, quotas=quotas, keep=keep)


@breaks("test_a_second_add_may_take_the_code_away")
class NullsAreNotWritten(MemoryTokenStore):
    """Updates only the columns that have a value."""

    def _replace(self, existing: TokenRecord, record: TokenRecord) -> bool:
        code = record.code_hash or existing.code_hash
        ends = record.code_expires_at or existing.code_expires_at
        return super()._replace(existing, replace(record, code_hash=code, code_expires_at=ends))


@breaks("test_an_add_against_a_claim_ends_in_one_of_the_two_orders")
class AddSupersedesWhatItReadBefore(MemoryTokenStore):
    """Reads which records to supersede before it takes the lock."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        live = [other for other in self._of(record.account_id) if other.is_outstanding(record.created_at)]
        Gap.wait()
        added = super().add(record, quotas=quotas, keep=99)
        for other in live:
            self._put(replace(other, state="superseded"))
        return added


@breaks("test_a_revoke_against_a_claim_ends_in_one_of_the_two_orders")
class LostUpdate(MemoryTokenStore):
    """Writes back whole records that it read before: one update is lost."""

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        record = self._records.get(selector)
        if record is None or not record.is_outstanding(now):
            return False
        Gap.wait()
        with self._lock:
            self._put(replace(record, state="used", claim_id=claim_id))
        return True

    def revoke(self, account_id: str, /, *, now: datetime) -> int:
        live = [record for record in self._of(account_id) if record.is_outstanding(now)]
        Gap.wait()
        for record in live:
            self._put(replace(record, state="revoked"))
        return len(live)


@breaks("test_long_hashes_come_back_whole")
class ShortColumns(MemoryTokenStore):
    """Columns of 255 characters that cut silently."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        return super().add(replace(record, link_hash=record.link_hash[:255]), quotas=quotas, keep=keep)


@breaks("test_a_record_comes_back_as_it_was_added")
class SecondsAreCut(MemoryTokenStore):
    """Keeps times to the minute."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        cut = replace(record, created_at=record.created_at.replace(second=0))
        return super().add(cut, quotas=quotas, keep=keep)


@breaks("test_a_record_comes_back_as_it_was_added")
class NaiveTimes(MemoryTokenStore):
    """Gives times back as its driver does: without a zone."""

    def get(self, selector: str, /) -> TokenRecord | None:
        record = super().get(selector)
        return record and replace(record, created_at=record.created_at.replace(tzinfo=None))


@breaks("test_answers_are_of_the_promised_types")
class AnswersRowcounts(MemoryTokenStore):
    """Answers with the number of rows changed."""

    def attempt(self, selector: str, /, *, limit: int) -> bool:
        return int(super().attempt(selector, limit=limit))  # type: ignore[return-value]  # the fault


@breaks("test_a_quota_of_none_refuses_all")
class FalsyQuota(MemoryTokenStore):
    """Takes a count of 0 for no limit."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        return super().add(record, quotas=[quota for quota in quotas if quota.count], keep=keep)


@breaks("test_a_second_add_takes_no_claim_away")
class SecondAddTakesTheClaim(MemoryTokenStore):
    """Clears claim ids first, whatever becomes of the add."""

    def _replace(self, existing: TokenRecord, record: TokenRecord) -> bool:
        self._clear_claims(existing.account_id)
        return super()._replace(self._records[existing.selector], record)


@breaks("test_a_refused_release_takes_back_no_guess")
class GuessIsTakenBackFirst(MemoryTokenStore):
    """Takes the guess back in a statement of its own, without the claim id."""

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        record = self._records.get(selector)
        if record is not None and guess and record.guesses:
            self._put(replace(record, guesses=record.guesses - 1))
        return super().release(selector, claim_id=claim_id, guess=False)


@breaks("test_a_revoke_leaves_what_ended_as_it_is")
class RevokeEndsAll(MemoryTokenStore):
    """Marks every record of the account, and counts the right ones."""

    def revoke(self, account_id: str, /, *, now: datetime) -> int:
        count = super().revoke(account_id, now=now)
        for record in list(self._of(account_id)):
            if record.state == "superseded":
                self._put(replace(record, state="revoked"))
        return count


@breaks("test_a_repeated_add_is_one_mail", "test_simultaneous_adds_of_one_selector_make_one_record")
class InsertOrNothing(MemoryTokenStore):
    """ON CONFLICT DO NOTHING, and says whether a row was inserted."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        with self._lock:
            if record.selector in self._records:
                return False
        return super().add(record, quotas=quotas, keep=keep)


@breaks("test_a_repeated_release_ends_no_later_claim")
class RemembersReleases(MemoryTokenStore):
    """Answers a repeated release True, and does it again."""

    def __init__(self) -> None:
        super().__init__()
        self._released: set[tuple[str, str]] = set()

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        record = self._records.get(selector)
        if record is not None and record.claim_id and (selector, claim_id) in self._released:
            return super().release(selector, claim_id=record.claim_id, guess=guess)
        done = super().release(selector, claim_id=claim_id, guess=guess)
        if done:
            self._released.add((selector, claim_id))
        return done


@breaks("test_a_repeated_claim_ends_nothing_newer")
class RemembersWinners(MemoryTokenStore):
    """Keeps winners in a table beside, and does a repeated claim again."""

    def __init__(self) -> None:
        super().__init__()
        self._won: set[tuple[str, str]] = set()

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        if (selector, claim_id) in self._won:
            self._revoke(self._records[selector].account_id, now)
            return True
        won = super().claim(selector, claim_id=claim_id, now=now)
        if won:
            self._won.add((selector, claim_id))
        return won


@breaks("test_a_repeated_attempt_counts_again")
class AttemptSavesWrites(MemoryTokenStore):
    """Writes every second count only."""

    def __init__(self) -> None:
        super().__init__()
        self._unwritten: set[str] = set()

    def attempt(self, selector: str, /, *, limit: int) -> bool:
        if selector in self._unwritten:
            self._unwritten.discard(selector)
            return super().attempt(selector, limit=limit)
        self._unwritten.add(selector)
        return selector in self._records and self._records[selector].guesses < limit


@breaks("test_simultaneous_repeats_of_one_claim_all_win")
class BusyIsLost(MemoryTokenStore):
    """Takes the row's lock without waiting, and takes a busy one for lost."""

    def __init__(self) -> None:
        super().__init__()
        self._row = threading.Lock()

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        if not self._row.acquire(blocking=False):
            return False
        try:
            Gap.wait()
            return super().claim(selector, claim_id=claim_id, now=now)
        finally:
            self._row.release()


@breaks("test_simultaneous_adds_leave_the_newest")
class SupersedesFirst(MemoryTokenStore):
    """Supersedes in one transaction, and inserts in the next."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        with self._lock:
            mine = [each for each in self._of(record.account_id) if each.kind == record.kind]
            live = [each for each in mine if each.is_outstanding(record.created_at)]
            for other in live[: len(live) - keep + 1] if record.selector not in self._records else []:
                self._put(replace(other, state="superseded"))
        Gap.wait()
        return super().add(record, quotas=quotas, keep=99)


@breaks("test_a_release_against_a_revoke_revives_nothing")
class ReleaseChecksThenActs(MemoryTokenStore):
    """Reads who holds the record, then writes it."""

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        record = self._records.get(selector)
        if record is None or record.claim_id != claim_id:
            return False
        Gap.wait()
        with self._lock:
            guesses = record.guesses - 1 if guess and record.guesses else record.guesses
            self._put(replace(record, state="outstanding", claim_id=None, guesses=guesses))
        return True


@breaks(
    "test_a_purge_against_all_takes_only_what_is_past",
    "test_a_purge_against_a_second_add_leaves_what_is_to_be_kept",
)
class PurgeListsThenDeletes(MemoryTokenStore):
    """Lists what is past, then deletes it: two purges list the same."""

    def purge(self, *, before: datetime, limit: int) -> int:
        past = sorted((each for each in list(self._records.values()) if each.keep_until < before), key=_keep_until)
        Gap.wait()
        with self._lock:
            for record in past[:limit]:
                if record.selector in self._records:
                    self._delete(record)
        return len(past[:limit])


def _keep_until(record: TokenRecord) -> datetime:
    return record.keep_until


@breaks("test_any_sequence_of_calls_is_answered_as_the_model_says")
class ReleaseProlongs(MemoryTokenStore):
    """Gives a released record some more minutes, to be kind."""

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        done = super().release(selector, claim_id=claim_id, guess=guess)
        if done:
            record = self._records[selector]
            self._put(replace(record, expires_at=record.expires_at + timedelta(minutes=5)))
        return done


@breaks("test_claim_ids_are_compared_byte_for_byte")
class ShortClaimIds(MemoryTokenStore):
    """A column of 32 characters for the claim id, cut silently on both sides."""

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        return super().claim(selector, claim_id=claim_id[:32], now=now)

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        return super().release(selector, claim_id=claim_id[:32], guess=guess)


@breaks("test_look_alike_selectors_are_different_records")
class UpdatesWhatIsLike(MemoryTokenStore):
    """UPDATE ... WHERE selector LIKE ?, after a look at the right record."""

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        won = super().claim(selector, claim_id=claim_id, now=now)
        for record in list(self._records.values()) if won else []:
            if record.selector.lower() == selector.lower():
                self._put(replace(record, state="used", claim_id=claim_id))
        return won


@breaks("test_a_second_add_against_a_claim_changes_no_state")
class SecondAddWritesTheRowBack(MemoryTokenStore):
    """Reads the row, and writes all of it back."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        existing = self._records.get(record.selector)
        if existing is None:
            return super().add(record, quotas=quotas, keep=keep)
        Gap.wait()
        with self._lock:
            return self._replace(existing, record)


@breaks("test_attempts_against_all_change_nothing_but_their_count")
class AttemptWritesTheRowBack(MemoryTokenStore):
    """Guards the count alone, and writes the whole row back."""

    def attempt(self, selector: str, /, *, limit: int) -> bool:
        while True:
            record = self._records.get(selector)
            if record is None or record.guesses >= limit:
                return False
            Gap.wait()
            with self._lock:
                if self._records[selector].guesses == record.guesses:
                    self._put(replace(record, guesses=record.guesses + 1))
                    return True


@breaks("test_a_release_against_attempts_loses_no_count")
class ReleaseWritesTheCountBack(MemoryTokenStore):
    """Computes the count in Python, and writes it where the claim id matches."""

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        record = self._records.get(selector)
        if record is None:
            return False
        Gap.wait()
        with self._lock:
            if self._records[selector].claim_id != claim_id:
                return False
            guesses = max(0, record.guesses - int(guess))
            self._put(replace(self._records[selector], state="outstanding", claim_id=None, guesses=guesses))
            return True


@breaks("test_of_simultaneous_adds_of_accounts_one_gets_the_selector")
class LeavesConflictsToTheDriver(MemoryTokenStore):
    """Looks whose selector it is, then inserts: the other account's is the driver's own error."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        if record.selector in self._records:
            return super().add(record, quotas=quotas, keep=keep)
        Gap.wait()
        try:
            return super().add(record, quotas=quotas, keep=keep)
        except DuplicateSelectorError:
            raise sqlite3.IntegrityError("UNIQUE constraint failed: tokens.selector") from None


@breaks("test_the_store_tells_no_hash")
class LogsWhatItWrites(MemoryTokenStore):
    """Logs each row."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        logging.getLogger("store").info("adding %s %s", record.selector, record.link_hash)
        return super().add(record, quotas=quotas, keep=keep)


@breaks("test_the_store_tells_no_hash")
class ShowsItsRecords(MemoryTokenStore):
    """A repr for debugging."""

    def __repr__(self) -> str:
        return f"ShowsItsRecords({[str(each.stamp_digest) for each in self._records.values()]})"


@breaks("test_a_dump_of_the_store_holds_no_token")
class KeepsItsCallersLocals(MemoryTokenStore):
    """An audit trail with the local variables of whoever called, as error trackers take them."""

    def __init__(self) -> None:
        super().__init__()
        self._trail: list[str] = []

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        frame = sys._getframe()
        while frame := frame.f_back:  # type: ignore[assignment]  # until there is none
            draft = frame.f_locals.get("draft")
            if draft is not None:
                self._trail.append(str.__str__(draft.token))
        return super().add(record, quotas=quotas, keep=keep)


# In a file, where more than one process writes and not every process ends well.


@breaks(
    "test_a_call_whose_driver_fails_has_happened_or_has_not",
    "test_a_killed_process_leaves_each_operation_done_or_not",
)
class CommitsEachStatement(SQLiteTokenStore):
    """Leaves the driver in autocommit: each statement is a transaction."""

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        with self._connection() as connection:
            yield connection


@breaks("test_a_call_whose_driver_fails_has_happened_or_has_not")
class LeavesTheTransactionOpen(SQLiteTokenStore):
    """Puts a connection back into the pool without a rollback."""

    @contextmanager
    def _connection(self) -> Generator[sqlite3.Connection, None, None]:
        connection = self._take()
        try:
            yield connection
        finally:
            self._idle.append(connection)


@breaks("test_of_claims_from_several_processes_one_wins", "test_quotas_and_guesses_hold_across_processes")
class LocksWithinTheProcess(SQLiteTokenStore):
    """A lock of the threading module instead of one of the database."""

    _mutex = threading.Lock()

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        with self._mutex, self._connection() as connection:
            yield Slowed(connection)  # type: ignore[misc]  # as a database that is not on this machine


class Slowed:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        done = self._connection.execute(statement, parameters)
        Gap.wait()
        return done


@breaks("test_what_returned_is_seen_by_other_processes")
class CachesItsReads(SQLiteTokenStore):
    """A cache that the process's own writes clear, and no other's."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._cache: dict[str, TokenRecord | None] = {}
        super().__init__(*arguments, **options)

    def get(self, selector: str, /) -> TokenRecord | None:
        if selector not in self._cache:
            self._cache[selector] = super().get(selector)
        return self._cache[selector]

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        self._cache.clear()
        with super()._transaction() as connection:
            yield connection

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        self._cache.clear()
        return super().release(selector, claim_id=claim_id, guess=guess)

    def attempt(self, selector: str, /, *, limit: int) -> bool:
        self._cache.clear()
        return super().attempt(selector, limit=limit)


# In a loop, where a task may be cancelled.


@breaks("test_a_cancelled_call_has_happened_or_has_not")
class AwaitsInTheMiddle(AsyncMemoryTokenStore):
    """Awaits between the record and its siblings, and does not finish when it is cancelled there."""

    async def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        record = self._store._records.get(selector)
        won = self._store.claim(selector, claim_id=claim_id, now=now)
        siblings = [each for each in self._store._of(record.account_id) if each.state == "revoked"] if record else []
        if not won:
            return False
        for each in siblings:
            self._store._put(replace(each, state="outstanding"))
        await asyncio.sleep(0)
        for each in siblings:
            self._store._put(each)
        return True
