"""resetkit's `TokenStore` and `AsyncTokenStore` on the Django ORM, for PostgreSQL, MySQL, MariaDB and SQLite."""

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import (
    DEFAULT_DB_ALIAS,
    IntegrityError,
    OperationalError,
    close_old_connections,
    connections,
    transaction,
)
from django.db.models import Exists, F, OuterRef
from django.db.models.functions import Greatest

from resetkit import DuplicateSelectorError, Quota, TokenRecord
from resetkit_django.models import AccountLock, Token

P = ParamSpec("P")
R = TypeVar("R")

FIELDS = [field.name for field in fields(TokenRecord)]
TIMES = ("created_at", "expires_at", "code_expires_at", "keep_until")
REPLACED = ("link_hash", "code_hash", "stamp_digest", "expires_at", "code_expires_at", "keep_until")
PURGES = ""  # no account has an empty id: this lock keeps two purges from counting the same tokens
TRIES = 20  # above READ COMMITTED each round of a race has one winner, and the others begin anew
# PostgreSQL's serialization_failure and deadlock_detected, MySQL's ER_LOCK_DEADLOCK. SQLite waits, and has neither.
LOST_RACES = {"40001", "40P01", 1213}


def mended(operation: Callable[P, R]) -> Callable[P, R]:
    """`operation`, begun anew when it lost a race, and without a broken connection left behind.

    Django looks after connections when a request begins and ends. A job of the manager's runs outside of any.
    """

    @wraps(operation)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        tries = 0
        while True:
            try:
                return operation(*args, **kwargs)
            except BaseException as error:
                close_old_connections()
                tries += 1
                if tries == TRIES or not _lost_race(error):
                    raise

    return run


def _lost_race(error: BaseException) -> bool:
    if not isinstance(error, OperationalError):
        return False
    driver = error.__cause__  # of psycopg, psycopg2 or mysqlclient
    return not LOST_RACES.isdisjoint([getattr(driver, "sqlstate", None), getattr(driver, "pgcode", None), *error.args])


class DjangoTokenStore:
    """Keeps tokens in the database `using`.

    Each operation commits a transaction of its own, so that a token stays used whatever becomes of the request. Inside
    another transaction (ATOMIC_REQUESTS) it therefore raises RuntimeError.
    """

    def __init__(self, using: str = DEFAULT_DB_ALIAS) -> None:
        self._using = using
        self._tokens = Token.objects.using(using)
        self._locks = AccountLock.objects.using(using)

    @mended
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        """As `TokenStore.add`."""
        row = _row(record)
        with self._locked(record.account_id):
            known = self._find(record.selector)
            if known is not None:
                if known.account_id != record.account_id:
                    raise DuplicateSelectorError
                if known.is_outstanding(record.created_at):
                    self._tokens.filter(selector=record.selector).update(**{name: row[name] for name in REPLACED})
                    return True
                return False
            tokens = self._tokens.filter(account_id=record.account_id)
            alike = tokens.filter(kind=record.kind)
            for quota in quotas:
                if alike.filter(created_at__gte=_seconds(quota.since)).count() >= quota.count:
                    return False
            try:
                self._tokens.create(**row)
            except IntegrityError:  # another account, which is not locked, has just added this selector
                raise DuplicateSelectorError from None
            outstanding = alike.filter(state="outstanding", expires_at__gt=row["created_at"])
            newest = list(outstanding.order_by("-position").values_list("position", flat=True)[:keep])
            outstanding.exclude(position__in=newest).update(state="superseded")
            tokens.update(claim_id=None)
            return True

    @mended
    def get(self, selector: str, /) -> TokenRecord | None:
        """As `TokenStore.get`."""
        return self._find(selector)

    def _find(self, selector: str) -> TokenRecord | None:
        row = self._tokens.filter(selector=selector).values(*FIELDS).first()
        return None if row is None else _record(row)

    @mended
    def attempt(self, selector: str, /, *, limit: int) -> bool:
        """As `TokenStore.attempt`."""
        with transaction.atomic(self._using, durable=True):
            tokens = self._tokens.filter(selector=selector, guesses__lt=limit)
            return bool(tokens.update(guesses=F("guesses") + 1))

    @mended
    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        """As `TokenStore.claim`."""
        account_id = self._account_of(selector)
        if account_id is None:
            return False
        with self._locked(account_id):
            known = self._find(selector)
            if known is None or known.account_id != account_id:
                return False
            if not known.is_outstanding(now):
                return known.claim_id == claim_id
            self._revoke(account_id, now)
            self._tokens.filter(selector=selector).update(state="used", claim_id=claim_id)
            return True

    @mended
    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        """As `TokenStore.release`."""
        account_id = self._account_of(selector)
        if account_id is None:
            return False
        with self._locked(account_id):
            claimed = self._tokens.filter(selector=selector, account_id=account_id, claim_id=claim_id)
            guesses = Greatest(F("guesses") - 1, 0) if guess else F("guesses")
            return bool(claimed.update(state="outstanding", claim_id=None, guesses=guesses))

    @mended
    def revoke(self, account_id: str, /, *, now: datetime) -> int:
        """As `TokenStore.revoke`."""
        with self._locked(account_id):
            return self._revoke(account_id, now)

    @mended
    def purge(self, *, before: datetime, limit: int) -> int:
        """As `TokenStore.purge`."""
        with self._locked(PURGES):
            old = self._tokens.filter(keep_until__lt=_seconds(before)).order_by("keep_until", "position")[:limit]
            found = dict(old.values_list("position", "account_id"))
            self._lock(*set(found.values()))
            # Asked again, since an `add` may have prolonged a token before its account was locked.
            deleted, _ = self._tokens.filter(position__in=found, keep_until__lt=_seconds(before)).delete()
            self._locks.filter(~Exists(self._tokens.filter(account_id=OuterRef("account_id")))).delete()
            return int(deleted)

    @contextmanager
    def _locked(self, account_id: str) -> Generator[None, None, None]:
        """A transaction that has the account to itself.

        The lock must come first: then what is read after it is the latest, and SQLite never has to turn a lock for
        reading into one for writing, which it refuses to one of two.
        """
        with transaction.atomic(self._using, durable=True):
            self._lock(account_id)
            yield

    def _lock(self, *account_ids: str) -> None:
        # MySQL takes any unique key for the conflict, and refuses to be told which.
        unique = None if connections[self._using].vendor == "mysql" else ["account_id"]
        rows = [AccountLock(account_id=account_id) for account_id in account_ids]
        self._locks.bulk_create(rows, update_conflicts=True, unique_fields=unique, update_fields=["account_id"])

    def _account_of(self, selector: str) -> str | None:
        """Whom to lock. Read before the transaction, which the lock has to begin."""
        known = self._find(selector)
        return None if known is None else known.account_id

    def _revoke(self, account_id: str, now: datetime) -> int:
        tokens = self._tokens.filter(account_id=account_id)
        tokens.update(claim_id=None)
        return int(tokens.filter(state="outstanding", expires_at__gt=_seconds(now)).update(state="revoked"))


class AsyncDjangoTokenStore:
    """`DjangoTokenStore` for async applications. Each call runs in a thread, with that thread's connection."""

    def __init__(self, using: str = DEFAULT_DB_ALIAS) -> None:
        self._store = DjangoTokenStore(using)

    async def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        """As `TokenStore.add`."""
        return await _in_thread(self._store.add, record, quotas=quotas, keep=keep)

    async def get(self, selector: str, /) -> TokenRecord | None:
        """As `TokenStore.get`."""
        return await _in_thread(self._store.get, selector)

    async def attempt(self, selector: str, /, *, limit: int) -> bool:
        """As `TokenStore.attempt`."""
        return await _in_thread(self._store.attempt, selector, limit=limit)

    async def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        """As `TokenStore.claim`."""
        return await _in_thread(self._store.claim, selector, claim_id=claim_id, now=now)

    async def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        """As `TokenStore.release`."""
        return await _in_thread(self._store.release, selector, claim_id=claim_id, guess=guess)

    async def revoke(self, account_id: str, /, *, now: datetime) -> int:
        """As `TokenStore.revoke`."""
        return await _in_thread(self._store.revoke, account_id, now=now)

    async def purge(self, *, before: datetime, limit: int) -> int:
        """As `TokenStore.purge`."""
        return await _in_thread(self._store.purge, before=before, limit=limit)


async def _in_thread(operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    def work() -> R:
        try:
            return operation(*args, **kwargs)
        finally:
            close_old_connections()  # Django does so after each request, but not in this thread

    # Not in the one thread that Django keeps for a request: a transaction may be open there.
    call = asyncio.ensure_future(sync_to_async(work, thread_sensitive=False)())
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])  # the thread goes on; let nobody look before it has come to its end
        raise


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())


def _row(record: TokenRecord) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in FIELDS}
    return row | {name: row[name] and _seconds(row[name]) for name in TIMES}


def _record(row: dict[str, Any]) -> TokenRecord:
    instants: dict[str, Any] = {name: datetime.fromtimestamp(row[name], UTC) for name in TIMES if row[name] is not None}
    return TokenRecord(**(row | instants))
