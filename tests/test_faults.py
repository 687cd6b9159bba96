"""Connections that break at every message of every operation: each has happened, or it has not.

A proxy between the store and the server cuts the connection before a message, swallows the answer to it, or delays it.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import pytest
import redis
import redis.asyncio
import sqlalchemy as sa
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from engines import TABLES, URLS, empty, engine_beside, opened, sync_url
from proxy import Fault, Proxy, between
from redis_engines import opened_redis
from resetkit._sync import LiftedStore, step
from resetkit.protocols import TokenStore
from resetkit.stores.redis import AsyncRedisTokenStore, RedisTokenStore
from resetkit.stores.sqlalchemy import AsyncSQLAlchemyTokenStore, SQLAlchemyTokenStore
from resetkit.testing._faults import _Cut
from resetkit.testing._records import Call, scenarios
from servers import Servers

# Drivers leave the sockets of connections that broke to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

FAULTS: Final[tuple[Fault, ...]] = ("request", "reply", "delay")
MOST: Final = 40  # messages in one operation, its connection's beginning among them

Note = Callable[[str, object], None]
"""Says how many faults there were, in the report that ``--junitxml`` writes."""
Run = Callable[[Call], Any]
"""Makes a call through the proxy, on a connection of its own."""


def fault_everywhere(
    direct: TokenStore, run: Run, proxy: Proxy, *, retries: bool = False, clear: Callable[[], object] | None = None
) -> int:
    """How many operations were disturbed. With `clear`, which leaves nothing that was left to purge, `purge` too."""
    purges = clear is not None
    store, count = LiftedStore(direct), 0
    for number in range(len(scenarios("", purges=purges))):
        for fault in FAULTS:
            for nth in range(1, MOST):
                name = f"{number}.{fault}.{nth}"
                scenario = scenarios(name, purges=purges)[number]
                if clear and scenario.call.method == "purge":
                    clear()
                cut = _Cut(store, scenario, name)
                step(cut.prepare())
                proxy.arm(nth, fault)
                answer, ended = None, False
                with suppress(Exception):  # each driver has its own
                    answer, ended = run(scenario.call), True
                happened = proxy.disarm()
                repeated = retries and fault == "reply" and happened
                if ended and not repeated:
                    assert answer == cut.answer, f"{scenario.call.method} at message {nth}, {fault}"
                if repeated and scenario.call.method in {"add", "claim"}:
                    assert ended
                    assert answer is True
                if not (repeated and scenario.call.method == "attempt"):  # a repeat counts again, as it may
                    step(cut.judge(f"disturbed at message {nth} ({fault})", ended=ended))
                if not happened:
                    break
                count += 1
            else:
                pytest.fail(f"the operation of scenario {number} made more than {MOST} messages")
    return count


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg", "pymysql", "asyncmy"])
def test_a_database_connection_breaks_at_every_message(driver: str, servers: Servers, record_property: Note) -> None:
    name = ".s.PGSQL.5432" if "postgresql" in URLS[driver] else "s"
    place = servers["postgres" if "postgresql" in URLS[driver] else "mariadb"]
    direct_url = sync_url(URLS[driver].format(place))
    TABLES.tokens.metadata.create_all(engine_beside(direct_url))
    empty(direct_url)
    with between(place / name if place.is_dir() else place, name) as (proxy, path), opened(direct_url) as direct:
        url = URLS[driver].format(path if place.is_dir() else path / name)
        if driver in {"psycopg", "pymysql"}:
            store = SQLAlchemyTokenStore(sa.create_engine(url, poolclass=NullPool), tables=TABLES)

            def run(call: Call) -> Any:
                return call.begin(store)
        else:
            async_store = AsyncSQLAlchemyTokenStore(create_async_engine(url, poolclass=NullPool), tables=TABLES)

            def run(call: Call) -> Any:
                return asyncio.run(call.on(async_store))

        faults = fault_everywhere(direct, run, proxy, clear=lambda: empty(direct_url))
    record_property("faults", faults)
    assert faults > 100


@pytest.mark.parametrize("server", ["valkey", "redis"])
@pytest.mark.parametrize("retries", [False, True])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_connection_to_redis_breaks_at_every_message(
    server: str, retries: bool, colour: str, servers: Servers, record_property: Note
) -> None:
    place = servers[server]
    with redis.Redis(unix_socket_path=str(place)) as client:
        client.flushall()
    with between(place, "s") as (proxy, path), opened_redis(str(place)) as direct:
        options: dict[str, Any] = {"unix_socket_path": str(path / "s")}
        if not retries:
            none = Retry if colour == "sync" else AsyncRetry
            options["retry"] = none(NoBackoff(), 0)

        def run_sync(call: Call) -> Any:
            with redis.Redis(**options) as client:
                return call.begin(RedisTokenStore(client))

        async def run_async(call: Call) -> Any:
            async with redis.asyncio.Redis(**options) as client:
                return await call.on(AsyncRedisTokenStore(client))

        run = run_sync if colour == "sync" else lambda call: asyncio.run(run_async(call))
        faults = fault_everywhere(direct, run, proxy, retries=retries)
    record_property("faults", faults)
    assert faults > 40
