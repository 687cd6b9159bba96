"""What the jobs of a check do, in either colour."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Collection
from types import TracebackType
from typing import Protocol, Self

from typing_extensions import override


class Signal(Protocol):
    """Tells those who wait that something has changed."""

    def tell(self) -> None: ...

    async def until(self, holds: Callable[[], bool], patience: float) -> bool:
        """Wait until `holds()`, for at most `patience` seconds, and say whether it does."""
        ...


class ThreadSignal:
    """Between threads. Waiting blocks the thread, so that a stepped coroutine never suspends."""

    def __init__(self) -> None:
        self._changed = threading.Condition()

    def tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    async def until(self, holds: Callable[[], bool], patience: float) -> bool:
        with self._changed:
            return self._changed.wait_for(holds, patience)


class TaskSignal:
    """Between the tasks of one loop."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def until(self, holds: Callable[[], bool], patience: float) -> bool:
        try:
            async with asyncio.timeout(patience):
                while not holds():
                    await self._changed.wait()
        except TimeoutError:
            pass
        return holds()


async def nothing(job: str) -> None:
    """Do no more than say that the job began and ended."""


class Work:
    """Jobs that say that they begin, wait until they may end, do something `then`, and say that they end.

    A held job ends by itself when `patience` is over, so that a broken dispatcher ends in a failure and not in a
    check that hangs.
    """

    def __init__(
        self, signal: Signal, patience: float, *, held: bool, then: Callable[[str], Awaitable[None]] = nothing
    ) -> None:
        self._signal = signal
        self._patience = patience
        self._held = held
        self._then = then
        self.begun: dict[str, float] = {}
        """When each job began, by the monotonic clock."""
        self.ended: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go()

    @override
    def __repr__(self) -> str:
        return "run"

    async def __call__(self, job: str, /) -> None:
        self.begun.setdefault(job, time.monotonic())
        self._signal.tell()
        if not await self._signal.until(lambda: not self._held, self._patience):
            self.let_go()
        await self._then(job)
        self.ended.append(job)
        self._signal.tell()

    def let_go(self) -> None:
        """Let the jobs that wait end, and those to come."""
        self._held = False
        self._signal.tell()

    async def pause(self, seconds: float) -> None:
        """Let some time pass."""
        await self._signal.until(lambda: False, seconds)

    async def has_begun(self) -> bool:
        """Whether a job begins before patience is over."""
        return await self._signal.until(lambda: bool(self.begun), self._patience)

    async def have_ended(self, jobs: Collection[str], within: float) -> bool:
        """Whether as many jobs as these end in time."""
        return await self._signal.until(lambda: len(self.ended) >= len(jobs), within)
