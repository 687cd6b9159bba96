"""What a check did to an adapter, written down in the words of the contract."""

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final, TypeGuard, TypeVar
from unittest import SkipTest

from resetkit.mails import PasswordChangedMail, ResetMail
from resetkit.testing._records import NOW, record
from resetkit.values import Account, Quota, TokenRecord

Port = TypeVar("Port")

_LIMIT: Final = 40  # lines; only races and long sequences make more calls
_LONG: Final = 120  # characters
_TOLD: Final = ("id", "email", "stamp", "can_reset", "notify", "to", "code", "locale", "context")
_UNITS: Final = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1)))


@dataclass(slots=True)
class _Call:
    method: str
    args: tuple[object, ...]
    options: dict[str, object]
    at_once: bool
    answer: object = None
    ended: str = "did not return"

    def __str__(self) -> str:
        given = [shown(each) for each in self.args] + [f"{key}={shown(each)}" for key, each in self.options.items()]
        answer = self.ended or shown(self.answer)
        return f"{'at once: ' if self.at_once else ''}{self.method}({', '.join(given)}) -> {answer}"


@dataclass(slots=True)
class Step:
    """What was done, in words, and what came of it."""

    says: str
    ended: str = ""

    def __str__(self) -> str:
        return f"{self.says} -> {self.ended}" if self.ended else self.says


class Transcript:
    """The calls since the adapter was opened, and how many there were in all. May be written from any thread."""

    def __init__(self) -> None:
        self.count: int = 0
        self._calls: list[_Call | Step] = []
        self._at_once = False
        self._unwritten = False
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Forget all."""
        self.count = 0
        self.begin_anew()

    def begin_anew(self) -> None:
        """What was done before is of no interest to a reader."""
        with self._lock:
            self._calls.clear()

    def watch(self, port: Port) -> Port:
        """The async port with its calls written down here, which begins anew."""
        self.begin_anew()
        watched: Any = _Watched(port, self)
        watching: Port = watched
        return watching

    def lines(self) -> list[str]:
        """A line for each call: what was asked, and what was answered."""
        with self._lock:
            calls = list(self._calls)
        lines = [str(call) for call in calls[-_LIMIT:]]
        return lines if len(calls) <= _LIMIT else [f"... {len(calls) - _LIMIT} calls before", *lines]

    @contextmanager
    def at_once(self, count: int) -> Generator[None, None, None]:
        """Mark the calls of a race of so many."""
        self._at_once = count > 1
        try:
            yield
        finally:
            self._at_once = False

    def step(self, says: str) -> Step:
        """Write down what is about to be done, in words."""
        step = Step(says)
        with self._lock:
            self._calls.append(step)
            self.count += 1
        return step

    @contextmanager
    def unwritten(self) -> Generator[None, None, None]:
        """Leave out the calls by which a check looks on: they count, and say nothing that a report does not."""
        self._unwritten = True
        try:
            yield
        finally:
            self._unwritten = False

    def begin(self, method: str, args: tuple[object, ...], options: dict[str, object]) -> _Call:
        """Write down what is asked."""
        call = _Call(method, args, options, self._at_once)
        with self._lock:
            self.count += 1
            if not self._unwritten:
                self._calls.append(call)
        return call


class _Watched:
    """Any async port. Its calls answer and raise what the port's do."""

    def __init__(self, port: object, transcript: Transcript) -> None:
        self._port = port
        self._transcript = transcript

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)

        async def call(*args: Any, **options: Any) -> Any:
            written = self._transcript.begin(name, args, options)
            try:
                written.answer = await method(*args, **options)
            except SkipTest:
                raise TypeError(f"{name} raised SkipTest: an adapter decides nothing about its checks") from None
            except BaseException as error:
                written.ended = f"raised {type(error).__name__}"
                raise
            written.ended = ""
            return written.answer

        return call


def shown(value: object, *, beside: object = None) -> str:
    """A value as a reader wants it; a record `beside` another shows the fields that differ."""
    match value:
        case TokenRecord():
            text = _shown_record(value, beside)
        case Account() | ResetMail() | PasswordChangedMail():
            text = _shown_told(value, beside)
        case Quota(count, since):
            text = f"{count} since {shown(since)}"
        case datetime():
            text = _shown_instant(value)
        case timedelta():
            text = _shown_span(value)
        case _ if _is_listed(value):
            text = f"[{', '.join(map(shown, value))}]"
        case str():
            text = repr(str(value))  # a kit's secrets are nobody's
        case _:
            text = repr(value)
    if len(text) > _LONG and isinstance(value, str | bytes):
        return f"{text[:_LONG]}... ({len(value)} long)"
    return text


def _is_listed(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)


def _shown_told(value: Account | ResetMail | PasswordChangedMail, beside: object) -> str:
    """What a report needs, in clear; beside another one, what differs."""
    told = {name: getattr(value, name) for name in _TOLD if hasattr(value, name)}
    if type(beside) is type(value):
        told = {name: each for name, each in told.items() if each != getattr(beside, name)}
    else:
        told = {name: each for name, each in told.items() if each}
    return f"{type(value).__name__}({', '.join(f'{name}={shown(each)}' for name, each in told.items())})"


def _shown_record(shown_one: TokenRecord, beside: object) -> str:
    """What tells it from the one beside it, or from a usual record of that instant."""
    if isinstance(beside, TokenRecord):
        return f"record({', '.join(_differing(shown_one, beside))})"
    usual = record(shown_one.selector, shown_one.account_id, at=shown_one.created_at)
    names = [repr(shown_one.selector), repr(shown_one.account_id)]
    at = [] if shown_one.created_at == NOW else [f"at={shown(shown_one.created_at)}"]
    return f"record({', '.join(names + at + _differing(shown_one, usual))})"


def _differing(one: TokenRecord, other: TokenRecord) -> list[str]:
    pairs = [(each.name, getattr(one, each.name)) for each in fields(one)]
    return [f"{name}={shown(value)}" for name, value in pairs if value != getattr(other, name)]


def _shown_instant(instant: datetime) -> str:
    if instant.tzinfo is None:
        return f"{instant} without a time zone"
    since = instant - NOW
    return "T" if not since else f"T{'+' if since > timedelta(0) else '-'}{_shown_span(abs(since))}"


def _shown_span(span: timedelta) -> str:
    for unit, length in _UNITS:
        if span >= length and not span % length:
            return f"{span // length}{unit}"
    return f"{span.total_seconds():g}s"
