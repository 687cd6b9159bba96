"""What is particular to the SQLite file: durability, schema, clear errors, connections."""

import asyncio
import gc
import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from harness import Colour, Harness, StoreKind, make_store, put
from resetkit import ConfigurationError
from resetkit.stores import AsyncSQLiteTokenStore, SQLiteTokenStore, sqlite
from resetkit.testing._records import DAY, NOW, record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.sqlite3"


def ask(path: Path, question: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def test_a_used_token_survives_a_power_failure(path: Path) -> None:
    """WAL with synchronous=FULL on every connection: NORMAL may lose the last commits (sqlite.org/wal.html)."""
    store = SQLiteTokenStore(path)
    connections = [store._open() for _ in range(3)] + store._idle
    for connection in connections:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    for connection in connections[:3]:
        connection.close()
    store.close()


def test_what_one_store_wrote_another_reads_after_it_was_closed(path: Path) -> None:
    store = SQLiteTokenStore(str(path))
    put(store, record("s1"))
    store.close()
    again = SQLiteTokenStore(path)
    assert again.get("s1") == record("s1")
    again.close()


def test_a_store_counts_what_a_purge_would_delete_and_deletes_none(
    colour: Colour, store_kind: StoreKind, tmp_path: Path
) -> None:
    """For `resetkit check`. The memory's count stands here too."""
    store, plain = make_store(colour, store_kind, tmp_path)

    def count(before: datetime, limit: int) -> Any:
        counted = store.count_due(before=before, limit=limit)
        return asyncio.run(counted) if colour == "async" else counted

    put(plain, *(record(f"s{number}", f"a{number}", keep_until=NOW + number * DAY) for number in range(4)))
    second = timedelta(seconds=1)
    assert [count(NOW + DAY, 9), count(NOW + DAY + second, 9), count(NOW + 9 * DAY, 9)] == [1, 2, 4]
    assert [count(NOW + 9 * DAY, limit) for limit in (1, 3, 4)] == [1, 3, 4]
    assert plain.purge(before=NOW + 9 * DAY, limit=9) == 4
    assert count(NOW + 9 * DAY, 9) == 0
    if isinstance(plain, SQLiteTokenStore):
        plain.close()


def test_each_query_uses_an_index(path: Path) -> None:
    """No operation scans the table, so cost does not grow with the number of records."""
    store = SQLiteTokenStore(path)
    statements = {name: text for name, text in vars(sqlite).items() if isinstance(text, str) and name.isupper()}
    plans = 0
    for name, text in statements.items():
        if text.startswith(("SELECT", "UPDATE", "DELETE")):
            plan = ask(path, f"EXPLAIN QUERY PLAN {text.replace('?', '1')}")
            details = [row[3] for row in plan]
            assert not [line for line in details if line.startswith("SCAN")], f"{name}: {details}"
            plans += 1
    assert plans == 13
    store.close()


def test_a_dump_of_the_file_holds_no_token(path: Path, tmp_path: Path) -> None:
    """CVE-2019-10682: neither token, secret, code nor link stand in the file or beside it, in any form."""
    folder = tmp_path / "dump"
    folder.mkdir()
    kit = Harness("sync", "sqlite", folder)
    handle, code = kit.code()
    mail = kit.reset_mails[0]
    issued = kit.issue()
    secrets = [mail.token[32:], issued.token[32:], code, mail.link, "stamp of old", "alice@example.org"]
    everything = b"".join(file.read_bytes() for file in folder.iterdir())
    assert handle.encode() in everything
    for secret in secrets:
        assert secret.encode() not in everything
    for hexadecimal in (mail.token[32:], issued.token[32:]):
        assert bytes.fromhex(hexadecimal) not in everything
    kit.close()


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "saying"),
        [
            ("", "MemoryTokenStore"),
            (":memory:", "MemoryTokenStore"),
            ("file:x?mode=memory", "not a URL"),
            ("sqlite:///tokens.db", "not a URL"),
            (None, "not NoneType"),
            (5, "not int"),
            ("/", "is a folder"),
        ],
    )
    def test_what_is_no_path_of_a_file_is_refused(self, name: Any, saying: str) -> None:
        with pytest.raises(ConfigurationError, match=saying):
            SQLiteTokenStore(name)

    def test_a_file_without_tables_is_refused_where_none_shall_be_made(self, path: Path) -> None:
        SQLiteTokenStore(path).close()
        SQLiteTokenStore(path, create=False).close()
        with closing(sqlite3.connect(path.with_name("other"))) as connection:
            connection.execute("CREATE TABLE users (id)")
        with pytest.raises(ConfigurationError, match="holds no tokens"):
            SQLiteTokenStore(path.with_name("other"), create=False)
        assert ask(path.with_name("other"), "PRAGMA journal_mode") == [("delete",)]

    def test_a_journal_that_is_no_write_ahead_log_is_refused(self, path: Path) -> None:
        store = SQLiteTokenStore(path)
        with closing(sqlite3.connect(":memory:")) as elsewhere, pytest.raises(ConfigurationError, match="local disk"):
            store._use_wal(elsewhere)
        store.close()

    def test_a_file_that_is_no_database_is_named_and_left_alone(self, path: Path) -> None:
        path.write_bytes(b"these are my letters, not a database" * 99)
        with pytest.raises(ConfigurationError, match=rf"^{path} is no SQLite database"):
            SQLiteTokenStore(path)
        assert path.read_bytes() == b"these are my letters, not a database" * 99

    def test_a_folder_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="its folder must exist"):
            SQLiteTokenStore(tmp_path / "nowhere" / "tokens.sqlite3")

    def test_a_read_only_file_is_named(self) -> None:
        """Root writes everything, so the script gives its rights up first, in a folder that everybody may enter."""
        script = """
import os, sys
from resetkit import ConfigurationError
from resetkit.stores import SQLiteTokenStore
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    SQLiteTokenStore(sys.argv[1])
except ConfigurationError as error:
    print(error)
"""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "tokens.sqlite3"
            SQLiteTokenStore(path).close()
            path.chmod(0o444)
            path.parent.chmod(0o555)
            done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
            path.parent.chmod(0o755)
        assert "cannot be written" in done.stdout, done.stderr

    def test_a_newer_schema_is_named_and_left_alone(self, path: Path) -> None:
        SQLiteTokenStore(path).close()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT INTO resetkit_schema VALUES (2)")
        with pytest.raises(ConfigurationError, match="upgrade resetkit"):
            SQLiteTokenStore(path)
        assert ask(path, "SELECT max(version) FROM resetkit_schema") == [(2,)]

    def test_it_shares_a_file_with_the_application(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE users (id)")
            connection.execute("PRAGMA user_version = 7")
        store = SQLiteTokenStore(path)
        put(store, record("s1"))
        store.close()
        assert ask(path, "PRAGMA user_version") == [(7,)]
        assert [name for (name,) in ask(path, "SELECT name FROM sqlite_schema WHERE type = 'table'")] == [
            "users",
            "resetkit_tokens",
            "sqlite_sequence",
            "resetkit_schema",
        ]

    def test_a_file_locked_for_too_long_is_an_error_in_the_end(self, path: Path) -> None:
        store = SQLiteTokenStore(path, busy_timeout=timedelta(milliseconds=20))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                put(store, record("s1"))
            assert store.get("s1") is None, "a reader does not wait for a writer"
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                SQLiteTokenStore(path, busy_timeout=timedelta(milliseconds=20))
            other.execute("COMMIT")
        put(store, record("s1"))
        store.close()

    def test_a_new_file_locked_for_too_long_is_an_error_in_the_end(self, path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                SQLiteTokenStore(path, busy_timeout=timedelta(milliseconds=20))

    def test_a_file_that_others_are_making_is_waited_for(self, path: Path) -> None:
        """SQLite says "locked" at once while another process changes the journal's mode: it is asked again."""
        store = SQLiteTokenStore(path)
        with closing(sqlite3.connect(path)) as real:
            refusals = 3

            class Refusing:
                def execute(self, statement: str) -> sqlite3.Cursor:
                    nonlocal refusals
                    if refusals:
                        refusals -= 1
                        error = sqlite3.OperationalError("database is locked")
                        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                        raise error
                    return real.execute(statement)

            store._use_wal(Refusing())  # type: ignore[arg-type]  # as much of a connection as is asked
            assert refusals == 0
            refusals = 10**9
            store._busy_seconds = 0.02
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                store._use_wal(Refusing())  # type: ignore[arg-type]  # as much of a connection as is asked
        store.close()


class TestConnections:
    def test_each_thread_has_one_to_itself_and_few_are_kept(self, path: Path) -> None:
        store, inside, barrier = SQLiteTokenStore(path), set[int](), threading.Barrier(8)

        def look(_: int) -> None:
            with store._connection() as connection:
                inside.add(id(connection))
                barrier.wait()

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(look, range(8)))
        assert len(inside) == 8
        assert len(store._idle) == 8
        with ThreadPoolExecutor(1) as threads:
            list(threads.map(lambda _: store.get("s1"), range(50)))
        assert len(store._idle) == 8
        store.close()

    def test_after_an_error_its_connection_is_not_used_again(self, path: Path) -> None:
        store = SQLiteTokenStore(path)

        def fail() -> None:
            with store._transaction() as connection:
                connection.execute("DELETE FROM resetkit_schema")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert ask(path, "SELECT version FROM resetkit_schema") == [(1,)]
        assert store._idle == []
        put(store, record("s1"))
        store.close()

    def test_a_closed_store_says_so_and_closes_what_comes_back(self, path: Path) -> None:
        store = SQLiteTokenStore(path)
        with store._connection() as connection:
            store.close()
            store.close()
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
        with pytest.raises(RuntimeError, match="this store is closed"):
            store.get("s1")

    def test_a_forgotten_store_closes_its_connections(self, path: Path) -> None:
        store = SQLiteTokenStore(path)
        (connection,) = store._idle
        del store
        gc.collect()
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")

    def test_no_connection_is_open_while_a_process_forks(self, path: Path) -> None:
        """Operations in progress are waited for, and new ones wait."""
        store, inside, leave, came = SQLiteTokenStore(path), threading.Event(), threading.Event(), threading.Event()

        def use() -> None:
            with store._connection():
                inside.set()
                leave.wait(30)

        def come() -> None:
            store.get("s1")
            came.set()

        user, comer = threading.Thread(target=use), threading.Thread(target=come)
        user.start()
        inside.wait(30)
        holder = threading.Thread(target=store._hold)
        holder.start()
        comer_waits = threading.Event()
        while not store._holding:
            comer_waits.wait(0.001)
        comer.start()
        assert not came.wait(0.02)
        leave.set()
        holder.join(30)
        assert store._idle == []
        assert not came.is_set()
        store._resume()
        assert came.wait(30)
        for thread in (user, comer):
            thread.join()
        store.close()

    def test_a_fork_waits_for_what_is_in_progress_as_long_as_that_may_wait_and_for_nothing_else(
        self, path: Path
    ) -> None:
        with (
            closing(SQLiteTokenStore(path, busy_timeout=timedelta(seconds=30))) as patient,
            ThreadPoolExecutor(1) as forking,
        ):
            forking.submit(patient._hold).result(10)
            patient._resume()
            with patient._connection():
                holding = forking.submit(patient._hold)
                with pytest.raises(TimeoutError):
                    holding.result(0.05)
            holding.result(10)
            patient._resume()
        with (
            closing(SQLiteTokenStore(path, busy_timeout=timedelta(milliseconds=1))) as brief,
            ThreadPoolExecutor(1) as forking,
        ):
            with brief._connection():
                forking.submit(brief._hold).result(10)
            brief._resume()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_a_child_s_commits_outlive_its_parent_s_store(self, path: Path) -> None:
        """SQLite's locks belong to the process: a child with an inherited connection would lose what it wrote."""
        script = """
import os, sys
from resetkit.stores import SQLiteTokenStore
from resetkit.testing._records import NOW, record
store = SQLiteTokenStore(sys.argv[1])
store.get("s1")
r1, w1 = os.pipe()
r2, w2 = os.pipe()
if os.fork() == 0:
    store.add(record("s1"), quotas=(), keep=9)
    os.write(w1, b"x")
    os.read(r2, 1)
    store.add(record("s2", "bob"), quotas=(), keep=9)
    assert store.claim("s1", claim_id="c1", now=NOW)
    os._exit(0)
os.read(r1, 1)
store.close()
os.write(w2, b"x")
os.wait()
again = SQLiteTokenStore(sys.argv[1])
print(again.get("s1").state, again.get("s2").state)
again.close()
"""
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, str(path)]
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.stdout == "used outstanding\n", done.stderr

    def test_a_relative_path_is_read_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        store = SQLiteTokenStore("tokens.sqlite3")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        with store._connection():
            put(store, record("s1"))
        assert list((tmp_path / "elsewhere").iterdir()) == []
        store.close()

    def test_the_async_store_hands_its_options_on(self, path: Path) -> None:
        with pytest.raises(ConfigurationError, match="holds no tokens"):
            AsyncSQLiteTokenStore(path, create=False)
        with pytest.raises(ConfigurationError, match=r"^busy_timeout must be positive"):
            AsyncSQLiteTokenStore(path, busy_timeout=timedelta(0))
        with closing(AsyncSQLiteTokenStore(path, busy_timeout=timedelta(seconds=7))) as store:
            assert store._store._busy_seconds == 7
            with closing(store._store._take()) as connection:
                assert connection.execute("PRAGMA busy_timeout").fetchone() == (7000,)
            assert (store._threads._most, store._threads._name) == (4, "resetkit-sqlite")

    def test_the_async_store_closes_too(self, path: Path) -> None:
        store = AsyncSQLiteTokenStore(path)
        store.close()
        with pytest.raises(RuntimeError, match="closed"):
            store._store.revoke("alice", now=NOW)
