"""The promises of a throttle, each as a test: subclass `ThrottleConformance` or its async twin.

The author writes ``open_throttle``. They ask for what every sound way of counting keeps: windows from a key's first
call on or of the clock, sliding ones, exact or estimated, buckets that refill; whether refused calls count or not.

- In k windows at most (k + 1) x `limit` calls of a key go on, and at one instant at most `limit`.
- A key with fewer than `limit` calls in the last two windows goes on.
- Who was refused goes on after the seconds that were said.
"""

import hashlib
import unittest
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from resetkit._sync import LiftedThrottle
from resetkit.protocols import AsyncThrottle, Throttle
from resetkit.testing._kit import Async, Conformance, Sync, expect, expect_that, explored_promise, promise
from resetkit.testing._records import DAY, MINUTE, NOW, SECOND

# Two that divide unevenly, the default policy's, the shortest, and longer than a day's seconds.
LIMITS: Final = (
    *((1, SECOND), (3, 2 * SECOND), (7, MINUTE), (5, 15 * MINUTE), (60, 15 * MINUTE)),
    *((3, DAY), (1, 30 * DAY)),
)

_AT_ONCE: Final = 16
_ROUNDS: Final = 10


def key(name: str) -> str:
    """A key as the manager makes them: a digest in hexadecimal."""
    return hashlib.sha256(name.encode()).hexdigest()


def longest_wait(window: timedelta) -> int:
    """The window in seconds, and one for a throttle to which what is exactly a window old still counts."""
    return int(window.total_seconds()) + 1


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls under one key, with the limit and window that the key always has."""

    throttle: AsyncThrottle
    limit: int
    window: timedelta
    name: str = "somebody"

    async def call(self, now: datetime) -> int:
        """The answer to one call."""
        return await self.throttle.hit(key(self.name), limit=self.limit, window=self.window, now=now)

    async def use_up(self, now: datetime) -> int:
        """Call `limit` times at one instant, which go on, and once more: the seconds to wait."""
        answers = [await self.call(now) for _ in range(self.limit)]
        expect(answers, [0] * self.limit, f"the limit is {self.limit}, and the key has rested")
        return await self.refused(now)

    async def refused(self, now: datetime) -> int:
        """The answer to a call that may not go on."""
        wait = await self.call(now)
        expect_that(wait != 0, f"expected seconds to wait, got 0: {self.limit} calls went on at this instant")
        return wait


class ThrottleChecks(Conformance[AsyncThrottle], shipped=True):
    """What both colours promise."""

    port = "Throttle"
    opens = "open_throttle"

    # An optional ability: time.

    def at(self, second: int, /) -> datetime:
        """The time of a call, `second` seconds after the first.

        Override it for a throttle whose own clock can be set: set it to this instant, and return the instant. For one
        that reads the machine's clock, state ``at = unsupported("why")``: the checks that let time pass are skipped,
        the others go by the machine's clock.
        """
        return NOW + second * SECOND

    def _start(self) -> datetime:
        try:
            return self.at(0)
        except unittest.SkipTest:
            return datetime.now(UTC).replace(microsecond=0)

    # One instant.

    @promise("hit")
    async def test_the_first_calls_go_on_and_the_next_waits(self, throttle: AsyncThrottle) -> None:
        """Of a fresh key's calls at one instant exactly `limit` go on, and however many come after are refused."""
        now = self._start()
        for limit in (1, 2, 7, 60):
            caller = Caller(throttle, limit, DAY, f"limit {limit}")
            await caller.use_up(now)
            for _ in range(limit):
                await caller.refused(now)

    @promise("hit")
    async def test_an_answer_is_a_number_of_whole_seconds(self, throttle: AsyncThrottle) -> None:
        """An answer is an int: 0 to go on, else at least 1 and at most the window's seconds, and one for rounding."""
        now = self._start()
        for limit, window in ((1, DAY), (7, DAY), (3, 30 * DAY)):
            caller = Caller(throttle, limit, window, f"{limit} in {window}")
            for turn in range(limit + 2):
                answer = await caller.call(now)
                expect_that(type(answer) is int, f"expected an int, got {answer!r}")
                least, most = (1, longest_wait(window)) if turn >= limit else (0, 0)
                expect_that(least <= answer <= most, f"expected {least} to {most} seconds, got {answer}")

    @promise("hit")
    async def test_keys_are_counted_apart(self, throttle: AsyncThrottle) -> None:
        """Whatever one key has used up, each other key has its whole limit, and the first stays refused."""
        now = self._start()
        first = Caller(throttle, 3, DAY)
        await first.use_up(now)
        for number in range(50):
            await Caller(throttle, 3, DAY, f"another {number}").use_up(now)
        await first.refused(now)

    @promise("hit")
    async def test_each_key_has_the_limit_and_window_of_its_calls(self, throttle: AsyncThrottle) -> None:
        """Keys with different limits and windows live side by side: a client's is not an identifier's."""
        now = self._start()
        for turn in range(2):
            for limit, window in ((5, 30 * DAY), (60, DAY), (2, 2 * DAY)):
                wait = await Caller(throttle, limit, window, f"{limit} {turn}").use_up(now)
                most = longest_wait(window)
                expect_that(wait <= most, f"expected at most {most} seconds to wait, this key's window, got {wait}")

    @promise("hit")
    async def test_of_simultaneous_calls_exactly_the_limit_go_on(self, throttle: AsyncThrottle) -> None:
        """Of any number of calls under one key at once, exactly `limit` go on: counting and deciding are one step."""
        now = self._start()
        for turn in range(_ROUNDS):
            caller = Caller(throttle, 5, DAY, f"round {turn}")
            answers = await self.together(*(caller.call(now) for _ in range(_AT_ONCE)))
            expect(answers.count(0), caller.limit, "so many go on, whoever comes first")

    # Time passes.

    @promise("hit")
    async def test_who_waits_as_long_as_said_goes_on(self, throttle: AsyncThrottle) -> None:
        """After the seconds that it was told to wait a key goes on: they are rounded up, and not made up."""
        for limit, window in LIMITS:
            caller, second = Caller(throttle, limit, window, f"{limit} in {window}"), 0
            wait = await caller.use_up(self.at(0))
            for _ in range(3):
                second += wait
                expect(await caller.call(self.at(second)), 0, f"it was told to wait {wait} seconds, and did")
                wait = await self._called_until_refused(caller, second)

    async def _called_until_refused(self, caller: Caller, second: int) -> int:
        for _ in range(caller.limit):
            if wait := await caller.call(self.at(second)):
                return wait
        return await caller.refused(self.at(second))

    @promise("hit")
    async def test_the_limit_holds_again_after_a_rest(self, throttle: AsyncThrottle) -> None:
        """Who rested for two windows has the whole limit, no less, and no more, each time anew (CVE-2020-11052)."""
        for limit, window in LIMITS:
            caller, length = Caller(throttle, limit, window, f"{limit} in {window}"), int(window.total_seconds())
            for windows in (0, 2, 4, 10):
                await caller.use_up(self.at(windows * length))

    @promise("hit")
    async def test_a_steady_caller_gets_no_more_than_its_limit(self, throttle: AsyncThrottle) -> None:
        """Who calls on and on gets at most `limit` calls a window, over many windows, and one limit to begin with."""
        windows = 5
        for limit, length in ((1, 2), (3, 60), (7, 5)):
            caller = Caller(throttle, limit, length * SECOND, f"{limit} in {length}")
            answers = [await caller.call(self.at(second)) for second in range(windows * length) for _ in range(2)]
            most, gone = (windows + 1) * limit, answers.count(0)
            expect_that(gone <= most, f"expected at most {most} calls of {caller.name} seconds to go on, {gone} did")

    @promise("hit")
    async def test_refused_calls_lock_nobody_out(self, throttle: AsyncThrottle) -> None:
        """Who goes on calling while refused is not refused for ever: within two windows a call goes on."""
        caller = Caller(throttle, 3, MINUTE)
        await caller.use_up(self.at(0))
        answers = [await caller.call(self.at(second)) for second in range(1, 2 * 60 + 1)]
        expect_that(0 in answers, "a call each second for two windows, and none went on")

    @promise("hit")
    async def test_windows_may_be_of_any_length(self, throttle: AsyncThrottle) -> None:
        """A window of a second is counted as one of a month is: whole, days included."""
        for seconds in (1, 59, 3600, 86_400, 100_000, 30 * 86_400):
            caller = Caller(throttle, 1, seconds * SECOND, f"{seconds} seconds")
            wait = await caller.use_up(self.at(0))
            most = longest_wait(caller.window)
            expect_that(1 <= wait <= most, f"expected 1 to {most} seconds to wait, got {wait}")
            await caller.use_up(self.at(2 * seconds))

    @promise("hit")
    async def test_a_clock_that_goes_back_a_little_frees_nobody(self, throttle: AsyncThrottle) -> None:
        """Hosts' clocks differ by seconds: an older reading gives no limit anew, and locks nobody out."""
        caller, late = Caller(throttle, 3, MINUTE), 1000
        readings = [late - back for back in range(10) for _ in range(caller.limit)]
        answers = [await caller.call(self.at(second)) for second in readings]
        most, gone = 2 * caller.limit, answers.count(0)  # two windows, if the clock's windows change in between
        expect_that(gone <= most, f"expected at most {most} calls within ten seconds to go on, {gone} did")
        expect(await caller.call(self.at(late + 2 * 60)), 0, "it has rested for two windows")

    # Everything in any order.

    @explored_promise("hit")
    def test_any_calls_at_any_time_keep_within_the_bounds(self) -> None:
        """Whatever keys call whenever: never more than the limit allows, never less than is due, never told wrong."""
        from resetkit.testing._explore_throttle import explore_calls  # noqa: PLC0415  # Hypothesis is in the extra

        explore_calls(self)


class ThrottleConformance(ThrottleChecks, Sync[AsyncThrottle], shipped=True):
    """Every promise of `Throttle`. Subclass it and write `open_throttle`."""

    def open_throttle(self) -> AbstractContextManager[Throttle]:
        """A context manager that yields a throttle that has counted nothing yet, and cleans up."""
        raise NotImplementedError  # a subclass says

    @contextmanager
    def opened(self) -> Generator[AsyncThrottle, None, None]:
        """A lifted throttle."""
        with self.open_throttle() as throttle:
            yield self.watched(LiftedThrottle(throttle))


class AsyncThrottleConformance(ThrottleChecks, Async[AsyncThrottle], shipped=True):
    """Every promise of `AsyncThrottle`. Subclass it and write `open_throttle`."""

    def open_throttle(self) -> AbstractAsyncContextManager[AsyncThrottle]:
        """An async context manager that yields a throttle that has counted nothing yet, and cleans up."""
        raise NotImplementedError  # a subclass says

    @contextmanager
    def opened(self) -> Generator[AsyncThrottle, None, None]:
        """A throttle in a loop of its own."""
        with self.in_loop(self.open_throttle()) as throttle:
            yield self.watched(throttle)
