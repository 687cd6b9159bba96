"""What is shipped for users' tests: mails to read, and ports that fail when told to."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harness import KEY, LINK
from resetkit import (
    AccountDirectory,
    AsyncAccountDirectory,
    AsyncDispatcher,
    AsyncMailer,
    AsyncResetManager,
    AsyncThrottle,
    AsyncTokenStore,
    Dispatcher,
    InvalidTokenError,
    KeyedTokenHasher,
    Mailer,
    PasswordRejectedError,
    ResetManager,
    Throttle,
    TokenHasher,
    TokenRecord,
    TokenStore,
)
from resetkit.dispatch import AsyncInlineDispatcher, InlineDispatcher
from resetkit.mailers import AsyncMemoryMailer, MemoryMailer
from resetkit.stores import AsyncMemoryTokenStore, MemoryTokenStore
from resetkit.testing import AsyncFakeAccounts, FakeAccounts, FakeClock, failing
from resetkit.testing.failing import (
    AsyncFailingAccountDirectory,
    AsyncFailingDispatcher,
    AsyncFailingMailer,
    AsyncFailingThrottle,
    AsyncFailingTokenStore,
    Failing,
    FailingAccountDirectory,
    FailingDispatcher,
    FailingMailer,
    FailingThrottle,
    FailingTokenHasher,
    FailingTokenStore,
    PlannedError,
)
from resetkit.throttle import AsyncMemoryThrottle, MemoryThrottle

NOW = FakeClock().now
SECOND = timedelta(seconds=1)
ALICE, BOB = "alice@example.org", "bob@example.org"


def fake_accounts() -> FakeAccounts:
    accounts = FakeAccounts()
    accounts.add("alice", ALICE)
    accounts.add("bob", BOB)
    return accounts


@dataclass
class Sync:
    """A manager over ports that fail when told to, and what is beneath them."""

    below: FakeAccounts = field(default_factory=fake_accounts)
    kept: MemoryTokenStore = field(default_factory=MemoryTokenStore)
    inbox: MemoryMailer = field(default_factory=MemoryMailer)

    def __post_init__(self) -> None:
        self.accounts = FailingAccountDirectory(self.below)
        self.store = FailingTokenStore(self.kept)
        self.mailer = FailingMailer(self.inbox)
        self.throttle = FailingThrottle(MemoryThrottle())
        self.dispatcher = FailingDispatcher(InlineDispatcher())
        self.hasher = FailingTokenHasher(KeyedTokenHasher([KEY]))
        self.manager = ResetManager(
            self.accounts,
            self.store,
            self.mailer,
            link=LINK,
            throttle=self.throttle,
            dispatcher=self.dispatcher,
            hasher=self.hasher,
            clock=lambda: NOW,
        )


# The newest mail.


@pytest.fixture
def kit() -> Sync:
    return Sync()


class TestReadingMails:
    def test_the_newest_link_and_code_are_read_from_the_outbox(self, kit: Sync) -> None:
        for _ in range(2):
            kit.manager.request_reset(ALICE, client=None, code=True)
        newest: Any = kit.inbox.outbox[-1]
        assert kit.inbox.last_reset() is newest
        assert kit.inbox.last_link() == newest.link
        assert kit.inbox.last_code() == newest.code

    def test_an_address_may_be_given(self, kit: Sync) -> None:
        kit.manager.request_reset(ALICE, client=None, code=True)
        kit.manager.request_reset(BOB, client=None, code=True)
        assert kit.inbox.last_reset(to=ALICE).account.id == "alice"
        assert kit.inbox.last_link(to=ALICE) != kit.inbox.last_link()
        assert kit.inbox.last_code(to=ALICE) != kit.inbox.last_code()

    def test_a_notice_is_no_reset_mail(self, kit: Sync) -> None:
        kit.manager.request_reset(ALICE, client=None)
        link = kit.inbox.last_link()
        kit.manager.reset_password(link.partition("#")[2], "a new password")
        assert kit.inbox.last_link() == link
        assert kit.inbox.last_notice() is kit.inbox.outbox[-1]
        assert kit.inbox.last_notice(to=ALICE).changed_at == NOW

    def test_what_was_not_sent_is_a_lookup_error_in_plain_words(self, kit: Sync) -> None:
        for reading in (kit.inbox.last_link, kit.inbox.last_code, kit.inbox.last_reset):
            with pytest.raises(LookupError, match="no reset mail was sent: has its job run"):
                reading()
        with pytest.raises(LookupError, match="no notice was sent"):
            kit.inbox.last_notice()
        kit.manager.request_reset(ALICE, client=None)
        with pytest.raises(LookupError, match="no reset mail was sent to this address"):
            kit.inbox.last_link(to=BOB)
        with pytest.raises(LookupError, match="no notice was sent to this address"):
            kit.inbox.last_notice(to=BOB)

    def test_a_code_that_nobody_asked_for_is_a_lookup_error_that_says_how_to_ask(self, kit: Sync) -> None:
        kit.manager.request_reset(ALICE, client=None)
        with pytest.raises(LookupError, match="code=True"):
            kit.inbox.last_code()

    def test_the_async_mailer_reads_alike(self, kit: Sync) -> None:
        kit.manager.request_reset(ALICE, client=None, code=True)
        mailer = AsyncMemoryMailer()
        asyncio.run(mailer.send(kit.inbox.last_reset()))
        assert mailer.last_link() == kit.inbox.last_link()
        assert mailer.last_code(to=ALICE) == kit.inbox.last_code()


# Ports that fail.


def record(selector: str = "s1") -> TokenRecord:
    return TokenRecord(
        selector=selector,
        account_id="alice",
        kind="mail",
        link_hash="hash",
        stamp_digest="digest",
        created_at=NOW,
        expires_at=NOW + SECOND,
        keep_until=NOW + SECOND,
    )


def nothing(_job: str) -> None: ...


async def async_nothing(_job: str) -> None: ...


MAIL: Any = object()  # a memory mailer keeps anything

CALLS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "accounts": {
        "find": lambda port: port.find(ALICE),
        "get": lambda port: port.get("alice"),
        "set_password": lambda port: port.set_password("alice", "new"),
        "end_sessions": lambda port: port.end_sessions("alice"),
    },
    "store": {
        "add": lambda port: port.add(record(), quotas=(), keep=1),
        "get": lambda port: port.get("s1"),
        "attempt": lambda port: port.attempt("s1", limit=5),
        "claim": lambda port: port.claim("s1", claim_id="c1", now=NOW),
        "release": lambda port: port.release("s1", claim_id="c1", guess=True),
        "revoke": lambda port: port.revoke("alice", now=NOW),
        "purge": lambda port: port.purge(before=NOW + 2 * SECOND, limit=9),
    },
    "mailer": {"send": lambda port: port.send(MAIL)},
    "throttle": {"hit": lambda port: port.hit("key", limit=1, window=SECOND, now=NOW)},
    "hasher": {"hash": lambda port: port.hash(b"secret"), "verify": lambda port: port.verify("stored", b"secret")},
    "dispatcher": {
        "dispatch": lambda port: port.dispatch("job", nothing, delay=SECOND),
        "close": lambda port: port.close(1.0),
    },
}
ASYNC_DISPATCH = {**CALLS["dispatcher"], "dispatch": lambda port: port.dispatch("job", async_nothing, delay=SECOND)}

# Each wrapper, what it wraps, and how its methods are called.
Make = Callable[[], tuple[Failing[Any], dict[str, Callable[[Any], Any]]]]
WRAPPERS: dict[str, Make] = {
    "accounts": lambda: (FailingAccountDirectory(fake_accounts()), CALLS["accounts"]),
    "store": lambda: (FailingTokenStore(MemoryTokenStore()), CALLS["store"]),
    "mailer": lambda: (FailingMailer(MemoryMailer()), CALLS["mailer"]),
    "throttle": lambda: (FailingThrottle(MemoryThrottle()), CALLS["throttle"]),
    "dispatcher": lambda: (FailingDispatcher(InlineDispatcher()), CALLS["dispatcher"]),
    "hasher": lambda: (FailingTokenHasher(KeyedTokenHasher([KEY])), CALLS["hasher"]),
    "async accounts": lambda: (AsyncFailingAccountDirectory(AsyncFakeAccounts(fake_accounts())), CALLS["accounts"]),
    "async store": lambda: (AsyncFailingTokenStore(AsyncMemoryTokenStore()), CALLS["store"]),
    "async mailer": lambda: (AsyncFailingMailer(AsyncMemoryMailer()), CALLS["mailer"]),
    "async throttle": lambda: (AsyncFailingThrottle(AsyncMemoryThrottle()), CALLS["throttle"]),
    "async dispatcher": lambda: (AsyncFailingDispatcher(AsyncInlineDispatcher()), ASYNC_DISPATCH),
}
METHODS = [(name, method) for name, make in WRAPPERS.items() for method in make()[1]]


def called(answer: Any) -> Any:
    """What a port of either colour answered."""
    if isinstance(answer, Awaitable):
        return asyncio.run(awaited(answer))
    return answer


async def awaited(answer: Awaitable[Any]) -> Any:
    return await answer


@pytest.mark.parametrize("name", WRAPPERS)
def test_every_method_of_the_port_is_there(name: str) -> None:
    port, calls = WRAPPERS[name]()
    assert set(port.methods) == set(calls)


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_port_that_is_not_told_to_fail_does_its_work(name: str) -> None:
    """Every method answers as the adapter beneath, and its calls are written down."""
    port, calls = WRAPPERS[name]()
    other = vars(WRAPPERS[name]()[0])
    (beneath,) = (value for attribute, value in other.items() if attribute not in vars(Failing()))
    for method, call in calls.items():
        found, expected = called(call(port)), called(call(beneath))
        if method != "hash":  # salted
            assert found == expected
    assert [each.method for each in port.calls] == list(calls)
    assert all(each.performed and each.error is None for each in port.calls)


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_a_failure_before_the_work_leaves_it_undone(name: str, method: str) -> None:
    port, calls = WRAPPERS[name]()
    port.fail(method)
    with pytest.raises(PlannedError, match="a test planned this failure"):
        called(calls[method](port))
    (call,) = port.calls
    assert (call.method, call.performed, call.planned) == (method, False, True)
    called(calls[method](port))
    assert port.calls[1].performed


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_a_failure_after_the_work_loses_the_reply_only(name: str, method: str) -> None:
    port, calls = WRAPPERS[name]()
    error = TimeoutError("gone")
    port.fail(method, error=error, after=True)
    with pytest.raises(TimeoutError) as raised:
        called(calls[method](port))
    assert raised.value is error
    (call,) = port.calls
    assert (call.performed, call.planned, call.error) == (True, True, error)


class TestFailing:
    def test_failures_come_in_the_order_of_planning(self) -> None:
        store = FailingTokenStore(MemoryTokenStore())
        store.fail("add", times=2)
        store.fail("add", error=TimeoutError(), after=True)
        for expected in (PlannedError, PlannedError, TimeoutError):
            with pytest.raises(expected):
                store.add(record(), quotas=(), keep=1)
        assert store.get("s1") is not None

    def test_times_none_is_until_it_heals(self) -> None:
        store = FailingTokenStore(MemoryTokenStore())
        store.fail("get", times=None)
        for _ in range(3):
            with pytest.raises(PlannedError):
                store.get("s1")
        store.heal()
        assert store.get("s1") is None

    def test_one_method_s_failure_is_no_other_s(self) -> None:
        store = FailingTokenStore(MemoryTokenStore())
        store.fail("claim")
        assert store.add(record(), quotas=(), keep=1)
        with pytest.raises(PlannedError):
            store.claim("s1", claim_id="c1", now=NOW)

    def test_a_method_that_is_not_there_is_refused(self) -> None:
        store = FailingTokenStore(MemoryTokenStore())
        with pytest.raises(ValueError, match="choose one of add, get, attempt, claim"):
            store.fail("clam")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a slip, seen at the desk too

    @pytest.mark.parametrize("times", [0, -1])
    def test_no_times_at_all_are_refused(self, times: int) -> None:
        with pytest.raises(ValueError, match="1 or more"):
            FailingMailer(MemoryMailer()).fail("send", times=times)

    def test_what_the_adapter_itself_raises_is_not_planned(self) -> None:
        accounts = FailingAccountDirectory(FakeAccounts())
        with pytest.raises(KeyError):
            accounts.set_password("nobody", "new")
        assert not accounts.calls[0].planned
        assert not accounts.calls[0].performed

    def test_the_repr_of_a_call_shows_nothing_that_was_given(self) -> None:
        accounts = FailingAccountDirectory(fake_accounts())
        accounts.set_password("alice", "hunter2 and more")
        accounts.find(ALICE)
        assert "hunter2" not in repr(accounts.calls)
        assert ALICE not in repr(accounts.calls)

    def test_of_many_threads_as_many_fail_as_were_planned(self) -> None:
        store = FailingTokenStore(MemoryTokenStore())
        store.fail("get", times=10)
        failed: list[int] = []

        def call() -> None:
            for number in range(10):
                try:
                    store.get("s1")
                except PlannedError:
                    failed.append(number)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(failed), len(store.calls)) == (10, 40)

    def test_they_know_the_port_and_nothing_of_the_engine(self) -> None:
        modules = {getattr(value, "__module__", "") for value in vars(failing).values()}
        assert not modules & {"resetkit._manager", "resetkit._sync"}


class TestInTheManagers:
    def test_a_claim_whose_reply_was_lost_leaves_the_link_good(self, kit: Sync) -> None:
        kit.manager.request_reset(ALICE, client=None)
        token = kit.inbox.last_reset().token
        kit.store.fail("claim", after=True)
        with pytest.raises(PlannedError):
            kit.manager.reset_password(token, "a new password")
        kit.manager.reset_password(token, "a new password")
        assert kit.below.password("alice") == "a new password"

    def test_a_refused_password_is_planned_like_any_failure(self, kit: Sync) -> None:
        kit.manager.request_reset(ALICE, client=None)
        kit.accounts.fail("set_password", error=PasswordRejectedError("too short"))
        with pytest.raises(PasswordRejectedError):
            kit.manager.reset_password(kit.inbox.last_reset().token, "x")

    def test_the_async_ones_fit_the_async_manager(self) -> None:
        inbox, store = AsyncMemoryMailer(), AsyncFailingTokenStore(AsyncMemoryTokenStore())
        accounts = AsyncFailingAccountDirectory(AsyncFakeAccounts(fake_accounts()))
        mailer = AsyncFailingMailer(inbox)

        async def story() -> None:
            async with AsyncResetManager(
                accounts,
                store,
                mailer,
                link=LINK,
                hasher=FailingTokenHasher(KeyedTokenHasher([KEY])),
                throttle=AsyncFailingThrottle(AsyncMemoryThrottle()),
                dispatcher=AsyncFailingDispatcher(AsyncInlineDispatcher()),
                clock=lambda: datetime(2030, 1, 1, tzinfo=UTC),
            ) as manager:
                mailer.fail("send", after=True)
                await manager.request_reset(ALICE, client=None)
                first = inbox.outbox[0]
                assert len(inbox.outbox) == 2
                with pytest.raises(InvalidTokenError):
                    await manager.reset_password(getattr(first, "token", ""), "new password")
                await manager.reset_password(inbox.last_reset().token, "new password")

        asyncio.run(story())

    def test_they_are_the_ports_they_wrap(self) -> None:
        """For the type checkers: no cast is needed anywhere."""
        accounts: AccountDirectory = FailingAccountDirectory(FakeAccounts())
        store: TokenStore = FailingTokenStore(MemoryTokenStore())
        mailer: Mailer = FailingMailer(MemoryMailer())
        throttle: Throttle = FailingThrottle(MemoryThrottle())
        dispatcher: Dispatcher = FailingDispatcher(InlineDispatcher())
        hasher: TokenHasher = FailingTokenHasher(KeyedTokenHasher([KEY]))
        async_accounts: AsyncAccountDirectory = AsyncFailingAccountDirectory(AsyncFakeAccounts(FakeAccounts()))
        async_store: AsyncTokenStore = AsyncFailingTokenStore(AsyncMemoryTokenStore())
        async_mailer: AsyncMailer = AsyncFailingMailer(AsyncMemoryMailer())
        async_throttle: AsyncThrottle = AsyncFailingThrottle(AsyncMemoryThrottle())
        async_dispatcher: AsyncDispatcher = AsyncFailingDispatcher(AsyncInlineDispatcher())
        sync_ports = (accounts, store, mailer, throttle, dispatcher, hasher)
        async_ports = (async_accounts, async_store, async_mailer, async_throttle, async_dispatcher)
        assert len({type(port) for port in (*sync_ports, *async_ports)}) == 11
