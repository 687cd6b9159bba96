"""What each event, mail and ticket tells, field by field: an alarm that names nobody helps nobody."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from harness import ADDRESS, Harness, roomy
from resetkit import (
    Account,
    PasswordChangedMail,
    PasswordRejectedError,
    ResetError,
    ResetMail,
    ResetTicket,
    ThrottledError,
    code_token,
)
from resetkit._jobs import NoticeJob, encode_job
from resetkit.events import (
    GuessRefused,
    JobLost,
    MailFailed,
    MailSent,
    PasswordRejected,
    PasswordReset,
    RequestDropped,
    RequestThrottled,
    ResetRequested,
    TokenChecked,
    TokenIssued,
    TokenRefused,
    TokensPurged,
    TokensRevoked,
)

MakeHarness = Callable[..., Harness]

CONTEXT = {"ip": "192.0.2.1"}
MINUTE = timedelta(minutes=1)


def requested(kit: Harness, identifier: str = ADDRESS, *, code: bool = False) -> str:
    """Ask, and read the selector from the event."""
    kit.events.clear()
    kit.request(identifier, code=code, context=CONTEXT)
    asked = kit.events[-1]
    assert isinstance(asked, ResetRequested)
    assert asked == ResetRequested(selector=asked.selector, code=code, context=CONTEXT)
    return asked.selector


def refuse(call: Callable[[], object]) -> None:
    with pytest.raises(ResetError):
        call()


def test_a_whole_story(kit: Harness) -> None:
    selector = requested(kit, code=True)
    token = kit.reset_mails[0].token
    assert token.startswith(selector)
    kit.check(token)
    refuse(lambda: kit.check(f"{token[:-1]}{'0' if token[-1] != '0' else '1'}"))
    refuse(lambda: kit.check(code_token(selector, "BBBBBBBB")))
    refuse(lambda: kit.check("no token"))
    refuse(lambda: kit.reset(token, ""))
    with kit.failing("accounts.set_password before", PasswordRejectedError("too short")):
        refuse(lambda: kit.reset(token, "x"))
    kit.reset(token, context=CONTEXT)
    refuse(lambda: kit.check(token))
    of_alice: dict[str, Any] = {"selector": selector, "account_id": "alice"}
    assert kit.events == [
        MailSent(mail="reset", **of_alice),
        ResetRequested(selector=selector, code=True, context=CONTEXT),
        TokenChecked(**of_alice),
        TokenRefused(reason="unknown", **of_alice),
        GuessRefused(exhausted=False, **of_alice),
        TokenRefused(reason="malformed"),
        PasswordRejected(),
        PasswordRejected(**of_alice),
        PasswordReset(context=CONTEXT, **of_alice),
        MailSent(mail="notice", account_id="alice"),
        TokenRefused(reason="used", **of_alice),
    ]


def test_tokens_of_nobody(kit: Harness) -> None:
    selector = "0" * 32
    refuse(lambda: kit.check(selector + "0" * 64))
    refuse(lambda: kit.check(code_token(selector, "BBBBBBBB")))
    assert kit.events == [
        TokenRefused(reason="unknown", selector=selector),
        GuessRefused(selector=selector, exhausted=False),
    ]
    selector_of_a_link = requested(kit)
    refuse(lambda: kit.check(code_token(selector_of_a_link, "BBBBBBBB")))
    assert kit.events == [
        MailSent(mail="reset", selector=selector_of_a_link, account_id="alice"),
        ResetRequested(selector=selector_of_a_link, code=False, context=CONTEXT),
        GuessRefused(selector=selector_of_a_link, exhausted=False, account_id="alice"),
    ]


def test_guesses_beyond_the_last(kit: Harness) -> None:
    selector = requested(kit, code=True)
    kit.events.clear()
    for _ in range(6):
        refuse(lambda: kit.check(code_token(selector, "BBBBBBBB")))
    assert kit.events == [
        GuessRefused(selector=selector, exhausted=exhausted, account_id="alice") for exhausted in [False] * 5 + [True]
    ]


@pytest.mark.parametrize("code", [False, True])
def test_mails_that_are_not_sent(make_harness: MakeHarness, code: bool) -> None:
    kit = make_harness(policy=roomy(account_quotas=((1, timedelta(days=1)),)))
    for identifier, dropped in {
        "": RequestDropped(reason="empty"),
        "nobody": RequestDropped(reason="unknown"),
    }.items():
        selector = requested(kit, identifier, code=code)
        assert kit.events[0] == replace(dropped, selector=selector)
    requested(kit, code=code)
    selector = requested(kit, code=code)
    assert kit.events[0] == RequestDropped(reason="quota", selector=selector, account_id="alice")
    kit.accounts.change("alice", can_reset=False)
    selector = requested(kit, code=code)
    assert kit.events[0] == RequestDropped(reason="cannot_reset", selector=selector, account_id="alice")


@pytest.mark.parametrize("code", [False, True])
def test_jobs_that_come_late_twice_or_for_nobody(kit: Harness, code: bool) -> None:
    jobs: list[str] = []
    kit.manager = kit.make_manager(dispatcher=kept(kit, jobs))
    selector = requested(kit, code=code)
    of_alice: dict[str, Any] = {"selector": selector, "account_id": "alice"}
    kit.run_job(jobs[0])
    kit.revoke()
    kit.steps.clear()
    kit.run_job(jobs[0])
    assert kit.steps.count("store.add before") == 1
    kit.advance(minutes=30)
    kit.run_job(jobs[0])
    kit.run_job(encode_job(NoticeJob(realm="", account_id="bob", to=ADDRESS, context={}, changed_at=kit.clock())))
    assert kit.events[1:] == [
        MailSent(mail="reset", **of_alice),
        TokensRevoked(account_id="alice", count=1),
        RequestDropped(reason="repeated", **of_alice),
        RequestDropped(reason="late", selector=selector),
        RequestDropped(reason="gone", account_id="bob"),
    ]


def test_mails_tell_how_long_they_waited(kit: Harness) -> None:
    jobs: list[str] = []
    kit.manager = kit.make_manager(dispatcher=kept(kit, jobs))
    requested(kit)
    kit.advance(seconds=90)
    kit.run_job(jobs.pop())
    kit.reset(kit.reset_mails[-1].token)
    kit.advance(seconds=5)
    kit.run_job(jobs[-1])
    kit.advance(seconds=-60)
    kit.run_job(jobs.pop())
    assert [each.waited for each in kit.of(MailSent)] == [90, 5, 0]


def test_a_job_that_meets_another_account_s_record(kit: Harness) -> None:
    jobs: list[str] = []
    kit.manager = kit.make_manager(dispatcher=kept(kit, jobs))
    selector = requested(kit, "bob@example.org", code=True)
    kit.run_job(jobs[0])
    kit.accounts.add("bob", "bob@example.org")
    kit.run_job(jobs[0])
    assert kit.events[1:] == [
        RequestDropped(reason="unknown", selector=selector),
        RequestDropped(reason="repeated", selector=selector, account_id="bob"),
    ]


def kept(kit: Harness, jobs: list[str], told: list[float] | None = None) -> Any:
    """A dispatcher that keeps its jobs, and notes how long it may take to close."""

    class Kept:
        def dispatch(self, job: str, _run: object, /, *, delay: timedelta = timedelta(0)) -> None:
            jobs.append(job)

        def close(self, timeout: float, /) -> list[str]:
            if told is not None:
                told.append(timeout)
            return jobs

    class AsyncKept:
        async def dispatch(self, job: str, _run: object, /, *, delay: timedelta = timedelta(0)) -> None:
            jobs.append(job)

        async def close(self, timeout: float, /) -> list[str]:
            return Kept().close(timeout)

    return Kept() if kit.colour == "sync" else AsyncKept()


def test_jobs_left_at_the_end(kit: Harness) -> None:
    jobs: list[str] = []
    told: list[float] = []
    kit.manager = kit.make_manager(dispatcher=kept(kit, jobs, told))
    selector = requested(kit)
    kit.call(kit.manager.close(5.0))
    assert kit.events[1:] == [JobLost(mail="reset", selector=selector)]
    jobs.clear()
    kit.call(kit.manager.close(0.0))
    assert 0.0 < told[0] <= 5.0
    assert told[1] == 0.0


def test_calls_that_are_throttled(make_harness: MakeHarness) -> None:
    kit = make_harness(policy=roomy(client_limit=(1, MINUTE), identifier_limit=(2, MINUTE)))
    kit.request(client="192.0.2.1")
    kit.request()
    token = kit.reset_mails[-1].token
    kit.check(token, client="192.0.2.1")
    kit.events.clear()
    refuse(lambda: kit.request(client="192.0.2.1", context=CONTEXT))
    refuse(lambda: kit.request(context=CONTEXT))
    refuse(lambda: kit.reset(token, client="192.0.2.1", context=CONTEXT))
    refuse(lambda: kit.check(token, client="192.0.2.1"))
    with kit.failing("dispatcher.dispatch before", ThrottledError(5)):
        refuse(lambda: kit.request("nobody", context=CONTEXT))
    assert kit.events == [
        RequestThrottled(action="request", by="client", retry_after=60, context=CONTEXT),
        RequestThrottled(action="request", by="identifier", retry_after=60, context=CONTEXT),
        RequestThrottled(action="redeem", by="client", retry_after=60, context=CONTEXT),
        RequestThrottled(action="redeem", by="client", retry_after=60),
        RequestThrottled(action="request", by="capacity", retry_after=5, context=CONTEXT),
    ]


def test_failures(kit: Harness) -> None:
    token = kit.token()
    kit.events.clear()
    with kit.failing("dispatcher.dispatch before", OSError("away")):
        with suppress(OSError):
            kit.request()
        kit.reset(token)
    asked, reset, noticed = kit.events
    assert isinstance(asked, JobLost)
    assert asked == JobLost(mail="reset", selector=asked.selector)
    assert asked.selector
    assert reset == PasswordReset(selector=token[:32], account_id="alice")
    assert noticed == JobLost(mail="notice", account_id="alice")
    job = encode_job(NoticeJob(realm="", account_id="alice", to=ADDRESS, context={}, changed_at=kit.clock(), attempt=2))
    kit.events.clear()
    with kit.failing("mailer.send before", OSError("away")), pytest.raises(OSError, match="away"):
        kit.run_job(job)
    (failed,) = kit.events
    assert isinstance(failed, MailFailed)
    assert failed == MailFailed(
        mail="notice", attempt=2, error="OSError", at=failed.at, retry=False, account_id="alice", selector=None
    )


def test_what_operators_do(kit: Harness) -> None:
    token = kit.issue().token
    assert kit.revoke() == 1
    kit.advance(days=9)
    assert kit.purge() == 1
    assert kit.events == [
        TokenIssued(selector=token[:32], account_id="alice"),
        TokensRevoked(account_id="alice", count=1),
        TokensPurged(count=1),
    ]


def test_mails_and_tickets(kit: Harness) -> None:
    account = replace(kit.accounts.add("alice", ADDRESS, notify=("work@example.org",)), locale="de")

    def find(_name: str) -> Account:
        return replace(account, stamp=kit.accounts.password("alice"))

    kit.replace("accounts", "find", find)
    kit.replace("accounts", "get", find)
    kit.request(code=True, context=CONTEXT)
    (mail,) = kit.reset_mails
    now = kit.clock()
    assert mail == ResetMail(
        to=ADDRESS,
        account=find(""),
        token=mail.token,
        link=f"https://app.example/reset#{mail.token}",
        code=mail.code,
        created_at=now,
        expires_at=now + 30 * MINUTE,
        code_expires_at=now + 10 * MINUTE,
        locale="de",
        context=CONTEXT,
    )
    assert mail.code
    by_link = ResetTicket(account_id="alice", expires_at=now + 30 * MINUTE)
    assert kit.check(mail.token) == by_link
    assert kit.check(code_token(mail.token[:32], mail.code)) == replace(by_link, expires_at=now + 10 * MINUTE)
    assert kit.reset(mail.token, context=CONTEXT) == by_link
    assert kit.notices == [
        PasswordChangedMail(to=to, account=find(""), changed_at=now, locale="de", context=CONTEXT)
        for to in (ADDRESS, "work@example.org")
    ]
