"""The kit for whole libraries: sound ones pass, each broken one is caught, and a failure is told in plain words."""

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import Phase
from typing_extensions import override

import broken_managers
from broken_managers import ENGINES, PORTS, Twin
from profiles import profile, unshrunk
from resetkit import Account, KeyedTokenHasher, ResetPolicy, ThrottledError
from resetkit.events import Event
from resetkit.mailers import AsyncMemoryMailer, MemoryMailer
from resetkit.stores import AsyncMemoryTokenStore, AsyncSQLiteTokenStore, MemoryTokenStore, SQLiteTokenStore
from resetkit.testing import AsyncFakeAccounts, BrokenPromiseError, FakeAccounts, FakeClock
from resetkit.testing._kit import MisuseError
from resetkit.testing._manager_assembly import assemble
from resetkit.testing._manager_judge import Shown
from resetkit.testing._manager_story import Story
from resetkit.testing.managers import (
    AsyncAccountAdmin,
    AsyncManagerConformance,
    AsyncPorts,
    ManagerChecks,
    ManagerConformance,
    Ports,
)
from resetkit.throttle import AsyncMemoryThrottle, MemoryThrottle

UNCOUNTED = pytest.mark.no_cover
"""Counting lines is slow, and the tests without this run the same ones."""

# Sound libraries.


class TestMemory(ManagerConformance):
    @override
    def open_ports(self) -> AbstractContextManager[Ports]:
        return opened(Ports(store=MemoryTokenStore()))


class TestAsyncMemory(AsyncManagerConformance):
    examples = 40  # the engine is one, and the colour above tells a hundred

    @override
    def open_ports(self) -> AbstractAsyncContextManager[AsyncPorts]:
        return opened_async(AsyncPorts(store=AsyncMemoryTokenStore()))


@UNCOUNTED
class TestSQLite(ManagerConformance):
    examples = 20

    @contextmanager
    @override
    def open_ports(self) -> Generator[Ports, None, None]:
        with TemporaryDirectory() as folder:
            store = SQLiteTokenStore(Path(folder) / "tokens.sqlite3")
            yield Ports(store=store)
            store.close()


@UNCOUNTED
class TestAsyncSQLite(AsyncManagerConformance):
    examples = 20

    @asynccontextmanager
    @override
    async def open_ports(self) -> AsyncGenerator[AsyncPorts, None]:
        with TemporaryDirectory() as folder:
            store = AsyncSQLiteTokenStore(Path(folder) / "tokens.sqlite3")
            yield AsyncPorts(store=store)
            store.close()


class ExactAccounts(FakeAccounts):
    """Accounts as an application has them: found by the exact address, and only if they may reset."""

    @override
    def find(self, identifier: str, /) -> Account | None:
        found = super().find(identifier)
        return found if found and found.can_reset and found.email == identifier else None

    @override
    def get(self, account_id: str, /) -> Account | None:
        found = super().get(account_id)
        return found if found and found.can_reset else None


class AsyncAdmin:
    """What an async application does with its accounts."""

    def __init__(self, accounts: FakeAccounts) -> None:
        self._accounts = accounts

    async def add(self, account_id: str, email: str, *, password: str) -> None:
        self._accounts.add(account_id, email, password=password)

    async def change(self, account_id: str, *, email: str | None = None, can_reset: bool | None = None) -> None:
        self._accounts.change(account_id, email=email, can_reset=can_reset)

    async def remove(self, account_id: str) -> None:
        self._accounts.remove(account_id)


class TestEveryPortIsTheAuthors(ManagerConformance):
    examples = 30
    password = "Another-Horse-8-Battery!"

    @override
    def open_ports(self) -> AbstractContextManager[Ports]:
        accounts = ExactAccounts()
        ports = Ports(
            store=MemoryTokenStore(),
            mailer=MemoryMailer(),
            accounts=accounts,
            admin=accounts,
            throttle=MemoryThrottle(),
            hasher=KeyedTokenHasher([b"k" * 32]),
        )
        return opened(ports)


class TestEveryAsyncPortIsTheAuthors(AsyncManagerConformance):
    examples = 30

    @override
    def open_ports(self) -> AbstractAsyncContextManager[AsyncPorts]:
        accounts = ExactAccounts()
        admin: AsyncAccountAdmin = AsyncAdmin(accounts)
        ports = AsyncPorts(
            store=AsyncMemoryTokenStore(),
            mailer=AsyncMemoryMailer(),
            accounts=AsyncFakeAccounts(accounts),
            admin=admin,
            throttle=AsyncMemoryThrottle(),
            hasher=KeyedTokenHasher([b"k" * 32]),
        )
        return opened_async(ports)


class ForgetsAtItsKeepTime(MemoryTokenStore):
    """As Redis does: what is past its keep time is gone by itself, and a purge finds nothing."""

    @override
    def purge(self, *, before: Any, limit: int) -> int:
        super().purge(before=before, limit=99_999)
        return 0


class TestAStoreThatExpiresByItself(ManagerConformance):
    examples = 30

    @override
    def open_ports(self) -> AbstractContextManager[Ports]:
        return opened(Ports(store=ForgetsAtItsKeepTime()))


# Broken ones.


@contextmanager
def opened(ports: Ports) -> Generator[Ports, None, None]:
    yield ports


@asynccontextmanager
async def opened_async(ports: AsyncPorts) -> AsyncGenerator[AsyncPorts, None]:
    yield ports


def sound() -> Ports:
    return Ports(store=MemoryTokenStore())


def story_of(make: Callable[[], Ports], examples: int) -> None:
    """Run the sync kit on these ports."""

    class TestIt(ManagerConformance):
        @override
        def open_ports(self) -> AbstractContextManager[Ports]:
            return opened(make())

    TestIt.examples = examples
    TestIt().test_every_story_goes_as_the_model_says()


def async_story(examples: int) -> None:
    """Run the async kit on sound ports."""

    class TestIt(AsyncManagerConformance):
        @override
        def open_ports(self) -> AbstractAsyncContextManager[AsyncPorts]:
            return opened_async(AsyncPorts(store=AsyncMemoryTokenStore()))

    TestIt.examples = examples
    TestIt().test_every_story_goes_as_the_model_says()


ENOUGH = 1000  # of a hundred, some twins are missed once in ten times


@pytest.mark.parametrize("twin", ENGINES, ids=lambda twin: twin.__name__)
def test_a_broken_engine_is_caught(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name = ENGINES[twin]
    monkeypatch.setattr(owner, name, twin)
    with unshrunk(), pytest.raises(BrokenPromiseError, match="ResetManager does not keep"):
        story_of(sound, ENOUGH)


ASYNC_TWINS = [
    broken_managers.answer_by_account,
    broken_managers.release_after_any_failure,
    broken_managers.bind_no_realm,
    broken_managers.leave_the_sessions,
    broken_managers.take_any_account,
]


@pytest.mark.parametrize("twin", ASYNC_TWINS, ids=lambda twin: twin.__name__)
def test_a_broken_engine_is_caught_in_the_other_colour_too(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name = ENGINES[twin]
    monkeypatch.setattr(owner, name, twin)
    with unshrunk(), pytest.raises(BrokenPromiseError):
        async_story(ENOUGH)


@pytest.mark.parametrize("name", PORTS)
def test_a_broken_adapter_is_caught(name: str) -> None:
    with unshrunk(), pytest.raises(BrokenPromiseError):
        story_of(PORTS[name], ENOUGH)


def test_there_are_twins_enough() -> None:
    assert len(ENGINES) + len(PORTS) > 60


# How it is told.


@UNCOUNTED
def test_a_failure_is_told_as_the_shortest_story_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name = ENGINES[broken_managers.expire_a_second_late]
    monkeypatch.setattr(owner, name, broken_managers.expire_a_second_late)
    with profile(phases=[Phase.generate, Phase.shrink]), pytest.raises(BrokenPromiseError) as broken:
        story_of(sound, ENOUGH)
    lines = str(broken.value).splitlines()
    assert lines[1] in {
        f"expected 'expired', got '{each}': so says the model of the last act" for each in ("done", "used")
    }
    assert lines[2] == "What was done:"
    assert lines[3] == "   1. the policy is the default one"
    assert lines[4] == "   2. a new account 'eve' has the address eve@example.org"
    assert lines[6] == "   4. ask('eve@example.org') -> done"
    assert lines[7] == "   5. run job 1 -> done"
    assert lines[8] == "   6. wait 30m, until T+30m"
    assert lines[9] in {"   7. look at link 1 -> done", "   7. redeem link 1 -> used"}
    assert len(lines) == 10
    assert not getattr(broken.value, "__notes__", [])


@UNCOUNTED
def test_the_policy_is_told_where_it_matters() -> None:
    with profile(phases=[Phase.generate, Phase.shrink]), pytest.raises(BrokenPromiseError) as broken:
        story_of(PORTS["KeepsTheNewestOnly"], ENOUGH)
    assert "the policy has outstanding=" in str(broken.value)


def test_an_adapter_that_fails_by_itself_is_named() -> None:
    with unshrunk(), pytest.raises(BrokenPromiseError) as broken:
        story_of(PORTS["a_mailer_that_fails_by_itself"], ENOUGH)
    assert "mailer.send failed by itself, with ValueError: no such mailbox" in str(broken.value)


def test_no_failure_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the report of the engine that logs addresses says which; and no report says a token."""
    owner, name = ENGINES[broken_managers.tell_strangers]
    monkeypatch.setattr(owner, name, broken_managers.tell_strangers)
    tokens: list[str] = []

    class Keeping(MemoryMailer):
        @override
        def send(self, mail: Any, /) -> None:
            super().send(mail)
            tokens.append(str(getattr(mail, "token", "no token")))

    for _ in range(20):
        with unshrunk(), pytest.raises(BrokenPromiseError) as broken:
            story_of(lambda: Ports(store=MemoryTokenStore(), mailer=Keeping()), ENOUGH)
        assert not any(token in str(broken.value) for token in tokens)
        if tokens:  # else it broke before the first mail
            return
    pytest.fail("no story came to a mail")


# Single acts, where chance comes too seldom.


@contextmanager
def telling(ports: Ports) -> Generator[Story, None, None]:
    """A story that a test tells itself."""
    kit, clock, told = TestMemory(), FakeClock(), list[Event]()
    story = Story(kit, assemble(ports, ResetPolicy(), clock, told.append), ResetPolicy(), clock, told)
    yield story
    story.close()


def test_a_directory_that_finds_a_deleted_account_is_named() -> None:
    with telling(PORTS["accounts_that_outlive_their_deletion"]()) as story:
        story.ask("2@example.org", client=None, code=False)
        story.ask("eve@example.org", client=None, code=False)
        story.run(story.jobs[1], worker=False)
        story.delete("1")
        with pytest.raises(BrokenPromiseError, match="answers with the account '1', which is gone"):
            story.run(story.jobs[0], worker=False)


def mailed(story: Story, *, code: bool = False) -> Shown:
    """The newest token of the first account."""
    story.ask("eve@example.org", client=None, code=code)
    story.run(story.jobs[-1], worker=False)
    return story.tokens[-1]


@pytest.mark.parametrize("after", [False, True])
def test_a_full_dispatcher(after: bool) -> None:
    with telling(sound()) as story:
        story.plan_failure("dispatcher", "dispatch", ThrottledError(5), after=after)
        story.ask("eve@example.org", client=None, code=True)
        story.redeem(mailed(story), client=None)
        story.end()


@pytest.mark.parametrize("worker", [False, True])
def test_a_notice_that_fails_is_tried_again(worker: bool) -> None:
    with telling(sound()) as story:
        story.redeem(mailed(story), client=None)
        story.plan_failure("mailer", "send", None, after=False)
        first = story.jobs[0]
        story.run(first, worker=worker)
        story.run(first if worker else story.jobs[-1], worker=False)
        story.delete("eve")
        story.run(first, worker=worker)
        story.end()


def test_a_decoy_stays_one_when_its_account_appears() -> None:
    with telling(sound()) as story:
        story.delete("eve")
        story.ask("eve.1@example.org", client=None, code=True)
        story.run(story.jobs[0], worker=False)
        story.join("eve", "eve")
        story.run(story.done[0], worker=True)
        story.end()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("code", [False, True])
def test_a_look_or_a_reset_whose_account_cannot_be_read(after: bool, code: bool) -> None:
    with telling(sound()) as story:
        token = mailed(story, code=code)
        story.plan_failure("accounts", "get", None, after=after)
        story.look(token, client=None)
        story.plan_failure("accounts", "get", None, after=after)
        story.plan_failure("store", "release", None, after=after)
        story.redeem(token, client=None)
        story.end()


@pytest.mark.parametrize("after", [False, True])
def test_an_operator_s_link_whose_making_failed(after: bool) -> None:
    """Whether the record is there is known, though nobody got the link."""
    with telling(sound()) as story:
        story.plan_failure("store", "add", None, after=after)
        story.issue("eve", timedelta(days=1))
        assert len(story.model.store.records) == after
        story.issue("eve", timedelta(days=1))
        story.end()


# What an author may get wrong.


def test_accounts_and_their_administration_go_together() -> None:
    with pytest.raises(TypeError, match="go together"):
        Ports(store=MemoryTokenStore(), accounts=FakeAccounts())
    with pytest.raises(TypeError, match="go together"):
        Ports(store=MemoryTokenStore(), admin=FakeAccounts())
    with pytest.raises(TypeError, match="go together"):
        AsyncPorts(store=AsyncMemoryTokenStore(), accounts=AsyncFakeAccounts(FakeAccounts()))


def test_what_is_no_set_of_ports_is_said_to_be_none() -> None:
    store: Any = MemoryTokenStore()
    with unshrunk(), pytest.raises(MisuseError, match=r"must yield Ports\(store=...\), not MemoryTokenStore"):
        story_of(lambda: store, 5)


def test_an_adapter_of_the_other_colour_is_named() -> None:
    store: Any = AsyncMemoryTokenStore()
    with unshrunk(), pytest.raises(MisuseError, match=r"store must be sync, but AsyncMemoryTokenStore\.add is async"):
        story_of(lambda: Ports(store=store), 5)


def test_an_adapter_that_fails_by_chance_is_told_with_what_was_done_when_it_failed() -> None:
    class Once(MemoryTokenStore):
        has_lied = False

        @override
        def revoke(self, account_id: str, /, *, now: Any) -> int:
            count = super().revoke(account_id, now=now)
            if count and not Once.has_lied:
                Once.has_lied = True
                return count + 1
            return count

    with unshrunk(), pytest.raises(BrokenPromiseError, match="not again when the same was done once more") as broken:
        story_of(lambda: Ports(store=Once()), ENOUGH)
    told = str(broken.value)
    assert "so says the model of the answer to the last act" in told
    assert "revoke the tokens of" in told.partition("What was done when it came:")[2].partition("What was done:")[0]


def test_a_store_that_is_not_emptied_is_said_to_be_so() -> None:
    store = MemoryTokenStore()
    with unshrunk(), pytest.raises(MisuseError, match="must yield a new or emptied store"):
        story_of(lambda: Ports(store=store), 100)


def test_ports_that_cannot_be_opened_are_an_error_that_says_so() -> None:
    def closed() -> Ports:
        raise OSError("the database is away")

    with unshrunk(), pytest.raises(BrokenPromiseError, match="the database is away"):
        story_of(closed, 5)


def test_a_kit_without_ports_is_refused_at_its_definition() -> None:
    with pytest.raises(TypeError, match="open_ports"):
        type("TestNothing", (ManagerConformance,), {})
    with pytest.raises(TypeError, match="open_ports"):
        type("TestNothing", (AsyncManagerConformance,), {})
    with pytest.raises(NotImplementedError):
        ManagerChecks().assembled(ResetPolicy(), FakeClock(), print)
    with pytest.raises(NotImplementedError):
        ManagerConformance().open_ports()
    with pytest.raises(NotImplementedError):
        AsyncManagerConformance().open_ports()
