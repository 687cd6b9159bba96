"""The policy: the only place that knows the order of the steps, and why each stands where it does.

request_reset, in the visitor's request: the same work for everyone
   1  check the identifier's form, before any normalisation, so that no size or character costs much
   2  throttle by client, then by identifier, before any look-up: a limit that only accounts reach would tell of them
   3  draw the selector, hand the job over, answer: nothing that depends on the account has begun, nor will it until
      the answer has had time to leave

a reset job, after the answer
   4  drop it if its link would be dead already
   5  find the account
   6  mint and hash: the only place where a token exists in clear. Where no mail is due, a dummy all the same
   7  store.add: quota and supersession in one step
   8  send, to the stored address; a second delivery mints new secrets under the same selector

reset_password, in the visitor's second request
   9  parse, pure; then throttle by client
  10  read the record; for a code, count the guess first, or parallel guesses would all be compared before any counts
  11  verify the hash, or a dummy of the same cost. Only then judge state and expiry: strangers learn nothing of either
  12  claim, which at most one caller wins; its siblings end with it
  13  read the account again: what changed since the mail was sent ends the token
  14  set the password; a refusal releases the claim, since nothing was written
  15  end the sessions, even if 14 failed in the middle: it may have written
  16  hand over the notices

12 to 16 run to their end even if the caller is cancelled: a password written with sessions left alive would be the
attacker's, not the owner's.

It stands once, as async code. What differs between the colours, threads and tasks, is a `Runtime`; `_sync` brings
its own and steps the coroutines.
"""

import hmac
import inspect
import logging
import secrets
import time
import traceback
import warnings
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType, TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    NotRequired,
    Protocol,
    Self,
    TypedDict,
    TypeVar,
    TypeVarTuple,
)

from resetkit import events
from resetkit._checks import (
    check_callable,
    check_duration,
    check_text,
    check_type,
    is_encodable,
    is_id,
    is_single_line,
    require_secret,
    require_text,
)
from resetkit._colour import check_ports
from resetkit._confidential import Confidential, Secret, hidden
from resetkit._fork import start_afresh_in_child
from resetkit._jobs import (
    Job,
    NoticeJob,
    ResetJob,
    UnusableJobError,
    clean_context,
    decode_job,
    encode_job,
    next_attempt,
)
from resetkit._keys import client_form, identifier_form, throttle_key
from resetkit._link import check_link, fill_link
from resetkit._threads import Threads, retrieve_exception
from resetkit._tokens import (
    SECRET_BYTES,
    SELECTOR_BYTES,
    Part,
    Token,
    bind,
    decoy_account_id,
    link_token,
    make_code,
    make_secret,
    make_selector,
    parse_token,
    stamp_digest,
    stored_part,
)
from resetkit.dispatch import AsyncInlineDispatcher, AsyncTaskDispatcher, InlineDispatcher
from resetkit.errors import (
    ConfigurationError,
    DuplicateSelectorError,
    InvalidRequestError,
    InvalidTokenError,
    PasswordRejectedError,
    ThrottledError,
    TokenReason,
)
from resetkit.events import Event, log_event
from resetkit.hashing import Argon2TokenHasher
from resetkit.mails import PasswordChangedMail, ResetMail
from resetkit.policy import MAX_OPERATOR_LIFETIME, Limit, ResetPolicy
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
from resetkit.throttle import AsyncMemoryThrottle
from resetkit.values import Account, IssuedToken, Kind, Quota, ResetReceipt, ResetTicket, TokenRecord

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_logger: Final = logging.getLogger("resetkit")

OPERATOR_LIFETIME: Final = timedelta(hours=24)
REST: Final = 3  # times as long as a batch takes, a purge then leaves the store to others
NO_CONTEXT: Final[Mapping[str, str]] = MappingProxyType({})


def utc_now() -> datetime:
    """The default clock, in whole seconds."""
    return datetime.fromtimestamp(int(time.time()), UTC)


def warn_if_inline(dispatcher: object, mailer: object) -> None:
    """Warn the caller's caller, who makes a manager, of mails that are sent while a visitor waits."""
    inline = isinstance(dispatcher, InlineDispatcher | AsyncInlineDispatcher)
    if inline and getattr(mailer, "sends_nothing", False) is not True:
        told = (
            f"{type(dispatcher).__name__} sends each mail while the visitor waits, so the time of an answer tells who "
            "has an account: leave the dispatcher to its default, or use a queue. If this mailer is for tests, give it "
            "the attribute sends_nothing = True"
        )
        warnings.warn(told, RuntimeWarning, stacklevel=3)


class Runtime(Protocol):
    """Where work runs: what an event loop and plain threads do differently."""

    async def compute(self, work: Callable[[*Ts], T], /, *args: *Ts) -> T:
        """Run `work`, which hashes, so that at most ``hash_workers`` do at once."""
        ...

    async def protect(self, work: Coroutine[Any, Any, T], /) -> T:
        """Run `work` to its end, whatever becomes of the caller."""
        ...

    async def rest(self, seconds: float, /) -> None:
        """Let others work for so long."""
        ...

    async def close(self, timeout: float, /) -> None:
        """Wait for protected work, at most `timeout` seconds."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class Parts:
    """What a manager was made of, as given or by default. Nothing works with them: they are for who judges a set-up."""

    accounts: AccountDirectory | AsyncAccountDirectory
    store: TokenStore | AsyncTokenStore
    mailer: Mailer | AsyncMailer
    throttle: Throttle | AsyncThrottle
    dispatcher: Dispatcher | AsyncDispatcher
    hasher: TokenHasher
    link: str
    policy: ResetPolicy
    clock: Callable[[], datetime]


@dataclass(slots=True)
class Run:
    """One attempt at a job, and whose it turned out to be."""

    job: Job
    account_id: str | None = None


@dataclass(slots=True)
class Draft(Confidential):
    """A record, and the secrets that only this moment knows."""

    record: TokenRecord
    token: Secret
    code: Secret | None

    def mail(self, account: Account, link: str, context: Mapping[str, str]) -> ResetMail:
        return ResetMail(
            to=account.email,
            account=account,
            token=self.token,
            link=fill_link(link, self.token),
            code=self.code,
            created_at=self.record.created_at,
            expires_at=self.record.expires_at,
            code_expires_at=self.record.code_expires_at,
            locale=account.locale,
            context=context,
        )


class Engine:
    """All flows, over async ports and a runtime."""

    def __init__(
        self,
        accounts: AsyncAccountDirectory,
        store: AsyncTokenStore,
        mailer: AsyncMailer,
        *,
        link: str,
        policy: ResetPolicy,
        hasher: TokenHasher,
        throttle: AsyncThrottle,
        dispatcher: AsyncDispatcher,
        clock: Callable[[], datetime],
        on_event: Callable[[Event], None],
        realm: str,
        runtime: Runtime,
    ) -> None:
        check_callable("clock", clock)
        check_callable("on_event", on_event)
        if inspect.iscoroutinefunction(on_event):
            raise ConfigurationError("on_event must be a plain function: it is called in whichever thread")
        self._accounts = accounts
        self._store = store
        self._mailer = mailer
        self._link = check_link(link)
        self._policy = policy
        self._hasher = hasher
        self._throttle = throttle
        self._dispatcher = dispatcher
        self._clock = clock
        self._on_event = on_event
        self._realm = check_text("realm", realm)
        self._runtime = runtime
        self._closed = False
        self._dummy = hasher.hash(secrets.token_bytes(SECRET_BYTES))
        check_type("what hasher.hash returns", self._dummy, str)

    # The visitor asks: steps 1 to 3.

    async def request_reset(
        self, identifier: str, *, client: str | None, code: bool = False, context: Mapping[str, str] = NO_CONTEXT
    ) -> ResetReceipt:
        """Take a visitor's request and answer alike, whoever asked. See `ResetManager.request_reset`.

        Raises ThrottledError, and InvalidRequestError for what is no text.
        """
        identifier = require_secret("identifier", identifier)
        if client is not None:
            require_text("client", client)
        if code is not True and code is not False:
            raise InvalidRequestError("code must be True or False")
        context = clean_context(context)
        self._require_open()
        now = self._now()
        if not self._is_identifier(identifier):
            identifier = Secret()
        await self._throttle_request(identifier, client, now, context)
        selector = make_selector(secrets.token_bytes(SELECTOR_BYTES))
        job = ResetJob(
            realm=self._realm, selector=selector, identifier=identifier, code=code, context=context, created_at=now
        )
        try:
            await self._dispatcher.dispatch(encode_job(job), self._run_dispatched, delay=self._head_start())
        except ThrottledError as full:
            self._emit_throttled("request", "capacity", full.retry_after, context)
            raise
        except Exception:
            self._emit_lost(job)
            raise
        self._emit(events.ResetRequested(selector=selector, code=code, context=context))
        return ResetReceipt(handle=selector if code else None)

    def _head_start(self) -> timedelta:
        """Random, so that who asks twice cannot aim the second request at the first one's job."""
        return self._policy.head_start * (0.5 + secrets.randbelow(1000) / 2000)

    def _is_identifier(self, text: str) -> bool:
        return len(text) <= self._policy.max_identifier_length and is_single_line(text) and not text.isspace()

    async def _throttle_request(
        self, identifier: str, client: str | None, now: datetime, context: Mapping[str, str]
    ) -> None:
        if client is not None:
            key = throttle_key("request-client", self._realm, client_form(client))
            await self._count("request", "client", key, self._policy.client_limit, now, context)
        if form := identifier_form(identifier):
            key = throttle_key("request-identifier", self._realm, form)
            await self._count("request", "identifier", key, self._policy.identifier_limit, now, context)

    async def _count(
        self,
        action: Literal["request", "redeem"],
        by: Literal["client", "identifier"],
        key: str,
        limit: Limit,
        now: datetime,
        context: Mapping[str, str],
    ) -> None:
        count, window = limit
        wait = await self._throttle.hit(key, limit=count, window=window, now=now)
        if wait > 0:
            self._emit_throttled(action, by, wait, context)
            raise ThrottledError(wait)

    # The job: steps 4 to 8, and the notices.

    async def run_job(self, job: str) -> None:
        """Do the work of a job that a queue carried; raises what failed. See `ResetManager.run_job`."""
        job = require_secret("job", job)
        parsed = self._parse_job(job)
        if parsed is not None:
            run = Run(parsed)
            try:
                await self._perform(run)
            except Exception as error:
                self._emit_failed(run, error, retry=False)
                raise

    async def _run_dispatched(self, text: str) -> None:
        text = hidden(text)
        job = decode_job(text)
        run = Run(job)
        try:
            await self._perform(run)
        except Exception as error:  # noqa: BLE001  # whatever the adapters raise, the mail is tried again
            retry = job.attempt < self._policy.mail_attempts
            self._emit_failed(run, error, retry=retry)
            if retry:
                await self._hand_over(next_attempt(job), self._policy.mail_retry_delay * 2 ** (job.attempt - 1))
        except BaseException:
            if not self._closed:  # closing reports the jobs it leaves by itself
                self._emit_lost(job)
            raise

    async def _hand_over(self, job: Job, delay: timedelta = timedelta(0)) -> None:
        """Dispatch where no visitor can be told of a failure: it becomes an event."""
        try:
            await self._dispatcher.dispatch(encode_job(job), self._run_dispatched, delay=delay)
        except Exception:  # noqa: BLE001  # a full or broken dispatcher must not undo what was done
            self._emit_lost(job)
        except BaseException:
            self._emit_lost(job)
            raise

    def _parse_job(self, text: str) -> Job | None:
        try:
            job = decode_job(text)
        except UnusableJobError as unusable:
            self._emit(events.RequestDropped(reason=unusable.reason))
            return None
        if job.realm != self._realm:
            self._emit(events.RequestDropped(reason="realm"))
            return None
        return job

    async def _perform(self, run: Run) -> None:
        if isinstance(run.job, ResetJob):
            await self._mail_token(run, run.job)
        else:
            await self._mail_notice(run.job)

    async def _mail_token(self, run: Run, job: ResetJob) -> None:
        now = self._now()
        if abs(now - job.created_at) >= self._policy.link_lifetime:
            self._emit(events.RequestDropped(reason="late", selector=job.selector))
            return
        account = await self._find(job.identifier)
        if account is None or not account.can_reset:
            await self._drop(job, _why_not(job, account), account, None, now)
            return
        run.account_id = account.id
        draft = await self._mint(
            "mail", account.id, stamp_digest(self._realm, job.selector, account), job.selector, now, code=job.code
        )
        quotas = [Quota(count, now - within) for count, within in self._policy.account_quotas]
        try:
            added = _decided(await self._store.add(draft.record, quotas=quotas, keep=self._policy.outstanding))
        except DuplicateSelectorError:
            self._emit(events.RequestDropped(reason="repeated", selector=job.selector, account_id=account.id))
            return
        if not added:
            known = await self._store.get(job.selector)
            await self._drop(job, "repeated" if known else "quota", account, draft, now)
            return
        await self._mailer.send(draft.mail(account, self._link, job.context))
        waited = _seconds(job.created_at, now)
        self._emit(events.MailSent(mail="reset", account_id=account.id, selector=job.selector, waited=waited))

    async def _find(self, identifier: str) -> Account | None:
        if not identifier:
            return None
        return _checked_account(await self._accounts.find(str(identifier)))

    async def _drop(
        self,
        job: ResetJob,
        reason: Literal["empty", "unknown", "cannot_reset", "quota", "repeated"],
        account: Account | None,
        draft: Draft | None,
        now: datetime,
    ) -> None:
        """End a job without a mail; where a code was asked for, leave a decoy under a handle that has no record.

        Hashes for everyone: who goes on asking would see in the answers when the processor is busy with a hash.
        """
        decoy_id = decoy_account_id(job.selector)
        if draft is None:
            noise = secrets.token_hex(SECRET_BYTES)
            draft = await self._mint("mail", decoy_id, noise, job.selector, now, code=job.code)
        if job.code and reason != "repeated":
            try:
                await self._store.add(replace(draft.record, account_id=decoy_id), quotas=(), keep=1)
            except DuplicateSelectorError:
                reason = "repeated"
        account_id = account.id if account else None
        self._emit(events.RequestDropped(reason=reason, selector=job.selector, account_id=account_id))

    async def _mail_notice(self, job: NoticeJob) -> None:
        waited = _seconds(job.changed_at, self._now())
        account = _checked_account(await self._accounts.get(job.account_id))
        if account is None:
            self._emit(events.RequestDropped(reason="gone", account_id=job.account_id))
            return
        mail = PasswordChangedMail(
            to=job.to, account=account, changed_at=job.changed_at, locale=account.locale, context=job.context
        )
        await self._mailer.send(mail)
        self._emit(events.MailSent(mail="notice", account_id=account.id, waited=waited))

    # Minting: the only place where a token exists in clear.

    async def _mint(
        self,
        kind: Kind,
        account_id: str,
        stamp: str,
        selector: str,
        now: datetime,
        *,
        code: bool = False,
        lifetime: timedelta | None = None,
    ) -> Draft:
        expires_at = now + (lifetime or self._policy.link_lifetime)
        code_expires_at = now + self._policy.code_lifetime if code else None
        link_secret = make_secret(secrets.token_bytes(SECRET_BYTES))
        typed_secret = make_code(secrets.token_bytes(SECRET_BYTES)) if code else None

        async def hashed(part: Part, secret: Secret, expires_at: datetime) -> Secret:
            material = bind(
                part,
                secret,
                realm=self._realm,
                kind=kind,
                selector=selector,
                account_id=account_id,
                stamp_digest=stamp,
                expires_at=expires_at,
            )
            return Secret(await self._runtime.compute(self._hasher.hash, material))

        link_hash = await hashed("link", link_secret, expires_at)
        code_hash = None
        if typed_secret is not None and code_expires_at is not None:
            code_hash = await hashed("code", typed_secret, code_expires_at)
        record = TokenRecord(
            selector=selector,
            account_id=account_id,
            kind=kind,
            link_hash=link_hash,
            code_hash=code_hash,
            stamp_digest=stamp,
            created_at=now,
            expires_at=expires_at,
            code_expires_at=code_expires_at,
            keep_until=expires_at + self._policy.retention,
        )
        return Draft(record, link_token(selector, link_secret), typed_secret)

    # The visitor comes back: steps 9 to 11, and 13 for a look.

    async def check_token(self, token: str, *, client: str | None = None) -> ResetTicket:
        """Look whether a token is good, without spending a link. See `ResetManager.check_token`.

        Raises InvalidTokenError with its reason, ThrottledError, InvalidRequestError.
        """
        token = require_secret("token", token)
        if client is not None:
            require_text("client", client)
        record, expires_at, _ = await self._match(token, client, {})
        account = _checked_account(await self._accounts.get(record.account_id))
        self._require_fresh(record, account)
        self._emit(events.TokenChecked(selector=record.selector, account_id=record.account_id))
        return ResetTicket(account_id=record.account_id, expires_at=expires_at)

    async def _match(
        self, text: str, client: str | None, context: Mapping[str, str]
    ) -> tuple[TokenRecord, datetime, Token]:
        """The record that this token opens, and until when. Raises InvalidTokenError, ThrottledError."""
        token = parse_token(text)
        if token is None:
            self._emit(events.TokenRefused(reason="malformed"))
            raise InvalidTokenError
        if client is not None:
            key = throttle_key("redeem-client", self._realm, client_form(client))
            await self._count("redeem", "client", key, self._policy.client_limit, self._now(), context)
        guessing = token.part == "code"
        allowed = not guessing or _decided(await self._store.attempt(token.selector, limit=self._policy.code_guesses))
        record = await self._store.get(token.selector)
        stored = stored_part(record, token.part) if record else None
        if record is None or stored is None or not allowed:
            await self._runtime.compute(self._hasher.verify, self._dummy, bytes(SECRET_BYTES))
            raise self._refused_unknown(token, record, exhausted=guessing and record is not None and not allowed)
        stored_hash, expires_at = stored
        material = bind(
            token.part,
            token.secret,
            realm=self._realm,
            kind=record.kind,
            selector=record.selector,
            account_id=record.account_id,
            stamp_digest=record.stamp_digest,
            expires_at=expires_at,
        )
        if not _decided(await self._runtime.compute(self._hasher.verify, stored_hash, material)):
            raise self._refused_unknown(token, record, exhausted=False)
        if reason := _ended(record, expires_at, self._now()):
            raise self._refused(record, reason)
        return record, expires_at, token

    def _require_fresh(self, record: TokenRecord, account: Account | None) -> Account:
        """Step 13: still there, still allowed, with the password and address of when the mail was sent."""
        if account is not None and account.can_reset:
            digest = stamp_digest(self._realm, record.selector, account)
            if hmac.compare_digest(digest, record.stamp_digest):
                return account
        raise self._refused(record, "stale")

    def _refused(self, record: TokenRecord, reason: TokenReason) -> InvalidTokenError:
        self._emit(events.TokenRefused(reason=reason, selector=record.selector, account_id=record.account_id))
        return InvalidTokenError(reason)

    def _refused_unknown(self, token: Token, record: TokenRecord | None, *, exhausted: bool) -> InvalidTokenError:
        account_id = record.account_id if record else None
        if token.part == "code":
            self._emit(events.GuessRefused(selector=token.selector, exhausted=exhausted, account_id=account_id))
        else:
            self._emit(events.TokenRefused(reason="unknown", selector=token.selector, account_id=account_id))
        return InvalidTokenError()

    # The reset: steps 9 to 16.

    async def reset_password(
        self, token: str, new_password: str, *, client: str | None = None, context: Mapping[str, str] = NO_CONTEXT
    ) -> ResetTicket:
        """Set a new password, once; end all sessions; send the notices. See `ResetManager.reset_password`.

        Raises InvalidTokenError with its reason; PasswordRejectedError, and the token is still good; ThrottledError;
        InvalidRequestError; and what the directory raised.
        """
        token, new_password = hidden(token), hidden(new_password)
        require_text("token", token)
        require_text("new_password", new_password)
        if client is not None:
            require_text("client", client)
        context = clean_context(context)
        self._require_open()
        self._refuse_password(new_password)
        record, expires_at, parsed = await self._match(token, client, context)
        self._require_open()  # once more: after close, the owner would get no notice
        await self._runtime.protect(self._redeem(record, expires_at, parsed.part, new_password, context))
        return ResetTicket(account_id=record.account_id, expires_at=expires_at)

    def _refuse_password(self, password: str) -> None:
        """Refuse what no directory could hash, before the token is touched."""
        most = self._policy.max_password_length
        if not password:
            message = "The password is empty."
        elif len(password) > most:
            message = f"The password is longer than {most} characters."
        elif not is_encodable(password):
            message = "The password holds a character that cannot be used."
        else:
            return
        self._emit(events.PasswordRejected())
        raise PasswordRejectedError(message)

    async def _redeem(
        self,
        record: TokenRecord,
        expires_at: datetime,
        part: Part,
        new_password: str,
        context: Mapping[str, str],
    ) -> None:
        claim_id = secrets.token_hex(SELECTOR_BYTES)
        now = self._now()
        try:
            won = _decided(await self._store.claim(record.selector, claim_id=claim_id, now=now))
            account = _checked_account(await self._accounts.get(record.account_id)) if won else None
        except BaseException:
            await self._release(record, part, claim_id)  # nothing was written
            raise
        if not won:
            raise await self._lost(record, expires_at, now)
        account = self._require_fresh(record, account)
        failure = await self._write_password(record, part, claim_id, new_password)
        unended = await self._end_sessions(record.account_id)
        error = type(failure).__name__ if failure else None
        self._emit(
            events.PasswordReset(selector=record.selector, account_id=record.account_id, error=error, context=context)
        )
        await self._notify(account, self._now(), context)
        if raised := failure or unended:
            raise raised

    async def _lost(self, record: TokenRecord, expires_at: datetime, now: datetime) -> InvalidTokenError:
        """What ended the record between the look and the claim."""
        current = await self._store.get(record.selector)
        reason = _ended(current, expires_at, now) if current else None
        return self._refused(record, reason or "used")

    async def _write_password(
        self, record: TokenRecord, part: Part, claim_id: str, new_password: str
    ) -> BaseException | None:
        """Step 14. Raises PasswordRejectedError; any other failure leaves the outcome unknown and is returned."""
        try:
            await self._accounts.set_password(record.account_id, str(new_password))
        except PasswordRejectedError:
            await self._release(record, part, claim_id)
            self._emit(events.PasswordRejected(selector=record.selector, account_id=record.account_id))
            raise
        except BaseException as error:  # noqa: BLE001  # it may have written: the sessions must end whatever it was
            return error
        return None

    async def _end_sessions(self, account_id: str) -> BaseException | None:
        try:
            await self._accounts.end_sessions(account_id)
        except BaseException as error:  # noqa: BLE001  # it comes out after the notices
            self._emit(events.SessionsNotEnded(account_id=account_id, error=type(error).__name__))
            return error
        return None

    async def _release(self, record: TokenRecord, part: Part, claim_id: str) -> None:
        """Give the token back. What fails here leaves it spent, which is safe, and hides no other error."""
        with suppress(Exception):
            await self._store.release(record.selector, claim_id=claim_id, guess=part == "code")

    async def _notify(self, account: Account, changed_at: datetime, context: Mapping[str, str]) -> None:
        interrupt: BaseException | None = None
        for to in dict.fromkeys((account.email, *account.notify)):
            notice = NoticeJob(realm=self._realm, account_id=account.id, to=to, context=context, changed_at=changed_at)
            try:
                await self._hand_over(notice)
            except BaseException as error:  # noqa: BLE001  # the other addresses are told all the same
                interrupt = error
        if interrupt is not None:
            raise interrupt

    # For operators.

    async def issue_token(self, account_id: str, *, lifetime: timedelta = OPERATOR_LIFETIME) -> IssuedToken:
        """Make a link for an operator to hand over. See `ResetManager.issue_token`.

        Raises LookupError if the account is unknown or may not reset; ValueError for a lifetime over 7 days.
        """
        require_text("account_id", account_id)
        check_duration("lifetime", lifetime, most=MAX_OPERATOR_LIFETIME)
        account = _checked_account(await self._accounts.get(account_id)) if is_id(account_id) else None
        if account is None or not account.can_reset:
            raise LookupError("there is no such account, or it may not reset its password")
        selector = make_selector(secrets.token_bytes(SELECTOR_BYTES))
        stamp = stamp_digest(self._realm, selector, account)
        draft = await self._mint("operator", account.id, stamp, selector, self._now(), lifetime=lifetime)
        if not _decided(await self._store.add(draft.record, quotas=(), keep=1)):
            raise RuntimeError("the store refused a record without a quota: it does not keep the TokenStore contract")
        self._emit(events.TokenIssued(selector=selector, account_id=account.id))
        link = fill_link(self._link, draft.token)
        return IssuedToken(token=draft.token, link=link, expires_at=draft.record.expires_at)

    async def revoke_tokens(self, account_id: str) -> int:
        """End all outstanding tokens of an account, and say how many."""
        require_text("account_id", account_id)
        count = await self._store.revoke(account_id, now=self._now()) if is_id(account_id) else 0
        self._emit(events.TokensRevoked(account_id=account_id, count=count))
        return count

    async def purge_tokens(self) -> int:
        """Delete the records past their keep time, in small batches with rests between them, and say how many."""
        before, batch, count = self._now(), self._policy.purge_batch, 0
        began = time.monotonic()
        while purged := await self._store.purge(before=before, limit=batch):
            count += purged
            await self._runtime.rest(REST * (time.monotonic() - began))
            began = time.monotonic()
        self._emit(events.TokensPurged(count=count))
        return count

    async def close(self, timeout: float = 30.0) -> None:
        """Run what is left, for at most `timeout` seconds; report what is not run. See `ResetManager.close`."""
        deadline = time.monotonic() + timeout
        self._closed = True
        try:
            await self._runtime.close(timeout)
        finally:
            for text in await self._dispatcher.close(max(0.0, deadline - time.monotonic())) or ():
                self._emit_lost(decode_job(text))

    # The clock, and events.

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeError("this manager was closed: make one for the life of the application, and close it last")

    def _now(self) -> datetime:
        now = self._clock()
        if type(now) is datetime and now.tzinfo is UTC and not now.microsecond:
            return now
        if check_type("what clock returns", now, datetime).utcoffset() is None:
            raise ConfigurationError("clock must return aware datetimes: datetime.now(UTC)")
        return now.astimezone(UTC).replace(microsecond=0)

    def _emit(self, event: Event) -> None:
        try:
            self._on_event(event)
        except Exception as error:  # noqa: BLE001  # an observer must not change what it observes
            with suppress(Exception):  # nor must the application's logging
                missed = "on_event failed with %s and missed %s"
                _logger.error(missed, type(error).__name__, event)  # noqa: TRY400  # its context may name people

    def _emit_throttled(
        self,
        action: Literal["request", "redeem"],
        by: Literal["client", "identifier", "capacity"],
        retry_after: int,
        context: Mapping[str, str],
    ) -> None:
        self._emit(events.RequestThrottled(action=action, by=by, retry_after=retry_after, context=context))

    def _emit_failed(self, run: Run, error: Exception, *, retry: bool) -> None:
        name, place = told(error)
        failed = events.MailFailed(attempt=run.job.attempt, error=name, at=place, retry=retry, **_named(run.job))
        self._emit(replace(failed, account_id=run.account_id or failed.account_id))

    def _emit_lost(self, job: Job) -> None:
        self._emit(events.JobLost(**_named(job)))


def _ended(record: TokenRecord, expires_at: datetime, now: datetime) -> TokenReason | None:
    """Why a record opens nothing any more, or None."""
    if record.state != "outstanding":
        return record.state
    return None if now < expires_at else "expired"


def _seconds(since: datetime, now: datetime) -> int:
    """Whole seconds between them; none where the clocks of two machines disagree."""
    return max(0, int((now - since).total_seconds()))


def _decided(answer: object) -> bool:
    """An adapter's yes or no. Anything else, a forgotten coroutine above all, must not count as a yes."""
    return answer if answer is True or answer is False else check_type("what an adapter decides", answer, bool)


def _checked_account(found: object) -> Account | None:
    """What a directory returned, if it is of the right type."""
    if found is None or isinstance(found, Account):
        return found
    raise ConfigurationError(f"the account directory must return Account or None, not {type(found).__name__}")


def _why_not(job: ResetJob, account: Account | None) -> Literal["cannot_reset", "unknown", "empty"]:
    if account is not None:
        return "cannot_reset"
    return "unknown" if job.identifier else "empty"


def told(error: BaseException) -> tuple[str, str]:
    """What may be told of an error: its type, and the place that raised it.

    Its text only where it was raised here, for an adapter's may quote anything. The variables there never.
    """
    name = type(error).__name__
    frame, line = list(traceback.walk_tb(error.__traceback__))[-1]
    if isinstance(error, ConfigurationError) and str(frame.f_globals.get("__name__")).startswith("resetkit."):
        name = f"{name}: {error}"
    return name, f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"


class _JobNames(TypedDict):
    mail: Literal["reset", "notice"]
    account_id: NotRequired[str]
    selector: NotRequired[str]


def _named(job: Job) -> _JobNames:
    """What an event may tell of a job."""
    if isinstance(job, ResetJob):
        return {"mail": "reset", "selector": job.selector}
    return {"mail": "notice", "account_id": job.account_id}


class LoopRuntime:
    """Runs hashes in a few threads of its own, and protected work in tasks that `close` waits for."""

    def __init__(self, hash_workers: int) -> None:
        self._threads = Threads(hash_workers, "resetkit-hash")
        self._start_afresh()
        start_afresh_in_child(self)

    def _start_afresh(self) -> None:
        self._protected: set[asyncio.Task[Any]] = set()

    async def compute(self, work: Callable[[*Ts], T], /, *args: *Ts) -> T:
        return await self._threads.run(work, *args)

    async def protect(self, work: Coroutine[Any, Any, T], /) -> T:
        import asyncio

        task = asyncio.get_running_loop().create_task(work)
        self._protected.add(task)
        task.add_done_callback(self._protected.discard)
        task.add_done_callback(retrieve_exception)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_failure)
            raise

    async def rest(self, seconds: float, /) -> None:
        import asyncio

        await asyncio.sleep(seconds)

    async def close(self, timeout: float, /) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        if mine := {task for task in self._protected if task.get_loop() is loop}:
            await asyncio.wait(mine, timeout=timeout)
        self._threads.close()


def _log_failure(done: "asyncio.Task[Any]") -> None:
    """Say what became of a reset whose caller went away. Only the type: the text is the adapter's."""
    if not done.cancelled() and (error := done.exception()) is not None:
        _logger.error("a reset whose caller was cancelled ended with %s", type(error).__name__)


class AsyncResetManager(Engine):
    """`ResetManager` for async applications: the same arguments, with ``Async*`` ports, and the same methods.

    Constructing needs no running loop. A cancelled call of `reset_password` that has begun to write goes on to its
    end; `close` waits for it. Use it as ``async with``, or await `close` before the loop ends.
    """

    def __init__(
        self,
        accounts: AsyncAccountDirectory,
        store: AsyncTokenStore,
        mailer: AsyncMailer,
        *,
        link: str,
        policy: ResetPolicy | None = None,
        hasher: TokenHasher | None = None,
        throttle: AsyncThrottle | None = None,
        dispatcher: AsyncDispatcher | None = None,
        clock: Callable[[], datetime] = utc_now,
        on_event: Callable[[Event], None] = log_event,
        realm: str = "",
    ) -> None:
        policy = ResetPolicy() if policy is None else check_type("policy", policy, ResetPolicy)
        hasher = Argon2TokenHasher() if hasher is None else hasher
        throttle = AsyncMemoryThrottle() if throttle is None else throttle
        dispatcher = AsyncTaskDispatcher() if dispatcher is None else dispatcher
        check_ports("async", accounts, store, mailer, throttle, dispatcher, hasher)
        warn_if_inline(dispatcher, mailer)
        self._parts = Parts(accounts, store, mailer, throttle, dispatcher, hasher, link, policy, clock)
        super().__init__(
            accounts,
            store,
            mailer,
            link=link,
            policy=policy,
            hasher=hasher,
            throttle=throttle,
            dispatcher=dispatcher,
            clock=clock,
            on_event=on_event,
            realm=realm,
            runtime=LoopRuntime(policy.hash_workers),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
