"""What the sync face adds to the engine; and how long sixty-four redemptions at once hold the event loop."""

import asyncio
import resource
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from argon2 import PasswordHasher

from benchmarks.measure import (
    OURS,
    Batch,
    Effort,
    Figure,
    Queue,
    alone,
    calm_policy,
    difference,
    in_a_process,
    manager,
    take_turns,
)
from harness import KEY, LINK, ManyAccounts
from resetkit import Argon2TokenHasher, AsyncResetManager, KeyedTokenHasher, ResetPolicy
from resetkit._manager import Engine, utc_now
from resetkit._sync import LiftedDispatcher, _ThreadRuntime, step
from resetkit.events import log_event
from resetkit.mailers import AsyncMemoryMailer
from resetkit.stores import AsyncMemoryTokenStore
from resetkit.testing import AsyncFakeAccounts
from resetkit.testing.timing import addresses
from resetkit.throttle import AsyncMemoryThrottle

AT_ONCE: Final = 64
CALLS: Final = 100
PEAKS: Final = 3
PASSWORD: Final = "correct horse battery"
ADDRESSES: Final = addresses(CALLS)
ENGINE: Final = "its engine"
BARE: Final = f"the same of {AT_ONCE} verifications alone, in as many threads"
HOLD: Final = f"the loop's longest hold, {AT_ONCE} redemptions at once"


def figures(effort: Effort) -> list[Figure]:
    found = list[Figure]()
    for what in ("request", "issue", "check", "redeem"):
        sides = {OURS: partial(batch, what, False), ENGINE: partial(batch, what, True)}
        taken = take_turns(sides, rounds=effort.rounds, calls=CALLS)
        found.append(difference(f"sync {what}", ENGINE, "µs", taken[OURS], taken[ENGINE]))
    crowds, least = list[Crowd](), list[Crowd]()
    for _ in range(effort.slow):
        crowds.append(asyncio.run(crowd()))
        least.append(asyncio.run(crowd_by_hand()))
    peaks = [
        in_a_process(peak) for _ in range(1 if effort.quick else PEAKS)
    ]  # each in a process of its own: its peak never falls
    return [
        *found,
        alone(f"{HOLD}, by the clock", "ms", [each.clock for each in crowds]),
        alone(f"{HOLD}, on the processor", "ms", [each.processor for each in crowds]),
        alone(f"{BARE}, by the clock", "ms", [each.clock for each in least]),
        alone(f"memory at the peak of {AT_ONCE} redemptions at once", "MiB", peaks),
    ]


def batch(what: str, is_engine: bool, count: int) -> Batch:
    """Calls of the sync manager, or of its engine over async ports of its own, stepped as the face does."""
    accounts = ManyAccounts(ADDRESSES[:count])
    made: Any = engine(accounts) if is_engine else manager(accounts)
    stepped: Any = step if is_engine else lambda result: result
    ids = [str(number) for number in range(count)]
    if what == "request":
        call, given = partial(made.request_reset, client="192.0.2.1"), ADDRESSES[:count]
    elif what == "issue":
        call, given = made.issue_token, ids
    else:
        given = [stepped(made.issue_token(each)).token for each in ids]
        call = made.check_token if what == "check" else partial(made.reset_password, new_password=PASSWORD)
    return (lambda each: step(call(each))) if is_engine else call, given


def engine(accounts: ManyAccounts) -> Engine:
    return Engine(
        AsyncFakeAccounts(accounts),
        AsyncMemoryTokenStore(),
        AsyncMemoryMailer(),
        link=LINK,
        policy=calm_policy(),
        hasher=KeyedTokenHasher([KEY]),
        throttle=AsyncMemoryThrottle(),
        dispatcher=LiftedDispatcher(Queue()),
        clock=utc_now,
        on_event=log_event,
        realm="",
        runtime=_ThreadRuntime(ResetPolicy().hash_workers),
    )


@dataclass(kw_only=True)
class Crowd:
    """The longest that one step of the loop took, in milliseconds, and the memory taken more at the peak, in MiB."""

    clock: float = 0.0
    processor: float = 0.0
    memory: float = 0.0


def peak() -> float:
    return asyncio.run(crowd()).memory


async def crowd() -> Crowd:
    before, found = memory_now(), Crowd()
    accounts = AsyncFakeAccounts(ManyAccounts(addresses(AT_ONCE)))
    async with AsyncResetManager(accounts, AsyncMemoryTokenStore(), AsyncMemoryMailer(), link=LINK) as ours:
        with watched_steps(found):
            await asyncio.sleep(0)  # a step of its own begins: the threads for hashes start in it
            tokens = [(await ours.issue_token(str(number))).token for number in range(AT_ONCE)]
            await asyncio.gather(*(ours.reset_password(token, PASSWORD) for token in tokens))
    found.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    return found


async def crowd_by_hand() -> Crowd:
    """As many verifications in as many threads, and nothing else: what the system alone keeps a loop waiting."""
    found, loop, hasher, secret = Crowd(), asyncio.get_running_loop(), PasswordHasher(), b"s" * 32
    hashed = Argon2TokenHasher().hash(secret)
    with ThreadPoolExecutor(ResetPolicy().hash_workers) as threads, watched_steps(found):
        works = (loop.run_in_executor(threads, hasher.verify, hashed, secret) for _ in range(AT_ONCE))
        await asyncio.gather(*works)
    return found


def memory_now() -> float:
    """In MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


@contextmanager
def watched_steps(found: Crowd) -> Generator[None, None, None]:
    """Watch each step of the loop from within. By the clock, what others do on the processor counts as well."""
    run: Any = asyncio.Handle._run  # private, and the only place that all steps come by

    def timed(handle: asyncio.Handle) -> None:
        began, used = time.perf_counter(), time.thread_time()
        run(handle)
        found.clock = max(found.clock, (time.perf_counter() - began) * 1000)
        found.processor = max(found.processor, (time.thread_time() - used) * 1000)

    steps: Any = asyncio.Handle
    steps._run = timed
    try:
        yield
    finally:
        steps._run = run
