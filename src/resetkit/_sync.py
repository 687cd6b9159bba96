"""The sync face: each sync port is lifted to the async shape, and the engine's coroutines are stepped.

A lifted port never waits, so one step runs a coroutine to its end: no loop is made, none is needed, and it works
inside a running one too. This is the only clever file.
"""

import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import datetime, timedelta
from queue import SimpleQueue
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, TypeVarTuple

from resetkit._checks import check_type, require_secret
from resetkit._colour import check_ports
from resetkit._confidential import hidden
from resetkit._fork import start_afresh_in_child
from resetkit._manager import NO_CONTEXT, OPERATOR_LIFETIME, Engine, Parts, utc_now, warn_if_inline
from resetkit.dispatch import ThreadDispatcher
from resetkit.errors import ConfigurationError
from resetkit.events import Event, log_event
from resetkit.hashing import Argon2TokenHasher
from resetkit.policy import ResetPolicy
from resetkit.protocols import AccountDirectory, Dispatcher, Mailer, Throttle, TokenHasher, TokenStore
from resetkit.throttle import MemoryThrottle
from resetkit.values import IssuedToken, ResetReceipt, ResetTicket

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def lift(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The sync function as one to be awaited, which never waits."""

    async def lifted(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            result = function(*args, **kwargs)
        finally:
            del args, kwargs  # so that no traceback with locals shows what was passed
        if hasattr(result, "__await__"):
            if isinstance(result, Coroutine):
                result.close()  # never to be awaited
            raise ConfigurationError("an adapter answered with an awaitable: ResetManager takes sync adapters only")
        return result

    return lifted


def step(work: Awaitable[T]) -> T:
    """Run a coroutine over lifted ports to its end. Raises ConfigurationError if it truly waits."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    raise ConfigurationError("a lifted port waited for an event loop, which it never may")


class LiftedDirectory:
    def __init__(self, accounts: AccountDirectory) -> None:
        self.find = lift(accounts.find)
        self.get = lift(accounts.get)
        self.set_password = lift(accounts.set_password)
        self.end_sessions = lift(accounts.end_sessions)


class LiftedStore:
    def __init__(self, store: TokenStore) -> None:
        self.add = lift(store.add)
        self.get = lift(store.get)
        self.attempt = lift(store.attempt)
        self.claim = lift(store.claim)
        self.release = lift(store.release)
        self.revoke = lift(store.revoke)
        self.purge = lift(store.purge)


class LiftedMailer:
    def __init__(self, mailer: Mailer) -> None:
        self.send = lift(mailer.send)


class LiftedThrottle:
    def __init__(self, throttle: Throttle) -> None:
        self.hit = lift(throttle.hit)


class LiftedDispatcher:
    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatch = lift(dispatcher.dispatch)
        self.close = lift(dispatcher.close)

    async def dispatch(
        self, job: str, run: Callable[[str], Awaitable[None]], /, *, delay: timedelta = timedelta(0)
    ) -> None:
        dispatched = self._dispatch(job, lambda text: step(run(text)), delay=delay)
        del job  # as in `lift`
        await dispatched


class _ThreadRuntime:
    """Works in the caller's thread, so nothing can take the caller away; hashing waits for a free place."""

    def __init__(self, hash_workers: int) -> None:
        self._hash_workers = hash_workers
        self._start_afresh()
        start_afresh_in_child(self)

    def _start_afresh(self) -> None:
        self._places: SimpleQueue[None] = SimpleQueue()  # a semaphore, in a tenth of the time that threading's takes
        for _ in range(self._hash_workers):
            self._places.put(None)
        self._idle = threading.Condition()
        self._protected = 0

    async def compute(self, work: Callable[[*Ts], T], /, *args: *Ts) -> T:
        self._places.get()
        try:
            return work(*args)
        finally:
            self._places.put(None)

    async def protect(self, work: Coroutine[Any, Any, T], /) -> T:
        with self._idle:
            self._protected += 1
        try:
            return await work
        finally:
            with self._idle:
                self._protected -= 1
                self._idle.notify_all()

    async def rest(self, seconds: float, /) -> None:
        time.sleep(seconds)  # noqa: ASYNC251  # no loop runs this

    async def close(self, timeout: float, /) -> None:
        with self._idle:
            self._idle.wait_for(lambda: not self._protected, timeout)


class ResetManager:
    """The reset flow for sync applications. May be called from any thread, and in a running loop too.

    `accounts`, `store` and `mailer` keep the contracts of `AccountDirectory`, `TokenStore` and `Mailer`. `link` is
    your page's address with one ``{token}``, best behind ``#``, where no server log sees it:
    ``"https://app.example/reset#{token}"``; https, but for a loopback host. `policy` holds the numbers. `hasher` keeps
    the tokens' secrets (Argon2id by default), `throttle` counts calls (in this process's memory by default),
    `dispatcher` takes jobs off the visitor's path (two threads by default). `clock` returns aware datetimes. `on_event`
    is called with every `Event`, in whichever thread; by default it is logged to ``resetkit``. `realm` (a tenant, a
    purpose) is bound into every token: those of another realm are unknown here.

    Raises ConfigurationError for what cannot be safe. Use it as ``with``, or call `close` at the end.
    """

    def __init__(
        self,
        accounts: AccountDirectory,
        store: TokenStore,
        mailer: Mailer,
        *,
        link: str,
        policy: ResetPolicy | None = None,
        hasher: TokenHasher | None = None,
        throttle: Throttle | None = None,
        dispatcher: Dispatcher | None = None,
        clock: Callable[[], datetime] = utc_now,
        on_event: Callable[[Event], None] = log_event,
        realm: str = "",
    ) -> None:
        policy = ResetPolicy() if policy is None else check_type("policy", policy, ResetPolicy)
        hasher = Argon2TokenHasher() if hasher is None else hasher
        throttle = MemoryThrottle() if throttle is None else throttle
        dispatcher = ThreadDispatcher() if dispatcher is None else dispatcher
        check_ports("sync", accounts, store, mailer, throttle, dispatcher, hasher)
        warn_if_inline(dispatcher, mailer)
        self._parts = Parts(accounts, store, mailer, throttle, dispatcher, hasher, link, policy, clock)
        self._engine = Engine(
            LiftedDirectory(accounts),
            LiftedStore(store),
            LiftedMailer(mailer),
            link=link,
            policy=policy,
            hasher=hasher,
            throttle=LiftedThrottle(throttle),
            dispatcher=LiftedDispatcher(dispatcher),
            clock=clock,
            on_event=on_event,
            realm=realm,
            runtime=_ThreadRuntime(policy.hash_workers),
        )

    def request_reset(
        self, identifier: str, *, client: str | None, code: bool = False, context: Mapping[str, str] = NO_CONTEXT
    ) -> ResetReceipt:
        """Take a visitor's request and answer alike, whoever asked; what depends on the account comes later.

        `identifier` is what was typed, any text. `client` says who asks, such as an IP address (IPv6 counts by its
        /64); None is not throttled by client. With `code` the mail also carries a code to type, and the receipt a
        handle for the form. `context` (IP, device) stands in events and is handed to the composer of mails: the first
        10 entries, 200 printable characters each.

        Raises ThrottledError, the same for known and unknown identifiers; InvalidRequestError for what is no text.
        """
        identifier = require_secret("identifier", identifier)
        return step(self._engine.request_reset(identifier, client=client, code=code, context=context))

    def check_token(self, token: str, *, client: str | None = None) -> ResetTicket:
        """Look whether a token is good, as a page does before it shows its form. Looking at a link never spends it.

        For a code it costs a guess: let a form take code and new password together instead. The ticket says whose the
        token is and until when.

        Raises InvalidTokenError with its reason, ThrottledError, InvalidRequestError.
        """
        token = require_secret("token", token)
        return step(self._engine.check_token(token, client=client))

    def reset_password(
        self, token: str, new_password: str, *, client: str | None = None, context: Mapping[str, str] = NO_CONTEXT
    ) -> ResetTicket:
        """Set a new password, once; then end all sessions and send a notice to every address of the account.

        `token` is what the link carried, or ``code_token(handle, typed)``. Logs nobody in, touches no second factor.

        Raises InvalidTokenError with its reason; PasswordRejectedError, and the token is still good; ThrottledError;
        InvalidRequestError. What the directory raises comes out as it is: from ``set_password`` it leaves the outcome
        unknown, with the token spent and the sessions ended; from ``end_sessions`` the password is written, and
        sessions may live.
        """
        token, new_password = hidden(token), hidden(new_password)
        return step(self._engine.reset_password(token, new_password, client=client, context=context))

    def issue_token(self, account_id: str, *, lifetime: timedelta = OPERATOR_LIFETIME) -> IssuedToken:
        """Make a link for an operator to hand over: no mail, no quota; the account's newest one only is good.

        `lifetime`: at most 7 days. A visitor's request neither ends nor blocks it.

        Raises LookupError if the account is unknown or may not reset; ConfigurationError, a ValueError, for a lifetime
        that is not positive or over 7 days; InvalidRequestError if `account_id` is no text.
        """
        return step(self._engine.issue_token(account_id, lifetime=lifetime))

    def revoke_tokens(self, account_id: str) -> int:
        """End all outstanding tokens of an account, an operator's too, and say how many."""
        return step(self._engine.revoke_tokens(account_id))

    def purge_tokens(self) -> int:
        """Delete the records past their keep time, in small batches, and say how many. Run it daily."""
        return step(self._engine.purge_tokens())

    def run_job(self, job: str) -> None:
        """Do the work of a job that a queue carried. Call it from the queue's worker; twice does no harm.

        Raises what the directory, the store or the mailer raised, so that the queue tries again. A text that is no
        job, or another realm's, is refused with an event and without an error.
        """
        job = require_secret("job", job)
        step(self._engine.run_job(job))

    def close(self, timeout: float = 30.0) -> None:
        """Run what is left, for at most `timeout` seconds, and report each job left as JobLost. Twice does no harm.

        Store and mailer stay open: they are yours. Afterwards `request_reset` and `reset_password` raise RuntimeError.
        """
        step(self._engine.close(timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
