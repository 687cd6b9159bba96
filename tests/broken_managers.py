"""Libraries that break one promise each, in the engine or in an adapter: the kit's machine must catch every one."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from typing_extensions import override

from resetkit import (
    Account,
    InvalidTokenError,
    IssuedToken,
    KeyedTokenHasher,
    Mail,
    PasswordChangedMail,
    PasswordRejectedError,
    Quota,
    ResetMail,
    ResetReceipt,
    ResetTicket,
    ThrottledError,
    TokenRecord,
    _manager,
    events,
)
from resetkit._jobs import Job, NoticeJob, ResetJob, decode_job, encode_job
from resetkit._manager import Engine, Run
from resetkit._tokens import Part, Token, bind, digest, parse_token
from resetkit.mailers import MemoryMailer
from resetkit.stores import MemoryTokenStore
from resetkit.testing import FakeAccounts
from resetkit.testing.managers import Ports

Twin = Callable[..., Any]

ENGINES: Final[dict[Twin, tuple[object, str]]] = {}
"""What replaces which name of the engine."""

PORTS: Final[dict[str, Callable[[], Ports]]] = {}
"""Sets of adapters of which one is broken."""


def engine(name: str, owner: object = Engine) -> Callable[[Twin], Twin]:
    def register(twin: Twin) -> Twin:
        ENGINES[twin] = owner, name
        return twin

    return register


def ports(make: Callable[[], Ports]) -> Callable[[], Ports]:
    PORTS[make.__name__] = make
    return make


# The visitor asks.

REQUEST = Engine.request_reset


@engine("request_reset")
async def answer_by_account(self: Engine, identifier: str, **options: Any) -> ResetReceipt:
    receipt = await REQUEST(self, identifier, **options)
    known = await self._accounts.find(identifier)
    return replace(receipt, message="A mail is on its way." if known else "There is no such account.")


@engine("request_reset")
async def a_handle_whether_or_not_one_was_asked_for(self: Engine, identifier: str, **options: Any) -> ResetReceipt:
    receipt = await REQUEST(self, identifier, **options)
    return replace(receipt, handle=receipt.handle or "0" * 32)


@engine("request_reset")
async def another_event_for_another_answer(self: Engine, identifier: str, **options: Any) -> ResetReceipt:
    receipt = await REQUEST(self, identifier, **options)
    self._emit(events.RequestDropped(reason="unknown"))
    return receipt


@engine("_throttle_request")
async def count_nothing(_self: Engine, *_: object) -> None: ...


@engine("identifier_form", _manager)
def count_each_spelling(identifier: str) -> str:
    return identifier


@engine("client_form", _manager)
def count_each_address_of_a_network(client: str) -> str:
    return client


@engine("_is_identifier")
def take_anything_for_an_identifier(_self: Engine, _text: str) -> bool:
    return True


@engine("_head_start")
def begin_at_once(_self: Engine) -> timedelta:
    return timedelta(0)


# The job.


@engine("_find")
async def mail_to_the_typed_address(self: Engine, identifier: str) -> Account | None:
    found = await self._accounts.find(str(identifier))
    return found and replace(found, email=str(identifier))


@engine("_find")
async def find_what_was_not_typed(self: Engine, identifier: str) -> Account | None:
    return await self._accounts.find(identifier.lower())


MAIL_TOKEN = Engine._mail_token


@engine("_mail_token")
async def never_be_late(self: Engine, run: Run, job: ResetJob) -> None:
    await MAIL_TOKEN(self, run, replace(job, created_at=self._now()))


FIND = Engine._find


@engine("_find")
async def log_the_address(self: Engine, identifier: str) -> Account | None:
    found = await FIND(self, identifier)
    if found is not None:
        logging.getLogger("resetkit").info("mailing %s", found.email)
    return found


EMIT = Engine._emit


@engine("_emit")
def tell_the_address_in_an_event(self: Engine, event: events.Event) -> None:
    if isinstance(event, events.RequestThrottled):
        event = replace(event, context={"who": "eve@example.org"})
    EMIT(self, event)


@engine("_find")
async def look_up_twice(self: Engine, identifier: str) -> Account | None:
    await FIND(self, identifier)
    return await FIND(self, identifier)


@engine("mail", _manager.Draft)
def mail_another_token(self: _manager.Draft, account: Account, link: str, context: Mapping[str, str]) -> ResetMail:
    return replace(MAIL(self, account, link, context), token="0" * 96)


MAIL = _manager.Draft.mail
ISSUE = Engine.issue_token


@engine("issue_token")
async def hand_out_a_short_token(self: Engine, account_id: str, **options: Any) -> IssuedToken:
    issued = await ISSUE(self, account_id, **options)
    return replace(issued, token=issued.token[:-1])


DROP = Engine._drop


@engine("_drop")
async def keep_no_decoy(self: Engine, job: ResetJob, reason: Any, account: Any, draft: Any, now: Any) -> None:
    await DROP(self, replace(job, code=False), reason, account, draft, now)


@engine("_drop")
async def mail_in_spite_of_the_quota(
    self: Engine, job: ResetJob, reason: Any, account: Account | None, draft: Any, now: datetime
) -> None:
    if reason == "quota" and draft and account:
        await self._store.add(draft.record, quotas=(), keep=self._policy.outstanding)
        await self._mailer.send(draft.mail(account, self._link, job.context))
        waited = _manager._seconds(job.created_at, now)
        self._emit(events.MailSent(mail="reset", account_id=account.id, selector=job.selector, waited=waited))
    else:
        await DROP(self, job, reason, account, draft, now)


MINT = Engine._mint


@engine("_mint")
async def live_twice_as_long(self: Engine, *args: Any, **options: Any) -> Any:
    lifetime = options.get("lifetime") or self._policy.link_lifetime
    return await MINT(self, *args, **(options | {"lifetime": 2 * lifetime}))


@engine("_mint")
async def keep_records_for_a_day_only(self: Engine, *args: Any, **options: Any) -> Any:
    draft = await MINT(self, *args, **options)
    return replace(draft, record=replace(draft.record, keep_until=draft.record.expires_at + timedelta(hours=1)))


@engine("next_attempt", _manager)
def try_for_ever(job: Job) -> Job:
    return job


@engine("_run_dispatched")
async def never_try_again(self: Engine, text: str) -> None:
    job = decode_job(text)
    run = Run(job)
    try:
        await self._perform(run)
    except Exception as error:  # noqa: BLE001  # that is the fault
        self._emit_failed(run, error, retry=True)


@engine("_parse_job")
def run_the_jobs_of_every_realm(_self: Engine, text: str) -> Job:
    return decode_job(text)


@engine("_mail_notice")
async def tell_the_new_address(self: Engine, job: NoticeJob) -> None:
    account = await self._accounts.get(job.account_id)
    if account is None:
        self._emit(events.RequestDropped(reason="gone", account_id=job.account_id))
        return
    mail = PasswordChangedMail(
        to=account.email, account=account, changed_at=job.changed_at, locale=account.locale, context=job.context
    )
    await self._mailer.send(mail)
    waited = _manager._seconds(job.changed_at, self._now())
    self._emit(events.MailSent(mail="notice", account_id=account.id, waited=waited))


# The visitor comes back.


@engine("_refused_unknown")
def tell_strangers(_self: Engine, _token: object, record: TokenRecord | None, **_: object) -> InvalidTokenError:
    if record is None or record.state == "outstanding":
        return InvalidTokenError("expired")
    return InvalidTokenError(record.state)


@engine("bind", _manager)
def bind_no_realm(part: Any, secret: str, **bound: Any) -> bytes:
    without: dict[str, Any] = {**bound, "realm": ""}
    return bind(part, secret, **without)


@engine("_require_fresh")
def take_any_account(_self: Engine, _record: TokenRecord, account: Account | None) -> Account | None:
    return account


@engine("_require_fresh")
def take_a_disabled_account(self: Engine, record: TokenRecord, account: Account | None) -> Account:
    return FRESH(self, record, replace(account, can_reset=True) if account else None)


FRESH = Engine._require_fresh


@engine("stamp_digest", _manager)
def leave_the_address_out(realm: str, selector: str, account: Account) -> str:
    return digest(realm, account.id, selector, account.stamp).hex()


@engine("_ended", _manager)
def never_expire(record: TokenRecord, _expires_at: object, _now: object) -> str | None:
    return None if record.state == "outstanding" else record.state


@engine("_ended", _manager)
def expire_a_second_late(record: TokenRecord, expires_at: datetime, now: datetime) -> str | None:
    return record.state if record.state != "outstanding" else "expired" if now > expires_at else None


@engine("stored_part", _manager)
def a_code_lives_as_long_as_its_link(record: TokenRecord, part: Part) -> tuple[str, datetime] | None:
    if part == "link":
        return record.link_hash, record.expires_at
    return (record.code_hash, record.expires_at) if record.code_hash else None


CHECK = Engine.check_token


@engine("check_token")
async def looking_spends(self: Engine, token: str, **options: Any) -> ResetTicket:
    ticket = await CHECK(self, token, **options)
    await self._store.claim(token[:32], claim_id="looked", now=self._now())
    return ticket


MATCH = Engine._match


@engine("_match")
async def compare_without_counting(self: Engine, text: str, client: Any, context: Any) -> Any:
    class Uncounted:
        def __getattr__(self, name: str) -> Any:
            return getattr(counted, name)

        async def attempt(self, _selector: str, /, *, limit: int) -> bool:
            return limit > 0

    counted: Any = self._store
    uncounted: Any = Uncounted()
    self._store = uncounted
    try:
        return await MATCH(self, text, client, context)
    finally:
        self._store = counted


@engine("_match")
async def judge_before_the_secret(self: Engine, text: str, client: Any, context: Any) -> tuple[TokenRecord, Any, Token]:
    token = parse_token(text)
    record = await self._store.get(token.selector) if token else None
    if record is not None and record.state != "outstanding":
        raise self._refused(record, record.state)
    return await MATCH(self, text, client, context)


# The reset.

REDEEM = Engine._redeem
RESET = Engine.reset_password


@engine("_redeem")
async def write_before_the_claim(
    self: Engine, record: TokenRecord, ends: Any, part: Any, password: str, context: Any
) -> None:
    await self._accounts.set_password(record.account_id, password)
    await REDEEM(self, record, ends, part, password, context)


@engine("reset_password")
async def tell_that_all_is_well(self: Engine, token: str, new_password: str, **options: Any) -> ResetTicket:
    try:
        return await RESET(self, token, new_password, **options)
    except (InvalidTokenError, PasswordRejectedError, ThrottledError):
        raise
    except Exception:  # noqa: BLE001  # that is the fault
        record = await self._store.get(token[:32])
        assert record is not None
        return ResetTicket(account_id=record.account_id, expires_at=record.expires_at)


@engine("_write_password")
async def release_after_any_failure(
    self: Engine, record: TokenRecord, part: Any, claim_id: str, new_password: str
) -> BaseException | None:
    try:
        await self._accounts.set_password(record.account_id, new_password)
    except BaseException as error:  # noqa: BLE001  # that is the fault
        await self._release(record, part, claim_id)
        return error
    return None


@engine("_release")
async def never_release(_self: Engine, *_: object) -> None: ...


RELEASE = Engine._release


@engine("_release")
async def give_no_guess_back(self: Engine, record: TokenRecord, _part: object, claim_id: str) -> None:
    await RELEASE(self, record, "link", claim_id)


@engine("_end_sessions")
async def leave_the_sessions(_self: Engine, _account_id: str) -> None: ...


@engine("_end_sessions")
async def swallow_what_end_sessions_raises(self: Engine, account_id: str) -> None:
    with suppress(Exception):
        await self._accounts.end_sessions(account_id)


NOTIFY = Engine._notify


@engine("_notify")
async def tell_the_first_address_only(self: Engine, account: Account, at: datetime, context: Any) -> None:
    await NOTIFY(self, replace(account, notify=()), at, context)


@engine("_hand_over")
async def a_lost_notice_is_an_error(self: Engine, job: Job, delay: timedelta = timedelta(0)) -> None:
    await self._dispatcher.dispatch(encode_job(job), self._run_dispatched, delay=delay)


@engine("_hand_over")
async def a_lost_job_is_nobody_s_news(self: Engine, job: Job, delay: timedelta = timedelta(0)) -> None:
    with suppress(Exception):
        await self._dispatcher.dispatch(encode_job(job), self._run_dispatched, delay=delay)


@engine("purge_tokens")
async def purge_one_batch(self: Engine) -> int:
    count = await self._store.purge(before=self._now(), limit=self._policy.purge_batch)
    self._emit(events.TokensPurged(count=count))
    return count


# Adapters.


class StampStands(FakeAccounts):
    """The stamp is made of what does not move with the password."""

    @override
    def set_password(self, account_id: str, new_password: str, /) -> None:
        stamp = self._entries[account_id].account.stamp
        super().set_password(account_id, new_password)
        entry = self._entries[account_id]
        entry.account = replace(entry.account, stamp=str(stamp))


class CachesReads(FakeAccounts):
    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[str, Account | None] = {}

    @override
    def get(self, account_id: str, /) -> Account | None:
        return self._cache.setdefault(account_id, super().get(account_id))


class FindsTheDeleted(FakeAccounts):
    def __init__(self) -> None:
        super().__init__()
        self._last: Account | None = None

    @override
    def find(self, identifier: str, /) -> Account | None:
        self._last = super().find(identifier) or self._last
        return self._last


class FindsTheTypedAddress(FakeAccounts):
    @override
    def find(self, identifier: str, /) -> Account | None:
        found = super().find(identifier)
        return found and replace(found, email=identifier)


class FailsOnAddresses(MemoryMailer):
    """Takes no address with more than one dot before the domain."""

    @override
    def send(self, mail: Mail, /) -> None:
        if mail.to.partition("@")[0].count("."):
            raise ValueError("no such mailbox")
        super().send(mail)


class TakesAnyCode(KeyedTokenHasher):
    @override
    def verify(self, stored: str, secret: bytes, /) -> bool:
        return stored.startswith("hmac")


def with_accounts(accounts: FakeAccounts) -> Ports:
    return Ports(store=MemoryTokenStore(), accounts=accounts, admin=accounts)


@ports
def a_stamp_that_stands() -> Ports:
    return with_accounts(StampStands())


@ports
def cached_reads_of_accounts() -> Ports:
    return with_accounts(CachesReads())


@ports
def accounts_that_outlive_their_deletion() -> Ports:
    return with_accounts(FindsTheDeleted())


@ports
def accounts_that_know_the_typed_address() -> Ports:
    return with_accounts(FindsTheTypedAddress())


@ports
def a_mailer_that_fails_by_itself() -> Ports:
    return Ports(store=MemoryTokenStore(), mailer=FailsOnAddresses())


@ports
def a_hasher_that_takes_all() -> Ports:
    return Ports(store=MemoryTokenStore(), hasher=TakesAnyCode([b"k" * 32]))


class ClaimIgnoresSiblings(MemoryTokenStore):
    @override
    def _revoke(self, account_id: str, now: datetime, *, spared: TokenRecord | None = None) -> int:
        self._clear_claims(account_id)
        return 0


class ClaimEndsSiblingsOfItsKindOnly(MemoryTokenStore):
    @override
    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        record = self._records.get(selector)
        others = [each for each in self._of(record.account_id) if each.kind != record.kind] if record else []
        won = super().claim(selector, claim_id=claim_id, now=now)
        for other in others:
            self._put(other)
        return won


class KeepsOneTooMany(MemoryTokenStore):
    @override
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        return super().add(record, quotas=quotas, keep=keep + 1)


class KeepsTheNewestOnly(MemoryTokenStore):
    """Whatever the policy says of more than one."""

    @override
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        return super().add(record, quotas=quotas, keep=1)


class QuotaOffByOne(MemoryTokenStore):
    @override
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        return super().add(record, quotas=[Quota(quota.count + 1, quota.since) for quota in quotas], keep=keep)


class QuotaForgetsWhatEnded(MemoryTokenStore):
    @override
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        live = sum(other.is_outstanding(record.created_at) for other in self._of(record.account_id))
        if record.selector not in self._records and any(live >= quota.count for quota in quotas):
            return False
        return super().add(record, quotas=(), keep=keep)


class KindsAreMixed(MemoryTokenStore):
    """A visitor's mail ends an operator's token."""

    @override
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        operators = [other for other in self._of(record.account_id) if other.kind == "operator"]
        added = super().add(record, quotas=quotas, keep=keep)
        for other in operators:
            if added and other.is_outstanding(record.created_at):
                self._put(replace(other, state="superseded"))
        return added


class SecondAddForgetsGuesses(MemoryTokenStore):
    @override
    def _replace(self, existing: TokenRecord, record: TokenRecord) -> bool:
        return super()._replace(replace(existing, guesses=0), record)


class SecondAddKeepsTheHashes(MemoryTokenStore):
    @override
    def _replace(self, existing: TokenRecord, record: TokenRecord) -> bool:
        return existing.account_id == record.account_id or super()._replace(existing, record)


class SecondAddRevives(MemoryTokenStore):
    @override
    def _replace(self, existing: TokenRecord, record: TokenRecord) -> bool:
        if existing.account_id == record.account_id:
            self._put(replace(existing, state="outstanding", claim_id=None))
        return super()._replace(self._records[record.selector], record)


class AttemptAllowsOneMore(MemoryTokenStore):
    @override
    def attempt(self, selector: str, /, *, limit: int) -> bool:
        return super().attempt(selector, limit=limit + 1)


class ReleaseRevivesSiblings(MemoryTokenStore):
    @override
    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        done = super().release(selector, claim_id=claim_id, guess=guess)
        for other in list(self._of(self._records[selector].account_id)) if done else []:
            self._put(replace(other, state="outstanding", claim_id=None))
        return done


class ReleaseDoesNothing(MemoryTokenStore):
    @override
    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        return True


class ReleaseTakesALinksGuess(MemoryTokenStore):
    @override
    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        return super().release(selector, claim_id=claim_id, guess=True)


class RevokesMailsOnly(MemoryTokenStore):
    @override
    def revoke(self, account_id: str, /, *, now: datetime) -> int:
        operators = [other for other in self._of(account_id) if other.kind == "operator"]
        count = super().revoke(account_id, now=now)
        for other in operators:
            self._put(other)
        return count


class PurgeTakesTheLiving(MemoryTokenStore):
    @override
    def purge(self, *, before: datetime, limit: int) -> int:
        live = [record for record in self._records.values() if record.keep_until >= before][:limit]
        for record in live:
            self._delete(record)
        return len(live)


class CaseInsensitiveAccounts(MemoryTokenStore):
    @override
    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        return super().add(replace(record, account_id=record.account_id.lower()), quotas=quotas, keep=keep)


class CacheInFrontOfReads(MemoryTokenStore):
    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[str, TokenRecord | None] = {}

    @override
    def get(self, selector: str, /) -> TokenRecord | None:
        return self._cache.setdefault(selector, super().get(selector))


STORES: Final[Mapping[str, type[MemoryTokenStore]]] = {
    twin.__name__: twin for twin in MemoryTokenStore.__subclasses__() if twin.__module__ == __name__
}


def over(store: type[MemoryTokenStore]) -> Callable[[], Ports]:
    return lambda: Ports(store=store())


PORTS.update({name: over(store) for name, store in STORES.items()})
