"""Engines that break one promise each, as a hand-written reset would: the check that names the promise must fail."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from hmac import HMAC
from pathlib import Path
from typing import Any

import pytest

import test_codes
import test_flows
import test_hashing
import test_jobs
from broken_managers import compare_without_counting, judge_before_the_secret, release_after_any_failure
from harness import Harness
from resetkit import Account, InvalidTokenError, ResetReceipt, TokenRecord, _manager, hashing
from resetkit._jobs import ResetJob
from resetkit._manager import Engine
from resetkit._tokens import bind, stamp_digest

Make = Callable[..., Harness]


async def mail_to_the_typed_address(engine: Engine, identifier: str) -> Account | None:
    found = await engine._accounts.find(str(identifier))
    return found and replace(found, email=str(identifier))


async def leave_the_sessions(_engine: Engine, _account_id: str) -> None: ...


def tell_strangers(_engine: Engine, _token: object, record: TokenRecord | None, **_: object) -> InvalidTokenError:
    if record is None or record.state == "outstanding":
        return InvalidTokenError("expired")
    return InvalidTokenError(record.state)


def bind_no_realm(part: Any, secret: str, **bound: Any) -> bytes:
    without: dict[str, Any] = {**bound, "realm": ""}
    return bind(part, secret, **without)


def bind_no_account(part: Any, secret: str, **bound: Any) -> bytes:
    without: dict[str, Any] = {**bound, "account_id": ""}
    return bind(part, secret, **without)


def take_any_account(_engine: Engine, _record: TokenRecord, account: Account | None) -> Account | None:
    return account


def never_expire(record: TokenRecord, _expires_at: object, _now: object) -> str | None:
    return None if record.state == "outstanding" else record.state


REDEEM, MATCH = Engine._redeem, Engine._match


async def redeem_without_a_claim(engine: Engine, record: TokenRecord, *rest: Any) -> None:
    async def claimed(_selector: str, /, **_: object) -> bool:
        return True

    engine._store.claim = claimed  # type: ignore[method-assign]  # the tap keeps it
    await REDEEM(engine, record, *rest)


async def compare_and_then_count(engine: Engine, text: str, client: str | None, context: Any) -> Any:
    found = await compare_without_counting(engine, text, client, context)
    await engine._store.attempt(found[0].selector, limit=engine._policy.code_guesses)
    return found


def compare_stamps_by_equality(engine: Engine, record: TokenRecord, account: Account | None) -> Account:
    if account is not None and account.can_reset:
        digest = stamp_digest(engine._realm, record.selector, account)
        if digest == record.stamp_digest:
            return account
    raise engine._refused(record, "stale")


def compare_macs_by_equality(rest: str, secret: bytes, key: HMAC) -> bool:
    salt, _, mac = rest.partition("$")
    return hashing._mac(key, bytes.fromhex(salt) + secret).hex() == mac


async def count_nothing(_engine: Engine, *_: object) -> None: ...


async def keep_no_decoy(_engine: Engine, *_: object) -> None: ...


DROP = Engine._drop


async def hash_for_accounts_only(engine: Engine, job: ResetJob, *why: Any) -> None:
    if job.code:
        await DROP(engine, job, *why)


def begin_at_once(_engine: Engine) -> timedelta:
    return timedelta(0)


REQUEST = Engine.request_reset


async def answer_by_account(engine: Engine, identifier: str, **options: Any) -> ResetReceipt:
    receipt = await REQUEST(engine, identifier, **options)
    known = await engine._accounts.find(identifier)
    return replace(receipt, message="A mail is on its way." if known else "There is no such account.")


async def look_up_before_the_answer(engine: Engine, identifier: str, **options: Any) -> ResetReceipt:
    await engine._accounts.find(identifier)
    return await REQUEST(engine, identifier, **options)


async def end_the_sessions_of_whom_was_asked_for(engine: Engine, identifier: str, **options: Any) -> ResetReceipt:
    if account := await engine._accounts.find(identifier):
        await engine._accounts.end_sessions(account.id)
    return await REQUEST(engine, identifier, **options)


STORY, ENDS, FAILURES = test_flows.TestTheWholeStory(), test_flows.TestEndsOfAToken(), test_flows.TestFailures()
THROTTLE, DECOYS = test_flows.TestThrottle(), test_codes.TestDecoys()
CODES = test_codes.TestCodes()

TWINS: Mapping[Callable[..., Any], tuple[object, str, Callable[[Make], object]]] = {
    mail_to_the_typed_address: (
        Engine,
        "_find",
        lambda make: STORY.test_the_mail_goes_to_the_stored_address_whatever_was_typed(make()),
    ),
    leave_the_sessions: (
        Engine,
        "_end_sessions",
        lambda make: STORY.test_a_link_sets_the_password_ends_the_sessions_and_sends_a_notice(make()),
    ),
    answer_by_account: (
        Engine,
        "request_reset",
        lambda make: STORY.test_known_and_unknown_are_answered_alike(make()),
    ),
    release_after_any_failure: (
        Engine,
        "_write_password",
        lambda make: FAILURES.test_an_unclear_write_spends_the_token_ends_sessions_and_is_raised(
            make(), "after", "an error"
        ),
    ),
    tell_strangers: (Engine, "_refused_unknown", lambda make: ENDS.test_a_stranger_learns_no_reason(make())),
    bind_no_realm: (_manager, "bind", lambda make: ENDS.test_another_realm_knows_none_of_them(make())),
    bind_no_account: (
        _manager,
        "bind",
        lambda make: ENDS.test_a_row_edited_in_what_its_hash_binds_opens_nothing(
            make(), "link", {"account_id": "alice"}
        ),
    ),
    take_any_account: (
        Engine,
        "_require_fresh",
        lambda make: ENDS.test_stale_after_the_account_changed(
            make(), lambda kit: kit.accounts.change("alice", email="new@example.org")
        ),
    ),
    never_expire: (_manager, "_ended", lambda make: ENDS.test_expired_at_the_very_second(make())),
    redeem_without_a_claim: (Engine, "_redeem", lambda make: ENDS.test_used(make())),
    compare_without_counting: (
        Engine,
        "_match",
        lambda make: CODES.test_guesses_are_counted_and_then_even_the_right_code_is_unknown(make()),
    ),
    compare_and_then_count: (
        Engine,
        "_match",
        lambda make: CODES.test_a_guess_is_counted_before_it_is_compared(make()),
    ),
    judge_before_the_secret: (Engine, "_match", lambda make: ENDS.test_a_stranger_learns_no_reason(make())),
    compare_stamps_by_equality: (
        Engine,
        "_require_fresh",
        lambda make: ENDS.test_the_stamp_is_compared_in_constant_time(make(), pytest.MonkeyPatch()),
    ),
    compare_macs_by_equality: (
        hashing,
        "_verify_mac",
        lambda _: test_hashing.test_a_mac_is_compared_in_constant_time(pytest.MonkeyPatch()),
    ),
    count_nothing: (
        Engine,
        "_throttle_request",
        THROTTLE.test_a_client_is_throttled_before_any_look_up,
    ),
    keep_no_decoy: (
        Engine,
        "_drop",
        lambda make: DECOYS.test_guessing_answers_alike_whoever_asked(make, "unknown"),
    ),
    look_up_before_the_answer: (
        Engine,
        "request_reset",
        lambda make: test_jobs.test_before_the_answer_nothing_is_asked_of_accounts_store_or_mailer(make, "sync"),
    ),
    end_the_sessions_of_whom_was_asked_for: (
        Engine,
        "request_reset",
        lambda make: STORY.test_asking_and_guessing_change_nothing_of_the_account(make()),
    ),
    hash_for_accounts_only: (
        Engine,
        "_drop",
        lambda make: DECOYS.test_a_job_hashes_alike_whoever_asked(make, "unknown", code=False),
    ),
    begin_at_once: (
        Engine,
        "_head_start",
        lambda make: test_jobs.test_a_job_gives_the_answer_a_head_start_of_random_length_and_a_notice_none(
            make, "sync"
        ),
    ),
}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return lambda **options: Harness("sync", "memory", tmp_path, **options)


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.__name__)
def test_a_broken_engine_is_caught(twin: Callable[..., Any], make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, check = TWINS[twin]
    monkeypatch.setattr(owner, name, twin)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(make)


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.__name__)
def test_the_sound_engine_passes_the_same_check(twin: Callable[..., Any], make: Make) -> None:
    """So that a twin is caught for its fault, and not for the way the check is called."""
    TWINS[twin][2](make)
