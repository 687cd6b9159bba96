"""Real adapters that fail when a test tells them to: before their work, or after it, when the reply is lost.

    store = FailingTokenStore(MemoryTokenStore())
    store.fail("claim", after=True)     # the next claim is done, and its caller is told that it failed

Each wraps an adapter of its own colour, keeps the port's contract otherwise, and writes its calls down in ``calls``.
"""

import threading
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar, Generic, Literal, TypeVar, get_args

from resetkit.mails import Mail
from resetkit.protocols import (
    AccountDirectory,
    AsyncAccountDirectory,
    AsyncDispatcher,
    AsyncMailer,
    AsyncThrottle,
    AsyncTokenStore,
    Dispatcher,
    Mailer,
    Throttle,
    TokenHasher,
    TokenStore,
)
from resetkit.values import Account, Quota, TokenRecord

AccountMethod = Literal["find", "get", "set_password", "end_sessions"]
MailerMethod = Literal["send"]
StoreMethod = Literal["add", "get", "attempt", "claim", "release", "revoke", "purge"]
ThrottleMethod = Literal["hit"]
DispatcherMethod = Literal["dispatch", "close"]
HasherMethod = Literal["hash", "verify"]

M = TypeVar("M", bound=str)
T = TypeVar("T")


class PlannedError(ConnectionError):
    """What a port fails with unless a test names another error."""

    def __init__(self) -> None:
        super().__init__("a test planned this failure")


@dataclass(slots=True, eq=False)
class PortCall:
    """One call of a port. What was given and answered may be secret, so ``repr`` leaves it out."""

    method: str
    args: tuple[object, ...] = field(repr=False)
    options: dict[str, object] = field(repr=False)
    performed: bool = False
    """Whether the adapter did its work, whatever the caller was told."""
    answer: object = field(default=None, repr=False)
    error: BaseException | None = None
    planned: bool = False
    """Whether the error is one that a test planned."""

    def answered(self, answer: T) -> T:
        """Note the adapter's answer."""
        self.answer = answer
        return answer


@dataclass(slots=True)
class _Plan:
    error: BaseException
    after: bool
    left: int | None

    def strike(self, call: PortCall, *, after: bool) -> None:
        """Raise, if this is the moment."""
        if self.after is after:
            call.planned = True
            raise self.error


class Failing(Generic[M]):
    """An adapter of one port that fails when told to. May be used from several threads."""

    methods: ClassVar[tuple[str, ...]]
    """The methods of the port."""

    def __init__(self) -> None:
        self.calls: list[PortCall] = []
        self._plans: dict[str, list[_Plan]] = {}
        self._lock = threading.Lock()

    def fail(
        self, method: M, *, error: BaseException | None = None, after: bool = False, times: int | None = 1
    ) -> None:
        """Have the next `times` calls of `method` fail, or with None all of them until `heal`.

        They raise `error`: instead of the work, or with `after` once it is done, as when a reply is lost. Failures
        planned earlier come first. Raises ValueError for a method that the port does not have, or for no time at all.
        """
        if method not in self.methods:
            raise ValueError(f"there is no method {method!r}; choose one of {', '.join(self.methods)}")
        if times is not None and times < 1:
            raise ValueError(f"times must be 1 or more, or None for all calls, not {times}")
        plan = _Plan(PlannedError() if error is None else error, after, times)
        with self._lock:
            self._plans.setdefault(method, []).append(plan)

    def heal(self) -> None:
        """Forget every failure that has not come yet."""
        with self._lock:
            self._plans.clear()

    def _due(self, method: str) -> _Plan | None:
        with self._lock:
            plans = self._plans.get(method)
            if not plans:
                return None
            plan = plans[0]
            if plan.left is not None:
                plan.left -= 1
                if plan.left <= 0:
                    plans.pop(0)
            return plan

    @contextmanager
    def _called(self, method: M, *args: object, **options: object) -> Generator[PortCall, None, None]:
        call = PortCall(method, args, options)
        self.calls.append(call)
        plan = self._due(method)
        try:
            if plan is not None:
                plan.strike(call, after=False)
            yield call
            call.performed = True
            if plan is not None:
                plan.strike(call, after=True)
        except BaseException as error:
            call.error = error
            raise


class FailingAccountDirectory(Failing[AccountMethod]):
    """An `AccountDirectory` around another."""

    methods: ClassVar[tuple[str, ...]] = get_args(AccountMethod)

    def __init__(self, accounts: AccountDirectory) -> None:
        super().__init__()
        self._accounts = accounts

    def find(self, identifier: str, /) -> Account | None:
        """See `AccountDirectory.find`."""
        with self._called("find", identifier) as call:
            return call.answered(self._accounts.find(identifier))

    def get(self, account_id: str, /) -> Account | None:
        """See `AccountDirectory.get`."""
        with self._called("get", account_id) as call:
            return call.answered(self._accounts.get(account_id))

    def set_password(self, account_id: str, new_password: str, /) -> None:
        """See `AccountDirectory.set_password`."""
        with self._called("set_password", account_id, new_password):
            self._accounts.set_password(account_id, new_password)

    def end_sessions(self, account_id: str, /) -> None:
        """See `AccountDirectory.end_sessions`."""
        with self._called("end_sessions", account_id):
            self._accounts.end_sessions(account_id)


class AsyncFailingAccountDirectory(Failing[AccountMethod]):
    """`FailingAccountDirectory`, async."""

    methods: ClassVar[tuple[str, ...]] = get_args(AccountMethod)

    def __init__(self, accounts: AsyncAccountDirectory) -> None:
        super().__init__()
        self._accounts = accounts

    async def find(self, identifier: str, /) -> Account | None:
        """See `AccountDirectory.find`."""
        with self._called("find", identifier) as call:
            return call.answered(await self._accounts.find(identifier))

    async def get(self, account_id: str, /) -> Account | None:
        """See `AccountDirectory.get`."""
        with self._called("get", account_id) as call:
            return call.answered(await self._accounts.get(account_id))

    async def set_password(self, account_id: str, new_password: str, /) -> None:
        """See `AccountDirectory.set_password`."""
        with self._called("set_password", account_id, new_password):
            await self._accounts.set_password(account_id, new_password)

    async def end_sessions(self, account_id: str, /) -> None:
        """See `AccountDirectory.end_sessions`."""
        with self._called("end_sessions", account_id):
            await self._accounts.end_sessions(account_id)


class FailingMailer(Failing[MailerMethod]):
    """A `Mailer` around another."""

    methods: ClassVar[tuple[str, ...]] = get_args(MailerMethod)

    def __init__(self, mailer: Mailer) -> None:
        super().__init__()
        self._mailer = mailer

    @property
    def sends_nothing(self) -> bool:
        """What the mailer beneath says of itself."""
        return getattr(self._mailer, "sends_nothing", False)

    def send(self, mail: Mail, /) -> None:
        """See `Mailer.send`."""
        with self._called("send", mail):
            self._mailer.send(mail)


class AsyncFailingMailer(Failing[MailerMethod]):
    """`FailingMailer`, async."""

    methods: ClassVar[tuple[str, ...]] = get_args(MailerMethod)

    def __init__(self, mailer: AsyncMailer) -> None:
        super().__init__()
        self._mailer = mailer

    @property
    def sends_nothing(self) -> bool:
        """What the mailer beneath says of itself."""
        return getattr(self._mailer, "sends_nothing", False)

    async def send(self, mail: Mail, /) -> None:
        """See `Mailer.send`."""
        with self._called("send", mail):
            await self._mailer.send(mail)


class FailingTokenStore(Failing[StoreMethod]):
    """A `TokenStore` around another."""

    methods: ClassVar[tuple[str, ...]] = get_args(StoreMethod)

    def __init__(self, store: TokenStore) -> None:
        super().__init__()
        self._store = store

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        """See `TokenStore.add`."""
        with self._called("add", record, quotas=quotas, keep=keep) as call:
            return call.answered(self._store.add(record, quotas=quotas, keep=keep))

    def get(self, selector: str, /) -> TokenRecord | None:
        """See `TokenStore.get`."""
        with self._called("get", selector) as call:
            return call.answered(self._store.get(selector))

    def attempt(self, selector: str, /, *, limit: int) -> bool:
        """See `TokenStore.attempt`."""
        with self._called("attempt", selector, limit=limit) as call:
            return call.answered(self._store.attempt(selector, limit=limit))

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        """See `TokenStore.claim`."""
        with self._called("claim", selector, claim_id=claim_id, now=now) as call:
            return call.answered(self._store.claim(selector, claim_id=claim_id, now=now))

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        """See `TokenStore.release`."""
        with self._called("release", selector, claim_id=claim_id, guess=guess) as call:
            return call.answered(self._store.release(selector, claim_id=claim_id, guess=guess))

    def revoke(self, account_id: str, /, *, now: datetime) -> int:
        """See `TokenStore.revoke`."""
        with self._called("revoke", account_id, now=now) as call:
            return call.answered(self._store.revoke(account_id, now=now))

    def purge(self, *, before: datetime, limit: int) -> int:
        """See `TokenStore.purge`."""
        with self._called("purge", before=before, limit=limit) as call:
            return call.answered(self._store.purge(before=before, limit=limit))


class AsyncFailingTokenStore(Failing[StoreMethod]):
    """`FailingTokenStore`, async."""

    methods: ClassVar[tuple[str, ...]] = get_args(StoreMethod)

    def __init__(self, store: AsyncTokenStore) -> None:
        super().__init__()
        self._store = store

    async def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        """See `TokenStore.add`."""
        with self._called("add", record, quotas=quotas, keep=keep) as call:
            return call.answered(await self._store.add(record, quotas=quotas, keep=keep))

    async def get(self, selector: str, /) -> TokenRecord | None:
        """See `TokenStore.get`."""
        with self._called("get", selector) as call:
            return call.answered(await self._store.get(selector))

    async def attempt(self, selector: str, /, *, limit: int) -> bool:
        """See `TokenStore.attempt`."""
        with self._called("attempt", selector, limit=limit) as call:
            return call.answered(await self._store.attempt(selector, limit=limit))

    async def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        """See `TokenStore.claim`."""
        with self._called("claim", selector, claim_id=claim_id, now=now) as call:
            return call.answered(await self._store.claim(selector, claim_id=claim_id, now=now))

    async def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        """See `TokenStore.release`."""
        with self._called("release", selector, claim_id=claim_id, guess=guess) as call:
            return call.answered(await self._store.release(selector, claim_id=claim_id, guess=guess))

    async def revoke(self, account_id: str, /, *, now: datetime) -> int:
        """See `TokenStore.revoke`."""
        with self._called("revoke", account_id, now=now) as call:
            return call.answered(await self._store.revoke(account_id, now=now))

    async def purge(self, *, before: datetime, limit: int) -> int:
        """See `TokenStore.purge`."""
        with self._called("purge", before=before, limit=limit) as call:
            return call.answered(await self._store.purge(before=before, limit=limit))


class FailingThrottle(Failing[ThrottleMethod]):
    """A `Throttle` around another."""

    methods: ClassVar[tuple[str, ...]] = get_args(ThrottleMethod)

    def __init__(self, throttle: Throttle) -> None:
        super().__init__()
        self._throttle = throttle

    def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        """See `Throttle.hit`."""
        with self._called("hit", key, limit=limit, window=window, now=now) as call:
            return call.answered(self._throttle.hit(key, limit=limit, window=window, now=now))


class AsyncFailingThrottle(Failing[ThrottleMethod]):
    """`FailingThrottle`, async."""

    methods: ClassVar[tuple[str, ...]] = get_args(ThrottleMethod)

    def __init__(self, throttle: AsyncThrottle) -> None:
        super().__init__()
        self._throttle = throttle

    async def hit(self, key: str, /, *, limit: int, window: timedelta, now: datetime) -> int:
        """See `Throttle.hit`."""
        with self._called("hit", key, limit=limit, window=window, now=now) as call:
            return call.answered(await self._throttle.hit(key, limit=limit, window=window, now=now))


class FailingDispatcher(Failing[DispatcherMethod]):
    """A `Dispatcher` around another."""

    methods: ClassVar[tuple[str, ...]] = get_args(DispatcherMethod)

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__()
        self._dispatcher = dispatcher

    def dispatch(self, job: str, run: Callable[[str], None], /, *, delay: timedelta = timedelta(0)) -> None:
        """See `Dispatcher.dispatch`."""
        with self._called("dispatch", job, run, delay=delay):
            self._dispatcher.dispatch(job, run, delay=delay)

    def close(self, timeout: float, /) -> Sequence[str] | None:
        """See `Dispatcher.close`."""
        with self._called("close", timeout) as call:
            return call.answered(self._dispatcher.close(timeout))


class AsyncFailingDispatcher(Failing[DispatcherMethod]):
    """`FailingDispatcher`, async."""

    methods: ClassVar[tuple[str, ...]] = get_args(DispatcherMethod)

    def __init__(self, dispatcher: AsyncDispatcher) -> None:
        super().__init__()
        self._dispatcher = dispatcher

    async def dispatch(
        self, job: str, run: Callable[[str], Awaitable[None]], /, *, delay: timedelta = timedelta(0)
    ) -> None:
        """See `Dispatcher.dispatch`."""
        with self._called("dispatch", job, run, delay=delay):
            await self._dispatcher.dispatch(job, run, delay=delay)

    async def close(self, timeout: float, /) -> Sequence[str] | None:
        """See `Dispatcher.close`."""
        with self._called("close", timeout) as call:
            return call.answered(await self._dispatcher.close(timeout))


class FailingTokenHasher(Failing[HasherMethod]):
    """A `TokenHasher` around another: sync, for both managers."""

    methods: ClassVar[tuple[str, ...]] = get_args(HasherMethod)

    def __init__(self, hasher: TokenHasher) -> None:
        super().__init__()
        self._hasher = hasher

    def hash(self, secret: bytes, /) -> str:
        """See `TokenHasher.hash`."""
        with self._called("hash", secret) as call:
            return call.answered(self._hasher.hash(secret))

    def verify(self, stored: str, secret: bytes, /) -> bool:
        """See `TokenHasher.verify`."""
        with self._called("verify", stored, secret) as call:
            return call.answered(self._hasher.verify(stored, secret))
