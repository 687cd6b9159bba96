"""resetkit as its documentation sets it up: threads, an SQLite file, accounts in another one."""

import sqlite3
import threading
import time
from pathlib import Path

from argon2 import PasswordHasher

from resetkit import Account, InvalidTokenError, ResetManager, ResetPolicy
from resetkit.dispatch import ThreadDispatcher
from resetkit.stores import SQLiteTokenStore
from resetkit.testing.timing import roomy_policy


class Accounts:
    """Four statements, a connection for each thread."""

    def __init__(self, path: Path) -> None:
        self._path, self._local = path, threading.local()
        self.run("PRAGMA journal_mode=wal")
        self.run("CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT UNIQUE, password TEXT)")

    def run(self, statement: str, *values: object) -> list:
        if not hasattr(self._local, "connection"):
            self._local.connection = sqlite3.connect(self._path, timeout=60, isolation_level=None)
        return self._local.connection.execute(statement, values).fetchall()

    def _one(self, rows):
        return Account(id=str(rows[0][0]), email=rows[0][1], stamp=rows[0][2]) if rows else None

    def find(self, identifier, /):
        return self._one(self.run("SELECT * FROM users WHERE email = ?", identifier))

    def get(self, account_id, /):
        return self._one(self.run("SELECT * FROM users WHERE id = ?", int(account_id)))

    def set_password(self, account_id, new_password, /):
        self.run("UPDATE users SET password = ? WHERE id = ?", PasswordHasher().hash(new_password), int(account_id))

    def end_sessions(self, account_id, /):
        pass


class SlowMailer:
    seconds = 0.0

    def send(self, mail, /):
        time.sleep(self.seconds)


class Peer:
    name = "resetkit"

    def __init__(self, folder: Path, mail: float, policy: ResetPolicy | None = None) -> None:
        mailer = SlowMailer()
        mailer.seconds = mail
        self.accounts = Accounts(folder / "accounts.sqlite3")
        self.manager = ResetManager(
            self.accounts,
            SQLiteTokenStore(folder / "tokens.sqlite3"),
            mailer,
            link="https://app.example/reset#{token}",
            policy=policy or roomy_policy(),
            dispatcher=ThreadDispatcher(capacity=10**6),
            on_event=lambda _: None,
        )

    def add(self, addresses) -> None:
        password = PasswordHasher().hash("correct horse battery")
        for each in addresses:
            self.accounts.run("INSERT INTO users (email, password) VALUES (?, ?)", each, password)

    def ask(self, address: str) -> None:
        self.manager.request_reset(address, client="192.0.2.1")

    def close(self) -> None:
        self.manager.close(0)

    def link(self, address: str) -> str:
        return self.manager.issue_token(self.accounts.find(address).id).token

    def change(self, address: str, what: str) -> None:
        changed = f"new.{address}" if what == "address" else PasswordHasher().hash("changed elsewhere")
        column = "email" if what == "address" else "password"
        self.accounts.run(f"UPDATE users SET {column} = ? WHERE email = ?", changed, address)

    def prepare(self, token: str):
        def redeem(password: str) -> bool:
            try:
                self.manager.reset_password(token, password, client="192.0.2.1")
            except InvalidTokenError:
                return False
            return True

        return redeem
