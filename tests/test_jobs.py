"""Jobs: delivered twice, late, or to the wrong place."""

import copy
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import ADDRESS, Harness, roomy
from resetkit import ConfigurationError, InvalidRequestError, InvalidTokenError, code_token
from resetkit._jobs import NoticeJob, ResetJob, UnusableJobError, decode_job, encode_job
from resetkit.events import MailFailed, MailSent, RequestDropped
from resetkit.testing._records import NOW

MakeHarness = Callable[..., Harness]


class Queue:
    """A job queue: keeps what it is given, as text."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.delays: list[timedelta] = []

    def dispatch(self, job: str, _run: object, /, *, delay: timedelta = timedelta(0)) -> None:
        self.delays.append(delay)
        self.jobs.append(pickle.loads(pickle.dumps(copy.deepcopy(job))))  # as queues do

    def close(self, _timeout: float, /) -> None: ...


class AsyncQueue(Queue):
    async def dispatch(self, job: str, _run: object, /, *, delay: timedelta = timedelta(0)) -> None:  # type: ignore[override]  # the other colour
        Queue.dispatch(self, job, _run, delay=delay)

    async def close(self, _timeout: float, /) -> None: ...  # type: ignore[override]  # the other colour


@pytest.fixture
def queued(make_harness: MakeHarness, colour: str) -> tuple[Harness, list[str]]:
    """A harness whose jobs wait in a queue."""
    queue = AsyncQueue() if colour == "async" else Queue()
    return make_harness(dispatcher=queue), queue.jobs


def reasons(kit: Harness) -> list[str]:
    return [event.reason for event in kit.of(RequestDropped)]


def test_a_job_holds_no_secret(queued: tuple[Harness, list[str]]) -> None:
    kit, jobs = queued
    handle = kit.request(code=True, context={"ip": "192.0.2.1"}).handle
    assert json.loads(jobs[0]) == {
        "v": 1,
        "type": "reset",
        "realm": "",
        "selector": handle,
        "identifier": ADDRESS,
        "code": True,
        "context": {"ip": "192.0.2.1"},
        "created_at": int(kit.clock().timestamp()),
        "attempt": 1,
    }
    kit.run_job(jobs[0])
    mail = kit.reset_mails[0]
    assert mail.token[32:] not in jobs[0]
    kit.reset(mail.token, "a new secret", context={"ip": "192.0.2.9"})
    notice = json.loads(jobs[1])
    assert notice == {
        "v": 1,
        "type": "notice",
        "realm": "",
        "account_id": "alice",
        "to": ADDRESS,
        "context": {"ip": "192.0.2.9"},
        "changed_at": int(kit.clock().timestamp()),
        "attempt": 1,
    }
    kit.run_job(jobs[1])
    assert len(kit.notices) == 1
    assert kit.notices[0].changed_at == kit.clock()


def test_before_the_answer_nothing_is_asked_of_accounts_store_or_mailer(make_harness: MakeHarness, colour: str) -> None:
    """So nothing that the visitor waits for can depend on the account."""
    queue = AsyncQueue() if colour == "async" else Queue()
    kit = make_harness(dispatcher=queue)
    for who in (ADDRESS, "nobody@example.org", ""):
        kit.request(who, client="192.0.2.1", code=True)
    assert kit.steps == []
    assert len(queue.jobs) == 3


def test_a_job_gives_the_answer_a_head_start_of_random_length_and_a_notice_none(
    make_harness: MakeHarness, colour: str
) -> None:
    """Begun at once, its work would slow the answer down for known accounts only."""
    queue = AsyncQueue() if colour == "async" else Queue()
    kit = make_harness(policy=roomy(head_start=timedelta(seconds=2)), dispatcher=queue)
    for _ in range(50):
        kit.request()
        kit.request("nobody")
    assert all(timedelta(seconds=1) <= delay < timedelta(seconds=2) for delay in queue.delays)
    assert len(set(queue.delays)) > 20
    kit.run_job(queue.jobs[0])
    kit.reset(kit.reset_mails[0].token)
    assert queue.delays[-1] == timedelta(0)


def test_a_failing_mail_waits_twice_as_long_each_time(make_harness: MakeHarness, colour: str) -> None:
    kit = make_harness(policy=roomy(mail_attempts=4, mail_retry_delay=timedelta(seconds=5)))
    delays: list[timedelta] = []
    original = kit.manager
    engine = original if colour == "async" else original._engine
    dispatch = engine._dispatcher.dispatch

    async def noting(job: str, run: Any, /, *, delay: timedelta = timedelta(0)) -> None:
        delays.append(delay)
        await dispatch(job, run, delay=delay)

    engine._dispatcher.dispatch = noting
    with kit.failing("mailer.send before", OSError("away")):
        kit.request()
    assert [delay.total_seconds() for delay in delays[1:]] == [5, 10, 20]


def test_a_job_delivered_twice_mails_twice_and_only_the_last_mail_works(
    queued: tuple[Harness, list[str]],
) -> None:
    kit, jobs = queued
    handle = kit.request(code=True).handle
    assert handle is not None
    kit.run_job(jobs[0])
    kit.run_job(jobs[0])
    first, second = kit.reset_mails
    assert first.token[:32] == second.token[:32] == handle
    for dead in (first.token, code_token(handle, first.code or "")):
        with pytest.raises(InvalidTokenError) as refused:
            kit.reset(dead)
        assert refused.value.reason == "unknown"
    kit.reset(second.token)


def test_a_job_delivered_again_after_its_token_was_used_mails_nothing(queued: tuple[Harness, list[str]]) -> None:
    kit, jobs = queued
    for code in (False, True):
        kit.request(code=code)
        job = jobs[-1]
        kit.run_job(job)
        kit.reset(kit.reset_mails[-1].token, f"new {code}")
        mails = len(kit.reset_mails)
        kit.run_job(job)
        assert len(kit.reset_mails) == mails
    assert reasons(kit) == ["repeated", "repeated"]


def test_the_first_record_under_a_handle_stays_what_it_is(queued: tuple[Harness, list[str]]) -> None:
    """A decoy stays a decoy when the account appears, and a record stays the account's when it goes."""
    kit, jobs = queued
    handle = kit.request("bob@example.org", code=True).handle
    assert handle is not None
    kit.run_job(jobs[0])
    kit.accounts.add("bob", "bob@example.org")
    kit.run_job(jobs[0])
    decoy = kit.record(handle)
    assert decoy is not None
    assert decoy.account_id != "bob"
    mine = kit.request("bob@example.org", code=True).handle
    assert mine is not None
    kit.run_job(jobs[1])
    kit.accounts.remove("bob")
    kit.run_job(jobs[1])
    record = kit.record(mine)
    assert record is not None
    assert record.account_id == "bob"
    assert reasons(kit) == ["unknown", "repeated", "repeated"]
    assert len(kit.reset_mails) == 1


def test_a_decoy_made_for_the_quota_stays_one(make_harness: MakeHarness, colour: str) -> None:
    queue = AsyncQueue() if colour == "async" else Queue()
    hour = timedelta(hours=1)
    policy = roomy(account_quotas=((1, hour),), code_guesses=4, link_lifetime=2 * hour)
    kit = make_harness(policy=policy, dispatcher=queue)
    kit.request()
    kit.run_job(queue.jobs[0])
    kit.request(code=True)
    kit.run_job(queue.jobs[1])
    kit.advance(minutes=61)
    kit.run_job(queue.jobs[1])
    assert len(kit.reset_mails) == 1
    assert reasons(kit) == ["quota", "repeated"]


def test_a_second_delivery_keeps_the_guesses_already_counted(queued: tuple[Harness, list[str]]) -> None:
    kit, jobs = queued
    handle = kit.request(code=True).handle
    assert handle is not None
    kit.run_job(jobs[0])
    for _ in range(5):
        with pytest.raises(InvalidTokenError):
            kit.reset(code_token(handle, "BBBBBBBB"))
    kit.run_job(jobs[0])
    with pytest.raises(InvalidTokenError):
        kit.reset(code_token(handle, kit.reset_mails[-1].code or ""))


def test_a_late_job_is_dropped_at_the_very_second(queued: tuple[Harness, list[str]]) -> None:
    kit, jobs = queued
    kit.request()
    kit.advance(minutes=30, seconds=-1)
    kit.run_job(jobs[0])
    assert len(kit.reset_mails) == 1
    kit.advance(seconds=1)
    kit.run_job(jobs[0])
    assert len(kit.reset_mails) == 1
    assert reasons(kit) == ["late"]


def test_a_forged_job_carries_no_more_context_than_a_request(queued: tuple[Harness, list[str]]) -> None:
    kit, jobs = queued
    kit.request()
    forged = json.loads(jobs[0]) | {"context": {f"a\r\n{number}": "x" * 5000 for number in range(51)}}
    kit.run_job(json.dumps(forged))
    context = kit.reset_mails[0].context
    assert list(context) == [f"a{number}" for number in range(10)]
    assert set(map(len, context.values())) == {200}


def test_a_late_notice_is_still_sent(queued: tuple[Harness, list[str]]) -> None:
    kit, jobs = queued
    kit.request()
    kit.run_job(jobs[0])
    kit.reset(kit.reset_mails[0].token)
    kit.advance(days=3)
    kit.run_job(jobs[1])
    assert len(kit.notices) == 1


def test_a_notice_goes_to_the_address_of_the_reset_even_after_a_change(queued: tuple[Harness, list[str]]) -> None:
    kit, jobs = queued
    kit.request()
    kit.run_job(jobs[0])
    kit.reset(kit.reset_mails[0].token)
    kit.accounts.change("alice", email="thief@example.org")
    kit.run_job(jobs[1])
    assert [mail.to for mail in kit.notices] == [ADDRESS]


def test_a_notice_for_an_account_that_is_gone_is_dropped(queued: tuple[Harness, list[str]]) -> None:
    kit, jobs = queued
    kit.request()
    kit.run_job(jobs[0])
    kit.reset(kit.reset_mails[0].token)
    kit.accounts.remove("alice")
    kit.run_job(jobs[1])
    assert kit.notices == []
    assert reasons(kit) == ["gone"]


def test_a_job_of_another_realm_is_refused_with_an_event(queued: tuple[Harness, list[str]]) -> None:
    kit, jobs = queued
    kit.request()
    kit.manager = kit.make_manager(realm="tenant b")
    kit.run_job(jobs[0])
    assert kit.reset_mails == []
    assert reasons(kit) == ["realm"]


def test_run_job_raises_what_failed_so_that_the_queue_tries_again(queued: tuple[Harness, list[str]]) -> None:
    kit, jobs = queued
    kit.request()
    with kit.failing("mailer.send before", OSError("away")), pytest.raises(OSError, match="away"):
        kit.run_job(jobs[0])
    assert [(event.attempt, event.retry) for event in kit.of(MailFailed)] == [(1, False)]
    assert len(jobs) == 1
    kit.run_job(jobs[0])
    kit.reset(kit.reset_mails[0].token)
    assert len(kit.of(MailSent)) == 1


VALID: dict[str, Any] = {
    "v": 1,
    "type": "reset",
    "realm": "",
    "selector": "0" * 32,
    "identifier": ADDRESS,
    "code": False,
    "context": {},
    "created_at": 1_900_000_000,
    "attempt": 1,
}


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ("", "malformed"),
        ("null", "malformed"),
        ("[]", "malformed"),
        ("{}", "malformed"),
        ("[" * 100_000, "malformed"),
        (json.dumps({**VALID, "v": 2}), "version"),
        (json.dumps({**VALID, "v": "1"}), "version"),
        (json.dumps({**VALID, "type": "other"}), "malformed"),
        (json.dumps({**VALID, "type": "notice"}), "malformed"),
        (json.dumps({**VALID, "selector": ""}), "malformed"),
        (json.dumps({**VALID, "selector": ["x"]}), "malformed"),
        (json.dumps({**VALID, "selector": "x" * 300}), "malformed"),
        (json.dumps({**VALID, "selector": "A" * 32}), "malformed"),
        (json.dumps({**VALID, "created_at": 253402300799}), "late"),
        (json.dumps({**VALID, "identifier": None}), "malformed"),
        (json.dumps({**VALID, "identifier": "\ud800"}), "malformed"),
        (json.dumps({**VALID, "attempt": 0}), "malformed"),
        (json.dumps({**VALID, "context": []}), "malformed"),
        (json.dumps({**VALID, "context": {"ip": 5}}), "malformed"),
        (json.dumps({**VALID, "created_at": 10**20}), "malformed"),
        (json.dumps({**VALID, "created_at": -(10**20)}), "malformed"),
    ],
)
def test_what_is_no_job_is_dropped_with_an_event_and_no_error(kit: Harness, job: str, reason: str) -> None:
    kit.run_job(job)
    assert reasons(kit) == [reason]
    assert kit.steps == []


def test_a_job_that_is_no_text_is_refused(kit: Harness) -> None:
    with pytest.raises(InvalidRequestError):
        kit.run_job(VALID)


instants = st.datetimes(
    min_value=datetime(1971, 1, 1),  # noqa: DTZ001  # Hypothesis adds the zone
    max_value=datetime(9000, 1, 1),  # noqa: DTZ001  # Hypothesis adds the zone
    timezones=st.just(UTC),
).map(lambda instant: instant.replace(microsecond=0))
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
contexts = st.dictionaries(st.text("ab c", max_size=9), st.text("xyz", max_size=9), max_size=9)


@given(texts, texts, st.booleans(), contexts, instants, st.integers(1, 9))
def test_a_reset_job_reads_as_it_was_written(
    realm: str, identifier: str, code: bool, context: dict[str, str], at: datetime, attempt: int
) -> None:
    job = ResetJob(
        realm=realm,
        selector="0" * 32,
        identifier=identifier,
        code=code,
        context=context,
        created_at=at,
        attempt=attempt,
    )
    assert decode_job(encode_job(job)) == job


@given(texts, contexts, instants)
def test_a_notice_job_reads_as_it_was_written(realm: str, context: dict[str, str], at: datetime) -> None:
    job = NoticeJob(realm=realm, account_id="alice", to=ADDRESS, context=context, changed_at=at)
    assert decode_job(encode_job(job)) == job


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_a_job_or_is_said_to_be_none(text: str) -> None:
    try:
        decode_job(text)
    except UnusableJobError as unusable:
        assert unusable.reason in {"malformed", "version"}  # noqa: PT017  # either outcome is right
        assert str(unusable) == unusable.reason  # noqa: PT017  # as above


@pytest.mark.parametrize(
    ("name", "value"), [("account_id", ""), ("account_id", None), ("to", "nobody"), ("attempt", 0), ("attempt", True)]
)
def test_what_is_wrong_in_a_notice_is_named(name: str, value: Any) -> None:
    fields: dict[str, Any] = {"realm": "", "account_id": "alice", "to": ADDRESS, "context": {}, "changed_at": NOW}
    assert NoticeJob(**fields).attempt == 1
    with pytest.raises(ConfigurationError, match=rf"^{name} must "):
        NoticeJob(**(fields | {name: value}))


@pytest.mark.parametrize(
    ("name", "value"), [("selector", "0" * 31), ("identifier", "\0"), ("identifier", None), ("attempt", 0)]
)
def test_what_is_wrong_in_a_reset_job_is_named(name: str, value: Any) -> None:
    fields: dict[str, Any] = {
        "realm": "",
        "selector": "0" * 32,
        "identifier": "",
        "code": False,
        "context": {},
        "created_at": NOW,
    }
    assert ResetJob(**fields).attempt == 1
    with pytest.raises(ConfigurationError, match=rf"^{name} must "):
        ResetJob(**(fields | {name: value}))


def test_neither_repr_nor_str_of_a_job_shows_whom_it_is_for() -> None:
    job = ResetJob(
        realm="", selector="0" * 32, identifier=ADDRESS, code=False, context={}, created_at=datetime.now(UTC)
    )
    notice = NoticeJob(realm="", account_id="alice", to=ADDRESS, context={}, changed_at=datetime.now(UTC))
    assert ADDRESS not in f"{job!r} {job} {notice!r} {notice}"
