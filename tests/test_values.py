"""Values: illegal ones cannot exist, and no secret shows."""

import copy
import dataclasses
import json
import logging
import os
import pickle
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import ADDRESS, Harness
from resetkit import (
    Account,
    ConfigurationError,
    DuplicateSelectorError,
    InvalidRequestError,
    InvalidTokenError,
    IssuedToken,
    PasswordRejectedError,
    ResetMail,
    ResetPolicy,
    ResetReceipt,
    ThrottledError,
    TokenRecord,
)
from resetkit._checks import is_header_text, is_id
from resetkit._confidential import clear_locals, hidden
from resetkit._jobs import UnusableJobError, clean_context
from resetkit.testing._records import NOW, record


def account(**changes: Any) -> Account:
    defaults: dict[str, Any] = {"id": "alice", "email": ADDRESS, "stamp": "the stamp"}
    return Account(**(defaults | changes))


class TestAccount:
    @pytest.mark.parametrize("account_id", ["a", "x" * 255, "ä", "\U0001f511", " ", "1", "' OR 1=1--", "\u202e"])
    def test_an_id_is_any_text_a_store_can_hold(self, account_id: str) -> None:
        assert account(id=account_id).id == account_id

    @pytest.mark.parametrize("account_id", ["", "x" * 256, "a\0", "\ud800", None, 5, b"a", ["a"]])
    def test_another_id_is_refused(self, account_id: object) -> None:
        with pytest.raises(ConfigurationError, match=r"^Account\.id must "):
            account(id=account_id)

    @pytest.mark.parametrize(
        "email",
        ["a@b", ADDRESS, "a.b+c@d.example", "ü@bücher.example", "x" * 252 + "@b", "o'neil@example.org"],
    )
    def test_an_address_is_kept_as_it_is(self, email: str) -> None:
        assert account(email=email).email == email

    @pytest.mark.parametrize(
        "email",
        [
            "",
            "@",
            "a@",
            "@b",
            "a",
            "a@b@c",
            "a@b, c@d",
            "a@b;c@d",
            "a b@c",
            "<a@b>",
            "A <a@b>",
            '"a@evil.example x"@victim.example',  # CVE-2025-13033
            "alice@example.org)bob@evil.example",  # CVE-2023-27043
            "a@b\r\nDATA\r\n",  # CVE-2015-9097
            "x" * 253 + "@b",
            "=?utf-8?q?boss=40bank.example=0d=0aReply-To=3A_m=40evil.org?=@mallory.org",
            "a@=?utf-8?q?evil.org?=",
            "a@b..c",
            "a@b.",
            "\u202ea@b",
            None,
            5,
            ["a@b", "c@d"],
        ],
    )
    def test_what_mail_software_could_read_in_two_ways_is_refused(self, email: object) -> None:
        """CVE-2025-13033, CVE-2023-27043, CVE-2015-9097."""
        with pytest.raises(ConfigurationError, match=r"^Account\.email must "):
            account(email=email)
        if isinstance(email, str):
            with pytest.raises(ConfigurationError, match=r"^Account\.notify must "):
                account(notify=(email,))

    @pytest.mark.parametrize("char", "\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\0\t\x7f")
    def test_no_line_break_of_any_kind_in_an_address(self, char: str) -> None:
        """CVE-2024-6923, CVE-2026-1299, bpo-46462: the set that str.splitlines honours, and other controls."""
        with pytest.raises(ConfigurationError):
            account(email=f"a{char}@example.org")

    @pytest.mark.parametrize(
        "changes",
        [
            {"stamp": None},
            {"stamp": 5},
            {"can_reset": 1},
            {"can_reset": None},
            {"notify": ADDRESS},
            {"notify": [ADDRESS]},
            {"locale": 5},
            {"locale": "\0"},
        ],
    )
    def test_other_fields_of_the_wrong_type_are_refused(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match=rf"^Account\.{next(iter(changes))} must "):
            account(**changes)

    def test_it_is_frozen_and_compares_by_value(self) -> None:
        assert account() == account()
        with pytest.raises(dataclasses.FrozenInstanceError):
            account().email = "b@example.org"  # type: ignore[misc]  # that is the point


class TestTokenRecord:
    @pytest.mark.parametrize(
        "changes",
        [
            {"selector": ""},
            {"selector": "ä"},
            {"account_id": ""},
            {"kind": "other"},
            {"state": "expired"},
            {"link_hash": ""},
            {"link_hash": "ä"},
            {"link_hash": None},
            {"stamp_digest": ""},
            {"code_hash": "h"},
            {"code_expires_at": NOW, "code_hash": None},
            {"code_hash": "", "code_expires_at": NOW},
            {"guesses": -1},
            {"guesses": True},
            {"guesses": 1.0},
            {"claim_id": "c"},
            {"created_at": datetime(2030, 1, 1)},  # noqa: DTZ001  # that is the point
            {"expires_at": NOW + timedelta(microseconds=1)},
            {"keep_until": NOW.astimezone(timezone(timedelta(hours=1)))},
            {"created_at": 1_900_000_000},
            {"code_hash": "h", "code_expires_at": "soon"},
        ],
        ids=" ".join,
    )
    def test_an_illegal_record_cannot_exist(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match=rf"^TokenRecord\.({'|'.join(changes)}) "):
            record(**changes)

    def test_another_spelling_of_utc_is_utc(self) -> None:
        elsewhere = timezone(timedelta(0), "Z")
        assert record(keep_until=NOW.astimezone(elsewhere)).keep_until.tzinfo is UTC

    def test_outstanding_ends_at_the_very_second(self) -> None:
        each = record()
        assert each.is_outstanding(each.expires_at - timedelta(seconds=1))
        assert not each.is_outstanding(each.expires_at)
        assert not record(state="revoked").is_outstanding(NOW)


SECRETS = ("s3cret-link", "s3cret-token", "S3CRETCO", "s3cret-stamp", "s3cret-hash", ADDRESS, "home@example.org")

HOLDERS: dict[str, Callable[[], Any]] = {
    "Account": lambda: account(stamp="s3cret-stamp", notify=("home@example.org",)),
    "TokenRecord": lambda: record(
        link_hash="s3cret-hash", stamp_digest="s3cret-stamp", code_hash="s3cret-hash", code_expires_at=NOW
    ),
    "IssuedToken": lambda: IssuedToken(token="s3cret-token", link="s3cret-link", expires_at=NOW),
    "ResetMail": lambda: ResetMail(
        to=ADDRESS,
        account=account(stamp="s3cret-stamp"),
        token="s3cret-token",
        link="s3cret-link",
        code="S3CRETCO",
        created_at=NOW,
        expires_at=NOW,
        code_expires_at=NOW,
        locale=None,
    ),
}


@pytest.fixture(params=list(HOLDERS.values()), ids=list(HOLDERS))
def holder(request: pytest.FixtureRequest) -> Any:
    """Made in the test, not at import, so that a fault in making it shows."""
    return request.param()


class TestClearedVariables:
    """What ends an adapter's call with an error forgets what the call had in hand, as far back as the call goes."""

    @staticmethod
    def raised(name: str, *, cause: BaseException | None = None) -> Exception:
        """An error that left a frame with a variable behind."""

        def fail(held: str) -> None:
            raise LookupError(held) from cause

        with pytest.raises(LookupError) as caught:
            fail(name)
        return caught.value

    @staticmethod
    def held(error: BaseException) -> set[str]:
        return {str(value) for frame, _ in traceback.walk_tb(error.__traceback__) for value in frame.f_locals.values()}

    def test_an_error_and_all_that_led_to_it_forget(self) -> None:
        first = self.raised("first")
        second = self.raised("second", cause=first)
        third = self.raised("third")
        third.__context__ = second
        assert "third" in self.held(third)
        clear_locals(third, None)
        assert {"first", "second", "third"} & (self.held(first) | self.held(second) | self.held(third)) == set()

    def test_a_cause_goes_before_a_context_and_nothing_beyond_the_callers_own_forgets(self) -> None:
        before = self.raised("before")
        outer = self.raised("outer", cause=before)
        error = self.raised("error", cause=outer)
        clear_locals(error, outer)
        assert "error" not in self.held(error)
        assert "outer" in self.held(outer)
        assert "before" in self.held(before)

    def test_errors_that_lead_to_each_other_come_to_an_end(self) -> None:
        first, second = self.raised("first"), self.raised("second")
        first.__context__, second.__context__ = second, first
        clear_locals(first, None)
        assert {"first", "second"} & (self.held(first) | self.held(second)) == set()

    def test_text_is_hidden_and_what_is_none_is_left_to_be_refused(self) -> None:
        assert (repr(hidden("secret")), hidden("secret")) == ("<hidden>", "secret")
        assert hidden(7) == 7


@pytest.mark.parametrize(("length", "could"), [(0, False), (1, True), (255, True), (256, False)])
def test_an_id_has_a_length(length: int, could: bool) -> None:
    assert is_id("x" * length) is could


@pytest.mark.parametrize("text", ["a\0", "\ud800"])
def test_an_id_is_what_databases_can_hold(text: str) -> None:
    assert not is_id(text)


class TestSecrecy:
    def test_no_secret_shows_in_repr_str_format_asdict_or_logs(
        self, holder: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        logging.getLogger("application").warning("%s %r", holder, holder)
        shown = [repr(holder), str(holder), f"{holder}", caplog.text, repr([holder]), repr({"holder": holder})]
        for secret in SECRETS:
            assert not any(secret in text for text in shown), f"{secret} shows"

    def test_none_can_be_pickled_nor_read_whole_and_each_can_be_copied(self, holder: Any) -> None:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError, match="cannot be pickled"):
                pickle.dumps(holder, protocol)
        for whole in (dataclasses.asdict, dataclasses.astuple):
            with pytest.raises(TypeError, match="take str"):
                whole(holder)
        assert copy.copy(holder) == copy.deepcopy(holder) == holder

    def test_the_fields_themselves_are_plain_text(self) -> None:
        issued = HOLDERS["IssuedToken"]()
        assert isinstance(issued, IssuedToken)
        assert issued.token == "s3cret-token"
        assert f"{issued.token}" == "s3cret-token"
        assert "%s" % issued.link == "s3cret-link"  # noqa: UP031  # that is the point
        assert json.loads(json.dumps({"token": issued.token})) == {"token": "s3cret-token"}

    def test_a_field_refuses_to_be_pickled_or_copied_on_rather_than_change(self) -> None:
        """A copy that silently differs would be worse than either: it could become a password."""
        token = HOLDERS["IssuedToken"]().token
        for copying in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="take str"):
                copying(token)
            assert copying(str(token))
        assert copy.copy(token) == token
        assert type(str(token)) is str

    def test_what_is_handed_to_the_application_is_plain_text(self, kit: Harness) -> None:
        """A directory may copy, pickle or queue what it is given."""
        seen: list[object] = []

        def find(identifier: str) -> Account | None:
            seen.append(identifier)
            return kit.accounts.get("alice")

        def set_password(_account_id: str, password: str) -> None:
            seen.append(password)

        kit.replace("accounts", "find", find)
        kit.replace("accounts", "set_password", set_password)
        kit.reset(kit.token())
        assert [type(each) for each in seen] == [str, str]

    def test_events_are_plain_values_for_structured_logs(self, kit: Harness) -> None:
        kit.request(code=True, context={"ip": "192.0.2.1"})
        for event in kit.events:
            assert pickle.loads(pickle.dumps(event)) == event
            assert dataclasses.asdict(event)


class TestContext:
    def test_it_is_cut_and_cleaned(self, kit: Harness) -> None:
        """The first 10 entries, 200 characters each, no control, bidi or line-breaking character."""
        context = {f"k{number}": "v" for number in range(12)} | {"k0": "a\r\nb\u2028\u202e\0c" + "x" * 300}
        kit.request(context=context)
        (mail,) = kit.reset_mails
        assert list(mail.context) == [f"k{number}" for number in range(10)]
        assert mail.context["k0"].startswith("abcx")
        assert mail.context["k0"] == "abc" + "x" * 192

    @given(st.dictionaries(st.text(), st.text(), max_size=20))
    def test_any_texts_are_taken(self, context: dict[str, str]) -> None:
        cleaned = clean_context(context)
        assert len(cleaned) <= 10
        assert all(text.isprintable() and len(text) <= 200 for pair in cleaned.items() for text in pair)

    @pytest.mark.parametrize(
        ("context", "saying"),
        [
            (None, "context must be a mapping"),
            ([], "context must be a mapping"),
            ("ip", "context must be a mapping"),
            ({"ip": 5}, "a value in context must be a str"),
            ({5: "ip"}, "a name in context must be a str"),
            ({"ip": None}, "a value in context must be a str"),
        ],
    )
    def test_anything_else_is_refused_before_anything_happens(self, kit: Harness, context: Any, saying: str) -> None:
        with pytest.raises(InvalidRequestError, match=f"^{saying}"):
            kit.call(kit.manager.request_reset(ADDRESS, client=None, context=context))
        with pytest.raises(InvalidRequestError, match=f"^{saying}"):
            kit.reset("x", "new", context=context)
        assert kit.steps == []


class TestErrors:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: InvalidTokenError("used"),
            lambda: PasswordRejectedError("a", "b"),
            lambda: ThrottledError(5),
            lambda: InvalidRequestError("no"),
        ],
    )
    def test_an_error_survives_pickling_with_its_reason(self, make: Callable[[], Any]) -> None:
        error = make()
        again = pickle.loads(pickle.dumps(error))
        assert repr(again) == repr(error)
        assert (type(again), again.reason, str(again)) == (type(error), error.reason, str(error))
        assert getattr(again, "messages", None) == getattr(error, "messages", None)
        assert getattr(again, "retry_after", None) == getattr(error, "retry_after", None)

    def test_what_a_page_could_tell_shows_in_a_repr(self) -> None:
        errors = (InvalidTokenError("used"), ThrottledError(5), UnusableJobError("version"))
        assert [repr(each) for each in errors] == [
            "InvalidTokenError('used')",
            "ThrottledError(5)",
            "UnusableJobError('version')",
        ]

    def test_a_duplicate_selector_says_what_was_met(self) -> None:
        assert str(DuplicateSelectorError()) == "this selector already belongs to another account's record"

    def test_each_has_a_word_for_programs(self) -> None:
        words = [each.reason for each in (PasswordRejectedError(), ThrottledError(1), InvalidRequestError("x"))]
        assert words == ["password_rejected", "throttled", "invalid_request"]

    def test_a_rejected_password_always_has_sentences_that_are_text(self) -> None:
        """Given one by one, as a validator's list, or not at all: a page can join them."""
        assert PasswordRejectedError("a", "b").messages == PasswordRejectedError(["a", "b"]).messages == ("a", "b")  # type: ignore[arg-type]  # as validators do
        assert PasswordRejectedError().messages == ("Please choose another password.",)

    def test_a_rejected_password_s_sentences_are_not_in_its_text(self) -> None:
        error = PasswordRejectedError("'hunter2' is too common")
        assert "hunter2" not in f"{error} {error!r}"


@pytest.mark.parametrize(
    ("text", "fits"), [("Café ☕", True), ("a\nb", False), ("a\u2028b", False), ("=?utf-8?q?x?=", False), ("=?", False)]
)
def test_header_text_is_one_line_that_stands_for_itself(text: str, fits: bool) -> None:
    assert is_header_text(text) == fits


class TestReceipt:
    def test_it_holds_nothing_of_the_account(self) -> None:
        assert {each.name for each in dataclasses.fields(ResetReceipt)} == {"handle", "message"}


minutes = timedelta(minutes=1)
hours = timedelta(hours=1)


class TestPolicy:
    def test_the_defaults_are_the_documented_ones(self) -> None:
        policy = ResetPolicy()
        assert (policy.link_lifetime, policy.code_lifetime) == (30 * minutes, 10 * minutes)
        assert (policy.code_guesses, policy.outstanding) == (5, 1)
        assert policy.account_quotas == ((3, 15 * minutes), (20, 24 * hours))
        assert (policy.client_limit, policy.identifier_limit) == ((60, 15 * minutes), (5, 15 * minutes))
        assert policy.retention == timedelta(days=7)
        assert policy.guesses_a_day == 100
        assert policy.hash_workers == min(4, os.cpu_count() or 1)

    @pytest.mark.parametrize(
        ("name", "value", "saying"),
        [
            ("link_lifetime", timedelta(0), "link_lifetime must be positive and in whole seconds"),
            ("link_lifetime", -minutes, "link_lifetime must be positive"),
            ("link_lifetime", 24 * hours + timedelta(seconds=1), "link_lifetime must be at most 1 day, 0:00:00, not"),
            ("link_lifetime", timedelta(seconds=90.5), "link_lifetime must be positive and in whole seconds"),
            ("link_lifetime", 1800, "link_lifetime must be of type timedelta"),
            ("link_lifetime", float("nan"), "link_lifetime must be of type timedelta"),
            ("link_lifetime", 9 * minutes, "code_lifetime must be at most 0:09:00"),
            ("code_lifetime", 31 * minutes, "code_lifetime must be at most 0:30:00"),
            ("code_lifetime", timedelta(0), "code_lifetime must be positive"),
            ("code_guesses", 0, "code_guesses must be from 1 to 2147483647"),
            ("code_guesses", 6, "code_guesses and account_quotas allow 120 guesses a day: at most 100"),
            ("code_guesses", True, "code_guesses must be of type int"),
            ("outstanding", 0, "outstanding must be from 1 to 2147483647"),
            ("outstanding", 1.5, "outstanding must be of type int"),
            ("account_quotas", (), "account_quotas must hold at least one"),
            ("account_quotas", [(3, 15 * minutes)], "account_quotas must be of type tuple"),
            ("account_quotas", (3, 15 * minutes), "account_quotas takes"),
            ("account_quotas", ((3,),), "account_quotas takes"),
            ("account_quotas", ((0, hours),), "the number in account_quotas must be from 1 to 2147483647"),
            ("account_quotas", ((21, 24 * hours),), "code_guesses and account_quotas allow 105 guesses"),
            ("account_quotas", ((1, hours),), "code_guesses and account_quotas allow 120 guesses"),
            ("account_quotas", ((3, 8 * 24 * hours),), "retention must be at least the longest window"),
            ("client_limit", 60, "client_limit takes"),
            ("client_limit", (60, 900), "the window in client_limit must be of type timedelta"),
            ("identifier_limit", (0, hours), "the number in identifier_limit must be from 1 to 2147483647"),
            ("retention", 23 * hours, "retention must be at least the longest window"),
            ("retention", 3661 * 24 * hours, "retention must be at most 3660 days"),
            ("head_start", timedelta(0), "head_start must be positive, not 0:00:00"),
            ("head_start", 15 * minutes + timedelta(seconds=1), "head_start must be at most 0:15:00"),
            ("mail_attempts", 0, "mail_attempts must be from 1 to 10"),
            ("mail_attempts", 11, "mail_attempts must be from 1 to 10"),
            ("mail_retry_delay", timedelta(0), "mail_retry_delay must be positive"),
            ("mail_retry_delay", hours + timedelta(seconds=1), "mail_retry_delay must be at most 1:00:00"),
            ("hash_workers", 0, "hash_workers must be from 1 to 1000"),
            ("hash_workers", 1001, "hash_workers must be from 1 to 1000"),
            ("max_password_length", 63, "max_password_length must be from 64 to 2147483647"),
            ("max_identifier_length", 0, "max_identifier_length must be from 1 to 2147483647"),
            ("purge_batch", 0, "purge_batch must be from 1 to 2147483647"),
            ("outstanding", 2**31, "outstanding must be from"),
            ("purge_batch", 2**31, "purge_batch must be from"),
            ("max_password_length", 2**31, "max_password_length must be from"),
            ("client_limit", (2**31, hours), "the number in client_limit must be from"),
        ],
    )
    def test_what_cannot_be_safe_is_refused(self, name: str, value: Any, saying: str) -> None:
        """H1-1615790, H1-170161, H1-898841: among them links that would live too long."""
        with pytest.raises(ConfigurationError, match=f"^{saying}"):
            ResetPolicy(**{name: value})

    @pytest.mark.parametrize(
        "changes",
        [
            {"link_lifetime": 24 * hours},
            {"link_lifetime": 10 * minutes},
            {"code_guesses": 4, "account_quotas": ((1, hours),)},
            {"code_guesses": 100, "account_quotas": ((1, 24 * hours),)},
            {"account_quotas": ((20, 24 * hours),)},
            {"account_quotas": ((20, 48 * hours),)},
            {"max_password_length": 64},
            {"outstanding": 2**31 - 1},
            {"max_identifier_length": 1},
            {"outstanding": 1, "hash_workers": 1, "purge_batch": 1},
            {"hash_workers": 1000},
            {"mail_attempts": 1},
            {"mail_attempts": 10},
            {"mail_retry_delay": hours},
            {"head_start": timedelta(minutes=15)},
            {"head_start": timedelta(seconds=0.5)},
            {"client_limit": (1, timedelta(seconds=1))},
            {"retention": 24 * hours},
        ],
        ids=repr,
    )
    def test_the_bounds_themselves_are_allowed(self, changes: dict[str, Any]) -> None:
        ResetPolicy(**changes)

    @given(
        st.lists(st.tuples(st.integers(1, 100), st.integers(1, 7 * 86400)), min_size=1, max_size=3), st.integers(1, 9)
    )
    def test_the_guesses_at_a_day_s_mails_are_never_undercounted(
        self, quotas: list[tuple[int, int]], guesses: int
    ) -> None:
        """A greedy attacker who asks at every second that the quotas allow gets no more than was computed."""
        limits = tuple((count, timedelta(seconds=within)) for count, within in quotas)
        try:
            policy = ResetPolicy(account_quotas=limits, code_guesses=guesses)
        except ConfigurationError:
            return
        mails: list[int] = []
        now = 0
        while now < 86400:
            waits = [mails[-count] + within - now + 1 for count, within in quotas if len(mails) >= count]
            if (wait := max([0, *waits])) > 0:
                now += wait
                continue
            mails.append(now)
        assert len(mails) * guesses <= policy.guesses_a_day <= 100


def test_a_record_is_what_the_design_names() -> None:
    assert [each.name for each in dataclasses.fields(TokenRecord)] == [
        "selector",
        "account_id",
        "kind",
        "link_hash",
        "code_hash",
        "stamp_digest",
        "created_at",
        "expires_at",
        "code_expires_at",
        "keep_until",
        "guesses",
        "state",
        "claim_id",
    ]
