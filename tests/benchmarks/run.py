"""What resetkit takes, beside its peers and beside the least that can be: the figures of docs/performance.md.

::

    python -m pip install -e ".[dev]" -r tests/peers/requirements.txt
    python tests/benchmarks/run.py                                  # everything; about an hour
    python tests/benchmarks/run.py tokens sqlite --rounds 50        # these groups
    python tests/benchmarks/run.py --quick                          # a look
    python tests/benchmarks/run.py --json docs/performance.json     # and keep the figures; of all groups run so
    python tests/benchmarks/run.py --against docs/performance.json  # and say what has changed since

Each group runs in a process of its own. `--against` never fails: it prints what drifted, for who releases to judge.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

if __name__ in {"__main__", "__mp_main__"}:
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.measure import (
    PACKAGES,
    RATIO,
    Effort,
    Figure,
    figures_in,
    in_a_process,
    machine,
    moment,
    number,
    versions,
)

GROUPS: Final = (
    "tokens",
    "profile",
    "requests",
    "hashing",
    "imports",
    "faces",
    "memory",
    "sqlite",
    "postgres",
    "valkey",
)
SLOWEST: Final = ("records", "workers")
ROUNDS: Final = 200
QUICK: Final = 20


def figures_of(group: str, effort: Effort) -> list[Figure]:
    figures: list[Figure] = import_module(f"benchmarks.{group}").figures(effort)
    return figures


Kept = dict[str, Any]
"""What is kept as JSON: the machine, the versions, and the run and figures of each group."""


def measured(groups: list[str], effort: Effort, keep: Callable[[Kept], None] = lambda _: None) -> Kept:
    """`keep` is called after each group: what is interrupted loses no more than one."""
    kept: Kept = {"machine": machine(), "versions": versions(), "runs": {}, "figures": {}}
    for group in groups:
        began = moment()
        found = in_a_process(figures_of, group, effort)
        show(group, found)
        kept["runs"][group] = asdict(effort) | began
        kept["figures"][group] = {each.name: asdict(each) for each in found}
        keep(kept)
    return kept


def joined(old: Kept, new: Kept) -> Kept:
    """With the groups that were measured before, if it was on the same machine with the same packages."""
    if any(old[name] != new[name] for name in ("machine", "versions")):
        return new
    return new | {name: old[name] | new[name] for name in ("runs", "figures")}


def write(path: Path, now: Kept) -> None:
    known = json.loads(path.read_text()) if path.exists() else now
    path.write_text(json.dumps(joined(known, now), indent=1, ensure_ascii=False) + "\n")


def show(group: str, figures: list[Figure]) -> None:
    print(f"\n{group}\n| what | beside | median (99 % interval) | medians | rounds |\n|---|---|---|---|---|")
    for each in figures:
        sides = (f"{name} {number(median)}" for name, median in each.medians.items())
        medians = ", ".join(sides) if each.beside else ""
        cells = (each.what, each.beside, f"{each.value} {each.unit}", medians, each.rounds)
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


SLACK: Final = 0.01


def drifted(kept: Kept, now: Kept) -> list[str]:
    """The figures whose intervals are apart, and by more than a hundredth of the old median.

    What is no ratio is compared on the same machine only.
    """
    same, before, found = kept["machine"] == now["machine"], figures_in(kept), list[str]()
    for group, figures in figures_in(now).items():
        for name, new in figures.items():
            old = before.get(group, {}).get(name)
            if old is None or (new.unit != RATIO and not same):
                continue
            apart = max(new.value.low - old.value.high, old.value.low - new.value.high)
            if apart > SLACK * abs(old.value.median):
                found.append(f"{group}: {name}: {number(old.value.median)} {old.unit}, now {number(new.value.median)}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="group", help=f"of {', '.join((*GROUPS, *SLOWEST))}")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--against", type=Path)
    given = parser.parse_args()
    if unknown := {*given.groups} - {*GROUPS, *SLOWEST}:
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    groups = given.groups or [*GROUPS, *SLOWEST]
    if "requests" in groups and (missing := {*PACKAGES} - versions().keys()):
        parser.error(f"{', '.join(sorted(missing))}: not installed. How to is in the top of this file")
    effort = Effort(rounds=given.rounds or (QUICK if given.quick else ROUNDS), quick=given.quick)
    kept = json.loads(given.against.read_text()) if given.against else None
    now = measured(groups, effort, partial(write, given.json) if given.json else lambda _: None)
    if kept:
        found = drifted(kept, now)
        print(f"\n{len(found)} figures drifted beyond their intervals", *found, sep="\n")


if __name__ == "__main__":
    main()
