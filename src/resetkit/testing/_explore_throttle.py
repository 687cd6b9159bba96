"""Calls at random, against the bounds that every sound throttle keeps."""

from dataclasses import dataclass, field
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from resetkit.testing._explore import exploring
from resetkit.testing._kit import expect_that
from resetkit.testing._records import SECOND
from resetkit.testing.throttles import Caller, ThrottleChecks, longest_wait

_AS_SAID: Final = "as long as was said"

# Tenths of the window and a second more or less, or as long as the key was told to wait.
Pause = tuple[int, int] | str
_pauses: Final = (
    st.just((0, 0))
    | st.just(_AS_SAID)
    | st.tuples(st.just(0), st.integers(min_value=1, max_value=3))
    | st.tuples(st.sampled_from((1, 5, 9, 10, 19, 20)), st.integers(min_value=-1, max_value=1))
)


@dataclass(slots=True)
class _Diary:
    """What one key did, in seconds: its calls, those that went on, and when it may go on as it was told."""

    limit: int
    length: int
    calls: list[int] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    told: int | None = None

    def is_due(self, now: int) -> bool:
        """Whether a call must go on."""
        recent = sum(now - each < 2 * self.length for each in self.calls)
        return recent < self.limit or (self.told is not None and now >= self.told)

    def write(self, now: int, answer: int) -> None:
        due, most = self.is_due(now), longest_wait(self.length * SECOND)
        self.calls.append(now)
        expect_that(type(answer) is int and 0 <= answer <= most, f"expected 0 to {most} seconds, got {answer!r}")
        if answer:
            expect_that(not due, f"expected 0, got {answer}: the key has rested, or waited as long as it was told")
            self.told = now + answer
            return
        self.told = None
        self.gone.append(now)
        for nth, begin in enumerate(self.gone):
            gone, windows = len(self.gone) - nth, -((begin - now) // self.length) + 1
            bound = windows * self.limit
            expect_that(gone <= bound, f"in {now - begin + 1} seconds {gone} calls went on, at most {bound} may")


def explore_calls(kit: ThrottleChecks) -> None:
    """Three keys call, for a while, under one limit."""
    kit.at(0)  # skips where time cannot be given

    @exploring(kit)
    @given(
        limit=st.integers(min_value=1, max_value=4),
        length=st.sampled_from((1, 2, 3, 7, 61, 3599, 86_400)),
        start=st.integers(min_value=0, max_value=100_000),
        calls=st.lists(
            st.tuples(st.sampled_from("aaabc"), _pauses, st.integers(min_value=1, max_value=6)), max_size=30
        ),
    )
    def calls_keep_within_the_bounds(limit: int, length: int, start: int, calls: list[tuple[str, Pause, int]]) -> None:
        diaries = {name: _Diary(limit, length) for name in "abc"}
        with kit.opened() as throttle:
            now = start
            for name, pause, times in calls:
                now += _seconds(pause, diaries[name], now)
                caller = Caller(throttle, limit, length * SECOND, name)
                for _ in range(times):
                    diaries[name].write(now, kit.run(caller.call(kit.at(now))))

    calls_keep_within_the_bounds()


def _seconds(pause: Pause, diary: _Diary, now: int) -> int:
    if isinstance(pause, str):
        return max(0, diary.told - now) if diary.told is not None else 0
    tenths, more = pause
    return max(0, diary.length * tenths // 10 + more)
