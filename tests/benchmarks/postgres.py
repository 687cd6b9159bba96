"""On PostgreSQL, through SQLAlchemy, beside the same statements by hand through psycopg: one server, two databases.

The server does not wait for the disk, which takes as long for both sides and would hide the difference.
"""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
import sqlalchemy as sa

from benchmarks.measure import OURS, Batch, Effort, Figure, Side, compare
from benchmarks.stores import CALLS, HAND, Hand, Pair, round_trips
from by_hand import PostgresByHand
from engines import TABLES, URLS
from proxy import Proxy
from resetkit.stores.sqlalchemy import SQLAlchemyTokenStore
from servers import folder, postgres

SOCKET = ".s.PGSQL.5432"
EMPTY = "one empty round trip"


def figures(effort: Effort) -> list[Figure]:
    with postgres() as server:
        with opened(server.place, server.place) as (pair, connection):
            found = pair.figures(effort.rounds)
            for what in ("issue", "redeem"):
                sides: dict[str, Side] = {OURS: pair.sides()[what][OURS], EMPTY: partial(selects, connection)}
                found += compare(what, sides, rounds=effort.rounds, calls=CALLS)[1:]
        return found + counted(server.place)


@contextmanager
def opened(ours: Path, theirs: Path) -> Generator[tuple[Pair, psycopg.Connection[tuple[object, ...]]], None, None]:
    """A database for each side, so that neither one's rows are in the other's way."""
    with psycopg.connect(host=str(theirs), user="postgres", dbname="postgres", autocommit=True) as connection:
        for name in ("ours", "by_hand"):
            connection.execute(f"DROP DATABASE IF EXISTS {name}")
            connection.execute(f"CREATE DATABASE {name}")
    url = URLS["psycopg"]
    engine = sa.create_engine(url.replace("/postgres?", "/ours?").format(ours))
    other = sa.create_engine(url.replace("/postgres?", "/by_hand?").format(theirs))
    for each in (engine, other):
        TABLES.tokens.metadata.create_all(each)
    other.dispose()
    with psycopg.connect(host=str(theirs), user="postgres", dbname="by_hand", autocommit=True) as connection:
        yield Pair(SQLAlchemyTokenStore(engine, tables=TABLES), Hand(PostgresByHand(connection))), connection
    engine.dispose()


def selects(connection: psycopg.Connection[tuple[object, ...]], count: int) -> Batch:
    return lambda _: connection.execute("SELECT 1").fetchone(), range(count)


def counted(server: Path) -> list[Figure]:
    proxies = {OURS: Proxy(server / SOCKET), HAND: Proxy(server / SOCKET)}
    with folder() as ours, folder() as theirs:
        listening = (proxies[OURS].listening(ours / SOCKET), proxies[HAND].listening(theirs / SOCKET))
        with listening[0], listening[1], opened(ours, theirs) as (pair, _):
            return round_trips(proxies, pair)
