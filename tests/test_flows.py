"""The three flows, on both managers and both stores."""

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from harness import ADDRESS, Harness, put, roomy, spy_on_comparisons
from resetkit import (
    ConfigurationError,
    DuplicateSelectorError,
    InvalidTokenError,
    PasswordRejectedError,
    ResetPolicy,
    ResetReceipt,
    ThrottledError,
    TokenRecord,
    code_token,
)
from resetkit._keys import throttle_key
from resetkit.events import (
    JobLost,
    MailFailed,
    MailSent,
    PasswordRejected,
    PasswordReset,
    RequestDropped,
    RequestThrottled,
    ResetRequested,
    SessionsNotEnded,
    TokenChecked,
    TokenIssued,
    TokensPurged,
    TokensRevoked,
)
from resetkit.testing import FakeClock

MakeHarness = Callable[..., Harness]


def refused(kit: Harness, token: str) -> str:
    """The reason for which a token is refused, by both ways in."""
    with pytest.raises(InvalidTokenError) as looked:
        kit.check(token)
    with pytest.raises(InvalidTokenError) as used:
        kit.reset(token)
    assert looked.value.reason == used.value.reason
    return used.value.reason


def exchange(kit: Harness, record: TokenRecord) -> None:
    """Put this row in the place of all others, as somebody could who can write the store."""
    kit.plain_store.purge(before=kit.clock() + timedelta(days=99), limit=99)
    put(kit.plain_store, record)


LATER = FakeClock()() + timedelta(days=2)
EDITS = {"account_id": "alice", "kind": "operator", "stamp_digest": "0" * 64}


class TestTheWholeStory:
    def test_a_link_sets_the_password_ends_the_sessions_and_sends_a_notice(self, kit: Harness) -> None:
        token = kit.token()
        ticket = kit.reset(token, "correct horse")
        assert ticket.account_id == "alice"
        assert kit.accounts.password("alice") == "correct horse"
        assert kit.accounts.sessions("alice") == 0
        assert [mail.to for mail in kit.notices] == [ADDRESS]

    def test_every_outcome_has_its_event(self, kit: Harness) -> None:
        token = kit.token()
        kit.check(token)
        kit.reset(token)
        assert [type(event) for event in kit.events] == [
            MailSent,  # inline, so before the request is over
            ResetRequested,
            TokenChecked,
            PasswordReset,
            MailSent,
        ]

    def test_the_mail_goes_to_the_stored_address_whatever_was_typed(self, kit: Harness) -> None:
        kit.request(ADDRESS.upper())
        assert [mail.to for mail in kit.reset_mails] == [ADDRESS]

    def test_the_link_is_the_template_with_the_token(self, kit: Harness) -> None:
        token = kit.token()
        assert kit.reset_mails[0].link == f"https://app.example/reset#{token}"
        assert token.isalnum()
        assert token.isascii()

    def test_known_and_unknown_are_answered_alike(self, kit: Harness) -> None:
        kit.accounts.add("bob", "bob@example.org")
        kit.accounts.change("bob", can_reset=False)
        receipts = {kit.request(who) for who in (ADDRESS, "nobody@example.org", "bob@example.org", "", "\0", "x" * 999)}
        assert len(receipts) == 1

    def test_no_code_unless_one_was_asked_for(self, kit: Harness) -> None:
        receipt = kit.call(kit.manager.request_reset(ADDRESS, client=None))
        assert receipt == ResetReceipt()
        assert kit.reset_mails[0].code is None

    def test_looking_at_a_link_never_spends_it(self, kit: Harness) -> None:
        token = kit.token()
        before = kit.record(token)
        for _ in range(30):
            kit.check(token)
        assert kit.record(token) == before
        kit.reset(token)

    def test_notices_go_to_every_address_once(self, kit: Harness) -> None:
        """ASVS 5.0 6.3.7, NIST SP 800-63B-4 4.6."""
        kit.accounts.add("alice", ADDRESS, notify=("work@example.org", ADDRESS, "home@example.org"))
        kit.reset(kit.token())
        assert [mail.to for mail in kit.notices] == [ADDRESS, "work@example.org", "home@example.org"]

    def test_nobody_is_logged_in(self, kit: Harness) -> None:
        ticket = kit.reset(kit.token())
        assert set(ticket.__slots__) == {"account_id", "expires_at"}

    def test_asking_and_guessing_change_nothing_of_the_account(self, kit: Harness) -> None:
        """Nobody is locked out by a stranger: only a real token brings a write."""
        for _ in range(9):
            handle = kit.request(code=True).handle
            assert handle is not None
            assert refused(kit, code_token(handle, "BBBBBBBB")) == refused(kit, "0" * 96) == "unknown"
        assert not {f"accounts.{write} before" for write in ("set_password", "end_sessions")} & set(kit.steps)
        assert (kit.accounts.password("alice"), kit.accounts.sessions("alice")) == ("old", 1)
        kit.reset(kit.reset_mails[-1].token)


class TestEndsOfAToken:
    def test_used(self, kit: Harness) -> None:
        """CVE-2024-41888, CVE-2025-46815."""
        token = kit.token()
        kit.reset(token, "first")
        assert refused(kit, token) == "used"
        assert kit.accounts.password("alice") == "first"

    def test_expired_at_the_very_second(self, kit: Harness) -> None:
        """CVE-2022-36106, CVE-2013-2104: by both ways in."""
        token = kit.token()
        kit.advance(minutes=30, seconds=-1)
        kit.check(token)
        kit.advance(seconds=1)
        assert refused(kit, token) == "expired"
        kit.advance(seconds=1)
        assert refused(kit, token) == "expired"

    def test_superseded_by_a_newer_mail(self, kit: Harness) -> None:
        """CVE-2024-41890."""
        older, newer = kit.token(), kit.token()
        assert refused(kit, older) == "superseded"
        kit.reset(newer)

    def test_as_many_stay_outstanding_as_the_policy_says(self, make_harness: MakeHarness) -> None:
        """CVE-2020-11027: and a success ends them all."""
        kit = make_harness(policy=roomy(outstanding=2))
        first, second, third = kit.token(), kit.token(), kit.token()
        assert refused(kit, first) == "superseded"
        kit.check(second)
        kit.reset(third)
        assert refused(kit, second) == "revoked"

    def test_revoked(self, kit: Harness) -> None:
        """CVE-2013-2104: by both ways in."""
        token = kit.token()
        assert kit.revoke() == 1
        assert refused(kit, token) == "revoked"
        assert kit.of(TokensRevoked) == [TokensRevoked(account_id="alice", count=1)]

    @pytest.mark.parametrize(
        "change",
        [
            lambda kit: kit.accounts.set_password("alice", "changed elsewhere"),
            lambda kit: kit.accounts.change("alice", email="new@example.org"),
            lambda kit: kit.accounts.change("alice", email=ADDRESS.title()),
            lambda kit: kit.accounts.change("alice", can_reset=False),
            lambda kit: kit.accounts.remove("alice"),
            lambda kit: kit.accounts.add("alice", ADDRESS, password="made anew"),
        ],
        ids=["password", "address", "address case", "disabled", "deleted", "recreated"],
    )
    def test_stale_after_the_account_changed(self, kit: Harness, change: Callable[[Harness], None]) -> None:
        """CVE-2021-33322, contao #7510, H1-1288898 (password); H1-145896, H1-685007, H1-1089467 (address);
        H1-261297, SS-2016-011, CVE-2013-4198 (disabled).
        """
        token = kit.token()
        change(kit)
        assert refused(kit, token) == "stale"

    def test_the_stamp_is_compared_in_constant_time(self, kit: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        token = kit.token()
        record = kit.record(token)
        assert record is not None
        with monkeypatch.context() as patched:
            compared = spy_on_comparisons(patched)
            kit.check(token)
        assert (record.stamp_digest, record.stamp_digest) in compared

    def test_a_stale_token_is_spent_by_the_attempt_to_use_it(self, kit: Harness) -> None:
        token = kit.token()
        kit.accounts.change("alice", can_reset=False)
        with pytest.raises(InvalidTokenError, match="changed"):
            kit.reset(token)
        kit.accounts.change("alice", can_reset=True)
        assert refused(kit, token) == "used"

    def test_a_used_token_brought_back_is_stale(self, kit: Harness) -> None:
        """By a restored backup of the store, or by who can write it: the password has moved on."""
        token = kit.token()
        before = kit.record(token)
        assert before is not None
        kit.reset(token, "first")
        exchange(kit, before)
        assert refused(kit, token) == "stale"
        assert kit.accounts.password("alice") == "first"

    @pytest.mark.parametrize(
        ("part", "change"),
        [
            *((part, {name: text}) for part in ("link", "code") for name, text in EDITS.items()),
            ("link", {"expires_at": LATER}),
            ("code", {"code_expires_at": LATER}),
        ],
    )
    def test_a_row_edited_in_what_its_hash_binds_opens_nothing(
        self, kit: Harness, part: str, change: dict[str, Any]
    ) -> None:
        """Who can write the store, but has no key, turns a token of their own against nobody."""
        kit.accounts.add("mallory", "mallory@example.org")
        handle = kit.request("mallory@example.org", code=True).handle
        mail = kit.reset_mails[-1]
        token = mail.token if part == "link" else code_token(handle or "", mail.code or "")
        mine = kit.record(token)
        assert mine is not None
        exchange(kit, replace(mine, **change))
        assert refused(kit, token) == "unknown"

    def test_a_stranger_learns_no_reason(self, kit: Harness) -> None:
        ends: list[Callable[[str], object]] = [kit.reset, lambda _: kit.revoke(), lambda _: kit.advance(days=1)]
        for end in ends:
            token = kit.token()
            end(token)
            assert refused(kit, token[:-1] + ("0" if token[-1] != "0" else "1")) == "unknown"

    def test_the_record_that_vanished_before_the_claim_is_called_used(self, kit: Harness) -> None:
        token = kit.token()

        def purge() -> None:
            kit.plain_store.purge(before=kit.clock() + timedelta(days=99), limit=9)

        kit.on_step["store.claim before"] = purge
        with pytest.raises(InvalidTokenError) as lost:
            kit.reset(token)
        assert lost.value.reason == "used"

    def test_what_ended_the_record_just_before_the_claim_is_told(self, kit: Harness) -> None:
        token = kit.token()
        kit.on_step["store.claim before"] = lambda: void(kit.plain_store.revoke("alice", now=kit.clock()))
        with pytest.raises(InvalidTokenError) as lost:
            kit.reset(token)
        assert lost.value.reason == "revoked"
        assert kit.accounts.password("alice") == "old"
        assert "accounts.get before" not in kit.steps

    def test_what_expired_between_the_look_and_the_claim_is_told(self, kit: Harness) -> None:
        token = kit.token()
        now = kit.clock()
        times = iter([now + timedelta(minutes=29), now + timedelta(minutes=30)])
        kit.manager = kit.make_manager(clock=lambda: next(times))
        with pytest.raises(InvalidTokenError) as lost:
            kit.reset(token)
        assert lost.value.reason == "expired"

    def test_another_realm_knows_none_of_them(self, kit: Harness) -> None:
        token = kit.token()
        kit.manager = kit.make_manager(realm="tenant b")
        assert refused(kit, token) == "unknown"


class TestThrottle:
    def test_a_client_is_throttled_before_any_look_up(self, make_harness: MakeHarness) -> None:
        kit = make_harness(policy=roomy(client_limit=(2, timedelta(minutes=15))))
        kit.request(client="192.0.2.1")
        kit.request("nobody", client="192.0.2.1")
        kit.steps.clear()
        with pytest.raises(ThrottledError) as throttled:
            kit.request(client="192.0.2.1")
        assert throttled.value.retry_after == 900
        assert kit.steps == []
        assert kit.of(RequestThrottled) == [
            RequestThrottled(action="request", by="client", retry_after=900, context={}),
        ]
        kit.request(client="192.0.2.2")

    def test_an_identifier_is_throttled_known_or_not_in_any_spelling(self, make_harness: MakeHarness) -> None:
        for spellings in ([ADDRESS, ADDRESS.upper(), f" {ADDRESS}"], ["nobody", "NOBODY", "ｎｏｂｏｄｙ "]):
            kit = make_harness(policy=roomy(identifier_limit=(2, timedelta(minutes=15))))
            kit.request(spellings[0], client="192.0.2.1")
            kit.request(spellings[1], client="192.0.2.2")
            with pytest.raises(ThrottledError):
                kit.request(spellings[2], client="192.0.2.3")
            assert kit.of(RequestThrottled)[0].by == "identifier"
            kit.advance(minutes=15)
            kit.request(spellings[2], client="192.0.2.3")

    def test_a_call_refused_for_its_client_does_not_count_for_the_identifier(self, make_harness: MakeHarness) -> None:
        kit = make_harness(
            policy=roomy(client_limit=(1, timedelta(minutes=15)), identifier_limit=(2, timedelta(minutes=15)))
        )
        kit.request(client="192.0.2.1")
        for _ in range(5):
            with pytest.raises(ThrottledError):
                kit.request(client="192.0.2.1")
        kit.request(client="192.0.2.2")

    def test_what_cannot_be_an_identifier_counts_by_client_only(self, make_harness: MakeHarness) -> None:
        kit = make_harness(policy=roomy(identifier_limit=(1, timedelta(minutes=15))))
        for _ in range(3):
            kit.request("\0")

    def test_an_ipv6_client_counts_by_its_64(self, make_harness: MakeHarness) -> None:
        kit = make_harness(policy=roomy(client_limit=(1, timedelta(minutes=15))))
        kit.request(client="2001:db8::1")
        with pytest.raises(ThrottledError):
            kit.request(client="2001:db8:0:0:ffff::2%eth0")
        kit.request(client="2001:db8:0:1::1")

    def test_redemptions_count_under_a_key_of_their_own(self, make_harness: MakeHarness) -> None:
        kit = make_harness(policy=roomy(client_limit=(2, timedelta(minutes=15))))
        kit.request(client="192.0.2.1")
        token = kit.reset_mails[-1].token
        kit.request(client="192.0.2.1")
        kit.check(kit.reset_mails[-1].token, client="192.0.2.1")
        with pytest.raises(InvalidTokenError):
            kit.reset(token, client="192.0.2.1")
        with pytest.raises(ThrottledError):
            kit.reset(kit.reset_mails[-1].token, client="192.0.2.1")
        assert kit.of(RequestThrottled)[0].action == "redeem"
        kit.reset(kit.reset_mails[-1].token, client="192.0.2.2")

    def test_each_call_counts_under_purpose_realm_and_caller_by_the_policy_s_limits(
        self, make_harness: MakeHarness, colour: str
    ) -> None:
        hits: list[object] = []

        class Noting:
            def hit(self, key: str, /, **limits: object) -> int:
                hits.append((key, limits))
                return 0

        class AsyncNoting:
            async def hit(self, key: str, /, **limits: object) -> int:
                hits.append((key, limits))
                return 0

        minute = timedelta(minutes=1)
        policy = roomy(client_limit=(7, minute), identifier_limit=(8, 2 * minute))
        throttle = Noting() if colour == "sync" else AsyncNoting()
        kit = make_harness(policy=policy, throttle=throttle, realm="tenant")
        kit.request("ALICE@example.org", client="2001:db8::1")
        kit.check(kit.reset_mails[0].token, client="2001:db8::1")
        by_client = {"limit": 7, "window": minute, "now": kit.clock()}
        assert hits == [
            (throttle_key("request-client", "tenant", "2001:db8::/64"), by_client),
            (
                throttle_key("request-identifier", "tenant", ADDRESS),
                {"limit": 8, "window": 2 * minute, "now": kit.clock()},
            ),
            (throttle_key("redeem-client", "tenant", "2001:db8::/64"), by_client),
        ]

    def test_a_second_to_wait_is_a_refusal(self, make_harness: MakeHarness) -> None:
        kit = make_harness(policy=roomy(client_limit=(1, timedelta(seconds=1))))
        kit.request(client="192.0.2.1")
        with pytest.raises(ThrottledError) as throttled:
            kit.request(client="192.0.2.1")
        assert throttled.value.retry_after == 1

    def test_a_full_dispatcher_is_a_throttled_error_for_everyone(self, kit: Harness) -> None:
        for who in (ADDRESS, "nobody"):
            with kit.failing("dispatcher.dispatch before", ThrottledError(5)), pytest.raises(ThrottledError):
                kit.request(who)
        assert [event.by for event in kit.of(RequestThrottled)] == ["capacity", "capacity"]

    def test_the_account_s_quota_is_silent(self, make_harness: MakeHarness) -> None:
        kit = make_harness(policy=ResetPolicy(identifier_limit=(99, timedelta(minutes=1))))
        receipts = {kit.request() for _ in range(10)}
        assert len(receipts) == 1
        assert len(kit.reset_mails) == 3
        assert {event.reason for event in kit.of(RequestDropped)} == {"quota"}
        kit.advance(minutes=15, seconds=1)
        kit.request()
        assert len(kit.reset_mails) == 4


class TestFailures:
    def test_a_refused_password_keeps_the_token(self, kit: Harness) -> None:
        token = kit.token()
        with kit.failing("accounts.set_password before", PasswordRejectedError("too short")):
            with pytest.raises(PasswordRejectedError) as rejected:
                kit.reset(token, "x")
            assert rejected.value.messages == ("too short",)
        assert kit.accounts.sessions("alice") == 1
        assert kit.notices == []
        assert len(kit.of(PasswordRejected)) == 1
        kit.reset(token, "long enough")
        assert kit.accounts.password("alice") == "long enough"

    def test_a_refused_password_is_told_even_if_release_fails(self, kit: Harness) -> None:
        token = kit.token()
        with (
            kit.failing("accounts.set_password before", PasswordRejectedError("too short")),
            kit.failing("store.release before", OSError("the store is away")),
            pytest.raises(PasswordRejectedError),
        ):
            kit.reset(token, "x")

    @pytest.mark.parametrize("step", ["store.claim before", "store.claim after", "accounts.get before"])
    @pytest.mark.parametrize("code", [False, True])
    def test_a_failure_before_the_write_keeps_the_token(self, kit: Harness, step: str, code: bool) -> None:
        token = kit.code_token() if code else kit.token()
        for _ in range(1 if step == "store.claim before" else 6):  # no claim, no guess to give back
            with kit.failing(step, OSError("away")), pytest.raises(OSError, match="away"):
                kit.reset(token)
        assert kit.accounts.password("alice") == "old"
        assert kit.accounts.sessions("alice") == 1
        assert kit.notices == []
        kit.reset(token)

    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.parametrize("kind", ["an error", "an interrupt"])
    def test_an_unclear_write_spends_the_token_ends_sessions_and_is_raised(
        self, kit: Harness, moment: str, kind: str
    ) -> None:
        """eswan18/identity #78."""
        interrupt = KeyboardInterrupt() if kit.colour == "sync" else asyncio.CancelledError()
        error = OSError("unclear") if kind == "an error" else interrupt
        token = kit.token()
        with kit.failing(f"accounts.set_password {moment}", error), pytest.raises(type(error)):
            kit.reset(token)
        assert kit.accounts.sessions("alice") == 0
        assert len(kit.notices) == 1
        assert kit.of(PasswordReset)[0].error == type(error).__name__
        assert refused(kit, token) == "used"

    def test_sessions_that_could_not_be_ended_are_an_alarm_and_an_error_after_the_notices(self, kit: Harness) -> None:
        """CVE-2023-40273."""
        token = kit.token()
        with kit.failing("accounts.end_sessions before", OSError("cache away")), pytest.raises(OSError, match="cache"):
            kit.reset(token, "new")
        assert kit.accounts.password("alice") == "new"
        assert len(kit.notices) == 1
        assert kit.of(SessionsNotEnded) == [SessionsNotEnded(account_id="alice", error="OSError")]
        assert refused(kit, token) == "used"

    def test_an_interrupt_while_the_notices_are_handed_over_comes_out_after_all_were_tried(self, kit: Harness) -> None:
        class InterruptError(BaseException):
            """As KeyboardInterrupt, which an event loop takes for itself."""

        kit.accounts.add("alice", ADDRESS, notify=("work@example.org",))
        token = kit.token()
        kit.steps.clear()
        with kit.failing("dispatcher.dispatch before", InterruptError()), pytest.raises(InterruptError):
            kit.reset(token)
        assert kit.steps.count("dispatcher.dispatch before") == 2
        assert len(kit.of(JobLost)) == 2

    def test_when_both_fail_the_first_error_comes_out(self, kit: Harness) -> None:
        token = kit.token()
        with (
            kit.failing("accounts.set_password before", OSError("first")),
            kit.failing("accounts.end_sessions before", OSError("second")),
            pytest.raises(OSError, match="first"),
        ):
            kit.reset(token)
        assert len(kit.of(SessionsNotEnded)) == 1

    @pytest.mark.parametrize("error", [ThrottledError(5), OSError("broker away")])
    def test_a_notice_that_cannot_be_handed_over_is_an_event(self, kit: Harness, error: Exception) -> None:
        token = kit.token()
        kit.events.clear()
        with kit.failing("dispatcher.dispatch before", error):
            kit.reset(token, "new")
        assert kit.accounts.password("alice") == "new"
        assert [type(event).__name__ for event in kit.events] == ["PasswordReset", "JobLost"]

    def test_a_broken_dispatcher_fails_the_request_alike_for_everyone(self, kit: Harness) -> None:
        for who in (ADDRESS, "nobody"):
            with (
                kit.failing("dispatcher.dispatch before", OSError("broker away")),
                pytest.raises(OSError, match="away"),
            ):
                kit.request(who)
        assert [type(event).__name__ for event in kit.events] == ["JobLost", "JobLost"]

    @pytest.mark.parametrize("step", ["mailer.send before", "accounts.find before", "store.add before"])
    def test_a_job_that_always_fails_is_tried_as_often_as_the_policy_says(self, kit: Harness, step: str) -> None:
        with kit.failing(step, OSError("away")):
            kit.request()
        failed = kit.of(MailFailed)
        assert [(event.attempt, event.retry) for event in failed] == [(1, True), (2, True), (3, True), (4, False)]
        assert {event.error for event in failed} == {"OSError"}
        assert {event.account_id for event in failed} == {None if "find" in step else "alice"}
        assert all("harness.py:" in event.at and event.at.endswith(" in fail") for event in failed)
        assert kit.reset_mails == []

    def test_a_mail_that_failed_once_is_sent_once_and_works(self, kit: Harness) -> None:
        failures = iter([OSError("away")])

        def fail_once() -> None:
            for error in failures:
                raise error

        kit.on_step["mailer.send before"] = fail_once
        kit.request()
        assert len(kit.reset_mails) == 1
        assert [event.retry for event in kit.of(MailFailed)] == [True]
        kit.reset(kit.reset_mails[0].token)

    @pytest.mark.parametrize("limit", [0, 1])
    def test_a_failure_is_told_and_tried_again_whatever_the_traceback_s_limit(
        self, kit: Harness, limit: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "tracebacklimit", limit, raising=False)
        with kit.failing("mailer.send before", OSError("away")):
            kit.request()
        assert [event.attempt for event in kit.of(MailFailed)] == [1, 2, 3, 4]
        assert all(event.at.endswith(" in fail") for event in kit.of(MailFailed))

    def test_the_text_of_an_adapter_s_own_error_is_never_told(self, kit: Harness) -> None:
        """A ConfigurationError of the application's may quote what was typed."""
        with kit.failing("accounts.find before", ConfigurationError(f"no tenant for {ADDRESS}")):
            kit.request()
        assert {event.error for event in kit.of(MailFailed)} == {"ConfigurationError"}

    def test_a_retry_does_not_count_against_the_quota(self, make_harness: MakeHarness) -> None:
        kit = make_harness(policy=roomy(account_quotas=((1, timedelta(days=1)),)))
        with kit.failing("mailer.send before", OSError("away")):
            kit.request()
        assert {event.error for event in kit.of(MailFailed)} == {"OSError"}
        assert kit.of(RequestDropped) == []

    def test_a_full_dispatcher_ends_the_retries_with_an_event(self, kit: Harness) -> None:
        calls: list[int] = []

        def full_later() -> None:
            calls.append(1)
            if len(calls) > 1:
                raise ThrottledError(5)

        kit.on_step["dispatcher.dispatch before"] = full_later
        with kit.failing("mailer.send before", OSError("away")):
            kit.request()
        assert [type(event).__name__ for event in kit.events] == ["MailFailed", "JobLost", "ResetRequested"]

    def test_a_directory_that_answers_nonsense_mails_nothing(self, kit: Harness) -> None:
        kit.replace("accounts", "find", lambda _identifier: {"email": ADDRESS})
        kit.request()
        assert {event.error for event in kit.of(MailFailed)} == {
            "ConfigurationError: the account directory must return Account or None, not dict"
        }
        assert kit.reset_mails == []

    def test_a_mistake_in_the_application_s_own_code_is_told_with_its_place(self, kit: Harness) -> None:
        def find(_identifier: str) -> None:
            raise NameError("s3cret")

        kit.replace("accounts", "find", find)
        kit.request()
        failed = kit.of(MailFailed)[0]
        assert failed.error == "NameError"
        assert failed.at.startswith(__file__)
        assert failed.at.endswith(" in find")

    def test_what_on_event_raises_goes_no_further(
        self, make_harness: MakeHarness, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(_event: object) -> None:
            raise OSError("metrics away")

        kit = make_harness(on_event=fail)
        kit.reset(kit.token())
        missed = [each.getMessage().partition("(")[0] for each in caplog.records]
        sent = "on_event failed with OSError and missed MailSent"
        assert missed[:2] == [sent, "on_event failed with OSError and missed ResetRequested"]
        assert missed.count(sent) == 2
        assert kit.accounts.password("alice") == "new"

    def test_what_is_no_time_is_refused(self, kit: Harness) -> None:
        kit.manager = kit.make_manager(clock=lambda: 5)
        with pytest.raises(ConfigurationError, match=r"^what clock returns must be of type datetime"):
            kit.request()

    def test_a_clock_of_another_zone_is_read_in_utc_and_whole_seconds(self, kit: Harness) -> None:
        elsewhere = kit.clock().astimezone(timezone(timedelta(hours=2))) + timedelta(microseconds=999_999)
        kit.manager = kit.make_manager(clock=lambda: elsewhere)
        now = kit.manager._now() if kit.colour == "async" else kit.manager._engine._now()
        assert now == kit.clock()
        assert now.tzinfo is UTC
        record = kit.record(kit.token())
        assert record is not None
        assert record.created_at == kit.clock()

    def test_a_clock_without_a_zone_is_refused(self, kit: Harness) -> None:
        kit.clock.now = kit.clock.now.replace(tzinfo=None)
        with pytest.raises(ConfigurationError, match="aware"):
            kit.request()


class TestOperators:
    def test_an_issued_token_resets_without_a_mail(self, kit: Harness) -> None:
        issued = kit.issue()
        assert issued.link == f"https://app.example/reset#{issued.token}"
        assert issued.expires_at == kit.clock() + timedelta(hours=24)
        record = kit.record(issued.token)
        assert record is not None
        assert (record.kind, record.code_hash, record.keep_until - record.expires_at) == (
            "operator",
            None,
            kit.policy.retention,
        )
        assert kit.reset_mails == []
        kit.reset(issued.token)
        assert [type(event) for event in kit.events[:1]] == [TokenIssued]

    def test_a_visitor_s_request_neither_ends_nor_blocks_it(self, make_harness: MakeHarness) -> None:
        kit = make_harness(policy=roomy(account_quotas=((1, timedelta(days=1)),)))
        issued = [kit.issue().token for _ in range(3)]
        kit.request()
        assert len(kit.reset_mails) == 1
        kit.check(kit.reset_mails[0].token)
        assert [refused(kit, token) for token in issued[:2]] == ["superseded"] * 2
        kit.reset(issued[2])
        assert refused(kit, kit.reset_mails[0].token) == "revoked"

    @pytest.mark.parametrize("lifetime", [timedelta(days=7, seconds=1), timedelta(0), timedelta(seconds=-1)])
    def test_a_lifetime_beyond_a_week_or_none_is_refused(self, kit: Harness, lifetime: timedelta) -> None:
        with pytest.raises(ValueError, match=r"^lifetime must be "):
            kit.issue(lifetime=lifetime)
        assert kit.issue(lifetime=timedelta(days=7)).expires_at == kit.clock() + timedelta(days=7)

    def test_no_token_for_who_is_unknown_or_may_not_reset(self, kit: Harness) -> None:
        with pytest.raises(LookupError):
            kit.issue("nobody")
        kit.accounts.change("alice", can_reset=False)
        with pytest.raises(LookupError):
            kit.issue()

    @pytest.mark.parametrize("account_id", ["", "x" * 256, "a\0", "\ud800", "alice\udfff"])
    def test_an_id_that_no_account_can_have_is_asked_of_nobody(self, kit: Harness, account_id: str) -> None:
        def never(*_: object, **__: object) -> None:
            raise AssertionError

        kit.replace("accounts", "get", never)
        kit.replace("store", "revoke", never)
        with pytest.raises(LookupError):
            kit.issue(account_id)
        assert kit.revoke(account_id) == 0
        assert kit.of(TokensRevoked)[-1].count == 0

    def test_a_store_that_refuses_without_a_quota_is_named(self, kit: Harness) -> None:
        with kit.failing("store.add before", DuplicateSelectorError()), pytest.raises(DuplicateSelectorError):
            kit.issue()
        kit.replace("store", "add", lambda *_, **__: False)
        with pytest.raises(RuntimeError, match="contract"):
            kit.issue()

    def test_purge_deletes_what_is_past_its_keep_time_in_batches(self, make_harness: MakeHarness) -> None:
        kit = make_harness(policy=roomy(purge_batch=2))
        tokens = [kit.token() for _ in range(5)]
        kit.advance(minutes=30, days=7)
        assert kit.purge() == 0
        kit.advance(seconds=1)
        live = kit.token()
        assert kit.purge() == 5
        assert kit.of(TokensPurged)[-1].count == 5
        assert all(kit.record(token) is None for token in tokens)
        kit.reset(live)

    def test_a_purge_rests_after_each_batch_so_that_others_get_their_turn(self, kit: Harness) -> None:
        times, work = list[tuple[float, float]](), 0.005  # seconds

        def purge(*, before: datetime, limit: int) -> int:
            began = time.monotonic()
            while time.monotonic() < began + work:
                pass
            times.append((began, time.monotonic()))
            return 3 - len(times)

        kit.replace("store", "purge", purge)
        assert kit.purge() == 2 + 1
        (_, first), (second, ended), (third, _) = times
        assert second - first >= 3 * work
        assert third - ended >= 3 * work


def void(_result: object) -> None:
    """A call for its effect alone."""
