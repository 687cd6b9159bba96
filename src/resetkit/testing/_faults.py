"""Operations cut off in the middle: by a driver that fails, a killed process, a cancelled task.

Each has happened or has not: what the model says before or after it, and nothing in between.
"""

import asyncio
import gc
import sys
import threading
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dis import opmap
from types import FrameType
from typing import Any, Final

from resetkit.protocols import AsyncTokenStore
from resetkit.testing._kit import BrokenPromiseError, Conformance, expect, expect_that
from resetkit.testing._processes import Others
from resetkit.testing._records import Scenario, adding, claiming, scenarios
from resetkit.testing._store_model import StoreModel
from resetkit.values import TokenRecord

KILLS: Final = 60  # for each scenario at most, or as many as the kit has examples; each costs a forked process
MOST_CALLS: Final = 1_000_000  # of a driver: no operation makes as many
TURNS: Final = (*range(8), *(2**power for power in range(3, 16)))  # many, where a thread or a server is waited for

Snapshot = dict[str, TokenRecord | None]
Kit = Conformance[AsyncTokenStore]


class DriverFailedError(ConnectionError):
    """What the driver is made to raise."""


class _Cut:
    """One scenario on a store: prepared, cut off, judged."""

    def __init__(self, store: AsyncTokenStore, scenario: Scenario, name: str) -> None:
        self._store = store
        self._scenario = scenario
        self._name = name
        model = StoreModel()
        for call in scenario.before:
            call.begin(model)
        self._before = {selector: model.get(selector) for selector in scenario.selectors}
        self.answer = scenario.call.begin(model)
        self._after = {selector: model.get(selector) for selector in scenario.selectors}

    async def prepare(self) -> None:
        for call in self._scenario.before:
            await call.on(self._store)

    async def judge(self, how: str, *, ended: bool) -> None:
        """Nothing in between, and the store goes on."""
        found = {selector: await self._store.get(selector) for selector in self._scenario.selectors}
        method = self._scenario.call.method
        if found not in ((self._after,) if ended else (self._before, self._after)):
            so = "had returned and is not done" if ended else "is half done"
            difference = _difference(found, self._before, self._after)
            raise BrokenPromiseError(f"{method}, {how}, {so}: {difference}")
        fresh = f"next {self._name}"
        for call in (adding(fresh, f"account {fresh}"), claiming(fresh)):
            expect(await call.on(self._store), True, f"the store goes on after {method}, {how}")


def _difference(found: Snapshot, before: Snapshot, after: Snapshot) -> str:
    lines: list[str] = []
    for selector, record in found.items():
        said = [_brief(each[selector]) for each in (before, after)]
        lines.append(f"{selector} is {_brief(record)}, before {said[0]}, after {said[1]}")
    return "; ".join(lines)


def _brief(record: TokenRecord | None) -> str:
    return "absent" if record is None else f"{record.state}/{record.claim_id}/{record.guesses} guesses"


# A driver that fails.


def check_failing_driver(kit: Kit, modules: Sequence[str], *, purges: bool) -> None:
    """Each call of the driver in turn fails: before its work is done, and after it, when only the reply is lost.

    Of each operation's calls at most as many as the kit has examples.
    """
    modules = (modules,) if isinstance(modules, str) else tuple(modules)
    driver = _Driver(modules)
    with _leftovers_are_ours():
        for number in range(len(scenarios("", purges=purges))):
            for late in (False, True):
                before = driver.calls
                _fail_one_call(kit, driver, number, MOST_CALLS, late=late)
                calls = driver.calls - before
                most = min(calls, kit.examples or calls)
                for nth in (1 + step * calls // most for step in range(most)):
                    _fail_one_call(kit, driver, number, nth, late=late)
    expect_that(driver.calls > 0, f"no call of {', '.join(modules)} was seen: name the modules of the driver")


@contextmanager
def _leftovers_are_ours() -> Generator[None, None, None]:
    """What a failure leaves unawaited or unclosed is our doing, so Python's warnings of it say nothing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine '.*' was never awaited", RuntimeWarning)
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def _fail_one_call(kit: Kit, driver: "_Driver", number: int, nth: int, *, late: bool) -> None:
    """Fail the nth call, if the operation makes as many.

    Each time on a store of its own: Python looks no further on in a thread where a profile function has raised.
    """
    how = f"whose driver failed {'after' if late else 'before'} the work of its call {nth}"
    scenario = scenarios("")[number]
    done = False
    with driver.watching(), kit.opened() as store:
        cut = _Cut(store, scenario, "")
        kit.run(cut.prepare())
        ended, kept = True, None
        driver.arm(nth, late=late)
        try:
            answer = kit.run(scenario.call.on(store))
        except Exception as error:  # noqa: BLE001  # a driver's failure may come out in any form
            answer, ended, kept = cut.answer, False, error  # as a log or an error tracker keeps it, with its traceback
        finally:
            driver.disarm()
        expect(answer, cut.answer, f"{scenario.call.method} returned, {how}")
        kit.within_patience(cut.judge(how, ended=ended))
        del kept
        done = True
    kit.require_done(done)


class _Driver:
    """Counts the calls from outside into a driver's modules, and makes one of them fail. A profile function."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self.calls = 0
        self._modules = modules
        self._fails_at = 0
        self._late = False
        self._armed = False

    @contextmanager
    def watching(self) -> Generator[None, None, None]:
        """Look on in this thread, and in those that start from now on."""
        usual, threads = sys.getprofile(), threading.getprofile()
        sys.setprofile(self)
        threading.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(usual)
            threading.setprofile(threads)

    def arm(self, nth: int, *, late: bool) -> None:
        self._fails_at, self._late, self._armed = nth, late, True

    def disarm(self) -> None:
        self._armed = False

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        wanted = ("c_return", "return") if self._late else ("c_call", "call")
        if self._armed and self._fails_at and event in wanted and self._enters(frame, event, arg):
            self.calls += 1
            self._fails_at -= 1
            if self._fails_at == 0:
                raise DriverFailedError("the driver was made to fail")

    def _enters(self, frame: FrameType, event: str, arg: Any) -> bool:
        """Whether the call goes from outside into the driver."""
        if event.startswith("c_"):
            return self._is_driver(_module_of(arg)) and not self._is_driver(_name_of(frame))
        if _is_halfway(frame) or frame.f_code.co_name == "__del__":  # that one the garbage collector calls
            return False
        return self._is_driver(_name_of(frame)) and not self._is_driver(_name_of(frame.f_back))

    def _is_driver(self, module: str) -> bool:
        return any(module == each or module.startswith(f"{each}.") for each in self._modules)


def _name_of(frame: FrameType | None) -> str:
    return str(frame.f_globals.get("__name__", "")) if frame else ""


def _is_halfway(frame: FrameType) -> bool:
    """Whether a generator or coroutine pauses or goes on, which looks like a return or a call and is none."""
    operation, argument = frame.f_code.co_code[frame.f_lasti : frame.f_lasti + 2]
    return operation == opmap["YIELD_VALUE"] or (operation == opmap["RESUME"] and argument > 0)


def _module_of(function: Any) -> str:
    """The module of a C function, or of the class whose method it is."""
    owner = getattr(function, "__self__", None)
    return str(getattr(function, "__module__", None) or type(owner).__module__)


# A killed process.


async def check_killed(kit: Kit, store: AsyncTokenStore, others: Others, *, purges: bool) -> None:
    """A process is killed at lines all over each operation."""
    for number in range(len(scenarios("", purges=purges))):
        lines = await _kill(kit, store, others, number, None)
        expect_that(lines > 0, "the other process ran no line of the store")
        most = min(KILLS, kit.examples or KILLS)
        for at in sorted({1 + step * lines // most for step in range(most)}):
            await _kill(kit, store, others, number, at)


async def _kill(kit: Kit, store: AsyncTokenStore, others: Others, number: int, at: int | None) -> int:
    name = f"{number}.{at}"
    scenario = scenarios(name)[number]
    cut = _Cut(store, scenario, name)
    kit.transcript.begin_anew()
    await cut.prepare()
    lines = others.killed(scenario.call, at)
    await cut.judge(f"whose process was killed at line {at}", ended=lines > 0)
    return lines


# A cancelled task.


def check_cancelled(kit: Kit, *, purges: bool) -> None:
    """A task is cancelled after each of the first turns of the loop that an operation takes."""
    for number in range(len(scenarios("", purges=purges))):
        any(_cancel_one_call(kit, number, turns) for turns in TURNS)  # until one came to its end


def _cancel_one_call(kit: Kit, number: int, turns: int) -> bool:
    ended = done = False
    with kit.opened() as store:
        ended = kit.within_patience(_cancel(store, scenarios("")[number], turns))
        done = True
    kit.require_done(done)
    return ended


async def _cancel(store: AsyncTokenStore, scenario: Scenario, turns: int) -> bool:
    """Whether the operation came to its end all the same."""
    how = f"cancelled after {turns} turns of the loop"
    cut = _Cut(store, scenario, "")
    await cut.prepare()
    task = asyncio.ensure_future(scenario.call.on(store))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    try:
        expect(await task, cut.answer, f"{scenario.call.method} returned, {how}")
    except asyncio.CancelledError:
        await cut.judge(how, ended=False)
        return False
    await cut.judge(how, ended=True)
    return True
