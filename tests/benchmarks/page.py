"""Put the figures of docs/performance.json into docs/performance.md: ``python tests/benchmarks/page.py``.

They stand between ``<!-- figures: NAME -->`` and ``<!-- end -->``; the prose around them names none. A test compares.
"""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.measure import RATIO, Figure, Figures, figures_in
from benchmarks.pictures import DOCS, KEPT, time
from benchmarks.targets import TARGETS, figures_for, verdict

PAGE: Final = DOCS / "performance.md"
PLACE: Final = re.compile(r"(<!-- figures: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str, kept: dict[str, Any]) -> str:
    """The page with these figures."""
    return PLACE.sub(lambda place: f"{place[1]}{told(place[2], kept)}\n{place[3]}", page)


def told(name: str, kept: dict[str, Any]) -> str:
    figures = figures_in(kept)
    if name == "machine":
        return machine(kept)
    if name == "targets":
        return targets(figures)
    return of_group(figures.get(name, {}).values())


def machine(kept: dict[str, Any]) -> str:
    where, packages = kept["machine"], ", ".join(f"{name} {number}" for name, number in kept["versions"].items())
    rows = [
        (group, run["when"][:10], f"{run['rounds']}{', a quick look' * run['quick']}", f"{run['load']}")
        for group, run in kept["runs"].items()
    ]
    place = f"{where['cpu']}, {where['cores']} cores, {where['system']}"
    packages = f"{place}, Python {where['python']}, SQLite {where['sqlite']}; {packages}."
    return f"{packages}\n\n{table(('group', 'measured on', 'rounds', 'load at the start'), rows)}"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [titles, ["---"] * len(titles), *rows])


def targets(figures: Figures) -> str:
    rows = list[Sequence[str]]()
    for target in TARGETS:
        found = figures_for(target, figures)
        unit = found[0].unit if found else ""
        command = f"`run.py {target.group}`"
        reached = "; ".join(str(each.value) for each in found) if len(found) < 5 else worst(found)
        rows.append((target.says, f"≤ {target.most:g} {unit}".rstrip(), reached, verdict(target, found), command))
    return table(("what", "target", "reached: median (99 % interval)", "", "again"), rows)


def worst(found: list[Figure]) -> str:
    return f"at the most {max((each.value for each in found), key=lambda value: value.median)}"


def of_group(figures: Iterable[Figure]) -> str:
    rows = list[Sequence[str]]()
    for each in figures:
        sides = " ÷ ".join(time(each.medians[name]) for name in each.medians) if each.unit == RATIO else ""
        rows.append((each.what, each.beside, f"{each.value} {each.unit}".rstrip(), sides))
    return table(("what", "beside", "median (99 % interval)", "resetkit ÷ other, medians"), rows)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(), json.loads(KEPT.read_text())))
