"""A complete reset to copy: accounts in SQLite with argon2-hashed passwords, and the manager on top.

Run it: ``python examples/quickstart.py``. It makes a folder of its own, prints the mail instead of sending it, and
plays the visitor too. To send real mail, give the manager an SMTPMailer instead.
"""

import hashlib
import io
import secrets
import sqlite3
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from resetkit import Account, InvalidTokenError, PasswordRejectedError, ResetManager
from resetkit.mailers import ConsoleMailer
from resetkit.stores import SQLiteTokenStore

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY,
    email TEXT NOT NULL UNIQUE COLLATE NOCASE,
    password_hash TEXT NOT NULL,
    active INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE IF NOT EXISTS sessions (
    token_digest TEXT PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users
);
"""

hasher = PasswordHasher()
NOBODY = hasher.hash(secrets.token_urlsafe(32))


class Accounts:
    """Users and their sessions, and what resetkit asks of them: find, get, set_password, end_sessions."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._transaction() as connection:
            connection.executescript(SCHEMA)

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """A connection of its own for each piece of work, so that every thread may call."""
        with closing(sqlite3.connect(self._path, timeout=10)) as connection, connection:
            yield connection

    def sign_up(self, email: str, password: str) -> None:
        """Make a user."""
        with self._transaction() as connection:
            row = (email, hasher.hash(password))
            connection.execute("INSERT INTO users (email, password_hash) VALUES (?, ?)", row)

    def log_in(self, email: str, password: str) -> str | None:
        """A new session's token, or None."""
        with self._transaction() as connection:
            query = "SELECT id, password_hash FROM users WHERE email = ? AND active"
            user_id, password_hash = connection.execute(query, (email,)).fetchone() or (None, NOBODY)
            try:
                hasher.verify(password_hash, password)  # for nobody too, so that the time tells nothing
            except VerificationError:
                return None
            token = secrets.token_urlsafe(32)
            # Only if the password is the same still: a log-in that races a reset must not outlive it.
            insert = "INSERT INTO sessions SELECT ?, id FROM users WHERE id = ? AND password_hash = ?"
            inserted = connection.execute(insert, (_digest(token), user_id, password_hash))
            return token if inserted.rowcount else None

    def who(self, token: str) -> str | None:
        """The address of who is logged in."""
        with self._transaction() as connection:
            query = "SELECT email FROM sessions JOIN users ON id = user_id WHERE token_digest = ? AND active"
            row = connection.execute(query, (_digest(token),)).fetchone()
            return None if row is None else str(row[0])

    def log_out(self, token: str) -> None:
        """End one log-in."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE token_digest = ?", (_digest(token),))

    def find(self, identifier: str, /) -> Account | None:
        """For resetkit: who is this, as typed?"""
        return self._account("email", identifier.strip())

    def get(self, account_id: str, /) -> Account | None:
        """For resetkit: who is this, by id?"""
        return self._account("id", account_id)

    def _account(self, column: str, value: str) -> Account | None:
        with self._transaction() as connection:
            query = f"SELECT id, email, password_hash, active FROM users WHERE {column} = ?"  # noqa: S608  # a constant
            row = connection.execute(query, (value,)).fetchone()
        if row is None:
            return None
        return Account(id=str(row[0]), email=row[1], stamp=row[2], can_reset=bool(row[3]))

    def set_password(self, account_id: str, new_password: str, /) -> None:
        """For resetkit: the new password and the end of all sessions, in one transaction."""
        if len(new_password) < 8:  # noqa: PLR2004  # NIST SP 800-63B-4, 3.1.1.2
            raise PasswordRejectedError("Please use at least 8 characters.")
        with self._transaction() as connection:
            new_hash = hasher.hash(new_password)
            connection.execute("UPDATE users SET password_hash = ? WHERE id = ?", (new_hash, account_id))
            connection.execute("DELETE FROM sessions WHERE user_id = ?", (account_id,))

    def end_sessions(self, account_id: str, /) -> None:
        """For resetkit: once more, since it may be called without `set_password` having come to its end."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE user_id = ?", (account_id,))


def _digest(token: str) -> str:
    """What is kept of a session's token, so that a stolen database opens no session."""
    return hashlib.sha256(token.encode()).hexdigest()


def main() -> None:
    """Play the visitor."""
    with tempfile.TemporaryDirectory() as folder:
        play(Path(folder))


def play(folder: Path) -> None:
    """Sign up, forget the password, reset it, and log in again."""
    accounts = Accounts(folder / "users.sqlite3")
    accounts.sign_up("alice@example.org", "correct horse battery")
    session = accounts.log_in("alice@example.org", "correct horse battery")

    # For real mail, SMTPMailer from resetkit.mailers takes this place: with your server's name, sender="...",
    # username="..." and password="...".
    printed = io.StringIO()
    mailer = ConsoleMailer(printed)

    store = SQLiteTokenStore(folder / "tokens.sqlite3")
    manager = ResetManager(accounts, store, mailer, link="https://app.example/reset#{token}")

    print(manager.request_reset("Alice@Example.org", client="192.0.2.1").message)
    manager.close()  # an application does this at its end; here it sends the mail at once
    print(printed.getvalue())
    token = printed.getvalue().partition("/reset#")[2].split()[0]

    manager = ResetManager(accounts, store, mailer, link="https://app.example/reset#{token}")
    for password in ("short", "a much longer one", "and another one"):
        try:
            manager.reset_password(token, password, client="192.0.2.1")
        except PasswordRejectedError as rejected:
            print("refused:", *rejected.messages)
        except InvalidTokenError as refused:
            print("refused:", refused)
        else:
            print("The password was changed.")
    manager.close()
    store.close()

    print("still logged in:", session is not None and accounts.who(session) is not None)
    print("old password works:", accounts.log_in("alice@example.org", "correct horse battery") is not None)
    print("new password works:", accounts.log_in("alice@example.org", "a much longer one") is not None)


if __name__ == "__main__":
    main()
