"""What the words of `TokenStore` say, in the fewest lines: slow, for one thread, and easy to read beside them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from resetkit.errors import DuplicateSelectorError
from resetkit.values import REPLACED_FIELDS, Quota, TokenRecord


class StoreModel:
    """Records in the order of add."""

    def __init__(self) -> None:
        self.records: dict[str, TokenRecord] = {}

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        """See `TokenStore.add`."""
        existing = self.records.get(record.selector)
        if existing is not None:
            return self._replace(existing, record)
        kindred = [each for each in self._of(record.account_id) if each.kind == record.kind]
        for quota in quotas:
            if len([each for each in kindred if each.created_at >= quota.since]) >= quota.count:
                return False
        self.records[record.selector] = record
        live = [each for each in [*kindred, record] if each.is_outstanding(record.created_at)]
        self._change(live[:-keep], lambda _: {"state": "superseded"})
        self._take_claims(record.account_id)
        return True

    def _replace(self, existing: TokenRecord, record: TokenRecord) -> bool:
        if existing.account_id != record.account_id:
            raise DuplicateSelectorError
        if not existing.is_outstanding(record.created_at):
            return False
        self._change([existing], lambda _: {name: getattr(record, name) for name in REPLACED_FIELDS})
        return True

    def get(self, selector: str, /) -> TokenRecord | None:
        """See `TokenStore.get`."""
        return self.records.get(selector)

    def attempt(self, selector: str, /, *, limit: int) -> bool:
        """See `TokenStore.attempt`."""
        found = [each for each in self._named(selector) if each.guesses < limit]
        self._change(found, lambda each: {"guesses": each.guesses + 1})
        return bool(found)

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        """See `TokenStore.claim`."""
        for found in self._named(selector):
            if found.is_outstanding(now):
                self.revoke(found.account_id, now=now)
                self._change([found], lambda _: {"state": "used", "claim_id": claim_id})
                return True
            return found.claim_id == claim_id
        return False

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        """See `TokenStore.release`."""
        held = [each for each in self._named(selector) if each.claim_id == claim_id]
        back = int(guess)
        freed = {"state": "outstanding", "claim_id": None}
        self._change(held, lambda each: freed | {"guesses": max(0, each.guesses - back)})
        return bool(held)

    def revoke(self, account_id: str, /, *, now: datetime) -> int:
        """See `TokenStore.revoke`."""
        live = [each for each in self._of(account_id) if each.is_outstanding(now)]
        self._change(live, lambda _: {"state": "revoked"})
        self._take_claims(account_id)
        return len(live)

    def purge(self, *, before: datetime, limit: int) -> int:
        """See `TokenStore.purge`."""
        past = [each for each in self.records.values() if each.keep_until < before]
        past.sort(key=lambda each: each.keep_until)
        for each in past[:limit]:
            del self.records[each.selector]
        return len(past[:limit])

    def _of(self, account_id: str) -> list[TokenRecord]:
        return [each for each in self.records.values() if each.account_id == account_id]

    def _named(self, selector: str) -> list[TokenRecord]:
        return [self.records[selector]] if selector in self.records else []

    def _take_claims(self, account_id: str) -> None:
        self._change([each for each in self._of(account_id) if each.claim_id], lambda _: {"claim_id": None})

    def _change(self, records: list[TokenRecord], to: Callable[[TokenRecord], dict[str, Any]]) -> None:
        for each in records:
            self.records[each.selector] = replace(each, **to(each))
