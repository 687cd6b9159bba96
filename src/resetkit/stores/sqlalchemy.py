"""Records in PostgreSQL, MySQL, MariaDB or SQLite, through SQLAlchemy Core.

Each transaction that changes records of an account first upserts that account's row in a table of its own. The lock on
it is what orders them, at any isolation level, whether the row was there before or not. Where something must be read
to find the account, it is read again under the lock.
"""

import asyncio
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from secrets import SystemRandom
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakSet

from resetkit._confidential import clear_locals
from resetkit.errors import ConfigurationError, DuplicateSelectorError
from resetkit.stores._rows import COLUMNS, record_of, seconds, values_of
from resetkit.values import REPLACED_FIELDS, Quota, TokenRecord

try:
    import sqlalchemy as sa
    from sqlalchemy.dialects import mysql, postgresql
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ProgrammingError, StatementError
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
except ImportError as _missing:
    message = 'resetkit.stores.sqlalchemy needs SQLAlchemy: python -m pip install "resetkit[sqlalchemy]"'
    raise ImportError(message) from _missing

_T = TypeVar("_T")
_DIALECTS: Final = ("postgresql", "mysql", "mariadb", "sqlite")
_TRIES: Final = 10  # of a transaction that met a deadlock
_FIRST_PAUSE: Final = 0.01  # seconds at most, and twice as long each time
_ID_LENGTH: Final = 255  # characters, as `TokenStore` promises
_CHECKED: Final = "resetkit"  # in a connection's `info`, which lives as long as it does
_AT_ONCE: Final = 500  # positions in one statement; SQLite before 3.32 takes 999

# Compared byte for byte, trailing spaces and case included. "C" also spares PostgreSQL's indexes what a new version of
# the system's collations does to others (wiki.postgresql.org/wiki/Locale_data_changes).
_ID: Final = (
    sa.String(_ID_LENGTH)
    .with_variant(postgresql.VARCHAR(_ID_LENGTH, collation="C"), "postgresql")
    .with_variant(mysql.VARCHAR(_ID_LENGTH, charset="utf8mb4", collation="utf8mb4_0900_bin"), "mysql")
    .with_variant(mysql.VARCHAR(_ID_LENGTH, charset="utf8mb4", collation="utf8mb4_nopad_bin"), "mariadb")
)
_POSITION: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# In the text of a statement: each value beside it takes the driver some time.
_OUTSTANDING: Final = sa.literal_column("'outstanding'", sa.String)
_USED: Final = sa.literal_column("'used'", sa.String)
_ZERO: Final = sa.literal_column("0", sa.Integer)
_ONE: Final = sa.literal_column("1", sa.Integer)

# What a database says when it gave up a transaction that will do if it is tried again.
_TRY_AGAIN: Final[frozenset[object]] = frozenset(
    {
        "40001",  # PostgreSQL: serialization_failure
        "40P01",  # PostgreSQL: deadlock_detected
        1213,  # MySQL: ER_LOCK_DEADLOCK
        1020,  # MariaDB: ER_CHECKREAD, under innodb_snapshot_isolation
        sqlite3.SQLITE_BUSY_SNAPSHOT,
        # Somebody inserted the selector, or made the tables, just now. The next try finds them.
        "23505",  # PostgreSQL: unique_violation
        "42P07",  # PostgreSQL: duplicate_table
        1062,  # MySQL: ER_DUP_ENTRY
        1050,  # MySQL: ER_TABLE_EXISTS_ERROR
        sqlite3.SQLITE_CONSTRAINT_UNIQUE,
    }
)
# Errors whose text is about the server and the statement. That of others, such as of constraints, quotes rows.
_QUOTES_NO_ROW: Final = (OperationalError, InterfaceError, ProgrammingError)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTables:
    """The tables of a store: `token_tables` makes them."""

    tokens: sa.Table
    accounts: sa.Table


def token_tables(metadata: sa.MetaData, *, prefix: str = "resetkit_", schema: str | None = None) -> TokenTables:
    """Define the two tables of a store in `metadata`: the application's own, so that its migrations hold them.

    `prefix` begins the names of the tables and indexes. `schema` is the tables' schema, by default that of `metadata`.
    No foreign key leads to or from them.
    """
    common: dict[str, Any] = {"schema": schema, "mysql_engine": "InnoDB", "mariadb_engine": "InnoDB"}
    tokens = sa.Table(
        f"{prefix}tokens",
        metadata,
        sa.Column("position", _POSITION, primary_key=True, autoincrement=True),  # the order of add
        sa.Column("selector", _ID, nullable=False),
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("link_hash", sa.Text, nullable=False),
        sa.Column("code_hash", sa.Text),
        sa.Column("stamp_digest", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("code_expires_at", sa.BigInteger),
        sa.Column("keep_until", sa.BigInteger, nullable=False),
        sa.Column("guesses", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("claim_id", _ID),
        sa.Index(f"{prefix}tokens_by_selector", "selector", unique=True),
        sa.Index(f"{prefix}tokens_by_account", "account_id", "kind", "created_at"),
        sa.Index(f"{prefix}tokens_by_keep_until", "keep_until"),
        sqlite_autoincrement=True,
        **common,
    )
    accounts = sa.Table(f"{prefix}accounts", metadata, sa.Column("account_id", _ID, primary_key=True), **common)
    return TokenTables(tokens=tokens, accounts=accounts)


class _How(Protocol):
    """How work is done on a connection that has nothing begun."""

    def __call__(self, connection: sa.Connection, work: Callable[[sa.Connection], _T], /) -> _T: ...


class SQLAlchemyTokenStore:
    """Keeps records in the database of `engine`, which stays the caller's: `engine.dispose` closes its connections.

    `tables` are what `token_tables` made in the application's metadata; by default, ones of those names in a metadata
    of their own. They must exist: `create_tables`, or a migration, makes them. Each operation is a transaction of its
    own, at the engine's isolation level; one that met a deadlock or a serialisation failure is tried again, ten times
    in all.

    With `transaction`, a function that gives the caller's own open connection or None, `claim` and `release` run in
    the caller's transaction: the token is used up if, and only if, the new password is committed. A deadlock there is
    raised, since nobody else can try the whole again. Everything else is committed at once on another connection: a
    guess that could be rolled back would be a free one. So after `claim` in such a transaction, `attempt` and `revoke`
    would wait for its end, and raise RuntimeError.

    Errors are SQLAlchemy's, without the parameters, and with no more of the driver's text than its first line, if that
    quotes none of them. Raises ConfigurationError for an engine of another kind of database or an async one; and, at
    the first call that writes, for connections that commit each statement, or whose isolation cannot do.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        tables: TokenTables | None = None,
        transaction: Callable[[], sa.Connection | None] | None = None,
    ) -> None:
        _require_engine(engine, sa.Engine, "SQLAlchemyTokenStore")
        self._work = _Work(engine, tables, joins=transaction is not None)
        self._engine = engine
        self._transaction = transaction or _no_transaction

    def create_tables(self) -> None:
        """Make the tables and indexes that are not there yet."""
        self._run(self._work.transact, self._work.create_tables)

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        """See `TokenStore.add`."""
        return self._run(self._work.transact, partial(self._work.add, record=record, quotas=quotas, keep=keep))

    def get(self, selector: str, /) -> TokenRecord | None:
        """See `TokenStore.get`."""
        return self._run(self._work.read, partial(self._work.get, selector=selector))

    def attempt(self, selector: str, /, *, limit: int) -> bool:
        """See `TokenStore.attempt`."""
        self._work.require_no_claim(self._transaction())
        return self._run(self._work.write, partial(self._work.attempt, selector=selector, limit=limit))

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        """See `TokenStore.claim`."""
        owner = self._owner(selector)
        return self._join(partial(self._work.claim, selector=selector, owner=owner, claim_id=claim_id, now=now))

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        """See `TokenStore.release`."""
        owner = self._owner(selector)
        return self._join(partial(self._work.release, selector=selector, owner=owner, claim_id=claim_id, guess=guess))

    def revoke(self, account_id: str, /, *, now: datetime) -> int:
        """See `TokenStore.revoke`."""
        self._work.require_no_claim(self._transaction())
        if not self._run(self._work.read, partial(self._work.has_live, account_id=account_id, now=now)):
            return 0
        return self._run(self._work.transact, partial(self._work.revoke, account_id=account_id, now=now))

    def purge(self, *, before: datetime, limit: int) -> int:
        """See `TokenStore.purge`."""
        due = self._run(self._work.read, partial(self._work.due, before=before, limit=limit))
        if not due:
            return 0
        count = self._run(self._work.transact, partial(self._work.delete, due=due, before=before))
        self._run(self._work.transact, partial(self._work.delete_accounts, due=due))
        return count

    def count_due(self, *, before: datetime, limit: int) -> int:
        """How many records `purge` would delete; it deletes none."""
        return len(self._run(self._work.read, partial(self._work.due, before=before, limit=limit)))

    def _owner(self, selector: str) -> str | None:
        if self._work.finds_owner:
            return None
        return self._run(self._work.read, partial(self._work.owner, selector=selector))

    def _join(self, work: Callable[[sa.Connection], _T]) -> _T:
        outer = sys.exception()
        connection = self._transaction()
        if connection is None:
            return self._run(self._work.transact, work)
        try:
            return self._work.join(connection, work)
        except BaseException as error:
            _conceal(error, outer)
            raise

    def _run(self, how: _How, work: Callable[[sa.Connection], _T]) -> _T:
        outer = sys.exception()
        pauses = _pauses()
        while True:
            try:
                with self._engine.connect() as connection:
                    return how(connection, work)
            except BaseException as error:
                pause = _pause_after(error, pauses)
                if pause is None:
                    _conceal(error, outer)
                    raise
            time.sleep(pause)


class AsyncSQLAlchemyTokenStore:
    """`SQLAlchemyTokenStore`, async, over an ``AsyncEngine``."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        tables: TokenTables | None = None,
        transaction: Callable[[], AsyncConnection | None] | None = None,
    ) -> None:
        _require_engine(engine, AsyncEngine, "AsyncSQLAlchemyTokenStore")
        self._work = _Work(engine.sync_engine, tables, joins=transaction is not None)
        self._engine = engine
        self._transaction = transaction or _no_transaction

    async def create_tables(self) -> None:
        """As `SQLAlchemyTokenStore.create_tables`."""
        await self._run(self._work.transact, self._work.create_tables)

    async def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        """See `TokenStore.add`."""
        return await self._run(self._work.transact, partial(self._work.add, record=record, quotas=quotas, keep=keep))

    async def get(self, selector: str, /) -> TokenRecord | None:
        """See `TokenStore.get`."""
        return await self._run(self._work.read, partial(self._work.get, selector=selector))

    async def attempt(self, selector: str, /, *, limit: int) -> bool:
        """See `TokenStore.attempt`."""
        self._work.require_no_claim(_sync(self._transaction()))
        return await self._run(self._work.write, partial(self._work.attempt, selector=selector, limit=limit))

    async def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        """See `TokenStore.claim`."""
        owner = await self._owner(selector)
        return await self._join(partial(self._work.claim, selector=selector, owner=owner, claim_id=claim_id, now=now))

    async def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        """See `TokenStore.release`."""
        owner = await self._owner(selector)
        return await self._join(
            partial(self._work.release, selector=selector, owner=owner, claim_id=claim_id, guess=guess)
        )

    async def revoke(self, account_id: str, /, *, now: datetime) -> int:
        """See `TokenStore.revoke`."""
        self._work.require_no_claim(_sync(self._transaction()))
        if not await self._run(self._work.read, partial(self._work.has_live, account_id=account_id, now=now)):
            return 0
        return await self._run(self._work.transact, partial(self._work.revoke, account_id=account_id, now=now))

    async def purge(self, *, before: datetime, limit: int) -> int:
        """See `TokenStore.purge`."""
        due = await self._run(self._work.read, partial(self._work.due, before=before, limit=limit))
        if not due:
            return 0
        count = await self._run(self._work.transact, partial(self._work.delete, due=due, before=before))
        await self._run(self._work.transact, partial(self._work.delete_accounts, due=due))
        return count

    async def count_due(self, *, before: datetime, limit: int) -> int:
        """As `SQLAlchemyTokenStore.count_due`."""
        return len(await self._run(self._work.read, partial(self._work.due, before=before, limit=limit)))

    async def _owner(self, selector: str) -> str | None:
        if self._work.finds_owner:
            return None
        return await self._run(self._work.read, partial(self._work.owner, selector=selector))

    async def _join(self, work: Callable[[sa.Connection], _T]) -> _T:
        outer = sys.exception()
        connection = self._transaction()
        if connection is None:
            return await self._run(self._work.transact, work)
        try:
            return await connection.run_sync(self._work.join, work)
        except BaseException as error:
            _conceal(error, outer)
            raise

    async def _run(self, how: _How, work: Callable[[sa.Connection], _T]) -> _T:
        outer = sys.exception()
        pauses = _pauses()
        while True:
            try:
                async with self._engine.connect() as connection:
                    return await connection.run_sync(how, work)
            except BaseException as error:
                pause = _pause_after(error, pauses)
                if pause is None:
                    _conceal(error, outer)
                    raise
            await asyncio.sleep(pause)


class _Work:
    """What each operation does on a connection. Both colours run this."""

    def __init__(self, engine: sa.Engine, tables: TokenTables | None, *, joins: bool) -> None:
        dialect = engine.dialect.name
        if dialect not in _DIALECTS:
            raise ConfigurationError(f"resetkit keeps tokens in {', '.join(_DIALECTS)}, not in {dialect}")
        self._joins = joins
        self._claiming = WeakSet[sa.RootTransaction]()  # the caller's transactions that hold an account
        self._tables = tables or token_tables(sa.MetaData())
        tokens, accounts = self._tables.tokens, self._tables.accounts
        of_account = tokens.c.account_id == sa.bindparam("of_account")
        of_selector = tokens.c.selector == sa.bindparam("of_selector")
        at_positions = tokens.c.position.in_(sa.bindparam("at_positions", expanding=True))
        stands = tokens.c.state == _OUTSTANDING
        is_outstanding = sa.and_(stands, tokens.c.expires_at > sa.bindparam("now"))
        has_claim = tokens.c.claim_id.is_not(None)
        is_live = sa.or_(is_outstanding, has_claim)
        is_due = tokens.c.keep_until < sa.bindparam("before")
        is_mysql = dialect in {"mysql", "mariadb"}
        self.finds_owner = dialect == "postgresql"
        given = sa.select(sa.bindparam("of_account", type_=accounts.c.account_id.type).label("account_id"))
        self._lock_account = _lock_in_mysql(accounts) if is_mysql else _lock_selected(accounts, given)
        self._read = sa.select(*(tokens.c[name] for name in COLUMNS)).where(of_selector)
        self._read_owner = sa.select(tokens.c.account_id).where(of_selector)
        self._lock_owner = _lock_selected(accounts, self._read_owner).returning(accounts.c.account_id)
        columns = (tokens.c.position, is_outstanding.label("is_outstanding"), has_claim.label("has_claim"))
        # A current read: MySQL and MariaDB would answer another one from an earlier snapshot.
        self._read_live = sa.select(*columns).where(of_account, is_live).with_for_update()
        self._has_live = sa.select(sa.exists().where(of_account, is_live))
        named = sa.select(*columns, *(tokens.c[name] for name in ("selector", "account_id", "kind", "created_at")))
        is_recent = sa.or_(is_live, tokens.c.created_at >= sa.bindparam("since"))
        self._read_before_add = sa.union_all(named.where(of_selector), named.where(of_account, is_recent))
        self._insert = tokens.insert().inline()  # nobody asks for its position
        ended = sa.case((stands, sa.bindparam("new_state", type_=sa.String)), else_=tokens.c.state)
        self._end = tokens.update().where(at_positions).values(state=ended, claim_id=sa.null())
        self._end_others = (
            tokens.update()
            .where(of_account, is_live, tokens.c.selector != sa.bindparam("but"))
            .values(state=ended, claim_id=sa.null())
        )
        self._use = (  # of the account that is held: a selector that was purged may have come to another
            tokens.update()
            .where(of_selector, of_account, is_outstanding)
            .values(state=_USED, claim_id=sa.bindparam("by"))
        )
        self._read_claimed = (
            sa.select(tokens.c.position).where(of_selector, tokens.c.claim_id == sa.bindparam("by")).with_for_update()
        )
        self._replace = (
            tokens.update().where(of_selector).values({name: sa.bindparam(f"new_{name}") for name in REPLACED_FIELDS})
        )
        self._count_guess = (
            tokens.update()
            .where(of_selector, tokens.c.guesses < sa.bindparam("limit"))
            .values(guesses=tokens.c.guesses + _ONE)
        )
        taken_back = tokens.c.guesses - sa.bindparam("guesses_less")
        self._give_back = (
            tokens.update()
            .where(of_selector, tokens.c.claim_id == sa.bindparam("by"))
            .values(
                state=_OUTSTANDING, claim_id=sa.null(), guesses=sa.case((taken_back > _ZERO, taken_back), else_=_ZERO)
            )
        )
        self._read_due = (
            sa.select(tokens.c.position, tokens.c.account_id)
            .where(is_due)
            .order_by(tokens.c.keep_until)
            .limit(sa.bindparam("limit"))
        )
        self._delete = tokens.delete().where(at_positions, is_due)
        self._delete_accounts = accounts.delete().where(
            accounts.c.account_id.in_(sa.bindparam("of_accounts", expanding=True)),
            ~sa.exists().where(tokens.c.account_id == accounts.c.account_id),
        )

    @staticmethod
    def read(connection: sa.Connection, work: Callable[[sa.Connection], _T]) -> _T:
        """Do `work`, which reads with one statement. Nothing is to be committed."""
        _spare_transaction(connection)
        return work(connection)

    @staticmethod
    def write(connection: sa.Connection, work: Callable[[sa.Connection], _T]) -> _T:
        """Do `work`, which writes with one statement."""
        _spare_transaction(connection)
        with connection.begin():
            return work(connection)

    @staticmethod
    def transact(connection: sa.Connection, work: Callable[[sa.Connection], _T]) -> _T:
        """Do `work` in a transaction."""
        with connection.begin():
            return work(connection)

    def join(self, connection: sa.Connection, work: Callable[[sa.Connection], _T]) -> _T:
        """Do `work` in the caller's transaction, which holds the account from then on."""
        transaction = connection.get_transaction()
        if transaction is None:
            raise RuntimeError("the connection given by transaction() is in no transaction: begin one first")
        self._claiming.add(transaction)
        done = work(connection)
        if done:  # else nothing was written, and there may be no lock to speak of
            _require_locks(connection)
        return done

    def require_no_claim(self, connection: sa.Connection | None) -> None:
        """Raise if the caller waits for itself otherwise, where a server would see two clients and no deadlock."""
        if connection is not None and connection.get_transaction() in self._claiming:
            raise RuntimeError("a token was claimed in this transaction, which holds its account: commit it first")

    def create_tables(self, connection: sa.Connection) -> None:
        tables = [self._tables.accounts, self._tables.tokens]
        self._tables.tokens.metadata.create_all(connection, tables)

    def add(self, connection: sa.Connection, record: TokenRecord, quotas: Sequence[Quota], keep: int) -> bool:
        self._lock(connection, record.account_id)
        values = {
            "of_selector": record.selector,
            "of_account": record.account_id,
            "now": seconds(record.created_at),
            "since": min((seconds(quota.since) for quota in quotas), default=sys.maxsize),
        }
        found = connection.execute(self._read_before_add, values).all()
        existing = next((row for row in found if row.selector == record.selector), None)
        if existing is not None:
            if existing.account_id != record.account_id:
                raise DuplicateSelectorError
            if not existing.is_outstanding:
                return False
            if self._put_instead(connection, record):
                return True  # else a purge has just taken it, and it is new again
        others = [row for row in found if row.selector != record.selector]
        alike = [row for row in others if row.kind == record.kind]
        if any(sum(row.created_at >= seconds(quota.since) for row in alike) >= quota.count for quota in quotas):
            return False
        connection.execute(self._insert, values_of(record))
        newest_first = sorted((row.position for row in alike if row.is_outstanding), reverse=True)
        claimed = [row.position for row in others if row.has_claim]
        self._end_at(connection, [*newest_first[keep - 1 :], *claimed], "superseded")
        return True

    def get(self, connection: sa.Connection, selector: str) -> TokenRecord | None:
        row = connection.execute(self._read, {"of_selector": selector}).one_or_none()
        return None if row is None else record_of(row)

    def attempt(self, connection: sa.Connection, selector: str, limit: int) -> bool:
        return connection.execute(self._count_guess, {"of_selector": selector, "limit": limit}).rowcount == 1

    def owner(self, connection: sa.Connection, selector: str) -> str | None:
        return connection.execute(self._read_owner, {"of_selector": selector}).scalar_one_or_none()

    def claim(self, connection: sa.Connection, selector: str, owner: str | None, claim_id: str, now: datetime) -> bool:
        account_id = self._lock_of(connection, selector, owner)
        if account_id is None:
            return False
        values = {"of_selector": selector, "of_account": account_id, "by": claim_id, "now": seconds(now)}
        if connection.execute(self._use, values).rowcount != 1:
            return connection.execute(self._read_claimed, {"of_selector": selector, "by": claim_id}).first() is not None
        values = {"of_account": account_id, "but": selector, "now": seconds(now), "new_state": "revoked"}
        connection.execute(self._end_others, values)
        return True

    def release(
        self, connection: sa.Connection, selector: str, owner: str | None, claim_id: str, *, guess: bool
    ) -> bool:
        if self._lock_of(connection, selector, owner) is None:
            return False
        values = {"of_selector": selector, "by": claim_id, "guesses_less": int(guess)}
        return connection.execute(self._give_back, values).rowcount == 1

    def has_live(self, connection: sa.Connection, account_id: str, now: datetime) -> bool:
        return bool(connection.execute(self._has_live, {"of_account": account_id, "now": seconds(now)}).scalar_one())

    def revoke(self, connection: sa.Connection, account_id: str, now: datetime) -> int:
        self._lock(connection, account_id)
        live = connection.execute(self._read_live, {"of_account": account_id, "now": seconds(now)}).all()
        self._end_at(connection, [row.position for row in live], "revoked")
        return sum(row.is_outstanding for row in live)

    def due(self, connection: sa.Connection, before: datetime, limit: int) -> Sequence[Any]:
        return connection.execute(self._read_due, {"before": seconds(before), "limit": limit}).all()

    def delete(self, connection: sa.Connection, due: Sequence[Any], before: datetime) -> int:
        parts = _in_parts([row.position for row in due])
        values = ({"at_positions": some, "before": seconds(before)} for some in parts)
        return sum(connection.execute(self._delete, each).rowcount for each in values)

    def delete_accounts(self, connection: sa.Connection, due: Sequence[Any]) -> None:
        """Apart from `delete`: who holds an account's lock may wait for its records, so this may not hold those."""
        for some in _in_parts(sorted({row.account_id for row in due})):
            connection.execute(self._delete_accounts, {"of_accounts": some})

    def _lock(self, connection: sa.Connection, account_id: str) -> None:
        """Hold the account until the transaction's end."""
        connection.execute(self._lock_account, {"of_account": account_id})
        self._require_hold(connection)

    def _lock_of(self, connection: sa.Connection, selector: str, owner: str | None) -> str | None:
        """Hold the account whose record this is: `owner`, unless the database finds it by itself."""
        if self.finds_owner:
            owner = connection.execute(self._lock_owner, {"of_selector": selector}).scalar_one_or_none()
            if owner is not None:
                self._require_hold(connection)
        elif owner is not None:
            self._lock(connection, owner)
        return owner

    def _require_hold(self, connection: sa.Connection) -> None:
        """The first time on a connection, see that a lock lasts."""
        if _CHECKED not in connection.info:
            _require_locks(connection)
            _require_isolation(connection, joins=self._joins)
            connection.info[_CHECKED] = True

    def _end_at(self, connection: sa.Connection, positions: Sequence[int], new_state: str) -> None:
        """Outstanding records come to this state, and those that hold a claim lose it."""
        if positions:
            connection.execute(self._end, {"at_positions": positions, "new_state": new_state})

    def _put_instead(self, connection: sa.Connection, record: TokenRecord) -> bool:
        values = {f"new_{name}": value for name, value in values_of(record, REPLACED_FIELDS).items()}
        return connection.execute(self._replace, {"of_selector": record.selector, **values}).rowcount == 1


def _lock_in_mysql(accounts: sa.Table) -> sa.Insert:
    """Of the account ``of_account``, in MySQL and MariaDB."""
    statement = mysql.insert(accounts).values(account_id=sa.bindparam("of_account"))
    return statement.on_duplicate_key_update(account_id=statement.inserted.account_id)


def _lock_selected(accounts: sa.Table, account_ids: sa.Select[Any]) -> sa.Insert:
    """In PostgreSQL, which locks no row that it reads meanwhile, and in SQLite. MySQL would: two meet in a deadlock.

    The clause is text, because SQLAlchemy 2.0 compiles one with its own ``on_conflict_do_update`` anew at each call.
    """
    clause = "ON CONFLICT (account_id) DO UPDATE SET account_id = excluded.account_id"
    return accounts.insert().from_select(["account_id"], account_ids.suffix_with(clause))


def _in_parts(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (values[at : at + _AT_ONCE] for at in range(0, len(values), _AT_ONCE))


def _pauses() -> Iterator[float]:
    """Seconds before each further try: random, so that two that met do not meet again."""
    chance = SystemRandom()
    return (chance.uniform(0, _FIRST_PAUSE * 2**number) for number in range(_TRIES - 1))


def _pause_after(error: BaseException, pauses: Iterator[float]) -> float | None:
    """None if `error` is to be raised."""
    if not isinstance(error, DBAPIError):
        return None
    is_made = str(error.orig).endswith(" already exists")  # SQLite has no code for a table that another just made
    return next(pauses, None) if is_made or _codes(error.orig) & _TRY_AGAIN else None


def _codes(original: BaseException | None) -> set[object]:
    """What the drivers call them. Those of MySQL have a number in front, and a state that says nothing beside it."""
    named = (getattr(original, name, None) for name in ("sqlstate", "pgcode", "sqlite_errorcode"))
    return {*named, *(each for each in getattr(original, "args", ())[:1] if isinstance(each, int))}


def _conceal(error: BaseException, outer: BaseException | None) -> None:
    """Take parameters and rows out of SQLAlchemy's error, and what was in hand out of its traceback."""
    clear_locals(error, outer)
    if isinstance(error, StatementError):
        error.args = (_without_values(error),)
        error.hide_parameters = True
        error.params = error.orig = None
        error.__cause__ = error.__context__ = None


def _without_values(error: StatementError) -> str:
    """The driver's class, its code, and its first line, if it is of a kind that quotes no row and quotes no value."""
    original = error.orig
    line = next(iter(str(original).splitlines()), "") if isinstance(error, _QUOTES_NO_ROW) else ""
    if any(re.search(rf"(?<!\w){re.escape(value)}(?!\w)", line) for value in _texts(error.params)):
        line = ""
    codes = (str(code) for code in _codes(original) if code is not None)
    return f"({' '.join([type(original).__name__, *sorted(codes)])}) {line}".rstrip()


def _texts(params: Any) -> Iterator[str]:
    """Every text that was to be bound, however deep it stands in tuples, lists and dicts."""
    if isinstance(params, str):
        yield params
    elif hasattr(params, "values"):
        yield from _texts([*params.values()])
    elif hasattr(params, "__iter__"):
        for each in params:
            yield from _texts(each)


def _require_locks(connection: sa.Connection) -> None:
    """After a write: its transaction must still be open, whatever the driver was told."""
    question = {
        "postgresql": "SELECT pg_current_xact_id_if_assigned() IS NOT NULL",
        "mysql": "SELECT NOT @@autocommit",
        "mariadb": "SELECT NOT @@autocommit",
    }.get(connection.dialect.name)
    if question:
        is_open = connection.execute(sa.text(question)).scalar_one()
    else:
        driver: Any = connection.connection.driver_connection
        is_open = driver.in_transaction
    if not is_open:
        raise ConfigurationError("this connection commits each statement, so nothing holds a lock: turn AUTOCOMMIT off")


def _require_isolation(connection: sa.Connection, *, joins: bool) -> None:
    """On MySQL and MariaDB, levels at which `get` reads what was never committed, or waits for the caller itself."""
    if connection.dialect.name in {"mysql", "mariadb"}:
        level = connection.get_isolation_level()
        if level == "READ UNCOMMITTED" or (joins and level == "SERIALIZABLE"):
            raise ConfigurationError(f"on {connection.dialect.name} the store cannot work at {level}: take the default")


def _spare_transaction(connection: sa.Connection) -> None:
    """For one statement, which is a transaction by itself: on PostgreSQL that spares two of three round trips.

    Elsewhere it would cost some: drivers of MySQL and MariaDB tell the server, those of SQLite begin by themselves. And
    an engine that was made with a level of its own keeps to it, which SQLAlchemy would not always find back to.
    """
    has_own = getattr(connection.dialect, "_on_connect_isolation_level", None) is not None
    if connection.dialect.name == "postgresql" and not has_own:
        connection.execution_options(isolation_level="AUTOCOMMIT")


def _no_transaction() -> None:
    """There is none to join."""


def _sync(connection: AsyncConnection | None) -> sa.Connection | None:
    return None if connection is None else connection.sync_connection


def _require_engine(engine: object, wanted: type[sa.Engine | AsyncEngine], store: str) -> None:
    if not isinstance(engine, wanted):
        raise ConfigurationError(f"{store} needs a sqlalchemy {wanted.__name__}, not {type(engine).__name__}")
