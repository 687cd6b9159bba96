"""Stand-ins for what an application gives the manager, simple enough to see through."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from resetkit.errors import PasswordRejectedError
from resetkit.values import Account


class FakeClock:
    """A clock that stands until it is told to move. Pass it as ``clock``."""

    def __init__(self, now: datetime | None = None) -> None:
        self.now: datetime = now or datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The time that it shows."""
        return self.now

    def advance(self, by: timedelta) -> None:
        """Move it on, or back."""
        self.now += by


@dataclass(slots=True)
class _Entry:
    account: Account
    password: str
    sessions: int = 1


class FakeAccounts:
    """An `AccountDirectory` in memory, found by address in any case. Passwords are kept in clear: for tests only.

    Passwords in `forbidden` are refused, to see what a page makes of it.
    """

    def __init__(self, *, forbidden: Collection[str] = ()) -> None:
        self._entries: dict[str, _Entry] = {}
        self._forbidden = forbidden

    def add(self, account_id: str, email: str, *, password: str = "old", notify: tuple[str, ...] = ()) -> Account:
        """Make an account with one live session, or make it anew."""
        account = Account(id=account_id, email=email, stamp=f"stamp of {password}", notify=notify)
        self._entries[account_id] = _Entry(account, password)
        return account

    def change(self, account_id: str, *, email: str | None = None, can_reset: bool | None = None) -> None:
        """Change an account's address or standing, as its owner or an operator would."""
        entry = self._entries[account_id]
        entry.account = replace(
            entry.account,
            email=entry.account.email if email is None else email,
            can_reset=entry.account.can_reset if can_reset is None else can_reset,
        )

    def remove(self, account_id: str) -> None:
        """Delete an account."""
        del self._entries[account_id]

    def password(self, account_id: str) -> str:
        """The account's password."""
        return self._entries[account_id].password

    def sessions(self, account_id: str) -> int:
        """How many sessions of the account live."""
        return self._entries[account_id].sessions

    def log_in(self, account_id: str) -> None:
        """Begin one more session."""
        self._entries[account_id].sessions += 1

    def find(self, identifier: str, /) -> Account | None:
        """See `AccountDirectory.find`."""
        wanted = identifier.casefold()
        accounts = [entry.account for entry in self._entries.values()]
        found = [account for account in accounts if account.email.casefold() == wanted]
        return found[0] if len(found) == 1 else None

    def get(self, account_id: str, /) -> Account | None:
        """See `AccountDirectory.get`."""
        entry = self._entries.get(account_id)
        return entry.account if entry else None

    def set_password(self, account_id: str, new_password: str, /) -> None:
        """See `AccountDirectory.set_password`."""
        if new_password in self._forbidden:
            raise PasswordRejectedError
        entry = self._entries[account_id]
        entry.password = str(new_password)
        entry.account = replace(entry.account, stamp=f"stamp of {new_password}")

    def end_sessions(self, account_id: str, /) -> None:
        """See `AccountDirectory.end_sessions`."""
        self._entries[account_id].sessions = 0


class AsyncFakeAccounts:
    """`FakeAccounts` for the async manager: a view of the `accounts` it is given."""

    def __init__(self, accounts: FakeAccounts) -> None:
        self._accounts = accounts

    async def find(self, identifier: str, /) -> Account | None:
        """See `AccountDirectory.find`."""
        return self._accounts.find(identifier)

    async def get(self, account_id: str, /) -> Account | None:
        """See `AccountDirectory.get`."""
        return self._accounts.get(account_id)

    async def set_password(self, account_id: str, new_password: str, /) -> None:
        """See `AccountDirectory.set_password`."""
        self._accounts.set_password(account_id, new_password)

    async def end_sessions(self, account_id: str, /) -> None:
        """See `AccountDirectory.end_sessions`."""
        self._accounts.end_sessions(account_id)
