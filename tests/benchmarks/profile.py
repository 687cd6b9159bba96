"""Where the microseconds of a token in memory go: each step by itself, in turns with the whole call.

A step is what the engine calls, with what it calls it with. The rest is what no step stands for: the engine's own
frames, coroutines, lifted ports, and the reading of what they answer.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from benchmarks.measure import OURS, Batch, Effort, Figure, Side, alone, manager, take_turns
from benchmarks.tokens import ADDRESSES, CALLS, DJANGO, django_check, django_issue, ours_check, ours_issue
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
    account: Account
    record: TokenRecord
    token: str
    material: SecretBytes
    now: datetime


def calls(count: int) -> list[Call]:
    accounts, full, empty, now = ManyAccounts(ADDRESSES[:count]), MemoryTokenStore(), MemoryTokenStore(), utc_now()
    ours = manager(accounts, full)
    made = list[Call]()
    for number in range(count):
        token = ours.issue_token(str(number)).token
        account, record = accounts.get(str(number)), full.get(token[:32])
        assert account is not None
        assert record is not None
        material = bound(record, Secret(token[32:]))
        made.append(Call(ours._engine, accounts, full, empty, account, record, token, material, now))
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


def tell_issued(call: Call) -> None:
    call.engine._emit(TokenIssued(selector=call.record.selector, account_id=call.account.id))


def tell_checked(call: Call) -> None:
    call.engine._emit(TokenChecked(selector=call.record.selector, account_id=call.account.id))


def make_link(call: Call) -> IssuedToken:
    token = Secret(call.token)
    return IssuedToken(token=token, link=fill_link(LINK, token), expires_at=call.record.expires_at)


Step = Callable[[Call], object]

ISSUE: Final[dict[str, Step]] = {
    "check the lifetime": lambda call: check_duration("lifetime", OPERATOR_LIFETIME, most=MAX_OPERATOR_LIFETIME),
    "find the account": lambda call: call.accounts.get(call.account.id),
    "draw selector and secret": draw,
    "digest of stamp and address": lambda call: stamp_digest("", call.record.selector, call.account),
    "read the clock": lambda call: call.engine._now(),
    "digest of what is bound": lambda call: bound(call.record, call.token),
    "salt and HMAC": lambda call: call.engine._hasher.hash(call.material),
    "make the record, and check it": make_record,
    "store it": lambda call: call.empty.add(call.record, quotas=(), keep=1),
    "make the event, for nobody": tell_issued,
    "fill the link, make the answer": make_link,
}
CHECK: Final[dict[str, Step]] = {
    "read the token's form": lambda call: parse_token(Secret(call.token)),
    "find the record": lambda call: call.full.get(call.record.selector),
    "digest of what is bound": lambda call: bound(call.record, call.token),
    "HMAC, and compare": lambda call: call.engine._hasher.verify(call.record.link_hash, call.material),
    "read the clock": lambda call: call.engine._now(),
    "find the account": lambda call: call.accounts.get(call.account.id),
    "digest of stamp and address, compare": lambda call: call.engine._require_fresh(call.record, call.account),
    "make the event, for nobody": tell_checked,
    "make the answer": lambda call: ResetTicket(account_id=call.account.id, expires_at=call.record.expires_at),
}
REST: Final = "the rest: frames, coroutines, lifted ports"


def figures(effort: Effort) -> list[Figure]:
    return [
        *taken_apart("issue", ours_issue, django_issue, ISSUE, effort.rounds),
        *taken_apart("check", ours_check, django_check, CHECK, effort.rounds),
    ]


def taken_apart(what: str, ours: Side, theirs: Side, steps: dict[str, Step], rounds: int) -> list[Figure]:
    sides: dict[str, Side] = {name: partial(batch, step) for name, step in steps.items()}
    taken = take_turns({OURS: ours, DJANGO: theirs} | sides, rounds=rounds, calls=CALLS)
    whole, beside = taken.pop(OURS), taken.pop(DJANGO)
    rest = [all_of_it - sum(of_steps) for all_of_it, *of_steps in zip(whole, *taken.values(), strict=True)]
    found = {"all of it": whole} | taken | {REST: rest, "all of Django's": beside}
    return [alone(f"{what}: {name}", "µs", times) for name, times in found.items()]


def batch(step: Step, count: int) -> Batch:
    return step, calls(count)
