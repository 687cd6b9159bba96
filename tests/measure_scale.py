"""What the stores cost, from a thousand records to ten million: the figures of docs/scale.md.

::

    python tests/measure_scale.py cost 1000 1000000 postgres mariadb sqlite valkey   # how many records; which engines
    python tests/measure_scale.py bytes 100000                    # what a record takes
    python tests/measure_scale.py plans 1000000                   # how the statements find their rows: fails on a scan
    python tests/measure_scale.py purge 1000000 postgres          # how long a purge holds others up, batch by batch
    python tests/measure_scale.py workers 1 8 64 postgres         # throughput, connections, locks
    python tests/measure_scale.py hashes                          # what one hash costs

Without an engine, all that are here. Servers are started for the measurement and gone after it. `cost` has them not
wait for the disk, which takes as long for both sides and would hide the difference; `purge` and `workers` do wait for
it, as in production. SQLite always waits. Valkey keeps everything in memory.
"""

import math
import os
import platform
import random
import secrets
import statistics
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, Self

import redis
import sqlalchemy as sa
from sqlalchemy import event

from by_hand import ByHand, MariaDBByHand, PostgresByHand, SQLiteByHand, ValkeyByHand
from engines import TABLES, URLS
from plans import BATCH, DRIVER_OF, closing_engine, recorded, scans, work
from resetkit import Argon2TokenHasher, KeyedTokenHasher, Quota, ResetPolicy, TokenHasher, TokenStore
from resetkit._manager import REST
from resetkit.stores import SQLiteTokenStore
from resetkit.stores._rows import seconds, values_of
from resetkit.stores.redis import RedisTokenStore
from resetkit.stores.sqlalchemy import SQLAlchemyTokenStore
from servers import folder, mariadb, postgres, valkey
from site_records import (
    FILL,
    account_id,
    account_of,
    accounts,
    due_rows,
    insert,
    mariadb_connection,
    new_record,
    postgres_connection,
    rows,
    sizes,
    sqlite_connection,
    this_second,
)

ENGINES: Final = ("postgres", "mariadb", "sqlite", "valkey")
OPERATIONS: Final = ("add", "get", "attempt", "claim", "release", "revoke", "purge")
POLICY: Final = ResetPolicy()

ROUNDS: Final = 500  # of each operation but purge, half of them for either side
PURGES: Final = 40
WARM_UP: Final = 20  # rounds, after which drivers have prepared their statements

WINDOW: Final = 10.0  # seconds that each batch size is tried, or each number of workers
OTHERS: Final = 4  # who work beside a purge, in two processes
BREATH: Final = 0.02  # seconds that each of them rests after a mail, in the mean: visitors do not come back to back
BATCHES: Final = (0, 100, 1000, 10_000)  # 0: no purge at all
MOST_HELD_UP: Final = 0.1  # seconds

PROCESSES: Final = 8  # at the most; more workers are threads of these
CROWD: Final = 100_000  # records beside which the workers work
SHARES: Final = {
    "add": 1,
    "get": 0.9,
    "attempt": 0.1,
    "claim": 0.8,
    "release": 0.05,
    "revoke": 0.1,
}  # of mails asked for
HOT: Final = 16  # records whose accounts get a tenth of all work, so that workers meet

# Room for the tables of a site, as production would have it.
SETTINGS: Final[Mapping[str, Sequence[object]]] = {
    "postgres": ("-c", "shared_buffers=2GB", "-c", "max_wal_size=8GB", "-c", "maintenance_work_mem=512MB"),
    "mariadb": ("--innodb-buffer-pool-size=2G", "--innodb-log-file-size=2G", "--innodb-sort-buffer-size=64M"),
    "valkey": ("--appendonly", "no"),
}
DURABLE: Final[Mapping[str, Sequence[object]]] = {
    "postgres": ("-c", "fsync=on"),
    "mariadb": ("--innodb-flush-log-at-trx-commit=1",),
    "valkey": (),
}


@contextmanager
def opened_site(
    engine: str, count: int, *more: object, due: float = 0.0, durable: bool = False
) -> Generator[Path, None, None]:
    """A server, or a file, with so many records. Yields its place."""
    with ExitStack() as stack:
        if engine == "sqlite":
            place = stack.enter_context(folder()) / "tokens.sqlite3"
        else:
            start: Any = {"postgres": postgres, "mariadb": mariadb, "valkey": valkey}[engine]
            settings = (*SETTINGS[engine], *(DURABLE[engine] if durable else ()), *more)
            place = stack.enter_context(start(*settings)).place
        began = time.monotonic()
        FILL[engine](place, rows(count, this_second(), due=due))
        print(f"{engine}: {count} records in {time.monotonic() - began:.0f} s", file=sys.stderr)
        yield place


@contextmanager
def opened_store(engine: str, place: str | Path, connections: int = 1) -> Generator[Any, None, None]:
    if engine == "sqlite":
        with closing(SQLiteTokenStore(place)) as store:
            yield store
    elif engine == "valkey":
        with redis.Redis(unix_socket_path=str(place), max_connections=connections) as client:
            yield RedisTokenStore(client)
    else:
        made = sa.create_engine(URLS[DRIVER_OF[engine]].format(place), pool_size=connections, max_overflow=0)
        yield SQLAlchemyTokenStore(made, tables=TABLES)
        made.dispose()


@contextmanager
def opened_by_hand(engine: str, place: str | Path) -> Generator[ByHand, None, None]:
    if engine == "postgres":
        with postgres_connection(place) as connection:
            yield PostgresByHand(connection)
    elif engine == "mariadb":
        with closing(mariadb_connection(place)) as connection:
            yield MariaDBByHand(connection)
    elif engine == "sqlite":
        with closing(sqlite_connection(place)) as file:
            yield SQLiteByHand(file)
    else:
        with redis.Redis(unix_socket_path=str(place)) as client:
            yield ValkeyByHand(client)


def head(what: str) -> None:
    load = os.getloadavg()[0]
    print(f"{what}: {os.cpu_count()} cores, Python {platform.python_version()}, load {load:.1f} at the start\n")


def table(*titles: str) -> None:
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)


def line(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


# Cost: each operation beside the same by hand, in turns on one server.

Calls = Mapping[str, Callable[[], object]]
Times = dict[str, tuple[list[int], list[int]]]
"""Nanoseconds of each operation: the store's, and by hand."""


def by_store(store: TokenStore, selector: str, whose: str) -> Calls:
    now = this_second()
    record = new_record(selector, whose, now)
    quotas = [Quota(count, now - within) for count, within in POLICY.account_quotas]
    return {
        "add": partial(store.add, record, quotas=quotas, keep=1),
        "get": partial(store.get, selector),
        "attempt": partial(store.attempt, selector, limit=5),
        "claim": partial(store.claim, selector, claim_id=selector, now=now),
        "release": partial(store.release, selector, claim_id=selector, guess=False),
        "revoke": partial(store.revoke, whose, now=now),
        "purge": partial(store.purge, before=now - timedelta(days=1), limit=BATCH),
    }


def by_hand(hand: ByHand, selector: str, whose: str) -> Calls:
    now = this_second()
    row = tuple(values_of(new_record(selector, whose, now)).values())
    quotas = [(count, seconds(now - within)) for count, within in POLICY.account_quotas]
    return {
        "add": partial(hand.add, row, quotas),
        "get": partial(hand.get, selector),
        "attempt": partial(hand.attempt, selector, 5),
        "claim": partial(hand.claim, selector, selector, seconds(now)),
        "release": partial(hand.release, selector, selector),
        "revoke": partial(hand.revoke, whose, seconds(now)),
        "purge": partial(hand.purge, seconds(now - timedelta(days=1)), BATCH),
    }


def measured(engine: str, place: Path, count: int) -> Times:
    chance, times = random.Random(count), Times({name: ([], []) for name in OPERATIONS})
    with opened_store(engine, place) as store, opened_by_hand(engine, place) as hand:
        turns = WARM_UP + ROUNDS // 2
        whose = chance.sample(range(accounts(count * 9 // 10)), 2 * turns)  # no account twice, and none of today
        for turn in range(turns):
            if turn == WARM_UP:
                times = {name: ([], []) for name in OPERATIONS}
            sides = [
                by_store(store, secrets.token_hex(16), account_id(whose.pop())),
                by_hand(hand, secrets.token_hex(16), account_id(whose.pop())),
            ]
            for name in OPERATIONS[:-1]:
                _take_turns(name, sides, times, chance)
        for turn in range(PURGES // 2 if engine != "valkey" else 0):
            sides = [by_store(store, "s", "a"), by_hand(hand, "s", "a")]
            insert(engine, place, due_rows(2 * BATCH, this_second(), f"purge-{turn}-"))
            _take_turns("purge", sides, times, chance)
    return times


EXPECTED: Final[Mapping[str, object]] = {"revoke": 1, "purge": BATCH}


def _take_turns(name: str, sides: Sequence[Calls], times: Times, chance: random.Random) -> None:
    """Either side once, in random order."""
    for number in chance.sample((0, 1), 2):
        call = sides[number][name]
        began = time.perf_counter_ns()
        answer = call()
        times[name][number].append(time.perf_counter_ns() - began)
        if answer != EXPECTED.get(name, True) and (name != "get" or not answer):
            raise RuntimeError(f"{name} answered {answer!r}: nothing was measured")


def cost(counts: Sequence[int], engines: Sequence[str]) -> int:
    head("cost, medians: store, µs ÷ by hand, µs = ratio")
    table("operation", "engine", *(f"{count:,}" for count in sorted(counts)))
    taken = list[tuple[object, ...]]()
    for engine in engines:
        cells = defaultdict[str, list[str]](list)
        for count in sorted(counts):
            with opened_site(engine, count) as place:
                taken.append((engine, count, *bytes_each(engine, place, count)))
                for name, sides in measured(engine, place, count).items():
                    if all(sides):
                        store, hand = (statistics.median(times) / 1000 for times in sides)
                        cells[name].append(f"{store:.0f} ÷ {hand:.0f} = {store / hand:.2f}")
        for name, each in cells.items():
            line(name, engine, *each)
    print("\nbytes of a record\n")
    table(*BYTES)
    for found in taken:
        line(*found)
    return 0


# Bytes.

BYTES: Final = ("engine", "records", "the record", "all, with indexes and rows of accounts")
PACKED: Final = ("--hash-max-listpack-value", 128)  # so that a hash with Argon2's text is kept as a list


def bytes_of_records(counts: Sequence[int], engines: Sequence[str]) -> int:
    head("bytes of a record")
    table(*BYTES)
    for engine in engines:
        for count in counts:
            with opened_site(engine, count) as place:
                line(engine, count, *bytes_each(engine, place, count))
            if engine == "valkey":
                with opened_site(engine, count, *PACKED) as place:
                    line(f"{engine} with {PACKED[0][2:]} {PACKED[1]}", count, *bytes_each(engine, place, count))
    return 0


def bytes_each(engine: str, place: Path, count: int) -> tuple[str, str]:
    """Of the table alone, where there is one, and of all."""
    table_alone, total = sizes(engine, place)
    if engine == "valkey":
        with valkey(*SETTINGS[engine]) as empty:
            return "-", f"{(total - sizes(engine, empty.place)[1]) / count:.0f}"
    return "-" if engine == "sqlite" else f"{table_alone / count:.0f}", f"{total / count:.0f}"


# Plans.


def plans(counts: Sequence[int], engines: Sequence[str]) -> int:
    head("plans")
    faults = list[str]()
    table("engine", "records", "statements", "that scan")
    for engine in engines:
        if engine == "valkey":
            continue
        for count in counts:
            with opened_site(engine, count) as place, recorded(engine, place) as (store, sent):
                work(store, engine, place, count)
                found = scans(engine, place, sent)
            line(engine, count, len(sent), len(found))
            faults += [f"{engine}, {count}: {fault}" for fault in found]
    print("", *faults, sep="\n")
    return min(len(faults), 1)


# Beside others: each works in a process of its own, or is a thread of one, and tells what it did.

Told = tuple[str, float, float]
"""An operation, when it began, and the seconds it took."""

_start: Any = None  # the barrier that all processes share


def _share(barrier: Any) -> None:
    global _start  # noqa: PLW0603  # a process has one
    _start = barrier


Mix = Callable[[TokenStore, random.Random, int], Iterator[tuple[str, Callable[[], object]]]]


def ask_and_redeem(store: TokenStore, chance: random.Random, count: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """What a purge may hold up."""
    while True:
        calls = by_store(store, secrets.token_hex(16), account_of(chance.randrange(count)))
        yield "add", calls["add"]
        yield "claim", calls["claim"]
        time.sleep(chance.expovariate(1 / BREATH))


def mixed(store: TokenStore, chance: random.Random, count: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """What visitors do."""
    while True:
        number = chance.randrange(HOT if chance.random() < 0.1 else count)
        calls = by_store(store, secrets.token_hex(16), account_of(number))
        for name, share in SHARES.items():
            if chance.random() < share:
                yield name, calls[name]


MIXES: Final[Mapping[str, Mix]] = {"purge": ask_and_redeem, "workers": mixed}


def one_process(
    engine: str, place: str, mix: str, count: int, threads: int, length: float, seed: int
) -> tuple[list[Told], Counter[str]]:
    """So many workers of one process, for so many seconds. What they did, and the errors they met."""
    told, errors = list[Told](), Counter[str]()

    def one(store: TokenStore, number: int, until: float) -> None:
        for name, call in MIXES[mix](store, random.Random(f"{seed}-{number}"), count):
            began = time.time()
            if began > until:
                return
            try:
                call()
            except Exception as error:  # noqa: BLE001  # whatever it is, it is told
                errors[f"raised {type(error).__name__}"] += 1
            told.append((name, began, time.time() - began))

    with opened_store(engine, place, threads) as store:
        if isinstance(store, SQLAlchemyTokenStore):

            def note(context: Any) -> None:
                errors[f"tried again after {' '.join(map(str, context.original_exception.args[:1]))[:40]}"] += 1

            event.listen(store._engine, "handle_error", note)

        store.get("warm")
        _start.wait()
        until = time.time() + length
        crew = [threading.Thread(target=one, args=(store, number, until)) for number in range(threads)]
        for each in crew:
            each.start()
        for each in crew:
            each.join()
    return told, errors


class Crew:
    """Workers in processes of their own. `begin` lets them go at once; `end` gives what they did."""

    def __init__(
        self, engine: str, place: Path, mix: str, count: int, workers: int, processes: int, length: float
    ) -> None:
        context = get_context("spawn")
        self._barrier = context.Barrier(processes + 1)
        self._pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_share, initargs=(self._barrier,))
        shares = [workers // processes + (number < workers % processes) for number in range(processes)]
        self._results: list[Future[tuple[list[Told], Counter[str]]]] = [
            self._pool.submit(one_process, engine, str(place), mix, count, threads, length, seed)
            for seed, threads in enumerate(shares)
        ]

    def begin(self) -> None:
        self._barrier.wait(300)

    def end(self) -> tuple[list[Told], Counter[str]]:
        told, errors = list[Told](), Counter[str]()
        for result in self._results:
            some, met = result.result()
            told += some
            errors += met
        self._pool.shutdown()
        return told, errors


# Purge: how long others wait.


def purge(counts: Sequence[int], engines: Sequence[str]) -> int:
    """Three in ten records are due. Fails where others wait too long beside the policy's own batch, and not without."""
    head("purge beside others")
    kept = True
    table(
        *("engine", "records", "batch", "pause", "purged a second", "longest batch"),
        *("calls of others", "99 %", "longest"),
    )
    for engine in engines:
        if engine == "valkey":
            continue
        for count in counts:
            kept = purged_beside_others(engine, count) and kept
    answer = "yes" if kept else "NO"
    print(f"\nall waits beside a batch of {POLICY.purge_batch} below {_ms(MOST_HELD_UP)}, or as without: {answer}")
    return 0 if kept else 1


def purged_beside_others(engine: str, count: int) -> bool:
    """Whether the policy's own batch held nobody up for too long, or no longer than without any purge.

    Each way to purge has a time of its own.
    """
    batches = [batch for batch in BATCHES if batch * 40 <= count]  # so that there are some of each
    ways = [(batch, paused) for batch in batches for paused in ((False, True) if batch else (False,))]
    with opened_site(engine, count, due=0.3, durable=True) as place, opened_store(engine, place) as store:
        crew = Crew(engine, place, "purge", count, OTHERS, 2, (len(ways) + 1) * WINDOW + 5)
        crew.begin()
        time.sleep(2)  # until their connections and statements are made
        share = int(count * 0.3 / (len(ways) - 1))
        windows = [purge_for_a_while(store, batch, share, paused=paused) for batch, paused in ways]
        told, errors = crew.end()
    kept, bound = True, MOST_HELD_UP
    for (batch, paused), (began, ended, purged, longest) in zip(ways, windows, strict=True):
        waits = sorted(took for _, at, took in told if at + took >= began and at < ended)
        most = _centile(waits, 1.0)
        cells = (f"{purged / (ended - began):.0f}", f"{longest * 1000:.1f} ms") if batch else ("-", "-")
        pause = f"{REST} × the batch" if paused else "none"
        line(engine, count, batch or "none", pause, *cells, len(waits), _ms(_centile(waits, 0.99)), _ms(most))
        bound = max(bound, most) if batch == 0 else bound
        kept = kept and (batch != POLICY.purge_batch or not paused or most <= bound)
    if errors:
        print(dict(errors))
    return kept


def purge_for_a_while(store: TokenStore, batch: int, most: int, *, paused: bool) -> tuple[float, float, int, float]:
    """As `ResetManager.purge_tokens`, until so many are gone or the time is over. When, how many, the longest batch."""
    before, began, purged, longest = this_second(), time.time(), 0, 0.0
    while time.time() < began + WINDOW:
        if batch == 0:
            time.sleep(0.1)
        elif purged < most:
            at = time.time()
            count = store.purge(before=before, limit=batch)
            took = time.time() - at
            purged, longest = purged + count, max(longest, took)
            if count == 0:
                break
            if paused:
                time.sleep(REST * took)
        else:
            break
    ended = time.time()
    time.sleep(0.5)  # so that windows do not touch
    return began, ended, purged, longest


def _ms(took: float) -> str:
    return f"{took * 1000:.1f} ms"


def _centile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * share) - 1)] if ordered else math.nan


# Workers.


def workers(counts: Sequence[int], engines: Sequence[str]) -> int:
    head(f"workers on {CROWD} records, {WINDOW:.0f} s each; more than {PROCESSES} are threads of {PROCESSES} processes")
    table(
        "engine", "workers", "calls a second", "50 %", "99 %", "longest", "connections", "locks", "errors and retries"
    )
    for engine in engines:
        with opened_site(engine, CROWD, durable=True) as place:
            for count in counts:
                processes = min(count, PROCESSES)
                crew = Crew(engine, place, "workers", CROWD, count, processes, WINDOW)
                with Watch(engine, place) as watch:
                    crew.begin()
                    began = time.monotonic()
                    while time.monotonic() < began + WINDOW:
                        time.sleep(0.1)
                        watch.look()
                    told, errors = crew.end()
                    locks = watch.locks()
                waits = sorted(took for _, _, took in told)
                marks = [_ms(_centile(waits, share)) for share in (0.5, 0.99, 1.0)]
                met = ", ".join(f"{name}: {number}" for name, number in sorted(errors.items())) or "none"
                line(engine, count, f"{len(told) / WINDOW:.0f}", *marks, watch.connections or "-", locks, met)
                by_name = defaultdict[str, list[float]](list)
                for name, _, took in told:
                    by_name[name].append(took)
                each = (f"{name} {_ms(statistics.median(some))}" for name, some in by_name.items())
                print(f"{engine}, {count} workers: {', '.join(each)}", file=sys.stderr)
    return 0


class Watch:
    """Looks at a server from outside: how many connections there are, and how often one waits for a lock."""

    def __init__(self, engine: str, place: Path) -> None:
        self._engine = engine
        self._place = place
        self.connections = 0
        self._looks = self._waiting = self._most = 0

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        if self._engine in DRIVER_OF:
            made = self._stack.enter_context(closing_engine(self._engine, self._place))
            self._connection = self._stack.enter_context(made.connect()).execution_options(isolation_level="AUTOCOMMIT")
        elif self._engine == "valkey":
            self._client = self._stack.enter_context(redis.Redis(unix_socket_path=str(self._place)))
        self._before = self._counted()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def look(self) -> None:
        if self._engine == "postgres":
            asked = """SELECT count(*), count(*) FILTER (WHERE wait_event_type = 'Lock') FROM pg_stat_activity
                WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"""
            found, waiting = self._connection.exec_driver_sql(asked).one()
        elif self._engine == "mariadb":
            found = self._status("Threads_connected") - 1
            waiting = self._status("Innodb_row_lock_current_waits")
        elif self._engine == "valkey":
            found, waiting = int(self._client.info("clients")["connected_clients"]) - 1, 0
        else:
            return
        self.connections = max(self.connections, found)
        self._looks += 1
        self._waiting += waiting
        self._most = max(self._most, waiting)

    def locks(self) -> str:
        if self._engine not in DRIVER_OF:
            return "-"
        counted = (f"{name} {after - self._before[name]}" for name, after in self._counted().items())
        mean = self._waiting / max(1, self._looks)
        return ", ".join([f"{mean:.1f} wait at once, {self._most} at the most", *counted])

    def _counted(self) -> dict[str, int]:
        if self._engine == "postgres":
            asked = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'"
            return {"deadlocks": int(self._connection.exec_driver_sql(asked).scalar_one())}
        if self._engine == "mariadb":
            return {"waits": self._status("Innodb_row_lock_waits"), "deadlocks": self._status("Innodb_deadlocks")}
        return {}

    def _status(self, name: str) -> int:
        return int(self._connection.exec_driver_sql("SHOW GLOBAL STATUS LIKE %s", (name,)).one()[1])


# Hashes.


def hashes() -> int:
    head("hashes")
    table("hasher", "hash, µs", "verify, µs", "verifies a second on one core")
    key, secret = b"k" * 32, b"s" * 32
    hashers: Sequence[tuple[TokenHasher, int]] = ((Argon2TokenHasher(), 20), (KeyedTokenHasher([key]), 2000))
    for hasher, turns in hashers:
        stored = hasher.hash(secret)
        made, checked = (
            statistics.median(_nanoseconds(call) for _ in range(turns)) / 1000
            for call in (partial(hasher.hash, secret), partial(hasher.verify, stored, secret))
        )
        line(type(hasher).__name__, f"{made:.0f}", f"{checked:.0f}", f"{1e6 / checked:.0f}")
    return 0


def _nanoseconds(call: Callable[[], object]) -> int:
    began = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - began


COMMANDS: Final = {"cost": cost, "bytes": bytes_of_records, "plans": plans, "purge": purge, "workers": workers}


def main(what: str = "", *words: str) -> int | str:
    counts = [int(word) for word in words if word.isdecimal()]
    engines = [word for word in words if word in ENGINES] or list(ENGINES)
    if what == "hashes" and not words:
        return hashes()
    least = 1 if what == "workers" else 1000
    known = all(word in ENGINES or word.isdecimal() for word in words)
    if what not in COMMANDS or not known or min(counts, default=0) < least:
        return str(__doc__)
    return COMMANDS[what](counts, engines)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
