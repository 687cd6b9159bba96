"""The records of a whole site, put into a store's own tables by the fastest way that each engine has.

They are what the store itself would have left: times spread over as long as records are kept, most accounts with one
record or two, ids and selectors that come in no order, hashes of Argon2's length.
"""

import hashlib
import os
import socket
import sqlite3
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psycopg
import redis
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from engines import TABLES, URLS
from resetkit import ResetPolicy, TokenRecord
from resetkit.stores import SQLiteTokenStore
from resetkit.stores._rows import COLUMNS, seconds

pymysql: Any = import_module("pymysql")  # which ships no types

Row = tuple[str | int | None, ...]
"""The fields of a record, as `COLUMNS` has them."""

KEPT: Final = ResetPolicy().link_lifetime + ResetPolicy().retention
LIFETIME: Final = ResetPolicy().link_lifetime

# Of ten accounts six have one record, three have two, and one has four: who asks again does so within minutes.
_ACCOUNT: Final = (0, 1, 2, 3, 4, 5, 6, 6, 7, 7, 8, 8, 9, 9, 9, 9)
_IS_NEWEST: Final = tuple(_ACCOUNT[(place + 1) % 16] != account for place, account in enumerate(_ACCOUNT))

_BLOCK: Final = 5000  # records; a few MB at once
_TOKENS: Final = TABLES.tokens
_ACCOUNTS: Final = TABLES.accounts
_FILL_ACCOUNTS: Final = (
    f"INSERT INTO {_ACCOUNTS.name} (account_id) SELECT DISTINCT account_id FROM {_TOKENS.name} ORDER BY account_id"
)


def this_second() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def selector_of(number: int, name: str = "s") -> str:
    """The selector of a record: 32 hex digits, as the manager draws them."""
    return hashlib.md5(f"{name}{number}".encode()).hexdigest()


def account_of(number: int) -> str:
    """Whose the record is."""
    return account_id(number // 16 * 10 + _ACCOUNT[number % 16])


def account_id(number: int) -> str:
    """An id in the form of a UUID. So many records as `count` belong to ``accounts(count)`` of them, at least."""
    text = hashlib.md5(f"a{number}".encode()).hexdigest()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def accounts(count: int) -> int:
    return count // 16 * 10


def rows(count: int, now: datetime, *, due: float = 0.0) -> Iterator[Row]:
    """Records up to `now`, oldest first. The share `due` is past its keep time; none other is within the next hour."""
    lifetime, kept, end = int(LIFETIME.total_seconds()), int(KEPT.total_seconds()), seconds(now)
    span = (kept - 3600) / (1 - due)
    for number in range(count):
        whose, selector = account_of(number), selector_of(number)
        noise = selector + whose[:8]
        created_at = end - int(span * (1 - number / count)) - 1
        state = ("used" if number % 2 else "outstanding") if _IS_NEWEST[number % 16] else "superseded"
        yield (
            selector,
            whose,
            "mail",
            f"$argon2id$v=19$m=19456,t=2,p=1${noise[:22]}${noise}abc",
            None,
            noise + noise[:24],
            created_at,
            created_at + lifetime,
            None,
            created_at + kept,
            0,
            state,
            noise[8:] if state == "used" else None,
        )


def new_record(selector: str, whose: str, now: datetime) -> TokenRecord:
    """A record as the manager makes one for a link."""
    return TokenRecord(
        selector=selector,
        account_id=whose,
        kind="mail",
        link_hash=f"$argon2id$v=19$m=19456,t=2,p=1${selector[:22]}${selector}01234567890",
        stamp_digest=selector * 2,
        created_at=now,
        expires_at=now + LIFETIME,
        keep_until=now + KEPT,
    )


def blocks(every: Iterable[Row], size: int = _BLOCK) -> Iterator[list[Row]]:
    left = iter(every)
    while block := list(islice(left, size)):
        yield block


def _text(block: Iterable[Row]) -> bytes:
    """Lines of tab-separated columns, which PostgreSQL's COPY and MariaDB's LOAD DATA read alike."""
    lines = ("\t".join(r"\N" if value is None else str(value) for value in row) for row in block)
    return "".join(f"{line}\n" for line in lines).encode()


@contextmanager
def _without_indexes(url: str) -> Generator[None, None, None]:
    """The store's tables, empty and without their indexes, which are made at the end of the block."""
    engine = sa.create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        TABLES.tokens.metadata.drop_all(connection)
        connection.execute(sa.schema.CreateTable(_TOKENS))
        connection.execute(sa.schema.CreateTable(_ACCOUNTS))
    yield
    with engine.begin() as connection:
        for index in sorted(_TOKENS.indexes, key=str):
            index.create(connection)


def postgres_connection(place: str | Path) -> Any:
    return psycopg.connect(host=str(place), user="postgres", dbname="postgres", autocommit=True)


def mariadb_connection(place: str | Path) -> Any:
    return pymysql.connect(
        unix_socket=str(place), user="root", database="test", autocommit=True, local_infile=True, charset="utf8mb4"
    )


def fill_postgres(place: str | Path, every: Iterable[Row]) -> None:
    with _without_indexes(URLS["psycopg"].format(place)), postgres_connection(place) as connection:
        copy = f"COPY {_TOKENS.name} ({', '.join(COLUMNS)}) FROM STDIN"
        with connection.cursor() as cursor, cursor.copy(copy) as stream:
            for block in blocks(every):
                stream.write(_text(block))
        connection.execute(_FILL_ACCOUNTS)
    with postgres_connection(place) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def fill_mariadb(place: str | Path, every: Iterable[Row]) -> None:
    with (
        TemporaryDirectory() as folder,
        _without_indexes(URLS["pymysql"].format(place)),
        closing(mariadb_connection(place)) as connection,
        connection.cursor() as cursor,
    ):
        pipe = Path(folder) / "records"
        os.mkfifo(pipe)
        writer = threading.Thread(target=_write, args=(pipe, every))
        writer.start()
        cursor.execute("SET unique_checks = 0, foreign_key_checks = 0")
        cursor.execute(
            f"LOAD DATA LOCAL INFILE '{pipe}' INTO TABLE {_TOKENS.name} CHARACTER SET utf8mb4 ({', '.join(COLUMNS)})"
        )
        writer.join()
        cursor.execute(_FILL_ACCOUNTS)
    with closing(mariadb_connection(place)) as connection, connection.cursor() as cursor:
        cursor.execute(f"ANALYZE TABLE {_TOKENS.name}, {_ACCOUNTS.name}")


def _write(pipe: Path, every: Iterable[Row]) -> None:
    with pipe.open("wb") as stream:
        for block in blocks(every):
            stream.write(_text(block))


def sqlite_connection(place: str | Path) -> sqlite3.Connection:
    connection = sqlite3.connect(place, isolation_level=None, timeout=10)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def fill_sqlite(place: str | Path, every: Iterable[Row]) -> None:
    SQLiteTokenStore(place).close()
    with closing(sqlite_connection(place)) as connection:
        made = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
        indexes = connection.execute(made).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -2000000")  # KiB
        connection.execute("BEGIN")
        connection.executemany(
            f"INSERT INTO resetkit_tokens ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})", every
        )
        for _, sql in indexes:
            connection.execute(sql)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")


def fill_valkey(place: str | Path, every: Iterable[Row]) -> None:
    """Commands in the server's own protocol, without waiting for answers, as its guide to mass insertion says."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(place))
        connection.sendall(_command("CLIENT", "REPLY", "OFF"))
        position = 0
        for block in blocks(every):
            commands = list[bytes]()
            for row in block:
                position += 1
                commands += _commands(row, position)
            connection.sendall(b"".join(commands))
        connection.sendall(_command("CLIENT", "REPLY", "ON"))
        if connection.recv(64) != b"+OK\r\n":
            raise RuntimeError("the server did not take the records")


def _commands(row: Row, position: int) -> Iterator[bytes]:
    """What a script of the store's does for one record. The records of an account come oldest first."""
    selector, keep_until = str(row[0]), str(row[9])
    token, account = f"{{resetkit}}:token:{selector}", f"{{resetkit}}:account:{row[1]}"
    values = zip(COLUMNS, row, strict=True)
    fields = [text for name, value in values if value is not None for text in (name, str(value))]
    yield _command("HSET", token, *fields)
    yield _command("EXPIREAT", token, keep_until)
    yield _command("ZADD", account, str(position), selector)
    yield _command("EXPIREAT", account, keep_until)


def _command(*parts: str) -> bytes:
    """The parts are ASCII, so that characters are bytes."""
    return "".join([f"*{len(parts)}\r\n", *[f"${len(part)}\r\n{part}\r\n" for part in parts]]).encode()


FILL: Final = {"postgres": fill_postgres, "mariadb": fill_mariadb, "sqlite": fill_sqlite, "valkey": fill_valkey}


def due_rows(count: int, now: datetime, name: str) -> list[Row]:
    """Records two days past their keep time, each of an account of its own."""
    old = seconds(now - KEPT - timedelta(days=2))
    shift = seconds(now) - old
    made = rows(count, now)
    return [
        (selector_of(number, name), selector_of(number, f"{name}-account"), *_moved(row[2:], shift))
        for number, row in enumerate(made)
    ]


def _moved(row: Sequence[Any], shift: int) -> Iterator[Any]:
    return (value - shift if isinstance(value, int) and value > shift else value for value in row)


def insert(engine: str, place: str | Path, some: Sequence[Row]) -> None:
    """A few records more, by plain statements, with the rows of their accounts."""
    ids = sorted({(row[1],) for row in some}, key=str)
    marks = ", ".join("?" * len(COLUMNS))
    tokens = f"INSERT INTO resetkit_tokens ({', '.join(COLUMNS)}) VALUES ({marks})"
    owners = "INSERT INTO resetkit_accounts (account_id) VALUES (?)"
    if engine == "sqlite":
        with closing(sqlite_connection(place)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(tokens, some)
            connection.execute("COMMIT")
        return
    opened = postgres_connection(place) if engine == "postgres" else mariadb_connection(place)
    with closing(opened) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.executemany(tokens.replace("?", "%s"), some)
        cursor.executemany(owners.replace("?", "%s"), ids)
        cursor.execute("COMMIT")


def sizes(engine: str, place: str | Path) -> tuple[int, int]:
    """Bytes of the records, and of the indexes and all else that belongs to them."""
    if engine == "postgres":
        with postgres_connection(place) as connection:
            both = " + ".join(f"pg_total_relation_size('{each.name}')" for each in (_TOKENS, _ACCOUNTS))
            asked = f"SELECT pg_table_size('{_TOKENS.name}'), {both}"
            table, total = connection.execute(asked).fetchall()[0]
    elif engine == "mariadb":
        with closing(mariadb_connection(place)) as connection, connection.cursor() as cursor:
            of_tables = "FROM information_schema.tables WHERE table_schema = 'test'"
            cursor.execute(f"SELECT sum(data_length + index_length) {of_tables}")
            ((total,),) = cursor.fetchall()
            cursor.execute(f"SELECT data_length {of_tables} AND table_name = '{_TOKENS.name}'")
            ((table,),) = cursor.fetchall()
    elif engine == "sqlite":
        with closing(sqlite_connection(place)) as connection:
            total = connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            (total,) = total.fetchone()
            table = total
    else:
        with redis.Redis(unix_socket_path=str(place)) as client:
            info: Any = client.info("memory")
            table = total = info["used_memory"]
    return int(table), int(total)
