"""Counting calls by key: in this process's memory, bounded, or in a storage that processes share."""

import hashlib
import math
import secrets
import struct
import threading
import time
from array import array
from datetime import datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from resetkit._checks import check_whole
from resetkit._fork import start_afresh_in_child
from resetkit.errors import ConfigurationError

if TYPE_CHECKING:
    import limits.aio.storage
    import limits.storage

_ROWS: Final = 4
_WIDTH: Final = 2**16


class MemoryThrottle:
    """Fixed windows in this process's memory, each from a key's first call on. N processes allow N times as much.

    The first `capacity` keys of each limit are counted one by one and kept until their windows end, so a flood of
    fresh keys frees no count. What comes while the table is full is counted in a table of fixed size, whose cells
    keys share by a secret seed: such a key may be refused early if a flood hit all its four cells, never late. The
    defaults take about 20 MB for each limit at the most; the manager has three.

    As with any fixed window, the limit may be had once more right after a window's end.

    May be called from several threads.
    """

    def __init__(self, *, capacity: int = 50_000) -> None:
        self._capacity = check_whole("capacity", capacity, least=1)
        self._tables: dict[tuple[int, int], _Table] = {}
        self._lock = threading.Lock()
        start_afresh_in_child(self)

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        """Count one call and decide; see `Throttle.hit`. A refused call does not count."""
        second, length = int(now.timestamp()), int(window.total_seconds())
        with self._lock:
            table = self._tables.get((limit, length))
            if table is None:
                table = self._tables[limit, length] = _Table(limit, length, self._capacity)
            return table.hit(key, second)

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()


class AsyncMemoryThrottle:
    """`MemoryThrottle`, async."""

    def __init__(self, *, capacity: int = 50_000) -> None:
        self._throttle = MemoryThrottle(capacity=capacity)

    async def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        """As `MemoryThrottle.hit`."""
        return self._throttle.hit(key, limit=limit, window=window, now=now)


class LimitsThrottle:
    """Counts in a storage of the library limits (extra ``limits``), such as Redis, shared by all processes.

    Windows are fixed, from a key's first call on. With ``sliding=True`` the window before weighs in, as far as it still
    reaches into the last ``window``, so that the limit cannot be had twice around a window's end. Moving windows are
    not offered: they keep every call. Time is the storage's own: `now` is not read.

    Errors are the storage's. Raises ConfigurationError for an async storage, one without sliding windows, and limits'
    ``MemoryStorage``, which loses counts when calls come at once: `MemoryThrottle` does not.
    """

    def __init__(self, storage: "limits.storage.Storage", *, sliding: bool = False) -> None:
        self._limiter = _limiter("limits", storage, sliding=sliding)
        self._sliding = sliding

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:  # noqa: ARG002  # see above
        """See `Throttle.hit`. In fixed windows a refused call counts, but prolongs nothing."""
        item = _item(limit, window)
        if self._limiter.hit(item, key):
            return 0
        if self._sliding:
            counted = self._limiter.storage.get_sliding_window(item.key_for(key), item.get_expiry())
            return _whole_seconds(_until_it_slid(limit, window.total_seconds(), *counted), window)
        return _whole_seconds(self._limiter.get_window_stats(item, key).reset_time - time.time(), window)


class AsyncLimitsThrottle:
    """`LimitsThrottle`, async: the storage is one of ``limits.aio.storage``."""

    def __init__(self, storage: "limits.aio.storage.Storage", *, sliding: bool = False) -> None:
        self._limiter = _limiter("limits.aio", storage, sliding=sliding)
        self._sliding = sliding

    async def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:  # noqa: ARG002  # as above
        """As `LimitsThrottle.hit`."""
        item = _item(limit, window)
        if await self._limiter.hit(item, key):
            return 0
        if self._sliding:
            counted = await self._limiter.storage.get_sliding_window(item.key_for(key), item.get_expiry())
            return _whole_seconds(_until_it_slid(limit, window.total_seconds(), *counted), window)
        return _whole_seconds((await self._limiter.get_window_stats(item, key)).reset_time - time.time(), window)


class _Table:
    """The keys of one limit. All windows are of one length, so the dict's order is the order in which they end."""

    def __init__(self, limit: int, length: int, capacity: int) -> None:
        self._limit = limit
        self._length = length
        self._capacity = capacity
        self._own: dict[str, tuple[int, int]] = {}  # key → (end of its window, calls)
        self._shared: _SharedCounts | None = None

    def hit(self, key: str, now: int) -> int:
        ends, calls = self._own.get(key, (now, 0))
        if not self._lasts(ends, now):
            self._own.pop(key, None)
            self._forget_ended(now)
            if len(self._own) >= self._capacity:
                return self._hit_shared(key, now)
            calls = self._shared.count(key, now) if self._shared else 0
            ends = self._shared.ends if self._shared and calls else now + self._length
        if calls >= self._limit:
            return min(ends - now, self._length)
        self._own[key] = ends, calls + 1
        return 0

    def _lasts(self, ends: int, now: int) -> bool:
        """Whether a window goes on. One that ends too far ahead was begun by a clock that has since gone back."""
        return 0 < ends - now <= 2 * self._length

    def _forget_ended(self, now: int) -> None:
        while self._own:
            oldest = next(iter(self._own))
            if self._lasts(self._own[oldest][0], now):
                return
            del self._own[oldest]

    def _hit_shared(self, key: str, now: int) -> int:
        if self._shared is None:
            self._shared = _SharedCounts(self._length)
        return self._shared.hit(key, self._limit, now)


class _SharedCounts:
    """A count-min sketch with conservative update (Estan and Varghese, 2002): never less than a key's own calls.

    One window for all cells, begun by the first call after the last one ended.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._seed = secrets.token_bytes(16)
        self.ends = 0
        self._counts = array("L")

    def _lasts(self, now: int) -> bool:
        return 0 < self.ends - now <= 2 * self._length

    def count(self, key: str, now: int) -> int:
        return min(self._counts[cell] for cell in self._cells(key)) if self._lasts(now) else 0

    def hit(self, key: str, limit: int, now: int) -> int:
        if not self._lasts(now):
            self._counts = array("L", bytes(array("L").itemsize * _ROWS * _WIDTH))
            self.ends = now + self._length
        cells = self._cells(key)
        count = min(self._counts[cell] for cell in cells)
        if count >= limit:
            return min(self.ends - now, self._length)
        for cell in cells:
            if self._counts[cell] == count:
                self._counts[cell] += 1
        return 0

    def _cells(self, key: str) -> list[int]:
        digest = hashlib.blake2b(key.encode(), key=self._seed, digest_size=4 * _ROWS).digest()
        return [row * _WIDTH + number % _WIDTH for row, number in enumerate(struct.unpack(f"<{_ROWS}I", digest))]


def _limiter(package: str, storage: object, *, sliding: bool) -> Any:
    try:
        strategies, storages = import_module(f"{package}.strategies"), import_module(f"{package}.storage")
    except ImportError as error:
        raise ImportError('LimitsThrottle needs limits: python -m pip install "resetkit[limits]"') from error
    if not isinstance(storage, storages.Storage):
        raise ConfigurationError(f"storage must be one of {package}.storage, not {type(storage).__name__}")
    if isinstance(storage, storages.MemoryStorage):  # calls at once go beyond its limit: its first counts get lost
        raise ConfigurationError("MemoryStorage counts in one process, and not exactly: take MemoryThrottle instead")
    strategy = strategies.SlidingWindowCounterRateLimiter if sliding else strategies.FixedWindowRateLimiter
    try:
        return strategy(storage)
    except NotImplementedError as error:
        raise ConfigurationError(f"{type(storage).__name__} has no sliding windows") from error


def _item(limit: int, window: timedelta) -> Any:
    return import_module("limits").RateLimitItemPerSecond(limit, int(window.total_seconds()), namespace="resetkit")


def _until_it_slid(
    limit: int, length: float, before: int, before_ends: float, current: int, current_ends: float
) -> float:
    """Seconds until ``before · share of it left + current`` is below the limit. With when each count is forgotten."""
    if current < limit and not before:
        return 0.0  # what the call was refused for was taken back meanwhile
    if current < limit:
        return before_ends - (limit - current) * length / before
    return current_ends - limit * length / current  # once it is the one before


def _whole_seconds(wait: float, window: timedelta) -> int:
    return max(1, min(math.floor(wait) + 1, int(window.total_seconds())))
