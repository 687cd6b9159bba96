"""The whole library over one set of ports, every port wrapped so that it can fail, in the shape of one colour."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, Protocol

from resetkit._colour import Colour, check_ports
from resetkit._manager import AsyncResetManager
from resetkit._sync import LiftedDirectory, LiftedStore, ResetManager, lift
from resetkit.errors import ConfigurationError
from resetkit.events import Event
from resetkit.hashing import KeyedTokenHasher
from resetkit.mailers.memory import AsyncMemoryMailer, MemoryMailer
from resetkit.policy import ResetPolicy
from resetkit.protocols import (
    AccountDirectory,
    AsyncAccountDirectory,
    AsyncMailer,
    AsyncThrottle,
    AsyncTokenStore,
    Mailer,
    Throttle,
    TokenHasher,
    TokenStore,
)
from resetkit.testing._kit import MisuseError
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
)
from resetkit.testing.fakes import AsyncFakeAccounts, FakeAccounts, FakeClock
from resetkit.throttle import AsyncMemoryThrottle, MemoryThrottle
from resetkit.values import IssuedToken, ResetReceipt, ResetTicket

PortName = Literal["accounts", "store", "mailer", "throttle", "dispatcher", "hasher"]

LINK: Final = "https://app.example/reset#{token}"
_KEY: Final = bytes(range(32))  # keyed hashes take microseconds; the hasher is not what is proved here


class AccountAdmin(Protocol):
    """What an application does with accounts outside the reset: `FakeAccounts` has it."""

    def add(self, account_id: str, email: str, *, password: str) -> object:
        """Make an account with this id and address, which may reset."""
        ...

    def change(self, account_id: str, *, email: str | None = None, can_reset: bool | None = None) -> object:
        """Change its address, or whether it may reset; None leaves either as it is."""
        ...

    def remove(self, account_id: str) -> object:
        """Delete it."""
        ...


class AsyncAccountAdmin(Protocol):
    """`AccountAdmin`, async."""

    def add(self, account_id: str, email: str, *, password: str) -> Awaitable[object]:
        """As `AccountAdmin.add`."""
        ...

    def change(self, account_id: str, *, email: str | None = None, can_reset: bool | None = None) -> Awaitable[object]:
        """As `AccountAdmin.change`."""
        ...

    def remove(self, account_id: str) -> Awaitable[object]:
        """As `AccountAdmin.remove`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The adapters to run the library on. What is None is a fake of the kit's, or the library's own in memory.

    `accounts` need `admin`, which makes, changes and deletes accounts there; ids are ``"1"`` and ``"2"``, and
    ``"9"`` is nobody's. The mails are sent, to addresses at example.org, and read by the kit as well. A throttle's
    answers are taken as they are: its own kit proves them.
    """

    store: TokenStore
    mailer: Mailer | None = None
    accounts: AccountDirectory | None = None
    admin: AccountAdmin | None = None
    throttle: Throttle | None = None
    hasher: TokenHasher | None = None

    def __post_init__(self) -> None:
        _require_admin(self.accounts, self.admin)


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncPorts:
    """`Ports` for the async manager. The hasher is sync in both."""

    store: AsyncTokenStore
    mailer: AsyncMailer | None = None
    accounts: AsyncAccountDirectory | None = None
    admin: AsyncAccountAdmin | None = None
    throttle: AsyncThrottle | None = None
    hasher: TokenHasher | None = None

    def __post_init__(self) -> None:
        _require_admin(self.accounts, self.admin)


def _require_admin(accounts: object, admin: object) -> None:
    if (accounts is None) != (admin is None):
        raise TypeError("accounts and admin go together: the kit changes accounts while links are on their way")


class AsyncManager(Protocol):
    """A manager of either colour in the async shape."""

    def request_reset(
        self, identifier: str, *, client: str | None, code: bool = False, context: Mapping[str, str] = ...
    ) -> Awaitable[ResetReceipt]: ...

    def check_token(self, token: str, *, client: str | None = None) -> Awaitable[ResetTicket]: ...

    def reset_password(
        self, token: str, new_password: str, *, client: str | None = None, context: Mapping[str, str] = ...
    ) -> Awaitable[ResetTicket]: ...

    def issue_token(self, account_id: str, *, lifetime: timedelta = ...) -> Awaitable[IssuedToken]: ...

    def revoke_tokens(self, account_id: str) -> Awaitable[int]: ...

    def purge_tokens(self) -> Awaitable[int]: ...

    def run_job(self, job: str) -> Awaitable[None]: ...

    def close(self, timeout: float = 30.0) -> Awaitable[None]: ...


class _LiftedManager:
    def __init__(self, manager: ResetManager) -> None:
        self.request_reset = lift(manager.request_reset)
        self.check_token = lift(manager.check_token)
        self.reset_password = lift(manager.reset_password)
        self.issue_token = lift(manager.issue_token)
        self.revoke_tokens = lift(manager.revoke_tokens)
        self.purge_tokens = lift(manager.purge_tokens)
        self.run_job = lift(manager.run_job)
        self.close = lift(manager.close)


class _LiftedAdmin:
    def __init__(self, admin: AccountAdmin) -> None:
        self.add = lift(admin.add)
        self.change = lift(admin.change)
        self.remove = lift(admin.remove)


class _FakeAdmin:
    """Fake accounts that have a second address for notices."""

    def __init__(self, accounts: FakeAccounts) -> None:
        self._accounts = accounts
        self.change = accounts.change
        self.remove = accounts.remove

    def add(self, account_id: str, email: str, *, password: str) -> object:
        return self._accounts.add(account_id, email, password=password, notify=(f"second-{email}", email))


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job that waits until it is run by hand, and how its manager would run it in process."""

    text: str
    run: Callable[[str], Awaitable[None]]
    delay: timedelta


class _HeldJobs:
    """A dispatcher that runs nothing."""

    def __init__(self) -> None:
        self.held: list[HeldJob] = []

    def dispatch(self, job: str, run: Callable[[str], None], /, *, delay: timedelta = timedelta(0)) -> None:
        self.held.append(HeldJob(job, lift(run), delay))

    def close(self, timeout: float, /) -> Sequence[str]:
        del timeout
        return [each.text for each in self.held]


class _AsyncHeldJobs:
    def __init__(self) -> None:
        self.held: list[HeldJob] = []

    async def dispatch(
        self, job: str, run: Callable[[str], Awaitable[None]], /, *, delay: timedelta = timedelta(0)
    ) -> None:
        self.held.append(HeldJob(job, run, delay))

    async def close(self, timeout: float, /) -> Sequence[str]:
        del timeout
        return [each.text for each in self.held]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """The library, opened: what a story works with, whatever the colour."""

    store: AsyncTokenStore
    directory: AsyncAccountDirectory
    admin: AsyncAccountAdmin
    failing: Mapping[PortName, Failing[Any]]
    held: list[HeldJob]
    make: Callable[[str], AsyncManager]
    """A manager of this realm."""
    has_fakes: bool
    """Whether the accounts are ours, and take any id and password."""


def assemble(ports: Ports, policy: ResetPolicy, clock: FakeClock, on_event: Callable[[Event], None]) -> Assembly:
    """The sync library. Raises MisuseError for ports that it cannot be made of."""
    _require_ports(Ports, ports)
    fakes, jobs = FakeAccounts(), _HeldJobs()
    directory = fakes if ports.accounts is None else ports.accounts
    own_mailer = MemoryMailer() if ports.mailer is None else ports.mailer
    own_throttle = MemoryThrottle() if ports.throttle is None else ports.throttle
    own_hasher = KeyedTokenHasher([_KEY]) if ports.hasher is None else ports.hasher
    _require_colour("sync", directory, ports.store, own_mailer, own_throttle, jobs, own_hasher)
    accounts, store, mailer = (
        FailingAccountDirectory(directory),
        FailingTokenStore(ports.store),
        FailingMailer(own_mailer),
    )
    throttle, dispatcher, hasher = (
        FailingThrottle(own_throttle),
        FailingDispatcher(jobs),
        FailingTokenHasher(own_hasher),
    )

    def make(realm: str) -> AsyncManager:
        manager = ResetManager(
            accounts,
            store,
            mailer,
            link=LINK,
            policy=policy,
            hasher=hasher,
            throttle=throttle,
            dispatcher=dispatcher,
            clock=clock,
            on_event=on_event,
            realm=realm,
        )
        return _LiftedManager(manager)

    return Assembly(
        store=LiftedStore(ports.store),
        directory=LiftedDirectory(directory),
        admin=_LiftedAdmin(_FakeAdmin(fakes) if ports.admin is None else ports.admin),
        failing=_named(accounts, store, mailer, throttle, dispatcher, hasher),
        held=jobs.held,
        make=make,
        has_fakes=ports.accounts is None,
    )


def assemble_async(
    ports: AsyncPorts, policy: ResetPolicy, clock: FakeClock, on_event: Callable[[Event], None]
) -> Assembly:
    """The async library. Raises MisuseError for ports that it cannot be made of."""
    _require_ports(AsyncPorts, ports)
    fakes, jobs = FakeAccounts(), _AsyncHeldJobs()
    directory = AsyncFakeAccounts(fakes) if ports.accounts is None else ports.accounts
    own_mailer = AsyncMemoryMailer() if ports.mailer is None else ports.mailer
    own_throttle = AsyncMemoryThrottle() if ports.throttle is None else ports.throttle
    own_hasher = KeyedTokenHasher([_KEY]) if ports.hasher is None else ports.hasher
    _require_colour("async", directory, ports.store, own_mailer, own_throttle, jobs, own_hasher)
    accounts, store = AsyncFailingAccountDirectory(directory), AsyncFailingTokenStore(ports.store)
    mailer, throttle = AsyncFailingMailer(own_mailer), AsyncFailingThrottle(own_throttle)
    dispatcher, hasher = AsyncFailingDispatcher(jobs), FailingTokenHasher(own_hasher)

    def make(realm: str) -> AsyncManager:
        return AsyncResetManager(
            accounts,
            store,
            mailer,
            link=LINK,
            policy=policy,
            hasher=hasher,
            throttle=throttle,
            dispatcher=dispatcher,
            clock=clock,
            on_event=on_event,
            realm=realm,
        )

    return Assembly(
        store=ports.store,
        directory=directory,
        admin=_LiftedAdmin(_FakeAdmin(fakes)) if ports.admin is None else ports.admin,
        failing=_named(accounts, store, mailer, throttle, dispatcher, hasher),
        held=jobs.held,
        make=make,
        has_fakes=ports.accounts is None,
    )


def _require_ports(kind: type[Ports | AsyncPorts], ports: object) -> None:
    if not isinstance(ports, kind):
        raise MisuseError(f"open_ports must yield {kind.__name__}(store=...), not {type(ports).__name__}")


def _require_colour(colour: Colour, *ports: object) -> None:
    """Here the wrappers do not hide what an author gave."""
    accounts, store, mailer, throttle, dispatcher, hasher = ports
    try:
        check_ports(colour, accounts, store, mailer, throttle, dispatcher, hasher)
    except ConfigurationError as error:
        raise MisuseError(f"what open_ports yields cannot be used: {error}") from error


def _named(*ports: Failing[Any]) -> Mapping[PortName, Failing[Any]]:
    names: tuple[PortName, ...] = ("accounts", "store", "mailer", "throttle", "dispatcher", "hasher")
    return dict(zip(names, ports, strict=True))
