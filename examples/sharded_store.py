"""A store over several stores, by account: for the day when one database is not enough. See docs/scale.md.

An account's records must be in one place, where they are counted and end together. But whoever comes with a token
brings a selector and nothing else. So a directory remembers in which place each selector's record is. It is written
before the record and never says anything else afterwards: an entry without a record finds nothing, which is what an
unknown token finds too.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from resetkit import DuplicateSelectorError, Quota, TokenRecord, TokenStore


class ShardDirectory(Protocol):
    """Remembers for each selector the number of its shard, until `keep_until` or later. One key, one value."""

    def place(self, selector: str, shard: int, /, *, keep_until: datetime) -> int:
        """Enter a selector that is new. The number that is there, whoever entered it; at once, however parallel."""
        ...

    def find(self, selector: str, /) -> int | None:
        """The number, or None."""
        ...

    def purge(self, *, before: datetime) -> None:
        """Forget what was to be kept until earlier than `before`. What expires by itself has nothing to do."""
        ...


class ShardedTokenStore:
    """A `TokenStore` over `shards`, whose order and number must not change while records are in them."""

    def __init__(self, shards: Sequence[TokenStore], directory: ShardDirectory) -> None:
        self._shards = shards
        self._directory = directory

    def _number(self, account_id: str) -> int:
        return int.from_bytes(hashlib.sha256(account_id.encode()).digest()[:8]) % len(self._shards)

    def _of(self, selector: str) -> TokenStore | None:
        number = self._directory.find(selector)
        return None if number is None else self._shards[number]

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        """See `TokenStore.add`."""
        number = self._number(record.account_id)
        if self._directory.place(record.selector, number, keep_until=record.keep_until) != number:
            raise DuplicateSelectorError
        return self._shards[number].add(record, quotas=quotas, keep=keep)

    def get(self, selector: str, /) -> TokenRecord | None:
        """See `TokenStore.get`."""
        shard = self._of(selector)
        return None if shard is None else shard.get(selector)

    def attempt(self, selector: str, /, *, limit: int) -> bool:
        """See `TokenStore.attempt`."""
        shard = self._of(selector)
        return shard is not None and shard.attempt(selector, limit=limit)

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        """See `TokenStore.claim`."""
        shard = self._of(selector)
        return shard is not None and shard.claim(selector, claim_id=claim_id, now=now)

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        """See `TokenStore.release`."""
        shard = self._of(selector)
        return shard is not None and shard.release(selector, claim_id=claim_id, guess=guess)

    def revoke(self, account_id: str, /, *, now: datetime) -> int:
        """See `TokenStore.revoke`."""
        return self._shards[self._number(account_id)].revoke(account_id, now=now)

    def purge(self, *, before: datetime, limit: int) -> int:
        """See `TokenStore.purge`: oldest first within each shard, one shard after the other."""
        count = 0
        for shard in self._shards:
            count += shard.purge(before=before, limit=limit - count)
            if count == limit:
                return count
        self._directory.purge(before=before)
        return count
