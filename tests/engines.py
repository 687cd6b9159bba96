"""The store for databases, opened from this process or another."""

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from resetkit.stores.sqlalchemy import AsyncSQLAlchemyTokenStore, SQLAlchemyTokenStore, token_tables

# A socket needs no TLS, and PyMySQL would read the system's certificates for it: 20 ms of work for each connection.
_PYMYSQL: Final = "mariadb+pymysql://root@localhost/test?ssl_disabled=true&unix_socket="
_ASYNCMY: Final = "mariadb+asyncmy://root@localhost/test?unix_socket="

URLS: Final[Mapping[str, str]] = {  # of the driver, where the server's socket or folder goes in
    "psycopg": "postgresql+psycopg://postgres@/postgres?host={}",
    "asyncpg": "postgresql+asyncpg://postgres@/postgres?host={}",
    "pymysql": _PYMYSQL + "{}",
    "asyncmy": _ASYNCMY + "{}",
    "sqlite3": "sqlite:///{}/tokens.sqlite3",
    "aiosqlite": "sqlite+aiosqlite:///{}/tokens.sqlite3",
}
TABLES: Final = token_tables(sa.MetaData())


def sync_url(url: str) -> str:
    return url.replace("+asyncpg", "+psycopg").replace(_ASYNCMY, _PYMYSQL).replace("+aiosqlite", "")


@cache
def engine_beside(url: str) -> sa.Engine:
    """For a test to look and clean up with: it knows the server, and keeps no connection for a fork to share."""
    return sa.create_engine(sync_url(url), poolclass=NullPool)


def empty(url: str) -> None:
    with engine_beside(url).begin() as connection:
        connection.execute(TABLES.tokens.delete())
        connection.execute(TABLES.accounts.delete())


def everything(url: str) -> bytes:
    with engine_beside(url).begin() as connection:
        rows = [connection.execute(table.select()).all() for table in (TABLES.tokens, TABLES.accounts)]
    return repr(rows).encode()


@contextmanager
def opened(url: str) -> Generator[SQLAlchemyTokenStore, None, None]:
    engine = sa.create_engine(url, pool_size=10)
    try:
        yield SQLAlchemyTokenStore(engine, tables=TABLES)
    finally:
        engine.dispose()


@asynccontextmanager
async def opened_async(url: str) -> AsyncGenerator[AsyncSQLAlchemyTokenStore, None]:
    engine = create_async_engine(url, pool_size=10)
    try:
        yield AsyncSQLAlchemyTokenStore(engine, tables=TABLES)
    finally:
        await engine.dispose()
