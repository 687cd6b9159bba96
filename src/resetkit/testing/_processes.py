"""Other processes that have the same store open: for races with real ones, and to be killed."""

import asyncio
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, ExitStack, contextmanager
from multiprocessing import get_context
from types import FrameType
from typing import Any, Final, NoReturn, Protocol, Self
from unittest import SkipTest

from resetkit.protocols import AsyncTokenStore, TokenStore
from resetkit.testing._kit import PATIENCE, BrokenPromiseError, MisuseError
from resetkit.testing._records import Call, pack, unpack

Opener = Callable[[], AbstractContextManager[TokenStore] | AbstractAsyncContextManager[AsyncTokenStore]]
"""Opens the store in another process: a picklable callable, such as a `functools.partial` of a function of a module."""


class Pipe(Protocol):
    """An end of a `multiprocessing.Pipe`."""

    def send(self, obj: Any, /) -> None: ...
    def recv(self) -> Any: ...
    def poll(self, timeout: float, /) -> bool: ...
    def close(self) -> None: ...


_START: Final = 0.02  # seconds until all processes have heard of the instant at which they begin
# What runs beside the store's own lines and its driver's, as the standard library does.
_BESIDE: Final = ("resetkit.testing", "resetkit._", "resetkit.values")


class Others:
    """Processes with the store open, each of which waits for calls."""

    def __init__(self, opener: Opener, count: int) -> None:
        self._opener = opener
        self._count = count
        self._stack = ExitStack()
        self._pipes: list[Pipe] = []

    def __enter__(self) -> Self:
        _require_opener(self._opener)
        context = get_context("spawn")
        with ExitStack() as starting:
            for _ in range(self._count):
                mine, theirs = context.Pipe()
                process = context.Process(target=serve, args=(theirs, self._opener), daemon=True)
                process.start()
                theirs.close()
                starting.callback(process.join, PATIENCE)
                starting.callback(mine.close)
                self._pipes.append(mine)
            self._stack = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def at_once(self, *calls: Call) -> list[Any]:
        """What processes answer that each make one of the calls, at the same instant."""
        pipes = self._pipes[: len(calls)]
        for pipe in pipes:
            pipe.send(("open", None))
        for pipe in pipes:
            _answer(pipe)
        start = time.time() + _START
        for pipe, call in zip(pipes, calls, strict=True):
            pipe.send(("call", (call, start)))
        return [_answer(pipe) for pipe in pipes]

    def killed(self, call: Call, at: int | None) -> int:
        """Have a process make a call and be killed at its n-th line. How many lines it ran, if it came to its end."""
        self._pipes[0].send(("kill", (call, at)))
        lines: int = _answer(self._pipes[0])
        return lines


def _require_opener(opener: object) -> None:
    wanted = "other_process must return a function of a module, or a functools.partial of one"
    if not callable(opener):
        raise MisuseError(f"{wanted}, not {type(opener).__name__}")
    try:
        pickle.dumps(opener)
    except Exception as error:
        raise MisuseError(f"{wanted}; this one cannot be pickled: {error}") from error


def _answer(pipe: Pipe) -> Any:
    if not pipe.poll(PATIENCE):
        raise BrokenPromiseError(f"another process gave no answer for {PATIENCE:.0f} seconds: is something locked?")
    try:
        error, answer = pipe.recv()
    except (EOFError, ConnectionError):
        raise BrokenPromiseError("another process ended: can it import what other_process returns?") from None
    if error == SkipTest.__name__:
        raise SkipTest(answer)
    if error:
        raise BrokenPromiseError(f"in another process, no error was expected, and there was {error}: {answer}")
    return unpack(answer)


def serve(pipe: Pipe, opener: Opener) -> None:
    """Do what is asked through the pipe, until it is closed."""
    with ExitStack() as stack:
        store = _Store(opener, stack)
        while True:
            try:
                what, arguments = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send((None, pack(store.do(what, arguments))))
            except Exception as error:  # noqa: BLE001  # it is told to who asked
                pipe.send((type(error).__name__, str(error)))


class _Store:
    """The store as this process sees it: opened for the first call, and never by a process that only forks."""

    def __init__(self, opener: Opener, stack: ExitStack) -> None:
        self._opener = opener
        self._stack = stack
        self._make: Callable[[Call], Any] | None = None

    def do(self, what: str, arguments: Any) -> Any:
        if what == "kill":  # pragma: no cover  # in another process
            return _lines_until_killed(self._opener, *arguments)
        if self._make is None:
            self._make = self._stack.enter_context(_opened(self._opener))
        if what == "open":
            return None
        call, start = arguments
        while time.time() < start:  # pragma: no cover  # in another process
            pass  # no wait is as exact
        return self._make(call)


@contextmanager
def _opened(opener: Opener) -> Generator[Callable[[Call], Any], None, None]:
    """What makes a call on the store, whichever its colour."""
    opening = opener()
    if isinstance(opening, AbstractAsyncContextManager):
        with asyncio.Runner() as runner:
            stack = AsyncExitStack()
            store = runner.run(stack.enter_async_context(opening))
            try:
                yield lambda call: runner.run(call.on(store))
            finally:
                runner.run(stack.aclose())
    else:
        with opening as plain:
            yield lambda call: call.begin(plain)


def _lines_until_killed(opener: Opener, call: Call, at: int | None) -> int:  # pragma: no cover  # in another process
    if not hasattr(os, "fork"):
        raise SkipTest("this system has no fork, so that no process can be killed at a chosen line")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _run_counting_lines(opener, call, at, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        lines = said.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a forked process could not make the call: {lines.decode()}")
    return int(lines or b"0")


def _run_counting_lines(
    opener: Opener, call: Call, at: int | None, writing: int
) -> NoReturn:  # pragma: no cover  # in another process
    status = 1
    try:
        lines = _Lines(at)
        threading.settrace(lines)
        with _opened(opener) as make:
            sys.settrace(lines)
            lines.counting = True
            make(call)
            lines.counting = False
            sys.settrace(None)
        os.write(writing, str(lines.count).encode())
        status = 0
    except Exception as error:  # noqa: BLE001  # it is told to who asked
        os.write(writing, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(status)


class _Lines:  # pragma: no cover  # in another process
    """A trace function that counts the lines of the store and its driver, and kills the process at one of them."""

    def __init__(self, at: int | None) -> None:
        self.counting = False
        self.count = 0
        self._at = at

    def __call__(self, frame: FrameType, event: str, _: object) -> Self | None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith(_BESIDE) or module.partition(".")[0] in sys.stdlib_module_names:
            return None
        if event == "line" and self.counting:
            self.count += 1
            if self.count == self._at:
                os.kill(os.getpid(), signal.SIGKILL)
        return self
