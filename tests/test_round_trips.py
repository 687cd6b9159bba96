"""How often each operation waits for its server, counted on the wire, on a connection that is warm."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import redis

from engines import TABLES, URLS, empty, engine_beside, opened, opened_async, sync_url
from proxy import Proxy, between
from redis_engines import opened_redis
from resetkit import AsyncTokenStore, Quota, TokenRecord
from resetkit._sync import LiftedStore, step
from servers import Servers

NOW = datetime(2100, 1, 1, tzinfo=UTC)
QUOTAS = [Quota(20, NOW - timedelta(hours=1))]


def record(selector: str) -> TokenRecord:
    return TokenRecord(
        selector=selector,
        account_id="alice",
        kind="mail",
        link_hash="h",
        stamp_digest="d",
        created_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        keep_until=NOW + timedelta(days=1),
    )


def calls(store: AsyncTokenStore, turn: int) -> dict[str, Callable[[], Awaitable[Any]]]:
    """One life of a token, and what the page and the operator may do in between."""
    name = f"s{turn}"
    return {
        "add": partial(store.add, record(name), quotas=QUOTAS, keep=1),
        "get": partial(store.get, name),
        "attempt": partial(store.attempt, name, limit=5),
        "claim": partial(store.claim, name, claim_id="c", now=NOW),
        "release": partial(store.release, name, claim_id="c", guess=True),
        "revoke": partial(store.revoke, "alice", now=NOW),
        "purge nothing": partial(store.purge, before=NOW, limit=100),
    }


async def count(store: AsyncTokenStore, proxy: Proxy) -> dict[str, int]:
    counted: dict[str, int] = {}
    for turn in range(8):  # at first, drivers ask for types; asyncpg prepares at the first use, psycopg at the fifth
        for name, call in calls(store, turn).items():
            before = proxy.round_trips
            await call()
            counted[name] = proxy.round_trips - before
    return counted


# One statement is one, on PostgreSQL. A transaction has its begin and end, and the account's row first. On MariaDB,
# claim and release look for the record before. PyMySQL and asyncmy begin with the first statement, and SQLAlchemy rolls
# back at the end.
OPERATIONS = ("add", "get", "attempt", "claim", "release", "revoke", "purge nothing")
ROUND_TRIPS = {
    "psycopg": (5, 1, 1, 5, 4, 6, 1),
    "asyncpg": (5, 1, 1, 5, 4, 6, 1),
    "pymysql": (5, 2, 3, 7, 6, 7, 2),
    "asyncmy": (5, 2, 3, 7, 6, 7, 2),
}


@pytest.mark.parametrize("driver", ROUND_TRIPS)
def test_a_database_is_asked_no_more_than_it_must(driver: str, servers: Servers) -> None:
    is_postgres = "postgresql" in URLS[driver]
    name = ".s.PGSQL.5432" if is_postgres else "s"
    place = servers["postgres" if is_postgres else "mariadb"]
    direct = sync_url(URLS[driver].format(place))
    TABLES.tokens.metadata.create_all(engine_beside(direct))
    empty(direct)
    with between(place / name if is_postgres else place, name) as (proxy, path):
        url = URLS[driver].format(path if is_postgres else path / name)
        if driver in {"psycopg", "pymysql"}:
            with opened(url) as store:
                counted = step(count(LiftedStore(store), proxy))
        else:
            counted = asyncio.run(count_async(url, proxy))
    assert counted == dict(zip(OPERATIONS, ROUND_TRIPS[driver], strict=True))


async def count_async(url: str, proxy: Proxy) -> dict[str, int]:
    async with opened_async(url) as store:
        return await count(store, proxy)


@pytest.mark.parametrize("server", ["valkey", "redis"])
def test_redis_is_asked_once(server: str, servers: Servers) -> None:
    place = servers[server]
    with redis.Redis(unix_socket_path=str(place)) as client:
        client.flushall()
    with between(place, "s") as (proxy, path), opened_redis(str(path / "s")) as store:
        assert step(count(LiftedStore(store), proxy)) == dict.fromkeys(OPERATIONS, 1) | {"purge nothing": 0}
