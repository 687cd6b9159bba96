"""The promises of a dispatcher, each as a test: subclass `DispatcherConformance` or its async twin.

The author writes ``open_dispatcher``. Where the jobs leave the process, to a queue, `deliver` says how they come back;
then what only workers inside the process can keep is skipped. `capacity` is optional.
"""

import asyncio
import gc
import time
import unittest
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from typing import ClassVar, Final

from resetkit._sync import LiftedDispatcher, lift, step
from resetkit.errors import ThrottledError
from resetkit.protocols import AsyncDispatcher, Dispatcher
from resetkit.testing._kit import Async, BrokenPromiseError, Conformance, Sync, expect, expect_that, promise, undeclared
from resetkit.testing._logs import listening
from resetkit.testing._transcript import shown
from resetkit.testing._work import Signal, TaskSignal, ThreadSignal, Work, nothing

ROOM: Final = 64
"""How many jobs a check dispatches at the most before the first has ended."""

_MANY: Final = 40  # more than a pool has workers by default: 32 in `concurrent.futures`
_GLANCE: Final = 0.05  # seconds; only ever a lower bound, or time for a broken adapter to go wrong
_PAUSE: Final = 0.01  # seconds between two looks at a queue
_DELAYS: Final = (timedelta(milliseconds=50), timedelta(milliseconds=30))
_MARK: Final = "carol@example.org"

# The manager's jobs are JSON, in ASCII. A queue that takes text takes this too.
TEXTS: Final = (
    r'{"v": 1, "type": "reset", "identifier": "\ud83d\udd11 \u0000 \"\\", "context": {}}',
    *("a", " a ", "a\n\n", "a\tb\r\n", "'", '"', "\\", "\\n", "%s %(name)s {0} {} $a ${a} {{a}}", "null", "1", "[]"),
    *("é e\u0301 ß \u017f \u0131", "\u202ea\u200b\ufeff", "\U0001f511" * 200),
    *("--; DROP", "<a>&amp;", "=?utf-8?q?a?=", "b'a'"),
    "x" * 50_000,
)


class DispatcherChecks(Conformance[AsyncDispatcher], shipped=True):
    """What both colours promise."""

    port = "Dispatcher"
    opens = "open_dispatcher"

    patience: ClassVar[float] = 10.0
    """Seconds until what a job has not done is taken never to happen. Only broken promises wait for it."""

    # Optional abilities.

    def capacity(self) -> int:
        """How many jobs the opened dispatcher holds at the most, running ones included, before it refuses one."""
        undeclared("capacity", "how many jobs it holds at the most, running ones included")

    # The colour's.

    _signal: ClassVar[type[Signal]]
    _deliver: Callable[[Work], Awaitable[None]]
    """Runs what a queue holds by now."""
    _is_queue: bool
    """Whether jobs leave the process: the author says how they come back."""

    # What the checks say again and again.

    def _work(self, *, held: bool = False, then: Callable[[str], Awaitable[None]] = nothing) -> Work:
        return Work(self._signal(), self.patience, held=held, then=then)

    def _needs_workers(self) -> None:
        if self._is_queue:
            raise unittest.SkipTest("the jobs are run outside the process, and a queue keeps what was not run")

    @property
    def _far(self) -> timedelta:
        """A delay that is not over while a check has patience."""
        return timedelta(seconds=3 * self.patience)

    async def _put(self, dispatcher: AsyncDispatcher, work: Work, *jobs: str, delay: timedelta = timedelta(0)) -> None:
        """Dispatch jobs that cannot end."""
        for job in jobs:
            await dispatcher.dispatch(job, work, delay=delay)
            expect(work.ended, [], "dispatch came back when the job had ended, which it could not before")

    async def _all_end(self, work: Work, *jobs: str) -> None:
        """Wait until as many jobs have ended, and see that it is these."""
        deadline = time.monotonic() + self.patience
        await self._deliver(work)
        while not await work.have_ended(jobs, _PAUSE) and time.monotonic() < deadline:
            await self._deliver(work)
        _expect_jobs(work.ended, jobs, f"expected to have ended within {self.patience:g} seconds")

    # dispatch

    @promise("dispatch")
    async def test_dispatch_returns_before_the_job_has_run(self, dispatcher: AsyncDispatcher) -> None:
        """Dispatch returns at once: the caller never waits for the job, since its time tells who has an account."""
        with self._work(held=True) as work:
            await self._put(dispatcher, work, "job")
            work.let_go()
            await self._all_end(work, "job")

    @promise("dispatch")
    async def test_a_job_is_run_with_its_text_unchanged(self, dispatcher: AsyncDispatcher) -> None:
        """The text that was dispatched is the one argument of `run`, character by character, however long."""
        for text in TEXTS:
            work = self._work()
            await dispatcher.dispatch(text, work)
            await self._all_end(work, text)

    @promise("dispatch")
    async def test_every_job_is_run_once(self, dispatcher: AsyncDispatcher) -> None:
        """Of many jobs, dispatched one after another, each is run, and where nothing fails only once."""
        work, jobs = self._work(), [f"job {number}" for number in range(_MANY)]
        for job in jobs:
            await dispatcher.dispatch(job, work)
        await self._all_end(work, *jobs)
        expect_that(not await dispatcher.close(self.patience), "close returned jobs, and all had ended")
        _expect_jobs(work.ended, jobs, "expected to have ended, once each")

    @promise("dispatch")
    async def test_jobs_dispatched_at_once_are_all_run(self, dispatcher: AsyncDispatcher) -> None:
        """Of jobs that are dispatched at the same moment none is lost, and none is run twice."""
        for turn in range(4):
            work, jobs = self._work(), [f"job {turn}.{number}" for number in range(16)]
            await self.together(*(dispatcher.dispatch(job, work) for job in jobs))
            await self._all_end(work, *jobs)

    @promise("dispatch")
    async def test_a_job_may_dispatch_another(self, dispatcher: AsyncDispatcher) -> None:
        """A job may dispatch a job from where it runs, as the manager does when a mail is to be tried again."""

        async def dispatch_second(job: str) -> None:
            if job == "first":
                await dispatcher.dispatch("second", work)

        work = self._work(then=dispatch_second)
        await dispatcher.dispatch("first", work)
        await self._all_end(work, "first", "second")

    @promise("dispatch")
    async def test_a_job_that_raises_stops_no_other(self, dispatcher: AsyncDispatcher) -> None:
        """Jobs raise no Exception; if one does all the same, the jobs that come after it are run."""
        self._needs_workers()
        work, good = self._work(then=_fail_if_bad), [f"good {number}" for number in range(16)]
        for number in range(_MANY):
            with suppress(LookupError):  # what its caller gets to see is not promised
                await dispatcher.dispatch(f"bad {number}", work)
        for job in good:
            await dispatcher.dispatch(job, work)
        await self._all_end(work, *good)

    @promise("dispatch")
    async def test_a_job_is_not_run_before_its_delay(self, dispatcher: AsyncDispatcher) -> None:
        """A delayed job is run by itself, and not before its delay has passed."""
        work = self._work()
        begin = time.monotonic()
        for delay in _DELAYS:
            await dispatcher.dispatch(f"in {delay}", work, delay=delay)
        await self._all_end(work, *(f"in {delay}" for delay in _DELAYS))
        tick = time.get_clock_info("monotonic").resolution  # by which timers may be early
        for delay in _DELAYS:
            waited = work.begun[f"in {delay}"] - begin
            expect_that(waited >= delay.total_seconds() - tick, f"delayed by {delay}, it began after {waited:.3f} s")

    @promise("dispatch")
    async def test_a_delayed_job_holds_up_no_other(self, dispatcher: AsyncDispatcher) -> None:
        """However many delayed jobs wait, one without delay is run; the delayed ones are not, before their time."""
        delayed, work, jobs = self._work(), self._work(), [f"job {number}" for number in range(8)]
        for number in range(_MANY):
            begin = time.monotonic()
            await dispatcher.dispatch(f"delayed {number}", delayed, delay=self._far)
            waited = timedelta(seconds=time.monotonic() - begin)
            expect_that(waited < self._far, "dispatch came back when the delay was over")
        for job in jobs:
            await dispatcher.dispatch(job, work)
        await self._all_end(work, *jobs)
        expect(sorted(delayed.begun), [], f"they are delayed by {self._far}")

    @promise("dispatch")
    async def test_a_full_dispatcher_refuses_and_does_not_block(self, dispatcher: AsyncDispatcher) -> None:
        """When full it raises ThrottledError at once, runs what it took and not what it refused, and has room again."""
        most = self.capacity()
        with self._work(held=True) as work:
            taken = await self._fill(dispatcher, work, most)
            work.let_go()
            await self._all_end(work, *taken)
            await self._put_when_there_is_room(dispatcher, work, "one more")
            await self._all_end(work, *taken, "one more")

    async def _fill(self, dispatcher: AsyncDispatcher, work: Work, most: int) -> list[str]:
        """The jobs that it takes until it refuses one."""
        jobs = [f"job {number}" for number in range(most + 1)]
        for number, job in enumerate(jobs):
            try:
                await self._put(dispatcher, work, job)
            except ThrottledError as full:
                wait = full.retry_after
                expect_that(type(wait) is int and wait >= 1, f"retry_after is whole seconds, at least 1, not {wait!r}")
                expect_that(number > 0, "an empty dispatcher refused its first job")
                return jobs[:number]
        raise BrokenPromiseError(f"expected ThrottledError: it took {most + 1} jobs, and none of them had ended")

    async def _put_when_there_is_room(self, dispatcher: AsyncDispatcher, work: Work, job: str) -> None:
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            try:
                return await dispatcher.dispatch(job, work)
            except ThrottledError:
                await work.pause(_PAUSE)
        raise BrokenPromiseError("it is still full, and every job had ended")

    # close

    @promise("close")
    async def test_close_runs_what_is_left(self, dispatcher: AsyncDispatcher) -> None:
        """Jobs that wait when it is closed are run before close returns, and are not among what it returns."""
        self._needs_workers()
        with self._work(held=True) as work:
            jobs = [f"job {number}" for number in range(_MANY)]
            await self._put(dispatcher, work, *jobs)

            async def let_go() -> Sequence[str] | None:
                await work.pause(_GLANCE)  # close has begun by now
                work.let_go()
                return None

            left, _ = await self.together(dispatcher.close(self.patience), let_go())
            expect_that(not left, f"expected no jobs left, got {left!r}: there was time for all")
            _expect_jobs(work.ended, jobs, "expected to have ended when close returns")

    @promise("close")
    async def test_close_cuts_delays_short(self, dispatcher: AsyncDispatcher) -> None:
        """Delayed jobs are run when it is closed: nobody waits for their time, and none is dropped or given back."""
        self._needs_workers()
        work, jobs = self._work(), [f"job {number}" for number in range(8)]
        for number, job in enumerate(jobs):
            await dispatcher.dispatch(job, work, delay=self._far * (number + 1))
            if number == len(jobs) // 2:
                await work.pause(_GLANCE)  # so that some are being waited for, and some have just come
        left = await dispatcher.close(self.patience)
        expect_that(not left, f"expected no jobs left, got {left!r}: there was time for all")
        _expect_jobs(work.ended, jobs, "expected to have ended when close returns")

    @promise("close")
    async def test_close_returns_the_jobs_not_run_to_their_end(self, dispatcher: AsyncDispatcher) -> None:
        """When time is up close returns each job that has not ended, running, waiting or delayed, and no other."""
        self._needs_workers()
        done = self._work()
        await dispatcher.dispatch("done", done)
        await self._all_end(done, "done")
        with self._work(held=True) as work:
            stuck = [f"stuck {number}" for number in range(_MANY)]
            await self._put(dispatcher, work, *stuck)
            await self._put(dispatcher, work, "delayed", delay=self._far)
            expect_that(await work.has_begun(), "no job has begun")
            left = await dispatcher.close(_GLANCE)
            expect(work.ended, [], "close came back when the jobs had ended, which they could not in its time")
            _expect_jobs(left or (), [*stuck, "delayed"], "expected from close, since they have not ended")

    @promise("close")
    async def test_close_loses_no_job(self, dispatcher: AsyncDispatcher) -> None:
        """Whatever was dispatched is run, or returned by close, or still in the queue that it was sent to."""
        work, jobs = self._work(), [f"job {number}" for number in range(8)]
        for number, job in enumerate(jobs):
            await dispatcher.dispatch(job, work, delay=_DELAYS[0] * (number % 2))
        left = await dispatcher.close(_GLANCE) or ()
        deadline = time.monotonic() + self.patience
        while (lost := {*jobs} - {*left} - {*work.ended}) and time.monotonic() < deadline:
            await self._deliver(work)
            await work.pause(_PAUSE)
        expect(sorted(lost), [], "these were neither run nor returned")

    @promise("close")
    async def test_close_may_be_called_twice(self, dispatcher: AsyncDispatcher) -> None:
        """A second close finds nothing left, and does no harm."""
        work = self._work()
        await dispatcher.dispatch("job", work)
        await self._all_end(work, "job")
        for _ in range(2):
            expect_that(not await dispatcher.close(self.patience), "close returned jobs, and all had ended")

    @promise("close")
    async def test_what_comes_after_close_is_not_lost_in_silence(self, dispatcher: AsyncDispatcher) -> None:
        """Dispatch after close raises; or else the job is run, or returned by another close."""
        work = self._work()
        await dispatcher.close(self.patience)
        try:
            await dispatcher.dispatch("late", work)
        except Exception:  # noqa: BLE001  # any error tells the caller
            return
        if "late" not in (await dispatcher.close(self.patience) or ()):
            await self._all_end(work, "late")

    # Secrecy.

    @promise("")
    async def test_the_log_shows_no_job(self, dispatcher: AsyncDispatcher) -> None:
        """No log line, at INFO and above, shows a job, whether it went well, failed or was left: jobs name people."""
        good, bad, left = (f'{word} {{"identifier": "{_MARK}"}}' for word in ("good", "bad", "left"))
        with listening() as lines:
            work = self._work(then=_fail_if_bad)
            await dispatcher.dispatch(good, work)
            await self._all_end(work, good)
            if not self._is_queue:
                with suppress(LookupError):
                    await dispatcher.dispatch(bad, work)
            await dispatcher.dispatch(left, work, delay=self._far)
            await work.pause(_GLANCE)
            await dispatcher.close(0)
            await work.pause(_GLANCE)
        for line in lines:
            expect_that(_MARK not in line, "a job stands in a log line")


def _expect_jobs(found: Collection[str], jobs: Collection[str], why: str) -> None:
    missing, more = (list(each.elements()) for each in (Counter(jobs) - Counter(found), Counter(found) - Counter(jobs)))
    told = [f"{what}: {shown(which)}" for what, which in (("missing", missing), ("too many", more)) if which]
    expect_that(not told, f"of {len(jobs)} jobs {why}; {', '.join(told)}")


async def _fail_if_bad(job: str) -> None:
    if job.startswith("bad"):
        raise LookupError("a job failed")


class DispatcherConformance(DispatcherChecks, Sync[AsyncDispatcher], shipped=True):
    """Every promise of `Dispatcher`. Subclass it and write `open_dispatcher`."""

    _signal = ThreadSignal

    def open_dispatcher(self) -> AbstractContextManager[Dispatcher]:
        """A context manager that yields a new dispatcher with room for 64 jobs, and cleans up."""
        raise NotImplementedError  # a subclass says

    def deliver(self, dispatcher: Dispatcher, run: Callable[[str], None], /) -> None:
        """Only for a queue outside the process: fetch the jobs that are due by now, and call ``run(job)`` for each."""

    @contextmanager
    def opened(self) -> Generator[AsyncDispatcher, None, None]:
        """A lifted dispatcher."""
        with self.open_dispatcher() as dispatcher:
            deliver = lift(self.deliver)
            self._is_queue = type(self).deliver is not DispatcherConformance.deliver
            self._deliver = lambda work: deliver(dispatcher, lambda job: step(work(job)))
            yield self.watched(LiftedDispatcher(dispatcher))


class AsyncDispatcherConformance(DispatcherChecks, Async[AsyncDispatcher], shipped=True):
    """Every promise of `AsyncDispatcher`. Subclass it and write `open_dispatcher`."""

    _signal = TaskSignal

    def open_dispatcher(self) -> AbstractAsyncContextManager[AsyncDispatcher]:
        """An async context manager that yields a new dispatcher with room for 64 jobs, and cleans up."""
        raise NotImplementedError  # a subclass says

    async def deliver(self, dispatcher: AsyncDispatcher, run: Callable[[str], Awaitable[None]], /) -> None:
        """Only for a queue outside the process: fetch the jobs that are due by now, and await ``run(job)`` for each."""

    @contextmanager
    def opened(self) -> Generator[AsyncDispatcher, None, None]:
        """A dispatcher in a loop of its own."""
        with self.in_loop(self.open_dispatcher()) as dispatcher:
            self._is_queue = type(self).deliver is not AsyncDispatcherConformance.deliver
            self._deliver = lambda work: self.deliver(dispatcher, work)
            yield self.watched(dispatcher)

    @promise("dispatch")
    async def test_a_waiting_job_is_not_collected(self, dispatcher: AsyncDispatcher) -> None:
        """A job that waits is kept from the garbage collector: the loop itself keeps no reference to a task."""
        self._needs_workers()
        waits: list[weakref.ref[asyncio.Future[None]]] = []

        async def wait(_: str) -> None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waits.append(weakref.ref(future))
            await future  # nothing but this job's task refers to it

        work = self._work(then=wait)
        await dispatcher.dispatch("job", work)
        expect_that(await work.has_begun(), "the job has not begun")
        gc.collect()
        future = waits[0]() if waits else None
        if future is None:
            raise BrokenPromiseError("the garbage collector took the job while it waited")
        future.set_result(None)
        del future
        await self._all_end(work, "job")
