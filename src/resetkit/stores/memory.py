"""Records in this process's memory: for tests, and for one process whose restart may forget every mail."""

import heapq
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from resetkit._fork import start_afresh_in_child
from resetkit.errors import DuplicateSelectorError
from resetkit.values import REPLACED_FIELDS, Quota, TokenRecord


class MemoryTokenStore:
    """Keeps records in dictionaries, under one lock. Nothing outlives the process; N processes keep N stores."""

    def __init__(self) -> None:
        self._records: dict[str, TokenRecord] = {}
        self._selectors: defaultdict[str, list[str]] = defaultdict(list)  # account id → selectors, in order of add
        self._keep: list[tuple[datetime, str]] = []  # a heap; entries of replaced expiries are stale
        self._lock = threading.Lock()
        start_afresh_in_child(self)

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        """See `TokenStore.add`."""
        now = record.created_at
        with self._lock:
            existing = self._records.get(record.selector)
            if existing is not None:
                return self._replace(existing, record)
            of_kind = [other for other in self._of(record.account_id) if other.kind == record.kind]
            for quota in quotas:
                if sum(other.created_at >= quota.since for other in of_kind) >= quota.count:
                    return False
            self._put(record)
            self._selectors[record.account_id].append(record.selector)
            outstanding = [other for other in of_kind if other.is_outstanding(now)]
            for other in outstanding[: max(0, len(outstanding) + 1 - keep)]:
                self._put(replace(other, state="superseded"))
            self._clear_claims(record.account_id)
            return True

    def _replace(self, existing: TokenRecord, record: TokenRecord) -> bool:
        if existing.account_id != record.account_id:
            raise DuplicateSelectorError
        if not existing.is_outstanding(record.created_at):
            return False
        fresh = {name: getattr(record, name) for name in REPLACED_FIELDS}
        self._put(replace(existing, **fresh))
        return True

    def get(self, selector: str, /) -> TokenRecord | None:
        """See `TokenStore.get`."""
        with self._lock:
            return self._records.get(selector)

    def attempt(self, selector: str, /, *, limit: int) -> bool:
        """See `TokenStore.attempt`."""
        with self._lock:
            record = self._records.get(selector)
            if record is None or record.guesses >= limit:
                return False
            self._put(replace(record, guesses=record.guesses + 1))
            return True

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        """See `TokenStore.claim`."""
        with self._lock:
            record = self._records.get(selector)
            if record is None:
                return False
            if not record.is_outstanding(now):
                return record.claim_id == claim_id
            self._revoke(record.account_id, now, spared=record)
            self._put(replace(record, state="used", claim_id=claim_id))
            return True

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        """See `TokenStore.release`."""
        with self._lock:
            record = self._records.get(selector)
            if record is None or record.claim_id != claim_id:
                return False
            guesses = record.guesses - 1 if guess and record.guesses else record.guesses
            self._put(replace(record, state="outstanding", claim_id=None, guesses=guesses))
            return True

    def revoke(self, account_id: str, /, *, now: datetime) -> int:
        """See `TokenStore.revoke`."""
        with self._lock:
            return self._revoke(account_id, now)

    def purge(self, *, before: datetime, limit: int) -> int:
        """See `TokenStore.purge`."""
        purged = 0
        with self._lock:
            while self._keep and self._keep[0][0] < before and purged < limit:
                keep_until, selector = heapq.heappop(self._keep)
                record = self._records.get(selector)
                if record is not None and record.keep_until == keep_until:
                    self._delete(record)
                    purged += 1
        return purged

    def count_due(self, *, before: datetime, limit: int) -> int:
        """How many records `purge` would delete; it deletes none."""
        with self._lock:
            return min(limit, sum(record.keep_until < before for record in self._records.values()))

    def _of(self, account_id: str) -> list[TokenRecord]:
        return [self._records[selector] for selector in self._selectors.get(account_id, ())]

    def _put(self, record: TokenRecord) -> None:
        old = self._records.get(record.selector)
        if old is None or old.keep_until != record.keep_until:
            heapq.heappush(self._keep, (record.keep_until, record.selector))
        self._records[record.selector] = record

    def _delete(self, record: TokenRecord) -> None:
        del self._records[record.selector]
        selectors = self._selectors[record.account_id]
        selectors.remove(record.selector)
        if not selectors:
            del self._selectors[record.account_id]

    def _revoke(self, account_id: str, now: datetime, *, spared: TokenRecord | None = None) -> int:
        records = self._of(account_id)
        outstanding = [record for record in records if record is not spared and record.is_outstanding(now)]
        for record in outstanding:
            self._put(replace(record, state="revoked"))
        self._clear_claims(account_id)
        return len(outstanding)

    def _clear_claims(self, account_id: str) -> None:
        for record in self._of(account_id):
            if record.claim_id is not None:
                self._put(replace(record, claim_id=None))


class AsyncMemoryTokenStore:
    """`MemoryTokenStore`, async: every call answers at once."""

    def __init__(self) -> None:
        self._store = MemoryTokenStore()

    async def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        """See `TokenStore.add`."""
        return self._store.add(record, quotas=quotas, keep=keep)

    async def get(self, selector: str, /) -> TokenRecord | None:
        """See `TokenStore.get`."""
        return self._store.get(selector)

    async def attempt(self, selector: str, /, *, limit: int) -> bool:
        """See `TokenStore.attempt`."""
        return self._store.attempt(selector, limit=limit)

    async def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        """See `TokenStore.claim`."""
        return self._store.claim(selector, claim_id=claim_id, now=now)

    async def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        """See `TokenStore.release`."""
        return self._store.release(selector, claim_id=claim_id, guess=guess)

    async def revoke(self, account_id: str, /, *, now: datetime) -> int:
        """See `TokenStore.revoke`."""
        return self._store.revoke(account_id, now=now)

    async def purge(self, *, before: datetime, limit: int) -> int:
        """See `TokenStore.purge`."""
        return self._store.purge(before=before, limit=limit)

    async def count_due(self, *, before: datetime, limit: int) -> int:
        """As `MemoryTokenStore.count_due`."""
        return self._store.count_due(before=before, limit=limit)
