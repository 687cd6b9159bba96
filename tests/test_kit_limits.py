"""Throttles over the library limits keep every promise, over memory and over real servers."""

import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import limits.aio.storage
import limits.storage
import pytest
import redis
import redis.asyncio

from resetkit import ConfigurationError
from resetkit.testing import AsyncThrottleConformance, ThrottleConformance, unsupported
from resetkit.throttle import AsyncLimitsThrottle, LimitsThrottle, _until_it_slid
from servers import Servers

NO_TIME = "it reads the storage's clock"


class OnServer:
    sliding: ClassVar[bool] = False
    at = unsupported(NO_TIME)
    url: str

    @pytest.fixture(autouse=True)
    def take_url(self, servers: Servers) -> None:
        self.socket = str(servers["valkey"])
        self.url = f"redis+unix://{self.socket}"

    def flush(self) -> None:
        with redis.Redis(unix_socket_path=self.socket) as client:
            client.flushall()


class OnValkey(OnServer):
    @contextmanager
    def open_throttle(self) -> Generator[LimitsThrottle, None, None]:
        self.flush()
        yield LimitsThrottle(limits.storage.RedisStorage(self.url), sliding=self.sliding)


class OnValkeyAsync(OnServer):
    @asynccontextmanager
    async def open_throttle(self) -> AsyncGenerator[AsyncLimitsThrottle, None]:
        self.flush()
        pool = redis.asyncio.BlockingConnectionPool.from_url(f"unix://{self.socket}")
        options: dict[str, Any] = {"connection_pool": pool}
        storage = limits.aio.storage.RedisStorage(f"async+{self.url}", implementation="redispy", **options)
        yield AsyncLimitsThrottle(storage, sliding=self.sliding)
        await pool.aclose()


class TestFixed(OnValkey, ThrottleConformance):
    pass


class TestSliding(OnValkey, ThrottleConformance):
    sliding = True


class TestAsyncFixed(OnValkeyAsync, AsyncThrottleConformance):
    pass


class TestAsyncSliding(OnValkeyAsync, AsyncThrottleConformance):
    sliding = True


@pytest.mark.parametrize("sliding", [False, True])
def test_who_was_refused_goes_on_after_the_seconds_that_were_said(sliding: bool, servers: Servers) -> None:
    """By the server's own clock, so this takes its seconds."""
    throttle = LimitsThrottle(limits.storage.RedisStorage(f"redis+unix://{servers['valkey']}"), sliding=sliding)

    def hit() -> int:
        now = datetime.now(UTC)
        return throttle.hit(f"waits-{sliding}", limit=3, window=timedelta(seconds=2), now=now)

    for _ in range(2):  # the second time with a window before
        while wait := hit():
            assert 1 <= wait <= 2
        while not (wait := hit()):
            pass
        told = time.monotonic() + wait
        while hit():
            assert time.monotonic() < told + 0.2, "it had to go on by now"


def test_the_window_before_is_forgotten_as_it_slides() -> None:
    """Of 10 in 60 seconds. Before, 10, which still reach 30 seconds into the last 60; since, 7: 12 of 10."""
    assert _until_it_slid(10, 60, 10, 30, 7, 90) == 30 - 3 * 60 / 10
    assert _until_it_slid(10, 60, 0, 0, 10, 100) == 40
    assert _until_it_slid(10, 60, 0, 0, 3, 100) == 0, "what refused the call was taken back before it was read"


def test_keys_are_kept_as_the_digests_that_they_are(servers: Servers) -> None:
    with redis.Redis(unix_socket_path=str(servers["valkey"]), decode_responses=True) as client:
        client.flushall()
        throttle = LimitsThrottle(limits.storage.RedisStorage(f"redis+unix://{servers['valkey']}"))
        throttle.hit("f00d", limit=1, window=timedelta(minutes=1), now=datetime.now(UTC))
        assert client.keys() == ["LIMITS:resetkit/f00d/1/60/second"]
        assert 0 < client.ttl(client.keys()[0]) <= 60


def test_a_storage_of_the_other_colour_or_none_is_refused() -> None:
    wrong: Any = limits.aio.storage.MemoryStorage()
    with pytest.raises(ConfigurationError, match=r"one of limits\.storage, not MemoryStorage"):
        LimitsThrottle(wrong)
    wrong = limits.storage.MemoryStorage()
    with pytest.raises(ConfigurationError, match=r"one of limits\.aio\.storage, not MemoryStorage"):
        AsyncLimitsThrottle(wrong)
    wrong = "memory://"
    with pytest.raises(ConfigurationError, match="not str"):
        LimitsThrottle(wrong)


class OnlyCounts(limits.storage.Storage):
    """Without sliding windows, as some have it."""

    base_exceptions = incr = get = get_expiry = check = reset = clear = None  # type: ignore[assignment]  # not called


def test_a_storage_without_sliding_windows_is_refused_where_they_are_wanted() -> None:
    storage = OnlyCounts()
    with pytest.raises(ConfigurationError, match="OnlyCounts has no sliding windows"):
        LimitsThrottle(storage, sliding=True)


def test_memory_is_refused_since_it_loses_counts_when_calls_come_at_once() -> None:
    with pytest.raises(ConfigurationError, match="take MemoryThrottle"):
        LimitsThrottle(limits.storage.MemoryStorage())
    with pytest.raises(ConfigurationError, match="take MemoryThrottle"):
        AsyncLimitsThrottle(limits.aio.storage.MemoryStorage())
