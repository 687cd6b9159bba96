"""The store for Redis, opened from this process or another: not in `engines`, so that a process loads one of them."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.retry
from redis.backoff import NoBackoff

from resetkit.stores.redis import AsyncRedisTokenStore, RedisTokenStore

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
