"""Known failures of what visitors and operators send: types, look-alikes, links, headers, markup, size.

Each sentence begins with the id of a failure in docs/attacks.md, or says whose sibling it is.
"""

import ast
import enum
import time
from collections.abc import Callable
from datetime import timedelta
from inspect import signature
from typing import Any

import pytest

from harness import ADDRESS, Harness, roomy
from resetkit import (
    Account,
    AsyncResetManager,
    InvalidRequestError,
    InvalidTokenError,
    PasswordRejectedError,
    ResetMail,
    ResetManager,
    ResetReceipt,
    code_token,
)
from resetkit.events import MailFailed, RequestDropped
from resetkit.mailers import default_message
from resetkit.testing import vectors
from test_attacks_tokens import SOURCES

MakeHarness = Callable[..., Harness]


def recipients(kit: Harness) -> list[str]:
    return [str(mail.to) for mail in kit.mailer.outbox]


# Types.


class Shouted(str):  # noqa: SLOT000  # as an application's would be
    """A subclass of str that lies about itself where it can."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __len__(self) -> int:
        return 0

    def __contains__(self, part: object) -> bool:
        return False

    def strip(self, *_: Any) -> str:
        return ""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b""


@pytest.mark.parametrize("field", ["identifier", "token", "password", "client"])
def test_a_subclass_of_str_is_its_text_and_nothing_more(kit: Harness, field: str) -> None:
    """A sibling of CVE-2018-12421: what a subclass overrides decides nothing, and adapters get plain text."""
    seen: list[object] = []
    directory: dict[str, Callable[..., Any]] = {"find": kit.accounts.find, "set_password": kit.accounts.set_password}

    def noting(name: str) -> Callable[..., Any]:
        def method(*texts: str) -> Any:
            seen.append(type(texts[-1]))
            return directory[name](*texts)

        return method

    for name in directory:
        kit.replace("accounts", name, noting(name))

    def given(name: str, text: str) -> str:
        return Shouted(text) if name == field else text

    kit.request(given("identifier", ADDRESS), client=given("client", "192.0.2.1"))
    assert recipients(kit) == [ADDRESS]
    with pytest.raises(InvalidTokenError):
        kit.reset(given("token", "0" * 96), given("password", "new"), client=given("client", "192.0.2.1"))
    kit.reset(given("token", kit.reset_mails[0].token), given("password", "new"), client=given("client", "192.0.2.1"))
    assert kit.accounts.password("alice") == "new"
    assert seen == [str, str]
    with pytest.raises(PasswordRejectedError):
        kit.reset("0" * 96, given("password", "x" * 1025))


def test_a_member_of_an_enumeration_is_no_secret_in_disguise(kit: Harness) -> None:
    """A sibling of CVE-2013-0233: whatever text such a value stands for, it opens nothing and crashes nothing."""

    class Choice(str, enum.Enum):  # noqa: UP042  # its str() is another text, which is the point
        TOKEN = "x"

    with pytest.raises(InvalidTokenError):
        kit.reset(Choice.TOKEN)
    assert kit.request(Choice.TOKEN) == ResetReceipt()


LONG = {
    "letters": "a",
    "digits": "1",
    "dots": "1.",
    "colons": "1:",
    "accents": "\u0301",
    "ligatures": "\ufdfa",
    "spaces": " ",
}


@pytest.mark.parametrize("sign", LONG.values(), ids=LONG)
def test_a_megabyte_is_an_answer_like_any_other_at_every_argument(kit: Harness, sign: str) -> None:
    """CVE-2010-4535, H1-1820864: at every public argument that a visitor fills, a million signs cost little."""
    long = sign * (1_000_000 // len(sign))
    token = kit.token()
    began = time.process_time()
    assert kit.request(long) == ResetReceipt()
    with pytest.raises(InvalidTokenError):
        kit.check(long)
    with pytest.raises(InvalidTokenError):
        kit.reset(long, "new")
    with pytest.raises(PasswordRejectedError):
        kit.reset(token, long)
    with pytest.raises(InvalidTokenError):
        kit.reset(code_token(long, long), "new")
    with pytest.raises(InvalidTokenError):
        kit.reset(code_token(token[:32], long), "new")
    kit.request(context={long: long, "ip": long})
    kit.run_job(long)
    assert time.process_time() - began < 1.0
    assert all(len(text) <= 200 for mail in kit.reset_mails for pair in mail.context.items() for text in pair)


@pytest.mark.parametrize("sign", LONG.values(), ids=LONG)
def test_a_megabyte_for_a_client_is_one_client(kit: Harness, sign: str) -> None:
    """A sibling of CVE-2010-4535: what a proxy puts there may be long, and counts as one."""
    long = sign * (1_000_000 // len(sign))
    began = time.process_time()
    assert kit.request(client=long) == ResetReceipt()
    kit.check(kit.reset_mails[0].token, client=long)
    assert time.process_time() - began < 1.0


JSON: list[Any] = [None, True, 0, 1.5, [], [""], [ADDRESS], {}, {"$gt": ""}, {"$ne": None}]


def test_each_json_type_at_each_argument_touches_nothing(kit: Harness) -> None:
    """H1-386807, CVE-2012-2660, CVE-2012-2694, CVE-2013-0155: the same error for all, before any call of a port."""
    calls: dict[str, Callable[[Any], object]] = {
        "identifier": kit.request,
        "token": kit.reset,
        "password": lambda value: kit.reset("0" * 96, value),
        "client": lambda value: kit.request(client=value),
        "context": lambda value: kit.call(kit.manager.request_reset(ADDRESS, client=None, context=value)),
        "code": lambda value: kit.request(code=value),
        "account_id": kit.issue,
        "job": kit.run_job,
    }
    right: dict[str, list[str]] = {"client": ["None"], "context": ["{}", "{'$gt': ''}"], "code": ["True"]}
    refused = 0
    for name, call in calls.items():
        for value in JSON:
            if repr(value) not in right.get(name, []):
                with pytest.raises(InvalidRequestError):
                    call(value)
                refused += 1
    assert refused == len(calls) * len(JSON) - 4
    assert kit.steps == []


# Two addresses in one, look-alikes.

BETWEEN = [",", ", ", ";", " ", "\t", "\n", "\r\n", "\0", "|", "%2c", "%00", "%0a", "&email=", "/", ")", "><"]


def test_a_text_that_names_two_mails_nobody(kit: Harness) -> None:
    """CVE-2022-35924: a list, however it is written, is no address; both of its addresses exist here."""
    kit.accounts.add("eve", "eve@evil.example")
    for between in BETWEEN:
        for typed in (f"{ADDRESS}{between}eve@evil.example", f"eve@evil.example{between}{ADDRESS}"):
            assert kit.request(typed) == ResetReceipt()
    assert kit.mailer.outbox == []


PAIRS = [
    ("mike@example.org", "m\u0131ke@example.org"),
    ("mike@example.org", "mi\u212ae@example.org"),
    ("sam@example.org", "\u017fam@example.org"),
    ("fine@example.org", "\ufb01ne@example.org"),
    ("strasse@example.org", "stra\u00dfe@example.org"),
    ("big@example.org", "\u1d2e\u1d35\u1d33@example.org"),
    ("m\u00fcller@example.org", "mu\u0308ller@example.org"),
    ("\u03c3@example.org", "\u03c2@example.org"),
    ("info@xn--bcher-kva.example", "info@b\u00fccher.example"),
    ("alice@example.com", "\u0430lice@example.com"),
    ("bob+tag@example.org", "bob@example.org"),
    ("b.ob@example.org", "bob@example.org"),
]


@pytest.mark.parametrize("fold", ["lower", "upper", "casefold"])
def test_whatever_the_directory_folds_no_mail_reaches_who_looks_alike(make_harness: MakeHarness, fold: str) -> None:
    """GitHub 2019, CVE-2019-19844: however it folds, who is found gets the mail, with a token of their own."""
    kit = make_harness(policy=roomy(account_quotas=((100, timedelta(days=1)),), code_guesses=1))

    def find(typed: str) -> Account | None:
        wanted = getattr(typed, fold)()
        each = (kit.accounts.get(name) for name in ("one", "other"))
        return next((found for found in each if found and getattr(str(found.email), fold)() == wanted), None)

    kit.replace("accounts", "find", find)
    for pair in PAIRS:
        kit.accounts.add("one", pair[0])
        kit.accounts.add("other", pair[1])
        for typed in pair:
            kit.request(typed)
            found = find(typed)
            assert found is not None
            mail = kit.reset_mails[-1]
            assert (mail.to, kit.check(mail.token).account_id) == (found.email, found.id)


def test_a_folding_that_changes_between_asking_and_coming_back_changes_no_target(kit: Harness) -> None:
    """Spotify 2013: the token is bound to the account's id; names are never read again."""
    kit.accounts.add("big", "big@example.org")
    kit.request("big@example.org")
    token = kit.reset_mails[-1].token
    kit.steps.clear()
    kit.replace("accounts", "find", lambda _typed: kit.accounts.get("alice"))
    assert kit.reset(token, "new").account_id == "big"
    assert "accounts.find before" not in kit.steps
    assert kit.accounts.password("alice") == "old"


# Zero-width, directional, joining and filling signs, and spaces that look like none.
INVISIBLE = [
    *"\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad\u00a0\u034f\u061c\u115f\u180e",
    *"\u2066\u202e\ufe0f\u3164\U000e0041",
]


def test_invisible_signs_make_another_address(make_harness: MakeHarness) -> None:
    """antiwork/gumroad #6522: with a loose directory the owner is mailed, with an exact one nobody; never who typed."""
    kit = make_harness(policy=roomy(account_quotas=((100, timedelta(days=1)),), code_guesses=1))
    for sign in INVISIBLE:
        for typed in (f"ali{sign}ce@example.org", f"{sign}{ADDRESS}", f"{ADDRESS}{sign}"):
            kit.request(typed)
    assert kit.mailer.outbox == []
    kit.replace("accounts", "find", lambda _typed: kit.accounts.get("alice"))
    for sign in INVISIBLE:
        kit.request(f"ali{sign}ce@example.org")
    assert recipients(kit) == [ADDRESS] * len(INVISIBLE)


TWOFOLD = [
    f'"{ADDRESS} x"@evil.example',
    '"eve@evil.example x"@example.org',
    f"{ADDRESS})bob@evil.example",
    f"<{ADDRESS}>",
    f"Alice <{ADDRESS}>",
    f"@evil.example:{ADDRESS}",
    f"{ADDRESS}.",
    "alice@example.org@evil.example",
    f"=?utf-8?q?{ADDRESS}?=",
    "alice%example.org@evil.example",
    "alice(x)@example.org",
]


def test_an_address_that_programs_read_differently_is_found_as_it_stands_or_not_at_all(kit: Harness) -> None:
    """CVE-2025-13033, CVE-2023-27043: the core reads no address, so it cannot take the wrong part of one."""
    for typed in TWOFOLD:
        kit.request(typed)
    assert kit.mailer.outbox == []
    assert [event.reason for event in kit.of(RequestDropped)] == ["unknown"] * len(TWOFOLD)


def test_the_core_parses_no_address() -> None:
    """CVE-2023-27043: nothing of email.utils that reads addresses is called, on what visitors send or elsewhere."""
    named = {
        path.name
        for path, tree in SOURCES.items()
        if "testing" not in path.parts
        for node in ast.walk(tree)
        if (isinstance(node, ast.Name | ast.Attribute))
        and ast.unparse(node).rpartition(".")[2] in {"parseaddr", "getaddresses", "parsedate", "get_unixfrom"}
    }
    assert named == set()


# Links.


def read(mail: ResetMail) -> list[str]:
    """All that its reader sees."""
    message = default_message(mail)
    parts = [part.get_content() for part in message.walk() if not part.is_multipart()]
    return [each.replace(mail.token, "TOKEN") for each in [str(message["Subject"]), *parts]]


def test_no_header_has_a_say_in_the_link_or_any_letter_of_the_mail(kit: Harness) -> None:
    """Handed in as context: CVE-2017-9303, CVE-2025-25198, CVE-2025-70948, CVE-2026-27812, CVE-2026-22794,
    CVE-2026-34835, CVE-2026-32762, CVE-2017-8295, H1-226659, H1-1108874.
    """
    answer = kit.request()
    usual = kit.reset_mails[0]
    for case in vectors.cases("request_headers"):
        assert kit.request(context=case.input) == answer
        mail = kit.reset_mails[-1]
        assert mail.context
        assert mail.link == f"https://app.example/reset#{mail.token}"
        assert read(mail) == read(usual)


@pytest.mark.parametrize("manager", [ResetManager, AsyncResetManager])
def test_no_method_takes_a_request_a_host_or_a_place_to_go_on_to(manager: type[Any]) -> None:
    """CVE-2021-30185, H1-281575: no public method has an argument that could carry a URL; a sibling would add one."""
    taken = {
        name
        for method in ("request_reset", "check_token", "reset_password", "issue_token", "revoke_tokens", "run_job")
        for name in signature(getattr(manager, method)).parameters
    }
    assert taken == {
        "self",
        "identifier",
        "client",
        "code",
        "context",
        "token",
        "new_password",
        "account_id",
        "lifetime",
        "job",
    }


# Headers, markup, templates.

BREAKS = "\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


def test_a_line_break_of_any_kind_in_an_identifier_ends_it(kit: Harness) -> None:
    """CVE-2015-9097, H1-796013, H1-244555, bpo-46462: what str.splitlines honours is no part of an address."""
    for sign in BREAKS:
        for typed in (f"{ADDRESS}{sign}Bcc: eve@evil.example", f"{ADDRESS}{sign}", f"{ADDRESS}{sign}DATA{sign}"):
            assert kit.request(typed) == ResetReceipt()
    assert {event.reason for event in kit.of(RequestDropped)} == {"empty"}
    assert kit.mailer.outbox == []


def test_a_stored_address_that_could_break_a_header_is_mailed_nothing(make_harness: MakeHarness) -> None:
    """A sibling of CVE-2024-6923: a directory that stores anything cannot make the mailer write two headers."""
    kit = make_harness(policy=roomy(mail_attempts=1))
    hostile = [*BREAKS, "\0", ",", ";", "<", '"', "\u202e", "=?"]
    addresses = iter([f"alice{sign}@example.org" for sign in hostile])

    def find(_typed: str) -> Account:
        return Account(id="alice", email=next(addresses), stamp="s")

    kit.replace("accounts", "find", find)
    for _ in hostile:
        assert kit.request() == ResetReceipt()
    assert kit.mailer.outbox == []
    failed = kit.of(MailFailed)
    assert len(failed) == len(hostile)
    assert {event.error.partition(":")[0] for event in failed} == {"ConfigurationError"}
    assert "alice" not in repr(failed)


MARKUP = [
    "<b>x</b>@example.org",
    '<a href="//evil.example">@example.org',
    "{{7*7}}@example.org",
    "${7*7}@example.org",
    "%s@example.org",
    "{0.__class__}@example.org",
    "<%=7*7%>@example.org",
    "#{7*7}@example.org",
]


def test_what_was_typed_stands_in_no_mail(kit: Harness) -> None:
    """CVE-2022-31127: even if the directory finds somebody for it, the mail is that for the stored address."""
    kit.replace("accounts", "find", lambda _typed: kit.accounts.get("alice"))
    kit.request(ADDRESS)
    usual = read(kit.reset_mails[0])
    for typed in MARKUP:
        kit.request(typed)
        assert read(kit.reset_mails[-1]) == usual
    assert len(kit.reset_mails) == 1 + len(MARKUP)


def test_an_address_that_is_a_template_stays_as_it_is(kit: Harness) -> None:
    """H1-1265344, H1-244677, H1-159213, CVE-2021-21333: mails are made of values; nothing reads them again."""
    for local in ("{{7*7}}", "${7*7}", "%s", "{0.__class__}", "{mail.token}", "#{7*7}"):
        address = f"{local}@example.org"
        kit.accounts.add(local, address)
        kit.request(address)
        _, text, page = read(kit.reset_mails[-1])
        assert address in text
        assert address in page
        assert text.count("://") == 1


def test_signs_of_a_link_s_query_are_escaped_in_the_page(kit: Harness) -> None:
    """CVE-2023-27474: a query of the operator's own stays one attribute of one link."""
    kit.manager = kit.make_manager(link="https://app.example/?a='b'&c=d&token={token}")
    kit.request()
    text, page = (part.get_content() for part in default_message(kit.reset_mails[0]).walk() if not part.is_multipart())
    assert kit.reset_mails[0].link in text
    assert f'href="https://app.example/?a=&#x27;b&#x27;&amp;c=d&amp;token={kit.reset_mails[0].token}"' in page


# What breaks databases.


def test_what_drivers_cannot_encode_never_reaches_one(kit: Harness) -> None:
    """ckan #9324, indico #4159, perma #3809: NUL and half characters, in identifier, token, handle, code, password."""
    token = kit.token()
    for sign in ("\0", "\ud800", "\udfff", "\ud83d", "\x1b", "\x7f", "\uffff"):
        for text in (sign, f"ali{sign}ce@example.org", sign + ADDRESS):
            assert kit.request(text, code=True, client=text, context={text: text}).message == ResetReceipt().message
            for other in (text, token + text, code_token(token[:32], text), code_token(text, "BCDFGHJK")):
                with pytest.raises(InvalidTokenError):
                    kit.reset(other, "new")
    for sign in ("\0", "\ud800", "\udfff", "\ud83d"):
        with pytest.raises(PasswordRejectedError):
            kit.reset(token, f"new{sign}")
    kit.reset(token)


def test_signs_of_sql_are_text(kit: Harness) -> None:
    """H1-109395: as identifier, token, handle, client and account id, in both stores."""
    token = kit.token()
    for text in ("' OR 1=1--", "%", "_", "\\", "*", "'; DROP TABLE resetkit_tokens;--", '"', "?", ":1"):
        kit.request(text, client=text, code=True)
        for other in (text, token[:32] + text, code_token(text, text), code_token(token[:32], text)):
            with pytest.raises(InvalidTokenError):
                kit.reset(other)
        assert kit.revoke(text) == 0
        with pytest.raises(LookupError):
            kit.issue(text)
        kit.accounts.add(text, "quoted@example.org")
        issued = kit.issue(text).token
        assert kit.revoke(text) == 1
        with pytest.raises(InvalidTokenError):
            kit.check(issued)
    kit.reset(token)


def test_an_id_that_no_account_can_have_names_nobody_and_reaches_no_adapter(kit: Harness) -> None:
    """A sibling of ckan #9324: an operator's page may hand on what stood in its URL; no driver is asked for it."""
    token = kit.token()
    kit.steps.clear()
    for account_id in ("", "\0", "alice\0", "\ud800", "alice\udfff", "a" * 256, "a" * 1_000_000):
        with pytest.raises(LookupError):
            kit.issue(account_id)
        assert kit.revoke(account_id) == 0
    assert kit.steps == []
    kit.reset(token)


def test_an_id_that_only_sql_would_take_for_another_is_its_own(make_harness: MakeHarness) -> None:
    """A sibling of H1-109395: ids that collations, affinities or patterns confuse share no quota and no end."""
    kit = make_harness(policy=roomy())
    ids = ["1", "01", "1.0", "1 ", "A", "a", "\u00e9", "e\u0301", "%", "x_y", "xzy", "null", "\U0001f511"]
    for name in ids:
        kit.accounts.add(name, ADDRESS)
    tokens = {name: kit.issue(name).token for name in ids}
    for name in ids:
        assert kit.revoke(name) == 1
    assert len(set(tokens.values())) == len(ids)
