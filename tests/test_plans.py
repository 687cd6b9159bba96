"""Every statement of the stores finds its rows by an index, at a size at which the planner has a choice.

The same at a million: ``python tests/measure_scale.py plans 1000000``.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from plans import closing_engine, recorded, scans, work
from servers import Servers
from site_records import FILL, rows, sqlite_connection, this_second

RECORDS = 20_000
COLUMN_OF = {"by_selector": "selector", "by_account": "account_id", "by_keep_until": "keep_until"}
ENGINES = ("postgres", "mariadb", "sqlite")
TWINS = [
    (engine, index)
    for engine in ENGINES
    for index in COLUMN_OF
    if (engine, index) != ("sqlite", "by_selector")  # which is a part of the table
]


@pytest.fixture(scope="module")
def own_servers() -> Iterator[Servers]:
    """Not those of all tests, which would find tables without an index."""
    with ExitStack() as stack:
        yield Servers(stack)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    engine: str = request.param
    return engine


@pytest.fixture
def place(engine: str, own_servers: Servers, tmp_path: Path) -> Path:
    """A site with its records."""
    place = tmp_path / "tokens.sqlite3" if engine == "sqlite" else own_servers[engine]
    FILL[engine](place, rows(RECORDS, this_second()))
    return place


def found(engine: str, place: Path) -> list[str]:
    with recorded(engine, place) as (store, sent):
        work(store, engine, place, RECORDS)
    return scans(engine, place, sent)


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_no_statement_reads_a_whole_table(engine: str, place: Path) -> None:
    assert found(engine, place) == []


@pytest.mark.parametrize(("engine", "index"), TWINS, indirect=["engine"])
def test_an_index_that_is_missing_is_noticed(engine: str, place: Path, index: str) -> None:
    """The broken twin: tables without one of their indexes."""
    drop(engine, place, index)
    faults = found(engine, place)
    assert faults
    assert all(COLUMN_OF[index] in fault for fault in faults)


def drop(engine: str, place: Path, index: str) -> None:
    if engine == "sqlite":
        with closing(sqlite_connection(place)) as connection:
            connection.execute(f"DROP INDEX resetkit_tokens_{index}")
        return
    of_table = " ON resetkit_tokens" if engine == "mariadb" else ""
    with closing_engine(engine, place) as made, made.begin() as connection:
        connection.exec_driver_sql(f"DROP INDEX resetkit_tokens_{index}{of_table}")
