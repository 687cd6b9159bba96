"""Resets a second by more and more workers on one store: a token is issued, looked at and redeemed, each time anew.

The servers wait for the disk. Numbers of workers take turns, so that what else the machine does falls on all of them.
"""

import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from benchmarks.measure import Effort, Figure, alone, manager
from measure_scale import CROWD, opened_site, opened_store
from resetkit import Account
from resetkit.testing import FakeAccounts

ENGINES: Final = ("sqlite", "postgres")
WORKERS: Final = (1, 2, 4, 8)
SECONDS: Final = 3.0
QUICK_SECONDS: Final = 0.5
QUICK_CROWD: Final = 1_000
PATIENCE: Final = 120  # seconds for a process to begin


def figures(effort: Effort) -> list[Figure]:
    rounds, length, crowd = (1, QUICK_SECONDS, QUICK_CROWD) if effort.quick else (effort.slow // 4 or 1, SECONDS, CROWD)
    found = list[Figure]()
    for engine in ENGINES:
        rates = {(kind, workers): list[float]() for kind in ("processes", "threads") for workers in WORKERS}
        with opened_site(engine, crowd, durable=True) as place:
            for _ in range(rounds):
                for (kind, workers), each in rates.items():
                    processes, threads = (workers, 1) if kind == "processes" else (1, workers)
                    each.append(resets_a_second(engine, place, processes, threads, length))
        found += [alone(f"{engine}, {workers} {kind}", "resets/s", each) for (kind, workers), each in rates.items()]
    return found


class Anybody(FakeAccounts):
    """Everyone has an account, which nothing changes: so no account is shared, and none has a past."""

    @override
    def get(self, account_id: str, /) -> Account | None:
        return Account(id=account_id, email="alice@example.org", stamp="s")

    @override
    def set_password(self, account_id: str, new_password: str, /) -> None: ...

    @override
    def end_sessions(self, account_id: str, /) -> None: ...


def resets_a_second(engine: str, place: Path, processes: int, threads: int, length: float) -> float:
    context = get_context("spawn")
    barrier = context.Barrier(processes)
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_share, initargs=(barrier,)) as pool:
        results = [pool.submit(one_process, engine, place, threads, length) for _ in range(processes)]
        return sum(each.result() for each in results) / length


_start: Any = None  # the barrier that all processes share


def _share(barrier: Any) -> None:
    global _start  # noqa: PLW0603  # a process has one
    _start = barrier


def one_process(engine: str, place: Path, threads: int, length: float) -> int:
    """How many resets it came to the end of."""
    counts = [0] * threads
    with opened_store(engine, place, threads) as store:
        ours = manager(Anybody(), store)

        def one(number: int, until: float) -> None:
            while True:
                token = ours.issue_token(f"{os.getpid()}-{number}-{time.monotonic_ns()}").token
                ours.check_token(token)
                ours.reset_password(token, "correct horse battery")
                if time.monotonic() > until:
                    return
                counts[number] += 1

        one(0, 0.0)  # so that connections and statements are made
        _start.wait(PATIENCE)
        until = time.monotonic() + length
        crew = [threading.Thread(target=one, args=(number, until)) for number in range(threads)]
        for each in crew:
            each.start()
        for each in crew:
            each.join()
    return sum(counts)
