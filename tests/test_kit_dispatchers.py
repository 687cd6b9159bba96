"""The dispatchers' kit: sound dispatchers pass it, and for each promise there is a broken one that it catches."""

import asyncio
import contextlib
import itertools
import logging
import queue
import threading
import time
import unittest
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, Final

import pytest

from resetkit.dispatch import AsyncInlineDispatcher, AsyncTaskDispatcher, InlineDispatcher, ThreadDispatcher
from resetkit.errors import ThrottledError
from resetkit.protocols import AsyncDispatcher, Dispatcher
from resetkit.testing._kit import BrokenPromiseError, unsupported
from resetkit.testing.dispatchers import ROOM, AsyncDispatcherConformance, DispatcherConformance

NOW: Final = timedelta(0)
HOUR: Final = timedelta(hours=1)
PATIENCE: Final = 10.0  # seconds until a sound dispatcher is closed
TWINS_PATIENCE: Final = 0.3  # seconds until a broken twin is taken to be stuck

Run = Callable[[str], None]
AsyncRun = Callable[[str], Awaitable[None]]
_logger: Final = logging.getLogger("dispatchers")

# --- Sound dispatchers -----------------------------------------------------------------------------------------------


@contextmanager
def closing(dispatcher: Dispatcher, patience: float = PATIENCE) -> Generator[Dispatcher, None, None]:
    try:
        yield dispatcher
    finally:
        dispatcher.close(patience)


@asynccontextmanager
async def async_closing(
    dispatcher: AsyncDispatcher, patience: float = PATIENCE
) -> AsyncGenerator[AsyncDispatcher, None]:
    try:
        yield dispatcher
    finally:
        await dispatcher.close(patience)


class TestThreads(DispatcherConformance):
    def open_dispatcher(self) -> AbstractContextManager[Dispatcher]:
        return closing(ThreadDispatcher(workers=2, capacity=ROOM))

    def capacity(self) -> int:
        return 2 + ROOM


class TestOneThread(DispatcherConformance):
    capacity = unsupported("it is the same for any number of workers")

    def open_dispatcher(self) -> AbstractContextManager[Dispatcher]:
        return closing(ThreadDispatcher(workers=1, capacity=ROOM))


class TestTasks(AsyncDispatcherConformance):
    def open_dispatcher(self) -> AbstractAsyncContextManager[AsyncDispatcher]:
        return async_closing(AsyncTaskDispatcher(capacity=ROOM))

    def capacity(self) -> int:
        return ROOM


INLINE: Final = unsupported("it runs each job in its caller's path, at once")


class TestInline(DispatcherConformance):
    test_dispatch_returns_before_the_job_has_run = INLINE
    test_a_job_is_not_run_before_its_delay = INLINE
    test_a_delayed_job_holds_up_no_other = INLINE
    test_close_runs_what_is_left = INLINE
    test_close_returns_the_jobs_not_run_to_their_end = INLINE
    capacity = unsupported("it holds no job")

    def open_dispatcher(self) -> AbstractContextManager[Dispatcher]:
        return closing(InlineDispatcher())


class TestAsyncInline(AsyncDispatcherConformance):
    test_dispatch_returns_before_the_job_has_run = INLINE
    test_a_job_is_not_run_before_its_delay = INLINE
    test_a_delayed_job_holds_up_no_other = INLINE
    test_close_runs_what_is_left = INLINE
    test_close_returns_the_jobs_not_run_to_their_end = INLINE
    test_a_waiting_job_is_not_collected = INLINE
    capacity = unsupported("it holds no job")

    def open_dispatcher(self) -> AbstractAsyncContextManager[AsyncDispatcher]:
        return async_closing(AsyncInlineDispatcher())


class PoolDispatcher:
    """A pool of the standard library's, with a timer for each delay. `close` returns None when nothing is left."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(4)
        self.changed = threading.Condition(threading.RLock())
        self.left: dict[int, str] = {}
        self.timers: dict[int, tuple[threading.Timer, Callable[[], object]]] = {}
        self.numbers = itertools.count()
        self.closed = False

    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        with self.changed:
            if self.closed:
                raise ConnectionError("closed")
            if len(self.left) >= ROOM:
                raise ThrottledError(1)
            number = next(self.numbers)
            self.left[number] = job

            def submit() -> None:
                self.pool.submit(self.work, number, run)

            if delay:
                self.timers[number] = threading.Timer(delay.total_seconds(), self.due, [number]), submit
                self.timers[number][0].daemon = True
                self.timers[number][0].start()
            else:
                submit()

    def due(self, number: int) -> None:
        with self.changed:
            if number in self.timers:
                self.timers.pop(number)[1]()

    def work(self, number: int, run: Run) -> None:
        try:
            run(self.left[number])
        except LookupError:
            _logger.error("a job failed")  # noqa: TRY400  # a traceback may name people
        with self.changed:
            self.left.pop(number, None)
            self.changed.notify_all()

    def close(self, timeout: float, /) -> Sequence[str] | None:
        with self.changed:
            self.closed = True
            for number, (timer, _) in list(self.timers.items()):
                timer.cancel()
                self.due(number)
            self.changed.wait_for(lambda: not self.left, timeout)
            self.pool.shutdown(wait=False, cancel_futures=True)
            left, self.left = list(self.left.values()), {}
            return left or None


class TestPool(DispatcherConformance):
    def open_dispatcher(self) -> AbstractContextManager[Dispatcher]:
        return closing(PoolDispatcher())

    def capacity(self) -> int:
        return ROOM


class LaneDispatcher:
    """A few tasks that take jobs from an `asyncio.Queue`."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[int, AsyncRun]] = asyncio.Queue()
        self.lanes: list[asyncio.Task[None]] = []
        self.left: dict[int, str] = {}
        self.timers: dict[int, tuple[asyncio.TimerHandle, AsyncRun]] = {}
        self.numbers = itertools.count()
        self.idle = asyncio.Event()
        self.closed = False

    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        if self.closed:
            raise ConnectionError("closed")
        if len(self.left) >= ROOM:
            raise ThrottledError(1)
        if not self.lanes:
            self.lanes = [asyncio.create_task(self.work()) for _ in range(3)]
        number = next(self.numbers)
        self.left[number] = job
        self.idle.clear()
        if delay:
            timer = asyncio.get_running_loop().call_later(delay.total_seconds(), self.due, number)
            self.timers[number] = timer, run
        else:
            self.queue.put_nowait((number, run))

    def due(self, number: int) -> None:
        timer, run = self.timers.pop(number)
        timer.cancel()
        self.queue.put_nowait((number, run))

    async def work(self) -> None:
        while True:
            number, run = await self.queue.get()
            try:
                await run(self.left[number])
            except LookupError:
                _logger.error("a job failed")  # noqa: TRY400  # a traceback may name people
            del self.left[number]
            if not self.left:
                self.idle.set()

    async def close(self, timeout: float, /) -> Sequence[str]:
        self.closed = True
        for number in list(self.timers):
            self.due(number)
        if self.left:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.idle.wait(), timeout)
        for lane in self.lanes:
            lane.cancel()
        left, self.left = list(self.left.values()), {}
        return left


class TestLanes(AsyncDispatcherConformance):
    def open_dispatcher(self) -> AbstractAsyncContextManager[AsyncDispatcher]:
        return async_closing(LaneDispatcher())

    def capacity(self) -> int:
        return ROOM


class Broker:
    """A queue outside the process, as far as the dispatcher can see."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.jobs: list[tuple[float, str]] = []

    def send(self, job: str, delay: timedelta) -> None:
        with self.lock:
            if len(self.jobs) >= ROOM:
                raise ThrottledError(1)
            self.jobs.append((time.monotonic() + delay.total_seconds(), job))

    def fetch(self) -> list[str]:
        with self.lock:
            now = time.monotonic()
            fetched = [job for due, job in self.jobs if due <= now]
            self.jobs = [(due, job) for due, job in self.jobs if due > now]
            return fetched


class SendingDispatcher:
    """Sends jobs to a broker; who runs them is not its concern."""

    def __init__(self) -> None:
        self.broker = Broker()

    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        self.broker.send(job, delay)

    def close(self, timeout: float, /) -> None:
        """The queue keeps its jobs."""


class SendingKit(DispatcherConformance):
    __test__ = False
    patience = TWINS_PATIENCE

    def open_dispatcher(self) -> AbstractContextManager[Dispatcher]:
        return closing(SendingDispatcher())

    def deliver(self, dispatcher: Dispatcher, run: Run, /) -> None:
        assert isinstance(dispatcher, SendingDispatcher)
        for job in dispatcher.broker.fetch():
            run(job)

    def capacity(self) -> int:
        return ROOM


class TestSending(SendingKit):
    __test__ = True
    patience = PATIENCE


class AsyncSendingDispatcher:
    def __init__(self) -> None:
        self.broker = Broker()

    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        self.broker.send(job, delay)

    async def close(self, timeout: float, /) -> None:
        """The queue keeps its jobs."""


class TestAsyncSending(AsyncDispatcherConformance):
    def open_dispatcher(self) -> AbstractAsyncContextManager[AsyncDispatcher]:
        return async_closing(AsyncSendingDispatcher())

    async def deliver(self, dispatcher: AsyncDispatcher, run: AsyncRun, /) -> None:
        assert isinstance(dispatcher, AsyncSendingDispatcher)
        for job in dispatcher.broker.fetch():
            await run(job)

    def capacity(self) -> int:
        return ROOM


OF_WORKERS: Final = {
    "test_a_job_that_raises_stops_no_other",
    "test_close_runs_what_is_left",
    "test_close_cuts_delays_short",
    "test_close_returns_the_jobs_not_run_to_their_end",
    "test_a_waiting_job_is_not_collected",
}
PROMISES: Final = tuple(DispatcherConformance.promises())
ASYNC_PROMISES: Final = tuple(AsyncDispatcherConformance.promises())


@pytest.mark.parametrize("kit", [TestSending, TestAsyncSending])
def test_what_only_workers_can_keep_is_not_asked_of_a_queue(
    kit: type[DispatcherConformance | AsyncDispatcherConformance],
) -> None:
    """Where `deliver` is implemented, these promises are skipped, with the reason, and no others."""
    skipped = dict[str, str]()
    for name in kit.promises():
        try:
            getattr(kit(), name)()
        except unittest.SkipTest as skip:
            skipped[name] = str(skip)
    assert set(skipped) == OF_WORKERS & set(kit.promises())
    assert all("outside the process" in reason for reason in skipped.values())


def test_the_colours_differ_in_one_promise() -> None:
    """The async kit has every promise of the sync one, in the same words, and one about tasks."""
    only_async = {"test_a_waiting_job_is_not_collected"}
    promises = AsyncDispatcherConformance.promises()
    assert {name: promises[name] for name in promises.keys() - only_async} == DispatcherConformance.promises()


class ReturnsWhatIsLate(ThreadDispatcher):
    """Takes jobs after close, and returns them from the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[str] = []

    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        if self._closed:
            self.late.append(job)
        else:
            super().dispatch(job, run, delay=delay)

    def close(self, timeout: float, /) -> Sequence[str]:
        late, self.late = self.late, []
        return [*super().close(timeout), *late]


def test_what_is_late_may_be_returned() -> None:
    """A dispatcher need not raise after close, if the job is not lost."""

    class Kit(TestThreads):
        __test__ = False

        def open_dispatcher(self) -> AbstractContextManager[Dispatcher]:
            return closing(ReturnsWhatIsLate())

    Kit().test_what_comes_after_close_is_not_lost_in_silence()


def test_capacity_is_optional() -> None:
    """Who does not say how much the dispatcher holds is told what to write."""

    class Silent(TestThreads):
        __test__ = False
        capacity = DispatcherConformance.capacity

    with pytest.raises(unittest.SkipTest, match=r"implement capacity .*unsupported"):
        Silent().test_a_full_dispatcher_refuses_and_does_not_block()


# --- Broken twins ----------------------------------------------------------------------------------------------------


class Twin(ThreadDispatcher):
    def __init__(self) -> None:
        super().__init__(workers=2, capacity=ROOM)


class RunsInline(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        run(job)


class WaitsForTheJob(Twin):
    """Runs it in a thread, and waits for the thread."""

    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        done = threading.Event()

        def run_and_tell(job: str) -> None:
            run(job)
            done.set()

        super().dispatch(job, run_and_tell, delay=delay)
        done.wait(PATIENCE)


class AsciiOnly(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        super().dispatch(job.encode("ascii", "replace").decode(), run, delay=delay)


class Strips(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        super().dispatch(job.strip(), run, delay=delay)


class Cuts(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        super().dispatch(job[:4096], run, delay=delay)


class PassesBytes(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        encoded: Any = job.encode()
        super().dispatch(encoded, run, delay=delay)


class PassesTwo(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        run_with_two: Any = run
        super().dispatch(job, lambda job: run_with_two(job, "more"), delay=delay)


class RunsTwice(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        for _ in range(2):
            super().dispatch(job, run, delay=delay)


class LosesSome(Twin):
    """Keeps the last few only."""

    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        if not job.endswith("7"):
            super().dispatch(job, run, delay=delay)


class CheckThenAct(Twin):
    """Puts each job into the next free place; in between another thread finds the same one."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[int, str] = {}

    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        place = len(self.places)
        time.sleep(0.001)
        self.places[place] = job
        time.sleep(0.001)
        super().dispatch(self.places[place], run, delay=delay)


class HoldsItsLock(Twin):
    """Runs jobs with the lock that dispatch needs."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    @contextmanager
    def locked(self) -> Generator[None, None, None]:
        if not self.lock.acquire(timeout=2 * TWINS_PATIENCE):
            raise ConnectionError("it would wait for ever")
        try:
            yield
        finally:
            self.lock.release()

    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        def run_locked(job: str) -> None:
            with self.locked():
                run(job)

        with self.locked():
            super().dispatch(job, run_locked, delay=delay)


class WorkersDie(Twin):
    def _work(self) -> None:
        while (entry := self._take()) is not None:
            try:
                entry.run(entry.job)
            except LookupError:
                return
            with self._changed:
                self._running.remove(entry)
                self._changed.notify_all()


class IgnoresDelays(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        super().dispatch(job, run)


class WholeSeconds(Twin):
    """Takes a timedelta's whole seconds for all of it."""

    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        super().dispatch(job, run, delay=timedelta(seconds=delay.seconds))


class DelayedOnlyAtClose(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        super().dispatch(job, run, delay=HOUR if delay else NOW)


class WaitsInTheWorker(Twin):
    def __init__(self) -> None:
        super().__init__()
        self.hurry = threading.Event()

    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        def wait_and_run(job: str) -> None:
            self.hurry.wait(delay.total_seconds())
            run(job)

        super().dispatch(job, wait_and_run)

    def close(self, timeout: float, /) -> Sequence[str]:
        self.hurry.set()
        return super().close(timeout)


class SleepsInDispatch(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        time.sleep(delay.total_seconds())
        super().dispatch(job, run)


class Unbounded(Twin):
    def __init__(self) -> None:
        super().__init__()
        self._capacity = 10_000


class BlocksWhenFull(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < self._capacity, PATIENCE)
        super().dispatch(job, run, delay=delay)


class DropsWhenFull(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        with contextlib.suppress(ThrottledError):
            super().dispatch(job, run, delay=delay)


class RaisesItsOwnWhenFull(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        try:
            super().dispatch(job, run, delay=delay)
        except ThrottledError as full:
            raise queue.Full from full


class KeepsWhatItRefuses(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        full = len(self._waiting) >= self._capacity
        self._capacity += full
        super().dispatch(job, run, delay=delay)
        if full:
            raise ThrottledError(1)


class StaysFull(Twin):
    """Counts what comes, and forgets to count what ends."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        self.count += 1
        if self.count > ROOM:
            raise ThrottledError(1)
        super().dispatch(job, run, delay=delay)


class TakesNothing(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        raise ThrottledError(1)


class SaysNoTime(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        try:
            super().dispatch(job, run, delay=delay)
        except ThrottledError:
            raise ThrottledError(0) from None


class DropsAtClose(Twin):
    def close(self, timeout: float, /) -> Sequence[str]:
        with self._changed:
            self._waiting.clear()
        return super().close(timeout)


class GivesBackAtClose(Twin):
    """Does not try to run what waits."""

    def close(self, timeout: float, /) -> Sequence[str]:
        with self._changed:
            waiting = [entry.job for entry in self._waiting]
            self._waiting.clear()
        return [*waiting, *super().close(timeout)]


class WaitsForDelays(Twin):
    def close(self, timeout: float, /) -> Sequence[str]:
        deadline = time.monotonic() + timeout
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._running), timeout)
            delayed = [entry.job for entry in self._waiting]
            self._waiting.clear()
        return [*delayed, *super().close(deadline - time.monotonic())]


class SaysNothingIsLeft(Twin):
    def close(self, timeout: float, /) -> Sequence[str]:
        super().close(timeout)
        return []


class SaysOnlyWhatWaits(Twin):
    def close(self, timeout: float, /) -> Sequence[str]:
        running = {entry.job for entry in self._running}
        return [job for job in super().close(timeout) if job not in running]


class SaysAll(Twin):
    def __init__(self) -> None:
        super().__init__()
        self.all: list[str] = []

    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        super().dispatch(job, run, delay=delay)
        self.all.append(job)

    def close(self, timeout: float, /) -> Sequence[str]:
        super().close(timeout)
        return self.all


class WaitsForEver(Twin):
    def close(self, timeout: float, /) -> Sequence[str]:
        return super().close(PATIENCE)


class ClosesOnce(Twin):
    def close(self, timeout: float, /) -> Sequence[str]:
        if self._closed:
            raise ConnectionError("closed")
        return super().close(timeout)


class SwallowsWhenClosed(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        if not self._closed:
            super().dispatch(job, run, delay=delay)


class LogsAll(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        _logger.info("dispatched %s", job)
        super().dispatch(job, run, delay=delay)


class LogsFailures(Twin):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        def run_and_tell(job: str) -> None:
            try:
                run(job)
            except LookupError:
                _logger.exception("failed: %s", job)

        super().dispatch(job, run_and_tell, delay=delay)


class LogsWhatIsLeft(Twin):
    def close(self, timeout: float, /) -> Sequence[str]:
        with self._changed:
            waiting = [str(entry.job) for entry in self._waiting]
        _logger.warning("%d jobs left", len(waiting), extra={"jobs": waiting})
        _logger.warning("%s", [{"job": job} for job in waiting])
        return super().close(timeout)


Factory = Callable[[], Dispatcher]
TWINS: Final[dict[str, tuple[Factory, ...]]] = {
    "test_dispatch_returns_before_the_job_has_run": (RunsInline, WaitsForTheJob),
    "test_a_job_is_run_with_its_text_unchanged": (AsciiOnly, Strips, Cuts, PassesBytes, PassesTwo),
    "test_every_job_is_run_once": (RunsTwice, LosesSome),
    "test_jobs_dispatched_at_once_are_all_run": (CheckThenAct,),
    "test_a_job_may_dispatch_another": (HoldsItsLock,),
    "test_a_job_that_raises_stops_no_other": (WorkersDie,),
    "test_a_job_is_not_run_before_its_delay": (IgnoresDelays, WholeSeconds, DelayedOnlyAtClose),
    "test_a_delayed_job_holds_up_no_other": (WaitsInTheWorker, IgnoresDelays, SleepsInDispatch),
    "test_a_full_dispatcher_refuses_and_does_not_block": (
        *(Unbounded, BlocksWhenFull, DropsWhenFull, RaisesItsOwnWhenFull, KeepsWhatItRefuses, StaysFull),
        *(TakesNothing, SaysNoTime),
    ),
    "test_close_runs_what_is_left": (DropsAtClose, GivesBackAtClose),
    "test_close_cuts_delays_short": (DropsAtClose, GivesBackAtClose, WaitsForDelays),
    "test_close_returns_the_jobs_not_run_to_their_end": (
        *(SaysNothingIsLeft, SaysOnlyWhatWaits, SaysAll, WaitsForEver, DropsAtClose),
    ),
    "test_close_loses_no_job": (DropsAtClose,),
    "test_close_may_be_called_twice": (ClosesOnce, SaysAll),
    "test_what_comes_after_close_is_not_lost_in_silence": (SwallowsWhenClosed,),
    "test_the_log_shows_no_job": (LogsAll, LogsFailures, LogsWhatIsLeft),
}


class AsyncTwin(AsyncTaskDispatcher):
    def __init__(self, *, concurrency: int = 2) -> None:
        super().__init__(capacity=ROOM, concurrency=concurrency)


class AsyncRunsInline(AsyncTwin):
    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        await run(job)


class AsyncCuts(AsyncTwin):
    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        await super().dispatch(job[:4096], run, delay=delay)


class AsyncRunsTwice(AsyncTwin):
    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        for _ in range(2):
            await super().dispatch(job, run, delay=delay)


class AsyncCheckThenAct(AsyncTwin):
    """The same with tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[int, str] = {}

    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        place = len(self.places)
        await asyncio.sleep(0)
        self.places[place] = job
        await asyncio.sleep(0)
        await super().dispatch(self.places[place], run, delay=delay)


class AsyncHoldsItsLock(AsyncTwin):
    def __init__(self) -> None:
        super().__init__()
        self.lock = asyncio.Lock()

    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        async def run_locked(job: str) -> None:
            async with self.lock:
                await run(job)

        async with self.lock:
            await super().dispatch(job, run_locked, delay=delay)


class AsyncWorkersDie(LaneDispatcher):
    async def work(self) -> None:
        while True:
            number, run = await self.queue.get()
            try:
                await run(self.left.pop(number))
            except LookupError:
                return


class AsyncIgnoresDelays(AsyncTwin):
    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        await super().dispatch(job, run)


class AsyncDelayedOnlyAtClose(AsyncTwin):
    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        await super().dispatch(job, run, delay=HOUR if delay else NOW)


class AsyncWaitsInItsPlace(AsyncTwin):
    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        async def wait_and_run(job: str) -> None:
            await asyncio.sleep(delay.total_seconds())
            await run(job)

        await super().dispatch(job, wait_and_run)


class AsyncUnbounded(AsyncTwin):
    def __init__(self) -> None:
        super().__init__()
        self._capacity = 10_000


class AsyncBlocksWhenFull(AsyncTwin):
    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        if len(self._jobs) >= self._capacity:
            await asyncio.wait(self._jobs, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)
        await super().dispatch(job, run, delay=delay)


class AsyncDropsAtClose(AsyncTwin):
    async def close(self, timeout: float, /) -> Sequence[str]:
        for task, entry in self._jobs.items():
            if not entry.begun:
                task.cancel()
        return await super().close(timeout)


class AsyncWaitsForDelays(AsyncTwin):
    async def close(self, timeout: float, /) -> Sequence[str]:
        self._pauses.clear()
        return await super().close(timeout)


class AsyncSaysNothingIsLeft(AsyncTwin):
    async def close(self, timeout: float, /) -> Sequence[str]:
        await super().close(timeout)
        return []


class AsyncWaitsForEver(AsyncTwin):
    async def close(self, timeout: float, /) -> Sequence[str]:
        return await super().close(PATIENCE)


class AsyncClosesOnce(AsyncTwin):
    async def close(self, timeout: float, /) -> Sequence[str]:
        if self._closed:
            raise ConnectionError("closed")
        return await super().close(timeout)


class AsyncSwallowsWhenClosed(AsyncTwin):
    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        if not self._closed:
            await super().dispatch(job, run, delay=delay)


class AsyncLogsFailures(AsyncTwin):
    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        async def run_and_tell(job: str) -> None:
            try:
                await run(job)
            except LookupError:
                _logger.exception("failed: %s", job)

        await super().dispatch(job, run_and_tell, delay=delay)


class KeepsNoReference(AsyncTwin):
    """A bare `create_task`, as many an application has it."""

    def __init__(self) -> None:
        super().__init__(concurrency=ROOM)
        self._jobs = weakref.WeakKeyDictionary()  # type: ignore[assignment]  # broken


class NeverBegins(AsyncTwin):
    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        """Forget it."""


AsyncFactory = Callable[[], AsyncDispatcher]
ASYNC_TWINS: Final[dict[str, tuple[AsyncFactory, ...]]] = {
    "test_dispatch_returns_before_the_job_has_run": (AsyncRunsInline,),
    "test_a_job_is_run_with_its_text_unchanged": (AsyncCuts,),
    "test_every_job_is_run_once": (AsyncRunsTwice,),
    "test_jobs_dispatched_at_once_are_all_run": (AsyncCheckThenAct,),
    "test_a_job_may_dispatch_another": (AsyncHoldsItsLock,),
    "test_a_job_that_raises_stops_no_other": (AsyncWorkersDie,),
    "test_a_job_is_not_run_before_its_delay": (AsyncIgnoresDelays, AsyncDelayedOnlyAtClose),
    "test_a_delayed_job_holds_up_no_other": (AsyncWaitsInItsPlace, AsyncIgnoresDelays),
    "test_a_full_dispatcher_refuses_and_does_not_block": (AsyncUnbounded, AsyncBlocksWhenFull),
    "test_close_runs_what_is_left": (AsyncDropsAtClose,),
    "test_close_cuts_delays_short": (AsyncDropsAtClose, AsyncWaitsForDelays),
    "test_close_returns_the_jobs_not_run_to_their_end": (AsyncSaysNothingIsLeft, AsyncWaitsForEver),
    "test_close_loses_no_job": (AsyncDropsAtClose,),
    "test_close_may_be_called_twice": (AsyncClosesOnce,),
    "test_what_comes_after_close_is_not_lost_in_silence": (AsyncSwallowsWhenClosed,),
    "test_the_log_shows_no_job": (AsyncLogsFailures,),
    "test_a_waiting_job_is_not_collected": (KeepsNoReference, NeverBegins),
}


class Purges(SendingDispatcher):
    def close(self, timeout: float, /) -> None:
        self.broker.jobs.clear()


class EncodesAgain(SendingDispatcher):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        self.broker.send(repr(job), delay)


class SendsAtOnce(SendingDispatcher):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        self.broker.send(job, NOW)


class RunsAndSends(SendingDispatcher):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        run(job)
        self.broker.send(job, delay)


SENDING_TWINS: Final[dict[str, tuple[Factory, ...]]] = {
    "test_dispatch_returns_before_the_job_has_run": (RunsAndSends,),
    "test_a_job_is_run_with_its_text_unchanged": (EncodesAgain,),
    "test_every_job_is_run_once": (RunsAndSends,),
    "test_a_job_is_not_run_before_its_delay": (SendsAtOnce,),
    "test_a_delayed_job_holds_up_no_other": (SendsAtOnce,),
    "test_close_loses_no_job": (Purges,),
}


def each(twins: dict[str, tuple[Any, ...]]) -> list[object]:
    return [pytest.param(name, twin, id=f"{name[5:]}-{twin.__name__}") for name, some in twins.items() for twin in some]


def check_is_caught(kit: DispatcherConformance | AsyncDispatcherConformance, name: str) -> None:
    with pytest.raises(BrokenPromiseError, match="does not keep its promise: "):
        getattr(kit, name)()


@pytest.mark.parametrize(("name", "twin"), each(TWINS))
def test_broken_twin_is_caught(name: str, twin: Factory) -> None:
    """The check of this promise finds what is wrong with the twin, and says which promise that is."""

    class Kit(DispatcherConformance):
        __test__ = False
        patience = TWINS_PATIENCE

        @contextmanager
        def open_dispatcher(self) -> Generator[Dispatcher, None, None]:
            dispatcher = twin()
            yield dispatcher
            with contextlib.suppress(ConnectionError):
                dispatcher.close(TWINS_PATIENCE)

        def capacity(self) -> int:
            return 2 + ROOM

    check_is_caught(Kit(), name)


@pytest.mark.parametrize(("name", "twin"), each(ASYNC_TWINS))
def test_broken_async_twin_is_caught(name: str, twin: AsyncFactory) -> None:
    """The same for tasks."""

    class Kit(AsyncDispatcherConformance):
        __test__ = False
        patience = TWINS_PATIENCE

        @asynccontextmanager
        async def open_dispatcher(self) -> AsyncGenerator[AsyncDispatcher, None]:
            yield twin()

        def capacity(self) -> int:
            return ROOM

    check_is_caught(Kit(), name)


@pytest.mark.parametrize(("name", "twin"), each(SENDING_TWINS))
def test_broken_sending_twin_is_caught(name: str, twin: Factory) -> None:
    """The same for a queue outside the process."""

    class Kit(SendingKit):
        __test__ = False

        def open_dispatcher(self) -> AbstractContextManager[Dispatcher]:
            return closing(twin())

    check_is_caught(Kit(), name)


def test_every_promise_has_a_twin() -> None:
    """No promise is without a broken dispatcher that it catches, in either colour."""
    assert set(TWINS) == set(PROMISES)
    assert set(ASYNC_TWINS) == set(ASYNC_PROMISES)


@pytest.mark.parametrize("base", [DispatcherConformance, AsyncDispatcherConformance])
def test_a_kit_must_open_a_dispatcher(base: type[DispatcherConformance | AsyncDispatcherConformance]) -> None:
    """A class without `open_dispatcher` cannot be defined, and the kit itself opens none."""
    with pytest.raises(TypeError, match=r"must implement open_dispatcher"):
        type("TestNothing", (base,), {})
    with pytest.raises(NotImplementedError):
        base().open_dispatcher()
