"""Known failures of answers: what they tell, how long they take, how many there are, and what is left afterwards.

Each sentence begins with the id of a failure in docs/attacks.md, or says whose sibling it is.
"""

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings

from harness import ADDRESS, KEY, LINK, Colour, Harness, roomy
from resetkit import (
    AsyncResetManager,
    InvalidTokenError,
    KeyedTokenHasher,
    Mail,
    ResetManager,
    ResetPolicy,
    ResetReceipt,
    ThrottledError,
    code_token,
)
from resetkit.dispatch import AsyncInlineDispatcher, AsyncTaskDispatcher, InlineDispatcher, ThreadDispatcher
from resetkit.events import GuessRefused, MailFailed, RequestThrottled
from resetkit.mailers import AsyncMemoryMailer, MemoryMailer
from resetkit.stores import AsyncMemoryTokenStore, MemoryTokenStore
from resetkit.testing import AsyncFakeAccounts, FakeAccounts, strategies
from test_jobs import AsyncQueue, Queue

MakeHarness = Callable[..., Harness]

MINUTES = timedelta(minutes=1)
WRONG = "BBBB-BBBB"
WHO = {
    "known": ADDRESS,
    "unknown": "nobody@example.com",
    "disabled": "disabled@example.org",
    "shared": "twice@example.org",
    "malformed": "no address",
    "empty": "",
    "hostile": "\0\ud800",
}


def populate(kit: Harness) -> None:
    kit.accounts.add("disabled", WHO["disabled"])
    kit.accounts.change("disabled", can_reset=False)
    for name in ("first", "second"):
        kit.accounts.add(name, WHO["shared"])


def reason(kit: Harness, token: str) -> str:
    with pytest.raises(InvalidTokenError) as refused:
        kit.reset(token)
    return refused.value.reason


# Who has an account, by the answer.


def test_every_kind_of_account_is_answered_alike_in_words_and_in_what_is_raised(kit: Harness) -> None:
    """CVE-2022-39307, CVE-2013-4198, H1-261297, SS-2016-011: also when disabled, shared or over quota."""
    populate(kit)
    answers = {repr(kit.request(who, client="192.0.2.1")) for who in WHO.values()}
    for _ in range(25):  # beyond the account's quota
        answers.add(repr(kit.request(client="192.0.2.1")))
    assert answers == {repr(ResetReceipt())}
    assert {str(mail.to) for mail in kit.mailer.outbox} == {ADDRESS}


@given(identifier=strategies.identifiers())
@settings(max_examples=50)
def test_any_identifier_has_the_one_answer(kit: Harness, identifier: str) -> None:
    """CVE-2017-5537, CVE-2026-28288: whatever is typed, well-formed or not."""
    assert kit.request(identifier) == ResetReceipt()


def test_a_throttled_answer_is_the_same_for_known_and_unknown(make_harness: MakeHarness) -> None:
    """A sibling of CVE-2022-39307: the limit comes at the same call, with the same words and the same wait."""
    told: dict[str, list[str]] = {}
    for who in WHO.values():
        if who in {"", WHO["hostile"]}:
            continue  # no identifiers: these count by client only, for everyone
        kit = make_harness(policy=ResetPolicy())
        populate(kit)
        told[who] = []
        for _ in range(8):
            try:
                told[who].append(repr(kit.request(who)))
            except ThrottledError as throttled:
                told[who].append(f"{throttled} {throttled.retry_after}")
    assert len({tuple(each) for each in told.values()}) == 1
    assert "900" in told[ADDRESS][-1]


def test_a_mailer_that_always_fails_is_nobody_s_business(kit: Harness) -> None:
    """CVE-2024-45231: known and unknown are answered alike, with a code too, and nothing escapes."""
    with kit.failing("mailer.send before", OSError("away")):
        assert kit.request() == kit.request("nobody@example.com")
        coded, other = kit.request(code=True), kit.request("nobody@example.com", code=True)
    assert coded.message == other.message
    assert coded.handle is not None
    assert other.handle is not None
    assert reason(kit, code_token(coded.handle, WRONG)) == reason(kit, code_token(other.handle, WRONG)) == "unknown"
    assert {event.error for event in kit.of(MailFailed)} == {"OSError"}


def test_a_stranger_s_token_has_one_answer_whatever_the_record(kit: Harness) -> None:
    """CVE-2026-43926, CVE-2013-2104: malformed, or of any record: one type, one text, both ways in."""
    kit.accounts.add("bob", "bob@example.org")
    live, used, revoked = kit.issue("bob").token, kit.token(), ""
    kit.reset(used)
    revoked = kit.token()
    kit.revoke()
    superseded = kit.token()
    kit.token()
    wrong = "0" * 64
    guesses = ["", "0" * 96, *(token[:32] + wrong for token in (live, used, revoked, superseded))]
    kit.advance(minutes=31)
    guesses.append(superseded[:32] + wrong)
    answers: set[tuple[type, str, str]] = set()
    for guess in guesses:
        for way in (kit.check, kit.reset):
            with pytest.raises(InvalidTokenError) as refused:
                way(guess)
            answers.add((type(refused.value), str(refused.value), refused.value.reason))
    assert answers == {(InvalidTokenError, str(InvalidTokenError()), "unknown")}


# Who has an account, by time: what is done before the answer, and what it waits for.


def done_before_the_answer(kit: Harness) -> dict[str, list[str]]:
    """The steps that each kind of visitor's answer waits for."""
    populate(kit)
    done: dict[str, list[str]] = {}
    for name, who in WHO.items():
        kit.steps.clear()
        kit.request(who)
        done[name] = list(kit.steps)
    return done


def test_the_answer_waits_for_no_look_up_no_hash_and_no_mail(make_harness: MakeHarness, colour: Colour) -> None:
    """CVE-2020-11063, SS-2017-005, SS-2025-001, CVE-2024-39329, CVE-2016-2513: no port is asked before."""
    hashed: list[bytes] = []

    class Noting(KeyedTokenHasher):
        def hash(self, secret: bytes, /) -> str:
            hashed.append(secret)
            return super().hash(secret)

    queue = AsyncQueue() if colour == "async" else Queue()
    kit = make_harness(dispatcher=queue, hasher=Noting([KEY]))
    hashed.clear()  # the dummy's, made at construction
    assert done_before_the_answer(kit) == {name: [] for name in WHO}
    assert hashed == []
    lengths = {len(job) - job.count("\\") for job in queue.jobs}
    assert len(queue.jobs) == len(WHO)
    assert max(lengths) - min(lengths) < 100


def test_work_within_the_answer_is_seen_by_the_same_look(make_harness: MakeHarness, colour: Colour) -> None:
    """CVE-2021-29621, CVE-2022-21659: a broken twin: with the work inside, known and unknown differ."""
    kit = make_harness(dispatcher=AsyncInlineDispatcher() if colour == "async" else InlineDispatcher())
    done = done_before_the_answer(kit)
    assert done["known"] != done["unknown"]
    assert done["disabled"] != done["known"]


class StuckMailer(MemoryMailer):
    """A mail server that does not answer until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = threading.Event(), threading.Event()

    def send(self, mail: Mail, /) -> None:
        self.asked.set()
        assert self.go.wait(60)
        super().send(mail)


class AsyncStuckMailer(AsyncMemoryMailer):
    """`StuckMailer`, async."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def send(self, mail: Mail, /) -> None:
        self.asked.set()
        await asyncio.wait_for(self.go.wait(), 60)
        await super().send(mail)


QUICK = roomy(head_start=timedelta(microseconds=1))


def test_an_answer_waits_for_no_mail_server() -> None:
    """GHSA-jrc6-fmhw-fpq2, CVE-2026-40263, CVE-2022-36105, H1-3424977: with one that hangs, all are answered."""
    accounts, mailer = FakeAccounts(), StuckMailer()
    accounts.add("alice", ADDRESS)
    with ResetManager(
        accounts,
        MemoryTokenStore(),
        mailer,
        link=LINK,
        policy=QUICK,
        hasher=KeyedTokenHasher([KEY]),
        dispatcher=ThreadDispatcher(),
    ) as manager:
        assert manager.request_reset(ADDRESS, client=None) == ResetReceipt()
        assert mailer.asked.wait(60)
        assert manager.request_reset("nobody", client=None) == manager.request_reset(ADDRESS, client=None)
        assert mailer.outbox == []
        mailer.go.set()
    assert [mail.to for mail in mailer.outbox] == [ADDRESS, ADDRESS]


def test_an_async_answer_waits_for_no_mail_server() -> None:
    """CVE-2026-40263: the same for tasks."""

    async def story() -> None:
        accounts, mailer = FakeAccounts(), AsyncStuckMailer()
        accounts.add("alice", ADDRESS)
        async with AsyncResetManager(
            AsyncFakeAccounts(accounts),
            AsyncMemoryTokenStore(),
            mailer,
            link=LINK,
            policy=QUICK,
            hasher=KeyedTokenHasher([KEY]),
            dispatcher=AsyncTaskDispatcher(),
        ) as manager:
            assert await manager.request_reset(ADDRESS, client=None) == ResetReceipt()
            await asyncio.wait_for(mailer.asked.wait(), 60)
            assert await manager.request_reset("nobody", client=None) == ResetReceipt()
            assert mailer.outbox == []
            mailer.go.set()
        assert [mail.to for mail in mailer.outbox] == [ADDRESS]

    asyncio.run(story())


def test_a_mail_inside_the_answer_makes_it_wait() -> None:
    """A broken twin of the two above: with the job in the visitor's path nobody is answered before the mail is sent."""
    accounts, mailer = FakeAccounts(), StuckMailer()
    accounts.add("alice", ADDRESS)
    manager = ResetManager(
        accounts,
        MemoryTokenStore(),
        mailer,
        link=LINK,
        policy=QUICK,
        hasher=KeyedTokenHasher([KEY]),
        dispatcher=InlineDispatcher(),
    )
    answered = threading.Event()

    def ask() -> None:
        manager.request_reset(ADDRESS, client=None)
        answered.set()

    asking = threading.Thread(target=ask)
    asking.start()
    assert mailer.asked.wait(60)
    assert not answered.is_set()
    mailer.go.set()
    asking.join()
    assert answered.is_set()


# How many.


def test_a_thousand_requests_in_a_minute_mail_the_quota(make_harness: MakeHarness) -> None:
    """GHSA-277c-prw2-rqgh, H1-1691195, H1-794395: three mails, and one answer for all."""
    kit = make_harness(policy=ResetPolicy(identifier_limit=(10_000, MINUTES), client_limit=(10_000, MINUTES)))
    assert {kit.request() for _ in range(1000)} == {ResetReceipt()}
    assert len(kit.reset_mails) == 3


def test_requests_by_a_stranger_touch_neither_password_nor_sessions_nor_an_operator_s_token(kit: Harness) -> None:
    """OWASP Forgot Password: nobody is locked out; the account works as before, and so does what an operator gave."""
    issued = kit.issue().token
    for _ in range(300):
        kit.request(code=True)
    assert kit.accounts.password("alice") == "old"
    assert kit.accounts.sessions("alice") == 1
    newest = kit.reset_mails[-1].token
    kit.check(newest)
    kit.reset(issued)


def test_limits_hold_from_whatever_address_they_are_asked(make_harness: MakeHarness) -> None:
    """H1-723974, H1-889246, H1-855013: another client each time: identifier's limit and account's quota hold."""
    kit = make_harness(policy=ResetPolicy())
    answered = 0
    for number in range(200):
        context = {"X-Forwarded-For": f"198.51.100.{number}", "unrelated": str(number)}
        try:
            kit.request(
                [ADDRESS, ADDRESS.upper(), f" {ADDRESS}"][number % 3], client=f"192.0.2.{number}", context=context
            )
            answered += 1
        except ThrottledError:
            continue
    assert answered == 5
    assert len(kit.reset_mails) <= 3
    assert {event.by for event in kit.of(RequestThrottled)} == {"identifier"}


def test_no_field_beside_the_identifier_makes_another_bucket(make_harness: MakeHarness) -> None:
    """CVE-2025-64526: context, code and letter case change no key; only what was typed and who asks."""
    kit = make_harness(policy=roomy(identifier_limit=(3, 15 * MINUTES)))
    kit.request(context={"id": "1"})
    kit.request(ADDRESS.title(), code=True)
    kit.request(f"{ADDRESS}\u00a0", context={"id": "2", "email": "other"})
    with pytest.raises(ThrottledError):
        kit.request(context={"id": "3"})


def test_guesses_at_nobody_s_tokens_count_too(make_harness: MakeHarness) -> None:
    """CVE-2007-6737: by client, whether or not there is a record, for links and for codes."""
    for guess in ("0" * 96, f"{'0' * 32}-BBBBBBBB"):
        kit = make_harness(policy=roomy(client_limit=(5, 15 * MINUTES)))
        for _ in range(5):
            with pytest.raises(InvalidTokenError):
                kit.check(guess, client="192.0.2.1")
        with pytest.raises(ThrottledError):
            kit.reset(guess, client="192.0.2.1")


def test_the_right_code_after_the_last_guess_is_as_wrong_as_any(kit: Harness) -> None:
    """CVE-2024-12039, GHSA-9pvm-fcf6-9234: five guesses, counted for the record, whoever makes them and however."""
    handle, code = kit.code()
    for number in range(5):
        with pytest.raises(InvalidTokenError):
            (kit.check if number % 2 else kit.reset)(code_token(handle, WRONG), client=f"192.0.2.{number}")
    assert reason(kit, code_token(handle, code)) == "unknown"
    assert [event.exhausted for event in kit.of(GuessRefused)] == [False] * 5 + [True]


def test_a_code_s_chance_is_computed_and_too_great_a_one_is_refused() -> None:
    """H1-743545, H1-271533, H1-730067: more guesses a day than the bound make no policy; the default is within it."""
    assert ResetPolicy().guesses_a_day == 100
    for guesses, quotas in ((6, ((20, 1440 * MINUTES),)), (5, ((1, 15 * MINUTES),)), (101, ((1, 1440 * MINUTES),))):
        with pytest.raises(ValueError, match="guesses a day"):
            ResetPolicy(code_guesses=guesses, account_quotas=quotas)


# Afterwards.


def test_sessions_are_ended_once_and_before_the_caller_is_told(kit: Harness) -> None:
    """CVE-2022-23502, CVE-2021-41268, CVE-2015-8314, CVE-2019-10641, CVE-2022-47406, H1-997127: after the write."""
    token = kit.token()
    for _ in range(3):
        kit.accounts.log_in("alice")
    kit.steps.clear()
    kit.reset(token)
    assert kit.accounts.sessions("alice") == 0
    assert kit.steps.count("accounts.end_sessions before") == 1
    assert kit.steps.index("accounts.set_password after") < kit.steps.index("accounts.end_sessions before")


def test_a_reset_asks_the_application_for_nothing_but_password_and_sessions(kit: Harness) -> None:
    """H1-2543342, H1-53531, CVE-2019-12203: no second factor is touched, nobody is logged in, no session is made."""
    token = kit.token()
    kit.steps.clear()
    ticket = kit.reset(token)
    asked = {step.removeprefix("accounts.").partition(" ")[0] for step in kit.steps if step.startswith("accounts.")}
    assert asked == {"get", "set_password", "end_sessions"}
    assert set(ticket.__slots__) == {"account_id", "expires_at"}


def test_looking_changes_nothing_at_all(kit: Harness) -> None:
    """H1-1086752, H1-6910: what a GET does writes no record, sends no mail, ends no session, as often as it is done."""
    token = kit.token()
    record, mails = kit.record(token), len(kit.mailer.outbox)
    kit.steps.clear()
    for _ in range(20):
        kit.check(token)
    assert (kit.record(token), len(kit.mailer.outbox)) == (record, mails)
    assert {step.partition(" ")[0] for step in kit.steps} == {"store.get", "accounts.get"}


def test_the_old_address_is_told_too_and_the_notice_holds_no_secret(kit: Harness) -> None:
    """NIST SP 800-63B-4 4.6, ASVS 5.0 6.3.7, ASVS 4.0 2.5.5: every stored address is told."""
    kit.accounts.add("alice", "new@example.org", notify=(ADDRESS,))
    kit.request("new@example.org")
    token = kit.reset_mails[-1].token
    with kit.failing("mailer.send before", OSError("away")):
        kit.reset(token, "new")
    assert kit.accounts.password("alice") == "new"
    assert {(event.mail, event.error) for event in kit.of(MailFailed)} == {("notice", "OSError")}
    kit.request("new@example.org")
    kit.reset(kit.reset_mails[-1].token, "newer")
    assert [mail.to for mail in kit.notices] == ["new@example.org", ADDRESS]
    assert not [mail for mail in kit.notices if hasattr(mail, "token") or hasattr(mail, "link")]


def test_a_failing_end_of_sessions_is_never_a_silent_success(kit: Harness) -> None:
    """CVE-2023-40273: the caller gets an error, and a second try is not possible with the spent token."""
    token = kit.token()
    error: Any = OSError("cookies cannot be ended")
    with kit.failing("accounts.end_sessions before", error), pytest.raises(OSError, match="cookies"):
        kit.reset(token, "new")
    assert reason(kit, token) == "used"
