"""How often the kit catches each broken store, and how often the sound ones pass, with another seed each time.

``python tests/prove_the_kit.py 20`` runs twenty of each and prints the table of docs/adapters.md.
"""

import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from unittest import SkipTest

from hypothesis import Phase, settings

from broken_stores import TWINS, AsyncTwinKit, KeepsItsCallersLocals, TwinKit
from resetkit.stores import AsyncMemoryTokenStore, AsyncSQLiteTokenStore, MemoryTokenStore, SQLiteTokenStore
from resetkit.testing import BrokenPromiseError

Run = tuple[Any, bool, str]  # the store's class, async or not, the check

SOUND = {MemoryTokenStore: False, AsyncMemoryTokenStore: True, SQLiteTokenStore: False, AsyncSQLiteTokenStore: True}
WORKERS = 4 * (os.cpu_count() or 1)  # most of the time is spent waiting for locks
UNDRIVEN = "test_a_call_whose_driver_fails_has_happened_or_has_not"


def begin() -> None:
    """A failure is a failure: what shows it best is of no interest here."""
    settings.register_profile("unshrunk", phases=[Phase.generate])
    settings.load_profile("unshrunk")


def holds(run: Run) -> bool:
    """Whether the check passes."""
    store, is_async, check = run
    try:
        getattr((AsyncTwinKit if is_async else TwinKit)(store), check)()
    except SkipTest:
        raise AssertionError(f"{check} was skipped") from None
    except BrokenPromiseError:
        return False
    return True


def broken_runs() -> Iterable[Run]:
    for twin, checks in TWINS.items():
        for check in checks:
            if not issubclass(twin, AsyncMemoryTokenStore):
                yield twin, False, check
            if twin is not KeepsItsCallersLocals:
                yield twin, True, check


def sound_runs() -> Iterable[Run]:
    for store, is_async in SOUND.items():
        in_file = issubclass(store, SQLiteTokenStore | AsyncSQLiteTokenStore)
        for check in (AsyncTwinKit if is_async else TwinKit).promises():
            if in_file or (check != UNDRIVEN and "process" not in check):
                yield store, is_async, check


def main(times: int) -> int:
    with ProcessPoolExecutor(WORKERS, initializer=begin) as processes:
        broken, sound = list(broken_runs()), list(sound_runs())
        held = list(processes.map(holds, [run for run in [*broken, *sound] for _ in range(times)]))
    counts = {run: sum(held[number * times : (number + 1) * times]) for number, run in enumerate([*broken, *sound])}
    print("| what the author did | caught by | sync | async |\n|---|---|---|---|")
    for twin, checks in TWINS.items():
        for check in checks:
            caught = [
                f"{times - counts[run]} of {times}" if (run := (twin, is_async, check)) in counts else "-"
                for is_async in (False, True)
            ]
            print(f"| {twin.__name__}: {(twin.__doc__ or '').strip()} | `{check}` | {' | '.join(caught)} |")
    failed = {run: times - counts[run] for run in sound if counts[run] < times}
    print(f"\nsound stores: {len(sound)} checks, {times} times each, {sum(failed.values())} failures {failed or ''}")
    return 1 if failed or any(counts[run] for run in broken) else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
