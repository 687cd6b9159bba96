"""How a job leaves the visitor's path: to threads, to tasks, or, for tests, nowhere.

In-process jobs live in memory: what a killed process had not run is lost, and its visitors ask again. Where that is
too little, put a queue behind the `Dispatcher` protocol.
"""

import atexit
import heapq
import itertools
import logging
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from resetkit._checks import check_callable, check_duration, check_whole
from resetkit._confidential import hidden
from resetkit._fork import start_afresh_in_child
from resetkit.errors import ThrottledError

if TYPE_CHECKING:
    import asyncio

_logger: Final = logging.getLogger("resetkit")

_EXIT_TIMEOUT: Final = 10.0  # seconds; about what process managers wait between SIGTERM and SIGKILL
_RETRY_AFTER_FULL: Final = 5  # seconds; a guess: a full queue empties at the mail server's speed


@dataclass(order=True, slots=True)
class _Entry:
    """A job in a heap: the first due first, then in the order of coming."""

    due: float
    order: int
    job: str = field(compare=False, repr=False)
    run: Callable[[str], None] = field(compare=False, repr=False)
    reported: bool = field(default=False, compare=False)


class ThreadDispatcher:
    """Runs jobs in a few daemon threads; the default of the sync manager.

    `workers` threads are started at the first job, and again in a forked child, whose queue begins empty. At most
    `capacity` jobs wait, delayed ones included; then `dispatch` raises ThrottledError. `around()` is entered for each
    job: Flask's ``app.app_context``, a database session. At exit the queue is drained for at most 10 seconds.
    """

    def __init__(
        self,
        *,
        workers: int = 2,
        capacity: int = 1000,
        around: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._workers = check_whole("workers", workers, least=1)
        self._capacity = check_whole("capacity", capacity, least=1)
        check_callable("around", around)
        self._around = around
        self._start_afresh()
        start_afresh_in_child(self)
        _open_dispatchers.add(self)

    def _start_afresh(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[_Entry] = []
        self._running: list[_Entry] = []
        self._unrun: list[_Entry] = []  # for close to report
        self._threads: list[threading.Thread] = []
        self._order = itertools.count()
        self._closed = False

    def dispatch(self, job: str, run: Callable[[str], None], /, *, delay: timedelta = timedelta(0)) -> None:
        """See `Dispatcher.dispatch`. Raises RuntimeError after `close`."""
        job = hidden(job)
        due = time.monotonic() + delay.total_seconds()
        with self._changed:
            if self._closed:
                raise RuntimeError("this dispatcher is closed")
            if len(self._waiting) >= self._capacity:
                raise ThrottledError(_RETRY_AFTER_FULL)
            self._start_workers()
            heapq.heappush(self._waiting, _Entry(due, next(self._order), job, run))
            self._changed.notify()

    def _start_workers(self) -> None:
        """Start what is missing. Where the system has no thread to spare, one is enough."""
        while len(self._threads) < self._workers:
            thread = threading.Thread(target=self._work, name=f"resetkit-{len(self._threads)}", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                if not self._threads:
                    raise
                return
            self._threads.append(thread)

    def close(self, timeout: float, /) -> Sequence[str]:
        """See `Dispatcher.close`. A job still in progress after `timeout` counts as left."""
        deadline = time.monotonic() + timeout
        self._take_no_more()
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._running), timeout)
            left = [entry for entry in sorted(self._unrun + self._waiting + self._running) if not entry.reported]
            for entry in left:
                entry.reported = True
            self._waiting.clear()
            self._unrun.clear()
            threads, self._threads = self._threads, []
        for thread in threads:
            if thread is not threading.current_thread():  # a job may close its own dispatcher
                thread.join(max(0.0, deadline - time.monotonic()))
        return [entry.job for entry in left]

    def _take_no_more(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (entry := self._take()) is not None:
            began = False
            try:
                with self._around():
                    began = True
                    entry.run(entry.job)
            except BaseException as error:  # noqa: BLE001  # a worker outlives whatever a job does
                what = "a job ended with %s" if began else "a job was not run, since around() failed with %s"
                _logger.error(what, type(error).__name__)  # noqa: TRY400  # a text may name people
            with self._changed:
                self._running.remove(entry)
                if not began and len(self._unrun) < self._capacity:
                    self._unrun.append(entry)
                self._changed.notify_all()

    def _take(self) -> _Entry | None:
        with self._changed:
            while True:
                pause = self._waiting[0].due - time.monotonic() if self._waiting else None
                if self._waiting and (self._closed or (pause is not None and pause <= 0)):
                    entry = heapq.heappop(self._waiting)
                    self._running.append(entry)
                    self._changed.notify()  # another worker waits for the next one's time
                    return entry
                if self._closed:
                    return None
                self._changed.wait(pause if pause is None else min(pause, threading.TIMEOUT_MAX))


_open_dispatchers: Final[weakref.WeakSet[ThreadDispatcher]] = weakref.WeakSet()


@atexit.register
def _close_at_exit() -> None:
    deadline = time.monotonic() + _EXIT_TIMEOUT
    dispatchers = tuple(_open_dispatchers)
    for dispatcher in dispatchers:
        dispatcher._take_no_more()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # this module's own
    for dispatcher in dispatchers:
        if left := dispatcher.close(max(0.0, deadline - time.monotonic())):
            _logger.warning("%d jobs were not run before the process ended", len(left))


class AsyncTaskDispatcher:
    """Runs jobs in tasks of the running loop; the default of the async manager.

    At most `capacity` jobs wait or run, then `dispatch` raises ThrottledError; at most `concurrency` run at once.
    Keeps a reference to each task. Close the manager before the loop ends: `asyncio.run` cancels what is left, which is
    logged at once and reported by the next `close`. It is not for a loop made for one request; there, use a queue.
    """

    def __init__(self, *, capacity: int = 1000, concurrency: int = 10) -> None:
        self._capacity = check_whole("capacity", capacity, least=1)
        self._concurrency = check_whole("concurrency", concurrency, least=1)
        self._jobs: dict[asyncio.Task[None], _AsyncJob] = {}
        self._unrun: list[str] = []  # for close to report
        self._pauses: set[asyncio.Future[None]] = set()
        self._places: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}
        self._closed = False

    async def dispatch(
        self, job: str, run: Callable[[str], Awaitable[None]], /, *, delay: timedelta = timedelta(0)
    ) -> None:
        """See `Dispatcher.dispatch`. Raises RuntimeError after `close`."""
        import asyncio

        job = hidden(job)
        if self._closed:
            raise RuntimeError("this dispatcher is closed")
        self._forget_closed_loops()
        if len(self._jobs) >= self._capacity:
            raise ThrottledError(_RETRY_AFTER_FULL)
        self._place()
        entry = _AsyncJob(job)
        task = asyncio.get_running_loop().create_task(self._work(entry, run, delay.total_seconds()))
        self._jobs[task] = entry
        task.add_done_callback(self._done)

    async def close(self, timeout: float, /) -> Sequence[str]:
        """See `Dispatcher.close`. Jobs still in progress after `timeout` are cancelled and count as left."""
        import asyncio

        self._closed = True
        loop = asyncio.get_running_loop()
        for pause in self._pauses:
            if pause.get_loop() is loop:
                _wake(pause)
        jobs = {task: entry.job for task, entry in self._jobs.items() if task.get_loop() is loop}
        if jobs:
            await asyncio.wait(jobs, timeout=timeout)
        left = [task for task in jobs if not task.done()]
        for task in left:
            task.cancel()
        unrun, self._unrun = self._unrun, []
        return unrun + [jobs[task] for task in left]

    async def _work(self, entry: "_AsyncJob", run: Callable[[str], Awaitable[None]], delay: float) -> None:
        if delay > 0 and not self._closed:
            await self._pause(delay)
        async with self._place():
            entry.begun = True
            await run(entry.job)

    def _forget_closed_loops(self) -> None:
        """Jobs are looked through only when a loop has ended: their number must not slow each answer down."""
        closed = [loop for loop in self._places if loop.is_closed()]
        for loop in closed:
            del self._places[loop]
        if closed:
            for task in [task for task in self._jobs if task.get_loop().is_closed()]:
                self._keep_unrun(self._jobs.pop(task))

    def _place(self) -> "asyncio.Semaphore":
        """Where the jobs of the running loop queue."""
        import asyncio

        return self._places.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self._concurrency))

    async def _pause(self, delay: float) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        pause: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(delay, _wake, pause)
        self._pauses.add(pause)
        try:
            await pause
        finally:
            timer.cancel()
            self._pauses.discard(pause)

    def _done(self, task: "asyncio.Task[None]") -> None:
        entry = self._jobs.pop(task)
        if task.cancelled():
            self._keep_unrun(entry)
        elif (error := task.exception()) is not None:
            _logger.error("a job ended with %s", type(error).__name__)

    def _keep_unrun(self, entry: "_AsyncJob") -> None:
        """A job that begun reports itself; one that did not is for `close` to report."""
        if not entry.begun and not self._closed and len(self._unrun) < self._capacity:
            self._unrun.append(entry.job)
            _logger.error("a job was cancelled before it ran: close the manager before its event loop ends")


@dataclass(slots=True)
class _AsyncJob:
    job: str = field(repr=False)
    begun: bool = False


def _wake(pause: "asyncio.Future[None]") -> None:
    if not pause.done():
        pause.set_result(None)


class InlineDispatcher:
    """Runs each job at once, in the caller's path: for tests and development.

    In a visitor's request it shows who has an account, by the time that a mail takes. So a manager warns of it, with a
    RuntimeWarning, unless the mailer says ``sends_nothing = True``, as those for memory and console do. A `floor` makes
    every call last at least that long, which hides what is shorter and nothing else. A delay is not waited for.
    """

    def __init__(self, *, floor: timedelta | None = None) -> None:
        self._floor = 0.0 if floor is None else check_duration("floor", floor, whole=False).total_seconds()

    def dispatch(self, job: str, run: Callable[[str], None], /, *, delay: timedelta = timedelta(0)) -> None:
        """Run the job and return."""
        del delay
        job = hidden(job)
        ends = time.monotonic() + self._floor
        try:
            run(job)
        finally:
            time.sleep(max(0.0, ends - time.monotonic()))  # the floor itself

    def close(self, timeout: float, /) -> None:
        """Nothing is left to run."""


class AsyncInlineDispatcher:
    """`InlineDispatcher`, async."""

    def __init__(self, *, floor: timedelta | None = None) -> None:
        self._floor = 0.0 if floor is None else check_duration("floor", floor, whole=False).total_seconds()

    async def dispatch(
        self, job: str, run: Callable[[str], Awaitable[None]], /, *, delay: timedelta = timedelta(0)
    ) -> None:
        """Run the job and return."""
        import asyncio

        del delay
        job = hidden(job)
        ends = time.monotonic() + self._floor
        try:
            await run(job)
        finally:
            await asyncio.sleep(max(0.0, ends - time.monotonic()))

    async def close(self, timeout: float, /) -> None:
        """Nothing is left to run."""
