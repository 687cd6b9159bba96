"""What a record takes in memory, and that a flood of requests takes no more than its bounds."""

import tracemalloc
from contextlib import suppress
from typing import Final

from benchmarks.measure import CALM, Effort, Figure, Queue, alone, manager
from harness import ManyAccounts
from resetkit import ResetPolicy, ThrottledError
from resetkit.dispatch import ThreadDispatcher
from resetkit.stores import MemoryTokenStore
from resetkit.testing.timing import addresses
from resetkit.throttle import MemoryThrottle

RECORDS: Final = 10_000
FLOOD: Final = 150_000  # three times what the default throttle counts one by one
CAPACITY: Final = 50_000
MAILS: Final = 200


def figures(effort: Effort) -> list[Figure]:
    flood, capacity = (FLOOD // 50, CAPACITY // 50) if effort.quick else (FLOOD, CAPACITY)
    return [
        alone("a record", "bytes", [bytes_of_a_record()]),
        *(
            alone(f"after {calls:,} requests of strangers, of {capacity:,} keys counted one by one", "MiB", [taken])
            for calls, taken in flooded(flood, capacity).items()
        ),
        alone(f"records after {MAILS} requests for one account", "", [bombed()]),
    ]


def bytes_of_a_record() -> float:
    """With its account's entry and its place in the order of purging."""
    accounts, store = ManyAccounts(addresses(RECORDS)), MemoryTokenStore()
    ours = manager(accounts, store)
    tracemalloc.start()
    for number in range(RECORDS):
        ours.issue_token(str(number))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken / RECORDS


def flooded(flood: int, capacity: int) -> dict[int, float]:
    """What is taken after each third of a flood. Each request is of another visitor, for another unknown address."""
    dispatcher = ThreadDispatcher()
    throttle = MemoryThrottle(capacity=capacity)
    policy = ResetPolicy(head_start=CALM)
    ours = manager(ManyAccounts([]), throttle=throttle, dispatcher=dispatcher, policy=policy, on_event=lambda _: None)
    found = dict[int, float]()
    tracemalloc.start()
    for number in range(flood):
        client = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        with suppress(ThrottledError):
            ours.request_reset(f"{number}@example.org", client=client)
        if (number + 1) % (flood // 3) == 0:
            found[number + 1] = tracemalloc.get_traced_memory()[0] / 2**20
    tracemalloc.stop()
    dispatcher.close(0)
    return found


def bombed() -> float:
    """The default policy bounds what one account is sent, and so what is kept of it."""
    queue, store = Queue(), MemoryTokenStore()
    policy = ResetPolicy(identifier_limit=(MAILS, ResetPolicy().retention))
    ours = manager(ManyAccounts(["alice@example.org"]), store, dispatcher=queue, policy=policy)
    for _ in range(MAILS):
        ours.request_reset("alice@example.org", client=None)
        ours.run_job(queue.jobs.pop())
    return len(store._records)
