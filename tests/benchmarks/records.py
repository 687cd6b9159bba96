"""A store's operations beside the same by hand, from a thousand records to five million: does the ratio stay?

The sites, the records and the turns are those of `measure_scale`.
"""

from collections.abc import Sequence
from typing import Final

from benchmarks.measure import Effort, Figure, ratio
from benchmarks.stores import HAND
from measure_scale import measured, opened_site

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000, 5_000_000)
QUICK_SIZES: Final = (1_000, 10_000)
ENGINES: Final = ("sqlite", "postgres", "valkey")
OPERATIONS: Final = ("add", "get", "claim")


def figures(effort: Effort) -> list[Figure]:
    found = list[Figure]()
    for engine in ENGINES:
        for count in QUICK_SIZES if effort.quick else SIZES:
            with opened_site(engine, count) as place:
                times = measured(engine, place, count)
            found += [
                ratio(f"{engine}, {name}, {count} records", HAND, *map(microseconds, times[name]))
                for name in OPERATIONS
            ]
    return found


def microseconds(times: Sequence[int]) -> list[float]:
    return [each / 1000 for each in times]
