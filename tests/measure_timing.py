"""How long answers take for known and unknown accounts, for every way to run the library: a table of docs/timing.md.

``python tests/measure_timing.py 1000`` for a look, ``5000`` for figures to publish. The exit code is 0 if every row has
the verdict that the documentation claims. ``python tests/measure_timing.py power 20`` runs each of the measurement's
self-tests so often, and says how often it passed.
"""

import asyncio
import os
import platform
import secrets
import sys
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from harness import KEY, LINK, Colour, ManyAccounts, StoreKind, make_store
from resetkit import (
    Argon2TokenHasher,
    AsyncResetManager,
    InvalidTokenError,
    KeyedTokenHasher,
    Mail,
    ResetManager,
    ResetPolicy,
    TokenHasher,
    code_token,
)
from resetkit.dispatch import AsyncInlineDispatcher, AsyncTaskDispatcher, InlineDispatcher, ThreadDispatcher
from resetkit.events import Event, MailSent, RequestDropped, ResetRequested
from resetkit.mailers import AsyncMemoryMailer, MemoryMailer
from resetkit.stores import SQLiteTokenStore
from resetkit.testing import AsyncFakeAccounts
from resetkit.testing.timing import DEFAULT_MARGIN, Report, Verdict, addresses, measure, measure_async, roomy_policy
from test_timing import TestWhatItFinds

MAIL: Final = 0.05  # seconds; what a mail server takes
PAUSE: Final = 0.001  # seconds between calls, so that the jobs of earlier rounds run beside the next
WITHIN_A_JOB: Final = 0.01  # seconds; Argon2 alone takes thrice as long
ROOM: Final = 10**6  # jobs
AT_ONCE: Final = timedelta(microseconds=1)
KNOWN, UNKNOWN = addresses(500), addresses(1500)
STORES: Final[tuple[StoreKind, ...]] = ("memory", "sqlite")


class SlowMailer(MemoryMailer):
    """A mail server that takes its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    @override
    def send(self, mail: Mail, /) -> None:
        time.sleep(self.seconds)


class AsyncSlowMailer(AsyncMemoryMailer):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    @override
    async def send(self, mail: Mail, /) -> None:
        await asyncio.sleep(self.seconds)


class Queue:
    """A job queue outside the process, as far as the visitor's request sees it."""

    def __init__(self) -> None:
        self.jobs: list[str] = []

    def dispatch(self, job: str, run: Callable[[str], None], /, *, delay: timedelta = timedelta(0)) -> None:
        self.jobs.append(job)

    def close(self, timeout: float, /) -> None: ...


class AsyncQueue:
    def __init__(self) -> None:
        self.jobs: list[str] = []

    async def dispatch(
        self, job: str, run: Callable[[str], Awaitable[None]], /, *, delay: timedelta = timedelta(0)
    ) -> None:
        self.jobs.append(job)

    async def close(self, timeout: float, /) -> None: ...


DISPATCHERS: Final[dict[Colour, dict[str, Callable[[], Any]]]] = {
    "sync": {"thread": lambda: ThreadDispatcher(capacity=ROOM), "queued": Queue, "inline": InlineDispatcher},
    "async": {
        "task": lambda: AsyncTaskDispatcher(capacity=ROOM),
        "queued": AsyncQueue,
        "inline": AsyncInlineDispatcher,
    },
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to run the library."""

    colour: Colour
    dispatch: str
    store: StoreKind

    @contextmanager
    def opened(
        self,
        *,
        policy: ResetPolicy | None = None,
        hasher: TokenHasher | None = None,
        on_event: Callable[[Event], None] = lambda _: None,
        mail: float = MAIL,
    ) -> Generator[tuple[Any, Any], None, None]:
        """A manager and its dispatcher. Whoever opens an async one closes it, within the loop."""
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that it is inline is what is measured
            accounts, dispatcher = ManyAccounts(KNOWN), DISPATCHERS[self.colour][self.dispatch]()
            store, plain = make_store(self.colour, self.store, Path(folder))
            options: dict[str, Any] = {
                "link": LINK,
                "policy": policy or roomy_policy(),
                "hasher": hasher or Argon2TokenHasher(),
                "dispatcher": dispatcher,
                "on_event": on_event,
            }
            if self.colour == "async":
                yield (
                    AsyncResetManager(AsyncFakeAccounts(accounts), store, AsyncSlowMailer(mail), **options),
                    dispatcher,
                )
            else:
                manager = ResetManager(accounts, store, SlowMailer(mail), **options)
                yield manager, dispatcher
                manager.close(0)
            if isinstance(plain, SQLiteTokenStore):
                time.sleep(mail + WITHIN_A_JOB * 10)  # jobs on the way find their store
                plain.close()


def request(setting: Setting, rounds: int, margin: timedelta = DEFAULT_MARGIN) -> Report:
    """A request, while the jobs of the last ones run. An async one in a handler that waits twice before it is done."""
    pools: dict[str, Any] = {"known": KNOWN, "unknown": UNKNOWN, "rounds": rounds, "margin": margin}
    with setting.opened() as (manager, _):
        if setting.colour == "sync":
            return measure(
                lambda who: manager.request_reset(who, client="192.0.2.1"), before=lambda _: time.sleep(PAUSE), **pools
            )

        async def call(who: str) -> None:
            await manager.request_reset(who, client="192.0.2.1")
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        async def run() -> Report:
            report = await measure_async(call, before=lambda _: asyncio.sleep(PAUSE), **pools)
            await manager.close(0)
            return report

        return asyncio.run(run())


class Jobs:
    """How many jobs were handed over, and how many of them have ended."""

    def __init__(self, *, begun: bool) -> None:
        self.begun = begun
        self._handed_over = list[Event]()
        self._ended = list[Event]()

    def on_event(self, event: Event) -> None:
        if isinstance(event, ResetRequested):
            self._handed_over.append(event)
        elif isinstance(event, MailSent | RequestDropped):
            self._ended.append(event)

    def pauses(self) -> Iterator[float]:
        """Until all have ended."""
        while self.begun and len(self._ended) < len(self._handed_over):
            yield PAUSE

    def head_start(self) -> float:
        return secrets.randbelow(1000) / 1000 * WITHIN_A_JOB if self.begun else 0


def request_after_a_job(setting: Setting, rounds: int, *, begun: bool) -> Report:
    """A stranger's request, after a known account's job was handed over, or an unknown one's.

    `begun`: the job has no head start, and the request comes within the time that a known account's takes.
    """
    jobs, strangers = Jobs(begun=begun), iter(lambda: addresses(1)[0], None)
    policy = roomy_policy(ResetPolicy(head_start=AT_ONCE)) if begun else None
    pools: dict[str, Any] = {"known": KNOWN, "unknown": UNKNOWN, "rounds": rounds}
    with setting.opened(policy=policy, on_event=jobs.on_event, mail=0) as (manager, _):
        if setting.colour == "sync":

            def before(who: str) -> None:
                for pause in jobs.pauses():
                    time.sleep(pause)
                manager.request_reset(who, client=None)
                time.sleep(jobs.head_start())

            return measure(lambda _: manager.request_reset(next(strangers), client=None), before=before, **pools)

        async def before_async(who: str) -> None:
            for pause in jobs.pauses():
                await asyncio.sleep(pause)
            await manager.request_reset(who, client=None)
            await asyncio.sleep(jobs.head_start())

        async def call(_who: str) -> None:
            await manager.request_reset(next(strangers), client=None)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        async def run() -> Report:
            report = await measure_async(call, before=before_async, **pools)
            await manager.close(0)
            return report

        return asyncio.run(run())


def typing_a_code(setting: Setting, rounds: int, *, hasher: TokenHasher, margin: timedelta) -> Report:
    """A wrong code, beside the handle that a known account's request was answered with, or an unknown one's."""
    policy = roomy_policy(code_guesses=100)
    with setting.opened(policy=policy, hasher=hasher) as (manager, dispatcher):
        if setting.colour == "sync":

            def ask(who: str) -> str:
                handle = manager.request_reset(who, client=None, code=True).handle
                manager.run_job(dispatcher.jobs.pop())
                return code_token(handle, "BCDFGHJK")

            def guess(token: str) -> None:
                with suppress(InvalidTokenError):
                    manager.check_token(token)

            known, unknown = ([ask(who) for who in pool] for pool in (KNOWN, UNKNOWN))
            return measure(guess, known=known, unknown=unknown, rounds=rounds, margin=margin)

        async def ask_async(who: str) -> str:
            receipt = await manager.request_reset(who, client=None, code=True)
            await manager.run_job(dispatcher.jobs.pop())
            return code_token(receipt.handle, "BCDFGHJK")

        async def guess_async(token: str) -> None:
            with suppress(InvalidTokenError):
                await manager.check_token(token)

        async def run() -> Report:
            known, unknown = [[await ask_async(who) for who in pool] for pool in (KNOWN, UNKNOWN)]
            report = await measure_async(guess_async, known=known, unknown=unknown, rounds=rounds, margin=margin)
            await manager.close(0)
            return report

        return asyncio.run(run())


Measurement = Callable[[Setting, int], Report]
KEYED: Final = KeyedTokenHasher([KEY])
WIDE: Final = timedelta(milliseconds=1)  # the margin where each call waits for the disk, or hashes for 30 ms
SLOW_ROUNDS: Final = 400  # where a round lasts 100 ms


def rows(rounds: int) -> Generator[tuple[str, Setting, Measurement, int, Verdict], None, None]:
    """What is measured, in which setting, in how many rounds, and with which outcome."""
    settings = [
        Setting(colour=colour, dispatch=dispatch, store=store)
        for colour, dispatchers in DISPATCHERS.items()
        for dispatch in dispatchers
        for store in STORES
    ]
    for each in settings:
        if each.dispatch == "inline":
            yield "request", each, partial(request, margin=WIDE), SLOW_ROUNDS, "LEAK"
        else:
            yield "request", each, request, rounds, "PASS"
    for each in settings:
        if each.dispatch in {"thread", "task"}:
            yield "request after a job", each, partial(request_after_a_job, begun=False), rounds, "PASS"
            few = min(rounds, 1000)
            yield "request during a job", each, partial(request_after_a_job, begun=True), few, "PASS"
    for each in settings:
        if each.dispatch == "queued":
            margin = WIDE if each.store == "sqlite" else DEFAULT_MARGIN
            keyed = partial(typing_a_code, hasher=KEYED, margin=margin)
            yield "typing a code, keyed hash", each, keyed, rounds, "PASS"
    slow = partial(typing_a_code, hasher=Argon2TokenHasher(), margin=WIDE)
    yield "typing a code, Argon2", Setting(colour="sync", dispatch="queued", store="memory"), slow, SLOW_ROUNDS, "PASS"


def head() -> None:
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load {load} at the start\n")


def main(rounds: int, only: str = "") -> int:
    head()
    print("| what | manager | dispatch | store | median, known | known less unknown | unknown less unknown | bound |")
    print("|---|---|---|---|---|---|---|---|")
    unexpected = 0
    for what, each, measurement, count, expected in rows(rounds):
        if only not in f"{what} {each}":
            continue
        report = measurement(each, count)
        differences, median = report.differences, report.percentiles["K"].p50
        bound = f"{report.bound:.1f}" if report.verdict == "PASS" else report.verdict
        cells = (
            what,
            each.colour,
            each.dispatch,
            each.store,
            f"{median:.0f}",
            differences["K"],
            differences["A"],
            bound,
        )
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        if report.verdict != expected:
            unexpected += 1
            print(f"\nexpected {expected}:\n{report}\n", file=sys.stderr)
    return min(unexpected, 1)


def power(runs: int) -> int:
    """The self-tests again and again: what is sound must pass each time, what is broken must be found each time."""
    head()
    print("| self-test | runs | passed |\n|---|---|---|")
    failed = 0
    for name, test in vars(TestWhatItFinds).items():
        if name.startswith("test_"):
            passed = 0
            for _ in range(runs):
                with suppress(AssertionError):
                    test(TestWhatItFinds())
                    passed += 1
            print(f"| {name[5:].replace('_', ' ')} | {runs} | {passed} |", flush=True)
            failed += runs - passed
    return min(failed, 1)


if __name__ == "__main__":
    first, *more = sys.argv[1:]
    sys.exit(power(int(*more)) if first == "power" else main(int(first), *more))
