"""How an engine finds the rows of the statements that a store sends: each must go by an index.

The statements are not written here: they are recorded from a store at work, with their values, and explained by the
engine that ran them.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from typing_extensions import override

from engines import TABLES, URLS
from resetkit import Quota
from resetkit.stores import SQLiteTokenStore
from resetkit.stores.sqlalchemy import SQLAlchemyTokenStore
from site_records import account_of, due_rows, insert, new_record, selector_of, sqlite_connection, this_second

DRIVER_OF: Final = {"postgres": "psycopg", "mariadb": "pymysql"}
BATCH: Final = 100
ROUNDS: Final = 12  # PostgreSQL looks for a plan without values after ten

Sent = dict[str, Any]
"""Statements by their text, with the values of the last time."""

_LOOKS_FOR_ROWS: Final = re.compile(r"\s*(WITH|SELECT|UPDATE|DELETE|INSERT INTO \S+ \(\w+\) SELECT)\b", re.IGNORECASE)
_PLACE: Final = re.compile(r"%\((\w+)\)s")


Store = SQLiteTokenStore | SQLAlchemyTokenStore


def work(store: Store, engine: str, place: str | Path, count: int) -> None:
    """Every operation, on accounts from all over the site, with every branch that has statements of its own."""
    now = this_second()
    quotas = [Quota(3, now - timedelta(minutes=15)), Quota(20, now - timedelta(days=1))]
    insert(engine, place, due_rows(2 * BATCH, now, f"plans-{count}"))
    for turn in range(ROUNDS):
        number = turn * (count // ROUNDS)
        first, second = selector_of(turn, "first"), selector_of(turn, "second")
        add = partial(store.add, quotas=quotas, keep=1)
        for selector in (first, second, second):  # new, one that supersedes, and a second delivery
            add(new_record(selector, account_of(number), now))
        store.get(selector_of(number))
        store.attempt(second, limit=5)
        store.claim(second, claim_id="c1", now=now)
        store.release(second, claim_id="c1", guess=True)
        store.claim(second, claim_id="c2", now=now)
        add(new_record(selector_of(turn, "third"), account_of(number), now))  # which takes the claim away
        store.revoke(account_of(number), now=now)
    for _ in range(2):
        store.count_due(before=now - timedelta(days=1), limit=BATCH)
        store.purge(before=now - timedelta(days=1), limit=BATCH)


@contextmanager
def recorded(engine: str, place: str | Path) -> Generator[tuple[Store, Sent], None, None]:
    """A store, and what it sends."""
    sent: Sent = {}
    if engine == "sqlite":
        store = Traced(place, sent)
        yield store, sent
        store.close()
        return
    with closing_engine(engine, place) as made:

        def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
            sent[statement] = values

        event.listen(made, "before_cursor_execute", note)
        yield SQLAlchemyTokenStore(made, tables=TABLES), sent


@contextmanager
def closing_engine(engine: str, place: str | Path) -> Generator[sa.Engine, None, None]:
    made = sa.create_engine(URLS[DRIVER_OF[engine]].format(place))
    try:
        yield made
    finally:
        made.dispose()


class Traced(SQLiteTokenStore):
    """Notes each statement with its values, as SQLite itself saw it."""

    def __init__(self, path: str | Path, sent: Sent) -> None:
        self._sent = sent
        super().__init__(path)

    @override
    def _open(self) -> sqlite3.Connection:
        connection = super()._open()
        connection.set_trace_callback(self._note)
        return connection

    def _note(self, statement: str) -> None:
        shape = re.sub(r"'[^']*'|\b\d+\b", "?", statement)
        self._sent[shape] = statement


def scans(engine: str, place: str | Path, sent: Mapping[str, Any]) -> list[str]:
    """What is wrong: a statement and the part of its plan that reads a whole table or a whole index."""
    explain = {"postgres": _postgres, "mariadb": _mariadb, "sqlite": _sqlite}[engine]
    found = list[str]()
    looked = {text: values for text, values in sent.items() if _LOOKS_FOR_ROWS.match(text) and "resetkit_" in text}
    looked = {text: values for text, values in looked.items() if "resetkit_schema" not in text}
    if len(looked) < 8:
        raise RuntimeError(f"only {len(looked)} statements were recorded: the store did not work")
    with explain(place) as plan_of:
        for text, values in looked.items():
            shown = re.sub(r"IN \(%.*?\)s(::\w+)?\)", "IN (...)", " ".join(text.split()))
            found += [f"{fault}: {shown}" for fault in plan_of(text, values)]
    return found


PlanOf = Callable[[str, Any], list[str]]


@contextmanager
def _postgres(place: str | Path) -> Generator[PlanOf, None, None]:
    """Both plans: for these values, and for any, which the server may take for a statement that comes often."""
    with closing_engine("postgres", place) as engine, engine.connect() as connection:

        def faults(text: str, values: Any) -> list[str]:
            explained = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {text}", values).scalar_one()
            names = list(dict.fromkeys(_PLACE.findall(text)))
            general = _PLACE.sub(lambda match: f"${names.index(match[1]) + 1}", text)
            raw: Any = connection.connection.dbapi_connection
            any_values = raw.execute(f"EXPLAIN (FORMAT JSON, GENERIC_PLAN) {general}").fetchone()[0]
            return [
                f"{kind}, {fault}"
                for kind, plan in (("these values", explained), ("any values", any_values))
                for fault in _postgres_nodes((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
            ]

        yield faults


def _postgres_nodes(node: Mapping[str, Any]) -> Generator[str, None, None]:
    kind = node["Node Type"]
    if kind == "Seq Scan" or ("Index" in kind and "Index Cond" not in node):
        yield f"{kind} on {node.get('Relation Name', node.get('Index Name'))}"
    for each in node.get("Plans", ()):
        yield from _postgres_nodes(each)


@contextmanager
def _mariadb(place: str | Path) -> Generator[PlanOf, None, None]:
    with closing_engine("mariadb", place) as engine, engine.connect() as connection:

        def faults(text: str, values: Any) -> list[str]:
            rows = connection.exec_driver_sql(f"EXPLAIN {text}", values).mappings().all()
            return [
                f"{row['type']} on {row['table']}"
                for row in rows
                if row["table"] and (row["type"] in {"ALL", "index"} or row["key"] is None)
            ]

        yield faults


@contextmanager
def _sqlite(place: str | Path) -> Generator[PlanOf, None, None]:
    with closing(sqlite_connection(place)) as connection:

        def faults(_: str, statement: Any) -> list[str]:
            rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
            return [str(row[3]) for row in rows if str(row[3]).startswith("SCAN resetkit_")]

        yield faults
