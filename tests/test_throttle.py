"""The throttles in memory: windows, bounds under a flood, threads. Each check must also catch a broken twin."""

import asyncio
import os
import subprocess
import sys
import threading
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from textwrap import dedent
from typing import Final

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from resetkit.errors import ConfigurationError
from resetkit.protocols import Throttle
from resetkit.throttle import AsyncMemoryThrottle, MemoryThrottle, _SharedCounts, _Table

PATIENCE: Final = 30.0  # seconds until a test that waits gives up; far more than a loaded machine needs
START: Final = datetime(2030, 1, 1, tzinfo=UTC)
QUARTER: Final = timedelta(minutes=15)  # the default policy's window
FLOOD: Final = 200_000  # fresh keys; at limit 5 none of 1000 strangers was refused after as many; at limit 2, 176
FLOOD_CAPACITY: Final = 1000

Factory = Callable[[int], Throttle]
Check = Callable[[Factory], None]


def at(second: int) -> datetime:
    return START + timedelta(seconds=second)


class Driven:
    """An async throttle behind the sync port. Its calls must end without waiting for anything."""

    def __init__(self, throttle: AsyncMemoryThrottle) -> None:
        self.throttle = throttle

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        call = self.throttle.hit(key, limit=limit, window=window, now=now)
        try:
            call.send(None)
        except StopIteration as end:
            return int(end.value)
        raise AssertionError("a throttle in memory has nothing to wait for")


def sync_throttle(capacity: int) -> Throttle:
    return MemoryThrottle(capacity=capacity)


def async_throttle(capacity: int) -> Throttle:
    return Driven(AsyncMemoryThrottle(capacity=capacity))


both_colours = pytest.mark.parametrize("factory", [sync_throttle, async_throttle])
uncounted = pytest.mark.no_cover
"""Hundreds of thousands of calls, each of lines that the tests without this run too."""


class PlainWindows:
    """The model: a window for each key from its first counted call on, and every key kept for ever."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.windows: OrderedDict[object, tuple[int, int]] = OrderedDict()  # slot → (begin, calls)

    def slot(self, key: str, limit: int, window: timedelta) -> object:
        return key, limit, window

    def is_over(self, begin: int, length: int, second: int) -> bool:
        return second >= begin + length

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        slot, second, length = self.slot(key, limit, window), int(now.timestamp()), int(window.total_seconds())
        begin, calls = self.windows.get(slot, (second, 0))
        if self.is_over(begin, length, second):
            begin, calls = second, 0
        if calls >= limit:
            return begin + length - second
        self.windows[slot] = begin, calls + 1
        return 0


# --- Windows ---------------------------------------------------------------------------------------------------------

LIMITS: Final = ((1, 5), (3, 5), (3, 8))  # calls, seconds: two that differ in each part

Call = tuple[str, int, tuple[int, int]]  # key, seconds since the call before, limit
calls_of_all_kinds: Final = st.lists(
    st.tuples(st.sampled_from("abc"), st.just(0) | st.integers(0, 9), st.sampled_from(LIMITS)), max_size=60
)


def answers(throttle: Throttle, calls: Sequence[Call]) -> list[int]:
    said: list[int] = []
    second = 0
    for key, step, (limit, length) in calls:
        second += step
        said.append(throttle.hit(key, limit=limit, window=timedelta(seconds=length), now=at(second)))
    return said


def check_like_model(factory: Factory) -> None:
    @settings(max_examples=300, derandomize=True, database=None, deadline=None, report_multiple_bugs=False)
    @given(calls=calls_of_all_kinds)
    def agrees(calls: list[Call]) -> None:
        assert answers(factory(1000), calls) == answers(PlainWindows(1000), calls)

    agrees()


@both_colours
def test_answers_are_those_of_plain_fixed_windows(factory: Factory) -> None:
    """While there is room, every answer is that of fixed windows for each key and limit, from the first call on."""
    check_like_model(factory)


class OneForAllKeys(PlainWindows):
    def slot(self, key: str, limit: int, window: timedelta) -> object:
        del key
        return limit, window


class OneForAllLimits(PlainWindows):
    def slot(self, key: str, limit: int, window: timedelta) -> object:
        del limit, window
        return key


class OneForAllWindows(PlainWindows):
    def slot(self, key: str, limit: int, window: timedelta) -> object:
        del window
        return key, limit


class EndsLate(PlainWindows):
    def is_over(self, begin: int, length: int, second: int) -> bool:
        return second > begin + length


class EndsEarly(PlainWindows):
    def is_over(self, begin: int, length: int, second: int) -> bool:
        return second >= begin + length - 1


class OffTheClock(PlainWindows):
    """Windows of the clock, not of the key."""

    def is_over(self, begin: int, length: int, second: int) -> bool:
        return second // length > begin // length


class ProlongedByRefusals(PlainWindows):
    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        if wait := super().hit(key, limit=limit, window=window, now=now):
            self.windows[self.slot(key, limit, window)] = int(now.timestamp()), limit
        return wait


@pytest.mark.parametrize(
    "twin",
    [
        OneForAllKeys,
        OneForAllLimits,
        OneForAllWindows,
        EndsLate,
        EndsEarly,
        OffTheClock,
        ProlongedByRefusals,
    ],
)
def test_calls_of_all_kinds_find_a_wrong_window(twin: Factory) -> None:
    """The search for a difference from the model finds one in each throttle that is wrong."""

    @settings(
        max_examples=1000,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=[Phase.generate],
    )
    @given(calls=calls_of_all_kinds)
    def agrees(calls: list[Call]) -> None:
        assert answers(twin(1000), calls) == answers(PlainWindows(1000), calls)

    with pytest.raises(AssertionError):
        agrees()


def check_armed_again(factory: Factory) -> None:
    throttle, window = factory(1000), timedelta(seconds=60)
    for begin in (0, 60, 500):
        said = [throttle.hit("k", limit=3, window=window, now=at(begin)) for _ in range(5)]
        assert said == [0, 0, 0, 60, 60]


@both_colours
def test_limit_holds_again_after_the_window(factory: Factory) -> None:
    """A lockout that ran out leaves the protection armed: the limit is enforced again (CVE-2020-11052)."""
    check_armed_again(factory)


def check_armed_again_when_full(factory: Factory) -> None:
    throttle, window = factory(1), timedelta(seconds=60)
    for begin in (0, 60, 500):
        assert throttle.hit("first", limit=3, window=window, now=at(begin)) == 0
        said = [throttle.hit("k", limit=3, window=window, now=at(begin)) for _ in range(5)]
        assert said == [0, 0, 0, 60, 60]


@both_colours
def test_limit_holds_again_after_the_window_when_full(factory: Factory) -> None:
    """The same for a key that the table has no room for ()."""
    check_armed_again_when_full(factory)


def check_one_tick(factory: Factory) -> None:
    throttle = factory(1000)
    assert sum(throttle.hit("k", limit=7, window=QUARTER, now=START) == 0 for _ in range(50)) == 7


@both_colours
def test_calls_in_one_tick_all_count(factory: Factory) -> None:
    """N calls at the same instant count as N (H1-3287208)."""
    check_one_tick(factory)


def check_end_of_window(factory: Factory) -> None:
    throttle = factory(1000)
    said = [
        throttle.hit("k", limit=1, window=timedelta(seconds=60), now=at(second)) for second in (0, 0, 1, 59, 60, 60)
    ]
    assert said == [0, 60, 59, 1, 0, 60]


@both_colours
def test_window_ends_to_the_second(factory: Factory) -> None:
    """A second before the end the answer is 1; at the end itself a call goes on, and counts."""
    check_end_of_window(factory)


@both_colours
def test_fractions_of_a_second_neither_lengthen_nor_shorten_the_answer(factory: Factory) -> None:
    """Calls at fractions of one second get one answer, a whole number of at least 1."""
    throttle = factory(1000)
    moments = [START + timedelta(seconds=second) for second in (0.1, 0.5, 0.9, 1.999)]
    said = [throttle.hit("k", limit=1, window=timedelta(seconds=2), now=now) for now in moments]
    assert said == [0, 2, 2, 1]


class NotArmedAgain(PlainWindows):
    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        slot, second = self.slot(key, limit, window), int(now.timestamp())
        begin, calls = self.windows.get(slot, (second, 0))
        if calls >= limit and self.is_over(begin, int(window.total_seconds()), second):
            return 0
        return super().hit(key, limit=limit, window=window, now=now)


class OncePerTick(PlainWindows):
    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        before = self.windows.get(slot := self.slot(key, limit, window))
        wait = super().hit(key, limit=limit, window=window, now=now)
        if before is not None and before[0] == int(now.timestamp()):
            self.windows[slot] = before
        return wait


# --- A full table ----------------------------------------------------------------------------------------------------


@both_colours
@given(
    capacity=st.integers(1, 3),
    calls=st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from([0, 0, 0, 1, 2])), max_size=30),
)
@settings(deadline=None, database=None)
def test_no_key_gets_more_than_the_limit_when_full(
    factory: Factory, capacity: int, calls: list[tuple[str, int]]
) -> None:
    """In one window from the first call on, no key gets more than the limit, however small the table."""
    throttle, second, gone = factory(capacity), 0, dict.fromkeys("abcdef", 0)
    for key, step in calls:
        second += step
        gone[key] += throttle.hit(key, limit=2, window=timedelta(seconds=61), now=at(second)) == 0
    assert max(gone.values()) <= 2


@both_colours
@given(capacity=st.integers(1, 3), calls=calls_of_all_kinds)
@settings(deadline=None, database=None)
def test_wait_is_at_most_the_window(factory: Factory, capacity: int, calls: list[Call]) -> None:
    """Whoever is refused waits 1 second at least and the window at most, however small the table."""
    for said, (_, _, (_, length)) in zip(answers(factory(capacity), calls), calls, strict=True):
        assert 0 <= said <= length


@both_colours
@given(calls=calls_of_all_kinds)
@settings(deadline=None, database=None)
def test_first_keys_are_exact_when_full(factory: Factory, calls: list[Call]) -> None:
    """Keys that came while there was room are counted exactly, whatever comes when there is none."""
    throttle, model, second = factory(3), PlainWindows(3), 0
    for key in "abc":
        for limit, length in LIMITS:
            window = timedelta(seconds=length * 1000)
            assert throttle.hit(key, limit=limit, window=window, now=START) == 0
            assert model.hit(key, limit=limit, window=window, now=START) == 0
    for order, (key, step, (limit, length)) in enumerate(calls):
        second += step
        window = timedelta(seconds=length * 1000)
        throttle.hit(f"stranger {order}", limit=limit, window=window, now=at(second))
        said = throttle.hit(key, limit=limit, window=window, now=at(second))
        assert said == model.hit(key, limit=limit, window=window, now=at(second))


def check_move_keeps_count(factory: Factory) -> None:
    throttle, window = factory(1), timedelta(seconds=10)
    assert throttle.hit("first", limit=3, window=window, now=at(0)) == 0
    assert [throttle.hit("moving", limit=3, window=window, now=at(5)) for _ in range(2)] == [0, 0]
    # At 10 the first key's window has ended: there is room, and the shared window runs until 15.
    said = [throttle.hit("moving", limit=3, window=window, now=at(second)) for second in (10, 10, 14)]
    assert said[0] == 0
    assert all(1 <= wait <= 10 for wait in said[1:])


@both_colours
def test_key_that_gets_room_brings_its_count(factory: Factory) -> None:
    """Calls counted in shared cells still count when the key moves to the table."""
    check_move_keeps_count(factory)


@both_colours
def test_key_that_gets_room_keeps_its_window(factory: Factory) -> None:
    """A key that moves from shared cells to the table waits until the shared window ends, not for a new one."""
    throttle, window = factory(1), timedelta(seconds=10)
    assert throttle.hit("first", limit=1, window=window, now=at(0)) == 0
    assert [throttle.hit("k", limit=1, window=window, now=at(second)) for second in (9, 18, 19)] == [0, 1, 0]


@both_colours
def test_ended_windows_make_room(factory: Factory) -> None:
    """When a key's window has ended, the next new key gets its room, with a window of its own."""
    throttle, window = factory(1), timedelta(seconds=10)
    for second, key in ((0, "first"), (5, "shared until 15"), (10, "k")):
        assert throttle.hit(key, limit=1, window=window, now=at(second)) == 0
    assert throttle.hit("k", limit=1, window=window, now=at(10)) == 10


def test_a_window_outlasts_a_clock_set_back_by_its_length_and_no_more() -> None:
    for back, waits in ((-60, 60), (-61, 0)):
        table = _Table(1, 60, 9)
        assert table.hit("key", 0) == 0
        assert table.hit("key", back) == waits


def test_shared_counts_last_to_the_second() -> None:
    counts = _SharedCounts(60)
    assert counts.hit("key", 2, 0) == 0
    assert [counts.count("key", now) for now in (-61, -60, 0, 59, 60)] == [0, 1, 1, 1, 0]
    assert [cell // 2**16 for cell in counts._cells("key")] == [0, 1, 2, 3], "a row for each cell"


def test_cells_are_secret() -> None:
    """Which cells a key shares differs from throttle to throttle, so that nobody can aim at another's."""
    assert _SharedCounts(60)._cells("k") != _SharedCounts(60)._cells("k")


def flood(throttle: Throttle, *, keys: int = FLOOD, limit: int = 5) -> Iterator[int]:
    """Hit with fresh keys, a thousand a second; yields the second after each thousand."""
    for thousand in range(keys // 1000):
        for number in range(1000):
            throttle.hit(f"flood {thousand} {number}", limit=limit, window=QUARTER, now=at(thousand))
        yield thousand


def check_victim_stays_throttled(factory: Factory) -> None:
    throttle = factory(FLOOD_CAPACITY)
    assert [throttle.hit("victim", limit=5, window=QUARTER, now=START) for _ in range(6)] == [0] * 5 + [900]
    for second in flood(throttle):
        if second % 20 == 19:
            assert throttle.hit("victim", limit=5, window=QUARTER, now=at(second)) == 900 - second


@uncounted
@both_colours
def test_flood_frees_nobody(factory: Factory) -> None:
    """A key that was throttled before a flood of fresh keys stays throttled during and after it."""
    check_victim_stays_throttled(factory)


def check_newcomer_is_counted(factory: Factory) -> None:
    throttle, gone = factory(FLOOD_CAPACITY), 0
    for second in flood(throttle):
        gone += throttle.hit("newcomer", limit=5, window=QUARTER, now=at(second)) == 0 if second else 0
    assert gone <= 5


@uncounted
@both_colours
def test_flood_hides_nobody(factory: Factory) -> None:
    """A key first seen during a flood, when the table is full, gets no more than the limit."""
    check_newcomer_is_counted(factory)


def check_strangers_are_spared(factory: Factory) -> None:
    for limit, keys in ((5, FLOOD), (2, FLOOD // 2)):
        throttle = factory(FLOOD_CAPACITY)
        *_, second = flood(throttle, keys=keys, limit=limit)
        strangers = (f"stranger {number}" for number in range(1000))
        refused = sum(throttle.hit(key, limit=limit, window=QUARTER, now=at(second)) > 0 for key in strangers)
        assert refused <= 10


@uncounted
@both_colours
def test_flood_locks_nobody_out(factory: Factory) -> None:
    """After a flood of 200 000 keys, or of 100 000 at a limit of 2, at most 1 % of fresh strangers are refused."""
    check_strangers_are_spared(factory)


@both_colours
def test_flood_ends_with_its_window(factory: Factory) -> None:
    """When the flood's windows have ended, keys are counted one by one again, as if it had not been."""
    throttle = factory(10)
    *_, second = flood(throttle, keys=2000)
    later = second + 900
    said = [
        throttle.hit(key, limit=1, window=QUARTER, now=at(later)) for key in ("flood 0 0", "a", "a", "b", "flood 1 0")
    ]
    assert said == [0, 0, 900, 0, 0]
    said = [throttle.hit("flood 0 0", limit=5, window=QUARTER, now=at(later)) for _ in range(6)]
    assert said == [0] * 5 + [900]


def tracked(throttle: Throttle) -> int:
    """How many keys it holds one by one."""
    throttle = throttle.throttle._throttle if isinstance(throttle, Driven) else throttle
    assert isinstance(throttle, MemoryThrottle)
    return max(len(table._own) for table in throttle._tables.values())


@both_colours
def test_a_key_that_was_counted_with_others_keeps_its_window_when_it_gets_one_of_its_own(factory: Factory) -> None:
    calls: list[Call] = [("first", 0, (3, 10)), ("second", 5, (3, 10)), ("second", 1, (3, 10))]
    from_own_place: list[Call] = [("second", 5, (3, 10)), ("second", 1, (3, 10))]  # free since 10
    assert answers(factory(1), calls + from_own_place) == [0, 0, 0, 0, 15 - 12]


@both_colours
def test_flood_fills_no_more_than_the_capacity(factory: Factory) -> None:
    """At most `capacity` keys of a limit are kept one by one, at any time of a flood."""
    throttle = factory(FLOOD_CAPACITY)
    assert {tracked(throttle) for _ in flood(throttle, keys=20_000)} == {FLOOD_CAPACITY}


@contextmanager
def tracing() -> Generator[None, None, None]:
    was_tracing = tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        yield
    finally:
        if not was_tracing:
            tracemalloc.stop()


def check_memory_is_bounded(factory: Factory) -> None:
    with tracing():
        throttle = factory(FLOOD_CAPACITY)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for _ in flood(throttle, keys=FLOOD // 2):  # half: tracing is slow
            pass
        _, peak = tracemalloc.get_traced_memory()
    assert peak - before < 20_000_000


@uncounted
@both_colours
def test_flood_takes_bounded_memory(factory: Factory) -> None:
    """A flood of 100 000 keys never takes more than 20 MB."""
    check_memory_is_bounded(factory)


class LeastRecentlyUsed(PlainWindows):
    """Makes room by forgetting who was not seen for longest."""

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        wait = super().hit(key, limit=limit, window=window, now=now)
        self.windows.move_to_end(self.slot(key, limit, window))
        if len(self.windows) > self.capacity:
            self.windows.popitem(last=False)
        return wait


class OpenWhenFull(PlainWindows):
    """Lets go on, uncounted, whom it has no room for."""

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        known = self.slot(key, limit, window) in self.windows
        if not known and len(self.windows) >= self.capacity:
            return 0
        return super().hit(key, limit=limit, window=window, now=now)


class ShutWhenFull(PlainWindows):
    """Refuses whom it has no room for."""

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        known = self.slot(key, limit, window) in self.windows
        if not known and len(self.windows) >= self.capacity:
            return int(window.total_seconds())
        return super().hit(key, limit=limit, window=window, now=now)


class ForgetfulMove:
    """Counts in a second table when the first is full, and does not look there when there is room again."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.own, self.shared = PlainWindows(capacity), PlainWindows(capacity)

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        second, length = int(now.timestamp()), int(window.total_seconds())
        ended = [slot for slot, (begin, _) in self.own.windows.items() if second >= begin + length]
        for slot in ended:
            del self.own.windows[slot]
        known = self.own.slot(key, limit, window) in self.own.windows
        table = self.own if known or len(self.own.windows) < self.capacity else self.shared
        return table.hit(key, limit=limit, window=window, now=now)


# --- Threads, tasks, forks -------------------------------------------------------------------------------------------

THREADS: Final = 16


def check_threads_share_a_limit(factory: Factory) -> None:
    throttle, start = factory(1000), threading.Barrier(THREADS)

    def visit(_: int) -> int:
        start.wait(PATIENCE)
        return sum(throttle.hit("k", limit=100, window=QUARTER, now=START) == 0 for _ in range(50))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # a switch in the middle of a call is likely
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            assert sum(pool.map(visit, range(THREADS))) == 100
    finally:
        sys.setswitchinterval(interval)


@both_colours
def test_threads_share_a_limit(factory: Factory) -> None:
    """Of 16 threads with 50 calls each on one key, exactly as many calls as the limit go on."""
    check_threads_share_a_limit(factory)


class CheckThenAct(PlainWindows):
    """Reads, then writes; in between every thread has read too, once."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.all_have_read = threading.Barrier(THREADS)
        self.thread = threading.local()

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        slot = self.slot(key, limit, window)
        begin, calls = self.windows.get(slot, (int(now.timestamp()), 0))
        if not hasattr(self.thread, "met"):
            self.thread.met = self.all_have_read.wait(PATIENCE)
        if calls >= limit:
            return int(window.total_seconds())
        self.windows[slot] = begin, calls + 1
        return 0


def test_tasks_share_a_limit() -> None:
    """Of 800 tasks on one key, exactly as many as the limit go on."""

    async def main() -> int:
        throttle = AsyncMemoryThrottle()
        calls = (throttle.hit("k", limit=100, window=QUARTER, now=START) for _ in range(800))
        return sum(wait == 0 for wait in await asyncio.gather(*calls))

    assert asyncio.run(main()) == 100


@pytest.mark.parametrize(
    ("check", "twin"),
    [
        (check_armed_again, NotArmedAgain),
        (check_armed_again_when_full, NotArmedAgain),
        (check_armed_again_when_full, OpenWhenFull),
        (check_one_tick, OncePerTick),
        (check_end_of_window, EndsLate),
        (check_end_of_window, EndsEarly),
        (check_move_keeps_count, ForgetfulMove),
        (check_victim_stays_throttled, LeastRecentlyUsed),
        (check_newcomer_is_counted, LeastRecentlyUsed),
        (check_newcomer_is_counted, OpenWhenFull),
        (check_strangers_are_spared, ShutWhenFull),
        (check_memory_is_bounded, PlainWindows),
        (check_threads_share_a_limit, CheckThenAct),
    ],
)
def test_broken_twin_is_caught(check: Check, twin: Factory) -> None:
    """Each check fails for a throttle that breaks what it checks."""
    with pytest.raises(AssertionError):
        check(twin)


@pytest.mark.parametrize(
    "check",
    [
        check_like_model,
        check_armed_again,
        check_one_tick,
        check_end_of_window,
        check_victim_stays_throttled,
        check_newcomer_is_counted,
        check_strangers_are_spared,
        check_move_keeps_count,
    ],
)
def test_model_passes(check: Check) -> None:
    """The checks ask for no more than the model keeps, which is bounded in nothing."""
    check(PlainWindows)


def test_child_starts_with_a_free_lock() -> None:
    """A lock that was held when the process forked does not stop the child's calls, and the counts stay."""
    throttle = MemoryThrottle()
    assert throttle.hit("k", limit=1, window=QUARTER, now=START) == 0
    held = throttle._lock
    with ThreadPoolExecutor(1) as pool, held:
        throttle._start_afresh()
        call = pool.submit(throttle.hit, "k", limit=1, window=QUARTER, now=START)
        assert call.result(PATIENCE) == 900


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is for POSIX")
def test_fork_while_a_thread_holds_the_lock() -> None:
    """A child forked while another thread was in a call can count, from where its parent was."""
    script = """
        import os, signal, threading
        from datetime import UTC, datetime, timedelta
        from resetkit.throttle import MemoryThrottle

        throttle, held, done = MemoryThrottle(), threading.Event(), threading.Event()
        hit = lambda: throttle.hit("k", limit=1, window=timedelta(seconds=60), now=datetime(2030, 1, 1, tzinfo=UTC))

        def hold():
            with throttle._lock:
                held.set()
                done.wait(30)

        assert hit() == 0
        threading.Thread(target=hold).start()
        assert held.wait(30)
        child = os.fork()
        if not child:
            signal.alarm(20)  # a deadlock ends here
            os._exit(hit())
        _, status = os.waitpid(child, 0)
        done.set()
        print(status if os.WIFSIGNALED(status) else f"the child waits {os.WEXITSTATUS(status)} s")
    """
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", dedent(script)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("the child waits 60 s\n", "")


# --- Set-up and odd clocks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [MemoryThrottle, AsyncMemoryThrottle])
@pytest.mark.parametrize("capacity", [0, -1, True, 1.5, "1000", None])
def test_capacity_must_be_a_positive_number(make: Callable[..., object], capacity: object) -> None:
    """A capacity that is no whole number of at least 1 is refused when the throttle is made."""
    bound = "at least 1" if capacity in {0, -1} else "of type int"
    with pytest.raises(ConfigurationError, match=f"^capacity must be {bound}, not"):
        make(capacity=capacity)


@pytest.mark.parametrize("make", [MemoryThrottle, AsyncMemoryThrottle])
def test_defaults_suffice(make: Callable[[], MemoryThrottle | AsyncMemoryThrottle]) -> None:
    """A throttle can be made without arguments, and counts 50,000 keys of each limit one by one."""
    made = make()
    plain = made._throttle if isinstance(made, AsyncMemoryThrottle) else made
    assert plain._capacity == 50_000


def check_clock_set_back(factory: Factory, *keys: str) -> None:
    throttle = factory(1)
    for key in keys:
        assert throttle.hit(key, limit=1, window=QUARTER, now=at(9000)) == 0
    for second in (8999, 8990, 8101):
        assert throttle.hit(keys[-1], limit=1, window=QUARTER, now=at(second)) == 900


@both_colours
@pytest.mark.parametrize("keys", [["k"], ["first", "k"]], ids=["room", "full"])
def test_clock_set_back_a_little_frees_nobody(factory: Factory, keys: list[str]) -> None:
    """A reading older than the count, as of another thread, frees nobody, and asks for no more than a window."""
    check_clock_set_back(factory, *keys)


@both_colours
@pytest.mark.parametrize("keys", [["k"], ["first", "k"]], ids=["room", "full"])
def test_clock_set_back_far_locks_nobody_out(factory: Factory, keys: list[str]) -> None:
    """A window begun by a clock that was wrong by a day does not last for that day: the limit holds from now on."""
    throttle = factory(1)
    for key in keys:
        assert throttle.hit(key, limit=1, window=QUARTER, now=at(86_400)) == 0
    said = [throttle.hit(key, limit=1, window=QUARTER, now=at(second)) for second in (0, 0, 899, 900) for key in keys]
    assert said == [wait for wait in (0, 900, 1, 0) for _ in keys]


class TrustsEveryClock(PlainWindows):
    """Takes a window that begins later than now for over."""

    def is_over(self, begin: int, length: int, second: int) -> bool:
        return not begin <= second < begin + length


@pytest.mark.parametrize("twin", [PlainWindows, TrustsEveryClock])
def test_broken_clock_is_caught(twin: Factory) -> None:
    """The check fails for a throttle that frees whom an older reading meets, and for one that lets them wait longer."""
    with pytest.raises(AssertionError):
        check_clock_set_back(twin, "k")
