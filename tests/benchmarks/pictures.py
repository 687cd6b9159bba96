"""Draw the figures of docs/performance.json as docs/performance-*.svg: ``python tests/benchmarks/pictures.py``.

They are committed, and a test draws them anew.
"""

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.measure import OURS, Figures, figures_in

DOCS: Final = Path(__file__).parents[2] / "docs"
KEPT: Final = DOCS / "performance.json"
STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.small { font-size: 11px; fill: #57606a } .head { font-weight: 600 }
.grid { stroke: #d0d7de }
.line { fill: none; stroke: #8c959f; stroke-width: 2 } .ours .line { stroke: #0969da }
.dot { fill: #8c959f } .ours .dot { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .grid { stroke: #3d444d }
  .dot { fill: #656c76 } .line { stroke: #656c76 }
  .ours .dot { fill: #4493f8 } .ours .line { stroke: #4493f8 }
}
"""
WIDTH: Final = 720


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Places on a logarithmic axis; whole powers of ten have a line."""

    least: float
    most: float
    start: float
    end: float

    def place(self, value: float) -> float:
        share = math.log(value / self.least) / math.log(self.most / self.least)
        return self.start + (self.end - self.start) * min(max(share, 0.0), 1.0)

    def ticks(self) -> list[float]:
        first, last = math.ceil(math.log10(self.least) - 1e-9), math.floor(math.log10(self.most) + 1e-9)
        return [10.0**power for power in range(first, last + 1)]


def around(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale of whole powers of ten that holds them all."""
    least, most = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return Scale(least=10.0**least, most=10.0 ** max(most, least + 1), start=start, end=end)


def time(microseconds: float) -> str:
    """As people say it."""
    for size, unit in ((1e6, "s"), (1e3, "ms")):
        if microseconds >= size:
            return f"{microseconds / size:.3g} {unit}"
    return f"{microseconds:.3g} µs"


def count(number: float) -> str:
    return f"{number:,.0f}"


def svg(title: str, height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img"'
    label = f'<text x="8" y="20" class="head">{escape(title)}</text>'
    return "\n".join([f'{head} aria-label="{escape(title)}">', f"<style>{STYLE}</style>", label, *parts, "</svg>\n"])


# Dots: microseconds of each system, in groups. Not bars, whose length would say nothing on such a scale.

Groups = Mapping[str, Mapping[str, float]]
"""Of what, by whom."""

ROW, GAP, LEFT, RIGHT = 22, 30, 190, 640


def dots(title: str, groups: Groups) -> str:
    scale = around([each for group in groups.values() for each in group.values()], LEFT, RIGHT)
    y, parts = 34.0, list[str]()
    for what, group in groups.items():
        y += GAP
        parts.append(f'<text x="8" y="{y - 6:.0f}" class="small">{escape(what)}</text>')
        for name, value in group.items():
            x, middle, whose = scale.place(value), y + ROW / 2, "ours" if name == OURS else "theirs"
            parts += [
                f'<g class="{whose}"><text x="8" y="{middle + 4:.0f}">{escape(name)}</text>',
                f'<line class="grid" x1="{LEFT}" x2="{x:.1f}" y1="{middle:.0f}" y2="{middle:.0f}"/>',
                f'<circle class="dot" cx="{x:.1f}" cy="{middle:.0f}" r="5"/>',
                f'<text class="small" x="{x + 10:.1f}" y="{middle + 4:.0f}">{time(value)}</text></g>',
            ]
            y += ROW
    grid = [
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="40" y2="{y:.0f}"/>'
        f'<text class="small" x="{x:.1f}" y="{y + 16:.0f}" text-anchor="middle">{time(tick)}</text>'
        for tick in scale.ticks()
        for x in (scale.place(tick),)
    ]
    return svg(title, y + 26, [*grid, *parts])


# Lines: panels side by side, each with curves over the same numbers.

Curve = Sequence[tuple[float, float]]
Panels = Mapping[str, Mapping[str, Curve]]

TOP, BOTTOM, FIRST, BETWEEN = 60.0, 260.0, 60.0, 44.0


def lines(title: str, panels: Panels, *, unit: str, below: str) -> str:
    values = [y for curves in panels.values() for curve in curves.values() for _, y in curve]
    up = around(values, BOTTOM, TOP)
    wide = (WIDTH - 16 - FIRST - BETWEEN * (len(panels) - 1)) / len(panels)
    parts = list[str]()
    for number, (what, curves) in enumerate(panels.items()):
        left = FIRST + number * (wide + BETWEEN)
        points = sorted({x for curve in curves.values() for x, _ in curve})
        across = Scale(least=points[0], most=points[-1], start=left, end=left + wide)
        parts.append(f'<text x="{left:.0f}" y="{TOP - 14:.0f}">{escape(what)}</text>')
        for tick in up.ticks():
            y = up.place(tick)
            parts.append(f'<line class="grid" x1="{left:.1f}" x2="{left + wide:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
            if number == 0:
                said = time(tick) if unit == "time" else count(tick)
                parts.append(f'<text class="small" x="{left - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{said}</text>')
        for x in points:
            said = count(x).replace(",000,000", " M").replace(",000", " k")
            at = f'x="{across.place(x):.1f}" y="{BOTTOM + 18:.0f}"'
            parts.append(f'<text class="small" {at} text-anchor="middle">{said}</text>')
        for name, curve in curves.items():
            parts.append(drawn(name, [(across.place(x), up.place(y)) for x, y in curve]))
    who = sorted({name for curves in panels.values() for name in curves}, key=lambda name: name != OURS)
    told = ", ".join(f"{name} {'blue' if name == OURS else 'grey'}" for name in who)
    parts.append(f'<text class="small" x="{FIRST:.0f}" y="{BOTTOM + 40:.0f}">{unit}, over {below}; {told}</text>')
    return svg(title, BOTTOM + 52, parts)


def drawn(name: str, curve: Curve) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in curve)
    marks = "".join(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in curve)
    whose = "ours" if name == OURS else "theirs"
    return f'<g class="{whose}"><polyline class="line" points="{path}"/>{marks}</g>'


# The pictures. What was not measured is not drawn.


def medians(figures: Figures, group: str, what: str) -> dict[str, float]:
    """Of resetkit, as it was beside the first, and of everyone beside it."""
    found = dict[str, float]()
    for each in figures.get(group, {}).values():
        if each.what == what and each.beside:
            found = {OURS: each.medians[OURS]} | found | {each.beside: each.medians[each.beside]}
    return found


def tokens(figures: Figures) -> str:
    groups = {what: medians(figures, "tokens", what) for what in ("issue", "check", "redeem")}
    return dots("One call, with tokens in memory", groups)


def visits(figures: Figures) -> str:
    whats = {
        "request, known account": "visit, known",
        "request, unknown account": "visit, unknown",
        "new password": "new password",
    }
    groups = {title: medians(figures, "requests", what) for title, what in whats.items()}
    return dots("From a visitor's request to the answer", groups)


RECORDS: Final = re.compile(r"(\w+), (\w+), (\d+) records")
WORKERS: Final = re.compile(r"(\w+), (\d+) (\w+)")
NAMES: Final = {"sqlite": "SQLite", "postgres": "PostgreSQL", "valkey": "Valkey"}


def records(figures: Figures) -> str:
    """The microseconds of the operations of one reset, added up."""
    panels = dict[str, dict[str, dict[int, float]]]()
    for each in figures["records"].values():
        if found := RECORDS.fullmatch(each.what):
            engine, _, size = found.groups()
            for name, median in each.medians.items():
                curve = panels.setdefault(NAMES[engine], {}).setdefault(name, {})
                curve[int(size)] = curve.get(int(size), 0.0) + median
    given = {
        engine: {name: sorted(curve.items()) for name, curve in curves.items()} for engine, curves in panels.items()
    }
    return lines("What one reset takes in a store: add, get and claim", given, unit="time", below="records")


def workers(figures: Figures) -> str:
    panels = dict[str, dict[int, float]]()
    for each in figures["workers"].values():
        if found := WORKERS.fullmatch(each.what):
            engine, number, kind = found.groups()
            panels.setdefault(f"{NAMES[engine]}, {kind}", {})[int(number)] = each.value.median
    given = {what: {OURS: sorted(curve.items())} for what, curve in panels.items()}
    return lines("Resets by more and more workers", given, unit="resets a second", below="workers")


PICTURES: Final = {"tokens": tokens, "requests": visits, "records": records, "workers": workers}
"""By the group that they are of."""


def pictures(figures: Figures) -> dict[str, str]:
    """The texts of all that can be drawn, by the names of their files."""
    return {f"performance-{group}.svg": draw(figures) for group, draw in PICTURES.items() if group in figures}


if __name__ == "__main__":
    for name, text in pictures(figures_in(json.loads(KEPT.read_text()))).items():
        (DOCS / name).write_text(text)
