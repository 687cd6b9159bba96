"""Every order in which operations and whole flows can meet, on a small model and on the real code."""

import itertools
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVarTuple

import pytest

from harness import ADDRESS, KEY, LINK, roomy
from resetkit import InvalidTokenError, KeyedTokenHasher, PasswordRejectedError, Quota, TokenStore
from resetkit._manager import Engine
from resetkit._sync import lift
from resetkit.events import Event
from resetkit.mailers import MemoryMailer
from resetkit.stores import MemoryTokenStore
from resetkit.testing import FakeAccounts, FakeClock
from resetkit.testing._records import MINUTE, NOW, record
from resetkit.throttle import AsyncMemoryThrottle

Ts = TypeVarTuple("Ts")


@dataclass
class Entry:
    state: str = "outstanding"
    holder: str | None = None


@dataclass
class Model:
    """What the protocol says of one account's records, in the fewest words. Nothing expires here."""

    quota: int = 3
    keep: int = 1
    entries: dict[str, Entry] = field(default_factory=dict)

    def add(self, name: str) -> bool:
        if name in self.entries:
            return self.entries[name].state == "outstanding"
        if len(self.entries) >= self.quota:
            return False
        self.entries[name] = Entry()
        live = [entry for entry in self.entries.values() if entry.state == "outstanding"]
        for entry in live[: -self.keep]:
            entry.state = "superseded"
        self._nobody_holds()
        return True

    def claim(self, name: str, claim_id: str) -> bool:
        entry = self.entries.get(name)
        if entry is None:
            return False
        if entry.state != "outstanding":
            return entry.holder == claim_id
        self.revoke()
        entry.state, entry.holder = "used", claim_id
        return True

    def release(self, name: str, claim_id: str) -> bool:
        entry = self.entries.get(name)
        if entry is None or entry.holder != claim_id:
            return False
        entry.state, entry.holder = "outstanding", None
        return True

    def revoke(self) -> int:
        live = [entry for entry in self.entries.values() if entry.state == "outstanding"]
        for entry in live:
            entry.state = "revoked"
        self._nobody_holds()
        return len(live)

    def _nobody_holds(self) -> None:
        for entry in self.entries.values():
            entry.holder = None


class OfOneAccount:
    """The same words, on a real store."""

    def __init__(self, store: TokenStore, account: str, keep: int) -> None:
        self._store, self._account, self._keep = store, account, keep

    def add(self, name: str) -> bool:
        fresh = record(f"{self._account}.{name}", self._account)
        return self._store.add(fresh, quotas=[Quota(3, NOW - MINUTE)], keep=self._keep)

    def claim(self, name: str, claim_id: str) -> bool:
        return self._store.claim(f"{self._account}.{name}", claim_id=claim_id, now=NOW)

    def release(self, name: str, claim_id: str) -> bool:
        return self._store.release(f"{self._account}.{name}", claim_id=claim_id, guess=False)

    def revoke(self) -> int:
        return self._store.revoke(self._account, now=NOW)

    def states(self) -> dict[str, tuple[str, str | None]]:
        found = {name: self._store.get(f"{self._account}.{name}") for name in ("s1", "s2", "s3", "s4")}
        return {name: (each.state, each.claim_id) for name, each in found.items() if each}


OPERATIONS: tuple[Callable[[Any], object], ...] = (
    lambda store: store.add("s1"),
    lambda store: store.add("s2"),
    lambda store: store.claim("s1", "c1"),
    lambda store: store.claim("s1", "c2"),
    lambda store: store.claim("s2", "c2"),
    lambda store: store.release("s1", "c1"),
    lambda store: store.release("s2", "c2"),
    lambda store: store.revoke(),
)


@pytest.mark.parametrize("keep", [1, 2])
def test_every_sequence_of_operations_is_answered_as_the_model_says(store: TokenStore, keep: int) -> None:
    """All 8^n sequences of add, claim, release and revoke: in memory five long, in SQLite three.

    With two tokens outstanding before, so that release against revoke, against add and against a sibling's claim, and
    add against claim, come in every order.
    """
    length = 5 if isinstance(store, MemoryTokenStore) else 3
    for number, sequence in enumerate(itertools.product(range(len(OPERATIONS)), repeat=length)):
        model, real = Model(keep=keep), OfOneAccount(store, f"a{number}", keep)
        for name in ("s1", "s2") if keep == 2 else ("s1",):  # as many as are kept
            assert real.add(name) == model.add(name)
        for index in sequence:
            assert OPERATIONS[index](real) == OPERATIONS[index](model), f"keep={keep} {sequence} at {index}"
        assert real.states() == {name: (entry.state, entry.holder) for name, entry in model.entries.items()}
        held = [entry for entry in model.entries.values() if entry.holder]
        assert not (held and any(entry.state == "outstanding" for entry in model.entries.values())), (
            "a claim that may still be released lives beside an outstanding token"
        )


# Whole flows: the engine's own code, with a pause before each call of a port, in every schedule.


class Pause:
    """Awaited, gives the schedule the choice of who goes on."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def pausing(port: object, names: Sequence[str]) -> Any:
    class Paused:
        pass

    paused = Paused()
    for name in names:

        async def method(*args: Any, name: str = name, **kwargs: Any) -> Any:
            await Pause()
            return getattr(port, name)(*args, **kwargs)

        setattr(paused, name, method)
    return paused


class InPlace:
    """A runtime without threads or tasks: the schedule is all there is."""

    async def compute(self, work: Callable[[*Ts], Any], /, *args: *Ts) -> Any:
        return work(*args)

    async def protect(self, work: Coroutine[Any, Any, Any], /) -> Any:
        return await work

    async def rest(self, seconds: float, /) -> None: ...

    async def close(self, timeout: float, /) -> None: ...


class World:
    """A fresh engine, account and store for each schedule."""

    def __init__(self) -> None:
        self.accounts = FakeAccounts()
        self.accounts.add("alice", ADDRESS)
        self.mailer = MemoryMailer()
        self.store = MemoryTokenStore()
        self.events: list[Event] = []
        self.jobs: list[str] = []
        self.engine = Engine(
            pausing(self.accounts, ("find", "get", "set_password", "end_sessions")),
            pausing(self.store, ("add", "get", "attempt", "claim", "release", "revoke", "purge")),
            pausing(self.mailer, ("send",)),
            link=LINK,
            policy=roomy(outstanding=2),
            hasher=KeyedTokenHasher([KEY]),
            throttle=AsyncMemoryThrottle(),
            dispatcher=self,
            clock=FakeClock(),
            on_event=self.events.append,
            realm="",
            runtime=InPlace(),
        )

    async def dispatch(self, job: str, _run: object, /, **_options: object) -> None:
        self.jobs.append(job)

    async def close(self, _timeout: float, /) -> None: ...

    def alone(self, work: Awaitable[Any]) -> Any:
        """Run one flow by itself."""
        steps = work.__await__()
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return done.value

    def token(self) -> str:
        self.alone(self.engine.request_reset(ADDRESS, client=None))
        self.alone(self.engine.run_job(self.jobs[-1]))
        return self.mailer.outbox[-1].token  # type: ignore[union-attr]  # a reset mail


Flow = Callable[[World], Awaitable[Any]]
Outcome = list[Any]


def run(schedule: list[int], prepare: Callable[[World], Sequence[Awaitable[Any]]]) -> tuple[World, Outcome, list[int]]:
    """Run flows by a schedule of choices, then first come first served; with the number of choices at each point."""
    world = World()
    flows = [each.__await__() for each in prepare(world)]
    outcome: Outcome = [None] * len(flows)
    living = list(range(len(flows)))
    widths: list[int] = []
    while living:
        choice = schedule[len(widths)] if len(widths) < len(schedule) else 0
        widths.append(len(living))
        number = living[choice]
        try:
            next(flows[number])
        except StopIteration as done:
            outcome[number] = done.value
            living.remove(number)
        except (InvalidTokenError, PasswordRejectedError) as error:
            outcome[number] = error
            living.remove(number)
    return world, outcome, widths


def every_schedule(prepare: Callable[[World], Sequence[Awaitable[Any]]]) -> Iterator[tuple[World, Outcome]]:
    """All of them, depth first."""
    schedule: list[int] = []
    while True:
        world, outcome, widths = run(schedule, prepare)
        yield world, outcome
        schedule += [0] * (len(widths) - len(schedule))
        while schedule and schedule[-1] + 1 >= widths[len(schedule) - 1]:
            schedule.pop()
        if not schedule:
            return
        schedule[-1] += 1


def won(outcome: Outcome) -> list[int]:
    return [number for number, each in enumerate(outcome) if each is not None and not isinstance(each, Exception)]


def test_two_redemptions_of_one_token_in_every_schedule() -> None:
    """One wins, its password stands, the sessions are ended, and one notice is handed over."""

    def prepare(world: World) -> Sequence[Awaitable[Any]]:
        token = world.token()
        world.jobs.clear()
        return [world.engine.reset_password(token, "first"), world.engine.reset_password(token, "second")]

    schedules = 0
    for world, outcome in every_schedule(prepare):
        schedules += 1
        assert len(won(outcome)) == 1
        assert world.accounts.password("alice") == ("first", "second")[won(outcome)[0]]
        assert world.accounts.sessions("alice") == 0
        assert len(world.jobs) == 1
    assert schedules > 100


def test_two_siblings_in_every_schedule() -> None:
    """Of two tokens of one account one wins; the loser is told that it ended."""

    def prepare(world: World) -> Sequence[Awaitable[Any]]:
        first, second = world.token(), world.token()
        return [world.engine.reset_password(first, "first"), world.engine.reset_password(second, "second")]

    for world, outcome in every_schedule(prepare):
        assert len(won(outcome)) == 1
        loser = next(each for each in outcome if isinstance(each, InvalidTokenError))
        assert loser.reason in {"revoked", "stale"}
        assert world.accounts.password("alice") == ("first", "second")[won(outcome)[0]]


def test_a_refused_password_against_a_revoke_in_every_schedule() -> None:
    """A release never revives what the revoke ended: after both, the token is dead or was given back before."""

    def prepare(world: World) -> Sequence[Awaitable[Any]]:
        token = world.token()
        world.accounts.set_password = reject  # type: ignore[method-assign]  # every password is refused
        return [world.engine.reset_password(token, "x"), world.engine.revoke_tokens("alice")]

    def reject(_account_id: str, _password: str, /) -> None:
        raise PasswordRejectedError("too short")

    for world, _ in every_schedule(prepare):
        assert {each.state for each in world.store._records.values()} <= {"revoked", "used"}
        assert {each.claim_id for each in world.store._records.values()} == {None}


def test_a_refused_password_against_a_newer_mail_in_every_schedule() -> None:
    """Whatever came first, one or two links are good at the end: a refused password costs nobody their last one."""

    def prepare(world: World) -> Sequence[Awaitable[Any]]:
        token = world.token()
        world.alone(world.engine.request_reset(ADDRESS, client=None))
        world.accounts.set_password = reject  # type: ignore[method-assign]  # every password is refused
        return [world.engine.reset_password(token, "x"), world.engine.run_job(world.jobs[-1])]

    def reject(_account_id: str, _password: str, /) -> None:
        raise PasswordRejectedError("too short")

    for world, _ in every_schedule(prepare):
        states = [each.state for each in world.store._records.values()]
        assert states.count("outstanding") in {1, 2}


def test_a_job_delivered_twice_at_once_in_every_schedule() -> None:
    """Two mails under one selector, one record, and exactly one of the two links works."""

    def prepare(world: World) -> Sequence[Awaitable[Any]]:
        world.alone(world.engine.request_reset(ADDRESS, client=None, code=True))
        return [world.engine.run_job(world.jobs[0]), world.engine.run_job(world.jobs[0])]

    for world, _ in every_schedule(prepare):
        assert len(world.store._records) == 1
        tokens = [mail.token for mail in world.mailer.outbox]  # type: ignore[union-attr]  # reset mails
        assert len(tokens) == 2
        good = 0
        for token in tokens:
            try:
                world.alone(world.engine.check_token(token))
            except InvalidTokenError:
                continue
            good += 1
        assert good == 1


def test_a_redemption_against_a_change_of_address_in_every_schedule() -> None:
    """A reset that succeeds never began after the change was committed."""

    def prepare(world: World) -> Sequence[Awaitable[Any]]:
        token = world.token()

        async def change() -> bool:
            await Pause()
            world.accounts.change("alice", email="new@example.org")
            return world.accounts.password("alice") == "old"

        return [world.engine.reset_password(token, "new"), change()]

    outcomes = set()
    for world, (reset, changed_first) in every_schedule(prepare):
        if isinstance(reset, InvalidTokenError):
            assert reset.reason == "stale"
            assert world.accounts.password("alice") == "old"
        outcomes.add((isinstance(reset, InvalidTokenError), changed_first))
    assert len(outcomes) > 1


def test_the_exploration_catches_a_store_that_checks_and_then_acts() -> None:
    """The broken twin: a claim in two steps lets two redemptions win in some schedule."""

    def prepare(world: World) -> Sequence[Awaitable[Any]]:
        token = world.token()

        async def claim(selector: str, *, claim_id: str, now: object) -> bool:
            await Pause()
            found = world.store.get(selector)
            live = found is not None and found.state == "outstanding"
            await Pause()
            return live and (world.store.claim(selector, claim_id=claim_id, now=now) or True)  # type: ignore[arg-type]  # a datetime

        world.engine._store.claim = claim  # type: ignore[method-assign]  # the twin
        world.accounts.get = keep_stamp(world)  # type: ignore[method-assign]  # the stamp would be a second line
        return [world.engine.reset_password(token, "first"), world.engine.reset_password(token, "second")]

    def keep_stamp(world: World) -> Callable[..., Any]:
        account = FakeAccounts.get(world.accounts, "alice")
        return lambda _account_id: account

    assert any(len(won(outcome)) == 2 for _, outcome in every_schedule(prepare))


def test_lifted_ports_never_pause() -> None:
    """The sync face runs each flow in one step, so no schedule can come between."""
    steps = lift(len)("abc").__await__()
    with pytest.raises(StopIteration) as done:
        next(steps)
    assert done.value.value == 3
