"""On PostgreSQL, through SQLAlchemy, beside the same statements by hand: one server, a database for each side.

By hand through psycopg, and once more through SQLAlchemy, which a store that works in the application's engine needs.

The server does not wait for the disk, which takes as long for both sides and would hide the difference.
"""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from typing_extensions import override

from benchmarks.measure import OURS, Batch, Effort, Figure, Side, compare
from benchmarks.stores import CALLS, HAND, Hand, Pair, round_trips
from by_hand import GET, PostgresByHand
from engines import TABLES, URLS
from proxy import Proxy
from resetkit.stores.sqlalchemy import SQLAlchemyTokenStore
from servers import folder, postgres

Connection = psycopg.Connection[tuple[object, ...]]
SOCKET = ".s.PGSQL.5432"
EMPTY = "one empty round trip"
SQLALCHEMY = "SQLAlchemy by hand"


def figures(effort: Effort) -> list[Figure]:
    with postgres() as server:
        with opened(server.place, server.place) as (pair, connection, engine):
            found = pair.figures(effort.rounds)
            through = Hand(ThroughSQLAlchemy(engine))
            beside = {
                "issue": through.issue,
                "redeem": through.redeem,
                "the store's add": through.add,
                "the store's get": through.get,
                "the store's claim": through.claim,
            }
            for what, hand in beside.items():
                ours = (pair.sides() | pair.store_sides())[what][OURS]
                sides: dict[str, Side] = {OURS: ours, SQLALCHEMY: hand, EMPTY: partial(selects, connection)}
                found += compare(what, sides, rounds=effort.rounds, calls=CALLS)[1:]
        return found + counted(server.place)


@contextmanager
def opened(ours: Path, theirs: Path) -> Generator[tuple[Pair, Connection, sa.Engine], None, None]:
    """A new database for each side, so that neither one's rows are in the other's way."""
    names = ("ours", "by_hand", "through")
    with psycopg.connect(host=str(theirs), user="postgres", dbname="postgres", autocommit=True) as connection:
        for name in names:
            connection.execute(f"DROP DATABASE IF EXISTS {name}")
            connection.execute(f"CREATE DATABASE {name}")
    url = URLS["psycopg"]
    places = (ours, theirs, theirs)
    engines = [
        sa.create_engine(url.replace("/postgres?", f"/{name}?").format(place))
        for name, place in zip(names, places, strict=True)
    ]
    for each in engines:
        TABLES.tokens.metadata.create_all(each)
    with psycopg.connect(host=str(theirs), user="postgres", dbname="by_hand", autocommit=True) as connection:
        pair = Pair(SQLAlchemyTokenStore(engines[0], tables=TABLES), Hand(PostgresByHand(connection)))
        yield pair, connection, engines[2]
    for each in engines:
        each.dispose()


class ThroughSQLAlchemy(PostgresByHand):
    """The same statements, each transaction on a connection of the pool: text, so that nothing is to be compiled."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(self)
        self._engine = engine
        self._alone = engine.execution_options(isolation_level="AUTOCOMMIT")

    @override
    def get(self, selector: str) -> Any:
        with self._alone.connect() as connection:
            return connection.exec_driver_sql(GET, (selector,)).one_or_none()

    @contextmanager
    def transaction(self) -> Generator[None, None, None]:
        with self._engine.begin() as connection:
            self.execute = connection.exec_driver_sql
            yield


def selects(connection: Connection, count: int) -> Batch:
    return lambda _: connection.execute("SELECT 1").fetchone(), range(count)


def counted(server: Path) -> list[Figure]:
    proxies = {OURS: Proxy(server / SOCKET), HAND: Proxy(server / SOCKET)}
    with folder() as ours, folder() as theirs:
        listening = (proxies[OURS].listening(ours / SOCKET), proxies[HAND].listening(theirs / SOCKET))
        with listening[0], listening[1], opened(ours, theirs) as (pair, _, _):
            return round_trips(proxies, pair)
