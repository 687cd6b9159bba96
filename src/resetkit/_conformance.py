"""``resetkit conformance``: the kit on an adapter, from the command line."""

import asyncio
import inspect
import sys
import unittest
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeGuard

from resetkit._target import load_target
from resetkit.errors import ConfigurationError
from resetkit.testing import (
    AsyncDispatcherConformance,
    AsyncThrottleConformance,
    AsyncTokenStoreConformance,
    BrokenPromiseError,
    DispatcherConformance,
    ThrottleConformance,
    TokenHasherConformance,
    TokenStoreConformance,
)
from resetkit.testing._kit import Conformance, Promise

Kit = type[Conformance[Any]]
Factory = Callable[[], object]
Outcome = Literal["held", "BROKEN", "not checked"]

# What a port is known by, and its kits: sync, async. A mailer and a directory cannot be checked without more to go by.
_KITS: Final[dict[tuple[str, ...], tuple[Kit, Kit]]] = {
    ("add", "claim", "release", "revoke"): (TokenStoreConformance, AsyncTokenStoreConformance),
    ("hit",): (ThrottleConformance, AsyncThrottleConformance),
    ("dispatch",): (DispatcherConformance, AsyncDispatcherConformance),
    ("hash", "verify"): (TokenHasherConformance, TokenHasherConformance),
}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one promise; `tells` is the failure's report, or why it was not checked."""

    promise: Promise
    outcome: Outcome
    tells: str = ""


def run_conformance(target: str, examples: int | None) -> int:
    """Check an adapter, print the table, and return the exit status: 1 if a promise is broken or none was checked.

    `target` names a kit's subclass, or what opens an adapter: ``module:name``. Raises ConfigurationError with what to
    do if it cannot be used.
    """
    kit = kit_for(target)
    if examples is not None:
        kit.examples = examples
    print(f"{target}: the {len(kit.promises())} promises of {kit.port}\n")
    results = list(_checked(kit))
    _print_table(results)
    counts = {
        outcome: sum(each.outcome == outcome for each in results) for outcome in ("held", "BROKEN", "not checked")
    }
    print(f"\n{counts['held']} held, {counts['BROKEN']} broken, {counts['not checked']} not checked")
    return 1 if counts["BROKEN"] or not counts["held"] else 0


def kit_for(target: str) -> Kit:
    """The kit's subclass that a target names or asks for."""
    found = load_target(target)
    if _is_kit(found):
        if not found.__test__:
            raise ConfigurationError(f"{target} is a kit: give a class of yours that derives from it")
        return found
    if not _is_factory(found):
        raise ConfigurationError(f"{target} must be callable: a class, or a function that returns a new adapter")
    port = _look(found, target)
    for methods, (plain, waiting) in _KITS.items():
        if all(callable(getattr(port, method, None)) for method in methods):
            is_async = inspect.iscoroutinefunction(getattr(port, methods[0]))
            return _made(waiting if is_async else plain, found)
    raise ConfigurationError(
        f"{target} gives a {type(port).__name__}, which is no store, throttle, dispatcher or hasher; for a mailer or a "
        "directory, write a kit's subclass and give its name"
    )


def _is_kit(found: object) -> TypeGuard[Kit]:
    return isinstance(found, type) and issubclass(found, Conformance)


def _is_factory(found: object) -> TypeGuard[Factory]:
    return callable(found)


def _is_context(opening: object) -> TypeGuard[AbstractContextManager[object]]:
    return isinstance(opening, AbstractContextManager)


def _is_async_context(opening: object) -> TypeGuard[AbstractAsyncContextManager[object]]:
    return isinstance(opening, AbstractAsyncContextManager)


def _look(factory: Factory, target: str) -> object:
    """One adapter, to see what it is; or the class or function that would make it."""
    opening = factory()
    if _is_context(opening):
        with opening as port:
            return port
    if _is_async_context(opening):
        return _look_in_loop(opening)
    if inspect.iscoroutine(opening):
        opening.close()
        raise ConfigurationError(f"{target} must return an adapter or a context manager, not a coroutine")
    return opening


def _look_in_loop(opening: AbstractAsyncContextManager[object]) -> object:
    async def look() -> object:
        async with opening as port:
            return port

    return asyncio.run(look())


def _made(kit: Kit, factory: Factory) -> Kit:
    """The kit for what a factory opens, be it a context manager or the adapter itself."""

    @contextmanager
    def opened(_: object) -> Generator[object, None, None]:
        opening = factory()
        with opening if _is_context(opening) else nullcontext(opening) as port:
            yield port

    @asynccontextmanager
    async def opened_in_loop(_: object) -> AsyncGenerator[object, None]:
        opening = factory()
        async with opening if _is_async_context(opening) else nullcontext(opening) as port:
            yield port

    opener = opened_in_loop if kit.is_async else opened
    made: Any = type(f"Test{kit.__name__}", (kit,), {kit.opens: opener})
    derived: Kit = made
    return derived


def _checked(kit: Kit) -> Generator[Result, None, None]:
    promises = kit.promises()
    kit().test_the_kit_is_whole()
    for number, (name, promise) in enumerate(promises.items(), 1):
        if sys.stderr.isatty():
            print(f"\r\x1b[K{number}/{len(promises)} {name}", end="", file=sys.stderr, flush=True)
        yield _check(kit, name, promise)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _check(kit: Kit, name: str, promise: Promise) -> Result:
    try:
        getattr(kit(), name)()
    except BrokenPromiseError as broken:
        return Result(promise, "BROKEN", str(broken))
    except unittest.SkipTest as skipped:
        return Result(promise, "not checked", str(skipped))
    return Result(promise, "held")


def _print_table(results: list[Result]) -> None:
    width = max(len(each.promise.of or "all") for each in results)
    for each in results:
        why = f" ({each.tells})" if each.outcome == "not checked" else ""
        print(f"{each.outcome:11}  {each.promise.of or 'all':{width}}  {each.promise.says}{why}")
    for each in results:
        if each.outcome == "BROKEN":
            print(f"\n{each.promise.name}\n{each.tells}")
