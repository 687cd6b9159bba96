"""Sound directories keep every promise, and the kit catches every one that breaks one, by the check that names it."""

import asyncio
import hashlib
import hmac
import itertools
import re
import secrets
import sqlite3
import threading
import unicodedata
import unittest
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from resetkit import Account, AccountDirectory, AsyncAccountDirectory, PasswordRejectedError, ResetPolicy
from resetkit._checks import check_id, is_encodable, is_single_line
from resetkit.testing import AsyncFakeAccounts, BrokenPromiseError, FakeAccounts, unsupported
from resetkit.testing.directories import (
    FOREIGN_IDS,
    MAX_PASSWORD,
    NOBODY,
    PASSWORDS,
    PATTERNS,
    AccountDirectoryConformance,
    AsyncAccountDirectoryConformance,
    _careless,
    _look_alikes,
    _parts,
    _spellings,
)

ALICE = "alice@example.org"
BOB = "bob@example.org"


# The fakes that are shipped.


def fakes() -> FakeAccounts:
    accounts = FakeAccounts(forbidden=["password"])
    accounts.add("1", "Alice@example.org")
    accounts.add("2", BOB)
    return accounts


def log_in_to_fakes(accounts: FakeAccounts, account_id: str) -> Callable[[], bool]:
    accounts.log_in(account_id)
    return lambda: accounts.sessions(account_id) > 0


class TestFakes(AccountDirectoryConformance):
    other_identifier = BOB

    @contextmanager
    def open_accounts(self) -> Generator[FakeAccounts, None, None]:
        yield fakes()

    def rejected_password(self) -> str:
        return "password"

    def log_in(self, accounts: FakeAccounts, account_id: str) -> Callable[[], bool]:
        return log_in_to_fakes(accounts, account_id)

    def knows_password(self, accounts: FakeAccounts, account_id: str, password: str) -> bool:
        return accounts.password(account_id) == password

    def change_address(self, accounts: FakeAccounts, account_id: str, address: str) -> None:
        accounts.change(account_id, email=address)

    def remove(self, accounts: FakeAccounts, account_id: str) -> None:
        accounts.remove(account_id)


class TestAsyncFakes(AsyncAccountDirectoryConformance):
    """Its abilities are of both colours."""

    other_identifier = BOB

    @asynccontextmanager
    async def open_accounts(self) -> AsyncGenerator[AsyncAccountDirectory, None]:
        self.fakes = fakes()
        yield AsyncFakeAccounts(self.fakes)

    def rejected_password(self) -> str:
        return "password"

    def log_in(self, accounts: object, account_id: str) -> Callable[[], bool]:
        return log_in_to_fakes(self.fakes, account_id)

    async def knows_password(self, accounts: object, account_id: str, password: str) -> bool:
        await asyncio.sleep(0)
        return self.fakes.password(account_id) == password

    async def change_address(self, accounts: object, account_id: str, address: str) -> None:
        self.fakes.change(account_id, email=address)

    def remove(self, accounts: object, account_id: str) -> None:
        self.fakes.remove(account_id)


# An application's own, and its twins, each broken in one place.

SCHEMA = """
CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    email TEXT NOT NULL UNIQUE COLLATE NOCASE,
    password_hash TEXT NOT NULL
);
CREATE TABLE sessions (token TEXT PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users ON DELETE CASCADE);
"""


class Own:
    """Sound: users and their sessions in SQLite, and what resetkit asks of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self.transaction() as connection:
            connection.executescript(SCHEMA)

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection, None, None]:
        with closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
            connection.executescript("PRAGMA foreign_keys = ON; PRAGMA synchronous = OFF;")
            yield connection

    def execute(self, statement: str, *values: object) -> list[Any]:
        with self.transaction() as connection:
            return connection.execute(statement, values).fetchall()

    def sign_up(self, email: str, password: str) -> None:
        self.execute("INSERT INTO users (email, password_hash) VALUES (?, ?)", email, self.hashed(password))

    def hashed(self, password: str, salt: bytes = b"") -> str:
        salt = salt or secrets.token_bytes(8)
        return f"{salt.hex()}${hashlib.scrypt(self.plain(password), salt=salt, n=4, r=1, p=1).hex()}"

    def plain(self, password: str) -> bytes:
        return password.encode()

    def knows_password(self, account_id: str, password: str) -> bool:
        ((stored,),) = self.execute("SELECT password_hash FROM users WHERE id = ?", account_id)
        return hmac.compare_digest(stored, self.hashed(password, bytes.fromhex(stored.partition("$")[0])))

    def log_in(self, account_id: str) -> str:
        token = secrets.token_hex()
        self.execute("INSERT INTO sessions VALUES (?, ?)", token, account_id)
        return token

    def is_logged_in(self, token: str) -> bool:
        return bool(self.execute("SELECT 1 FROM sessions WHERE token = ?", token))

    def change_address(self, account_id: str, address: str) -> None:
        self.execute("UPDATE users SET email = ? WHERE id = ?", address, account_id)

    def remove(self, account_id: str) -> None:
        self.execute("DELETE FROM users WHERE id = ?", account_id)

    def find(self, identifier: str, /) -> Account | None:
        return self.account("email = ?", identifier.strip())

    def get(self, account_id: str, /) -> Account | None:
        return self.account("id = ?", account_id)

    def account(self, where: str, *values: str) -> Account | None:
        rows = self.execute(f"SELECT id, email, password_hash FROM users WHERE {where}", *values)
        if not rows:
            return None
        return Account(id=str(rows[0][0]), email=rows[0][1], stamp=rows[0][2])

    def set_password(self, account_id: str, new_password: str, /) -> Any:
        if len(new_password) < 8:
            raise PasswordRejectedError("Please use at least 8 characters.")
        self.write(account_id, new_password)

    def write(self, account_id: str, new_password: str) -> None:
        self.execute("UPDATE users SET password_hash = ? WHERE id = ?", self.hashed(new_password), account_id)

    def end_sessions(self, account_id: str, /) -> None:
        self.execute("DELETE FROM sessions WHERE user_id = ?", account_id)


class InTasks:
    """Any of them, async."""

    def __init__(self, accounts: Own) -> None:
        self.own = accounts

    async def find(self, identifier: str, /) -> Any:
        await asyncio.sleep(0)
        return self.own.find(identifier)

    async def get(self, account_id: str, /) -> Any:
        await asyncio.sleep(0)
        return self.own.get(account_id)

    async def set_password(self, account_id: str, new_password: str, /) -> Any:
        await asyncio.sleep(0)
        return self.own.set_password(account_id, new_password)

    async def end_sessions(self, account_id: str, /) -> None:
        await asyncio.sleep(0)
        self.own.end_sessions(account_id)


def here() -> object:
    """The task that runs, or the thread."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return threading.get_ident()


# Twins: find and get.


class Empty(Own):
    """Has no account to find."""

    def sign_up(self, email: str, password: str) -> None:
        pass


class Disabled(Own):
    """Its account may not reset."""

    def account(self, where: str, *values: str) -> Account | None:
        account = super().account(where, *values)
        return account and replace(account, can_reset=False)


class LowerCasingFind(Own):
    """Answers with another address when it finds than when it reads."""

    def find(self, identifier: str, /) -> Account | None:
        account = self.account("email = ?", identifier)
        return account and replace(account, email=account.email.lower())


class Rows(Own):
    """Answers with rows, which look like accounts."""

    def account(self, where: str, *values: str) -> Any:
        account = super().account(where, *values)
        return account and SimpleNamespace(
            id=account.id, email=str(account.email), stamp=str(account.stamp), can_reset=True
        )


class FalseForNobody(Own):
    """Answers False for nobody."""

    def account(self, where: str, *values: str) -> Any:
        return super().account(where, *values) or False


class StampOfTheVisit(Own):
    """Writes down in the stamp when it was last asked."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.visits = itertools.count()

    def account(self, where: str, *values: str) -> Account | None:
        account = super().account(where, *values)
        return account and replace(account, stamp=f"{account.stamp}{next(self.visits) // 2}")


class Strict(Own):
    """Raises for who is not there, as an ORM's get() does."""

    def account(self, where: str, *values: str) -> Account | None:
        account = super().account(where, *values)
        if account is None:
            raise LookupError("no such user")
        return account


class Concatenating(Own):
    """Writes what was typed into its SQL."""

    def find(self, identifier: str, /) -> Account | None:
        return self.account(f"email = '{identifier}'")


class Injectable(Own):
    """Writes what was typed into its SQL, and takes an error for nobody."""

    def find(self, identifier: str, /) -> Account | None:
        try:
            return self.account(f"email = '{identifier}'")
        except (sqlite3.Error, sqlite3.Warning):
            return None


class Validating(Own):
    """Refuses what is no address."""

    def find(self, identifier: str, /) -> Account | None:
        if not re.fullmatch(r"[^@]+@[^@]+", identifier):
            raise ValueError("not an address")
        return super().find(identifier)


class Like(Own):
    """Compares with LIKE, to ignore the case."""

    def find(self, identifier: str, /) -> Account | None:
        return self.account("email LIKE ?", identifier)


class Containing(Own):
    """Finds by a part, as a search does."""

    def find(self, identifier: str, /) -> Account | None:
        return self.account("instr(lower(email), lower(?))", identifier)


class Beginning(Own):
    """Finds by the beginning."""

    def find(self, identifier: str, /) -> Account | None:
        return self.account("lower(substr(email, 1, length(?1))) = lower(?1)", identifier)


def fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().replace("\u0131", "i").strip()


class MailingWhatWasTyped(Own):
    """CVE-2019-19844: compares what it folded, and mails to what was typed."""

    def find(self, identifier: str, /) -> Account | None:
        account = self.account("email = ?", fold(identifier))
        return account and replace(account, email=identifier.strip())


class MailingTheList(Own):
    """CVE-2023-7028: finds whoever is in the list, and mails to another in it."""

    def find(self, identifier: str, /) -> Account | None:
        first, *others = re.split(r"[,;\s]+", identifier.strip())
        account = self.account("email = ?", first)
        return account and replace(account, email=[account.email, *filter(None, others)][-1])


class Latin1(Own):
    """Speaks no other script."""

    def account(self, where: str, *values: str) -> Account | None:
        return super().account(where, *(value.encode("latin-1").decode("latin-1") for value in values))


class IntIds(Own):
    """Takes every id for a number."""

    def get(self, account_id: str, /) -> Account | None:
        return super().get(str(int(account_id)))


class LargeIds(Own):
    """Takes numbers as large as Python's for SQLite's."""

    def get(self, account_id: str, /) -> Account | None:
        if not re.fullmatch(r"-?[0-9]+", account_id):
            return None
        ((found,),) = self.execute("SELECT count(*) FROM users WHERE id = ?", int(account_id))
        return super().get(account_id) if found else None


class UUIDs(Own):
    """Takes every id for a UUID."""

    def get(self, account_id: str, /) -> Account | None:
        return super().get(account_id if account_id == "1" else str(UUID(account_id)))


class SayingTheAskedId(Own):
    """Says the id that it was asked for."""

    def get(self, account_id: str, /) -> Account | None:
        account = super().get(account_id)
        return account and replace(account, id=account_id)


# Twins: set_password.


class FixedStamp(Own):
    """Takes for a stamp what no new password changes."""

    def account(self, where: str, *values: str) -> Account | None:
        account = super().account(where, *values)
        return account and replace(account, stamp=f"user {account.id}")


class FirstStamp(Own):
    """Changes the stamp once."""

    def account(self, where: str, *values: str) -> Account | None:
        account = super().account(where, *values)
        return account and replace(account, stamp=str(self.knows_password(account.id, "old password")))


class NoStamp(Own):
    """Forgets the stamp with the first new password."""

    def account(self, where: str, *values: str) -> Account | None:
        account = super().account(where, *values)
        return account and (account if self.knows_password(account.id, "old password") else replace(account, stamp=""))


class Forgetful(Own):
    """Writes nothing."""

    def write(self, account_id: str, new_password: str) -> None:
        pass


class Renaming(Own):
    """Cleans the address up while it is there."""

    def write(self, account_id: str, new_password: str) -> None:
        super().write(account_id, new_password)
        self.execute("UPDATE users SET email = lower(email) WHERE id = ?", account_id)


class Reinserting(Own):
    """Writes the row anew, with a new id."""

    def write(self, account_id: str, new_password: str) -> None:
        row = "SELECT id + 100, email, ? FROM users WHERE id = ?"
        self.execute(f"REPLACE INTO users (id, email, password_hash) {row}", self.hashed(new_password), account_id)


class CachingFind(Own):
    """Remembers whom it found."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.found: dict[str, Account | None] = {}

    def find(self, identifier: str, /) -> Account | None:
        if identifier not in self.found:
            self.found[identifier] = super().find(identifier)
        return self.found[identifier]


class IdentityMap(Own):
    """Remembers in each thread or task whom it read there, until a new password is set there."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.read: dict[object, Account | None] = {}

    def get(self, account_id: str, /) -> Account | None:
        if (here(), account_id) not in self.read:
            self.read[here(), account_id] = super().get(account_id)
        return self.read[here(), account_id]

    def write(self, account_id: str, new_password: str) -> None:
        super().write(account_id, new_password)
        self.read.pop((here(), account_id), None)


class Uncommitted(Own):
    """Shows who wrote it what nobody else sees yet: the first write is committed, those after it are not."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.pending: dict[object, str] = {}
        self.writes = 0

    def write(self, account_id: str, new_password: str) -> None:
        self.writes += 1
        if self.writes == 1:
            super().write(account_id, new_password)
        else:
            self.pending[here(), account_id] = self.hashed(new_password)

    def account(self, where: str, *values: str) -> Account | None:
        account = super().account(where, *values)
        return account and replace(account, stamp=self.pending.get((here(), account.id), str(account.stamp)))


class AllRows(Own):
    """Forgets whose password it is."""

    def write(self, account_id: str, new_password: str) -> None:
        self.execute("UPDATE users SET password_hash = ?", self.hashed(new_password))


class OneStamp(Own):
    """Has one stamp for all."""

    def account(self, where: str, *values: str) -> Account | None:
        account = super().account(where, *values)
        return account and replace(account, stamp=str(self.execute("SELECT password_hash FROM users ORDER BY id")))


class BcryptLike(Own):
    """Passes on what bcrypt raises for more than 72 bytes."""

    def plain(self, password: str) -> bytes:
        if len(password.encode()) > 72:
            raise ValueError("password cannot be longer than 72 bytes")
        return password.encode()


class ASCIIPasswords(Own):
    """Passes on what an encoder raises."""

    def plain(self, password: str) -> bytes:
        return password.encode("ascii")


class WritingThenRefusing(Own):
    """Writes before it judges."""

    def set_password(self, account_id: str, new_password: str, /) -> None:
        self.write(account_id, new_password)
        super().set_password(account_id, new_password)


class KeepingThePasswordButNotTheStamp(Own):
    """Ignores what does not fit into its column, and says nothing."""

    def write(self, account_id: str, new_password: str) -> None:
        if len(new_password) <= 128:
            super().write(account_id, new_password)


class RaisingValueError(Own):
    """Refuses with an error of its own."""

    def set_password(self, account_id: str, new_password: str, /) -> None:
        try:
            super().set_password(account_id, new_password)
        except PasswordRejectedError as rejected:
            raise ValueError("too weak") from rejected


class AnsweringFalse(Own):
    """Refuses with an answer."""

    def set_password(self, account_id: str, new_password: str, /) -> bool:
        try:
            super().set_password(account_id, new_password)
        except PasswordRejectedError:
            return False
        return True


class SeparateStamp(Own):
    """Writes the password before it judges, and the stamp after."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.stamps: dict[str, str] = {}

    def set_password(self, account_id: str, new_password: str, /) -> None:
        self.write(account_id, new_password)
        super().set_password(account_id, new_password)
        self.stamps[account_id] = secrets.token_hex()

    def account(self, where: str, *values: str) -> Account | None:
        account = super().account(where, *values)
        return account and replace(account, stamp=self.stamps.get(account.id, "first"))


class EndingThenRefusing(Own):
    """Ends the sessions before it judges."""

    def set_password(self, account_id: str, new_password: str, /) -> None:
        self.end_sessions(account_id)
        super().set_password(account_id, new_password)


class AddingPasswords(Own):
    """Lets the old password in as well."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.passwords: set[str] = set()

    def write(self, account_id: str, new_password: str) -> None:
        super().write(account_id, new_password)
        self.passwords.add(new_password)

    def knows_password(self, account_id: str, password: str) -> bool:
        return password in self.passwords


class WritingAnother(Own):
    """Hashes something else than what it was given."""

    def write(self, account_id: str, new_password: str) -> None:
        super().write(account_id, f"{new_password}\n")


class Trimming(Own):
    """Trims."""

    def plain(self, password: str) -> bytes:
        return password.strip().encode()


class TrimmingAtLogIn(Own):
    """Trims what is typed at log-in, and not here."""

    def knows_password(self, account_id: str, password: str) -> bool:
        return super().knows_password(account_id, password.strip())


class At72Bytes(Own):
    """Cuts as old bcrypt does."""

    def plain(self, password: str) -> bytes:
        return password.encode()[:72]


class At99(Own):
    """Cuts one character off."""

    def plain(self, password: str) -> bytes:
        return password[:99].encode()


class LowerCasing(Own):
    """Ignores the case."""

    def plain(self, password: str) -> bytes:
        return password.lower().encode()


class DroppingAccents(Own):
    """Drops what is not ASCII."""

    def plain(self, password: str) -> bytes:
        return password.encode("ascii", "ignore")


class Normalising(Own):
    """Sound: normalises what it hashes, as NIST SP 800-63B-4, 3.1.1.2, recommends."""

    def plain(self, password: str) -> bytes:
        return unicodedata.normalize("NFKC", password).encode()


class AtMost64(Own):
    """Sound: refuses what is longer."""

    def set_password(self, account_id: str, new_password: str, /) -> None:
        if len(new_password) > 64:
            raise PasswordRejectedError("Please use at most 64 characters.")
        super().set_password(account_id, new_password)


# Twins: end_sessions, and what others change.


class NeedingASession(Own):
    """Raises when there is nothing to end."""

    def end_sessions(self, account_id: str, /) -> None:
        tokens = self.execute("SELECT token FROM sessions WHERE user_id = ?", account_id)
        self.execute("DELETE FROM sessions WHERE token >= ?", min(token for (token,) in tokens))


class EndingTheAccount(Own):
    """Ends sessions by ending whose they are."""

    def end_sessions(self, account_id: str, /) -> None:
        super().end_sessions(account_id)
        self.execute("DELETE FROM users WHERE id = ?", account_id)


class EndingTheNewest(Own):
    """Ends one session."""

    def end_sessions(self, account_id: str, /) -> None:
        newest = "(SELECT max(rowid) FROM sessions WHERE user_id = ?)"
        self.execute(f"DELETE FROM sessions WHERE rowid = {newest}", account_id)


class EndingForGood(Own):
    """Refuses every session of an account that was logged out once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.out = False

    def end_sessions(self, account_id: str, /) -> None:
        self.out = True

    def is_logged_in(self, token: str) -> bool:
        return not self.out


class EndingAll(Own):
    """Ends everybody's sessions."""

    def end_sessions(self, account_id: str, /) -> None:
        self.execute("DELETE FROM sessions")


class CachingGet(Own):
    """Remembers whom it read until a new password is set."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.read: dict[str, Account | None] = {}

    def get(self, account_id: str, /) -> Account | None:
        if account_id not in self.read:
            self.read[account_id] = super().get(account_id)
        return self.read[account_id]

    def find(self, identifier: str, /) -> Account | None:
        account = super().find(identifier)
        return account and self.get(account.id)

    def write(self, account_id: str, new_password: str) -> None:
        super().write(account_id, new_password)
        self.read.clear()


class SoftDeleting(Own):
    """Still reads who was removed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.removed: set[str] = set()

    def remove(self, account_id: str) -> None:
        self.removed.add(account_id)

    def find(self, identifier: str, /) -> Account | None:
        account = super().find(identifier)
        return None if account and account.id in self.removed else account


class SharedConnection(Own):
    """Has one connection, which one thread or task may use at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.connection: object = None

    def account(self, where: str, *values: str) -> Account | None:
        self.connection = self.connection or here()
        if self.connection != here():
            raise sqlite3.ProgrammingError("objects created in a thread can only be used in that same thread")
        return super().account(where, *values)


TWINS: dict[str, tuple[type[Own], ...]] = {
    "test_an_account_is_found_and_read_alike": (Empty, Disabled, LowerCasingFind),
    "test_answers_are_accounts_or_none": (Rows, FalseForNobody),
    "test_reading_changes_nothing": (StampOfTheVisit,),
    "test_what_nobody_is_called_is_none": (Strict, Concatenating, Injectable, Validating, FalseForNobody),
    "test_a_pattern_finds_nobody": (Like, Containing, Beginning),
    "test_a_look_alike_is_answered_with_the_stored_address": (MailingWhatWasTyped, MailingTheList),
    "test_any_text_is_taken_by_find": (Latin1, MailingWhatWasTyped),
    "test_a_foreign_id_is_none": (IntIds, LargeIds, UUIDs, Strict, FalseForNobody),
    "test_an_id_in_another_spelling_is_none_or_the_same_account": (SayingTheAskedId,),
    "test_any_id_is_taken_by_get": (Latin1, IntIds),
    "test_a_new_password_changes_the_stamp": (
        *(FixedStamp, FirstStamp, NoStamp, Forgetful, Renaming, Reinserting, CachingFind),
    ),
    "test_a_new_password_is_seen_everywhere_at_once": (IdentityMap, Uncommitted, CachingFind),
    "test_a_new_password_is_of_no_concern_to_others": (AllRows, OneStamp),
    "test_any_password_is_taken_or_refused": (
        *(BcryptLike, ASCIIPasswords, WritingThenRefusing, KeepingThePasswordButNotTheStamp, RaisingValueError),
    ),
    "test_a_refused_password_changes_nothing": (WritingThenRefusing, RaisingValueError, AnsweringFalse),
    "test_a_refused_password_leaves_the_old_one": (SeparateStamp, AnsweringFalse),
    "test_a_refused_password_ends_no_session": (EndingThenRefusing,),
    "test_the_new_password_counts_and_no_other": (AddingPasswords, WritingAnother, Forgetful),
    "test_a_password_is_kept_whole": (Trimming, TrimmingAtLogIn, At72Bytes, At99, LowerCasing, DroppingAccents),
    "test_end_sessions_may_be_called_twice": (NeedingASession,),
    "test_ending_sessions_leaves_the_account": (EndingTheAccount,),
    "test_every_session_ends": (EndingTheNewest, EndingForGood),
    "test_sessions_of_others_live_on": (EndingAll,),
    "test_a_changed_address_is_seen_at_once": (CachingFind, CachingGet),
    "test_a_removed_account_is_gone": (SoftDeleting, CachingFind),
    "test_several_may_call_at_once": (SharedConnection,),
}
SOUND = (Own, Normalising, AtMost64)
PAIRS = pytest.mark.parametrize(
    ("check", "twin"),
    [(check, twin) for check, twins in TWINS.items() for twin in twins],
    ids=[f"{check}-{twin.__name__}" for check, twins in TWINS.items() for twin in twins],
)
CHECKS = pytest.mark.parametrize("check", TWINS)


@contextmanager
def opened(kind: type[Own]) -> Generator[Own, None, None]:
    with TemporaryDirectory() as folder:
        accounts = kind(Path(folder) / "users.sqlite3")
        accounts.sign_up("Alice@example.org", "old password")
        accounts.sign_up(BOB, "old password")
        yield accounts


class OwnKit(AccountDirectoryConformance):
    __test__ = False
    other_identifier = BOB

    def __init__(self, kind: type[Own]) -> None:
        self._kind = kind

    def open_accounts(self) -> AbstractContextManager[AccountDirectory]:
        return opened(self._kind)

    def rejected_password(self) -> str:
        return "short"

    def log_in(self, accounts: Own, account_id: str) -> Callable[[], bool]:
        return partial(accounts.is_logged_in, accounts.log_in(account_id))

    def knows_password(self, accounts: Own, account_id: str, password: str) -> bool:
        return accounts.knows_password(account_id, password)

    def change_address(self, accounts: Own, account_id: str, address: str) -> None:
        accounts.change_address(account_id, address)

    def remove(self, accounts: Own, account_id: str) -> None:
        accounts.remove(account_id)


class AsyncOwnKit(AsyncAccountDirectoryConformance):
    __test__ = False
    other_identifier = BOB

    def __init__(self, kind: type[Own]) -> None:
        self._kind = kind

    @asynccontextmanager
    async def open_accounts(self) -> AsyncGenerator[AsyncAccountDirectory, None]:
        with opened(self._kind) as accounts:
            yield InTasks(accounts)

    def rejected_password(self) -> str:
        return "short"

    async def log_in(self, accounts: InTasks, account_id: str) -> Callable[[], Awaitable[bool]]:
        token = accounts.own.log_in(account_id)

        async def is_logged_in() -> bool:
            return accounts.own.is_logged_in(token)

        return is_logged_in

    async def knows_password(self, accounts: InTasks, account_id: str, password: str) -> bool:
        return accounts.own.knows_password(account_id, password)

    async def change_address(self, accounts: InTasks, account_id: str, address: str) -> None:
        accounts.own.change_address(account_id, address)

    async def remove(self, accounts: InTasks, account_id: str) -> None:
        accounts.own.remove(account_id)


KITS = pytest.mark.parametrize("kit", [OwnKit, AsyncOwnKit])


@KITS
@CHECKS
@pytest.mark.parametrize("sound", SOUND)
def test_a_sound_directory_keeps_each_promise(kit: Any, check: str, sound: type[Own]) -> None:
    getattr(kit(sound), check)()


@KITS
@PAIRS
def test_a_broken_directory_is_caught(kit: Any, check: str, twin: type[Own]) -> None:
    with pytest.raises(BrokenPromiseError) as broken:
        getattr(kit(twin), check)()
    assert kit.promises()[check].says in str(broken.value)


def test_every_promise_has_a_broken_twin() -> None:
    """A check that cannot fail is a defect."""
    assert set(TWINS) == set(AccountDirectoryConformance.promises()) == set(AsyncAccountDirectoryConformance.promises())


# What an author has not declared.

NEEDS = {
    "test_a_new_password_is_of_no_concern_to_others": "other_identifier",
    "test_a_refused_password_changes_nothing": "rejected_password",
    "test_a_refused_password_leaves_the_old_one": "rejected_password",
    "test_a_refused_password_ends_no_session": "rejected_password",
    "test_the_new_password_counts_and_no_other": "knows_password",
    "test_a_password_is_kept_whole": "knows_password",
    "test_every_session_ends": "log_in",
    "test_sessions_of_others_live_on": "other_identifier",
    "test_a_changed_address_is_seen_at_once": "change_address",
    "test_a_removed_account_is_gone": "remove",
}


class Bare(AccountDirectoryConformance):
    """What an author writes at the least."""

    __test__ = False

    def open_accounts(self) -> AbstractContextManager[AccountDirectory]:
        return opened(Own)


@CHECKS
def test_without_an_ability_its_checks_are_skipped_with_a_hint(check: str) -> None:
    if check in NEEDS:
        with pytest.raises(unittest.SkipTest, match=NEEDS[check]):
            getattr(Bare(), check)()
    else:
        getattr(Bare(), check)()


@pytest.mark.parametrize("base", [AccountDirectoryConformance, AsyncAccountDirectoryConformance])
def test_the_base_cannot_open_a_directory(base: Any) -> None:
    with pytest.raises(NotImplementedError):
        base().open_accounts()


def test_an_ability_that_is_stated_missing_says_why() -> None:
    class Kit(Bare):
        __test__ = False
        log_in = unsupported("there are no sessions")

    with pytest.raises(unittest.SkipTest, match="no sessions"):
        Kit().test_every_session_ends()


@pytest.mark.parametrize(
    ("stated", "hint"),
    [
        ({"identifier": "carol@example.org"}, "open_accounts must make it"),
        ({"password": "short"}, "set `password` to one that is taken"),
    ],
)
def test_a_kit_that_is_set_up_wrongly_says_what_to_change(stated: dict[str, str], hint: str) -> None:
    kit = type("Kit", (Bare,), {"__test__": False, **stated})()
    with pytest.raises(BrokenPromiseError, match=re.escape(hint)):
        kit.test_a_new_password_changes_the_stamp()


def test_the_failure_shows_what_differs() -> None:
    with pytest.raises(BrokenPromiseError) as broken:
        OwnKit(MailingWhatWasTyped).test_a_look_alike_is_answered_with_the_stored_address()
    assert "email='Alice@example.org'" in str(broken.value)
    assert "email='al\u0131ce@example.org'" in str(broken.value)


# What the kit asks is what a manager may ask.

IDENTIFIERS = ("alice@example.org", "bob", "+49 30 123456", "x")


@pytest.mark.parametrize("identifier", IDENTIFIERS)
def test_every_identifier_that_is_tried_is_one_line_of_text(identifier: str) -> None:
    for text in (*NOBODY, *PATTERNS, *_look_alikes(identifier), *_parts(identifier)):
        assert is_single_line(text), text
        assert len(text) <= 320
    for text in (*NOBODY, *PATTERNS, *_look_alikes(identifier)):
        assert text.strip()
        assert text != identifier


@pytest.mark.parametrize("account_id", ["1", "alice", "Ä" * 255, "c56a4180-65aa-42ec-a945-5fd21dec0538"])
def test_every_id_that_is_tried_is_one_that_an_account_may_have(account_id: str) -> None:
    for text in (*FOREIGN_IDS, *_spellings(account_id)):
        assert check_id("id", text) != account_id


def test_every_password_that_is_tried_is_one_that_the_manager_passes() -> None:
    careless = _careless("Correct-Horse-7-Battery!")
    for password in (*PASSWORDS, *careless):
        assert 1 <= len(password) <= MAX_PASSWORD == ResetPolicy().max_password_length
        assert is_encodable(password)
        assert password not in careless.get(password, ())
    assert len(set(PASSWORDS)) == len(PASSWORDS)


class TestFakeAccounts:
    def test_an_address_of_two_accounts_finds_none(self) -> None:
        """ "None if there is none, or several": whose the mail would be is not for a fake to choose."""
        accounts = fakes()
        accounts.add("3", BOB.upper())
        assert accounts.find(BOB) is None

    def test_a_forbidden_password_is_refused_and_nothing_changed(self) -> None:
        accounts = fakes()
        before = accounts.get("1")
        with pytest.raises(PasswordRejectedError):
            accounts.set_password("1", "password")
        assert (accounts.get("1"), accounts.sessions("1")) == (before, 1)
