"""Jobs: the work left for after the answer, as JSON text that a queue may carry. No job holds a secret.

{"v": 1, "type": "reset", "realm", "selector", "identifier", "code", "context", "created_at", "attempt"}
{"v": 1, "type": "notice", "realm", "account_id", "to", "context", "changed_at", "attempt"}
"""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from resetkit._checks import check_address, check_id, check_text, check_whole, require_text
from resetkit._confidential import Confidential
from resetkit._tokens import is_selector
from resetkit.errors import ConfigurationError, InvalidRequestError

VERSION: Final = 1

_MAX_CONTEXT_ENTRIES: Final = 10
_MAX_CONTEXT_TEXT: Final = 200


class UnusableJobError(Exception):
    """A text that is no job of this version."""

    def __init__(self, reason: Literal["malformed", "version"]) -> None:
        super().__init__(reason)
        self.reason: Literal["malformed", "version"] = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetJob(Confidential):
    """Mail whoever this identifier belongs to, under this selector."""

    realm: str
    selector: str
    identifier: str
    code: bool
    context: Mapping[str, str]
    created_at: datetime
    attempt: int = 1

    def __post_init__(self) -> None:
        if not is_selector(self.selector):
            raise ConfigurationError("selector must be one that make_selector made")
        check_text("identifier", self.identifier)
        check_whole("attempt", self.attempt, least=1)
        self._hide("identifier")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeJob(Confidential):
    """Tell this address that the account's password was changed."""

    realm: str
    account_id: str
    to: str
    context: Mapping[str, str]
    changed_at: datetime
    attempt: int = 1

    def __post_init__(self) -> None:
        check_id("account_id", self.account_id)
        check_address("to", self.to)
        check_whole("attempt", self.attempt, least=1)
        self._hide("to")


Job = ResetJob | NoticeJob


def encode_job(job: Job) -> str:
    """The job's text. It names an identifier or address, so it is not for logs."""
    content: dict[str, Any] = {"v": VERSION, "type": "reset" if isinstance(job, ResetJob) else "notice"}
    for each in fields(job):
        value = getattr(job, each.name)
        content[each.name] = int(value.timestamp()) if isinstance(value, datetime) else value
    return json.dumps(content)


def decode_job(text: str) -> Job:
    """The job that `encode_job` wrote. Raises UnusableJobError for anything else."""
    try:
        content: Any = json.loads(text)
        version: Any = content["v"]
    except (ValueError, RecursionError, TypeError, KeyError):
        raise UnusableJobError("malformed") from None
    if type(version) is not int or version != VERSION:
        raise UnusableJobError("version")
    return _build(content)


def next_attempt(job: Job) -> Job:
    """The same job, to be tried once more."""
    return replace(job, attempt=job.attempt + 1)


def _build(content: Any) -> Job:
    try:
        match content:
            case {
                "type": "reset",
                "realm": str(realm),
                "selector": str(selector),
                "identifier": str(identifier),
                "code": bool(code),
                "context": context,
                "created_at": int(created_at),
                "attempt": int(attempt),
            }:
                return ResetJob(
                    realm=realm,
                    selector=selector,
                    identifier=identifier,
                    code=code,
                    context=clean_context(context),
                    created_at=datetime.fromtimestamp(created_at, UTC),
                    attempt=attempt,
                )
            case {
                "type": "notice",
                "realm": str(realm),
                "account_id": str(account_id),
                "to": str(to),
                "context": context,
                "changed_at": int(changed_at),
                "attempt": int(attempt),
            }:
                return NoticeJob(
                    realm=realm,
                    account_id=account_id,
                    to=to,
                    context=clean_context(context),
                    changed_at=datetime.fromtimestamp(changed_at, UTC),
                    attempt=attempt,
                )
            case _:
                raise UnusableJobError("malformed")
    except (InvalidRequestError, ValueError, OverflowError, OSError):
        raise UnusableJobError("malformed") from None


def clean_context(context: Mapping[str, str]) -> dict[str, str]:
    """The visitor's context, cut to 10 entries of 200 printable characters. Raises InvalidRequestError."""
    if not _is_mapping(context):
        raise InvalidRequestError(f"context must be a mapping, not {type(context).__name__}")
    entries = itertools.islice(context.items(), _MAX_CONTEXT_ENTRIES)
    return {_printable("a name in context", name): _printable("a value in context", text) for name, text in entries}


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _printable(name: str, value: object) -> str:
    return "".join(char for char in require_text(name, value)[:_MAX_CONTEXT_TEXT] if char.isprintable())
