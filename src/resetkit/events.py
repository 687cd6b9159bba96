"""What happened: one frozen value for each outcome, for logs, metrics and alarms.

None holds a token, code, hash, stamp, identifier, address or password. ``selector`` names a record and is no
secret. ``context`` is what the application passed to the call: at most 10 entries of 200 printable characters.
Names of events and of their fields stay as they are within a major version: alarms are built on them.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final, Literal

from resetkit.errors import TokenReason

_logger: Final = logging.getLogger("resetkit")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetRequested:
    """A request was accepted and handed over; whether there is an account is not known yet."""

    selector: str
    code: bool
    context: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestThrottled:
    """A call was refused: too many by this client or for this identifier, or the dispatcher is full."""

    action: Literal["request", "redeem"]
    by: Literal["client", "identifier", "capacity"]
    retry_after: int
    context: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDropped:
    """A job ended without a mail, and the visitor was told nothing.

    ``"empty"``: what was typed cannot be an identifier. ``"unknown"``: no account. ``"cannot_reset"``: the account
    may not. ``"quota"``: enough mails for now. ``"repeated"``: delivered twice. ``"late"``: older than a link lives.
    ``"gone"``: the account of a notice no longer exists. ``"malformed"``, ``"version"``, ``"realm"``: no job of ours.
    """

    reason: Literal[
        "empty", "unknown", "cannot_reset", "quota", "repeated", "late", "gone", "malformed", "version", "realm"
    ]
    selector: str | None = None
    account_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSent:
    """The mailer took a mail. ``selector`` is None for a notice.

    ``waited``: whole seconds from the request, or from the change of the password, until this try was begun.
    """

    mail: Literal["reset", "notice"]
    account_id: str
    selector: str | None = None
    waited: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MailFailed:
    """A job failed in the directory, the store or the mailer.

    ``error`` is the exception's type name, for its text may quote an address; a ConfigurationError comes with its
    text. ``at`` says where it was raised: file, line and function. ``retry``: it is tried again.
    """

    mail: Literal["reset", "notice"]
    attempt: int
    error: str
    at: str
    retry: bool
    account_id: str | None = None
    selector: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenChecked:
    """A token was looked at and is good."""

    selector: str
    account_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefused:
    """A link, or a code whose secret matched, was refused. ``"malformed"``: it has not the form of a token."""

    reason: TokenReason | Literal["malformed"]
    selector: str | None = None
    account_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuessRefused:
    """A code was wrong, or no guess was left (``exhausted``)."""

    selector: str
    exhausted: bool
    account_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordReset:
    """A password was set.

    ``error`` is None, or the type name of the exception that left it unknown whether the write took place.
    """

    selector: str
    account_id: str
    error: str | None = None
    context: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordRejected:
    """A new password was refused, by the policy of the manager (no account known yet) or of the directory."""

    selector: str | None = None
    account_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsNotEnded:
    """Ending the account's sessions failed after its password was written: end them by hand. An alarm."""

    account_id: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIssued:
    """An operator was handed a token."""

    selector: str
    account_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensRevoked:
    """All outstanding tokens of an account were ended."""

    account_id: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensPurged:
    """Records past their keep time were deleted."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLost:
    """A job will not be run: it could not be handed over, or was left when the manager closed."""

    mail: Literal["reset", "notice"]
    account_id: str | None = None
    selector: str | None = None


Event = (
    ResetRequested
    | RequestThrottled
    | RequestDropped
    | MailSent
    | MailFailed
    | TokenChecked
    | TokenRefused
    | GuessRefused
    | PasswordReset
    | PasswordRejected
    | SessionsNotEnded
    | TokenIssued
    | TokensRevoked
    | TokensPurged
    | JobLost
)
"""Whatever ``on_event`` may be called with."""


def log_event(event: Event) -> None:
    """The default ``on_event``: one line to the logger ``resetkit``, for people and for machines.

    The record's attribute ``resetkit`` is a dict of the fields, and of ``"event"``, the event's name: all of it JSON.
    An error is what must be put right by hand, a warning what grows into one, all else is information.
    """
    level = _level(event)
    if _logger.isEnabledFor(level):
        name = type(event).__name__
        told = {each.name: getattr(event, each.name) for each in fields(event)}
        # One key, for a name like "error" or "context" may be taken. The template has the name, to group lines by.
        template = name + "%s"
        _logger.log(level, template, str(event).removeprefix(name), extra={"resetkit": {"event": name, **told}})


def _level(event: Event) -> int:
    """Nothing that a stranger alone can bring about is above information, unless it keeps mails from others."""
    match event:
        case ResetRequested() | MailSent() | TokenIssued() | TokenChecked():  # first, for most are of these
            return logging.INFO
        case SessionsNotEnded() | JobLost() | MailFailed(retry=False) | PasswordReset(error=str()):
            return logging.ERROR
        case (
            MailFailed()
            | RequestThrottled(by="capacity")
            | RequestDropped(reason="late" | "malformed" | "version" | "realm")
        ):
            return logging.WARNING
        case _:
            return logging.INFO
