"""What a visitor can send, from None to megabytes: the named answer, at once, and nothing lost, mailed or stored."""

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import ADDRESS, Harness
from resetkit import InvalidRequestError, InvalidTokenError, PasswordRejectedError, ResetError, ResetReceipt
from resetkit.events import PasswordRejected, RequestDropped, TokenRefused

MakeHarness = Callable[..., Harness]

NOT_TEXT: list[Any] = [
    None,
    True,
    0,
    1.5,
    b"alice@example.org",
    [ADDRESS],
    (ADDRESS,),
    {ADDRESS},
    {"$gt": ""},
    [None],
    [""],
    [],
    {},
    iter([ADDRESS]),
    object(),
]


def shown(text: str) -> str:
    """A name for a test, without backslashes: pytest doubles them when one process collects the tests twice."""
    return f"{ascii(text[:9]).replace(chr(92), '')} {len(text)}"


IMPOSSIBLE = [
    "",
    " ",
    "\u3000\t",
    "\0",
    "alice\0@example.org",
    "\ud800",
    "alice@example.org\r\nBcc: thief@example.org",
    "\u2028",
    "\x85",
    "x" * 321,
    "\u0301" * 1_000_000,
    "a" * 1_000_000,
    "\U000e0001" * 400,
]

STRANGE = [
    "null",
    "undefined",
    "'",
    "' OR 1=1--",
    "%",
    "_",
    "\\",
    "*",
    f"{ADDRESS},thief@example.org",
    f"{ADDRESS};thief@example.org",
    f"{ADDRESS} thief@example.org",
    f"<{ADDRESS}>",
    f'"{ADDRESS}" <thief@example.org>',
    f"{ADDRESS})thief@example.org",
    "alıce@example.org",
    "ali\u200bce@example.org",
    "alice@exampl\u212a.org",
    "{{7*7}}",
    "${7*7}",
    "{0.__class__}",
    "<script>alert(1)</script>",
    "\u202ealice",
    "x" * 320,
]


@pytest.mark.parametrize("value", NOT_TEXT, ids=lambda value: type(value).__name__)
def test_what_is_no_text_is_refused_before_anything_else_happens(kit: Harness, value: Any) -> None:
    """CVE-2023-7028 (H1-2293343), CVE-2013-0233, CVE-2016-6317, CVE-2019-18818, CVE-2021-22911, CVE-2009-2762,
    CVE-2018-12421 and their kin.
    """
    token = kit.token()
    kit.steps.clear()
    kit.events.clear()
    calls: list[tuple[str, Callable[[], object]]] = [
        ("identifier", lambda: kit.request(value)),
        ("token", lambda: kit.check(value)),
        ("token", lambda: kit.reset(value)),
        ("new_password", lambda: kit.reset(token, value)),
        ("account_id", lambda: kit.issue(value)),
        ("account_id", lambda: kit.revoke(value)),
        ("job", lambda: kit.run_job(value)),
    ]
    if value is not None:
        calls += [
            ("client", lambda: kit.request(client=value)),
            ("client", lambda: kit.check(token, client=value)),
            ("client", lambda: kit.reset(token, client=value)),
        ]
    if not isinstance(value, bool):
        calls.append(("code", lambda: kit.request(code=value)))
    for name, call in calls:
        with pytest.raises(InvalidRequestError, match=f"^{name} must be ") as refused:
            call()
        assert isinstance(refused.value, TypeError)
        assert isinstance(refused.value, ResetError)
        assert ADDRESS not in str(refused.value)
    assert kit.steps == []
    assert kit.events == []
    kit.check(token)


@pytest.mark.parametrize("identifier", IMPOSSIBLE, ids=shown)
def test_what_cannot_be_an_identifier_is_answered_like_any_other_and_never_looked_up(
    kit: Harness, identifier: str
) -> None:
    """CVE-2026-28288: a malformed address is answered as an unknown one."""
    assert kit.request(identifier) == kit.request("nobody@example.org") == ResetReceipt()
    assert [event.reason for event in kit.of(RequestDropped)] == ["empty", "unknown"]
    assert kit.steps.count("accounts.find before") == 1
    assert kit.mailer.outbox == []
    handle = kit.request(identifier, code=True).handle
    assert handle is not None
    assert kit.record(handle) is not None


@pytest.mark.parametrize(
    "identifier", ["x" * 320, "ali\u200bce@example.org", "al ice", "al\u3000ice", " alice"], ids=shown
)
def test_what_can_be_an_identifier_is_looked_up_as_it_was_typed(kit: Harness, identifier: str) -> None:
    seen: list[str] = []
    kit.replace("accounts", "find", seen.append)
    kit.request(identifier)
    assert seen == [identifier]


@pytest.mark.parametrize("identifier", STRANGE)
def test_a_strange_identifier_reaches_no_mailbox_but_the_stored_one(kit: Harness, identifier: str) -> None:
    """CVE-2019-19844 and the look-alikes: at worst the owner gets a mail, never who typed."""
    kit.accounts.add("mike", "mike@example.org")
    kit.request(identifier)
    assert {mail.to for mail in kit.mailer.outbox} <= {ADDRESS, "mike@example.org"}
    assert kit.of(RequestDropped)


def test_of_two_colliding_accounts_the_exact_one_is_mailed_once(kit: Harness) -> None:
    """django-allauth #2413."""
    kit.accounts.add("mike", "mike@example.org")
    kit.accounts.add("dotless", "mıke@example.org")
    kit.request("mıke@example.org")
    kit.request("mike@example.org")
    assert [mail.to for mail in kit.mailer.outbox] == ["mıke@example.org", "mike@example.org"]


def test_a_directory_that_folds_too_much_still_mails_the_stored_address(kit: Harness) -> None:
    """CVE-2024-27295: the database's collation finds the victim for a look-alike."""
    kit.replace("accounts", "find", lambda _typed: kit.accounts.get("alice"))
    kit.request("alicé@example.org")
    assert [mail.to for mail in kit.mailer.outbox] == [ADDRESS]


ZEROS = "0" * 32
TOKENS = [
    "",
    " ",
    "null",
    "undefined",
    "'",
    "\0",
    "0",
    "%",
    "' OR 1=1--",
    "x" * 95,
    "x" * 97,
    "0" * 95,
    "G" * 96,
    "A" * 96,
    "\ud800" * 96,
    "\u0660" * 96,
    "0" * 1_000_000,
    "\n" + "0" * 96,
    "0" * 96 + "\n",
    ZEROS,
    f"{ZEROS}-",
    f"{ZEROS}-AAAAAAAA",
    f"{ZEROS}-bcdfghjk",
    f"{ZEROS[1:]}-BCDFGHJK",
]


@pytest.mark.parametrize("token", TOKENS, ids=shown)
def test_a_malformed_token_ends_before_any_look_up_and_is_unknown(kit: Harness, token: str) -> None:
    """CVE-2010-4535, CVE-2008-3681, CVE-2019-18818, CVE-2026-41276 (GHSA-f6hc-c5jr-878p): nothing is asked."""
    with pytest.raises(InvalidTokenError) as refused:
        kit.reset(token, client="192.0.2.1")
    assert refused.value.reason == "unknown"
    with pytest.raises(InvalidTokenError):
        kit.check(token)
    assert kit.steps == []
    assert [event.reason for event in kit.of(TokenRefused)] == ["malformed", "malformed"]
    assert kit.accounts.password("alice") == "old"


def test_every_prefix_suffix_and_change_of_a_token_is_unknown(kit: Harness) -> None:
    token = kit.token()
    changed = [token[:cut] for cut in range(96)] + [token[cut:] for cut in range(1, 96)]
    changed += [token[:at] + ("1" if token[at] == "0" else "0") + token[at + 1 :] for at in range(96)]
    changed += [token.upper() if token.upper() != token else "x", f" {token}", f"{token} ", token * 2]
    for other in changed:
        with pytest.raises(InvalidTokenError) as refused:
            kit.check(other)
        assert refused.value.reason == "unknown"
    kit.reset(token)


EMPTY, LONG, STRANGE_CHARACTER = (
    "The password is empty.",
    "The password is longer than 1024 characters.",
    "The password holds a character that cannot be used.",
)


@pytest.mark.parametrize(
    ("password", "message"),
    [
        ("", EMPTY),
        ("x" * 1025, LONG),
        ("x" * 1_000_000, LONG),
        ("\0", STRANGE_CHARACTER),
        ("a\0b", STRANGE_CHARACTER),
        ("\ud800", STRANGE_CHARACTER),
    ],
    ids=shown,
)
def test_a_password_that_nobody_could_hash_is_rejected_and_spends_nothing(
    kit: Harness, password: str, message: str
) -> None:
    """CVE-2013-1443, CVE-2013-5958, H1-1820864: refused before hashing, before the token is touched."""
    token = kit.token()
    kit.steps.clear()
    with pytest.raises(PasswordRejectedError) as rejected:
        kit.reset(token, password)
    assert rejected.value.messages == (message,)
    assert kit.steps == []
    assert kit.of(PasswordRejected) == [PasswordRejected()]
    kit.reset(token, "x" * 1024)


@given(data=st.data())
@settings(max_examples=25)
def test_any_text_is_taken_as_identifier_token_and_password(kit: Harness, data: st.DataObject) -> None:
    texts = st.text(max_size=400) | st.text(st.characters(categories=["Cs", "Cc", "Mn", "Lo"]), max_size=400)
    assert kit.request(data.draw(texts), client=data.draw(texts)) == ResetReceipt()
    with pytest.raises(InvalidTokenError):
        kit.check(data.draw(texts), client=data.draw(texts))
    with pytest.raises((InvalidTokenError, PasswordRejectedError)):
        kit.reset(data.draw(texts), data.draw(texts))
    assert kit.mailer.outbox == []


def test_the_password_is_set_exactly_as_it_was_given(kit: Harness) -> None:
    """Neither cut, nor stripped, nor normalised (ASVS 5.0, 6.2.8)."""
    password = " é e\u0301 ﬁ \U0001f511\t\n" + "x" * 500
    kit.reset(kit.token(), password)
    assert kit.accounts.password("alice") == password


class TestRandomness:
    def test_a_seeded_generator_changes_nothing(self, kit: Harness) -> None:
        """CVE-2012-5508, CVE-2012-6661, CVE-2025-1796: no secret comes from the random module."""
        drawn = set()
        for _ in range(2):
            random.seed(0)
            handle, code = kit.code()
            drawn |= {handle, code, kit.reset_mails[-1].token}
        assert len(drawn) == 6

    def test_without_the_system_s_randomness_nothing_is_mailed_or_stored(
        self, kit: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """CVE-2019-11842: no fallback generator."""

        def fail(_size: int | None = None) -> bytes:
            raise NotImplementedError("no randomness")

        monkeypatch.setattr("secrets.token_bytes", fail)
        with pytest.raises(NotImplementedError):
            kit.request()
        assert kit.mailer.outbox == []
        assert "store.add before" not in kit.steps

    def test_tokens_share_nothing(self, kit: Harness) -> None:
        """CVE-2024-45719: no time, counter or machine in them, at one standing instant."""
        tokens = [kit.issue().token for _ in range(200)]
        for each, other in itertools.pairwise(tokens):
            assert each[:8] != other[:8]
            assert each[32:40] != other[32:40]
        assert len(set(tokens)) == 200
