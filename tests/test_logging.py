"""The default log of events: on without any setting, readable by people and machines, and never in the way."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final, get_args

import pytest
import structlog
from pythonjsonlogger.json import JsonFormatter

from harness import Harness, roomy
from resetkit import ThrottledError
from resetkit.events import (
    Event,
    GuessRefused,
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
    TokenRefused,
    TokensPurged,
    TokensRevoked,
    log_event,
)

MakeHarness = Callable[..., Harness]

LOGGER: Final = logging.getLogger("resetkit")
CONTEXT: Final = {"ip": "192.0.2.1", "agent": 'a "browser"'}
WHOSE: Final[dict[str, Any]] = {"selector": "5e1ec7", "account_id": "alice"}
LEVELS: Final[dict[Event, str]] = {
    ResetRequested(selector="5e1ec7", code=True, context=CONTEXT): "INFO",
    RequestThrottled(action="request", by="client", retry_after=60, context=CONTEXT): "INFO",
    RequestThrottled(action="request", by="identifier", retry_after=60): "INFO",
    RequestThrottled(action="redeem", by="client", retry_after=60): "INFO",
    RequestThrottled(action="request", by="capacity", retry_after=5): "WARNING",
    RequestDropped(reason="empty"): "INFO",
    RequestDropped(reason="unknown", selector="5e1ec7"): "INFO",
    RequestDropped(reason="cannot_reset", **WHOSE): "INFO",
    RequestDropped(reason="quota", **WHOSE): "INFO",
    RequestDropped(reason="repeated", **WHOSE): "INFO",
    RequestDropped(reason="gone", account_id="alice"): "INFO",
    RequestDropped(reason="late", selector="5e1ec7"): "WARNING",
    RequestDropped(reason="malformed"): "WARNING",
    RequestDropped(reason="version"): "WARNING",
    RequestDropped(reason="realm"): "WARNING",
    MailSent(mail="reset", waited=1, **WHOSE): "INFO",
    MailSent(mail="notice", account_id="alice"): "INFO",
    MailFailed(mail="reset", attempt=1, error="OSError", at="here", retry=True, selector="5e1ec7"): "WARNING",
    MailFailed(mail="notice", attempt=4, error="OSError", at="here", retry=False, account_id="alice"): "ERROR",
    TokenChecked(**WHOSE): "INFO",
    TokenRefused(reason="malformed"): "INFO",
    GuessRefused(selector="5e1ec7", exhausted=True, account_id="alice"): "INFO",
    PasswordReset(context=CONTEXT, **WHOSE): "INFO",
    PasswordReset(error="TimeoutError", **WHOSE): "ERROR",
    PasswordRejected(): "INFO",
    SessionsNotEnded(account_id="alice", error="OSError"): "ERROR",
    TokenIssued(**WHOSE): "INFO",
    TokensRevoked(account_id="alice", count=2): "INFO",
    TokensPurged(count=3): "INFO",
    JobLost(mail="reset", selector="5e1ec7"): "ERROR",
}
EVENTS: Final = pytest.mark.parametrize("event", LEVELS, ids=lambda event: type(event).__name__)
ALARM: Final = SessionsNotEnded(account_id="alice", error="OSError")


@pytest.fixture
def read() -> Iterator[Callable[[logging.Formatter], Callable[[], Any]]]:
    """Log at the level of information with this formatter; afterwards, the one line, read as JSON."""
    handlers: list[logging.Handler] = []

    def listen(formatter: logging.Formatter) -> Callable[[], Any]:
        stream = io.StringIO()
        handlers.append(logging.StreamHandler(stream))
        handlers[-1].setFormatter(formatter)
        LOGGER.addHandler(handlers[-1])
        return lambda: json.loads(stream.getvalue())

    LOGGER.setLevel(logging.INFO)
    yield listen
    LOGGER.setLevel(logging.NOTSET)
    for handler in handlers:
        LOGGER.removeHandler(handler)


def as_json(event: Event) -> dict[str, Any]:
    return {"event": type(event).__name__, **asdict(event)}


def test_every_event_has_its_level_here() -> None:
    assert {type(event) for event in LEVELS} == set(get_args(Event))


@EVENTS
def test_each_event_is_one_record_with_its_name_its_fields_and_its_level(
    event: Event, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    log_event(event)
    (record,) = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == ("resetkit", LEVELS[event], str(event))
    assert vars(record)["resetkit"] == as_json(event)
    assert record.msg == f"{type(event).__name__}%s"  # what error trackers group lines by


@EVENTS
def test_python_json_logger_writes_the_fields(
    event: Event, read: Callable[[logging.Formatter], Callable[[], Any]]
) -> None:
    line = read(JsonFormatter())
    log_event(event)
    assert line() == {"message": str(event), "resetkit": as_json(event)}


@EVENTS
def test_structlog_writes_the_fields(event: Event, read: Callable[[logging.Formatter], Callable[[], Any]]) -> None:
    rendered = structlog.stdlib.ProcessorFormatter(
        processor=structlog.processors.JSONRenderer(), foreign_pre_chain=[structlog.stdlib.ExtraAdder()]
    )
    line = read(rendered)
    log_event(event)
    assert line() == {"event": str(event), "resetkit": as_json(event)}


def test_a_throttled_look_is_json_too(make_harness: MakeHarness) -> None:
    kit = make_harness(policy=roomy(client_limit=(1, timedelta(minutes=1))))
    token = kit.token()
    kit.check(token, client="192.0.2.1")
    with pytest.raises(ThrottledError):
        kit.check(token, client="192.0.2.1")
    assert json.loads(json.dumps(as_json(kit.events[-1])))["event"] == "RequestThrottled"


def test_nothing_is_read_of_an_event_that_nobody_logs(caplog: pytest.LogCaptureFixture) -> None:
    unreadable: Any = object()
    caplog.set_level(logging.WARNING)
    log_event(unreadable)
    caplog.set_level(logging.INFO)
    with pytest.raises(TypeError):
        log_event(unreadable)


def test_fields_of_the_application_s_own_record_factory_are_in_nobody_s_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A key that a record has already is a KeyError of `logging`."""
    usual = logging.getLogRecordFactory()

    def make(*args: Any, **options: Any) -> logging.LogRecord:
        record = usual(*args, **options)
        vars(record).update({"error": None, "context": {}, "event": "", "account_id": "the one who is logged in"})
        return record

    logging.setLogRecordFactory(make)
    try:
        log_event(ALARM)
    finally:
        logging.setLogRecordFactory(usual)
    assert vars(caplog.records[0])["resetkit"] == as_json(ALARM)


def test_neither_a_failing_observer_nor_failing_logging_changes_what_a_reset_does(make_harness: MakeHarness) -> None:
    def fail(_: object) -> bool:
        raise OSError("away")

    kit = make_harness(on_event=fail)
    LOGGER.addFilter(fail)
    try:
        token = kit.token()
        with kit.failing("accounts.end_sessions before", ConnectionError("away")), pytest.raises(ConnectionError):
            kit.reset(token)
        kit.manager = kit.make_manager(on_event=log_event)
        kit.reset(kit.token())
    finally:
        LOGGER.removeFilter(fail)
    assert len(kit.notices) == 2


UNCONFIGURED: Final = """
import logging
logger = logging.getLogger("resetkit")
import resetkit
from resetkit.events import JobLost, TokensPurged, log_event
assert (logger.handlers, logger.level, logger.propagate, logging.root.handlers) == ([], logging.NOTSET, True, [])
log_event(TokensPurged(count=1))
log_event(JobLost(mail="reset"))
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
log_event(TokensPurged(count=2))
"""


def test_without_any_setting_alarms_are_shown_once_and_no_handler_is_installed() -> None:
    ran = subprocess.run([sys.executable, "-c", UNCONFIGURED], capture_output=True, text=True, check=True)
    assert ran.stderr.splitlines() == [
        "JobLost(mail='reset', account_id=None, selector=None)",
        "INFO TokensPurged(count=2)",
    ]
