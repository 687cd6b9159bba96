"""Engines and ports that fail as others did: the test that answers the failure must fail on each."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import test_attacks_answers as answers
import test_attacks_input as inputs
import test_attacks_tokens as tokens
import test_bad_input
from harness import Harness
from resetkit import (
    Account,
    InvalidTokenError,
    KeyedTokenHasher,
    ResetManager,
    ResetReceipt,
    TokenRecord,
    _manager,
    _sync,
)
from resetkit._checks import require_text
from resetkit._link import fill_link
from resetkit._manager import Engine
from resetkit._tokens import Token, bind, parse_token, stamp_digest
from resetkit.errors import ResetError
from resetkit.stores import MemoryTokenStore

Make = Callable[..., Harness]

REQUEST, FIND, MATCH = Engine.request_reset, Engine._find, Engine._match
ASK = ResetManager.request_reset
THROTTLE, REDEEM = Engine._throttle_request, Engine._redeem
DRAFT_MAIL = _manager.Draft.mail


async def answer_with_the_address(engine: Engine, identifier: str, **options: Any) -> ResetReceipt:
    receipt = await REQUEST(engine, identifier, **options)
    found = await engine._accounts.find(identifier)
    return (
        replace(receipt, message=f"A mail is on its way to a***@{found.email.partition('@')[2]}") if found else receipt
    )


def take_the_first_of_a_list(manager: ResetManager, identifier: Any, **options: Any) -> ResetReceipt:
    first: Any = identifier[0] if isinstance(identifier, list) and identifier else identifier
    return ASK(manager, first, **options)


async def find_the_first_of_several(engine: Engine, identifier: str) -> Account | None:
    return await FIND(engine, identifier.replace(";", ",").split(",")[0])


async def find_the_inner_address(engine: Engine, identifier: str) -> Account | None:
    return await FIND(engine, identifier.partition("<")[2].partition(">")[0] or identifier)


async def mail_to_what_was_typed(engine: Engine, identifier: str) -> Account | None:
    found = await FIND(engine, identifier)
    return found and replace(found, email=identifier)


def link_from_the_request(draft: Any, account: Account, link: str, context: Mapping[str, str]) -> Any:
    mail = DRAFT_MAIL(draft, account, link, context)
    host = context.get("Host") or context.get("X-Forwarded-Host") or "app.example"
    return replace(mail, link=fill_link(f"https://{host}/reset#{{token}}", draft.token))


def any_text_is_an_identifier(_engine: Engine, _text: str) -> bool:
    return True


def strip_the_token(text: str) -> Token | None:
    return parse_token(text.strip())


def take_any_secret(_hasher: KeyedTokenHasher, _stored: str, _secret: bytes, /) -> bool:
    return True


def bind_no_realm(part: Any, secret: str, **bound: Any) -> bytes:
    without: dict[str, Any] = {**bound, "realm": "", "stamp_digest": ""}
    return bind(part, secret, **without)


def digest_the_stamp_alone(_realm: str, _selector: str, account: Account) -> str:
    return stamp_digest("", "", replace(account, id="a", email="a@b"))


def never_stale(_engine: Engine, _record: TokenRecord, account: Account | None) -> Account | None:
    return account


async def count_by_context(engine: Engine, identifier: str, client: Any, now: Any, context: Mapping[str, str]) -> None:
    await THROTTLE(engine, identifier + str(dict(context)), client, now, context)


async def throttle_accounts_only(engine: Engine, identifier: str, client: Any, now: Any, context: Any) -> None:
    if await engine._accounts.find(identifier):
        await THROTTLE(engine, identifier, client, now, context)


async def count_good_tokens_only(engine: Engine, text: str, _client: Any, context: Any) -> Any:
    return await MATCH(engine, text, None, context)


def tell_of_the_record(_engine: Engine, _token: object, record: TokenRecord | None, **_: object) -> InvalidTokenError:
    return InvalidTokenError("used" if record and record.state == "used" else "unknown")


async def silent_about_sessions(engine: Engine, account_id: str) -> None:
    try:
        await engine._accounts.end_sessions(account_id)
    except OSError:
        return


async def write_and_then_claim(engine: Engine, record: TokenRecord, *rest: Any) -> None:
    await engine._accounts.set_password(record.account_id, str(rest[2]))
    await REDEEM(engine, record, *rest)


def find_by_prefix(store: MemoryTokenStore, selector: str, /) -> TokenRecord | None:
    return next((record for key, record in store._records.items() if key.startswith(selector)), None)


def take_what_is_text_like(name: str, value: object) -> str:
    return require_text(name, value if isinstance(value, str) else str(value))


# What replaces which name of what, and the test that must fail.
TWINS: list[tuple[Callable[..., Any], object, str, Callable[[Make], object]]] = [
    (
        answer_with_the_address,
        Engine,
        "request_reset",
        lambda make: tokens.test_the_answer_holds_nothing_of_the_mail_or_the_account(make()),
    ),
    (
        take_the_first_of_a_list,
        ResetManager,
        "request_reset",
        lambda make: test_bad_input.test_what_is_no_text_is_refused_before_anything_else_happens(
            make(), ["alice@example.org"]
        ),
    ),
    (
        take_what_is_text_like,
        _sync,
        "require_secret",
        lambda make: inputs.test_each_json_type_at_each_argument_touches_nothing(make()),
    ),
    (
        find_the_first_of_several,
        Engine,
        "_find",
        lambda make: inputs.test_a_text_that_names_two_mails_nobody(make()),
    ),
    (
        find_the_inner_address,
        Engine,
        "_find",
        lambda make: inputs.test_an_address_that_programs_read_differently_is_found_as_it_stands_or_not_at_all(make()),
    ),
    (
        mail_to_what_was_typed,
        Engine,
        "_find",
        lambda make: test_bad_input.test_a_directory_that_folds_too_much_still_mails_the_stored_address(make()),
    ),
    (
        link_from_the_request,
        _manager.Draft,
        "mail",
        lambda make: inputs.test_no_header_has_a_say_in_the_link_or_any_letter_of_the_mail(make()),
    ),
    (
        any_text_is_an_identifier,
        Engine,
        "_is_identifier",
        lambda make: inputs.test_a_line_break_of_any_kind_in_an_identifier_ends_it(make()),
    ),
    (
        strip_the_token,
        _manager,
        "parse_token",
        lambda make: tokens.test_a_token_with_anything_around_or_inside_is_another_text(make()),
    ),
    (take_any_secret, KeyedTokenHasher, "verify", lambda make: tokens.test_halves_of_two_tokens_open_neither(make())),
    (
        bind_no_realm,
        _manager,
        "bind",
        lambda make: tokens.test_two_realms_with_the_same_ids_share_no_token(make(), ("", "invitation")),
    ),
    (
        digest_the_stamp_alone,
        _manager,
        "stamp_digest",
        lambda make: tokens.test_accounts_with_one_and_the_same_stamp_share_no_token(make()),
    ),
    (
        never_stale,
        Engine,
        "_require_fresh",
        lambda make: tokens.test_an_account_made_anew_under_the_same_id_is_another_one(make()),
    ),
    (
        count_by_context,
        Engine,
        "_throttle_request",
        answers.test_no_field_beside_the_identifier_makes_another_bucket,
    ),
    (
        throttle_accounts_only,
        Engine,
        "_throttle_request",
        answers.test_a_throttled_answer_is_the_same_for_known_and_unknown,
    ),
    (
        count_good_tokens_only,
        Engine,
        "_match",
        answers.test_guesses_at_nobody_s_tokens_count_too,
    ),
    (
        tell_of_the_record,
        Engine,
        "_refused_unknown",
        lambda make: answers.test_a_stranger_s_token_has_one_answer_whatever_the_record(make()),
    ),
    (
        silent_about_sessions,
        Engine,
        "_end_sessions",
        lambda make: answers.test_a_failing_end_of_sessions_is_never_a_silent_success(make()),
    ),
    (
        write_and_then_claim,
        Engine,
        "_redeem",
        lambda make: tokens.test_the_mark_comes_before_the_write_and_a_failing_mark_writes_nothing(make()),
    ),
    (
        find_by_prefix,
        MemoryTokenStore,
        "get",
        lambda _make: tokens.test_a_record_is_found_by_its_whole_selector_only(MemoryTokenStore()),
    ),
]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return lambda **options: Harness("sync", "memory", tmp_path, **options)


def id_of(value: object) -> str:
    return getattr(value, "__name__", "").replace("<lambda>", "")


@pytest.mark.parametrize(("twin", "owner", "name", "check"), TWINS, ids=id_of)
def test_a_failure_come_back_is_caught(
    twin: Callable[..., Any],
    owner: object,
    name: str,
    check: Callable[[Make], object],
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner, name, twin)
    with pytest.raises((AssertionError, pytest.fail.Exception, ResetError)):
        check(make)


@pytest.mark.parametrize(("twin", "owner", "name", "check"), TWINS, ids=id_of)
def test_the_sound_engine_passes_the_same_check(
    twin: object, owner: object, name: str, check: Callable[[Make], object], make: Make
) -> None:
    """So that a twin is caught for its fault, and not for the way the check is called."""
    assert getattr(owner, name) is not twin
    check(make)
