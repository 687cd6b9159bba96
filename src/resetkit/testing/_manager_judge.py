"""How an act upon the library is done and judged: its answer, the calls of ports, events, secrets, records."""

import json
import logging
from collections import Counter
from collections.abc import Awaitable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from typing_extensions import override

from resetkit import events
from resetkit._tokens import Token, code_token
from resetkit.errors import (
    DuplicateSelectorError,
    InvalidTokenError,
    PasswordRejectedError,
    ResetError,
    ThrottledError,
)
from resetkit.events import Event
from resetkit.policy import Limit, ResetPolicy
from resetkit.protocols import AsyncTokenStore
from resetkit.testing._kit import BrokenPromiseError, expect, expect_that
from resetkit.testing._manager_assembly import Assembly, HeldJob, PortName
from resetkit.testing._manager_model import ManagerModel
from resetkit.testing._transcript import shown
from resetkit.testing.failing import PortCall
from resetkit.testing.fakes import FakeClock
from resetkit.testing.managers import ManagerChecks
from resetkit.values import Account, TokenRecord

By = Literal["client", "identifier"]
Caller = tuple[By, str, Limit]

CONTEXT: Final[Mapping[str, str]] = {"ip": "192.0.2.7"}
NO_CONTEXT: Final[Mapping[str, str]] = {}

# Who asks, and whom they count as: an IPv6 network is one caller.
CLIENTS: Final = {"192.0.2.1": "a", "::ffff:192.0.2.1": "a", "2001:db8::1": "b", "2001:db8::ffff": "b", "laptop": "c"}

# What a port may raise by its contract.
_ALLOWED: Final[Mapping[str, type[Exception]]] = {"add": DuplicateSelectorError, "set_password": PasswordRejectedError}
_NOTICEABLE: Final = 8  # characters; a shorter secret may stand in any text by chance


@dataclass(frozen=True, slots=True)
class Shown:
    """What a visitor can present, and what the transcript calls it."""

    label: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A job that the dispatcher took, and what it says."""

    label: str
    held: HeldJob = field(repr=False)
    content: Mapping[str, Any] = field(repr=False)

    @property
    def selector(self) -> str:
        """The record's, of a reset job."""
        return str(self.content["selector"])

    @property
    def attempt(self) -> int:
        """How often it was tried, this time included."""
        return int(self.content["attempt"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the caller got."""

    value: object = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What an act must come to."""

    error: BaseException | None = None
    events: Sequence[Event] = ()
    value: object = None


class Judge:
    """One opened library, all that is known of it, and the means to judge an act."""

    def __init__(
        self, kit: ManagerChecks, assembly: Assembly, policy: ResetPolicy, clock: FakeClock, told: list[Event]
    ) -> None:
        self.model = ManagerModel(policy, clock)
        self.is_sound = True
        """Whether no act is left half judged."""
        self.tokens: list[Shown] = []
        self.handles: list[Shown] = []
        self.jobs: list[Job] = []
        self.done: list[Job] = []
        self._kit = kit
        self._assembly = assembly
        self._policy = policy
        self._clock = clock
        self._events = told
        self._managers = {realm: assembly.make(realm) for realm in ("", "other")}
        self._numbers: Counter[str] = Counter()
        self._names: dict[str, str] = {}  # selectors → what the transcript calls their records
        self._keys: dict[tuple[str, str], object] = {}
        self._callers: dict[object, tuple[str, str]] = {}
        self._hidden: set[str] = set()
        self._logged: list[str] = []
        self._complaints: list[str] = []
        changed = [each.name for each in fields(policy) if getattr(policy, each.name) != each.default]
        numbers = ", ".join(f"{name}={shown(getattr(policy, name))}" for name in changed)
        self._tell(f"the policy has {numbers}" if numbers else "the policy is the default one")

    # An act.

    def _do(self, says: str, work: Awaitable[object]) -> Outcome:
        step = self._kit.transcript.step(says)
        self.is_sound = False
        self._events.clear()
        self._complaints.clear()
        for port in self._assembly.failing.values():
            port.calls.clear()
        try:
            with _listening(self._logged):
                outcome = Outcome(self._kit.run(work))
        except Exception as error:  # noqa: BLE001  # what the caller gets is what is judged
            outcome = Outcome(error=error)
        step.ended = _told(outcome.error)
        self._blame_adapters()
        return outcome

    def _live(self, says: str, work: Awaitable[object]) -> None:
        """Something happens in the application, outside the library."""
        self._tell(says)
        self.is_sound = False
        self._kit.run(work)
        self.is_sound = True

    def _tell(self, says: str) -> None:
        self._kit.transcript.step(says)

    def _blame_adapters(self) -> None:
        """None fails by itself, but as its contract allows."""
        for name, port in self._assembly.failing.items():
            for call in port.calls:
                allowed = isinstance(call.error, _ALLOWED.get(call.method, ()))
                if call.error is not None and not call.planned and not allowed:
                    found = f"{type(call.error).__name__}: {call.error}"
                    raise BrokenPromiseError(f"{name}.{call.method} failed by itself, with {found}") from call.error

    def _judge(self, outcome: Outcome, expected: Expected) -> None:
        expect(_told(outcome.error), _told(expected.error), "so says the model of the last act")
        if expected.error is None:
            expect(outcome.value, expected.value, "so says the model of the answer to the last act")
        elif not isinstance(expected.error, ResetError | LookupError):
            expect_that(outcome.error is expected.error, "an adapter's error reaches the caller as it is")
        for complaint in self._complaints:
            raise BrokenPromiseError(complaint)
        self._judge_events(expected.events)
        self._look_for_secrets(repr(outcome.value), str(outcome.value), repr(outcome.error), str(outcome.error))
        self._compare()
        self.is_sound = True

    def _judge_events(self, expected: Sequence[Event]) -> None:
        self._look_for_secrets(*map(repr, self._events))
        found = [_placeless(event) for event in self._events]
        if Counter(found) != Counter(expected):
            expect(found, list(expected), "every outcome has its event, and only one")

    def _compare(self) -> None:
        """Every record is what the model says."""
        found = self._kit.run(_read(self._assembly.store, list(self.model.store.records)))
        for selector, expected in self.model.store.records.items():
            record = found[selector]
            if record is None or _outline(record) != _outline(expected):
                name = self._names[selector]
                expect(record and _bare(record), _bare(expected), f"so says the model of the record of {name}")

    def _gone(self, selectors: Sequence[str]) -> list[str]:
        """Those that the store does not have any more."""
        found = self._kit.run(_read(self._assembly.store, selectors))
        return [selector for selector, record in found.items() if record is None]

    # The calls of an act.

    def _calls(self, port: PortName, method: str | None = None) -> list[PortCall]:
        return [call for call in self._assembly.failing[port].calls if method in {None, call.method}]

    def _first(self, port: PortName, method: str) -> PortCall:
        for call in self._calls(port, method):
            return call
        raise BrokenPromiseError(f"{port}.{method} was not called")

    def _one(self, port: PortName, method: str) -> PortCall:
        calls = self._calls(port, method)
        if len(calls) > 1:
            raise BrokenPromiseError(f"{port}.{method} was called {len(calls)} times, and once is enough")
        return self._first(port, method)

    def _untouched(self, *ports: PortName, why: str) -> None:
        for port in ports:
            for method in sorted({call.method for call in self._calls(port)}):
                self._uncalled(port, method, why=why)

    def _uncalled(self, port: PortName, method: str, *, why: str) -> None:
        """To be told once the answer was judged, for a wrong answer says more."""
        if self._calls(port, method):
            self._complaints.append(f"{port}.{method} was called, but {why}")

    def _failure(self, *ports: PortName) -> BaseException | None:
        """What the first of these ports to fail failed with."""
        failed = (call.error for port in ports for call in self._calls(port) if call.error)
        return next((error for error in failed if not isinstance(error, DuplicateSelectorError)), None)

    def _throttled(
        self,
        action: Literal["request", "redeem"],
        callers: Sequence[Caller],
        context: Mapping[str, str],
        realm: str = "",
    ) -> Expected | None:
        """What the throttle's refusal or failure comes to; None if the call goes on."""
        hits = self._calls("throttle")
        for number, (by, caller, limit) in enumerate(callers, 1):
            expect_that(len(hits) >= number, f"a {action} is counted by {by}, and this one was not")
            hit = hits[number - 1]
            expect((hit.options["limit"], hit.options["window"]), limit, f"the policy limits a {action} by {by}")
            self._count_under(f"{action} by {by}{realm}", caller, hit.args[0])
            stop = _stopped(hit, action, by, context)
            if stop is not None:
                expect(len(hits), number, "a call that was refused counts nowhere else")
                self._untouched("accounts", "store", "dispatcher", "hasher", why="the call was refused")
                return stop
        expect(len(hits), len(callers), "a call counts once for each limit")
        return None

    def _count_under(self, purpose: str, caller: str, key: object) -> None:
        known = self._keys.setdefault((purpose, caller), key), self._callers.setdefault(key, (purpose, caller))
        expect_that(known == (key, (purpose, caller)), f"one caller is one key and nobody else's: {purpose}")

    # What several flows need.

    def _account(self, answer: object) -> Account:
        """What the directory answered, which must be what the model knows."""
        expect_that(isinstance(answer, Account), f"a directory answers with Account or None, not {answer!r}")
        account: Any = answer
        person = self.model.people.get(account.id)
        if person is None:
            raise BrokenPromiseError(f"the directory answers with the account {account.id!r}, which is gone")
        found = (str(account.email), account.can_reset)
        expect(found, (person.email, person.can_reset), "the directory knows the account's latest address and standing")
        self._hide(account.email, account.stamp, *account.notify)
        known: Account = account
        return known

    def _take_jobs(self, again: str | None = None) -> None:
        """What the dispatcher took, whatever its caller was told."""
        for held in self._assembly.held[self._numbers["taken"] :]:
            self._numbers["taken"] += 1
            expect_that(not any(token.text in held.text for token in self.tokens), "a job holds a token")
            label = f"{again} once more" if again else f"job {self._number('job')}"
            self.jobs.append(Job(label, held, json.loads(held.text)))

    def _learn(self, token: Token, link: str, code: str | None, link_label: str, code_label: str = "") -> None:
        """A visitor or an operator was given these."""
        secrets = self.model.secrets[token.selector]
        secrets.link, secrets.code = str(link), None if code is None else str(code)
        expect_that(all(each.text != link for each in self.tokens), "no token is minted twice")
        self._hide(token.secret)
        self.tokens.append(Shown(link_label, str(link)))
        self._names[token.selector] = link_label
        if code is not None:
            self._hide(code)
            typed = f"{code[:4]} {code[4:].lower()}"  # as people do
            self.tokens.append(Shown(code_label, code_token(token.selector, typed)))

    def _number(self, what: str) -> int:
        self._numbers[what] += 1
        return self._numbers[what]

    def _hide(self, *secrets: str) -> None:
        self._hidden.update(str(each) for each in secrets if len(each) >= _NOTICEABLE)

    def _look_for_secrets(self, *texts: str) -> None:
        for text in (*texts, *self._logged):
            if any(secret in text for secret in self._hidden):
                raise BrokenPromiseError(
                    "a token, code, password, stamp or address stands in an event, error, log or repr"
                )
        self._logged.clear()


class _Listener(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._lines = lines

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))


@contextmanager
def _listening(lines: list[str]) -> Generator[None, None, None]:
    """What the library logs meanwhile."""
    logger, listener = logging.getLogger("resetkit"), _Listener(lines)
    level = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(listener)


async def _read(store: AsyncTokenStore, selectors: Sequence[str]) -> dict[str, TokenRecord | None]:
    return {selector: await store.get(selector) for selector in selectors}


def _told(error: BaseException | None) -> str:
    if isinstance(error, ThrottledError):
        return f"throttled for {error.retry_after}s"
    if isinstance(error, InvalidTokenError):
        return error.reason
    return "done" if error is None else type(error).__name__


def _stopped(
    hit: PortCall, action: Literal["request", "redeem"], by: By, context: Mapping[str, str]
) -> Expected | None:
    if hit.error is not None:
        return Expected(hit.error)
    wait: Any = hit.answer
    if wait <= 0:
        return None
    told = events.RequestThrottled(action=action, by=by, retry_after=wait, context=context)
    return Expected(ThrottledError(wait), [told])


def _placeless(event: Event) -> Event:
    """A failure's place is not predicted, but there."""
    if isinstance(event, events.MailFailed):
        expect_that(bool(event.at), "a failure says where it was raised")
        return replace(event, at="")
    return event


def lost(content: Mapping[str, Any]) -> Event:
    """What is told of a job that will not be run."""
    if content["type"] == "reset":
        return events.JobLost(mail="reset", selector=content["selector"])
    return events.JobLost(mail="notice", account_id=content["account_id"])


def content_of(call: PortCall) -> dict[str, Any]:
    """What a dispatched job says."""
    content: dict[str, Any] = json.loads(str(call.args[0]))
    return content


def delay_of(call: PortCall) -> timedelta:
    """When a dispatched job is to run."""
    delay: Any = call.options["delay"]
    return timedelta(seconds=delay.total_seconds())


def _outline(record: TokenRecord) -> tuple[object, ...]:
    ends: tuple[datetime | None, ...] = (record.expires_at, record.code_expires_at, record.keep_until)
    named = (record.account_id, record.kind, record.state, record.guesses, record.created_at)
    return (*named, *ends, record.code_hash is None)


def _bare(record: TokenRecord) -> TokenRecord:
    """The record without what the model does not know."""
    code_hash = None if record.code_hash is None else "hash"
    return replace(record, link_hash="hash", code_hash=code_hash, stamp_digest="digest", claim_id=None)
