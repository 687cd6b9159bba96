"""Pure checks of form.

``is_`` answers; ``check_`` raises ConfigurationError, the developer's; ``require_`` InvalidRequestError, a visitor's.
"""

import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from resetkit._confidential import Secret
from resetkit.errors import ConfigurationError, InvalidRequestError

T = TypeVar("T")

_NOTHING: Final = timedelta(0)

MAX_ID_LENGTH: Final = 255
MAX_ADDRESS_LENGTH: Final = 254  # RFC 5321, 4.5.3.1.3: a path of 256, less its brackets
MAX_DURATION: Final = timedelta(days=3660)  # ten years: nothing of ours lasts longer, and dates cannot overflow

# What breaks a line, a header or an encoder: controls, lone surrogates, line and paragraph separators.
_BREAKING: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})

# Where an encoded word begins (RFC 2047): mail software that decodes one finds other text, line breaks included.
_ENCODED_WORD: Final = "=?"

# Beside those, what separates, quotes or comments in an address list (RFC 5322, 3.2.3 "specials", and the one white
# space that is printable). An address with a quoted local part is refused: mail software disagrees on where it goes.
_ADDRESS_SPECIALS: Final = frozenset('()<>[]:;\\," ')


def is_single_line(text: str) -> bool:
    """Whether `text` is free of controls, line breaks of any kind and lone surrogates."""
    return text.isprintable() or not any(unicodedata.category(char) in _BREAKING for char in text)


def is_header_text(text: str) -> bool:
    """Whether `text` is one line that stands for itself in a mail's header."""
    return is_single_line(text) and _ENCODED_WORD not in text


def is_encodable(text: str) -> bool:
    """Whether `text` is free of NUL and lone surrogates, which databases and encoders refuse."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def is_id(text: str) -> bool:
    """Whether an account could have this id: every store can hold it."""
    return 1 <= len(text) <= MAX_ID_LENGTH and is_encodable(text)


def require_text(name: str, value: object) -> str:
    """`value`, if it is a str; for what visitors send. Raises InvalidRequestError."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} must be a str, not {type(value).__name__}")
    return value


def require_secret(name: str, value: object) -> Secret:
    """`value` as `require_text` takes it, hidden from the locals that a traceback may show."""
    return value if isinstance(value, Secret) else Secret(require_text(name, value))


def check_type(name: str, value: object, kind: type[T]) -> T:
    """`value`, if it is of this type; bool is no int."""
    if type(value) is kind or (isinstance(value, kind) and not isinstance(value, bool)):
        return value
    raise ConfigurationError(f"{name} must be of type {kind.__name__}, not {type(value).__name__}")


def check_callable(name: str, value: object) -> None:
    """Refuse what cannot be called, now and not when it is needed."""
    if not callable(value):
        raise ConfigurationError(f"{name} must be a function, not {type(value).__name__}")


def check_text(name: str, value: object) -> str:
    """`value`, if it is text that encodes to UTF-8 and holds no NUL."""
    text = check_type(name, value, str)
    if not is_encodable(text):
        raise ConfigurationError(f"{name} must be text without NUL or lone surrogates, so that every store can keep it")
    return text


def check_id(name: str, value: object) -> str:
    """`value`, if every store can hold it and tell it from others byte for byte."""
    if isinstance(value, str) and is_id(value):
        return value
    text = check_text(name, value)
    raise ConfigurationError(f"{name} must have 1 to {MAX_ID_LENGTH} characters, not {len(text)}")


def check_address(name: str, value: object) -> str:
    """`value`, if it is one plain mail address that no mail software can read as two or as another."""
    text = check_text(name, value)
    local, _, domain = text.partition("@")
    plain = text.isprintable() and _ADDRESS_SPECIALS.isdisjoint(text)
    labelled = "@" not in domain and all(domain.split("."))
    if not (local and labelled and plain and _ENCODED_WORD not in text and len(text) <= MAX_ADDRESS_LENGTH):
        raise ConfigurationError(f"{name} must be one plain address such as user@example.org")
    return text


def check_ascii(name: str, value: object) -> str:
    """`value`, if it is non-empty printable ASCII, as hashes and selectors are."""
    if isinstance(value, str) and value and value.isascii() and value.isprintable():
        return value
    check_type(name, value, str)
    raise ConfigurationError(f"{name} must be non-empty printable ASCII text")


def check_whole(name: str, value: object, *, least: int, most: int | None = None) -> int:
    """`value`, if it is a whole number within bounds; bool is none."""
    number = check_type(name, value, int)
    if number < least or (most is not None and number > most):
        bound = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ConfigurationError(f"{name} must be {bound}, not {number}")
    return number


def check_duration(name: str, value: object, *, most: timedelta = MAX_DURATION, whole: bool = True) -> timedelta:
    """`value`, if it is a positive duration, at most `most`, and where `whole` asks for it of whole seconds."""
    duration = check_type(name, value, timedelta)
    if duration <= _NOTHING or (whole and duration.microseconds):
        raise ConfigurationError(f"{name} must be positive{' and in whole seconds' * whole}, not {duration}")
    if duration > most:
        raise ConfigurationError(f"{name} must be at most {most}, not {duration}")
    return duration


def check_instant(name: str, value: object) -> datetime:
    """`value`, if it is aware, in UTC and in whole seconds."""
    if type(value) is datetime and value.tzinfo is UTC and not value.microsecond:
        return value
    instant = check_type(name, value, datetime)
    if instant.utcoffset() != _NOTHING or instant.microsecond:
        raise ConfigurationError(f"{name} must be aware, in UTC and in whole seconds: datetime.now(UTC), rounded")
    return instant.astimezone(UTC)
