"""The strategies: every value is valid, and every kind of nastiness comes."""

import importlib
import sys
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from resetkit import Account, ResetPolicy, TokenRecord, TokenStore, code_token
from resetkit._checks import check_address, check_id, is_encodable
from resetkit.stores import MemoryTokenStore
from resetkit.testing import strategies
from resetkit.testing.strategies import (
    account_ids,
    accounts,
    addresses,
    identifiers,
    instants,
    passwords,
    policies,
    records,
)

T = TypeVar("T")

MANY = settings(max_examples=5000, database=None, phases=[Phase.generate])


def comes(strategy: st.SearchStrategy[T], holds: Callable[[T], bool]) -> T:
    """A drawn value of which this holds; `find` raises if none comes."""
    return find(strategy, holds, settings=MANY)


@given(accounts())
def test_accounts_are_valid(account: Account) -> None:
    assert isinstance(account, Account)


def test_an_account_of_a_given_id_has_it() -> None:
    assert comes(accounts(account_id="alice"), lambda _: True).id == "alice"


def test_accounts_vary() -> None:
    comes(accounts(), lambda account: not account.can_reset)
    comes(accounts(), lambda account: len(account.notify) > 1)
    comes(accounts(), lambda account: account.locale is not None)


@given(account_ids())
def test_account_ids_are_valid(account_id: str) -> None:
    check_id("id", account_id)


def test_account_ids_reach_their_bounds() -> None:
    comes(account_ids(), lambda text: len(text) == 255)
    comes(account_ids(), lambda text: len(text) == 1)


@given(addresses())
def test_addresses_are_valid(address: str) -> None:
    check_address("address", address)


def test_addresses_vary() -> None:
    comes(addresses(), lambda text: not text.isascii())
    comes(addresses(), lambda text: text != text.lower())
    comes(addresses(), lambda text: len(text) > 200)


@given(identifiers())
def test_identifiers_are_text(text: str) -> None:
    assert isinstance(text, str)


@pytest.mark.parametrize("category", ["Cc", "Cf", "Cs", "Mn", "Zl", "Zs", "So", "Lo"])
def test_identifiers_have_characters_of_every_nasty_category(category: str) -> None:
    """Controls, zero-width and bidirectional ones, lone surrogates, combining ones, separators."""
    comes(identifiers(), lambda text: any(unicodedata.category(char) == category for char in text))


@pytest.mark.parametrize("part", ["\0", "\u202e", "\u200b", "\u0301", "\ud800", "%", "'", "DROP TABLE", "\r\n"])
def test_identifiers_hold_what_does_harm(part: str) -> None:
    comes(identifiers(), lambda text: part in text)


def test_identifiers_may_be_empty_or_very_long() -> None:
    assert comes(identifiers(), lambda text: not text) == ""
    comes(identifiers(), lambda text: len(text) >= 20_000)


def test_identifiers_look_like_a_given_address() -> None:
    bob = "bob.k@example.org"
    kelvin = bob.replace("k", "\u212a")
    for expected in (bob, bob.upper(), f" {bob} ", bob.replace("b", "b\u0301", 1)):
        comes(identifiers(like=bob), expected.__eq__)
    found = comes(identifiers(like=bob), lambda text: text != bob and unicodedata.normalize("NFKC", text) == bob)
    assert found not in {bob, kelvin}


@given(identifiers())
def test_identifiers_are_taken_as_codes_and_handles(text: str) -> None:
    assert isinstance(code_token(text, text), str)


@given(passwords())
def test_passwords_are_such_as_the_manager_hands_on(password: str) -> None:
    assert 1 <= len(password) <= 64
    assert is_encodable(password)


def test_passwords_are_as_long_as_is_asked_for() -> None:
    comes(passwords(max_size=200), lambda text: len(text) > 64)
    assert len(comes(passwords(max_size=1), lambda text: not text.isascii())) == 1


@given(policies())
def test_policies_are_valid(policy: ResetPolicy) -> None:
    assert policy.guesses_a_day <= 100


def test_the_simplest_policy_is_the_default_one() -> None:
    assert find(policies(), lambda _: True) == ResetPolicy()


def test_policies_vary() -> None:
    comes(policies(), lambda policy: policy.outstanding > 1)
    comes(policies(), lambda policy: policy.code_guesses == 1)
    comes(policies(), lambda policy: policy.code_lifetime < policy.link_lifetime)
    comes(policies(), lambda policy: policy.mail_attempts == 1)


@given(records())
def test_records_are_valid(record: TokenRecord) -> None:
    assert record.created_at < record.expires_at < record.keep_until
    if record.code_expires_at is not None:
        assert record.created_at < record.code_expires_at <= record.expires_at


@given(st.lists(records(fresh=True), max_size=5, unique_by=lambda record: record.selector))
def test_a_store_takes_every_fresh_record(added: list[TokenRecord]) -> None:
    store: TokenStore = MemoryTokenStore()
    for record in added:
        assert store.add(record, quotas=(), keep=99)
        assert store.get(record.selector) == record


def test_a_record_of_a_given_account_and_selector_has_them() -> None:
    record = comes(records(account_id="alice", selector="s1"), lambda _: True)
    assert (record.account_id, record.selector) == ("alice", "s1")


def test_records_vary() -> None:
    for state in ("outstanding", "used", "superseded", "revoked"):
        comes(records().map(lambda record: record.state), state.__eq__)
    comes(records(), lambda record: record.claim_id is not None)
    comes(records(), lambda record: record.code_hash is not None)
    comes(records(), lambda record: record.code_hash is None)
    comes(records(), lambda record: record.kind == "operator")
    comes(records(), lambda record: len(record.link_hash) == 512)


@given(instants())
def test_instants_are_aware_in_utc_and_whole_seconds(instant: datetime) -> None:
    assert instant.tzinfo is UTC
    assert not instant.microsecond


def test_instants_stay_within_bounds_and_reach_them() -> None:
    first, last = datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, 0, 0, 2, tzinfo=UTC)
    few = instants(min_value=first, max_value=last)
    for at in range(3):
        comes(few, (first + timedelta(seconds=at)).__eq__)
    comes(instants(), lambda instant: instant.year > 2038)


def test_without_hypothesis_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "resetkit.testing.strategies")
    with pytest.raises(ModuleNotFoundError, match=r'python -m pip install "resetkit\[testing\]"') as missing:
        importlib.import_module("resetkit.testing.strategies")
    assert missing.value.name == "hypothesis"


def test_the_module_says_what_it_offers() -> None:
    assert strategies.__all__ == sorted(strategies.__all__)
    assert all(callable(getattr(strategies, name)) for name in strategies.__all__)
