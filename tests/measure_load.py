"""Mixed work by several processes on one PostgreSQL, with a purge beside them: figures of docs/scale.md.

``python tests/measure_load.py 10 8``: minutes, processes. Prints throughput, latencies and the size of the tables, and
fails if any promise was broken: what every process was told is put together and judged at the end.
"""

import random
import statistics
import sys
import time
from collections import Counter, defaultdict
from contextlib import closing
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from typing import Any

import sqlalchemy as sa

from engines import TABLES, URLS
from resetkit import Quota, TokenRecord
from resetkit._manager import REST
from resetkit.stores.sqlalchemy import SQLAlchemyTokenStore
from servers import postgres

ACCOUNTS = 2000
QUOTA, WINDOW = 3, timedelta(seconds=20)
LIFETIME, KEPT = timedelta(seconds=15), timedelta(seconds=30)
GUESSES = 5
BATCH = 100

Told = tuple[str, str, str, float, float, int]
"""What one call was: the operation, of what, by which claim, when it began, seconds it took, and its answer.

Of a record, which is secret and not sent from a process to another, whether there was one.
"""


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def record(selector: str, account_id: str) -> TokenRecord:
    at = now()
    return TokenRecord(
        selector=selector,
        account_id=account_id,
        kind="mail",
        link_hash="h" * 100,
        code_hash="c" * 100,
        stamp_digest="d" * 64,
        created_at=at,
        expires_at=at + LIFETIME,
        code_expires_at=at + LIFETIME,
        keep_until=at + KEPT,
    )


def work(url: str, until: float, seed: int) -> list[Told]:
    """One process: it asks, guesses, looks, redeems and ends, on accounts that all processes share."""
    chance, told, mine = random.Random(seed), list[Told](), list[tuple[str, str]]()
    engine = sa.create_engine(url, pool_size=1)
    store = SQLAlchemyTokenStore(engine, tables=TABLES)

    def call(method: str, of: str, by: str, *args: Any, **options: Any) -> Any:
        began = time.time()
        answer = getattr(store, method)(*args, **options)
        took = time.time() - began
        told.append((method, of, by, began, took, answer if isinstance(answer, int) else answer is not None))
        return answer

    number = 0
    while time.time() < until:
        number += 1
        account_id, dice = str(chance.randrange(ACCOUNTS)), chance.random()
        if dice < 0.4 or not mine:
            selector = f"{seed}-{number}"
            made = record(selector, account_id)
            if call("add", account_id, selector, made, quotas=[Quota(QUOTA, made.created_at - WINDOW)], keep=2):
                mine.append((selector, account_id))
                mine = mine[-200:]
            continue
        selector, account_id = chance.choice(mine)
        if dice < 0.6:
            call("get", selector, "", selector)
        elif dice < 0.8:
            call("attempt", selector, "", selector, limit=GUESSES)
        elif dice < 0.97:
            claim_id = f"claim-{seed}-{number}"
            won = call("claim", selector, claim_id, selector, claim_id=claim_id, now=now())
            if won and dice < 0.82:
                call("release", selector, claim_id, selector, claim_id=claim_id, guess=False)
        else:
            call("revoke", account_id, "", account_id, now=now())
    engine.dispose()
    return told


def purge(url: str, until: float, _seed: int) -> list[Told]:
    """Another process: it deletes what is past its keep time, as `purge_tokens` does, all the time."""
    told = list[Told]()
    engine = sa.create_engine(url, pool_size=1)
    store = SQLAlchemyTokenStore(engine, tables=TABLES)
    while time.time() < until:
        began = time.time()
        count = store.purge(before=now(), limit=BATCH)
        took = time.time() - began
        told.append(("purge", "", "", began, took, count))
        time.sleep(REST * took if count else 0.2)
    engine.dispose()
    return told


def judged(told: list[Told]) -> list[str]:
    """What was broken."""
    broken = list[str]()
    added, wins, released, guesses = defaultdict[str, list[float]](list), Counter[str](), Counter[str](), Counter[str]()
    for method, of, _, began, took, answer in told:
        if method == "add" and answer:
            added[of].append(began + took)
        elif method == "claim" and answer:
            wins[of] += 1
        elif method == "release" and answer:
            released[of] += 1
        elif method == "attempt" and answer:
            guesses[of] += 1
    broken += [f"{of}: {count} winners" for of, count in wins.items() if count - released[of] > 1]
    broken += [f"{of}: {count} guesses" for of, count in guesses.items() if count > GUESSES]
    for account_id, times in added.items():
        times.sort()
        # Times are whole seconds for the store, and read after the call here: a second less is safe to judge.
        within = (WINDOW - timedelta(seconds=2)).total_seconds()
        broken += [
            f"{account_id}: {QUOTA + 1} mails in {last - first:.1f} s"
            for first, last in zip(times, times[QUOTA:], strict=False)
            if last - first < within
        ]
    return broken


def size(engine: sa.Engine) -> float:
    """Megabytes of the tables and their indexes."""
    total = " + ".join(f"pg_total_relation_size('{table.name}')" for table in (TABLES.tokens, TABLES.accounts))
    with engine.connect() as connection:
        return float(connection.execute(sa.text(f"SELECT {total}")).scalar_one()) / 2**20  # constants


def main(minutes: float, processes: int) -> int:
    with postgres() as server:
        url = URLS["psycopg"].format(server.place)
        engine = sa.create_engine(url)
        TABLES.tokens.metadata.create_all(engine)
        until = time.time() + minutes * 60
        jobs = [(work, seed) for seed in range(processes)] + [(purge, -1)]
        with closing(get_context("spawn").Pool(len(jobs))) as pool:
            results = [pool.apply_async(job, (url, until, seed)) for job, seed in jobs]
            sizes = []
            while time.time() < until:
                time.sleep(min(15, max(0.0, until - time.time())))
                sizes.append(size(engine))
            told = [each for result in results for each in result.get()]
        with engine.connect() as connection:
            left = connection.execute(sa.select(sa.func.count()).select_from(TABLES.tokens)).scalar_one()
    print(
        f"{processes} processes and a purge, {minutes:g} minutes, {ACCOUNTS} accounts, {len(told)} calls, {left} left\n"
    )
    print("| operation | calls | a second | 50 % | 99 % | longest |\n|---|---|---|---|---|---|")
    for method in ("add", "get", "attempt", "claim", "release", "revoke", "purge"):
        times = sorted(took * 1000 for name, _, _, _, took, _ in told if name == method)
        cuts = statistics.quantiles(times, n=100)
        cells = (
            len(times),
            f"{len(times) / minutes / 60:.0f}",
            *(f"{x:.2f} ms" for x in (cuts[49], cuts[98], times[-1])),
        )
        print(f"| {method} | {' | '.join(map(str, cells))} |")
    print(f"\nsize of the tables in MB, every 15 seconds: {', '.join(f'{each:.1f}' for each in sizes)}")
    broken = judged(told)
    print(f"broken promises: {len(broken)}", *broken[:20], sep="\n")
    return min(len(broken), 1)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2])))
