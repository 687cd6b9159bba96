"""Threads for work that would hold an event loop up."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from resetkit._fork import start_afresh_in_child

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Threads:
    """`most` threads of one kind of work, started with the first of it, and afresh in a forked child.

    Of one kind, so that a slow mail server never keeps a visitor's look-up waiting for a thread.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._start_afresh()
        start_afresh_in_child(self)

    def _start_afresh(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run `work` in a thread. A cancelled caller is told so when the work has ended: nothing goes on behind it."""
        import asyncio

        if self._pool is None:
            self._pool = self._start()
        future = asyncio.get_running_loop().run_in_executor(self._pool, work, *args)
        future.add_done_callback(retrieve_exception)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            raise

    def _start(self) -> "ThreadPoolExecutor":
        """Start all threads while none works: who starts one waits until it runs, and the busy ones go first."""
        from concurrent.futures import ThreadPoolExecutor

        pool, all_there = ThreadPoolExecutor(self._most, thread_name_prefix=self._name), threading.Event()
        try:
            for _ in range(self._most):
                pool.submit(all_there.wait)  # none is idle yet, so each takes a thread of its own
        finally:
            all_there.set()
        return pool

    def close(self) -> None:
        """Let the threads end with the work they have. They start again at need."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None


def retrieve_exception(done: "asyncio.Future[Any]") -> None:
    """Fetch a failure, so that asyncio does not log one that nobody waited for."""
    if not done.cancelled():
        done.exception()
