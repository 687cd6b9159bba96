"""What every conformance kit is made of: promises, the colour they are checked in, guards against hollow runs.

A *promise* is one sentence of a port's contract, as a test. It is written once, as an ``async`` method over the async
shape of the port. `Sync` lifts a sync adapter to that shape and steps the method; `Async` runs it in an event loop.
pytest collects promises as ordinary test methods; nothing here needs pytest.
"""

import asyncio
import sys
import threading
import unittest
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future, wait
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import getattr_static, isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, unwrap
from types import FunctionType
from typing import Any, ClassVar, Final, Generic, NoReturn, TypeVar

from resetkit._sync import step
from resetkit.testing._transcript import Transcript, shown

K = TypeVar("K", bound="Conformance[Any]")
Port = TypeVar("Port")
T = TypeVar("T")

Check = Callable[..., None]
"""A promise as pytest calls it: a method without arguments."""

PATIENCE: Final = 60.0  # seconds until a call that gives no answer is taken for stuck
_STUCK: Final = (
    f"there was no answer for {PATIENCE:.0f} seconds: is something left locked, or a connection not given back?"
)
_SWITCH: Final = 1e-5  # seconds until the interpreter lets another thread go on: many gaps, each a chance to race


class BrokenPromiseError(AssertionError):
    """An adapter does not keep a promise of its port. The message says which, what was expected, and what was done."""

    __module__ = "resetkit.testing"  # as it is imported, and as reports show it


class MisuseError(Exception):
    """The subclass of a kit is not as it should be, whatever the adapter is."""

    __module__ = "resetkit.testing"


@dataclass(frozen=True, slots=True)
class Promise:
    """One sentence of a contract: the method it is `of`, empty for all together, and what it says in plain words."""

    name: str
    of: str
    says: str


_promises: Final[dict[Check, Promise]] = {}
_stated: Final[dict[Check, str]] = {}


def promise(of: str) -> Callable[[Callable[[K, Any], Coroutine[Any, Any, None]]], Callable[[K], None]]:
    """Make a check of one opened adapter, an ``async`` method, a promise of the port's method `of`.

    Its docstring's first line is the promise in plain words.
    """

    def decorate(check: Callable[[K, Any], Coroutine[Any, Any, None]]) -> Callable[[K], None]:
        def opened(kit: K) -> None:
            __tracebackhide__ = True
            done = False
            with kit.opened() as port:
                kit.run(check(kit, port))
                done = True
            kit.require_done(done)

        return _registered(of, check, opened)

    return decorate


def explored_promise(of: str) -> Callable[[Callable[[K], None]], Callable[[K], None]]:
    """Make a check that opens adapters by itself, as many as it likes, a promise of the port's method `of`."""

    def decorate(check: Callable[[K], None]) -> Callable[[K], None]:
        return _registered(of, check, check)

    return decorate


def _registered(of: str, check: Callable[..., object], body: Callable[[K], None]) -> Callable[[K], None]:
    says = " ".join((check.__doc__ or "").split("\n\n")[0].split())

    def test(kit: K) -> None:
        __tracebackhide__ = True  # pytest shows the check's own line instead
        kit.transcript.clear()
        try:
            body(kit)
        except (unittest.SkipTest, ModuleNotFoundError, MisuseError):
            raise
        except BrokenPromiseError as broken:
            broken.args = (_report(kit, _promises[test], str(broken)),)
            raise
        except Exception as error:
            found = f"no error was expected, and there was {_named(error)}"
            raise BrokenPromiseError(_report(kit, _promises[test], found)) from error
        if not kit.transcript.count:
            nothing = (
                "the adapter was never called: this check checked nothing (are Hypothesis's phases or examples 0?)"
            )
            raise BrokenPromiseError(_report(kit, _promises[test], nothing))

    test.__name__, test.__qualname__ = check.__name__, check.__qualname__
    test.__doc__, test.__module__ = check.__doc__, check.__module__
    _promises[test] = Promise(check.__name__, of, says)
    return test


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _report(kit: "Conformance[Any]", broken: Promise, found: str) -> str:
    method = f".{broken.of}" if broken.of else ""
    head = f"{kit.port}{method} does not keep its promise: {broken.says}"
    done = "\n".join(f"  {number:2}. {line}" for number, line in enumerate(kit.transcript.lines(), 1))
    return f"{head}\n{found}\nWhat was done:\n{done or '  nothing'}"


def unsupported(reason: str) -> Callable[..., NoReturn]:
    """State that an adapter does not keep a promise, or lacks an optional ability.

    Stands in the place of the method: ``test_x = unsupported("the backend has no ...")``. The test is skipped and says
    the reason. Raises TypeError for an empty one.
    """
    _require_reason(reason)

    def test(*_: object) -> NoReturn:
        raise unittest.SkipTest(reason)

    _stated[test] = reason
    return test


def replaced(reason: str) -> Callable[[Callable[[K], None]], Callable[[K], None]]:
    """State why a subclass checks a promise in another way: a decorator for the method that replaces it."""
    _require_reason(reason)

    def decorate(test: Callable[[K], None]) -> Callable[[K], None]:
        _stated[test] = reason
        return test

    return decorate


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise TypeError("state a reason in words: who reads the report wants to know why")


def expect(found: object, expected: object, why: str) -> None:
    """Raise BrokenPromiseError unless both are equal; `why` completes the sentence "because ..."."""
    __tracebackhide__ = True
    if found != expected:
        raise BrokenPromiseError(
            f"expected {shown(expected, beside=found)}, got {shown(found, beside=expected)}: {why}"
        )


def expect_that(holds: bool, why: str) -> None:  # noqa: FBT001  # reads as what it is: expect_that(a < b, "...")
    """Raise BrokenPromiseError unless it holds."""
    __tracebackhide__ = True
    if not holds:
        raise BrokenPromiseError(why)


def undeclared(ability: str, what: str) -> NoReturn:
    """Skip a check whose optional ability the adapter's author has not spoken of."""
    raise unittest.SkipTest(f'not checked: implement {ability} ({what}), or state {ability} = unsupported("why")')


def _is_promise(attribute: object) -> bool:
    return isinstance(attribute, FunctionType) and attribute in _promises


class Conformance(Generic[Port]):
    """The base of the kits. A subclass of a kit for one adapter is guarded at its definition.

    Raises TypeError there if a promise is overridden or removed without a stated reason (`unsupported`, `replaced`),
    if the method that opens the adapter is missing, or if pytest would not collect the class.
    """

    __test__: ClassVar[bool] = False
    port: ClassVar[str]
    """The protocol that the kit checks."""
    opens: ClassVar[str]
    """The method that an adapter's author writes."""
    is_async: ClassVar[bool]
    """The colour of its adapters."""
    examples: ClassVar[int | None] = None
    """How many examples an explored promise tries, kills of a process, or failures of a driver in one operation.

    None for the Hypothesis profile's, and for each call of the driver.
    """

    promised: ClassVar[dict[str, Check]] = {}
    """The kit's tests, by name, as they were written."""

    def __init_subclass__(cls, *, shipped: bool = False, **options: object) -> None:
        super().__init_subclass__(**options)
        if shipped:
            written = [vars(base).items() for base in reversed(cls.__mro__)]
            cls.promised = {name: check for each in written for name, check in each if _is_promise(check)}
            return
        if find_spec("hypothesis") is None:
            raise ModuleNotFoundError('the conformance kits need Hypothesis: python -m pip install "resetkit[testing]"')
        if "__test__" not in vars(cls):
            cls.__test__ = True
            if not cls.__name__.startswith("Test"):
                raise TypeError(f"name it Test{cls.__name__}, or pytest does not collect it (or set __test__)")
        if cls.__test__:
            _check_opener(cls, getattr(cls, cls.opens))
        _check_examples(cls)
        _guard(cls)

    @property
    def transcript(self) -> "Transcript":
        """The calls of the check that runs, and their answers."""
        transcript: Transcript = self.__dict__.setdefault("_transcript", Transcript())
        return transcript

    @classmethod
    def promises(cls) -> dict[str, Promise]:
        """Every promise of the kit by the name of its test, in the order in which they are written."""
        return {name: _promises[check] for name, check in cls.promised.items()}

    def test_the_kit_is_whole(self) -> None:
        """No promise was taken out behind the guards, and not all of them were waived."""
        _guard(type(self))
        if all(getattr(type(self), name) in _stated for name in self.promised):
            raise BrokenPromiseError(f"{type(self).__name__} waives every promise: it checks nothing")

    # The colour's, see `Sync` and `Async`.

    def opened(self) -> AbstractContextManager[Port]:
        """An adapter in its async shape, new and empty, its calls written down."""
        raise NotImplementedError  # a subclass says

    def run(self, work: Awaitable[T], /) -> T:
        """What `work` returns."""
        raise NotImplementedError  # a subclass says

    async def together(self, *works: Awaitable[T]) -> list[T]:
        """What several calls answer that begin at the same moment."""
        raise NotImplementedError  # a subclass says

    def within_patience(self, work: Awaitable[T], /) -> T:
        """What `work` returns, if it does so in time."""
        return self.run(self.together(work))[0]

    def require_done(self, done: bool, /) -> None:  # noqa: FBT001  # what just happened
        """Raise unless the check came to its end: a context manager may swallow what a check raises."""
        if not done:
            told = "swallowed what a check raised: let exceptions through, as try/finally without return does"
            raise MisuseError(f"{type(self).__name__}.{self.opens} {told}")

    def watched(self, port: Port) -> Port:
        """The port, with its calls written down in the transcript, which begins anew."""
        return self.transcript.watch(port)


class Sync(Conformance[Port], shipped=True):
    """Checks sync adapters: a lifted call never waits, so one step runs a check to its end. Races are threads'."""

    is_async = False

    def run(self, work: Awaitable[T], /) -> T:
        """What `work` returns."""
        __tracebackhide__ = True
        return step(work)

    async def together(self, *works: Awaitable[T]) -> list[T]:
        """What several calls answer, each in its own thread, let go by a barrier."""
        barrier = threading.Barrier(len(works))
        answers: list[Future[T]] = [Future() for _ in works]

        def begin(work: Awaitable[T], answer: Future[T]) -> None:
            barrier.wait()
            try:
                answer.set_result(step(work))
            except BaseException as error:  # noqa: BLE001  # it comes out where the answer is awaited
                answer.set_exception(error)

        usual = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH)
        try:
            with self.transcript.at_once(len(works)):
                for pair in zip(works, answers, strict=True):
                    threading.Thread(target=begin, args=pair, daemon=True).start()  # one that is stuck holds nothing up
                wait(answers, PATIENCE)
        finally:
            sys.setswitchinterval(usual)
        if not all(answer.done() for answer in answers):
            raise BrokenPromiseError(_STUCK)
        return [answer.result() for answer in answers]


class Async(Conformance[Port], shipped=True):
    """Checks async adapters in one event loop for each opened adapter. Races are tasks'."""

    is_async = True
    _runner: asyncio.Runner

    @contextmanager
    def in_loop(self, opening: AbstractAsyncContextManager[Port]) -> Generator[Port, None, None]:
        """The adapter, open in a loop of its own."""
        with asyncio.Runner() as self._runner:
            stack = AsyncExitStack()
            port = self._runner.run(stack.enter_async_context(opening))
            try:
                yield port
            finally:
                self._runner.run(stack.aclose())

    def run(self, work: Awaitable[T], /) -> T:
        """What `work` returns."""
        __tracebackhide__ = True
        return self._runner.run(_awaited(work))

    async def together(self, *works: Awaitable[T]) -> list[T]:
        """What several calls answer, each in its own task."""
        with self.transcript.at_once(len(works)):
            try:
                return await asyncio.wait_for(asyncio.gather(*works), PATIENCE)
            except TimeoutError:
                raise BrokenPromiseError(_STUCK) from None


# What checks stand on. `transcript` is a property, and one object for all.
_FRAME: Final = ("opened", "run", "together", "watched", "transcript", "within_patience", "require_done", "promises")

WHOLE: Final[Check] = Conformance[Any].test_the_kit_is_whole


async def _awaited(work: Awaitable[T]) -> T:
    __tracebackhide__ = True
    return await work


def _kit_of(cls: type[Conformance[Any]]) -> type[Conformance[Any]]:
    """The shipped kit that a class derives from."""
    return next(base for base in cls.__mro__ if "promised" in vars(base))


def _check_opener(cls: type[Conformance[Any]], opener: Callable[..., object]) -> None:
    name = f"{cls.__name__}.{cls.opens}"
    decorator = "asynccontextmanager" if cls.is_async else "contextmanager"
    if opener in _stated:
        raise TypeError(f"{name} cannot be waived: without it, nothing is checked")
    if opener is getattr(_kit_of(cls), cls.opens):
        raise TypeError(f"{cls.__name__} must implement {cls.opens}(self), a context manager")
    if any(is_bare(opener) for is_bare in (isgeneratorfunction, isasyncgenfunction, iscoroutinefunction)):
        raise TypeError(f"{name} must be a context manager: decorate it with @{decorator}")
    written = unwrap(opener)
    if isasyncgenfunction(written) if not cls.is_async else isgeneratorfunction(written):
        other, colour = ("without", "sync") if cls.is_async else ("with", "async")
        raise TypeError(f"{name} is {colour}: derive from the kit {other} Async before its name, or use @{decorator}")


def _check_examples(cls: type[Conformance[Any]]) -> None:
    examples: object = cls.examples
    if examples is not None and (type(examples) is not int or examples < 1):
        raise TypeError(f"{cls.__name__}.examples must be a whole number of 1 or more, or None, not {examples!r}")


def _guard(cls: type[Conformance[Any]]) -> None:
    kit = _kit_of(cls)
    for name in _FRAME:
        if getattr_static(cls, name, None) is not getattr_static(kit, name):
            raise TypeError(f"{cls.__name__} overrides {name}, which is the kit's own: choose another name")
    for name, check in (*cls.promised.items(), (WHOLE.__name__, WHOLE)):
        current = getattr(cls, name, None)
        if current is not check and current not in _stated:
            raise TypeError(
                f"{cls.__name__} overrides or removes the promise {name} without a reason: "
                f'state one with {name} = unsupported("why"), or @replaced("why")'
            )
