"""The kit's own tools: how a driver is made to fail, and how another process makes calls."""

import asyncio
import sqlite3
import sys
import threading
import warnings
from collections import defaultdict
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing import Pipe
from types import FrameType, SimpleNamespace
from typing import Any
from unittest import SkipTest

import pytest

from resetkit import AsyncTokenStore, TokenStore
from resetkit.stores import AsyncMemoryTokenStore, MemoryTokenStore
from resetkit.testing import BrokenPromiseError
from resetkit.testing._faults import MOST_CALLS, DriverFailedError, _Driver, _leftovers_are_ours, check_failing_driver
from resetkit.testing._processes import Opener, _answer, serve
from resetkit.testing._records import adding, claiming, record, scenarios


def frame_within(module: str, caller: FrameType | None) -> Any:
    """A stand-in for the frame of a module's function."""

    class Frame:
        f_globals = {"__name__": module}  # noqa: RUF012  # as a frame has it
        f_back = caller
        f_code = plain.__code__
        f_lasti = 0

    return Frame()


def plain() -> None: ...


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

    @pytest.mark.parametrize(("late", "reached"), [(False, []), (True, ["began", "went on"])])
    def test_a_pause_of_a_coroutine_is_neither_a_return_nor_a_call(self, late: bool, reached: list[str]) -> None:
        """One that failed there would never come to its end, as no driver's does."""
        code = "async def query():\n    steps.append('began')\n    await sleep(0)\n    steps.append('went on')"
        steps: list[str] = []
        module: dict[str, Any] = {"__name__": "driver", "sleep": asyncio.sleep, "steps": steps}
        exec(code, module)
        driver = _Driver(("driver",))

        async def use_it() -> None:
            await module["query"]()

        driver.arm(1, late=late)
        with driver.watching(), pytest.raises(DriverFailedError):
            asyncio.run(use_it())
        assert steps == reached

    def test_a_finalizer_is_no_call(self) -> None:
        """The garbage collector calls it, in the middle of whatever runs."""
        module: dict[str, Any] = {"__name__": "driver"}
        exec("class Connection:\n    def __del__(self):\n        pass\n    def close(self):\n        pass", module)
        connection, driver = module["Connection"](), _Driver(("driver",))
        driver.arm(9, late=False)
        with driver.watching():
            connection.close()
            del connection
        assert driver.calls == 1
        frame = frame_within("driver", sys._getframe())
        frame.f_code = module["Connection"].__del__.__code__
        driver(frame, "call", None)
        assert driver.calls == 1

    def test_what_a_failure_leaves_unawaited_or_unclosed_brings_no_warning(self) -> None:
        def leave_both() -> None:
            _ = asyncio.sleep(0)
            warnings.warn("unclosed connection", ResourceWarning, stacklevel=1)

        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with _leftovers_are_ours():
                leave_both()
            assert seen == []
            leave_both()
        assert [each.category for each in seen] == [ResourceWarning, RuntimeWarning]

    @pytest.mark.parametrize(
        ("examples", "failed"), [(None, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), (4, [1, 3, 6, 8]), (99, [*range(1, 11)])]
    )
    def test_of_the_calls_of_each_operation_as_many_fail_as_there_are_examples(
        self, examples: int | None, failed: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tried = defaultdict[tuple[int, bool], list[int]](list)

        def fail_one_call(_: Any, driver: _Driver, number: int, nth: int, *, late: bool) -> None:
            tried[number, late].append(nth)
            if nth == MOST_CALLS:
                driver.calls += 10

        monkeypatch.setattr("resetkit.testing._faults._fail_one_call", fail_one_call)
        kit: Any = SimpleNamespace(examples=examples)
        check_failing_driver(kit, ["driver"], purges=False)
        assert len(tried) == 2 * len(scenarios("", purges=False))
        assert all(nths == [MOST_CALLS, *failed] for nths in tried.values())

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
