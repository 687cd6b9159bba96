"""Stores that break one promise each, as a real author would: the check that names the promise must catch it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from resetkit import Quota, TokenRecord
from resetkit.stores import MemoryTokenStore

TWINS: Final[dict[type[MemoryTokenStore], tuple[str, ...]]] = {}


def breaks(*checks: str) -> Callable[[type[MemoryTokenStore]], type[MemoryTokenStore]]:
    """The checks of which at least one must fail for this twin."""

    def register(twin: type[MemoryTokenStore]) -> type[MemoryTokenStore]:
        TWINS[twin] = checks
        return twin

    return register


class Gap:
    """Where a check and the act that follows are two steps: lets other threads in between."""

    @staticmethod
    def wait() -> None:
        time.sleep(0.002)  # the race that a real author left open, made wide


@breaks("of_simultaneous_claims_one_wins")
class ClaimChecksThenActs(MemoryTokenStore):
    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        record = self._records.get(selector)
        if record is None or not record.is_outstanding(now):
            return record is not None and record.claim_id == claim_id
        Gap.wait()
        self._revoke(record.account_id, now)
        self._put(replace(record, state="used", claim_id=claim_id))
        return True


@breaks("of_simultaneous_claims_on_siblings_one_wins")
class ClaimLocksTheRecordOnly(MemoryTokenStore):
    """One guarded statement for the record, another later for its siblings."""

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


@breaks("a_claim_uses_the_record_and_ends_its_siblings_of_every_kind")
class ClaimIgnoresSiblings(MemoryTokenStore):
    def _revoke(self, account_id: str, now: datetime) -> int:
        self._clear_claims(account_id)
        return 0


@breaks("expiry_is_exclusive")
class ExpiryOffByOne(MemoryTokenStore):
    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        return super().claim(selector, claim_id=claim_id, now=now - timedelta(seconds=1))


@breaks("expiry_is_exclusive")
class ClaimIgnoresExpiry(MemoryTokenStore):
    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        record = self._records.get(selector)
        return super().claim(selector, claim_id=claim_id, now=min(now, record.created_at) if record else now)


@breaks("the_winner_is_answered_true_again")
class ClaimIsNotIdempotent(MemoryTokenStore):
    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        record = self._records.get(selector)
        return (
            record is not None and record.claim_id != claim_id and super().claim(selector, claim_id=claim_id, now=now)
        )


@breaks("a_claim_on_what_is_not_outstanding_is_false_and_changes_nothing", "the_winner_is_answered_true_again")
class ClaimIsIdempotentForEverybody(MemoryTokenStore):
    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        record = self._records.get(selector)
        if record is not None and record.state == "used":
            return True
        return super().claim(selector, claim_id=claim_id, now=now)


@breaks("a_losing_claim_leaves_the_winner_s_right")
class LosingClaimTakesTheWinnersId(MemoryTokenStore):
    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        won = super().claim(selector, claim_id=claim_id, now=now)
        if not won and (record := self._records.get(selector)):
            self._clear_claims(record.account_id)
        return won


@breaks("a_claim_on_what_is_not_outstanding_is_false_and_changes_nothing")
class LosingClaimEndsSiblings(MemoryTokenStore):
    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        won = super().claim(selector, claim_id=claim_id, now=now)
        if not won and (record := self._records.get(selector)):
            claims = [other for other in self._of(record.account_id) if other.claim_id]
            self._revoke(record.account_id, now)
            for other in claims:
                self._put(other)
        return won


@breaks("expired_siblings_keep_their_word", "a_revoke_ends_all_outstanding_of_the_account_and_counts_them")
class RevokeForgetsExpiry(MemoryTokenStore):
    def _revoke(self, account_id: str, now: datetime) -> int:
        return super()._revoke(account_id, now - timedelta(days=999))


@breaks("a_quota_holds_against_simultaneous_adds")
class QuotaOutsideTheTransaction(MemoryTokenStore):
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        for quota in quotas:
            if sum(other.created_at >= quota.since for other in list(self._of(record.account_id))) >= quota.count:
                return False
        Gap.wait()
        return super().add(record, quotas=(), keep=keep)


@breaks("a_quota_counts_records_of_any_state")
class QuotaCountsLiveOnesOnly(MemoryTokenStore):
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        live = sum(other.is_outstanding(record.created_at) for other in self._of(record.account_id))
        fresh = record.selector not in self._records
        if fresh and any(live >= quota.count for quota in quotas):
            return False
        return super().add(record, quotas=(), keep=keep)


@breaks("a_quota_refuses_when_it_is_exactly_reached")
class QuotaOffByOne(MemoryTokenStore):
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        return super().add(record, quotas=[Quota(quota.count + 1, quota.since) for quota in quotas], keep=keep)


@breaks("a_quota_counts_from_its_since_on_and_includes_it")
class QuotaExcludesItsSince(MemoryTokenStore):
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        second = timedelta(seconds=1)
        return super().add(record, quotas=[Quota(quota.count, quota.since + second) for quota in quotas], keep=keep)


@breaks("every_quota_must_have_room")
class FirstQuotaOnly(MemoryTokenStore):
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        return super().add(record, quotas=quotas[:1], keep=keep)


@breaks("a_quota_counts_one_account_and_one_kind", "supersession_stays_within_account_and_kind")
class KindsAreMixed(MemoryTokenStore):
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        kinds = {other.selector: other.kind for other in self._of(record.account_id)}
        for selector in kinds:
            self._put(replace(self._records[selector], kind=record.kind))
        try:
            return super().add(record, quotas=quotas, keep=keep)
        finally:
            for selector, kind in kinds.items():
                self._put(replace(self._records[selector], kind=kind))


@breaks("a_quota_refuses_when_it_is_exactly_reached")
class RefusedAddSupersedes(MemoryTokenStore):
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        added = super().add(record, quotas=quotas, keep=keep)
        if not added:
            for other in list(self._of(record.account_id))[: -keep or None]:
                if other.state == "outstanding":
                    self._put(replace(other, state="superseded"))
        return added


@breaks("what_was_refused_takes_no_right_away")
class RefusedAddTakesTheClaim(MemoryTokenStore):
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        self._clear_claims(record.account_id)
        return super().add(record, quotas=quotas, keep=keep)


@breaks("all_but_the_newest_are_superseded")
class KeepsOneTooMany(MemoryTokenStore):
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        return super().add(record, quotas=quotas, keep=keep + 1)


@breaks("newest_is_the_order_of_add_not_of_clocks")
class NewestByTheClock(MemoryTokenStore):
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        added = super().add(record, quotas=quotas, keep=99)
        mine = [other for other in self._of(record.account_id) if other.is_outstanding(record.created_at)]
        same = sorted((other for other in mine if other.kind == record.kind), key=lambda other: other.created_at)
        for other in same[:-keep] if added else []:
            self._put(replace(other, state="superseded"))
        return added


@breaks("only_outstanding_ones_are_superseded")
class SupersedesWhatEnded(MemoryTokenStore):
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        added = super().add(record, quotas=quotas, keep=keep)
        for other in [other for other in self._of(record.account_id) if other.state == "revoked"]:
            self._put(replace(other, state="superseded"))
        return added


@breaks("an_expired_record_takes_no_place_among_the_newest")
class ExpiredTakesAPlace(MemoryTokenStore):
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        added = super().add(record, quotas=quotas, keep=99)
        same = [other for other in self._of(record.account_id) if other.kind == record.kind]
        for other in [other for other in same if other.state == "outstanding"][:-keep]:
            self._put(replace(other, state="superseded"))
        return added


@breaks("a_selector_of_another_account_is_an_error_and_changes_nothing")
class AddOverwrites(MemoryTokenStore):
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        if (existing := self._records.get(record.selector)) and existing.account_id != record.account_id:
            self._delete(existing)
        return super().add(record, quotas=quotas, keep=keep)


@breaks("a_second_add_revives_nothing_that_ended")
class SecondAddRevives(MemoryTokenStore):
    def _replace(self, existing: TokenRecord, record: TokenRecord) -> bool:
        if existing.account_id == record.account_id:
            self._put(replace(existing, state="outstanding", claim_id=None))
        return super()._replace(self._records[record.selector], record)


@breaks("a_second_add_replaces_hashes_and_expiries_and_nothing_else")
class SecondAddForgetsGuesses(MemoryTokenStore):
    def _replace(self, existing: TokenRecord, record: TokenRecord) -> bool:
        return super()._replace(replace(existing, guesses=0), record)


@breaks("a_second_add_replaces_hashes_and_expiries_and_nothing_else", "a_purge_goes_by_the_replaced_keep_time")
class SecondAddKeepsTheHashes(MemoryTokenStore):
    def _replace(self, existing: TokenRecord, record: TokenRecord) -> bool:
        done = super()._replace(existing, record)
        if done:
            self._put(existing)
        return done


@breaks("a_second_add_counts_against_no_quota_and_supersedes_nothing")
class SecondAddIsCounted(MemoryTokenStore):
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        count = sum(1 for _ in self._of(record.account_id))
        if any(count >= quota.count for quota in quotas) and record.selector in self._records:
            return False
        return super().add(record, quotas=quotas, keep=keep)


@breaks("a_second_add_keeps_its_place_in_the_order")
class SecondAddBecomesTheNewest(MemoryTokenStore):
    def _replace(self, existing: TokenRecord, record: TokenRecord) -> bool:
        done = super()._replace(existing, record)
        order = self._selectors[existing.account_id]
        order.append(order.pop(order.index(existing.selector)))
        return done


@breaks("at_most_limit_guesses_are_counted")
class AttemptAllowsOneMore(MemoryTokenStore):
    def attempt(self, selector: str, /, *, limit: int) -> bool:
        return super().attempt(selector, limit=limit + 1)


@breaks("guesses_are_bounded_however_parallel")
class AttemptChecksThenActs(MemoryTokenStore):
    def attempt(self, selector: str, /, *, limit: int) -> bool:
        record = self._records.get(selector)
        if record is None or record.guesses >= limit:
            return False
        Gap.wait()
        self._put(replace(self._records[selector], guesses=self._records[selector].guesses + 1))
        return True


@breaks("a_guess_counts_whatever_the_state")
class EndedIsGuessedForFree(MemoryTokenStore):
    def attempt(self, selector: str, /, *, limit: int) -> bool:
        record = self._records.get(selector)
        if record is not None and record.state != "outstanding":
            return True
        return super().attempt(selector, limit=limit)


@breaks("an_attempt_on_nothing_is_false")
class AttemptOnNothingIsTrue(MemoryTokenStore):
    def attempt(self, selector: str, /, *, limit: int) -> bool:
        return selector not in self._records or super().attempt(selector, limit=limit)


@breaks("a_release_makes_it_outstanding_again_and_revives_no_sibling")
class ReleaseRevivesSiblings(MemoryTokenStore):
    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        done = super().release(selector, claim_id=claim_id, guess=guess)
        for other in list(self._of(self._records[selector].account_id)) if done else []:
            self._put(replace(other, state="outstanding", claim_id=None))
        return done


@breaks("only_the_holder_may_release")
class AnyoneReleases(MemoryTokenStore):
    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        record = self._records.get(selector)
        holder = record.claim_id if record and record.claim_id else claim_id
        return super().release(selector, claim_id=holder, guess=guess)


@breaks("a_release_takes_back_one_guess_if_it_was_one")
class ReleaseKeepsTheGuess(MemoryTokenStore):
    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        return super().release(selector, claim_id=claim_id, guess=False)


@breaks("a_release_takes_back_one_guess_if_it_was_one")
class ReleaseTakesALinksGuess(MemoryTokenStore):
    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        return super().release(selector, claim_id=claim_id, guess=True)


@breaks(
    "a_late_release_revives_nothing_after_an_add",
    "a_late_release_revives_nothing_after_a_revoke",
    "a_late_release_revives_nothing_after_another_claim",
)
class ClaimsAreNeverTaken(MemoryTokenStore):
    def _clear_claims(self, account_id: str) -> None:
        pass


@breaks("a_late_release_revives_nothing_after_a_revoke")
class RevokeOfNothingTakesNoClaim(MemoryTokenStore):
    def revoke(self, account_id: str, /, *, now: datetime) -> int:
        if not any(record.is_outstanding(now) for record in self._of(account_id)):
            return 0
        return super().revoke(account_id, now=now)


@breaks("a_purge_deletes_what_is_past_its_keep_time_only")
class PurgeInvertsItsCondition(MemoryTokenStore):
    def purge(self, *, before: datetime, limit: int) -> int:
        live = [record for record in self._records.values() if record.keep_until >= before][:limit]
        for record in live:
            self._delete(record)
        return len(live)


@breaks("a_purge_deletes_what_is_past_its_keep_time_only")
class PurgeIsInclusive(MemoryTokenStore):
    def purge(self, *, before: datetime, limit: int) -> int:
        return super().purge(before=before + timedelta(seconds=1), limit=limit)


@breaks("a_purge_takes_the_oldest_first_and_at_most_limit")
class PurgeIgnoresItsLimit(MemoryTokenStore):
    def purge(self, *, before: datetime, limit: int) -> int:
        return super().purge(before=before, limit=limit + 99)


@breaks("a_purge_takes_the_oldest_first_and_at_most_limit")
class PurgeInOrderOfAdd(MemoryTokenStore):
    def purge(self, *, before: datetime, limit: int) -> int:
        past = [record for record in self._records.values() if record.keep_until < before][:limit]
        for record in past:
            self._delete(record)
        return len(past)


@breaks("account_ids_are_compared_byte_for_byte")
class CaseInsensitiveAccounts(MemoryTokenStore):
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        return super().add(replace(record, account_id=record.account_id.lower()), quotas=quotas, keep=keep)


@breaks("account_ids_are_compared_byte_for_byte")
class TruncatedAccounts(MemoryTokenStore):
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        return super().add(replace(record, account_id=record.account_id[:191]), quotas=quotas, keep=keep)


@breaks("an_unknown_selector_is_none")
class PrefixSearch(MemoryTokenStore):
    def get(self, selector: str, /) -> TokenRecord | None:
        return next((record for key, record in self._records.items() if key.startswith(selector)), None)


@breaks("an_unknown_selector_is_none")
class CaseInsensitiveSelectors(MemoryTokenStore):
    def get(self, selector: str, /) -> TokenRecord | None:
        return next((record for key, record in self._records.items() if key.lower() == selector.lower()), None)


@breaks("a_record_comes_back_as_it_was_added")
class MinutesOnly(MemoryTokenStore):
    def get(self, selector: str, /) -> TokenRecord | None:
        record = super().get(selector)
        return record and replace(record, code_expires_at=None, code_hash=None)


@breaks("at_most_limit_guesses_are_counted")
class CacheInFrontOfReads(MemoryTokenStore):
    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[str, TokenRecord | None] = {}

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        added = super().add(record, quotas=quotas, keep=keep)
        self._cache[record.selector] = super().get(record.selector)
        return added

    def get(self, selector: str, /) -> TokenRecord | None:
        return self._cache.setdefault(selector, super().get(selector))


@breaks("a_purged_account_can_begin_anew")
class PurgeLeavesTheCount(MemoryTokenStore):
    def __init__(self) -> None:
        super().__init__()
        self._ever: dict[str, int] = {}

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        if any(self._ever.get(record.account_id, 0) >= quota.count for quota in quotas):
            return False
        self._ever[record.account_id] = self._ever.get(record.account_id, 0) + 1
        return super().add(record, quotas=quotas, keep=keep)


@breaks("a_second_add_may_take_the_code_away")
class NullsAreNotWritten(MemoryTokenStore):
    def _replace(self, existing: TokenRecord, record: TokenRecord) -> bool:
        code = record.code_hash or existing.code_hash
        ends = record.code_expires_at or existing.code_expires_at
        return super()._replace(existing, replace(record, code_hash=code, code_expires_at=ends))


@breaks("an_add_against_a_claim_ends_in_one_of_the_two_orders")
class AddSupersedesWhatItReadBefore(MemoryTokenStore):
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        live = [other for other in self._of(record.account_id) if other.is_outstanding(record.created_at)]
        Gap.wait()
        added = super().add(record, quotas=quotas, keep=99)
        for other in live:
            self._put(replace(other, state="superseded"))
        return added


@breaks("a_revoke_against_a_claim_ends_in_one_of_the_two_orders")
class LostUpdate(MemoryTokenStore):
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
