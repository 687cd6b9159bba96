"""The ports: what an application or an adapter gives the manager. The contract is in the docstrings.

No inheritance is needed: any object with these methods will do. Each port has two colours, the sync one with
the plain name and the async one with the prefix; both keep the same promises. The methods of an async port may be
``async def``; a manager refuses ports of the wrong colour when it is constructed.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from resetkit.mails import Mail
from resetkit.values import Account, Quota, TokenRecord


class AccountDirectory(Protocol):
    """The application's accounts. An exception of any kind but `PasswordRejectedError` means "did not work"."""

    def find(self, identifier: str, /) -> Account | None:
        """The one account that this identifier names, as typed by a visitor; None if there is none, or several.

        Called after the answer has left, never with an empty text. May compare however it likes: the mail goes to
        the stored address.
        """
        ...

    def get(self, account_id: str, /) -> Account | None:
        """The account with this id; None if it is gone. Must see the latest commit: a stale read revives tokens."""
        ...

    def set_password(self, account_id: str, new_password: str, /) -> None:
        """Hash and store the new password, so that the account's stamp changes.

        Raise ``PasswordRejectedError(*sentences)`` to refuse it: then nothing was changed, and the token stays good.
        Any other exception leaves the outcome unknown: the token is spent, sessions are ended, and the exception
        reaches the caller. End sessions in the same transaction where you can: a killed process never comes to
        `end_sessions`.
        """
        ...

    def end_sessions(self, account_id: str, /) -> None:
        """End every log-in of the account: sessions, remember-me, API tokens. Safe to call twice."""
        ...


class AsyncAccountDirectory(Protocol):
    """`AccountDirectory`, async."""

    def find(self, identifier: str, /) -> Awaitable[Account | None]:
        """As `AccountDirectory.find`."""
        ...

    def get(self, account_id: str, /) -> Awaitable[Account | None]:
        """As `AccountDirectory.get`."""
        ...

    def set_password(self, account_id: str, new_password: str, /) -> Awaitable[None]:
        """As `AccountDirectory.set_password`."""
        ...

    def end_sessions(self, account_id: str, /) -> Awaitable[None]:
        """As `AccountDirectory.end_sessions`."""
        ...


class Mailer(Protocol):
    """Delivers mails, or hands them to what does."""

    def send(self, mail: Mail, /) -> None:
        """Send `mail` to ``mail.to`` and to nobody else.

        Returns when the next hop has taken it. Any exception means that it was not sent and may be tried again; it
        must not quote the token, link or code.
        """
        ...


class AsyncMailer(Protocol):
    """`Mailer`, async."""

    def send(self, mail: Mail, /) -> Awaitable[None]:
        """As `Mailer.send`."""
        ...


class TokenStore(Protocol):
    """Keeps records. It reads no clock, decides no policy, logs no record.

    - Operations that change records of one account happen one after another. SQL stores upsert one row for the
      account as the *first* statement of such a transaction; a guarded statement alone is not atomic across rows.
    - After a crash at any point each operation has happened or has not. What returned is durable, as far as the store
      outlives its process at all.
    - A deadlock or serialisation failure is retried inside the adapter.
    - A record is *outstanding* at an instant if its state is ``"outstanding"`` and the instant is before its
      ``expires_at``: expiry is exclusive.
    - Ids are any text that encodes to UTF-8, without NUL, of 1 to 255 characters, compared byte for byte. No foreign
      key on them. Hashes are ASCII text. Times are aware, UTC, in whole seconds, so that an integer column holds them.
    """

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        """Insert a new, outstanding record. ``record.created_at`` is now.

        False, and nothing changed, if for any quota the account already has ``count`` records of this kind created
        at or after ``since``, whatever their state. Else inserts it, marks all but the newest `keep` outstanding
        records of that account and kind, this one included, ``"superseded"``, clears ``claim_id`` on the
        account's used records, and returns True. Newest is the order of `add`, not of clocks.

        Under a selector that exists for the same account: if that record is outstanding at ``record.created_at``,
        its hashes, stamp digest, expiries and ``keep_until`` are replaced; its ``created_at``, ``guesses`` and place
        in the order stay, nothing is counted or superseded, True. Otherwise False, and nothing changed.

        Raises DuplicateSelectorError if the selector belongs to another account; nothing changed.
        """
        ...

    def get(self, selector: str, /) -> TokenRecord | None:
        """The record as last committed, whatever its state; None if there is none."""
        ...

    def attempt(self, selector: str, /, *, limit: int) -> bool:
        """Count a guess while fewer than `limit` were counted, whatever the state; True if it was counted.

        At most `limit` are ever counted, however parallel, save those that `release` took back. A repeat after a
        lost reply counts again. False if there is no such record.
        """
        ...

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        """Take the record for use. Of any number of claims on one account at once, at most one id wins.

        If the record is outstanding at `now`: marks it ``"used"`` by `claim_id`, marks every other outstanding record
        of the account ``"revoked"``, clears ``claim_id`` on the account's other used records, True. Else False.

        The id that won is answered True again, because drivers retry, until it was released, or until a later `add`
        of a new record, winning `claim` or `revoke` of the account; after that False. A losing claim changes nothing.
        """
        ...

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        """Undo a claim that this id still holds: outstanding again, and with `guess` one counted guess less; True.

        Else False, and nothing changed. The siblings that the claim revoked stay revoked.
        """
        ...

    def revoke(self, account_id: str, /, *, now: datetime) -> int:
        """Mark all records of the account outstanding at `now`, of every kind, ``"revoked"``, and say how many.

        Clears ``claim_id`` on the account's used records, so that a late `release` revives nothing.
        """
        ...

    def purge(self, *, before: datetime, limit: int) -> int:
        """Delete at most `limit` records whose ``keep_until`` is before `before`, oldest first, and say how many.

        Account rows that have no record left go too. A backend that expires entries by itself does so at
        ``keep_until``, not earlier, and may answer 0.
        """
        ...


class AsyncTokenStore(Protocol):
    """`TokenStore`, async."""

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> Awaitable[bool]:
        """As `TokenStore.add`."""
        ...

    def get(self, selector: str, /) -> Awaitable[TokenRecord | None]:
        """As `TokenStore.get`."""
        ...

    def attempt(self, selector: str, /, *, limit: int) -> Awaitable[bool]:
        """As `TokenStore.attempt`."""
        ...

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> Awaitable[bool]:
        """As `TokenStore.claim`."""
        ...

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> Awaitable[bool]:
        """As `TokenStore.release`."""
        ...

    def revoke(self, account_id: str, /, *, now: datetime) -> Awaitable[int]:
        """As `TokenStore.revoke`."""
        ...

    def purge(self, *, before: datetime, limit: int) -> Awaitable[int]:
        """As `TokenStore.purge`."""
        ...


class Throttle(Protocol):
    """Counts calls by key. Keys are digests, never addresses."""

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        """Count one call under `key` and decide, in one step: 0 to go on, else the seconds to wait, rounded up.

        At most `limit` calls go on in a window. A refused call need not count, and must not keep its key out for ever.
        May refuse a little too early under memory pressure, never too late. A key's limit and window are the same at
        every call.
        """
        ...


class AsyncThrottle(Protocol):
    """`Throttle`, async."""

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> Awaitable[int]:
        """As `Throttle.hit`."""
        ...


class Dispatcher(Protocol):
    """Gets a job off the visitor's path."""

    def dispatch(self, job: str, run: Callable[[str], None], /, *, delay: timedelta = timedelta(0)) -> None:
        """Take `job` for later, not before `delay` has passed, and return at once.

        In process: call ``run(job)`` elsewhere, once; it raises no Exception, and one that it raised all the same
        would stop no other job. A queue sends `job` as it is, and its worker calls ``manager.run_job(job)``. Running a
        job twice does no harm; losing one loses a mail. Jobs name people: never log one. Raises ThrottledError when
        full, instead of blocking.
        """
        ...

    def close(self, timeout: float, /) -> Sequence[str] | None:
        """Take no more jobs, run what is left within `timeout` seconds, and return the jobs not run to their end.

        A delay is cut short. A queue outside the process keeps its jobs and returns None. May be called twice.
        """
        ...


class AsyncDispatcher(Protocol):
    """`Dispatcher`, async."""

    def dispatch(
        self, job: str, run: Callable[[str], Awaitable[None]], /, *, delay: timedelta = timedelta(0)
    ) -> Awaitable[None]:
        """As `Dispatcher.dispatch`."""
        ...

    def close(self, timeout: float, /) -> Awaitable[Sequence[str] | None]:
        """As `Dispatcher.close`."""
        ...


class TokenHasher(Protocol):
    """Hashes a token's secret for keeping. Sync in both managers: the async one calls it in a thread."""

    def hash(self, secret: bytes, /) -> str:
        """ASCII text to keep for these 32 bytes; salted, so never the same twice. Called from several threads."""
        ...

    def verify(self, stored: str, secret: bytes, /) -> bool:
        """Whether `stored` was made from `secret`, compared in constant time. Any text is taken, without an error."""
        ...
