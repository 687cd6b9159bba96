"""Threads for work that would hold an event loop up: when they start, and what is left where they cannot."""

import asyncio
import gc
import threading

import pytest

from resetkit._threads import Threads


def named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


def test_all_start_with_the_first_work() -> None:
    """One that starts beside busy ones keeps the event loop waiting until the system lets it run."""

    async def story() -> tuple[list[threading.Thread], str, list[threading.Thread]]:
        threads = Threads(3, "all")
        assert named("all") == []
        ran_in = await threads.run(lambda: threading.current_thread().name)
        first = named("all")
        await asyncio.gather(*(threads.run(lambda: None) for _ in range(30)))
        second = named("all")
        threads.close()
        return first, ran_in, second

    first, ran_in, second = asyncio.run(story())
    assert len(first) == 3
    assert ran_in in {thread.name for thread in first}
    assert second == first


def test_they_start_again_after_a_close() -> None:
    async def story() -> list[int]:
        threads, counts = Threads(2, "again"), list[int]()
        for _ in range(2):
            await threads.run(lambda: None)
            counts.append(len({*named("again")} - ended))
            ended.update(named("again"))
            threads.close()
        return counts

    ended = set[threading.Thread]()
    assert asyncio.run(story()) == [2, 2]


def test_too_few_are_an_error_that_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next work tries again, for the system may have threads to spare by then."""
    start, started = threading.Thread.start, list[threading.Thread]()

    def start_one(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    async def story() -> None:
        threads = Threads(3, "few")
        monkeypatch.setattr(threading.Thread, "start", start_one)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await threads.run(lambda: None)
        monkeypatch.undo()
        await threads.run(lambda: None)
        threads.close()

    asyncio.run(story())
    gc.collect()
    started[0].join(30)
    assert not started[0].is_alive()
