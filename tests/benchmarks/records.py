"""A store's operations beside the same by hand, from a thousand records to five million: does the ratio stay?

The sites, the records and the turns are those of `measure_scale`.
"""

from collections.abc import Sequence
from typing import Final

from benchmarks.measure import Effort, Figure, Interval, ratio
from benchmarks.stores import HAND
from measure_scale import measured, opened_site

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000, 5_000_000)
QUICK_SIZES: Final = (1_000, 10_000)
ENGINES: Final = ("sqlite", "postgres", "valkey")
OPERATIONS: Final = ("add", "get", "claim")


def figures(effort: Effort) -> list[Figure]:
    return [figure for engine in ENGINES for figure in of_engine(engine, QUICK_SIZES if effort.quick else SIZES)]


def of_engine(engine: str, counts: Sequence[int]) -> list[Figure]:
    found = {name: list[Figure]() for name in OPERATIONS}
    for count in counts:
        with opened_site(engine, count) as place:
            times = measured(engine, place, count)
        for name in OPERATIONS:
            ours, theirs = ([each / 1000 for each in side] for side in times[name])
            found[name].append(ratio(f"{engine}, {name}, {count} records", HAND, ours, theirs))
    changes = [change(f"{engine}, {name}, its largest ratio to its least", each) for name, each in found.items()]
    return [*(figure for each in found.values() for figure in each), *changes]


def change(what: str, ratios: Sequence[Figure]) -> Figure:
    """How far the ratios of all sizes are apart; the interval is as wide as theirs allow."""
    values = [each.value for each in ratios]
    value = Interval(
        low=max(1.0, max(each.low for each in values) / min(each.high for each in values)),
        median=max(each.median for each in values) / min(each.median for each in values),
        high=max(each.high for each in values) / min(each.low for each in values),
    )
    return Figure(what=what, value=value, rounds=ratios[0].rounds)
