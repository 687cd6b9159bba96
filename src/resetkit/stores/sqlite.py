"""Records in an SQLite file: for any number of threads and processes on one machine.

WAL with synchronous=FULL: with NORMAL, the last commits may be lost when the power fails (sqlite.org/wal.html), and a
used token would come back. Each change is one guarded statement or a transaction that takes the write lock at its
first statement, so that nothing is read that another is about to change.
"""

import os
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from resetkit._checks import check_duration
from resetkit._confidential import clear_locals
from resetkit._fork import hold_for_forks
from resetkit._threads import Threads
from resetkit.errors import ConfigurationError, DuplicateSelectorError
from resetkit.stores._rows import COLUMNS, record_of, seconds, values_of
from resetkit.values import REPLACED_FIELDS, Quota, TokenRecord

SCHEMA_VERSION: Final = 1
BUSY_TIMEOUT: Final = timedelta(seconds=10)

_THREADS: Final = 4  # one writes, the others read or wait
_WAL_PAUSE: Final = 0.01  # seconds; about what one such change takes

# position: the order of add. AUTOINCREMENT never gives a purged one again.
_SCHEMA: Final = (
    """CREATE TABLE resetkit_tokens (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        selector TEXT NOT NULL UNIQUE,
        account_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        link_hash TEXT NOT NULL,
        code_hash TEXT,
        stamp_digest TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        code_expires_at INTEGER,
        keep_until INTEGER NOT NULL,
        guesses INTEGER NOT NULL,
        state TEXT NOT NULL,
        claim_id TEXT
    )""",
    "CREATE INDEX resetkit_tokens_by_account ON resetkit_tokens (account_id, kind, created_at)",
    "CREATE INDEX resetkit_tokens_by_keep_until ON resetkit_tokens (keep_until)",
    "CREATE TABLE resetkit_schema (version INTEGER NOT NULL)",
    f"INSERT INTO resetkit_schema VALUES ({SCHEMA_VERSION})",
)

_SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM resetkit_tokens WHERE selector = ?"
_INSERT: Final = f"INSERT INTO resetkit_tokens ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_REPLACE: Final = (
    f"UPDATE resetkit_tokens SET {', '.join(f'{name} = ?' for name in REPLACED_FIELDS)} WHERE selector = ?"
)
_COUNT: Final = "SELECT count(*) FROM resetkit_tokens WHERE account_id = ? AND kind = ? AND created_at >= ?"
_SUPERSEDE: Final = """UPDATE resetkit_tokens
    SET claim_id = NULL, state = CASE state WHEN 'outstanding' THEN 'superseded' ELSE state END
    WHERE account_id = ? AND (claim_id IS NOT NULL OR position IN (
        SELECT position FROM resetkit_tokens
        WHERE account_id = ? AND kind = ? AND state = 'outstanding' AND expires_at > ?
        ORDER BY position DESC LIMIT -1 OFFSET ?))"""
_ATTEMPT: Final = "UPDATE resetkit_tokens SET guesses = guesses + 1 WHERE selector = ? AND guesses < ?"
_USE: Final = """UPDATE resetkit_tokens SET state = 'used', claim_id = ?
    WHERE selector = ? AND state = 'outstanding' AND expires_at > ?"""
_END_OTHERS: Final = """UPDATE resetkit_tokens
    SET claim_id = NULL, state = CASE state WHEN 'outstanding' THEN 'revoked' ELSE state END
    WHERE account_id = (SELECT account_id FROM resetkit_tokens WHERE selector = ?) AND selector <> ?
    AND (state = 'outstanding' AND expires_at > ? OR claim_id IS NOT NULL)"""
_CLAIMED: Final = "SELECT 1 FROM resetkit_tokens WHERE selector = ? AND claim_id = ?"
_RELEASE: Final = """UPDATE resetkit_tokens
    SET state = 'outstanding', claim_id = NULL, guesses = max(0, guesses - ?)
    WHERE selector = ? AND claim_id = ?"""
_REVOKE: Final = """UPDATE resetkit_tokens SET state = 'revoked'
    WHERE account_id = ? AND state = 'outstanding' AND expires_at > ?"""
_CLEAR_CLAIMS: Final = "UPDATE resetkit_tokens SET claim_id = NULL WHERE account_id = ? AND claim_id IS NOT NULL"
_DUE: Final = "SELECT position FROM resetkit_tokens WHERE keep_until < ? ORDER BY keep_until LIMIT ?"
_PURGE: Final = f"DELETE FROM resetkit_tokens WHERE position IN ({_DUE})"

# Result codes (sqlite.org/rescode.html) that say something of the file, not of the moment.
_SAYINGS: Final = {
    sqlite3.SQLITE_NOTADB: "is no SQLite database: give another path, or move the file away",
    sqlite3.SQLITE_READONLY: "cannot be written: make the file and its folder writable for this user",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: its folder must exist and be writable for this user",
}


class SQLiteTokenStore:
    """Keeps records in the SQLite file at `path`, which is made if it is not there.

    The file may be the application's own database: the tables' names begin with ``resetkit_``. Put it on a local disk,
    since WAL does not work over a network. A writer waits at most `busy_timeout` for others, then raises
    ``sqlite3.OperationalError``. May be used from any thread and survives a fork: each operation has a connection to
    itself. With ``create=False`` a file without resetkit's tables is refused and left as it is. Raises
    ConfigurationError if the file is no database, cannot be written, or was made by a newer resetkit.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, busy_timeout: timedelta = BUSY_TIMEOUT, create: bool = True
    ) -> None:
        self._path = _file_path(path)
        self._create = create
        self._busy_seconds = check_duration("busy_timeout", busy_timeout, whole=False).total_seconds()
        self._closed = False
        self._idle: list[sqlite3.Connection] = []
        self._finalizer = weakref.finalize(self, _close_all, self._idle)
        self._start_afresh()
        hold_for_forks(self)
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise _explained(self._path, error) from error

    def close(self) -> None:
        """Close the file: idle connections now, those in use when they are done. Later operations: RuntimeError."""
        self._closed = True
        self._finalizer()

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        """See `TokenStore.add`."""
        now = seconds(record.created_at)
        account, kind = record.account_id, record.kind
        with self._transaction() as connection:
            existing = _read(connection, record.selector)
            if existing is not None:
                return _replace(connection, existing, record)
            for quota in quotas:
                if _count(connection, account, kind, seconds(quota.since)) >= quota.count:
                    return False
            connection.execute(_SUPERSEDE, (account, account, kind, now, keep - 1))
            connection.execute(_INSERT, tuple(values_of(record).values()))
            return True

    def get(self, selector: str, /) -> TokenRecord | None:
        """See `TokenStore.get`."""
        with self._connection() as connection:
            return _read(connection, selector)

    def attempt(self, selector: str, /, *, limit: int) -> bool:
        """See `TokenStore.attempt`."""
        with self._connection() as connection:
            return connection.execute(_ATTEMPT, (selector, limit)).rowcount == 1

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        """See `TokenStore.claim`."""
        with self._transaction() as connection:
            at = seconds(now)
            if connection.execute(_USE, (claim_id, selector, at)).rowcount == 1:
                connection.execute(_END_OTHERS, (selector, selector, at))
                return True
            return connection.execute(_CLAIMED, (selector, claim_id)).fetchone() is not None

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        """See `TokenStore.release`."""
        with self._connection() as connection:
            return connection.execute(_RELEASE, (int(guess), selector, claim_id)).rowcount == 1

    def revoke(self, account_id: str, /, *, now: datetime) -> int:
        """See `TokenStore.revoke`."""
        with self._transaction() as connection:
            count = connection.execute(_REVOKE, (account_id, seconds(now))).rowcount
            connection.execute(_CLEAR_CLAIMS, (account_id,))
            return count

    def purge(self, *, before: datetime, limit: int) -> int:
        """See `TokenStore.purge`."""
        with self._connection() as connection:
            return connection.execute(_PURGE, (seconds(before), limit)).rowcount

    def count_due(self, *, before: datetime, limit: int) -> int:
        """How many records `purge` would delete; it deletes none."""
        with self._connection() as connection:
            return len(connection.execute(_DUE, (seconds(before), limit)).fetchall())

    def _hold(self) -> None:
        """Before a fork: no connection may be open, for SQLite's locks are the process's (sqlite.org/howtocorrupt).

        A child that inherits one believes in locks that it does not have, and its commits can vanish. So operations in
        progress are waited for, as long as they may wait for the file, and new ones wait.
        """
        with self._at_rest:
            self._holding = True
            self._at_rest.wait_for(lambda: not self._busy, self._busy_seconds)
            _close_all(self._idle)

    def _resume(self) -> None:
        with self._at_rest:
            self._holding = False
            self._at_rest.notify_all()

    def _start_afresh(self) -> None:
        self._at_rest = threading.Condition()
        self._holding = False
        self._busy = 0

    @contextmanager
    def _connection(self) -> Generator[sqlite3.Connection, None, None]:
        """A connection for one operation alone. After an error it is rolled back, closed, and not used again.

        Closing alone would keep the file locked as long as somebody keeps the error: its traceback holds the cursor of
        a read that was cut off, and SQLite ends the transaction with the last statement only.
        """
        outer = sys.exception()
        with self._at_rest:
            self._at_rest.wait_for(lambda: not self._holding)
            self._busy += 1
        try:
            connection = self._take()
            try:
                yield connection
            except BaseException as error:
                with suppress(sqlite3.Error):
                    connection.rollback()
                connection.close()
                clear_locals(error, outer)
                raise
            self._idle.append(connection)
            if self._closed:
                _close_all(self._idle)
        finally:
            with self._at_rest:
                self._busy -= 1
                self._at_rest.notify_all()

    def _take(self) -> sqlite3.Connection:
        if self._closed:
            raise RuntimeError("this store is closed")
        try:
            return self._idle.pop()
        except IndexError:
            return self._open()

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone leaves data in the drive's cache
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Once for each file. SQLite answers "locked" at once, not after its busy timeout, while others do the same."""
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_WAL_PAUSE)  # SQLite gives nothing to wait on
                continue
            if mode != "wal":
                raise ConfigurationError(f"{self._path} cannot use write-ahead logging: put it on a local disk")
            return

    def _prepare(self) -> None:
        with self._connection() as connection:
            if not self._create and not _has_tables(connection):
                raise ConfigurationError(f"{self._path} holds no tokens: give the file that SQLiteTokenStore was given")
            self._use_wal(connection)
        with self._transaction() as connection:
            if not _has_tables(connection):
                for statement in _SCHEMA:
                    connection.execute(statement)
            (version,) = connection.execute("SELECT max(version) FROM resetkit_schema").fetchone()
            if version != SCHEMA_VERSION:
                message = f"{self._path} has schema {version}; this resetkit knows {SCHEMA_VERSION}: upgrade resetkit"
                raise ConfigurationError(message)


class AsyncSQLiteTokenStore:
    """`SQLiteTokenStore`, async: each operation runs in a thread, since each waits for the disk."""

    def __init__(
        self, path: str | os.PathLike[str], *, busy_timeout: timedelta = BUSY_TIMEOUT, create: bool = True
    ) -> None:
        self._store = SQLiteTokenStore(path, busy_timeout=busy_timeout, create=create)
        self._threads = Threads(_THREADS, "resetkit-sqlite")

    def close(self) -> None:
        """As `SQLiteTokenStore.close`."""
        self._store.close()
        self._threads.close()

    async def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        """See `TokenStore.add`."""
        return await self._threads.run(partial(self._store.add, record, quotas=quotas, keep=keep))

    async def get(self, selector: str, /) -> TokenRecord | None:
        """See `TokenStore.get`."""
        return await self._threads.run(partial(self._store.get, selector))

    async def attempt(self, selector: str, /, *, limit: int) -> bool:
        """See `TokenStore.attempt`."""
        return await self._threads.run(partial(self._store.attempt, selector, limit=limit))

    async def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        """See `TokenStore.claim`."""
        return await self._threads.run(partial(self._store.claim, selector, claim_id=claim_id, now=now))

    async def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        """See `TokenStore.release`."""
        return await self._threads.run(partial(self._store.release, selector, claim_id=claim_id, guess=guess))

    async def revoke(self, account_id: str, /, *, now: datetime) -> int:
        """See `TokenStore.revoke`."""
        return await self._threads.run(partial(self._store.revoke, account_id, now=now))

    async def purge(self, *, before: datetime, limit: int) -> int:
        """See `TokenStore.purge`."""
        return await self._threads.run(partial(self._store.purge, before=before, limit=limit))

    async def count_due(self, *, before: datetime, limit: int) -> int:
        """As `SQLiteTokenStore.count_due`."""
        return await self._threads.run(partial(self._store.count_due, before=before, limit=limit))


def _close_all(connections: list[sqlite3.Connection]) -> None:
    while connections:
        connections.pop().close()


def _file_path(path: str | os.PathLike[str]) -> str:
    try:
        text = os.fspath(path)
    except TypeError:
        raise ConfigurationError(f"SQLiteTokenStore needs the path of a file, not {type(path).__name__}") from None
    if text in {"", ":memory:"}:
        raise ConfigurationError("SQLiteTokenStore needs the path of a file; for memory, use MemoryTokenStore")
    if text.startswith("file:") or "://" in text:
        raise ConfigurationError("SQLiteTokenStore needs the path of a file, not a URL")
    if os.path.isdir(text):  # noqa: PTH112  # the path is text already
        raise ConfigurationError(f"{text} is a folder: SQLiteTokenStore needs the path of a file in it")
    return os.path.abspath(text)  # noqa: PTH100  # a process that changes its folder goes on with the same file


def _has_tables(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'resetkit_schema'").fetchone() is not None


def _explained(path: str, error: sqlite3.DatabaseError) -> Exception:
    saying = _SAYINGS.get(error.sqlite_errorcode & 0xFF)
    return ConfigurationError(f"{path} {saying}") if saying else error


def _read(connection: sqlite3.Connection, selector: str) -> TokenRecord | None:
    row = connection.execute(_SELECT, (selector,)).fetchone()
    return None if row is None else record_of(row)


def _replace(connection: sqlite3.Connection, existing: TokenRecord, record: TokenRecord) -> bool:
    if existing.account_id != record.account_id:
        raise DuplicateSelectorError
    if not existing.is_outstanding(record.created_at):
        return False
    connection.execute(_REPLACE, (*values_of(record, REPLACED_FIELDS).values(), record.selector))
    return True


def _count(connection: sqlite3.Connection, account_id: str, kind: str, since: int) -> int:
    (count,) = connection.execute(_COUNT, (account_id, kind, since)).fetchone()
    return int(count)
