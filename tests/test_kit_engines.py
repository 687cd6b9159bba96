"""The stores for servers keep every promise on each engine, over each driver."""

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, ClassVar, Final

import pytest
import redis

from engines import (
    TABLES,
    URLS,
    empty,
    engine_beside,
    everything,
    opened,
    opened_async,
)
from redis_engines import all_keys, opened_redis, opened_redis_async
from resetkit.stores.redis import AsyncRedisTokenStore, RedisTokenStore
from resetkit.stores.sqlalchemy import AsyncSQLAlchemyTokenStore, SQLAlchemyTokenStore
from resetkit.testing import AsyncTokenStoreConformance, TokenStoreConformance
from servers import Servers

FEW: Final = 2
"""Of what is explored, for a class whose server, driver and colour other classes explore further."""
UNCOUNTED = pytest.mark.no_cover
"""Counting lines is slow, and the classes without this run the same ones."""


class OnDatabase:
    """What the classes below share."""

    examples: ClassVar[int | None] = 8
    url: str
    server: ClassVar[str]
    driver: ClassVar[str]

    @pytest.fixture(autouse=True)
    def make_tables(self, servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> None:
        place = tmp_path_factory.mktemp("sqlite") if self.server == "sqlite" else servers[self.server]
        self.url = URLS[self.driver].format(place)
        TABLES.tokens.metadata.create_all(engine_beside(self.url))

    def drivers(self) -> Sequence[str]:
        return (self.driver,)


class OnDatabaseSync(OnDatabase):
    @contextmanager
    def open_store(self) -> Generator[SQLAlchemyTokenStore, None, None]:
        empty(self.url)
        with opened(self.url) as store:
            yield store

    def other_process(self, store: Any, /) -> Any:
        return partial(opened, self.url)

    def dump(self, store: Any, /) -> bytes:
        return everything(self.url)


class OnDatabaseAsync(OnDatabase):
    @asynccontextmanager
    async def open_store(self) -> AsyncGenerator[AsyncSQLAlchemyTokenStore, None]:
        empty(self.url)
        async with opened_async(self.url) as store:
            yield store

    def other_process(self, store: Any, /) -> Any:
        return partial(opened_async, self.url)

    async def dump(self, store: Any, /) -> bytes:
        return everything(self.url)


@UNCOUNTED
class TestPostgresPsycopg(OnDatabaseSync, TokenStoreConformance):
    server, driver = "postgres", "psycopg"


@UNCOUNTED
class TestPostgresPsycopgAsync(OnDatabaseAsync, AsyncTokenStoreConformance):
    examples: ClassVar[int | None] = FEW
    server, driver = "postgres", "psycopg"


@UNCOUNTED
class TestPostgresAsyncpg(OnDatabaseAsync, AsyncTokenStoreConformance):
    server, driver = "postgres", "asyncpg"


@UNCOUNTED
class TestMariaDBPyMySQL(OnDatabaseSync, TokenStoreConformance):
    server, driver = "mariadb", "pymysql"


@UNCOUNTED
class TestMariaDBAsyncmy(OnDatabaseAsync, AsyncTokenStoreConformance):
    server, driver = "mariadb", "asyncmy"

    def drivers(self) -> Sequence[str]:  # itself compiled, so that calls are seen where SQLAlchemy makes them
        return ("sqlalchemy.connectors.asyncio", "sqlalchemy.dialects.mysql.asyncmy")


class TestSQLite(OnDatabaseSync, TokenStoreConformance):
    server, driver = "sqlite", "sqlite3"


class TestSQLiteAiosqlite(OnDatabaseAsync, AsyncTokenStoreConformance):
    server, driver = "sqlite", "aiosqlite"

    def drivers(self) -> Sequence[str]:  # itself a thread, which a failure at any other place would end
        return ("sqlalchemy.connectors.asyncio", "sqlalchemy.dialects.sqlite.aiosqlite")


class OnRedis:
    examples: ClassVar[int | None] = 8
    expires_by_itself = True
    socket: str
    server: ClassVar[str]

    @pytest.fixture(autouse=True)
    def take_socket(self, servers: Servers) -> None:
        self.socket = str(servers[self.server])

    def drivers(self) -> Sequence[str]:
        return ("redis",)

    def flush(self) -> None:
        with redis.Redis(unix_socket_path=self.socket) as client:
            client.flushall()


class OnRedisSync(OnRedis):
    @contextmanager
    def open_store(self) -> Generator[RedisTokenStore, None, None]:
        self.flush()
        with opened_redis(self.socket) as store:
            yield store

    def other_process(self, store: Any, /) -> Any:
        return partial(opened_redis, self.socket)

    def dump(self, store: Any, /) -> bytes:
        return all_keys(self.socket)


class OnRedisAsync(OnRedis):
    @asynccontextmanager
    async def open_store(self) -> AsyncGenerator[AsyncRedisTokenStore, None]:
        self.flush()
        async with opened_redis_async(self.socket) as store:
            yield store

    def other_process(self, store: Any, /) -> Any:
        return partial(opened_redis_async, self.socket)

    async def dump(self, store: Any, /) -> bytes:
        return all_keys(self.socket)


class TestValkey(OnRedisSync, TokenStoreConformance):
    server = "valkey"


class TestValkeyAsync(OnRedisAsync, AsyncTokenStoreConformance):
    examples: ClassVar[int | None] = FEW
    server = "valkey"


class TestRedis(OnRedisSync, TokenStoreConformance):
    examples: ClassVar[int | None] = FEW
    server = "redis"


class TestRedisAsync(OnRedisAsync, AsyncTokenStoreConformance):
    server = "redis"
