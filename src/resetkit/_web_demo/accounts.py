"""The demonstration's accounts and log-ins, in memory."""

import secrets
import threading
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from resetkit.errors import PasswordRejectedError
from resetkit.hashing import OWASP_MEMORY_KIB, OWASP_PARALLELISM, OWASP_TIME_COST
from resetkit.values import Account

ADDRESSES: Final = ("alice@example.org", "bob@example.org")
FIRST_PASSWORD: Final = "correct horse battery"  # noqa: S105  # shown on the page
LEAST_LENGTH: Final = 8  # NIST SP 800-63B-4, 3.1.1.2

_COMMON: Final = frozenset({"password", "password1", "12345678", "123456789", "iloveyou", "qwertyuiop", "sunshine1"})


class Accounts:
    """An `AccountDirectory` whose ids are the addresses, and what the site's log-in asks for. For any thread."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(OWASP_TIME_COST, OWASP_MEMORY_KIB, OWASP_PARALLELISM)
        self._nobody = self._hasher.hash(secrets.token_urlsafe())
        self._stored = {address: self._hasher.hash(FIRST_PASSWORD) for address in ADDRESSES}
        self._sessions: dict[str, str] = {}
        self._lock = threading.Lock()

    def log_in(self, identifier: str, password: str) -> str | None:
        """A new session's token, or None."""
        address = _address(identifier)
        stored = self._stored.get(address)
        try:
            self._hasher.verify(stored or self._nobody, password)  # for nobody too, so that the time tells nothing
        except VerificationError:
            return None
        token = secrets.token_urlsafe(32)
        with self._lock:
            if stored != self._stored.get(address):  # changed meanwhile
                return None
            self._sessions[token] = address
        return token

    def who(self, session: str) -> str | None:
        """Whose session this is, if it lives."""
        return self._sessions.get(session)

    def log_out(self, session: str) -> None:
        """End one session."""
        with self._lock:
            self._sessions.pop(session, None)

    def find(self, identifier: str, /) -> Account | None:
        """See `AccountDirectory.find`."""
        return self.get(_address(identifier))

    def get(self, account_id: str, /) -> Account | None:
        """See `AccountDirectory.get`."""
        stored = self._stored.get(account_id)
        return None if stored is None else Account(id=account_id, email=account_id, stamp=stored)

    def set_password(self, account_id: str, new_password: str, /) -> None:
        """See `AccountDirectory.set_password`. The sessions end with it."""
        if len(new_password) < LEAST_LENGTH:
            raise PasswordRejectedError(f"Please use at least {LEAST_LENGTH} characters.")
        if new_password.lower() in _COMMON:
            raise PasswordRejectedError("This password is on every list of common ones. Please choose another.")
        stored = self._hasher.hash(new_password)
        with self._lock:
            self._stored[account_id] = stored
            self._end(account_id)

    def end_sessions(self, account_id: str, /) -> None:
        """See `AccountDirectory.end_sessions`."""
        with self._lock:
            self._end(account_id)

    def _end(self, account_id: str) -> None:
        self._sessions = {token: owner for token, owner in self._sessions.items() if owner != account_id}


def _address(identifier: str) -> str:
    return identifier.strip().lower()
