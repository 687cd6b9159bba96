"""Whether the time of an answer tells who has an account: a paired measurement with controls, and what it proves.

Every round makes four calls, the *arms*, in a fresh random order, each with a member of a pool of its own:

- K, for a known account;
- U, for an unknown one;
- A, for an unknown one again: A minus U must come out as nothing, or the machine is too noisy to tell;
- L, for an unknown one, and then busy for four times the margin, still within the time that is taken: L minus U must
  come out as more than the margin, or the measurement has no power.

What counts is the difference from U in the same round, so that what slows a machine for a while slows all arms alike.
Of these differences the median is judged, by an interval that holds it with a confidence of 99.9 % whatever their
distribution (the sign test, inverted), and the tails, since a median is blind to what is rare. A t-test on blocks of
calls, as one is tempted to write, cried wolf on a shared machine in a quarter of the runs without a leak.

What a PASS says: in this process, on this machine, the medians differ by less than the margin. Never "constant time".
"""

import asyncio
import gc
import math
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Literal

from typing_extensions import override

from resetkit._checks import check_callable, check_duration, check_text, check_whole
from resetkit._manager import AsyncResetManager
from resetkit._sync import ResetManager, lift, step
from resetkit.errors import ConfigurationError, ThrottledError
from resetkit.policy import MAX_GUESSES_A_DAY, ResetPolicy

Arm = Literal["K", "U", "A", "L"]
"""What one call of a round is for: known, unknown, unknown again, unknown with a planted leak."""

Verdict = Literal["PASS", "LEAK", "INCONCLUSIVE", "INVALID"]
"""PASS: within the margin. LEAK: beyond it. INCONCLUSIVE: the interval holds both. INVALID: the controls failed."""

DEFAULT_MARGIN: Final = timedelta(microseconds=50)
"""Over the internet 15 to 100 µs were told apart (Crosby, Wallach and Riedi, 2009), within a data centre less."""

_ARMS: Final[tuple[Arm, ...]] = ("K", "U", "A", "L")
_ARM_NAMES: Final[dict[Arm, str]] = {"K": "known", "U": "unknown", "A": "unknown again", "L": "planted leak"}
_PLANTED: Final = 4  # margins: 200 µs for the default one
_LEAST_POOL: Final = 500
_LEAST_ROUNDS: Final = 40  # with fewer the interval would rest on the outermost times
_LEAST_TO_PASS: Final = 400  # fewer see too little of what is rare
_WARM_UP: Final = 100  # rounds, or a quarter of those that count
_TRIES: Final = 3
_QUANTILE_999: Final = 3.29  # of the normal distribution, two-sided 99.9 %
_TAIL_ALARM: Final = 4.42  # the same, for two-sided 10⁻⁵: the tails are looked at several times in a run
_NS_PER_US: Final = 1000
_random: Final = secrets.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Where the median of an arm's differences from U lies, in microseconds, with a confidence of 99.9 %."""

    low: float
    median: float
    high: float

    @property
    def bound(self) -> float:
        """The largest difference, in either direction, that the interval allows: microseconds."""
        return max(abs(self.low), abs(self.high))

    @override
    def __str__(self) -> str:
        return f"{self.median:+.1f} ({self.low:+.1f} to {self.high:+.1f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """How long the calls of one arm took, in microseconds."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a measurement found. ``str()`` is a table for people.

    - ``verdict``: only ``"PASS"`` is one.
    - ``rounds``: how many were judged, in the last try.
    - ``margin``: in microseconds.
    - ``differences``: of K, A and L from U. ``report.bound`` is the tightest margin that the run supports.
    - ``tails``: for K and A, a z-score for "more often among the slow than U": paired, of calls slower than nine in ten
      of both by more than the margin. Beyond ±4.42 it speaks against a PASS.
    - ``percentiles``: of each arm, for information.
    """

    verdict: Verdict
    rounds: int
    margin: float
    differences: Mapping[Arm, Interval]
    tails: Mapping[Arm, float]
    percentiles: Mapping[Arm, Percentiles]

    @property
    def bound(self) -> float:
        """The largest median difference between known and unknown that the run allows: microseconds."""
        return self.differences["K"].bound

    @override
    def __str__(self) -> str:
        lines = [
            f"{self.verdict}: {self._reason()}",
            f"{self.rounds} rounds, margin {self.margin:g}, all times in microseconds",
            f"{'arm':<16}{'p50':>10}{'p90':>10}{'p99':>10}   minus U: median (99.9 % interval)",
        ]
        for arm in _ARMS:
            at = self.percentiles[arm]
            difference = f"   {self.differences[arm]}" if arm in self.differences else ""
            lines.append(f"{arm} {_ARM_NAMES[arm]:<14}{at.p50:>10.1f}{at.p90:>10.1f}{at.p99:>10.1f}{difference}")
        lines.append(f"tails: z = {self.tails['K']:+.1f} for K, {self.tails['A']:+.1f} for A (alarm at ±{_TAIL_ALARM})")
        return "\n".join(lines)

    def _reason(self) -> str:
        known = self.differences["K"]
        if self.verdict == "PASS":
            return f"the medians of known and unknown differ by less than {known.bound:.1f} µs (99.9 % confidence)"
        if self.verdict == "LEAK":
            return f"known and unknown differ by {known.median:+.1f} µs, beyond the margin"
        if self.verdict == "INVALID":
            return "the controls failed, so this says nothing: use a quieter machine, more rounds or a wider margin"
        if _alarming(self.tails["K"]):
            return "known and unknown differ among the slow calls, whatever the medians say"
        if known.bound < self.margin:
            return f"no leak was seen, but fewer than {_LEAST_TO_PASS} rounds can only show one"
        return "the interval reaches across the margin: use more rounds, or a quieter machine"


def measure(
    call: Callable[[str], object],
    *,
    known: Sequence[str],
    unknown: Sequence[str],
    before: Callable[[str], object] | None = None,
    rounds: int = 1000,
    margin: timedelta = DEFAULT_MARGIN,
) -> Report:
    """Measure whether `call`, given an identifier, takes another time for a known one than for an unknown one.

    `known` and `unknown` are what it is called with: addresses, or tokens, or whatever tells the two kinds apart; at
    least 500 and 1500, all different, all of one length, and of the same kinds of characters (`addresses` makes such
    ones). Unknown ones are dealt out to three arms, and none is used twice in a row, so that what was never seen, or
    was just seen, is so for all arms alike. ``before(identifier)`` runs in front of each call and is not timed.

    `call` must go the same way every time: give a manager ``policy=roomy_policy()``, or its throttle ends the run.
    Nothing is cropped; up to 100 rounds to warm up are not counted; the garbage collector is off. A run that is
    INCONCLUSIVE or INVALID is made again with twice the rounds, twice at most. A LEAK is one at once: 40 rounds can
    show one, and 400 are the least that PASS.

    Raises ConfigurationError for unfit pools, fewer than 40 rounds, or a call that was throttled; what `call` raises
    comes out as it is.
    """
    check_callable("call", call)
    return step(_measure(lift(call), lift(before or _nothing), known, unknown, rounds, margin))


async def measure_async(
    call: Callable[[str], Awaitable[object]],
    *,
    known: Sequence[str],
    unknown: Sequence[str],
    before: Callable[[str], Awaitable[object]] | None = None,
    rounds: int = 1000,
    margin: timedelta = DEFAULT_MARGIN,
) -> Report:
    """`measure`, for what is awaited. In front of each call, the loop may go on with what is due, untimed.

    Work in the loop slows a call down only while the call waits. To measure what a visitor would, let `call` wait as a
    handler does that reads and writes: ``await asyncio.sleep(0)``.
    """
    check_callable("call", call)
    return await _measure(call, before or _let_the_loop_go_on, known, unknown, rounds, margin)


def measure_requests(
    manager: ResetManager,
    *,
    known: Sequence[str],
    unknown: Sequence[str],
    code: bool = False,
    rounds: int = 1000,
    margin: timedelta = DEFAULT_MARGIN,
) -> Report:
    """`measure` the manager's `request_reset`. `known` are identifiers that its directory finds.

    Give the manager ``policy=roomy_policy()`` and a dispatcher that takes as many jobs as there are calls: four a
    round, seven times over if it is tried again.
    """
    return measure(
        lambda identifier: manager.request_reset(identifier, client=None, code=code),
        known=known,
        unknown=unknown,
        rounds=rounds,
        margin=margin,
    )


async def measure_requests_async(
    manager: AsyncResetManager,
    *,
    known: Sequence[str],
    unknown: Sequence[str],
    code: bool = False,
    rounds: int = 1000,
    margin: timedelta = DEFAULT_MARGIN,
) -> Report:
    """`measure_requests`, async."""
    return await measure_async(
        lambda identifier: manager.request_reset(identifier, client=None, code=code),
        known=known,
        unknown=unknown,
        rounds=rounds,
        margin=margin,
    )


def roomy_policy(policy: ResetPolicy | None = None, *, code_guesses: int = 1) -> ResetPolicy:
    """`policy`, with so much room that no arm of a measurement comes to a limit before another.

    Its throttles never refuse. Guesses at codes a day are bounded whatever the policy, 100 for an account: all of them
    go to `code_guesses` of one code or, with 1, to a hundred mails. To measure the typing of codes, use 100.
    """
    day = timedelta(days=1)
    return replace(
        ResetPolicy() if policy is None else policy,
        client_limit=(10**9, day),
        identifier_limit=(10**9, day),
        code_guesses=code_guesses,
        account_quotas=((MAX_GUESSES_A_DAY // code_guesses, day),),
    )


def addresses(count: int, *, domain: str = "example.org") -> list[str]:
    """So many different mail addresses of one length: random names under `domain`."""
    check_whole("count", count, least=1)
    return [f"{secrets.token_hex(8)}@{domain}" for _ in range(count)]


def judge(times: Mapping[Arm, Sequence[int]], *, margin: timedelta = DEFAULT_MARGIN) -> Report:
    """The report on times that were taken otherwise: nanoseconds for each arm, in the order of the rounds.

    The planted leak must be of four margins. Raises ConfigurationError unless every arm has the same number of times.
    """
    rounds = len(times["U"])
    if any(len(times[arm]) != rounds for arm in _ARMS):
        raise ConfigurationError("every arm must have one time for each round")
    check_whole("the number of rounds", rounds, least=_LEAST_ROUNDS)
    width = margin / timedelta(microseconds=1)
    differences: dict[Arm, Interval] = {arm: _interval(times[arm], times["U"]) for arm in _ARMS if arm != "U"}
    tails: dict[Arm, float] = {arm: _tail(times[arm], times["U"], width) for arm in _ARMS if arm in {"K", "A"}}
    return Report(
        verdict=_verdict(differences, tails, width, rounds),
        rounds=rounds,
        margin=width,
        differences=differences,
        tails=tails,
        percentiles={arm: _percentiles(times[arm]) for arm in _ARMS},
    )


def _verdict(differences: Mapping[Arm, Interval], tails: Mapping[Arm, float], margin: float, rounds: int) -> Verdict:
    known, again, planted = differences["K"], differences["A"], differences["L"]
    if again.bound >= margin or _alarming(tails["A"]) or planted.low <= margin:
        return "INVALID"
    if known.low > margin or known.high < -margin:
        return "LEAK"
    enough = rounds >= _LEAST_TO_PASS
    return "PASS" if known.bound < margin and enough and not _alarming(tails["K"]) else "INCONCLUSIVE"


def _alarming(tail: float) -> bool:
    return abs(tail) > _TAIL_ALARM


def _interval(times: Sequence[int], others: Sequence[int]) -> Interval:
    """The inverted sign test: as many differences stand outside on either side as chance would put there."""
    differences = sorted((time - other) / _NS_PER_US for time, other in zip(times, others, strict=True))
    count = len(differences)
    outside = int(count / 2 - _QUANTILE_999 * math.sqrt(count) / 2)
    return Interval(low=differences[outside], median=statistics.median(differences), high=differences[-1 - outside])


def _tail(times: Sequence[int], others: Sequence[int], margin: float) -> float:
    """McNemar's z, for being slow: slower than nine in ten, and by more than the margin, which a PASS allows anyway."""
    slow = _quantile(sorted([*times, *others]), 0.9) + margin * _NS_PER_US
    pairs = [(time > slow, other > slow) for time, other in zip(times, others, strict=True)]
    only, only_other = pairs.count((True, False)), pairs.count((False, True))
    return (only - only_other) / math.sqrt(only + only_other or 1)


def _percentiles(times: Sequence[int]) -> Percentiles:
    ordered = sorted(times)
    p50, p90, p99 = (_quantile(ordered, share) / _NS_PER_US for share in (0.5, 0.9, 0.99))
    return Percentiles(p50=p50, p90=p90, p99=p99)


def _quantile(ordered: Sequence[int], share: float) -> int:
    return ordered[int(share * (len(ordered) - 1))]


# The run.


async def _measure(
    call: Callable[[str], Awaitable[object]],
    before: Callable[[str], Awaitable[object]],
    known: Sequence[str],
    unknown: Sequence[str],
    rounds: int,
    margin: timedelta,
) -> Report:
    check_whole("rounds", rounds, least=_LEAST_ROUNDS)
    check_duration("margin", margin, most=timedelta(seconds=1), whole=False)
    pools = _deal(known, unknown)
    planted = int(_PLANTED * margin / timedelta(microseconds=1) * _NS_PER_US)
    for doubled in range(_TRIES - 1):
        report = judge(await _take_times(call, before, pools, rounds << doubled, planted), margin=margin)
        if report.verdict in {"PASS", "LEAK"}:
            return report
    return judge(await _take_times(call, before, pools, rounds << (_TRIES - 1), planted), margin=margin)


async def _take_times(
    call: Callable[[str], Awaitable[object]],
    before: Callable[[str], Awaitable[object]],
    pools: Mapping[Arm, Sequence[str]],
    rounds: int,
    planted: int,
) -> dict[Arm, list[int]]:
    taken: dict[Arm, list[int]] = {arm: [] for arm in _ARMS}
    drawn = {arm: _draw(pools[arm]) for arm in _ARMS}
    warm_up = min(_WARM_UP, rounds // 4)
    with _without_garbage_collector():
        for _ in range(warm_up + rounds):
            for arm in _random.sample(_ARMS, len(_ARMS)):
                identifier = next(drawn[arm])
                busy = planted if arm == "L" else 0
                await before(identifier)
                began = time.perf_counter_ns()
                try:
                    await call(identifier)
                except ThrottledError:
                    raise ConfigurationError(_THROTTLED) from None
                _be_busy(busy)
                taken[arm].append(time.perf_counter_ns() - began)
    return {arm: times[warm_up:] for arm, times in taken.items()}


_THROTTLED: Final = (
    "a call was throttled, so the arms no longer go one way: give the manager policy=roomy_policy() and its dispatcher "
    "a capacity for all jobs"
)


def _be_busy(nanoseconds: int) -> None:
    """A planted leak works as a real one would, on the processor: a sleep is longer than it says."""
    end = time.perf_counter_ns() + nanoseconds
    while time.perf_counter_ns() < end:
        pass


@contextmanager
def _without_garbage_collector() -> Generator[None, None, None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _draw(pool: Sequence[str]) -> Iterator[str]:
    """Without end: each member once, in random order, then each once more. None twice in a row."""
    members = list(pool)
    while True:
        last = members[-1]
        _random.shuffle(members)
        if members[0] == last:
            members.append(members.pop(0))
        yield from members


def _deal(known: Sequence[str], unknown: Sequence[str]) -> dict[Arm, Sequence[str]]:
    """A pool for each arm, all of one size: each arm comes to what it has not seen before as often as the others."""
    for name, pool in (("known", known), ("unknown", unknown)):
        for identifier in pool:
            check_text(f"each of {name}", identifier)
    size = min(len(known), len(unknown) // 3)
    if size < _LEAST_POOL:
        raise ConfigurationError(
            f"known must hold at least {_LEAST_POOL} identifiers and unknown {3 * _LEAST_POOL}, "
            f"not {len(known)} and {len(unknown)}"
        )
    if len({*known, *unknown}) < len(known) + len(unknown):
        raise ConfigurationError("all identifiers must be different, and none both known and unknown")
    if len({(len(each), len(each.encode())) for each in (*known, *unknown)}) > 1:
        raise ConfigurationError("all identifiers must have the same length, in characters and in bytes")
    if _kinds(known) != _kinds(unknown):
        raise ConfigurationError(
            "known and unknown must have the same kinds of characters, letters or digits, at each place"
        )
    return {"K": known[:size], "U": unknown[:size], "A": unknown[size : 2 * size], "L": unknown[2 * size : 3 * size]}


def _kinds(pool: Sequence[str]) -> list[set[str]]:
    """At each place: lower case, upper case, digits; any other character is a kind of its own."""
    kinds = (("a", str.islower), ("A", str.isupper), ("0", str.isdecimal))
    return [
        {next((kind for kind, belongs in kinds if belongs(character)), character) for character in set(place)}
        for place in zip(*pool, strict=True)
    ]


def _nothing(_identifier: str) -> None:
    pass


async def _let_the_loop_go_on(_identifier: str) -> None:
    await asyncio.sleep(0)
