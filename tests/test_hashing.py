"""Hashers: salted, keyed, rotated, capped, and each able to read the other."""

import copy
import secrets
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.low_level import Type
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import ADDRESS, LINK, spy_on_comparisons
from resetkit import (
    Argon2TokenHasher,
    ConfigurationError,
    InvalidTokenError,
    KeyedTokenHasher,
    ResetMail,
    ResetManager,
    TokenHasher,
)
from resetkit.dispatch import InlineDispatcher
from resetkit.mailers import MemoryMailer
from resetkit.stores import MemoryTokenStore
from resetkit.testing import FakeAccounts

OLD, NEW = b"o" * 32, b"n" * 33
SECRET = bytes(range(32))
CHEAP: dict[str, Any] = {"time_cost": 1, "memory_cost": 8}

HASHERS: dict[str, Callable[[], TokenHasher]] = {
    "argon2": lambda: Argon2TokenHasher(**CHEAP),
    "argon2 with keys": lambda: Argon2TokenHasher(**CHEAP, keys=[NEW, OLD]),
    "keyed": lambda: KeyedTokenHasher([NEW, OLD]),
}
CHANGING: dict[str, Callable[[], TokenHasher]] = {
    "argon2 with keys": lambda: Argon2TokenHasher(**CHEAP, keys=[NEW, OLD], accept_unkeyed=True),
    "keyed": lambda: KeyedTokenHasher([NEW, OLD], accept_unkeyed=True),
}


@pytest.fixture(params=list(HASHERS.values()), ids=list(HASHERS))
def hasher(request: pytest.FixtureRequest) -> TokenHasher:
    """Made in the test, not at import, so that a fault in making it shows."""
    made: TokenHasher = request.param()
    return made


class TestEach:
    @given(secret=st.binary(min_size=32, max_size=32), other=st.binary(min_size=32, max_size=32))
    @settings(max_examples=20)
    def test_it_verifies_what_it_hashed_and_nothing_else(
        self, hasher: TokenHasher, secret: bytes, other: bytes
    ) -> None:
        stored = hasher.hash(secret)
        assert hasher.verify(stored, secret)
        assert hasher.verify(stored, other) == (secret == other)

    def test_it_is_salted(self, hasher: TokenHasher) -> None:
        assert len({hasher.hash(SECRET) for _ in range(20)}) == 20

    def test_it_is_ascii_of_at_most_512(self, hasher: TokenHasher) -> None:
        stored = hasher.hash(SECRET)
        assert stored.isascii()
        assert stored.isprintable()
        assert len(stored) <= 512

    @given(text=st.text() | st.text("$0123456789abcdef=,vmtp", max_size=80))
    def test_any_stored_text_is_false_without_an_error(self, hasher: TokenHasher, text: str) -> None:
        assert not hasher.verify(text, SECRET)

    def test_every_change_of_a_stored_hash_is_false(self, hasher: TokenHasher) -> None:
        stored = hasher.hash(SECRET)
        for at in range(len(stored)):
            assert not hasher.verify(stored[:at] + "~" + stored[at + 1 :], SECRET)
            assert not hasher.verify(stored[:at], SECRET)

    def test_it_may_be_copied_with_the_settings_that_hold_it(self, hasher: TokenHasher) -> None:
        assert copy.deepcopy({"hasher": hasher})["hasher"].verify(hasher.hash(SECRET), SECRET)

    def test_it_shows_no_key(self, hasher: TokenHasher) -> None:
        assert "nnn" not in f"{hasher!r} {vars(hasher)!r}"


def test_a_mac_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = HASHERS["keyed"]().hash(SECRET)
    mac = bytes.fromhex(stored.rpartition("$")[2])
    with monkeypatch.context() as patched:
        compared = spy_on_comparisons(patched)
        assert HASHERS["keyed"]().verify(stored, SECRET)
    assert compared == [(mac, mac)]


class TestChangeOver:
    @pytest.mark.parametrize("before", HASHERS.values(), ids=HASHERS)
    @pytest.mark.parametrize("after", ["argon2 with keys", "keyed"])
    def test_with_the_keys_each_verifies_the_other_s(self, before: Callable[[], TokenHasher], after: str) -> None:
        assert CHANGING[after]().verify(before().hash(SECRET), SECRET)
        assert not CHANGING[after]().verify(before().hash(SECRET), SECRET[::-1])

    def test_with_a_key_a_hash_without_one_counts_only_if_told_so(self) -> None:
        stored = HASHERS["argon2"]().hash(SECRET)
        for name, changing in CHANGING.items():
            assert not HASHERS[name]().verify(stored, SECRET)
            assert changing().verify(stored, SECRET)
        assert HASHERS["keyed"]().verify(HASHERS["argon2 with keys"]().hash(SECRET), SECRET)
        assert HASHERS["argon2 with keys"]().verify(HASHERS["keyed"]().hash(SECRET), SECRET)

    def test_a_short_tag_or_salt_is_false(self) -> None:
        def stored(tag: int) -> str:
            return PasswordHasher(1, 8, 1, hash_len=tag).hash(SECRET)

        assert HASHERS["argon2"]().verify(stored(16), SECRET)
        assert not HASHERS["argon2"]().verify(stored(15), SECRET)
        short = "$argon2id$v=19$m=8,t=1,p=1$" + "c2hvcnQ" + "$" + "A" * 43
        assert not HASHERS["argon2"]().verify(short, SECRET)

    def test_without_the_key_a_keyed_hash_is_false(self) -> None:
        for keyed in ("keyed", "argon2 with keys"):
            stored = HASHERS[keyed]().hash(SECRET)
            assert not HASHERS["argon2"]().verify(stored, SECRET)
            assert not KeyedTokenHasher([OLD]).verify(stored, SECRET)

    def test_the_newest_key_signs_and_all_verify(self) -> None:
        stored = KeyedTokenHasher([OLD]).hash(SECRET)
        rotated = KeyedTokenHasher([NEW, OLD])
        assert rotated.verify(stored, SECRET)
        assert KeyedTokenHasher([NEW]).verify(rotated.hash(SECRET), SECRET)
        assert not KeyedTokenHasher([NEW]).verify(stored, SECRET)

    def test_a_site_changes_over_without_ending_outstanding_tokens(self) -> None:
        accounts, store = FakeAccounts(), MemoryTokenStore()
        accounts.add("alice", ADDRESS)
        steps = [(HASHERS["argon2"](), CHANGING["keyed"]()), (HASHERS["keyed"](), HASHERS["argon2 with keys"]())]
        for before, after in steps:
            mailer = MemoryMailer()
            options: dict[str, Any] = {"link": LINK, "dispatcher": InlineDispatcher()}
            ResetManager(accounts, store, mailer, hasher=before, **options).request_reset(ADDRESS, client=None)
            (mail,) = mailer.outbox
            assert isinstance(mail, ResetMail)
            ResetManager(accounts, store, mailer, hasher=after, **options).reset_password(mail.token, "new")

    def test_with_a_key_an_edited_row_makes_no_valid_token(self) -> None:
        """Who can write the store but has no key cannot make a token, with another key or with none."""
        accounts, store = FakeAccounts(), MemoryTokenStore()
        accounts.add("alice", ADDRESS)
        options: dict[str, Any] = {"link": LINK, "dispatcher": InlineDispatcher()}
        manager = ResetManager(accounts, store, MemoryMailer(), hasher=KeyedTokenHasher([NEW]), **options)
        for hasher in (KeyedTokenHasher([OLD]), HASHERS["argon2"]()):
            thief = ResetManager(accounts, store, MemoryMailer(), hasher=hasher, **options)
            token = thief.issue_token("alice").token
            with pytest.raises(InvalidTokenError) as refused:
                manager.reset_password(token, "new")
            assert refused.value.reason == "unknown"


@pytest.mark.parametrize("name", ["argon2 with keys", "keyed"])
def test_a_hash_names_its_key_as_every_version_does(name: str) -> None:
    """Eight bytes of HMAC-SHA-256 under the key itself: with another name, no stored hash would be verified."""
    assert HASHERS[name]().hash(SECRET).split("$")[:2] == ["hmac-sha256", "b5d901f494ebafc2"]


class TestConstruction:
    @pytest.mark.parametrize(
        "keys",
        [[], [b""], [b"x" * 31], ["x" * 32], [None], [b"x" * 32, b"short"], b"x" * 32, "x" * 32],
        ids=repr,
    )
    def test_no_key_a_short_one_or_one_instead_of_a_list_is_refused(self, keys: Any) -> None:
        """CVE-2019-5885, CVE-2023-27524: there is no default key."""
        with pytest.raises(ConfigurationError, match="key"):
            KeyedTokenHasher(keys)
        if keys:
            with pytest.raises(ConfigurationError, match="key"):
                Argon2TokenHasher(keys=keys)

    @pytest.mark.parametrize(
        "costs",
        [
            {"time_cost": 0},
            {"time_cost": 54},
            {"memory_cost": 7},
            {"memory_cost": 262_145},
            {"memory_cost": 2**21, "time_cost": 1, "parallelism": 4},
            {"memory_cost": 15, "parallelism": 2},
            {"parallelism": 0},
            {"parallelism": 17},
            {"time_cost": True},
            {"memory_cost": "19456"},
            {"parallelism": 1.0},
        ],
        ids=repr,
    )
    def test_costs_that_a_verify_would_refuse_are_refused(self, costs: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match=rf"^{next(iter(costs))} must be "):
            Argon2TokenHasher(**costs)

    def test_the_bound_is_told(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^time_cost must be from 1 to 53, not 54$"):
            Argon2TokenHasher(time_cost=54)

    @pytest.mark.parametrize("costs", [{"time_cost": 53}, {"memory_cost": 8, "time_cost": 1}, {"parallelism": 16}])
    def test_the_bounds_themselves_are_allowed(self, costs: dict[str, Any]) -> None:
        Argon2TokenHasher(**costs)

    @pytest.mark.parametrize(
        ("memory", "passes", "lanes"),
        [(47104, 1, 1), (19456, 2, 1), (12288, 3, 1), (9216, 4, 1), (7168, 5, 1), (2**16, 3, 4)],
    )
    def test_the_recommended_costs_may_be_chosen(self, memory: int, passes: int, lanes: int) -> None:
        """OWASP's five rows for Argon2id, and the second of RFC 9106; the first would take 2 GiB for each token."""
        Argon2TokenHasher(memory_cost=memory, time_cost=passes, parallelism=lanes)

    def test_the_default_is_owasp_s_argon2id(self) -> None:
        assert Argon2TokenHasher().hash(SECRET).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def asking(costs: str = "m=8,t=1,p=1", salt: int = 16, tag: int = 32) -> str:
    """A stored hash of these costs and lengths, that nothing was hashed for."""
    salted, tagged = (b64encode(bytes(size)).decode().rstrip("=") for size in (salt, tag))
    return f"$argon2id$v=19${costs}${salted}${tagged}"


class TestCaps:
    """Who can write the store cannot exhaust the machine: what asks for too much is false before any work begins."""

    @pytest.fixture
    def worked(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The stored hashes for which the work was begun; all are taken for right."""
        worked: list[str] = []

        def verify(_self: object, stored: str, _secret: bytes) -> bool:
            worked.append(stored)
            return True

        monkeypatch.setattr(PasswordHasher, "verify", verify)
        return worked

    @pytest.mark.parametrize(
        "refused",
        [
            asking("m=262145,t=1,p=1"),
            asking("m=262144,t=5,p=1"),
            asking("m=8,t=131073,p=1"),
            asking("m=4294967295,t=1,p=1"),
            asking("m=136,t=1,p=17"),
            asking(tag=15),
            asking(salt=7),
        ],
    )
    def test_what_asks_for_more_than_a_second_or_is_too_short_begins_no_work(
        self, worked: list[str], refused: str
    ) -> None:
        assert not Argon2TokenHasher().verify(refused, SECRET)
        assert worked == []

    @pytest.mark.parametrize(
        "allowed",
        [asking("m=262144,t=4,p=1"), asking("m=8,t=131072,p=1"), asking("m=128,t=1,p=16"), asking(salt=8, tag=16)],
    )
    def test_the_bounds_themselves_are_worked_on(self, worked: list[str], allowed: str) -> None:
        assert Argon2TokenHasher().verify(allowed, SECRET)
        assert worked == [allowed]

    @pytest.mark.parametrize(("length", "allowed"), [(512, True), (513, False)])
    def test_a_stored_hash_has_at_most_512_characters(self, worked: list[str], length: int, allowed: bool) -> None:
        sized = (asking(salt=salt, tag=tag) for salt in range(8, 99) for tag in (300, 301, 302))
        stored = next(each for each in sized if len(each) == length)
        assert Argon2TokenHasher().verify(stored, SECRET) == allowed

    def test_nor_for_more_lanes(self) -> None:
        assert not Argon2TokenHasher().verify(PasswordHasher(1, 8 * 17, 17).hash(SECRET), SECRET)
        assert Argon2TokenHasher().verify(PasswordHasher(1, 8 * 16, 16).hash(SECRET), SECRET)

    def test_an_endless_one_is_false(self) -> None:
        stored = PasswordHasher(1, 8, 1, hash_len=4096).hash(SECRET)
        assert not Argon2TokenHasher().verify(stored, SECRET)

    @pytest.mark.parametrize("kind", [Type.I, Type.D])
    def test_another_kind_of_argon2_is_false(self, kind: Type) -> None:
        assert not Argon2TokenHasher().verify(PasswordHasher(1, 8, 1, type=kind).hash(SECRET), SECRET)

    def test_a_mac_cut_short_is_false(self) -> None:
        hasher = KeyedTokenHasher([secrets.token_bytes(32)])
        stored = hasher.hash(SECRET)
        assert not hasher.verify(stored[:-2], SECRET)
        assert not hasher.verify(stored.rpartition("$")[0] + "$", SECRET)
