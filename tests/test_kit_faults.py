"""The kit's own tools: how a driver is made to fail, and how another process makes calls."""

import sqlite3
import sys
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing import Pipe
from types import FrameType
from typing import Any
from unittest import SkipTest

import pytest

from resetkit import AsyncTokenStore, TokenStore
from resetkit.stores import AsyncMemoryTokenStore, MemoryTokenStore
from resetkit.testing import BrokenPromiseError
from resetkit.testing._faults import DriverFailedError, _Driver
from resetkit.testing._processes import Opener, _answer, serve
from resetkit.testing._records import adding, claiming, record


def frame_within(module: str, caller: FrameType | None) -> Any:
    """A stand-in for the frame of a module's function."""

    class Frame:
        f_globals = {"__name__": module}  # noqa: RUF012  # as a frame has it
        f_back = caller

    return Frame()


class TestDriver:
    """Profile functions are not traced, so that this one is called by hand here. Real stores show it at work."""

    @pytest.mark.parametrize(("late", "event"), [(False, "c_call"), (True, "c_return")])
    def test_the_nth_call_into_the_driver_fails(self, late: bool, event: str) -> None:
        driver, here, connection = _Driver(("sqlite3",)), sys._getframe(), sqlite3.connect(":memory:")
        driver.arm(2, late=late)
        driver(here, event, connection.execute)
        driver(here, "c_return" if event == "c_call" else "c_call", connection.execute)
        with pytest.raises(DriverFailedError):
            driver(here, event, connection.close)
        driver(here, event, connection.execute)
        assert driver.calls == 2
        assert driver.disarm()
        connection.close()

    def test_a_call_made_by_the_driver_itself_does_not_count(self) -> None:
        driver, here = _Driver(("driver",)), sys._getframe()
        driver.arm(9, late=False)
        public = frame_within("driver.cursors", here)
        driver(public, "call", None)
        driver(frame_within("driver.socket", public), "call", None)
        driver(frame_within("drivers", here), "call", None)
        driver(public, "c_call", len)
        driver(here, "c_call", len)
        driver(frame_within("driver", None), "call", None)
        assert driver.calls == 2
        assert not driver.disarm()

    def test_it_counts_only_while_armed(self) -> None:
        driver = _Driver(("builtins",))
        driver(sys._getframe(), "c_call", len)
        assert driver.calls == 0


@contextmanager
def opened() -> Generator[TokenStore, None, None]:
    yield MemoryTokenStore()


@asynccontextmanager
async def opened_async() -> AsyncGenerator[AsyncTokenStore, None]:
    yield AsyncMemoryTokenStore()


class TestServing:
    @pytest.mark.parametrize("opener", [opened, opened_async])
    def test_calls_are_made_until_the_pipe_is_closed(self, opener: Opener) -> None:
        mine, theirs = Pipe()
        server = threading.Thread(target=serve, args=(theirs, opener))
        server.start()
        answers = []
        for call in (adding("s1", "alice"), claiming("s1"), claiming("s1", "other")):
            mine.send(("call", (call, 0)))
            answers.append(_answer(mine))
        mine.send(("open", None))
        assert _answer(mine) is None
        mine.send(("call", (adding("s1", "bob"), 0)))
        with pytest.raises(BrokenPromiseError, match=r"in another process, .* there was DuplicateSelectorError"):
            _answer(mine)
        mine.close()
        server.join()
        assert answers == [True, True, False]

    def test_a_record_goes_through_the_pipe_as_it_is(self) -> None:
        mine, theirs = Pipe()
        mine.send(adding("s1", "alice"))
        (sent,) = theirs.recv().args
        assert sent == record("s1", "alice")

    def test_a_process_that_gives_no_answer_is_taken_for_stuck(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("resetkit.testing._processes.PATIENCE", 0)
        mine, _theirs = Pipe()
        with pytest.raises(BrokenPromiseError, match="is something locked"):
            _answer(mine)

    def test_one_that_ended_may_lack_what_opens_the_store(self) -> None:
        mine, theirs = Pipe()
        theirs.close()
        with pytest.raises(BrokenPromiseError, match="can it import what other_process returns"):
            _answer(mine)

    def test_what_it_cannot_do_is_skipped(self) -> None:
        mine, theirs = Pipe()
        theirs.send(("SkipTest", "this system has no fork"))
        with pytest.raises(SkipTest, match="no fork"):
            _answer(mine)
