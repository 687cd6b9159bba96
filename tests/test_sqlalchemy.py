"""What only the stores over SQLAlchemy have: the caller's transaction, tables of the caller's, deadlocks, engines."""

import asyncio
import logging
import threading
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from engines import TABLES, URLS, empty, sync_url
from resetkit import (
    Account,
    ConfigurationError,
    InvalidTokenError,
    KeyedTokenHasher,
    PasswordRejectedError,
    Quota,
    ResetManager,
    ResetPolicy,
    TokenRecord,
    code_token,
)
from resetkit.dispatch import InlineDispatcher
from resetkit.mailers import MemoryMailer
from resetkit.stores._rows import values_of
from resetkit.stores.sqlalchemy import AsyncSQLAlchemyTokenStore, SQLAlchemyTokenStore, _conceal, token_tables
from resetkit.testing._records import NOW, RETENTION, record
from servers import Servers

PATIENCE: Final = 60  # seconds
SERVER_OF = {"psycopg": "postgres", "pymysql": "mariadb"}
ASYNC = {"psycopg": "asyncpg", "pymysql": "asyncmy"}
USERS = sa.Table(
    "users", sa.MetaData(), sa.Column("id", sa.String(32), primary_key=True), sa.Column("password", sa.String(255))
)


_made: list[sa.Engine] = []


def listens(engine: sa.Engine, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`event.listens_for`, typed."""

    def listen(function: Callable[..., None]) -> Callable[..., None]:
        event.listen(engine, name, function)
        return function

    return listen


def make_engine(url: str, **options: Any) -> sa.Engine:
    """One whose connections are closed after the test."""
    _made.append(sa.create_engine(url, **options))
    return _made[-1]


@pytest.fixture(autouse=True)
def dispose() -> Generator[None, None, None]:
    yield
    while _made:
        _made.pop().dispose()


@pytest.fixture(params=sorted(SERVER_OF))
def driver(request: pytest.FixtureRequest) -> str:
    """Where two connections may write at once, so that the caller's can differ from the store's own."""
    driver: str = request.param
    return driver


@pytest.fixture
def place(driver: str, servers: Servers) -> Any:
    """The server's socket or folder."""
    return servers[SERVER_OF[driver]]


@pytest.fixture
def url(driver: str, place: Any) -> str:
    """A database with empty tables."""
    url = URLS[driver].format(place)
    engine = sa.create_engine(url, poolclass=NullPool)
    TABLES.tokens.metadata.create_all(engine)
    USERS.metadata.create_all(engine)
    empty(url)
    with engine.begin() as connection:
        connection.execute(USERS.delete())
        connection.execute(USERS.insert(), {"id": "alice", "password": "old"})
    return url


class Keyless(postgresql.Insert):
    inherit_cache = False


class Application:
    """One with its accounts in the same database, and a connection that its request holds a transaction on."""

    def __init__(self, url: str, *, store: type[SQLAlchemyTokenStore] = SQLAlchemyTokenStore) -> None:
        self.engine = make_engine(url)
        self.connection: sa.Connection | None = None
        self.refuses = False
        self.mailer = MemoryMailer()
        self.store = store(self.engine, tables=TABLES, transaction=lambda: self.connection)
        self.manager = ResetManager(
            self,
            self.store,
            self.mailer,
            link="https://app.example/reset#{token}",
            hasher=KeyedTokenHasher([b"k" * 32]),
            policy=ResetPolicy(code_guesses=2),
            dispatcher=InlineDispatcher(),
        )

    @contextmanager
    def transaction(self) -> Generator[None, None, None]:
        with self.engine.begin() as connection:
            self.connection = connection
            try:
                yield
            finally:
                self.connection = None

    def password(self) -> str:
        with self.engine.connect() as connection:
            return str(connection.execute(sa.select(USERS.c.password)).scalar_one())

    def asked(self, *, code: bool = False) -> str:
        receipt = self.manager.request_reset("alice", client=None, code=code)
        if code:
            typed = self.mailer.last_code()
            assert typed is not None
            assert receipt.handle is not None
            return code_token(receipt.handle, typed)
        return self.mailer.last_link().split("#")[1]

    def find(self, identifier: str, /) -> Account | None:
        return Account(id="alice", email="alice@example.org", stamp=self.password()) if identifier == "alice" else None

    def get(self, account_id: str, /) -> Account | None:
        return self.find(account_id)

    def set_password(self, account_id: str, new_password: str, /) -> None:
        if self.refuses:
            raise PasswordRejectedError("too well known")
        assert self.connection is not None
        self.connection.execute(USERS.update().where(USERS.c.id == account_id), {"password": new_password})

    def end_sessions(self, account_id: str, /) -> None:
        pass


class TestTheCallersTransaction:
    def test_the_token_is_used_up_if_the_password_is_committed(self, url: str) -> None:
        application = Application(url)
        token = application.asked()
        with application.transaction():
            application.manager.reset_password(token, "a new password")
        assert application.password() == "a new password"
        with pytest.raises(InvalidTokenError):
            application.manager.check_token(token)

    def test_the_token_is_good_again_if_the_password_is_rolled_back(self, url: str) -> None:
        application = Application(url)
        token = application.asked()
        with suppress(ZeroDivisionError), application.transaction():
            application.manager.reset_password(token, "a new password")
            _ = 1 // 0
        assert application.password() == "old"
        with application.transaction():
            application.manager.reset_password(token, "a newer password")
        assert application.password() == "a newer password"

    def test_a_refused_password_leaves_the_token_good(self, url: str) -> None:
        application = Application(url)
        token = application.asked()
        application.refuses = True
        with application.transaction(), pytest.raises(PasswordRejectedError):
            application.manager.reset_password(token, "password1")
        application.refuses = False
        with application.transaction():
            application.manager.reset_password(token, "a new password")
        assert application.password() == "a new password"

    def test_of_two_at_once_the_second_waits_for_the_first_and_loses(self, url: str) -> None:
        first, second = Application(url), Application(url)
        token = first.asked()
        told: list[str] = []

        def try_too() -> None:
            try:
                with second.transaction():
                    second.manager.reset_password(token, "the second password")
            except InvalidTokenError as error:
                told.append(error.reason)

        with first.transaction():
            first.manager.reset_password(token, "the first password")
            thread = threading.Thread(target=try_too)
            thread.start()
            thread.join(0.2)
            assert thread.is_alive(), "it must wait until the first has come to its end"
        thread.join()
        assert told == ["used"]
        assert first.password() == "the first password"

    def test_of_two_at_once_the_second_wins_if_the_first_is_rolled_back(self, url: str) -> None:
        first, second = Application(url), Application(url)
        token = first.asked()
        done: list[str] = []

        def try_too() -> None:
            with second.transaction():
                second.manager.reset_password(token, "the second password")
            done.append("second")

        thread = threading.Thread(target=try_too)
        with suppress(ZeroDivisionError), first.transaction():
            first.manager.reset_password(token, "the first password")
            thread.start()
            thread.join(0.2)
            _ = 1 // 0
        thread.join()
        assert done == ["second"]
        assert first.password() == "the second password"

    def test_a_guess_stays_counted_whatever_is_rolled_back(self, url: str) -> None:
        assert guesses_until_refused(Application(url)) == 2

    def test_a_guess_that_is_rolled_back_would_be_free(self, url: str) -> None:
        """The broken twin: counting on the caller's connection."""

        class Joins(SQLAlchemyTokenStore):
            def attempt(self, selector: str, /, *, limit: int) -> bool:
                connection = self._transaction()
                assert connection is not None
                return self._work.attempt(connection, selector, limit)

        assert guesses_until_refused(Application(url, store=Joins)) > 2

    def test_a_snapshot_from_before_is_no_excuse(self, url: str) -> None:
        """The caller has read before: where a transaction reads from a snapshot, the claim must look past it."""
        application = Application(url)
        application.asked()
        selector = application.mailer.last_link().split("#")[1][:32]
        with application.transaction():
            assert application.connection is not None
            application.connection.execute(TABLES.tokens.select()).all()
            found = application.store.get(selector)
            assert found is not None
            assert SQLAlchemyTokenStore(application.engine, tables=TABLES).claim(
                selector, claim_id="another", now=found.created_at
            )
            assert not application.store.claim(selector, claim_id="mine", now=found.created_at)

    def test_a_connection_in_no_transaction_is_refused(self, url: str) -> None:
        engine = make_engine(url)
        with engine.connect() as connection:
            store = SQLAlchemyTokenStore(engine, tables=TABLES, transaction=lambda: connection)
            store.add(record(), quotas=(), keep=1)
            with pytest.raises(RuntimeError, match="begin one first"):
                store.claim("s1", claim_id="c1", now=NOW)

    def test_what_would_wait_for_the_caller_itself_is_refused(self, url: str) -> None:
        """Two connections of one request: the server sees no deadlock, and PostgreSQL would wait for ever."""
        engine = make_engine(url)
        with engine.connect() as connection:
            store = SQLAlchemyTokenStore(engine, tables=TABLES, transaction=lambda: connection)
            store.add(record(), quotas=(), keep=1)
            with connection.begin():
                assert store.attempt("s1", limit=5)
                assert store.claim("s1", claim_id="c1", now=NOW)
                with pytest.raises(RuntimeError, match="commit it first"):
                    store.attempt("s1", limit=5)
                with pytest.raises(RuntimeError, match="commit it first"):
                    store.revoke("alice", now=NOW)
            assert store.revoke("alice", now=NOW) == 0

    def test_an_unknown_selector_holds_nobody(self, url: str) -> None:
        """Not in the caller's transaction either, which has no lock then and needs none."""
        engine = make_engine(url)
        with engine.begin() as connection:
            store = SQLAlchemyTokenStore(engine, tables=TABLES, transaction=lambda: connection)
            assert not store.claim("unknown", claim_id="c1", now=NOW)
            assert not store.release("unknown", claim_id="c1", guess=False)
            assert connection.execute(TABLES.accounts.select()).all() == []

    def test_a_deadlock_there_is_raised(self, url: str) -> None:
        """It took the whole transaction with it, so only the caller can try again."""
        engine = make_engine(url)
        with engine.connect() as connection:
            store = SQLAlchemyTokenStore(engine, tables=TABLES, transaction=lambda: connection)
            store.add(record(), quotas=(), keep=1)
            tries = failing(engine, "40P01", times=1)
            with connection.begin(), pytest.raises(DBAPIError):
                store.claim("s1", claim_id="c1", now=NOW)
            assert tries == [1]

    @pytest.mark.parametrize("async_driver", ["asyncpg", "asyncmy"])
    def test_a_visitor_who_goes_away_breaks_no_transaction_that_is_shielded(
        self, async_driver: str, servers: Servers
    ) -> None:
        """As docs/engines.md shows it. Cancelled in the middle, all of it is committed all the same."""
        url = URLS[async_driver].format(servers["postgres" if async_driver == "asyncpg" else "mariadb"])
        sync = make_engine(sync_url(url))
        TABLES.tokens.metadata.create_all(sync)
        empty(url)
        SQLAlchemyTokenStore(sync, tables=TABLES).add(record(), quotas=(), keep=1)

        async def run() -> None:
            engine = create_async_engine(url)
            current: ContextVar[AsyncConnection | None] = ContextVar("current", default=None)
            store = AsyncSQLAlchemyTokenStore(engine, tables=TABLES, transaction=current.get)
            inside = asyncio.Event()

            async def redeem() -> None:
                async with engine.begin() as connection:
                    current.set(connection)
                    inside.set()
                    assert await store.claim("s1", claim_id="c1", now=NOW)

            task = asyncio.ensure_future(redeem())
            visitor = asyncio.ensure_future(asyncio.wait_for(asyncio.shield(task), PATIENCE))
            await inside.wait()
            visitor.cancel()
            with pytest.raises(asyncio.CancelledError):
                await visitor
            await task
            await engine.dispose()

        asyncio.run(run())
        found = SQLAlchemyTokenStore(sync, tables=TABLES).get("s1")
        assert found is not None
        assert found.state == "used"

    def test_the_async_store_joins_as_well(self, url: str, driver: str, place: Any) -> None:
        async def run() -> list[bool]:
            engine = create_async_engine(URLS[ASYNC[driver]].format(place))
            joined: list[AsyncConnection] = []
            store = AsyncSQLAlchemyTokenStore(engine, tables=TABLES, transaction=lambda: joined[-1] if joined else None)
            await store.add(record(), quotas=(), keep=1)
            async with engine.connect() as connection:
                joined.append(connection)
                with pytest.raises(RuntimeError, match="begin one first"):
                    await store.claim("s1", claim_id="c1", now=NOW)
                async with connection.begin() as transaction:
                    won = await store.claim("s1", claim_id="c1", now=NOW)
                    await transaction.rollback()
                joined.clear()
            again = await store.claim("s1", claim_id="c2", now=NOW)
            await engine.dispose()
            return [won, again]

        assert asyncio.run(run()) == [True, True]


def create(stores: Sequence[SQLAlchemyTokenStore], number: int) -> None:
    stores[number].create_tables()


def at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
    """What a call, made by so many threads at the same moment, returned. Raises what one raised."""
    start = threading.Barrier(count)

    def wait_and_call(number: int) -> Any:
        start.wait()
        return call(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(wait_and_call, range(count)))


def guesses_until_refused(application: Application) -> int:
    """How many wrong codes are compared while every request is rolled back; 9 if there is no end."""
    right = application.asked(code=True)
    for count in range(9):
        with suppress(InvalidTokenError), application.transaction():
            assert application.connection is not None
            application.manager.check_token(right[:-8] + "BCDFGHJK")
        with application.engine.connect() as connection:
            if connection.execute(sa.select(TABLES.tokens.c.guesses)).scalar_one() >= 2:
                return count + 1
    return 9


def failing(engine: sa.Engine, code: str, *, times: int) -> list[int]:
    """Let so many transactions end with this error of the server, at the first statement that locks. Counts them."""
    tries: list[int] = []

    class OriginalError(Exception):
        sqlstate = code

    @listens(engine, "before_cursor_execute")
    def fail(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(f"INSERT INTO {TABLES.accounts.name}") and len(tries) < times:
            tries.append(1)
            raise DBAPIError(statement, {"account_id": "alice"}, OriginalError())

    return tries


class TestDeadlocks:
    @pytest.mark.parametrize("code", ["40P01", "40001"])
    def test_one_is_tried_again(self, url: str, code: str) -> None:
        engine = make_engine(url)
        tries = failing(engine, code, times=3)
        assert SQLAlchemyTokenStore(engine, tables=TABLES).add(record(), quotas=(), keep=1)
        assert len(tries) == 3

    def test_there_is_an_end_to_it(self, url: str) -> None:
        engine = make_engine(url)
        tries = failing(engine, "40P01", times=99)
        with pytest.raises(DBAPIError):
            SQLAlchemyTokenStore(engine, tables=TABLES).add(record(), quotas=(), keep=1)
        assert len(tries) == 10

    def test_a_changed_record_is_tried_again(self, servers: Servers) -> None:
        """MariaDB's own error 1020, under innodb_snapshot_isolation: read, changed by another, then written."""
        engine = make_engine(URLS["pymysql"].format(servers["mariadb"]))
        TABLES.tokens.metadata.create_all(engine)
        store = SQLAlchemyTokenStore(engine, tables=TABLES)
        store.add(record("s1020"), quotas=(), keep=1)

        @listens(engine, "checkout")
        def isolate(connection: Any, *_: Any) -> None:
            connection.cursor().execute("SET SESSION innodb_snapshot_isolation = ON")

        tries: list[int] = []

        def read_and_write(connection: sa.Connection) -> bool:
            tries.append(1)
            connection.execute(TABLES.tokens.select()).all()
            if len(tries) == 1:
                with engine.begin() as other:
                    store._work.attempt(other, "s1020", 5)
            return store._work.attempt(connection, "s1020", 5)

        assert store._run(store._work.transact, read_and_write)
        assert len(tries) == 2

    def test_many_revoke_at_once(self, url: str) -> None:
        engine = make_engine(url, pool_size=8)
        if engine.dialect.name == "mariadb":

            @listens(engine, "checkout")
            def isolate(connection: Any, *_: Any) -> None:
                connection.cursor().execute("SET SESSION innodb_snapshot_isolation = ON")

        store = SQLAlchemyTokenStore(engine, tables=TABLES)
        for number in range(5):
            store.add(record(f"s{number}"), quotas=(), keep=1)
            assert sum(at_once(8, lambda _: store.revoke("alice", now=NOW))) == 1

    def test_other_errors_are_raised_at_once(self, url: str) -> None:
        engine = make_engine(url)
        tries = failing(engine, "53100", times=99)
        with pytest.raises(DBAPIError):
            SQLAlchemyTokenStore(engine, tables=TABLES).add(record(), quotas=(), keep=1)
        assert len(tries) == 1

    def test_the_async_store_tries_again_too(self, url: str, driver: str, place: Any) -> None:
        async def run() -> tuple[bool, int]:
            engine = create_async_engine(URLS[ASYNC[driver]].format(place))
            tries = failing(engine.sync_engine, "40001", times=2)
            added = await AsyncSQLAlchemyTokenStore(engine, tables=TABLES).add(record(), quotas=(), keep=1)
            await engine.dispose()
            return added, len(tries)

        assert asyncio.run(run()) == (True, 2)

    def test_accounts_that_lock_each_other_out_of_order_both_come_through(self, url: str) -> None:
        """A real one: two callers' transactions that claim on two accounts crosswise. The server ends one of them."""
        engine = make_engine(url)
        store = SQLAlchemyTokenStore(engine, tables=TABLES)
        for name in ("a", "b"):
            store.add(record(f"of-{name}", name), quotas=(), keep=1)
        both = threading.Barrier(2)
        ended: list[str] = []

        def claim_two(first: str, second: str) -> None:
            with engine.connect() as connection:
                joined = SQLAlchemyTokenStore(engine, tables=TABLES, transaction=lambda: connection)
                try:
                    with connection.begin():
                        joined.claim(f"of-{first}", claim_id=first, now=NOW)
                        with suppress(threading.BrokenBarrierError):
                            both.wait(5)  # MariaDB scans a table as small as this, and may let only one come here
                        joined.claim(f"of-{second}", claim_id=first, now=NOW)
                    ended.append("committed")
                except OperationalError as error:
                    both.abort()
                    ended.append("deadlock" if "deadlock" in str(error).lower() else repr(error))

        threads = [threading.Thread(target=claim_two, args=pair) for pair in (("a", "b"), ("b", "a"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(ended) == ["committed", "deadlock"]


class TestIsolation:
    @pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
    def test_the_quota_holds_at_every_level(self, url: str, level: Any) -> None:
        engine = make_engine(url, isolation_level=level, pool_size=8)
        store = SQLAlchemyTokenStore(engine, tables=TABLES)
        quota = Quota(3, NOW - timedelta(days=1))
        added = at_once(8, lambda number: store.add(record(f"s{number}"), quotas=[quota], keep=9))
        assert sorted(added) == [False] * 5 + [True] * 3

    @pytest.mark.parametrize(
        "options",
        [
            {"isolation_level": "AUTOCOMMIT"},
            {"isolation_level": "autocommit"},
            {"execution_options": {"isolation_level": "AUTOCOMMIT"}},
            {"connect_args": {"autocommit": True}},
        ],
        ids=["engine", "small", "options", "driver"],
    )
    def test_autocommit_is_refused_whoever_was_told_of_it(self, url: str, options: dict[str, Any]) -> None:
        store = SQLAlchemyTokenStore(make_engine(url, **options), tables=TABLES)
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="turn AUTOCOMMIT off"):
                store.add(record(), quotas=(), keep=1)
        assert store.get("s1") is None

    def test_a_caller_s_connection_in_autocommit_is_refused(self, url: str) -> None:
        engine = make_engine(url)
        SQLAlchemyTokenStore(engine, tables=TABLES).add(record(), quotas=(), keep=1)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection, connection.begin():
            store = SQLAlchemyTokenStore(engine, tables=TABLES, transaction=lambda: connection)
            with pytest.raises(ConfigurationError, match="turn AUTOCOMMIT off"):
                store.claim("s1", claim_id="c1", now=NOW)

    def test_levels_at_which_a_read_is_wrong_or_waits_for_the_caller_are_refused(self, servers: Servers) -> None:
        url = URLS["pymysql"].format(servers["mariadb"])
        TABLES.tokens.metadata.create_all(make_engine(url))
        dirty, strict = (make_engine(url, isolation_level=each) for each in ("READ UNCOMMITTED", "SERIALIZABLE"))
        for store in (
            SQLAlchemyTokenStore(dirty, tables=TABLES),
            SQLAlchemyTokenStore(strict, tables=TABLES, transaction=lambda: None),
        ):
            with pytest.raises(ConfigurationError, match="take the default"):
                store.add(record("of a level"), quotas=(), keep=1)


class TestSQLite:
    @pytest.fixture(params=["delete", "wal"])
    def engine(self, request: pytest.FixtureRequest, tmp_path: Path) -> sa.Engine:
        """With a real BEGIN, as SQLAlchemy's documentation shows it, so that a read begins a transaction too."""
        engine = make_engine(f"sqlite:///{tmp_path}/tokens", connect_args={"timeout": PATIENCE})

        @listens(engine, "connect")
        def leave_it_to_us(connection: Any, _: Any) -> None:
            connection.isolation_level = None
            connection.execute(f"PRAGMA journal_mode={request.param}")

        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        return engine

    def test_no_operation_meets_a_lock_that_it_could_have_waited_for(self, engine: sa.Engine) -> None:
        store = SQLAlchemyTokenStore(engine, tables=TABLES)
        store.create_tables()

        def work(number: int) -> None:
            for step in range(5):
                name = f"{number}-{step}"
                store.add(record(name), quotas=[Quota(99, NOW)], keep=9)
                store.attempt(name, limit=1)
                store.claim(name, claim_id="c", now=NOW)
                store.release(name, claim_id="c", guess=True)
                store.revoke("alice", now=NOW)

        at_once(4, work)

    def test_one_that_commits_each_statement_is_refused(self, tmp_path: Path) -> None:
        engine = make_engine(f"sqlite:///{tmp_path}/tokens", connect_args={"isolation_level": None})
        store = SQLAlchemyTokenStore(engine, tables=TABLES)
        store.create_tables()
        with pytest.raises(ConfigurationError, match="turn AUTOCOMMIT off"):
            store.add(record(), quotas=(), keep=1)


class TestTables:
    def test_they_stand_in_the_applications_metadata_under_names_of_its_own(self, url: str) -> None:
        metadata = sa.MetaData()
        tables = token_tables(metadata, prefix="auth_reset_")
        assert set(metadata.tables) == {"auth_reset_tokens", "auth_reset_accounts"}
        engine = make_engine(url)
        metadata.drop_all(engine)
        metadata.create_all(engine)
        store = SQLAlchemyTokenStore(engine, tables=tables)
        assert store.add(record(), quotas=(), keep=1)
        assert store.get("s1") == record()
        indexes = {each["name"] for each in sa.inspect(engine).get_indexes("auth_reset_tokens")}
        assert {f"auth_reset_tokens_by_{each}" for each in ("selector", "account", "keep_until")} <= indexes
        metadata.drop_all(engine)

    @pytest.mark.parametrize("where", ["server", "file"])
    def test_many_processes_may_create_them_at_once(self, where: str, url: str, tmp_path: Path) -> None:
        for number in range(5):
            tables = token_tables(sa.MetaData(), prefix=f"boot{number}_")
            place = url if where == "server" else f"sqlite:///{tmp_path}/boot"
            stores = [SQLAlchemyTokenStore(make_engine(place), tables=tables) for _ in range(4)]
            at_once(4, partial(create, stores))
            assert stores[0].add(record(), quotas=(), keep=1)
            tables.tokens.metadata.drop_all(_made[-1])

    def test_a_schema_may_be_named(self, servers: Servers) -> None:
        engine = make_engine(URLS["psycopg"].format(servers["postgres"]))
        tables = token_tables(sa.MetaData(), schema="private")
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS private"))
        store = SQLAlchemyTokenStore(engine, tables=tables)
        store.create_tables()
        store.create_tables()
        assert store.add(record(), quotas=(), keep=1)
        with engine.begin() as connection:
            assert connection.execute(sa.text("SELECT count(*) FROM private.resetkit_tokens")).scalar_one() == 1
            connection.execute(sa.text("DROP SCHEMA private CASCADE"))

    def test_an_account_row_goes_with_its_last_record(self, url: str) -> None:
        engine = make_engine(url)
        store = SQLAlchemyTokenStore(engine, tables=TABLES)
        store.add(record("s1", "alice", keep_until=NOW + RETENTION), quotas=(), keep=9)
        store.add(record("s2", "alice", keep_until=NOW + 2 * RETENTION), quotas=(), keep=9)

        def accounts() -> int:
            with engine.connect() as connection:
                return int(connection.execute(sa.select(sa.func.count()).select_from(TABLES.accounts)).scalar_one())

        assert store.purge(before=NOW + RETENTION + timedelta(seconds=1), limit=9) == 1
        assert accounts() == 1
        assert store.purge(before=NOW + 3 * RETENTION, limit=9) == 1
        assert accounts() == 0

    def test_what_a_purge_would_delete_is_counted_and_left(self, url: str, driver: str, place: Any) -> None:
        store = SQLAlchemyTokenStore(make_engine(url), tables=TABLES)

        async def count(before: datetime, limit: int) -> int:
            engine = create_async_engine(URLS[ASYNC[driver]].format(place), poolclass=NullPool)
            return await AsyncSQLAlchemyTokenStore(engine, tables=TABLES).count_due(before=before, limit=limit)

        for number in range(4):
            store.add(record(f"s{number}", keep_until=NOW + number * RETENTION), quotas=(), keep=9)
        for before, limit, counted in (
            (NOW + RETENTION, 9, 1),
            (NOW + 9 * RETENTION, 9, 4),
            (NOW + 9 * RETENTION, 3, 3),
        ):
            assert store.count_due(before=before, limit=limit) == counted
            assert asyncio.run(count(before, limit)) == counted

    @pytest.mark.parametrize("twin", [False, True])
    def test_no_statement_is_compiled_anew(
        self, servers: Servers, caplog: pytest.LogCaptureFixture, twin: bool
    ) -> None:
        """SQLAlchemy 2.0 has no key to find some of its statements by, an upsert of its own among them.

        The twin's lock has none on any version.
        """
        caplog.set_level(logging.INFO, "sqlalchemy.engine.Engine")
        engine = make_engine(URLS["psycopg"].format(servers["postgres"]))
        store = SQLAlchemyTokenStore(engine, tables=TABLES)
        store.create_tables()
        if twin:
            into = Keyless(TABLES.accounts).values(account_id=sa.bindparam("of_account"))
            key = {"account_id": into.excluded.account_id}
            store._work._lock_account = into.on_conflict_do_update(index_elements=["account_id"], set_=key)

        def compiled(account_id: str) -> list[str]:
            """What SQLAlchemy's log says of statements that it had not kept."""
            caplog.clear()
            older, newer = f"older-{account_id}", f"newer-{account_id}"
            for selector in (older, newer):
                assert store.add(record(selector, account_id), quotas=(Quota(9, NOW),), keep=1)
            assert store.attempt(newer, limit=5)
            assert store.claim(newer, claim_id="claim", now=NOW)
            assert store.release(newer, claim_id="claim", guess=True)
            assert store.revoke(account_id, now=NOW) == 1
            assert store.get(newer)
            lines = [each.getMessage() for each in caplog.records]
            return [line for line in lines if line.startswith(("[generated in", "[no key"))]

        empty(str(engine.url))
        assert compiled("first")
        assert bool(compiled("second")) is twin

    def test_ending_what_is_not_there_leaves_no_row(self, url: str) -> None:
        engine = make_engine(url)
        assert SQLAlchemyTokenStore(engine, tables=TABLES).revoke("nobody", now=NOW) == 0
        with engine.connect() as connection:
            assert connection.execute(TABLES.accounts.select()).all() == []

    def test_a_record_that_a_purge_takes_while_it_is_added_again_is_new_again(self, url: str) -> None:
        engine = make_engine(url)
        store = SQLAlchemyTokenStore(engine, tables=TABLES)
        store.add(record(link_hash="first"), quotas=(), keep=1)
        purged: list[int] = []

        @listens(engine, "before_cursor_execute")
        def purge(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith(f"UPDATE {TABLES.tokens.name}") and not purged:
                with make_engine(url).begin() as other:
                    purged.append(other.execute(TABLES.tokens.delete()).rowcount)

        again = record(link_hash="second")
        assert store.add(again, quotas=(), keep=1)
        assert purged == [1]
        assert store.get(again.selector) == again

    def test_a_purge_takes_more_than_a_statement_can_name(self, url: str) -> None:
        engine = make_engine(url)
        store = SQLAlchemyTokenStore(engine, tables=TABLES)
        with engine.begin() as connection:
            rows = [values_of(record(f"s{number}", f"account {number}")) for number in range(1100)]
            connection.execute(TABLES.tokens.insert(), rows)
        assert store.purge(before=NOW + 2 * RETENTION, limit=1050) == 1050
        assert store.purge(before=NOW + 2 * RETENTION, limit=1050) == 50


class TestBadInput:
    def test_an_engine_of_the_other_colour_or_none_is_refused(self) -> None:
        sync, asynchronous = make_engine("sqlite://"), create_async_engine("sqlite+aiosqlite://")
        wrong: Any = asynchronous
        with pytest.raises(ConfigurationError, match="needs a sqlalchemy Engine, not AsyncEngine"):
            SQLAlchemyTokenStore(wrong)
        wrong = sync
        with pytest.raises(ConfigurationError, match="needs a sqlalchemy AsyncEngine, not Engine"):
            AsyncSQLAlchemyTokenStore(wrong)
        wrong = "sqlite://"
        with pytest.raises(ConfigurationError, match="not str"):
            SQLAlchemyTokenStore(wrong)

    def test_a_database_that_was_never_tried_is_refused(self) -> None:
        engine = make_engine("sqlite://")
        engine.dialect.name = "oracle"
        with pytest.raises(ConfigurationError, match="not in oracle"):
            SQLAlchemyTokenStore(engine)

    @pytest.mark.parametrize(("who", "shown"), [("alice", ""), ("malice", " no room for malice on the disk")])
    def test_an_error_that_quotes_a_value_shows_its_class_alone(self, who: str, shown: str) -> None:
        text = f"no room for {who} on the disk"
        error = OperationalError("INSERT", {"account": ("alice",)}, ConnectionError(text))
        _conceal(error, None)
        assert str(error).splitlines()[0] == f"(ConnectionError){shown}"

    def test_the_async_store_makes_its_tables_too(self, tmp_path: Path) -> None:
        async def run() -> TokenRecord | None:
            engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/tokens.sqlite3")
            store = AsyncSQLAlchemyTokenStore(engine)
            await store.create_tables()
            await store.add(record(), quotas=(), keep=1)
            found = await store.get(record().selector)
            await engine.dispose()
            return found

        assert asyncio.run(run()) == record()

    def test_an_error_shows_no_row(self, url: str) -> None:
        """What a constraint refuses is quoted by the driver, whole."""
        engine = make_engine(url)
        tables = token_tables(sa.MetaData(), prefix="narrow_")
        tables.tokens.append_column(sa.Column("tenant", sa.Integer))
        store = SQLAlchemyTokenStore(engine, tables=tables)
        tables.tokens.metadata.drop_all(engine)
        store.create_tables()
        with engine.begin() as connection:
            changed = {"postgresql": "ALTER COLUMN tenant SET NOT NULL", "mariadb": "MODIFY tenant INTEGER NOT NULL"}
            connection.execute(sa.text(f"ALTER TABLE narrow_tokens {changed[engine.dialect.name]}"))
        made = record("s1", "alice-the-account")
        tries: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda *args: tries.append(args[2]))
        with pytest.raises(DBAPIError) as raised:
            store.add(made, quotas=(), keep=1)
        assert sum(each.startswith("INSERT INTO narrow_tokens") for each in tries) == 1
        shown = "".join(traceback.format_exception(raised.value))
        assert ("NotNullViolation 23502" in shown) or ("1364" in shown)
        for value in (made.selector, made.account_id, made.link_hash, made.stamp_digest):
            assert value not in shown
        tables.tokens.metadata.drop_all(engine)

    def test_an_error_says_what_is_wrong_with_the_server(self, servers: Servers) -> None:
        store = SQLAlchemyTokenStore(make_engine("postgresql+psycopg://postgres@/postgres?host=/nowhere"))
        with pytest.raises(OperationalError, match="/nowhere"):
            store.get("s1")

    def test_an_error_shows_no_parameter(self, url: str) -> None:
        engine = make_engine(url)
        tables = token_tables(sa.MetaData(), prefix="never_made_")
        with pytest.raises(DBAPIError) as raised:
            SQLAlchemyTokenStore(engine, tables=tables).add(record("s1", "alice-the-account"), quotas=(), keep=1)
        assert "never_made_" in str(raised.value)
        assert raised.value.orig is None
        assert "alice-the-account" not in f"{raised.value!s} {raised.value!r} {raised.value.args}"
        assert raised.value.params is None


def test_a_claim_uses_no_record_of_another_account_than_the_one_it_holds(tmp_path: Path) -> None:
    """A selector that was purged may have come to another account between the look for its owner and the lock."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/tokens.sqlite3")
    store = SQLAlchemyTokenStore(engine)
    store.create_tables()
    kept = record()
    assert store.add(kept, quotas=(), keep=1)
    with engine.begin() as connection:
        assert not store._work.claim(connection, kept.selector, "who had it before", claim_id="a", now=NOW)
    assert store.get(kept.selector) == kept
    assert store.claim(kept.selector, claim_id="a", now=NOW)
    engine.dispose()
