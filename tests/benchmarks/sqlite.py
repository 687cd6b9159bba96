"""On an SQLite file, beside the same statements by hand at the same durability: each change waits for the disk."""

import os
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.measure import OURS, Batch, Effort, Figure, compare
from benchmarks.stores import CALLS, Hand, Pair
from by_hand import SQLiteByHand
from resetkit.stores import SQLiteTokenStore
from servers import folder
from site_records import sqlite_connection


def figures(effort: Effort) -> list[Figure]:
    with folder() as place, opened(place) as pair, closing(Disk(place / "synced")) as disk:
        # Apart from the other comparison: a sync of another file slows the next one down.
        least = compare("issue", {OURS: pair.issue, "one sync": disk.syncs}, rounds=effort.rounds, calls=CALLS)
        return [*pair.figures(effort.rounds), *least[1:]]


@contextmanager
def opened(place: Path) -> Generator[Pair, None, None]:
    """A file for each side, so that neither one's log is the other's work."""
    theirs = place / "theirs.sqlite3"
    SQLiteTokenStore(theirs).close()  # the same tables
    with closing(SQLiteTokenStore(place / "ours.sqlite3")) as store, closing(sqlite_connection(theirs)) as connection:
        yield Pair(store, Hand(SQLiteByHand(connection)))


class Disk:
    """The least that a durable change can take: a page is written and synced."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY)
        os.write(self._file, bytes(2**22))
        os.fsync(self._file)

    def syncs(self, count: int) -> Batch:
        def sync(number: int) -> None:
            os.pwrite(self._file, os.urandom(4096), number * 4096)
            os.fdatasync(self._file)

        return sync, range(count)

    def close(self) -> None:
        os.close(self._file)
