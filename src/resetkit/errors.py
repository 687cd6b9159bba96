"""What can go wrong, split by whose fault it is: the visitor's, the developer's, an adapter's.

No error carries a token, code, hash, stamp, identifier or password, so each may be logged as it is.
"""

from collections.abc import Iterator
from typing import ClassVar, Final, Literal

from typing_extensions import override

TokenReason = Literal["unknown", "expired", "used", "superseded", "revoked", "stale"]
"""Why a token is refused. All but ``"unknown"`` are told only to who holds the real secret."""

_TOKEN_TEXTS: Final[dict[TokenReason, str]] = {
    "unknown": "This link or code is not valid. Check it, or ask for a new mail.",
    "expired": "This link or code has expired. Ask for a new mail.",
    "used": "This link or code was already used. Ask for a new mail if you need one.",
    "superseded": "A newer mail was sent. Please use that one.",
    "revoked": "This link or code was withdrawn. Ask for a new mail.",
    "stale": "The account has changed since this mail was sent. Ask for a new mail.",
}


_REJECTED_TEXT: Final = "Please choose another password."


def _flat(messages: tuple[object, ...]) -> Iterator[object]:
    """The sentences, whether given one by one or as the list that a validator returns."""
    for each in messages:
        if isinstance(each, list | tuple):
            yield from each
        else:
            yield each


class ResetError(Exception):
    """The visitor's: what a request can end in. ``str()`` is a sentence for logs and pages."""

    _WORD: ClassVar[str] = "reset"

    @property
    def reason(self) -> str:
        """A word for programs."""
        return self._WORD


class InvalidTokenError(ResetError):
    """The token opens nothing.

    ``reason`` is ``"unknown"`` unless the secret matched: ``"expired"``, ``"used"``, ``"superseded"`` (a newer
    mail was sent), ``"revoked"`` or ``"stale"`` (password, address or standing of the account changed since).
    """

    def __init__(self, reason: TokenReason = "unknown") -> None:
        super().__init__(reason)
        self._reason: TokenReason = reason

    @property
    @override
    def reason(self) -> TokenReason:
        """Why, as a word for programs."""
        return self._reason

    @override
    def __str__(self) -> str:
        return _TOKEN_TEXTS[self._reason]


class PasswordRejectedError(ResetError):
    """The new password was refused; nothing was changed and the token is still good.

    ``reason`` is ``"password_rejected"``.

    Raised by ``AccountDirectory.set_password`` with sentences for the visitor, and by the manager for a password that
    is empty, longer than the policy allows, or holds NUL or a lone surrogate. The sentences are in ``messages`` alone,
    not in ``str()``: an application's own may quote the password, and an error's text goes to logs.
    """

    _WORD = "password_rejected"
    messages: tuple[str, ...]

    def __init__(self, *messages: str) -> None:
        super().__init__()
        self.messages = tuple(str(each) for each in _flat(messages)) or (_REJECTED_TEXT,)

    @override
    def __str__(self) -> str:
        return "The new password was refused. Show the visitor what .messages says."

    @override
    def __reduce__(self) -> tuple[type["PasswordRejectedError"], tuple[str, ...]]:
        return type(self), self.messages


class ThrottledError(ResetError):
    """Too many requests. ``retry_after`` is in whole seconds, rounded up, fit for an HTTP Retry-After.

    ``reason`` is ``"throttled"``.
    """

    _WORD = "throttled"
    retry_after: int

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after

    @override
    def __str__(self) -> str:
        return f"Too many requests. Try again in {self.retry_after} seconds."


class InvalidRequestError(ResetError, TypeError):
    """An argument is of the wrong type: a list, a number or bytes where text belongs. Nothing was done.

    ``reason`` is ``"invalid_request"``.
    """

    _WORD = "invalid_request"


class ConfigurationError(ValueError):
    """The developer's: a value, policy, link or adapter that cannot be safe. The text says what to change."""


class DuplicateSelectorError(Exception):
    """A store's: ``add`` met a record of another account under this selector. Nothing was changed."""

    def __init__(self) -> None:
        super().__init__("this selector already belongs to another account's record")
