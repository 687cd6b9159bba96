"""The throttles' kit: sound ways of counting pass it, and for each promise there is a broken one that it catches."""

import asyncio
import threading
import time
import unittest
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from math import ceil, floor
from typing import Any, Final

import pytest

from profiles import unshrunk
from resetkit.protocols import AsyncThrottle, Throttle
from resetkit.testing._kit import BrokenPromiseError, unsupported
from resetkit.testing.throttles import AsyncThrottleConformance, ThrottleConformance
from resetkit.throttle import AsyncMemoryThrottle, MemoryThrottle

# --- Sound ways of counting ------------------------------------------------------------------------------------------


def seconds(window: timedelta) -> int:
    return int(window.total_seconds())


def second(now: datetime) -> int:
    return int(now.timestamp())


class FirstCallWindows:
    """A window for each key from its first call on. Refused calls do not count."""

    def __init__(self) -> None:
        self.windows: dict[object, tuple[int, int]] = {}  # slot → (begin, calls)
        self.lock = threading.Lock()

    def slot(self, key: str) -> object:
        return key

    def begins(self, now: int, length: int) -> int:
        return now

    def is_over(self, begin: int, length: int, now: int) -> bool:
        return now >= begin + length

    def counts_refused(self) -> bool:
        return False

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        with self.lock:
            return self.count(self.slot(key), limit, seconds(window), second(now))

    def count(self, slot: object, limit: int, length: int, now: int) -> int:
        begin, calls = self.windows.get(slot, (self.begins(now, length), 0))
        if self.is_over(begin, length, now):
            begin, calls = self.begins(now, length), 0
        if calls < limit or self.counts_refused():
            self.windows[slot] = begin, calls + 1
        return 0 if calls < limit else begin + length - now


class ClockWindows(FirstCallWindows):
    """Windows of the clock, in which refused calls count too: a counter that is increased and expires."""

    def begins(self, now: int, length: int) -> int:
        return now - now % length

    def is_over(self, begin: int, length: int, now: int) -> bool:
        return self.begins(now, length) != begin

    def counts_refused(self) -> bool:
        return True


class Log:
    """The instants of all calls that went on in the last window: exact, and sliding."""

    def __init__(self) -> None:
        self.calls: dict[str, list[int]] = {}
        self.lock = threading.Lock()

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        with self.lock:
            return self.count(key, limit, seconds(window), second(now))

    def count(self, key: str, limit: int, length: int, now: int) -> int:
        self.calls[key] = calls = [each for each in self.calls.get(key, []) if each > now - length]
        if len(calls) >= limit:
            return sorted(calls)[-limit] + length - now
        calls.append(now)
        return 0


class ClosedLog(Log):
    """To which what is exactly a window old still counts."""

    def count(self, key: str, limit: int, length: int, now: int) -> int:
        return super().count(key, limit, length + 1, now)


class Estimate:
    """Two counters of the clock, the older one weighted by how much of it lies in the last window."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, int], int] = {}
        self.lock = threading.Lock()

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        with self.lock:
            length, begin = seconds(window), second(now)
            wait = 0
            while self.estimated(key, length, begin + wait) >= limit:
                wait = self.next_change(key, limit, length, begin, wait)
            if not wait:
                slot = key, begin // length
                self.counts[slot] = self.counts.get(slot, 0) + 1
            return wait

    def estimated(self, key: str, length: int, now: int) -> int:
        window, into = divmod(now, length)
        before, here = (self.counts.get((key, each), 0) for each in (window - 1, window))
        return before * (length - into) // length + here

    def next_change(self, key: str, limit: int, length: int, now: int, wait: int) -> int:
        """When the older counter weighs little enough, or the next window, whichever is sooner."""
        window, into = divmod(now + wait, length)
        before, here = (self.counts.get((key, each), 0) for each in (window - 1, window))
        enough = floor(length - (limit - here) * length / before) + 1 if here < limit and before else length
        return wait + max(1, min(enough, length) - into)


class Bucket:
    """A bucket of `limit` that refills at an even pace, kept as the instant at which it is full again."""

    def __init__(self) -> None:
        self.full_at: dict[str, int] = {}  # in parts of a second, one for each call of the limit
        self.lock = threading.Lock()

    def rounded(self, wait: float) -> int:
        return ceil(wait)

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        with self.lock:
            here, length = second(now) * limit, seconds(window)
            full_at = max(self.full_at.get(key, here), here)
            if full_at - here > (limit - 1) * length:
                return self.rounded((full_at - here - (limit - 1) * length) / limit)
            self.full_at[key] = full_at + length
            return 0


class Awaited:
    """A throttle behind the async port, with other tasks let in before and after."""

    def __init__(self, throttle: Throttle) -> None:
        self.throttle = throttle

    async def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        await asyncio.sleep(0)
        wait = self.throttle.hit(key, limit=limit, window=window, now=now)
        await asyncio.sleep(0)
        return wait


class TestMemory(ThrottleConformance):
    def open_throttle(self) -> AbstractContextManager[Throttle]:
        return nullcontext(MemoryThrottle())


class TestAsyncMemory(AsyncThrottleConformance):
    def open_throttle(self) -> AbstractAsyncContextManager[AsyncThrottle]:
        return nullcontext(AsyncMemoryThrottle())


Factory = Callable[[], Throttle]


def kit(factory: Factory) -> ThrottleConformance:
    class Kit(ThrottleConformance):
        __test__ = False

        def open_throttle(self) -> AbstractContextManager[Throttle]:
            return nullcontext(factory())

    return Kit()


def async_kit(factory: Callable[[], AsyncThrottle]) -> AsyncThrottleConformance:
    class Kit(AsyncThrottleConformance):
        __test__ = False

        def open_throttle(self) -> AbstractAsyncContextManager[AsyncThrottle]:
            return nullcontext(factory())

    return Kit()


PROMISES: Final = tuple(ThrottleConformance.promises())
SOUND: Final = (FirstCallWindows, ClockWindows, Log, ClosedLog, Estimate, Bucket)


@pytest.mark.parametrize("name", PROMISES)
@pytest.mark.parametrize("factory", SOUND)
def test_sound_throttles_keep_every_promise(factory: Factory, name: str) -> None:
    """However a sound throttle counts, the kit asks for no more than it keeps."""
    getattr(kit(factory), name)()


@pytest.mark.parametrize("name", PROMISES)
@pytest.mark.parametrize("factory", SOUND)
def test_sound_async_throttles_keep_every_promise(factory: Factory, name: str) -> None:
    """The same behind the async port."""
    getattr(async_kit(lambda: Awaited(factory())), name)()


def test_both_colours_promise_the_same() -> None:
    """The async kit has every promise of the sync one, in the same words."""
    assert AsyncThrottleConformance.promises() == ThrottleConformance.promises()


# --- Throttles that read a clock of their own ------------------------------------------------------------------------


class OwnClock(FirstCallWindows):
    """Goes by the machine's clock, whatever it is told."""

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        return super().hit(key, limit=limit, window=window, now=datetime.now(UTC))


class OwnClockKit(ThrottleConformance):
    __test__ = False
    at = unsupported("it reads the machine's clock")

    def open_throttle(self) -> AbstractContextManager[Throttle]:
        return nullcontext(OwnClock())


UNTIMED: Final = {
    "test_the_first_calls_go_on_and_the_next_waits",
    "test_an_answer_is_a_number_of_whole_seconds",
    "test_keys_are_counted_apart",
    "test_each_key_has_the_limit_and_window_of_its_calls",
    "test_of_simultaneous_calls_exactly_the_limit_go_on",
}


@pytest.mark.parametrize("name", PROMISES)
def test_a_throttle_with_its_own_clock_is_checked_at_one_instant(name: str) -> None:
    """What lets time pass is skipped with the stated reason, and all else is checked by the machine's clock."""
    test = getattr(OwnClockKit(), name)
    if name in UNTIMED:
        test()
    else:
        with pytest.raises(unittest.SkipTest, match="reads the machine's clock"):
            test()


class OwnClockOneTooMany(OwnClock):
    def count(self, slot: object, limit: int, length: int, now: int) -> int:
        return super().count(slot, limit + 1, length, now)


class OwnClockOneTooManyKit(OwnClockKit):
    __test__ = False

    def open_throttle(self) -> AbstractContextManager[Throttle]:
        return nullcontext(OwnClockOneTooMany())


def test_a_broken_throttle_with_its_own_clock_is_caught() -> None:
    """What is checked without letting time pass is checked in earnest."""
    with pytest.raises(BrokenPromiseError, match="expected seconds to wait, got 0: 1 calls went on"):
        OwnClockOneTooManyKit().test_the_first_calls_go_on_and_the_next_waits()


class SettableClock:
    def __init__(self) -> None:
        self.now = datetime(2000, 1, 1, tzinfo=UTC)


class TestSettableClock(ThrottleConformance):
    """A throttle that asks a clock which the author can set keeps every promise, those of time too."""

    clock = SettableClock()

    def open_throttle(self) -> AbstractContextManager[Throttle]:
        clock = self.clock

        class Asks(FirstCallWindows):
            def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
                return super().hit(key, limit=limit, window=window, now=clock.now)

        return nullcontext(Asks())

    def at(self, second: int, /) -> datetime:
        self.clock.now = super().at(second)
        return self.clock.now


# --- Broken twins ----------------------------------------------------------------------------------------------------


class OneTooMany(FirstCallWindows):
    def count(self, slot: object, limit: int, length: int, now: int) -> int:
        return super().count(slot, limit + 1, length, now)


class OneTooFew(FirstCallWindows):
    def count(self, slot: object, limit: int, length: int, now: int) -> int:
        return super().count(slot, limit - 1, length, now)


class OncePerInstant(Log):
    """Keeps a set of instants, so that calls at the same one are one call."""

    def count(self, key: str, limit: int, length: int, now: int) -> int:
        wait = super().count(key, limit, length, now)
        self.calls[key] = sorted(set(self.calls[key]))
        return wait


class Answers(FirstCallWindows):
    """Answers with something else than whole seconds."""

    def answer(self, wait: int, now: datetime) -> object:
        raise NotImplementedError  # never called

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        answer: Any = self.answer(super().hit(key, limit=limit, window=window, now=now), now)
        broken: int = answer
        return broken


class Floats(Answers):
    def answer(self, wait: int, now: datetime) -> object:
        return float(wait)


class Booleans(Answers):
    def answer(self, wait: int, now: datetime) -> object:
        return wait > 0


class Texts(Answers):
    def answer(self, wait: int, now: datetime) -> object:
        return str(wait) if wait else 0


class Milliseconds(Answers):
    def answer(self, wait: int, now: datetime) -> object:
        return wait * 1000


class Instants(Answers):
    def answer(self, wait: int, now: datetime) -> object:
        return second(now) + wait if wait else 0


class Negatives(Answers):
    def answer(self, wait: int, now: datetime) -> object:
        return -wait


class OneForAllKeys(FirstCallWindows):
    def slot(self, key: str) -> object:
        return "all"


class ShortKeys(FirstCallWindows):
    def slot(self, key: str) -> object:
        return key[:2]


class FirstLimitForAll(FirstCallWindows):
    """Made for one limit, which it learns at the first call."""

    limit = 0

    def count(self, slot: object, limit: int, length: int, now: int) -> int:
        self.limit = self.limit or limit
        return super().count(slot, self.limit, length, now)


class FirstWindowForAll(FirstCallWindows):
    length = 0

    def count(self, slot: object, limit: int, length: int, now: int) -> int:
        self.length = self.length or length
        return super().count(slot, limit, self.length, now)


class CheckThenAct(FirstCallWindows):
    """Reads, then writes; in between another thread reads."""

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        begin, calls = self.windows.get(key, (second(now), 0))
        time.sleep(0.001)  # a round trip to the backend
        self.windows[key] = begin, calls + 1
        return 0 if calls < limit else begin + seconds(window) - second(now)


class AsyncCheckThenAct:
    """Reads, awaits, then writes."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}

    async def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        calls = self.calls.get(key, 0)
        await asyncio.sleep(0)
        self.calls[key] = calls + 1
        return 0 if calls < limit else seconds(window)


class RoundsDown(Bucket):
    def rounded(self, wait: float) -> int:
        return max(1, floor(wait))


class SaysNothing(Bucket):
    """Rounds what is less than a second down to "go on", without counting it."""

    def rounded(self, wait: float) -> int:
        return floor(wait)


class EndsLate(FirstCallWindows):
    def is_over(self, begin: int, length: int, now: int) -> bool:
        return now > begin + length


class EndsEarly(FirstCallWindows):
    def is_over(self, begin: int, length: int, now: int) -> bool:
        return now >= begin + length - 1


class SaysOne(Answers):
    def answer(self, wait: int, now: datetime) -> object:
        return min(wait, 1)


class NotArmedAgain(FirstCallWindows):
    """Keeps the count when a window is over, and refuses only inside one."""

    def count(self, slot: object, limit: int, length: int, now: int) -> int:
        begin, calls = self.windows.get(slot, (now, 0))
        self.windows[slot] = begin, calls + 1
        return begin + length - now if calls >= limit and now < begin + length else 0


class NeverEnds(FirstCallWindows):
    def is_over(self, begin: int, length: int, now: int) -> bool:
        return False


class HalfWindows(FirstCallWindows):
    def count(self, slot: object, limit: int, length: int, now: int) -> int:
        return super().count(slot, limit, length // 2, now)


class EachSecondAnew(FirstCallWindows):
    def is_over(self, begin: int, length: int, now: int) -> bool:
        return now != begin


class ProlongedByRefusals(Log):
    """A log of all calls, refused ones included, in which who is impatient waits for ever."""

    def count(self, key: str, limit: int, length: int, now: int) -> int:
        if not super().count(key, limit, length, now):
            return 0
        self.calls[key].append(now)
        return self.calls[key][-limit] + length - now


class WithoutDays(FirstCallWindows):
    """Takes a timedelta's seconds for all of it."""

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        return self.count(key, limit, window.seconds, second(now))


class Minutes(FirstCallWindows):
    def count(self, slot: object, limit: int, length: int, now: int) -> int:
        return super().count(slot, limit, length // 60 * 60, now)


class TrustsEveryClock(FirstCallWindows):
    """Takes a window that begins later than now for over."""

    def is_over(self, begin: int, length: int, now: int) -> bool:
        return not begin <= now < begin + length


class RefusesOlderReadings(FirstCallWindows):
    latest = 0

    def count(self, slot: object, limit: int, length: int, now: int) -> int:
        if now < self.latest:
            raise ValueError("the clock went back")
        self.latest = now
        return super().count(slot, limit, length, now)


class LocksOutOlderReadings(FirstCallWindows):
    """Takes an older reading for an attack, and bans the key."""

    def count(self, slot: object, limit: int, length: int, now: int) -> int:
        begin, _ = self.windows.get(slot, (now, 0))
        if now < begin:
            self.windows[slot] = begin + 100 * length, limit
        return super().count(slot, limit, length, now)


TWINS: Final[dict[str, tuple[Factory, ...]]] = {
    "test_the_first_calls_go_on_and_the_next_waits": (OneTooMany, OneTooFew, OncePerInstant),
    "test_an_answer_is_a_number_of_whole_seconds": (Floats, Booleans, Texts, Milliseconds, Instants, Negatives),
    "test_keys_are_counted_apart": (OneForAllKeys, ShortKeys),
    "test_each_key_has_the_limit_and_window_of_its_calls": (FirstLimitForAll, FirstWindowForAll, OneForAllKeys),
    "test_of_simultaneous_calls_exactly_the_limit_go_on": (CheckThenAct,),
    "test_who_waits_as_long_as_said_goes_on": (RoundsDown, EndsLate, SaysOne, NeverEnds),
    "test_the_limit_holds_again_after_a_rest": (NotArmedAgain, NeverEnds),
    "test_a_steady_caller_gets_no_more_than_its_limit": (HalfWindows, EndsEarly, EachSecondAnew, SaysNothing),
    "test_refused_calls_lock_nobody_out": (ProlongedByRefusals,),
    "test_windows_may_be_of_any_length": (WithoutDays, Minutes),
    "test_a_clock_that_goes_back_a_little_frees_nobody": (
        TrustsEveryClock,
        RefusesOlderReadings,
        LocksOutOlderReadings,
    ),
    "test_any_calls_at_any_time_keep_within_the_bounds": (
        *(OneTooMany, OneTooFew, OncePerInstant, OneForAllKeys, RoundsDown, SaysNothing, EndsLate, EndsEarly),
        *(HalfWindows, EachSecondAnew, NotArmedAgain, WithoutDays, Milliseconds, SaysOne, Floats),
    ),
}
ASYNC_TWINS: Final[dict[str, tuple[Callable[[], AsyncThrottle], ...]]] = {
    "test_of_simultaneous_calls_exactly_the_limit_go_on": (AsyncCheckThenAct,),
}


def each(twins: dict[str, tuple[Callable[[], object], ...]]) -> list[object]:
    return [
        pytest.param(name, twin, id=f"{name[5:]}-{getattr(twin, '__name__', twin)}")
        for name, some in twins.items()
        for twin in some
    ]


@pytest.fixture
def same_examples() -> Iterator[None]:
    """What is explored is the same at every run, and no failure is made smaller, which takes long."""
    with unshrunk(derandomize=True, database=None):
        yield


@pytest.mark.usefixtures("same_examples")
@pytest.mark.parametrize(("name", "twin"), each({**TWINS}))
def test_broken_twin_is_caught(name: str, twin: Factory) -> None:
    """The check of this promise finds what is wrong with the twin, and says which promise that is."""
    with pytest.raises(BrokenPromiseError, match=r"Throttle\.hit does not keep its promise"):
        getattr(kit(twin), name)()


@pytest.mark.usefixtures("same_examples")
@pytest.mark.parametrize(("name", "twin"), each({**TWINS, **ASYNC_TWINS}))
def test_broken_async_twin_is_caught(name: str, twin: Callable[[], Throttle | AsyncThrottle]) -> None:
    """The same behind the async port."""

    def opened() -> AsyncThrottle:
        throttle = twin()
        return throttle if isinstance(throttle, AsyncCheckThenAct) else Awaited(throttle)  # type: ignore[arg-type]  # all others are sync

    with pytest.raises(BrokenPromiseError, match=r"Throttle\.hit does not keep its promise"):
        getattr(async_kit(opened), name)()


def test_every_promise_has_a_twin() -> None:
    """No promise is without a broken throttle that it catches."""
    assert set(TWINS) == set(PROMISES)


@pytest.mark.parametrize("base", [ThrottleConformance, AsyncThrottleConformance])
def test_a_kit_must_open_a_throttle(base: type[ThrottleConformance | AsyncThrottleConformance]) -> None:
    """A class without `open_throttle` cannot be defined, and the kit itself opens none."""
    with pytest.raises(TypeError, match=r"must implement open_throttle"):
        type("TestNothing", (base,), {})
    with pytest.raises(NotImplementedError):
        base().open_throttle()
