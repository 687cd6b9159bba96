"""The stores for servers, opened from this process or another."""

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any, Final

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.retry
import sqlalchemy as sa
from redis.backoff import NoBackoff
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from resetkit.stores.redis import AsyncRedisTokenStore, RedisTokenStore
from resetkit.stores.sqlalchemy import AsyncSQLAlchemyTokenStore, SQLAlchemyTokenStore, token_tables

URLS: Final[Mapping[str, str]] = {  # of the driver, where the server's socket or folder goes in
    "psycopg": "postgresql+psycopg://postgres@/postgres?host={}",
    "asyncpg": "postgresql+asyncpg://postgres@/postgres?host={}",
    "pymysql": "mariadb+pymysql://root@localhost/test?unix_socket={}",
    "asyncmy": "mariadb+asyncmy://root@localhost/test?unix_socket={}",
    "sqlite3": "sqlite:///{}/tokens.sqlite3",
    "aiosqlite": "sqlite+aiosqlite:///{}/tokens.sqlite3",
}
TABLES: Final = token_tables(sa.MetaData())


def sync_url(url: str) -> str:
    return url.replace("+asyncpg", "+psycopg").replace("+asyncmy", "+pymysql").replace("+aiosqlite", "")


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


# The kit makes a call of the driver fail, and judges what comes of that one call: so the clients below do not retry.


@contextmanager
def opened_redis(socket: str) -> Generator[RedisTokenStore, None, None]:
    with redis.Redis(unix_socket_path=socket, retry=redis.retry.Retry(NoBackoff(), 0)) as client:
        yield RedisTokenStore(client)


@asynccontextmanager
async def opened_redis_async(socket: str) -> AsyncGenerator[AsyncRedisTokenStore, None]:
    async with redis.asyncio.Redis(unix_socket_path=socket, retry=redis.asyncio.retry.Retry(NoBackoff(), 0)) as client:
        yield AsyncRedisTokenStore(client)


def all_keys(socket: str) -> bytes:
    with redis.Redis(unix_socket_path=socket, decode_responses=True) as client:
        kept: list[Any] = []
        for key in client.scan_iter():
            kept += [key, client.hgetall(key) if client.type(key) == "hash" else client.zrange(key, 0, -1)]
        return repr(kept).encode()
