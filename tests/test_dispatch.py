"""How jobs leave the caller's path: threads, tasks, or at once. Each check must also catch a broken twin."""

import asyncio
import gc
import heapq
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from textwrap import dedent
from types import TracebackType
from typing import Any, Final, Self

import pytest

from harness import LINK
from resetkit import AsyncMailer, AsyncResetManager, Mail, Mailer, ResetManager, dispatch
from resetkit.dispatch import AsyncInlineDispatcher, AsyncTaskDispatcher, InlineDispatcher, ThreadDispatcher
from resetkit.errors import ConfigurationError, ThrottledError
from resetkit.mailers import AsyncConsoleMailer, AsyncMemoryMailer, ConsoleMailer, MemoryMailer
from resetkit.stores import AsyncMemoryTokenStore, MemoryTokenStore
from resetkit.testing import AsyncFailingMailer, AsyncFakeAccounts, FailingMailer, FakeAccounts

PATIENCE: Final = 30.0  # seconds until a test that waits gives up; far more than a loaded machine needs
GLANCE: Final = 0.1  # seconds to look for what must not happen
TWINS_PATIENCE: Final = 0.5  # seconds until a broken twin is taken to be stuck
HOUR: Final = timedelta(hours=1)
SOON: Final = timedelta(milliseconds=50)


class Work:
    """What jobs do: say that they begin, wait until they may end, say that they end."""

    def __init__(self, *, held: bool = False) -> None:
        self._changed = threading.Condition()
        self._held = held
        self.begun: list[str] = []
        self.ended: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.let_go()

    def __call__(self, job: str) -> None:
        with self._changed:
            self.begun.append(job)
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._held, PATIENCE)
            self.ended.append(job)
            self._changed.notify_all()

    def let_go(self) -> None:
        with self._changed:
            self._held = False
            self._changed.notify_all()

    def have_begun(self, count: int, patience: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: len(self.begun) >= count, patience)

    def have_ended(self, count: int, patience: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: len(self.ended) >= count, patience)


@contextmanager
def open_until_left(
    dispatcher: ThreadDispatcher, patience: float = PATIENCE
) -> Generator[ThreadDispatcher, None, None]:
    try:
        yield dispatcher
    finally:
        dispatcher.close(patience)


Factory = type[ThreadDispatcher]
Check = Callable[[Factory, float], None]

# --- ThreadDispatcher: where and when jobs run -----------------------------------------------------------------------


def check_other_thread(factory: Factory, patience: float = PATIENCE) -> None:
    ran_in: list[int] = []
    with open_until_left(factory(), patience) as dispatcher:
        dispatcher.dispatch("a", lambda _: ran_in.append(threading.get_ident()))
    assert len(ran_in) == 1
    assert ran_in[0] != threading.get_ident()


def test_jobs_run_off_the_callers_thread() -> None:
    """A job runs once, in a thread that is not the caller's."""
    check_other_thread(ThreadDispatcher)


def check_threads_come_with_first_job(factory: Factory, patience: float = PATIENCE) -> None:
    before = set(threading.enumerate())
    with open_until_left(factory(workers=3), patience) as dispatcher:
        assert set(threading.enumerate()) <= before
        dispatcher.dispatch("a", Work())
        started = set(threading.enumerate()) - before
        assert [thread.daemon for thread in started] == [True] * 3
        assert {thread.name for thread in started} == {"resetkit-0", "resetkit-1", "resetkit-2"}
    assert not any(thread.is_alive() for thread in started)


def test_one_worker_is_enough_where_the_system_has_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that cannot be started is an error only if there is none at all."""
    start, started = threading.Thread.start, list[threading.Thread]()

    def start_one(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    work = Work()
    with open_until_left(ThreadDispatcher(workers=2)) as dispatcher:
        monkeypatch.setattr(threading.Thread, "start", start_one)
        dispatcher.dispatch("a", work)
        dispatcher.dispatch("b", work)
        with open_until_left(ThreadDispatcher()) as other, pytest.raises(RuntimeError, match="thread"):
            other.dispatch("c", work)
        monkeypatch.undo()
    assert work.ended == ["a", "b"]


def test_tasks_of_closed_loops_take_no_place_and_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    """A loop that was closed without cancelling its tasks leaves jobs that nobody can run."""
    dispatcher, tasks, loop = AsyncTaskDispatcher(capacity=1), Tasks(), asyncio.new_event_loop()
    loop.run_until_complete(dispatcher.dispatch("stranded", tasks, delay=HOUR))
    (stranded,) = dispatcher._jobs
    loop.close()

    async def main() -> None:
        await dispatcher.dispatch("a", tasks)
        assert await dispatcher.close(PATIENCE) == ["stranded"]

    run_in_loop(main)
    assert tasks.ended == ["a"]
    coroutine: Any = stranded.get_coro()
    coroutine.close()  # so that nothing complains of a task that never ran,
    vars(asyncio.Task)["_log_destroy_pending"].__set__(stranded, False)  # nor of one destroyed while pending


def test_no_thread_before_the_first_job() -> None:
    """Making a dispatcher starts no thread, the first job starts `workers` daemons, closing ends them."""
    check_threads_come_with_first_job(ThreadDispatcher)


def check_at_most_workers(factory: Factory, patience: float = PATIENCE) -> None:
    with open_until_left(factory(workers=3), patience) as dispatcher, Work(held=True) as work:
        for job in "abcdef":
            dispatcher.dispatch(job, work)
        assert work.have_begun(3, patience)
        assert not work.have_begun(4, GLANCE)
        work.let_go()
        assert work.have_ended(6, patience)


def test_at_most_workers_run_at_once() -> None:
    """As many jobs as there are workers run at the same time, and never one more."""
    check_at_most_workers(ThreadDispatcher)


def test_workers_meet() -> None:
    """Jobs that can only end together do end: the workers run at once, not in turn."""
    together, work = threading.Barrier(4), Work()

    def meet(job: str) -> None:
        together.wait(PATIENCE)
        work(job)

    with open_until_left(ThreadDispatcher(workers=3)) as dispatcher:
        for job in "abc":
            dispatcher.dispatch(job, meet)
        together.wait(PATIENCE)
    assert sorted(work.ended) == ["a", "b", "c"]


def check_order_of_coming(factory: Factory, patience: float = PATIENCE) -> None:
    with open_until_left(factory(workers=1), patience) as dispatcher, Work(held=True) as work:
        dispatcher.dispatch("held", work)
        assert work.have_begun(1, patience)
        for job in "dacb":
            dispatcher.dispatch(job, work)
        work.let_go()
        assert work.have_ended(5, patience)
    assert work.ended == ["held", "d", "a", "c", "b"]


def test_jobs_begin_in_the_order_of_coming() -> None:
    """Jobs without a delay begin in the order in which they were dispatched."""
    check_order_of_coming(ThreadDispatcher)


def check_refuses_when_full(factory: Factory, patience: float = PATIENCE) -> None:
    with (
        ThreadPoolExecutor(1) as visitor,
        open_until_left(factory(workers=1, capacity=2), patience) as dispatcher,
        Work(held=True) as work,
    ):
        dispatcher.dispatch("running", work)
        assert work.have_begun(1, patience)
        dispatcher.dispatch("waiting", work)
        dispatcher.dispatch("delayed", work, delay=HOUR)
        for delay in (timedelta(0), HOUR):
            refused = visitor.submit(dispatcher.dispatch, "too many", work, delay=delay)
            error = error_of(refused, patience)
            assert isinstance(error, ThrottledError)
            assert error.retry_after >= 1
        work.let_go()
        assert work.have_ended(2, patience)
        dispatcher.dispatch("in again", work)
        assert work.have_ended(3, patience)
    assert work.ended == ["running", "waiting", "in again", "delayed"]


def error_of(call: Future[None], patience: float) -> BaseException | None:
    try:
        return call.exception(patience)
    except TimeoutError as still_blocked:
        return still_blocked


def test_full_queue_refuses_without_blocking() -> None:
    """When `capacity` jobs wait, delayed ones included, dispatch raises ThrottledError at once, until there is room."""
    check_refuses_when_full(ThreadDispatcher)


def check_delay_holds_no_worker(factory: Factory, patience: float = PATIENCE) -> None:
    work = Work()
    with open_until_left(factory(workers=1), patience) as dispatcher:
        dispatcher.dispatch("in an hour", work, delay=HOUR)
        for job in "abc":
            dispatcher.dispatch(job, work)
        assert work.have_ended(3, patience)
        assert work.ended == ["a", "b", "c"]


def test_delayed_job_holds_no_worker() -> None:
    """Jobs dispatched after a delayed one run before it, by the only worker that there is."""
    check_delay_holds_no_worker(ThreadDispatcher)


def check_not_before_its_time(factory: Factory, patience: float = PATIENCE) -> None:
    ran_at: list[float] = []
    work = Work()

    def note(job: str) -> None:
        ran_at.append(time.monotonic())
        work(job)

    with open_until_left(factory(workers=2), patience) as dispatcher:
        begin = time.monotonic()
        dispatcher.dispatch("soon", note, delay=SOON)
        assert work.have_ended(1, patience)
    assert ran_at[0] - begin >= SOON.total_seconds()


def test_delayed_job_runs_when_due() -> None:
    """A delayed job runs by itself, and not before its delay has passed."""
    check_not_before_its_time(ThreadDispatcher)


def check_due_job_finds_the_free_worker(factory: Factory, patience: float = PATIENCE) -> None:
    soon = Work()
    with open_until_left(factory(workers=2), patience) as dispatcher, Work(held=True) as work:
        dispatcher.dispatch("soon", soon, delay=SOON)
        dispatcher.dispatch("busy", work)
        assert work.have_begun(1, patience)
        assert soon.have_ended(1, patience)
        assert work.ended == []


def test_due_job_runs_beside_a_busy_worker() -> None:
    """Of two workers one is busy; the other, waiting for a delayed job, runs it when it is due."""
    check_due_job_finds_the_free_worker(ThreadDispatcher)


def test_sooner_job_overtakes_a_later_one() -> None:
    """A worker that waits for a far job wakes for a nearer one that comes after it."""
    work = Work()
    with open_until_left(ThreadDispatcher(workers=1)) as dispatcher:
        dispatcher.dispatch("in an hour", work, delay=HOUR)
        dispatcher.dispatch("soon", work, delay=SOON)
        assert work.have_ended(1, PATIENCE)
        assert work.ended == ["soon"]


# --- ThreadDispatcher: jobs that fail --------------------------------------------------------------------------------


class Surroundings:
    """What is entered for each job and left after it, with a list of what happened."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __enter__(self) -> Self:
        self.seen.append("in")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.seen.append("out")


def fail(job: str) -> None:
    raise LookupError(job)


def leave(job: str) -> None:
    raise SystemExit(job)


def check_around_each_job(factory: Factory, patience: float = PATIENCE) -> None:
    surroundings = Surroundings()

    def note(job: str) -> None:
        surroundings.seen.append(job)

    def note_and_fail(job: str) -> None:
        surroundings.seen.append(job)
        raise LookupError

    with open_until_left(factory(workers=1, around=lambda: surroundings), patience) as dispatcher:
        for job, run in (("a", note), ("b", note_and_fail), ("c", note)):
            dispatcher.dispatch(job, run)
    assert surroundings.seen == ["in", "a", "out", "in", "b", "out", "in", "c", "out"]


def test_around_is_entered_and_left_for_each_job() -> None:
    """`around` is entered before each job and left after it, also when the job raises."""
    check_around_each_job(ThreadDispatcher)


@pytest.mark.parametrize("error", [LookupError, SystemExit, KeyboardInterrupt])
def test_failing_around_leaves_the_job(error: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    """When `around` fails the job is not run: the log says so by type, close says which, the worker goes on."""
    errors = [error("secret@example.org")]
    work = Work()

    @contextmanager
    def around() -> Generator[None, None, None]:
        if errors:
            raise errors.pop()
        yield

    dispatcher = ThreadDispatcher(workers=1, around=around)
    for job in "ab":
        dispatcher.dispatch(job, work)
    assert work.have_ended(1, PATIENCE)
    assert dispatcher.close(PATIENCE) == ["a"]
    assert dispatcher.close(PATIENCE) == []
    assert work.ended == ["b"]
    assert lines(caplog) == [f"a job was not run, since around() failed with {error.__name__}"]


def test_jobs_that_around_refused_are_kept_in_bounds() -> None:
    """At most `capacity` jobs that were not run are kept for close to report."""
    tried = threading.Semaphore(0)

    def around() -> Surroundings:
        tried.release()
        raise LookupError

    dispatcher = ThreadDispatcher(workers=1, capacity=2, around=around)
    for number in range(5):
        dispatcher.dispatch(f"job {number}", Work())
        assert tried.acquire(timeout=PATIENCE)
    assert dispatcher.close(PATIENCE) == ["job 0", "job 1"]


def check_workers_outlive_jobs(factory: Factory, patience: float = PATIENCE) -> None:
    work = Work()
    with open_until_left(factory(workers=1), patience) as dispatcher:
        for run in (fail, leave, fail, leave, work):
            dispatcher.dispatch("a", run)
        assert work.have_ended(1, patience)


def test_worker_outlives_what_jobs_raise() -> None:
    """A job that raises, even SystemExit, ends itself and not the worker."""
    check_workers_outlive_jobs(ThreadDispatcher)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the package logged, with all that a formatter would add."""
    formatter = logging.Formatter("%(message)s")
    return [formatter.format(record) for record in caplog.records if record.name == "resetkit"]


def check_log_names_the_type_alone(factory: Factory, caplog: pytest.LogCaptureFixture) -> None:
    with open_until_left(factory(workers=1)) as dispatcher:
        for run in (fail, leave):
            dispatcher.dispatch("secret@example.org", run)
    assert lines(caplog) == ["a job ended with LookupError", "a job ended with SystemExit"]


def test_log_names_the_type_alone(caplog: pytest.LogCaptureFixture) -> None:
    """A failed job is logged with its error's type, without message, traceback or job."""
    check_log_names_the_type_alone(ThreadDispatcher, caplog)


# --- ThreadDispatcher: closing ---------------------------------------------------------------------------------------


def check_close_runs_delayed_jobs(factory: Factory, patience: float = PATIENCE) -> None:
    work, dispatcher = Work(), factory(workers=1)
    for job, delay in (("last", 3 * HOUR), ("second", 2 * HOUR), ("first", HOUR)):
        dispatcher.dispatch(job, work, delay=delay)
    assert dispatcher.close(patience) == []
    assert work.ended == ["first", "second", "last"]


def test_close_runs_delayed_jobs_at_once() -> None:
    """Closing cuts delays short, runs every job in the order of their times, and leaves none."""
    check_close_runs_delayed_jobs(ThreadDispatcher)


def check_close_says_what_is_left(factory: Factory, patience: float = PATIENCE) -> None:
    dispatcher = factory(workers=1)
    with Work(held=True) as work:
        dispatcher.dispatch("running", work)
        assert work.have_begun(1, patience)
        dispatcher.dispatch("delayed", work, delay=HOUR)
        dispatcher.dispatch("waiting", work)
        begin = time.monotonic()
        left = dispatcher.close(GLANCE)
        assert GLANCE <= time.monotonic() - begin < PATIENCE / 2
        assert left == ["running", "waiting", "delayed"]
        work.let_go()
        assert work.have_ended(1, patience)
    assert dispatcher.close(patience) == []
    assert work.ended == ["running"]


def test_close_gives_up_and_says_what_is_left() -> None:
    """With a stuck job, close returns after its timeout with the jobs running and waiting; these never run later."""
    check_close_says_what_is_left(ThreadDispatcher)


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_close_without_time_waits_for_nothing(timeout: float) -> None:
    """A timeout of nothing, or less, returns what is left at once; a second close does not report it again."""
    dispatcher = ThreadDispatcher(workers=1)
    with Work(held=True) as work:
        dispatcher.dispatch("running", work)
        assert work.have_begun(1, PATIENCE)
        assert dispatcher.close(timeout) == ["running"]
        assert dispatcher.close(timeout) == []  # it was reported
    assert dispatcher.close(PATIENCE) == []


def test_close_twice_is_harmless() -> None:
    """Closing an unused dispatcher, or one that was closed, returns no jobs."""
    dispatcher = ThreadDispatcher()
    assert dispatcher.close(PATIENCE) == []
    assert dispatcher.close(PATIENCE) == []


def test_two_threads_may_close() -> None:
    """Two closes at once both wait for the job in progress, and neither reports it as left."""
    dispatcher, started = ThreadDispatcher(workers=1), threading.Barrier(3)

    def close() -> Sequence[str]:
        started.wait(PATIENCE)
        return dispatcher.close(PATIENCE)

    with ThreadPoolExecutor(2) as pool, Work(held=True) as work:
        dispatcher.dispatch("running", work)
        assert work.have_begun(1, PATIENCE)
        closes = [pool.submit(close) for _ in range(2)]
        started.wait(PATIENCE)
        work.let_go()
        assert [each.result(PATIENCE) for each in closes] == [[], []]


def check_closed_takes_no_job(factory: Factory, patience: float = PATIENCE) -> None:
    dispatcher, work = factory(), Work()
    dispatcher.dispatch("before", work)
    dispatcher.close(patience)
    try:
        dispatcher.dispatch("after", work)
    except RuntimeError:
        pass
    else:
        raise AssertionError("a closed dispatcher took a job")
    assert work.ended == ["before"]


def test_closed_dispatcher_takes_no_job() -> None:
    """Dispatching after close raises RuntimeError."""
    check_closed_takes_no_job(ThreadDispatcher)


# --- ThreadDispatcher: broken twins ----------------------------------------------------------------------------------

Run = Callable[[str], None]
NOW: Final = timedelta(0)


class RunsInline(ThreadDispatcher):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        del self, delay
        run(job)


class StartsEarly(ThreadDispatcher):
    def _start_afresh(self) -> None:
        super()._start_afresh()
        for _ in range(self._workers):
            self._threads.append(threading.Thread(target=self._work, daemon=True))
            self._threads[-1].start()


class OneMoreWorker(ThreadDispatcher):
    def _start_afresh(self) -> None:
        super()._start_afresh()
        self._workers += 1


class OneLessWorker(OneMoreWorker):
    def _start_afresh(self) -> None:
        super()._start_afresh()
        self._workers -= 2


class LastComeFirstServed(ThreadDispatcher):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        with self._changed:
            super().dispatch(job, run, delay=delay)
            newest = max(self._waiting, key=lambda entry: entry.order)
            newest.due = -float(newest.order)
            heapq.heapify(self._waiting)


class OneMorePlace(ThreadDispatcher):
    def _start_afresh(self) -> None:
        super()._start_afresh()
        self._capacity += 1


class DelayedTakeNoPlace(ThreadDispatcher):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        super().dispatch(job, run, delay=delay)
        self._capacity += bool(delay)


class BlocksWhenFull(ThreadDispatcher):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._capacity, PATIENCE)
        super().dispatch(job, run, delay=delay)


class IgnoresDelays(ThreadDispatcher):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        del delay
        super().dispatch(job, run)


class WaitsInTheWorker(ThreadDispatcher):
    def _start_afresh(self) -> None:
        super()._start_afresh()
        self._hurry = threading.Event()

    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        def wait_and_run(job: str) -> None:
            self._hurry.wait(delay.total_seconds())
            run(job)

        super().dispatch(job, wait_and_run)

    def close(self, timeout: float, /) -> Sequence[str]:
        self._hurry.set()
        return super().close(timeout)


class DelayedOnlyAtClose(ThreadDispatcher):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        super().dispatch(job, run, delay=HOUR if delay else NOW)


class StaysInAround(ThreadDispatcher):
    def _work(self) -> None:
        while (entry := self._take()) is not None:
            surroundings = self._around()
            surroundings.__enter__()
            try:
                entry.run(entry.job)
                surroundings.__exit__(None, None, None)
            except LookupError:
                pass
            finally:
                with self._changed:
                    self._running.remove(entry)
                    self._changed.notify_all()


class EndsWithSystemExit(ThreadDispatcher):
    def _work(self) -> None:
        while (entry := self._take()) is not None:
            try:
                entry.run(entry.job)
            except LookupError:
                pass
            except SystemExit:
                return
            finally:
                with self._changed:
                    self._running.remove(entry)


class DropsDelayedAtClose(ThreadDispatcher):
    def close(self, timeout: float, /) -> Sequence[str]:
        with self._changed:
            self._waiting.clear()
        return super().close(timeout)


class SaysNothingIsLeft(ThreadDispatcher):
    def close(self, timeout: float, /) -> Sequence[str]:
        super().close(timeout)
        return []


class SaysOnlyWhatWaits(ThreadDispatcher):
    def close(self, timeout: float, /) -> Sequence[str]:
        running = {entry.job for entry in self._running}
        return [job for job in super().close(timeout) if job not in running]


class RunsWhatItGaveBack(ThreadDispatcher):
    def close(self, timeout: float, /) -> Sequence[str]:
        waiting = list(self._waiting)
        left = super().close(timeout)
        self._waiting.extend(waiting if left else [])
        return left


class TakesJobsWhenClosed(ThreadDispatcher):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        if not self._closed:
            super().dispatch(job, run, delay=delay)


@pytest.mark.parametrize(
    ("check", "twin"),
    [
        (check_other_thread, RunsInline),
        (check_threads_come_with_first_job, StartsEarly),
        (check_threads_come_with_first_job, OneLessWorker),
        (check_at_most_workers, OneMoreWorker),
        (check_at_most_workers, OneLessWorker),
        (check_order_of_coming, LastComeFirstServed),
        (check_refuses_when_full, OneMorePlace),
        (check_refuses_when_full, DelayedTakeNoPlace),
        (check_refuses_when_full, BlocksWhenFull),
        (check_delay_holds_no_worker, IgnoresDelays),
        (check_delay_holds_no_worker, WaitsInTheWorker),
        (check_not_before_its_time, IgnoresDelays),
        (check_not_before_its_time, DelayedOnlyAtClose),
        (check_due_job_finds_the_free_worker, OneLessWorker),
        (check_due_job_finds_the_free_worker, DelayedOnlyAtClose),
        (check_around_each_job, StaysInAround),
        (check_workers_outlive_jobs, EndsWithSystemExit),
        (check_close_runs_delayed_jobs, DropsDelayedAtClose),
        (check_close_says_what_is_left, SaysNothingIsLeft),
        (check_close_says_what_is_left, SaysOnlyWhatWaits),
        (check_close_says_what_is_left, RunsWhatItGaveBack),
        (check_closed_takes_no_job, TakesJobsWhenClosed),
    ],
)
def test_broken_twin_is_caught(check: Check, twin: Factory) -> None:
    """Each check fails for a dispatcher that breaks what it checks."""
    with pytest.raises(AssertionError):
        check(twin, TWINS_PATIENCE)


class LogsMore(ThreadDispatcher):
    """Says the right sentence, with a traceback."""

    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        def run_and_tell(job: str) -> None:
            try:
                run(job)
            except BaseException as error:  # broken
                logging.getLogger("resetkit").exception("a job ended with %s", type(error).__name__)

        super().dispatch(job, run_and_tell, delay=delay)


class LogsNothing(ThreadDispatcher):
    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        def run_in_silence(job: str) -> None:
            with suppress(BaseException):
                run(job)

        super().dispatch(job, run_in_silence, delay=delay)


@pytest.mark.parametrize("twin", [LogsMore, LogsNothing])
def test_broken_log_is_caught(twin: Factory, caplog: pytest.LogCaptureFixture) -> None:
    """The check fails for a dispatcher that logs more than the type of an error, or nothing."""
    with pytest.raises(AssertionError):
        check_log_names_the_type_alone(twin, caplog)


# --- ThreadDispatcher: the end of the process, and forks -------------------------------------------------------------


def run_script(script: str) -> "subprocess.CompletedProcess[str]":
    """Run it in a process of its own. Since Python 3.12 a fork beside threads is a DeprecationWarning."""
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_exit_drains_the_queue() -> None:
    """When the process ends, jobs in the queue are still run, delayed ones too."""
    ended = run_script("""
        import atexit, threading
        from datetime import timedelta
        from resetkit.dispatch import ThreadDispatcher

        dispatcher, began, may_end = ThreadDispatcher(workers=1), threading.Event(), threading.Event()

        def hold(job):
            began.set()
            may_end.wait(30)
            print(job)

        dispatcher.dispatch("running", hold)
        dispatcher.dispatch("delayed", print, delay=timedelta(hours=1))
        dispatcher.dispatch("waiting", print)
        assert began.wait(30)
        atexit.register(may_end.set)  # called before what was registered earlier
        print("end of the script")
    """)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.split("\n") == ["end of the script", "running", "waiting", "delayed", ""]


def test_exit_gives_up_on_a_stuck_job() -> None:
    """A stuck job does not keep the process: after a time it ends, with a count and no name in its log."""
    ended = run_script("""
        import logging, threading
        from resetkit import dispatch

        logging.basicConfig()
        dispatch._EXIT_TIMEOUT = 0.1
        dispatcher, began = dispatch.ThreadDispatcher(workers=1), threading.Event()

        def hold(job):
            began.set()
            threading.Event().wait()

        dispatcher.dispatch("secret@example.org", hold)
        dispatcher.dispatch("secret@example.org", print)
        assert began.wait(30)
    """)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "WARNING:resetkit:2 jobs were not run before the process ended\n"


def test_exit_closes_every_dispatcher(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The hook for the exit closes each living dispatcher, and reports only those that leave jobs."""
    quick, slow, work = ThreadDispatcher(), ThreadDispatcher(workers=1), Work()
    monkeypatch.setattr(dispatch, "_open_dispatchers", weakref.WeakSet([quick, slow]))
    monkeypatch.setattr(dispatch, "_EXIT_TIMEOUT", GLANCE)
    with Work(held=True) as held:
        quick.dispatch("delayed", work, delay=HOUR)
        slow.dispatch("stuck", held)
        assert held.have_begun(1, PATIENCE)
        dispatch._close_at_exit()
    assert work.ended == ["delayed"]
    assert lines(caplog) == ["1 jobs were not run before the process ended"]
    assert slow.close(PATIENCE) == []


def check_exit_is_bounded(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = [factory(workers=1) for _ in range(20)]
    monkeypatch.setattr(dispatch, "_open_dispatchers", weakref.WeakSet(stuck))
    monkeypatch.setattr(dispatch, "_EXIT_TIMEOUT", GLANCE)
    with Work(held=True) as held:
        for dispatcher in stuck:
            dispatcher.dispatch("stuck", held)
        assert held.have_begun(20, PATIENCE)
        begin = time.monotonic()
        dispatch._close_at_exit()
        assert time.monotonic() - begin < 10 * GLANCE
    for dispatcher in stuck:
        dispatcher.close(PATIENCE)


def test_exit_waits_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty dispatchers with stuck jobs delay the exit by its time limit, not by twenty of them."""
    check_exit_is_bounded(ThreadDispatcher, monkeypatch)


class TakesItsTime(ThreadDispatcher):
    def close(self, timeout: float, /) -> Sequence[str]:
        return super().close(max(timeout, GLANCE))


def test_broken_exit_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check fails for dispatchers that each take the whole time."""
    with pytest.raises(AssertionError):
        check_exit_is_bounded(TakesItsTime, monkeypatch)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is for POSIX")


@needs_fork
def test_child_has_its_own_queue() -> None:
    """After a fork the child's queue is empty and runs the child's jobs; the parent's run in the parent alone."""
    ended = run_script("""
        import os, signal, threading
        from datetime import timedelta
        from resetkit.dispatch import ThreadDispatcher

        dispatcher, began, may_end = ThreadDispatcher(workers=1, capacity=2), threading.Event(), threading.Event()
        parent = os.getpid()

        def say(job):
            os.write(1, f"{job} in the {'parent' if os.getpid() == parent else 'child'}\\n".encode())

        def hold(job):
            began.set()
            may_end.wait(30)
            say(job)

        dispatcher.dispatch("parent's first", hold)
        assert began.wait(30)
        dispatcher.dispatch("parent's second", say)
        dispatcher.dispatch("parent's third", say, delay=timedelta(hours=1))  # its queue is full now
        child = os.fork()
        if not child:
            signal.alarm(20)  # a deadlock ends here
            dispatcher.dispatch("child's", say)
            os._exit(len(dispatcher.close(10)))
        _, status = os.waitpid(child, 0)
        may_end.set()
        left = dispatcher.close(10)
        os.write(1, f"{status} {left}\\n".encode())
    """)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.split("\n") == [
        "child's in the child",
        "parent's first in the parent",
        "parent's second in the parent",
        "parent's third in the parent",
        "0 []",
        "",
    ]


@needs_fork
def test_fork_while_a_thread_holds_the_lock() -> None:
    """A child forked while another thread was in a call can dispatch, and drains its queue when it ends."""
    ended = run_script("""
        import os, signal, sys, threading
        from resetkit.dispatch import ThreadDispatcher

        dispatcher, held, done = ThreadDispatcher(), threading.Event(), threading.Event()

        def hold():
            with dispatcher._changed:
                held.set()
                done.wait(30)

        threading.Thread(target=hold).start()
        assert held.wait(30)
        child = os.fork()
        if not child:
            signal.alarm(20)  # a deadlock ends here
            dispatcher.dispatch("a job in the child", lambda job: os.write(1, job.encode()))
            sys.exit(7)
        _, status = os.waitpid(child, 0)
        done.set()
        os.write(1, f", status {status >> 8}".encode())
    """)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "a job in the child, status 7", "")


def made(make: Callable[..., object], **numbers: object) -> object:
    """What `make` returns for arguments of types that it does not take."""
    return make(**numbers)


@pytest.mark.parametrize("name", ["workers", "capacity"])
@pytest.mark.parametrize("number", [0, -1, True, 1.5, "2", None])
def test_thread_numbers_must_be_positive(name: str, number: object) -> None:
    """A number of workers or places that is no whole number of at least 1 is refused."""
    with pytest.raises(ConfigurationError, match=f"^{name} must be "):
        made(ThreadDispatcher, **{name: number})


def test_one_is_the_least_and_the_defaults_are_the_documented_ones() -> None:
    """The smallest numbers are taken; the defaults are two workers, ten tasks, a thousand places."""
    smallest, threads = ThreadDispatcher(workers=1, capacity=1), ThreadDispatcher()
    assert (smallest._workers, smallest._capacity) == (1, 1)
    assert (threads._workers, threads._capacity) == (2, 1000)
    few, tasks = AsyncTaskDispatcher(capacity=1, concurrency=1), AsyncTaskDispatcher()
    assert (few._capacity, few._concurrency) == (1, 1)
    assert (tasks._capacity, tasks._concurrency) == (1000, 10)


def test_around_must_be_callable() -> None:
    """What is no function is refused by its name."""
    with pytest.raises(ConfigurationError, match=r"^around must be a function"):
        made(ThreadDispatcher, around=5)


# --- AsyncTaskDispatcher ---------------------------------------------------------------------------------------------

AsyncFactory = type[AsyncTaskDispatcher]
AsyncCheck = Callable[[AsyncFactory], None]
AsyncRun = Callable[[str], Awaitable[None]]


class Tasks:
    """`Work` for tasks, in one loop."""

    def __init__(self, *, held: bool = False) -> None:
        self._may_end = asyncio.Event()
        if not held:
            self._may_end.set()
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []

    async def __call__(self, job: str) -> None:
        self.begun.append(job)
        try:
            await self._may_end.wait()
        except asyncio.CancelledError:
            self.cancelled.append(job)
            raise
        self.ended.append(job)

    def let_go(self) -> None:
        self._may_end.set()


async def others_run() -> None:
    """Let every task go as far as it gets without the outside."""
    for _ in range(50):
        await asyncio.sleep(0)


def run_in_loop(main: Callable[[], Awaitable[None]]) -> None:
    async def within_bounds() -> None:
        async with asyncio.timeout(PATIENCE):
            await main()

    asyncio.run(within_bounds())


def check_tasks_are_kept(factory: AsyncFactory) -> None:
    async def main() -> None:
        dispatcher, waits, ended = factory(), list[weakref.ref[asyncio.Future[None]]](), list[str]()

        async def run(job: str) -> None:
            future = asyncio.get_running_loop().create_future()
            waits.append(weakref.ref(future))
            await future  # nothing but this task refers to it
            ended.append(job)

        await dispatcher.dispatch("a", run)
        await others_run()
        gc.collect()
        future = waits[0]()
        assert future is not None
        future.set_result(None)
        del future
        assert await dispatcher.close(PATIENCE) == []
        assert ended == ["a"]

    run_in_loop(main)


def test_tasks_are_kept_from_the_collector() -> None:
    """A job that nothing else refers to is not collected while it waits."""
    check_tasks_are_kept(AsyncTaskDispatcher)


def check_jobs_leave_the_callers_path(factory: AsyncFactory) -> None:
    async def main() -> None:
        dispatcher, tasks = factory(), Tasks()
        await dispatcher.dispatch("a", tasks)
        assert tasks.begun == []
        assert await dispatcher.close(PATIENCE) == []
        assert tasks.ended == ["a"]

    run_in_loop(main)


def test_dispatch_does_not_run_the_job() -> None:
    """The job begins after dispatch has returned, in a task of its own."""
    check_jobs_leave_the_callers_path(AsyncTaskDispatcher)


def check_task_capacity(factory: AsyncFactory) -> None:
    async def main() -> None:
        dispatcher, tasks = factory(capacity=3, concurrency=1), Tasks(held=True)
        for job, delay in (("running", NOW), ("waiting", NOW), ("delayed", HOUR)):
            await dispatcher.dispatch(job, tasks, delay=delay)
        try:
            await dispatcher.dispatch("too many", tasks)
        except ThrottledError as error:
            assert error.retry_after >= 1  # noqa: PT017  # the twin must end in an AssertionError
        else:
            raise AssertionError("there was no room")
        tasks.let_go()
        await others_run()
        assert tasks.ended == ["running", "waiting"]
        await dispatcher.dispatch("in again", tasks)
        assert await dispatcher.close(PATIENCE) == []
        assert "too many" not in tasks.begun

    run_in_loop(main)


def test_full_dispatcher_refuses() -> None:
    """When `capacity` jobs wait or run, delayed ones included, dispatch raises ThrottledError, until there is room."""
    check_task_capacity(AsyncTaskDispatcher)


def check_concurrency(factory: AsyncFactory) -> None:
    async def main() -> None:
        dispatcher, tasks = factory(concurrency=3), Tasks(held=True)
        for job in "abcdef":
            await dispatcher.dispatch(job, tasks)
        await others_run()
        assert tasks.begun == ["a", "b", "c"]
        tasks.let_go()
        assert await dispatcher.close(PATIENCE) == []
        assert sorted(tasks.ended) == ["a", "b", "c", "d", "e", "f"]

    run_in_loop(main)


def test_at_most_concurrency_run_at_once() -> None:
    """As many jobs as `concurrency` says run at the same time, and never one more."""
    check_concurrency(AsyncTaskDispatcher)


def check_delay_holds_no_place(factory: AsyncFactory) -> None:
    async def main() -> None:
        dispatcher, tasks = factory(concurrency=1), Tasks()
        await dispatcher.dispatch("in an hour", tasks, delay=HOUR)
        await dispatcher.dispatch("now", tasks)
        await others_run()
        assert tasks.ended == ["now"]
        assert await dispatcher.close(PATIENCE) == []
        assert tasks.ended == ["now", "in an hour"]

    run_in_loop(main)


def test_close_cuts_delays_short() -> None:
    """A delayed job lets others pass, and is run at once when the dispatcher is closed."""
    check_delay_holds_no_place(AsyncTaskDispatcher)


def test_close_cuts_a_delay_short_that_has_not_begun() -> None:
    """The same when close comes so soon after dispatch that the loop has not run the task yet."""

    async def main() -> None:
        dispatcher, tasks = AsyncTaskDispatcher(), Tasks()
        await dispatcher.dispatch("in an hour", tasks, delay=HOUR)
        assert await dispatcher.close(GLANCE) == []
        assert tasks.ended == ["in an hour"]

    run_in_loop(main)


def test_close_leaves_the_delays_of_other_loops_alone() -> None:
    """A job that waits in another loop is that loop's to wake: asyncio's futures belong to one thread."""
    dispatcher, tasks, other = AsyncTaskDispatcher(), Tasks(), asyncio.new_event_loop()
    other.run_until_complete(dispatcher.dispatch("waiting", tasks, delay=HOUR))
    other.run_until_complete(others_run())

    async def close() -> None:
        assert await dispatcher.close(0) == []

    run_in_loop(close)
    assert tasks.ended == []
    other.run_until_complete(dispatcher.close(PATIENCE))
    assert tasks.ended == ["waiting"]
    other.close()


def test_cut_delay_leaves_nothing_behind() -> None:
    """A delay that was cut short leaves no timer in the loop and no job in the dispatcher."""

    async def main() -> None:
        dispatcher = AsyncTaskDispatcher()
        await dispatcher.dispatch("in an hour", Tasks(), delay=HOUR)
        await others_run()
        (pause,) = [weakref.ref(pause) for pause in dispatcher._pauses]
        assert await dispatcher.close(PATIENCE) == []
        await others_run()
        gc.collect()
        assert pause() is None
        assert not dispatcher._jobs

    run_in_loop(main)


def check_task_runs_when_due(factory: AsyncFactory) -> None:
    async def main() -> None:
        dispatcher, ran = factory(), asyncio.Event()
        loop = asyncio.get_running_loop()
        ran_at: list[float] = []

        async def run(_: str) -> None:
            ran_at.append(loop.time())
            ran.set()

        begin = loop.time()
        await dispatcher.dispatch("soon", run, delay=SOON)
        await others_run()
        async with asyncio.timeout(1):
            await ran.wait()
        assert ran_at[0] - begin >= SOON.total_seconds() - tick()
        await dispatcher.close(PATIENCE)

    try:
        run_in_loop(main)
    except TimeoutError as late:
        raise AssertionError("it was not run when due") from late


def tick() -> float:
    """By how much a timer may come early: the clock's own step."""
    return time.get_clock_info("monotonic").resolution


def test_delayed_task_runs_when_due() -> None:
    """A delayed job runs by itself, and not before its delay has passed."""
    check_task_runs_when_due(AsyncTaskDispatcher)


def check_close_cancels_what_is_left(factory: AsyncFactory) -> None:
    async def main() -> None:
        dispatcher, tasks, quick = factory(concurrency=2), Tasks(held=True), Tasks()
        await dispatcher.dispatch("quick", quick, delay=HOUR)
        for job in ("stuck", "also stuck", "waiting"):
            await dispatcher.dispatch(job, tasks)
        await others_run()
        begin = time.monotonic()
        left = await dispatcher.close(GLANCE)
        assert time.monotonic() - begin < PATIENCE / 2
        assert left == ["quick", "stuck", "also stuck", "waiting"]
        await others_run()
        assert sorted(tasks.cancelled) == ["also stuck", "stuck"]
        assert "waiting" not in tasks.begun
        assert quick.begun == []
        assert await dispatcher.close(PATIENCE) == []

    run_in_loop(main)


def test_close_cancels_what_is_left() -> None:
    """After its timeout close cancels the jobs still in progress or waiting for a place, and returns them."""
    check_close_cancels_what_is_left(AsyncTaskDispatcher)


def test_close_leaves_out_what_ended() -> None:
    """What ends within the timeout is not among the jobs that close returns."""

    async def main() -> None:
        dispatcher, stuck, quick = AsyncTaskDispatcher(), Tasks(held=True), Tasks()
        await dispatcher.dispatch("stuck", stuck)
        await dispatcher.dispatch("quick", quick)
        assert await dispatcher.close(GLANCE) == ["stuck"]
        assert quick.ended == ["quick"]

    run_in_loop(main)


def test_two_tasks_may_close() -> None:
    """Two closes at once both wait for the delayed job that they woke, and neither reports it as left."""

    async def main() -> None:
        dispatcher, tasks = AsyncTaskDispatcher(), Tasks()
        await dispatcher.dispatch("in an hour", tasks, delay=HOUR)
        await others_run()
        for left in await asyncio.gather(dispatcher.close(PATIENCE), dispatcher.close(PATIENCE)):
            assert left == []
        assert tasks.ended == ["in an hour"]

    run_in_loop(main)


async def fail_later(job: str) -> None:
    await asyncio.sleep(0)
    raise LookupError(job)


def check_failure_goes_nowhere(factory: AsyncFactory) -> None:
    complaints: list[object] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        dispatcher, tasks = factory(concurrency=1), Tasks()
        await dispatcher.dispatch("secret@example.org", fail_later)
        await dispatcher.dispatch("next", tasks)
        assert await dispatcher.close(PATIENCE) == []
        assert tasks.ended == ["next"]
        await others_run()
        gc.collect()  # a task whose error nobody took complains when it is collected

    run_in_loop(main)
    assert complaints == []


def test_failed_task_is_logged_by_type_alone(caplog: pytest.LogCaptureFixture) -> None:
    """A job's exception is raised nowhere, is not the loop's affair, and is logged without message or job."""
    check_failure_goes_nowhere(AsyncTaskDispatcher)
    assert lines(caplog) == ["a job ended with LookupError"]


def check_closed_takes_no_task(factory: AsyncFactory) -> None:
    async def main() -> None:
        dispatcher, tasks = factory(), Tasks()
        assert await dispatcher.close(PATIENCE) == []
        try:
            await dispatcher.dispatch("after", tasks)
        except RuntimeError:
            pass
        else:
            raise AssertionError("a closed dispatcher took a job")
        await others_run()
        assert tasks.begun == []

    run_in_loop(main)


def test_closed_task_dispatcher_takes_no_job() -> None:
    """Dispatching after close raises RuntimeError; closing twice, or unused, is harmless."""
    check_closed_takes_no_task(AsyncTaskDispatcher)


def check_loops_in_turn(factory: AsyncFactory) -> None:
    dispatcher, ended = factory(concurrency=1), list[str]()

    async def main() -> None:
        tasks = Tasks(held=True)
        for job in "abc":
            await dispatcher.dispatch(job, tasks)
        await others_run()
        assert tasks.begun == ["a"]
        tasks.let_go()
        await others_run()
        ended.extend(tasks.ended)

    try:
        for _ in range(3):
            run_in_loop(main)
    except RuntimeError as error:
        raise AssertionError("bound to another loop") from error
    assert ended == ["a", "b", "c"] * 3


def test_one_dispatcher_serves_several_loops_in_turn(caplog: pytest.LogCaptureFixture) -> None:
    """One dispatcher works in several `asyncio.run` calls, one after the other, with all places taken in each."""
    check_loops_in_turn(AsyncTaskDispatcher)
    assert caplog.records == []


def check_ended_loop_frees_places(factory: AsyncFactory) -> None:
    dispatcher = factory(capacity=3, concurrency=1)

    async def main() -> None:
        tasks = Tasks(held=True)
        try:
            for job, delay in (("stuck", NOW), ("waiting", NOW), ("delayed", HOUR)):
                await dispatcher.dispatch(job, tasks, delay=delay)
        except ThrottledError as error:
            raise AssertionError("the last loop's jobs still take places") from error
        await others_run()
        assert tasks.begun == ["stuck"]

    async def close() -> None:
        left = await dispatcher.close(PATIENCE)
        assert sorted(left) in (["delayed", "delayed", "waiting"], ["delayed", "waiting", "waiting"])  # 3 at the most
        assert await dispatcher.close(PATIENCE) == []

    for _ in range(3):
        run_in_loop(main)
    run_in_loop(close)


def test_ended_loop_frees_its_places(caplog: pytest.LogCaptureFixture) -> None:
    """Jobs whose loop ended take no place in the next; those that never began are logged, and reported by close."""
    check_ended_loop_frees_places(AsyncTaskDispatcher)
    assert lines(caplog) == ["a job was cancelled before it ran: close the manager before its event loop ends"] * 3


def check_waiting_jobs_slow_no_answer(factory: AsyncFactory) -> None:
    class AskedLoop(asyncio.SelectorEventLoop):
        asked = 0

        def is_closed(self) -> bool:
            self.asked += 1
            return super().is_closed()

    dispatcher = factory(capacity=200)

    async def main() -> int:
        tasks = Tasks()
        for number in range(200):
            await dispatcher.dispatch(str(number), tasks, delay=HOUR)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, AskedLoop)
        asked = loop.asked
        await dispatcher.close(PATIENCE)
        return asked

    with asyncio.Runner(loop_factory=AskedLoop) as runner:
        assert runner.run(main()) <= 3 * 200


def test_waiting_jobs_slow_no_answer() -> None:
    """To hand a job over costs the same, however many wait: how busy others keep the site is nobody's business."""
    check_waiting_jobs_slow_no_answer(AsyncTaskDispatcher)


def test_ended_loops_do_not_add_up() -> None:
    """A dispatcher that outlives its loops forgets each at the next one's first job."""
    dispatcher, loops = AsyncTaskDispatcher(concurrency=1), list[weakref.ref[asyncio.AbstractEventLoop]]()

    async def main() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        tasks = Tasks(held=True)
        for job in "ab":
            await dispatcher.dispatch(job, tasks)
        await others_run()
        tasks.let_go()
        await others_run()
        assert tasks.ended == ["a", "b"]

    for _ in range(3):
        run_in_loop(main)
    gc.collect()
    assert [loop() is None for loop in loops] == [True, True, False]


def test_a_very_long_delay_keeps_the_worker() -> None:
    """A pause longer than the system can wait is waited for in parts."""
    work = Work()
    with open_until_left(ThreadDispatcher(workers=1)) as dispatcher:
        dispatcher.dispatch("far", work, delay=timedelta(days=200_000))
        dispatcher.dispatch("now", work)
        assert work.have_begun(1, PATIENCE)
        assert work.ended[:1] in ([], ["now"])
    assert work.ended == ["now", "far"]


def test_a_job_may_close_its_own_dispatcher() -> None:
    """It does not wait for itself for ever, nor fail."""
    dispatcher, left, closed = ThreadDispatcher(workers=1), list[str](), threading.Event()

    def run(job: str) -> None:
        left.extend(dispatcher.close(0.01))
        closed.set()

    dispatcher.dispatch("closing", run)
    assert closed.wait(PATIENCE)
    assert left == ["closing"]


# --- AsyncTaskDispatcher: broken twins -------------------------------------------------------------------------------


class KeepsNoReference(AsyncTaskDispatcher):
    def __init__(self, *, capacity: int = 1000, concurrency: int = 10) -> None:
        super().__init__(capacity=capacity, concurrency=concurrency)
        self._jobs = weakref.WeakKeyDictionary()  # type: ignore[assignment]  # broken


class RunsAtOnce(AsyncTaskDispatcher):
    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        del self, delay
        await run(job)


class OneMoreTask(AsyncTaskDispatcher):
    def __init__(self, *, capacity: int = 1000, concurrency: int = 10) -> None:
        super().__init__(capacity=capacity + 1, concurrency=concurrency)


class OneMoreAtOnce(AsyncTaskDispatcher):
    def __init__(self, *, capacity: int = 1000, concurrency: int = 10) -> None:
        super().__init__(capacity=capacity, concurrency=concurrency + 1)


class WaitsInItsPlace(AsyncTaskDispatcher):
    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        async def wait_and_run(job: str) -> None:
            if delay:
                await self._pause(delay.total_seconds())
            await run(job)

        await super().dispatch(job, wait_and_run)


class NeverHurries(AsyncTaskDispatcher):
    async def _pause(self, delay: float) -> None:
        await asyncio.sleep(min(delay, 2 * GLANCE))

    async def close(self, timeout: float, /) -> Sequence[str]:
        return await super().close(min(timeout, GLANCE))


class NeverWaits(AsyncTaskDispatcher):
    async def _pause(self, delay: float) -> None:
        """Go on at once."""


class WaitsForEver(AsyncTaskDispatcher):
    async def _pause(self, delay: float) -> None:
        del delay
        await super()._pause(HOUR.total_seconds())


class CancelsNothing(AsyncTaskDispatcher):
    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        async def run_on(job: str) -> None:
            await asyncio.shield(asyncio.ensure_future(run(job)))

        await super().dispatch(job, run_on, delay=delay)


class SaysNothingIsCancelled(AsyncTaskDispatcher):
    async def close(self, timeout: float, /) -> Sequence[str]:
        await super().close(timeout)
        return []


class LeavesErrorsToTheLoop(AsyncTaskDispatcher):
    def _done(self, task: "asyncio.Task[None]") -> None:
        del self._jobs[task]


class TakesTasksWhenClosed(AsyncTaskDispatcher):
    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        if not self._closed:
            await super().dispatch(job, run, delay=delay)


class OneSemaphore(AsyncTaskDispatcher):
    def __init__(self, *, capacity: int = 1000, concurrency: int = 10) -> None:
        super().__init__(capacity=capacity, concurrency=concurrency)
        self._the_only = asyncio.Semaphore(concurrency)

    async def dispatch(self, job: str, run: AsyncRun, /, *, delay: timedelta = NOW) -> None:
        self._places[asyncio.get_running_loop()] = self._the_only
        await super().dispatch(job, run, delay=delay)


class LooksThroughAllJobs(AsyncTaskDispatcher):
    def _forget_closed_loops(self) -> None:
        for task in [task for task in self._jobs if task.get_loop().is_closed()]:
            self._keep_unrun(self._jobs.pop(task))


class KeepsEndedJobs(AsyncTaskDispatcher):
    """Forgets nothing: neither jobs that ended nor loops that did."""

    async def dispatch(
        self, job: str, run: Callable[[str], Awaitable[None]], /, *, delay: timedelta = timedelta(0)
    ) -> None:
        if len(self._jobs) + len(self._unrun) >= self._capacity:
            raise ThrottledError(5)
        await super().dispatch(job, run, delay=delay)


@pytest.mark.parametrize(
    ("check", "twin"),
    [
        (check_tasks_are_kept, KeepsNoReference),
        (check_jobs_leave_the_callers_path, RunsAtOnce),
        (check_task_capacity, OneMoreTask),
        (check_concurrency, OneMoreAtOnce),
        (check_delay_holds_no_place, WaitsInItsPlace),
        (check_delay_holds_no_place, NeverHurries),
        (check_delay_holds_no_place, NeverWaits),
        (check_task_runs_when_due, NeverWaits),
        (check_task_runs_when_due, WaitsForEver),
        (check_close_cancels_what_is_left, CancelsNothing),
        (check_close_cancels_what_is_left, SaysNothingIsCancelled),
        (check_failure_goes_nowhere, LeavesErrorsToTheLoop),
        (check_closed_takes_no_task, TakesTasksWhenClosed),
        (check_loops_in_turn, OneSemaphore),
        (check_ended_loop_frees_places, KeepsEndedJobs),
        (check_waiting_jobs_slow_no_answer, LooksThroughAllJobs),
    ],
)
def test_broken_async_twin_is_caught(check: AsyncCheck, twin: AsyncFactory) -> None:
    """Each check fails for a dispatcher that breaks what it checks."""
    with pytest.raises(AssertionError):
        check(twin)


@pytest.mark.parametrize("name", ["capacity", "concurrency"])
@pytest.mark.parametrize("number", [0, -1, True, 1.5, "2", None])
def test_task_numbers_must_be_positive(name: str, number: object) -> None:
    """A number of places or of jobs at once that is no whole number of at least 1 is refused."""
    with pytest.raises(ConfigurationError, match=f"^{name} must be "):
        made(AsyncTaskDispatcher, **{name: number})


# --- InlineDispatcher and AsyncInlineDispatcher ----------------------------------------------------------------------

FLOOR: Final = timedelta(milliseconds=20)


class DrivenInline:
    """`AsyncInlineDispatcher` behind the sync port, so that one suite serves both."""

    def __init__(self, *, floor: timedelta | None = None) -> None:
        self._dispatcher = AsyncInlineDispatcher(floor=floor)

    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        async def run_in_task(job: str) -> None:
            run(job)

        asyncio.run(self._dispatcher.dispatch(job, run_in_task, delay=delay))

    def close(self, timeout: float, /) -> None:
        asyncio.run(self._dispatcher.close(timeout))


InlineFactory = type[InlineDispatcher] | type[DrivenInline]
both_inline = pytest.mark.parametrize("factory", [InlineDispatcher, DrivenInline])


@both_inline
def test_inline_runs_in_the_callers_path(factory: InlineFactory) -> None:
    """The job runs in the caller's thread and has ended when dispatch returns."""
    ran_in: list[tuple[str, int]] = []
    dispatcher = factory()
    for job in "ab":
        dispatcher.dispatch(job, lambda job: ran_in.append((job, threading.get_ident())))
        assert ran_in[-1] == (job, threading.get_ident())
    dispatcher.close(PATIENCE)
    dispatcher.close(PATIENCE)
    assert len(ran_in) == 2


@both_inline
@pytest.mark.parametrize(("run", "error"), [(fail, LookupError), (leave, SystemExit)])
def test_inline_passes_on_what_the_job_raises(factory: InlineFactory, run: Run, error: type[BaseException]) -> None:
    """What the job raises comes out of dispatch as it is."""
    with pytest.raises(error, match=r"^a$"):
        factory().dispatch("a", run)


@both_inline
def test_inline_waits_for_no_delay(factory: InlineFactory) -> None:
    """A delay of an hour is not waited for."""
    ran: list[str] = []
    begin = time.monotonic()
    factory().dispatch("in an hour", ran.append, delay=HOUR)
    assert time.monotonic() - begin < PATIENCE
    assert ran == ["in an hour"]


def check_floor(factory: InlineFactory) -> None:
    for run in (lambda _: None, fail):
        dispatcher = factory(floor=FLOOR)
        begin = time.monotonic()
        try:
            dispatcher.dispatch("a", run)
        except LookupError:
            assert run is fail
        assert time.monotonic() - begin >= FLOOR.total_seconds() - tick()


@both_inline
def test_inline_keeps_its_floor(factory: InlineFactory) -> None:
    """With a floor every call lasts at least that long, also when the job raises."""
    check_floor(factory)


class FloorOnTop(InlineDispatcher):
    """Adds its floor to what the job takes."""

    def dispatch(self, job: str, run: Run, /, *, delay: timedelta = NOW) -> None:
        run(job)
        super().dispatch(job, lambda _: None, delay=delay)


def check_floor_hides_what_is_shorter(factory: InlineFactory) -> None:
    floor = timedelta(seconds=0.4)
    lasting = InlineDispatcher(floor=floor)
    begin = time.monotonic()
    factory(floor=floor).dispatch("a", lambda job: lasting.dispatch(job, lambda _: None))
    assert time.monotonic() - begin < 2 * floor.total_seconds()


@both_inline
def test_floor_is_not_added(factory: InlineFactory) -> None:
    """A job that lasts as long as the floor is not prolonged by it: the floor hides a job's time, it adds none."""
    check_floor_hides_what_is_shorter(factory)


@pytest.mark.parametrize("check", [check_floor, check_floor_hides_what_is_shorter])
def test_broken_floor_is_caught(check: Callable[[InlineFactory], None]) -> None:
    """The checks fail for a floor that is added, and only to jobs that end well."""
    with pytest.raises(AssertionError):
        check(FloorOnTop)


@pytest.mark.parametrize("make", [InlineDispatcher, AsyncInlineDispatcher])
@pytest.mark.parametrize("floor", [timedelta(0), timedelta(seconds=-1), 0.02, True, "1"])
def test_floor_must_be_positive(make: Callable[..., object], floor: object) -> None:
    """A floor that is no positive duration is refused when the dispatcher is made."""
    with pytest.raises(ConfigurationError, match=r"^floor must be "):
        make(floor=floor)


class Sends:
    """A mailer of the application's own, which says nothing of itself."""

    def send(self, mail: Mail, /) -> None:
        raise NotImplementedError  # never called


class SaysThatItSends(Sends):
    sends_nothing = False


class AsyncSends:
    async def send(self, mail: Mail, /) -> None:
        raise NotImplementedError  # never called


class TestTheWarning:
    """What cannot keep the bound is said when the manager is made."""

    @pytest.mark.parametrize("mailer", [Sends(), SaysThatItSends()])
    def test_a_sync_manager_warns_of_mails_that_visitors_wait_for(self, mailer: Mailer) -> None:
        with pytest.warns(RuntimeWarning, match="^InlineDispatcher sends each mail"):
            ResetManager(FakeAccounts(), MemoryTokenStore(), mailer, link=LINK, dispatcher=InlineDispatcher())

    def test_an_async_manager_warns_of_mails_that_visitors_wait_for(self) -> None:
        accounts, dispatcher = AsyncFakeAccounts(FakeAccounts()), AsyncInlineDispatcher()
        with pytest.warns(RuntimeWarning, match="^AsyncInlineDispatcher sends each mail"):
            AsyncResetManager(accounts, AsyncMemoryTokenStore(), AsyncSends(), link=LINK, dispatcher=dispatcher)

    @pytest.mark.parametrize("mailer", [MemoryMailer(), ConsoleMailer(), FailingMailer(MemoryMailer())])
    def test_mailers_that_send_nothing_go_with_it(self, mailer: Mailer) -> None:
        ResetManager(FakeAccounts(), MemoryTokenStore(), mailer, link=LINK, dispatcher=InlineDispatcher())

    @pytest.mark.parametrize(
        "mailer", [AsyncMemoryMailer(), AsyncConsoleMailer(), AsyncFailingMailer(AsyncMemoryMailer())]
    )
    def test_async_mailers_that_send_nothing_go_with_it(self, mailer: AsyncMailer) -> None:
        accounts, dispatcher = AsyncFakeAccounts(FakeAccounts()), AsyncInlineDispatcher()
        AsyncResetManager(accounts, AsyncMemoryTokenStore(), mailer, link=LINK, dispatcher=dispatcher)

    def test_other_dispatchers_go_with_any_mailer(self) -> None:
        ResetManager(FakeAccounts(), MemoryTokenStore(), Sends(), link=LINK).close(0)
