"""Where the microseconds of a token in memory go: each step by itself, and bare, in turns with the whole calls.

A step is what the engine calls, with what it calls it with; bare, what `by_hand` does instead. The rest is what no
step stands for: the engine's own frames, coroutines, lifted ports, and the reading of what they answer.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import by_hand
from benchmarks.measure import OURS, Batch, Effort, Figure, Side, alone, manager, ratio, take_turns
from benchmarks.tokens import (
    ADDRESSES,
    BARE,
    CALLS,
    DJANGO,
    bare_check,
    bare_issue,
    django_check,
    django_issue,
    ours_check,
    ours_issue,
)
from by_hand import RecordByHand, TokensByHand
from harness import LINK, ManyAccounts
from resetkit import Account, IssuedToken, ResetTicket, TokenRecord
from resetkit._checks import check_duration
from resetkit._confidential import Secret, SecretBytes
from resetkit._link import fill_link
from resetkit._manager import OPERATOR_LIFETIME, Engine, utc_now
from resetkit._tokens import bind, link_token, make_secret, make_selector, parse_token, stamp_digest
from resetkit.events import TokenChecked, TokenIssued
from resetkit.policy import MAX_OPERATOR_LIFETIME
from resetkit.stores import MemoryTokenStore


@dataclass(frozen=True, slots=True)
class Call:
    """One call, with what its steps are given."""

    engine: Engine
    accounts: ManyAccounts
    full: MemoryTokenStore
    empty: MemoryTokenStore
    kept: TokensByHand
    bare: TokensByHand
    account: Account
    record: TokenRecord
    token: str
    now: datetime


def calls(count: int) -> list[Call]:
    accounts, full, empty, now = ManyAccounts(ADDRESSES[:count]), MemoryTokenStore(), MemoryTokenStore(), utc_now()
    kept, bare = TokensByHand(accounts), TokensByHand(accounts)
    ours = manager(accounts, full)
    made = list[Call]()
    for number in range(count):
        token = ours.issue_token(str(number)).token
        account, record = accounts.get(str(number)), full.get(token[:32])
        assert account is not None
        assert record is not None
        kept.keep(record)
        made.append(Call(ours._engine, accounts, full, empty, kept, bare, account, record, token, now))
    return made


def bound(record: TokenRecord, secret: str) -> SecretBytes:
    return bind(
        "link",
        secret,
        realm="",
        kind=record.kind,
        selector=record.selector,
        account_id=record.account_id,
        stamp_digest=record.stamp_digest,
        expires_at=record.expires_at,
    )


def draw(_: Call) -> Secret:
    return link_token(make_selector(secrets.token_bytes(16)), make_secret(secrets.token_bytes(32)))


def make_mac(call: Call) -> Secret:
    return Secret(call.engine._hasher.hash(bound(call.record, call.token[32:])))


def make_mac_bare(call: Call) -> str:
    record = call.record
    salt, given = b"s" * 16, (record.account_id, record.selector, record.stamp_digest, record.expires_at)
    return f"hmac-sha256$key-id${salt.hex()}${call.bare.mac(salt, *given, call.token[32:]).hex()}"


def verify(call: Call) -> bool:
    return call.engine._hasher.verify(call.record.link_hash, bound(call.record, call.token[32:]))


def stamp_bare(call: Call) -> str:
    return by_hand.digest_stamp(call.account.id, call.record.selector, call.account.email, call.account.stamp)


def make_record(call: Call) -> TokenRecord:
    return TokenRecord(
        selector=call.record.selector,
        account_id=call.record.account_id,
        kind="operator",
        link_hash=call.record.link_hash,
        code_hash=None,
        stamp_digest=call.record.stamp_digest,
        created_at=call.now,
        expires_at=call.now + OPERATOR_LIFETIME,
        code_expires_at=None,
        keep_until=call.now + OPERATOR_LIFETIME + timedelta(days=7),
    )


def make_record_bare(call: Call) -> RecordByHand:
    record, ends = call.record, call.now + OPERATOR_LIFETIME
    given = record.selector, record.account_id, record.link_hash, record.stamp_digest
    return RecordByHand(*given, call.now, ends, ends + timedelta(days=7))


def tell_issued(call: Call) -> None:
    call.engine._emit(TokenIssued(selector=call.record.selector, account_id=call.account.id))


def tell_checked(call: Call) -> None:
    call.engine._emit(TokenChecked(selector=call.record.selector, account_id=call.account.id))


def make_link(call: Call) -> IssuedToken:
    token = Secret(call.token)
    return IssuedToken(token=token, link=fill_link(LINK, token), expires_at=call.record.expires_at)


Step = Callable[[Call], object]


@dataclass(frozen=True, slots=True)
class Taken:
    """A step as the engine takes it, and the same bare, where there is such a thing."""

    ours: Step
    bare: Step | None = None


ISSUE: Final = {
    "check the lifetime": Taken(lambda call: check_duration("lifetime", OPERATOR_LIFETIME, most=MAX_OPERATOR_LIFETIME)),
    "find the account": Taken(lambda call: call.accounts.get(call.account.id)),
    "draw selector and secret; bare, the salt too": Taken(draw, lambda _: by_hand.draw()),
    "digest of stamp and address": Taken(lambda call: stamp_digest("", call.record.selector, call.account), stamp_bare),
    "read the clock": Taken(lambda call: call.engine._now(), lambda _: by_hand.read_clock()),
    "salt, digest and HMAC of what is bound": Taken(make_mac, make_mac_bare),
    "make the record, and check it": Taken(make_record, make_record_bare),
    "store it": Taken(
        lambda call: call.empty.add(call.record, quotas=(), keep=1), lambda call: call.bare.keep(call.record)
    ),
    "make the event, for nobody": Taken(tell_issued),
    "fill the link, make the answer": Taken(make_link, lambda call: by_hand.answer(call.token, call.record.expires_at)),
}
CHECK: Final = {
    "read the token's form": Taken(
        lambda call: parse_token(Secret(call.token)), lambda call: (call.token[:32], call.token[32:])
    ),
    "find the record": Taken(
        lambda call: call.full.get(call.record.selector), lambda call: call.kept.find(call.record.selector)
    ),
    "digest and HMAC of what is bound, compare": Taken(
        verify, lambda call: call.bare.verify(call.record, call.token[32:])
    ),
    "read the clock": Taken(lambda call: call.engine._now(), lambda _: by_hand.read_clock()),
    "find the account": Taken(lambda call: call.accounts.get(call.account.id)),
    "digest of stamp and address, compare": Taken(
        lambda call: call.engine._require_fresh(call.record, call.account), stamp_bare
    ),
    "make the event, for nobody": Taken(tell_checked),
    "make the answer": Taken(lambda call: ResetTicket(account_id=call.account.id, expires_at=call.record.expires_at)),
}
REST: Final = "the rest: frames, coroutines, lifted ports"


def figures(effort: Effort) -> list[Figure]:
    return [
        *taken_apart("issue", {OURS: ours_issue, BARE: bare_issue, DJANGO: django_issue}, ISSUE, effort.rounds),
        *taken_apart("check", {OURS: ours_check, BARE: bare_check, DJANGO: django_check}, CHECK, effort.rounds),
    ]


def taken_apart(what: str, wholes: dict[str, Side], steps: dict[str, Taken], rounds: int) -> list[Figure]:
    sides: dict[str, Side] = {name: partial(batch, step.ours) for name, step in steps.items()}
    bare: dict[str, Side] = {f"{name}, bare": partial(batch, step.bare) for name, step in steps.items() if step.bare}
    taken = take_turns(wholes | sides | bare, rounds=rounds, calls=CALLS)
    whole, least = taken[OURS], taken[BARE]
    rest = [all_of_it - sum(each) for all_of_it, *each in zip(whole, *(taken[name] for name in sides), strict=True)]
    return [
        ratio(f"{what}: all of it", BARE, whole, least),
        *(
            ratio(f"{what}: {name}", BARE, taken[name], taken[f"{name}, bare"])
            if step.bare
            else alone(f"{what}: {name}", "µs", taken[name])
            for name, step in steps.items()
        ),
        alone(f"{what}: {REST}", "µs", rest),
        alone(f"{what}: all of Django's", "µs", taken[DJANGO]),
    ]


def batch(step: Step, count: int) -> Batch:
    return step, calls(count)
