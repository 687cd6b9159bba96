"""What passes between application, manager and adapters: frozen values, checked at construction.

Fields that hold a secret or an address show ``<hidden>`` in ``repr`` and ``str``, and such a value refuses pickling
and ``dataclasses.asdict``. The attribute itself is a ``str`` with the plain text.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

from resetkit._checks import check_address, check_ascii, check_id, check_instant, check_text, check_type, check_whole
from resetkit._confidential import Confidential
from resetkit.errors import ConfigurationError

Kind = Literal["mail", "operator"]
"""Who asked for a token: a visitor, who gets it by mail, or an operator, who is handed it."""

State = Literal["outstanding", "used", "superseded", "revoked"]
"""What became of a record. Expiry is no state: it is read from ``expires_at``."""

_KINDS: Final = get_args(Kind)
_STATES: Final = get_args(State)

RECEIPT_MESSAGE: Final = "If there is an account for what you typed, a mail with the next step is on its way."


@dataclass(frozen=True, slots=True, kw_only=True)
class Account(Confidential):
    """One person's entry in the application, as ``AccountDirectory`` reports it.

    ``id`` never changes: 1 to 255 characters, UTF-8, no NUL. ``email`` is where the reset mail goes, always the
    stored address, one plain ``local@domain``. ``stamp`` is any text that changes when the password does; the
    stored password hash serves, and only a digest of it is kept. ``can_reset=False`` (disabled, single sign-on
    only) makes every answer the same as for an unknown account. ``notify`` are more addresses that learn of a
    changed password. ``locale`` is the language of this person's mails, a tag such as ``"de"`` or
    ``"pt-BR"``; the default mails are in English without one, or with one that they do not know.
    """

    id: str
    email: str
    stamp: str
    can_reset: bool = True
    notify: tuple[str, ...] = ()
    locale: str | None = None

    def __post_init__(self) -> None:
        check_id("Account.id", self.id)
        check_address("Account.email", self.email)
        check_type("Account.stamp", self.stamp, str)
        check_type("Account.can_reset", self.can_reset, bool)
        check_type("Account.notify", self.notify, tuple)
        for address in self.notify:
            check_address("Account.notify", address)
        if self.locale is not None:
            check_text("Account.locale", self.locale)
        self._hide("email", "stamp", "notify")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord(Confidential):
    """What a store keeps for one mail: one selector, a hash for the link, where asked for a second for the code.

    ``selector``: ASCII, unique. ``account_id``: text of 1 to 255 characters, compared byte for byte.
    ``link_hash``, ``code_hash``, ``stamp_digest``: ASCII. Times are aware, UTC, in whole seconds, so an integer
    column holds them. ``keep_until``: before it a purge must leave the record. ``guesses``: counted tries of the
    code. ``claim_id``: who used it, as long as that claim may still be released.
    """

    selector: str
    account_id: str
    kind: Kind
    link_hash: str
    code_hash: str | None = None
    stamp_digest: str
    created_at: datetime
    expires_at: datetime
    code_expires_at: datetime | None = None
    keep_until: datetime
    guesses: int = 0
    state: State = "outstanding"
    claim_id: str | None = None

    def __post_init__(self) -> None:
        check_ascii("TokenRecord.selector", self.selector)
        check_id("TokenRecord.account_id", self.account_id)
        if self.kind not in _KINDS:
            raise ConfigurationError(f"TokenRecord.kind must be one of {', '.join(_KINDS)}")
        if self.state not in _STATES:
            raise ConfigurationError(f"TokenRecord.state must be one of {', '.join(_STATES)}")
        check_ascii("TokenRecord.link_hash", self.link_hash)
        check_ascii("TokenRecord.stamp_digest", self.stamp_digest)
        check_whole("TokenRecord.guesses", self.guesses, least=0)
        if (self.code_hash is None) != (self.code_expires_at is None):
            raise ConfigurationError("TokenRecord.code_hash and code_expires_at go together: give both or neither")
        put = object.__setattr__  # on a frozen value
        put(self, "created_at", check_instant("TokenRecord.created_at", self.created_at))
        put(self, "expires_at", check_instant("TokenRecord.expires_at", self.expires_at))
        put(self, "keep_until", check_instant("TokenRecord.keep_until", self.keep_until))
        if self.code_hash is not None:
            check_ascii("TokenRecord.code_hash", self.code_hash)
            put(self, "code_expires_at", check_instant("TokenRecord.code_expires_at", self.code_expires_at))
        if self.claim_id is not None and self.state != "used":
            raise ConfigurationError("TokenRecord.claim_id belongs to a used record only")
        self._hide("link_hash", "code_hash", "stamp_digest")

    def is_outstanding(self, now: datetime) -> bool:
        """Whether the record is neither ended nor expired. Expiry is exclusive: at ``expires_at`` it is expired."""
        return self.state == "outstanding" and now < self.expires_at


REPLACED_FIELDS: Final = ("link_hash", "code_hash", "stamp_digest", "expires_at", "code_expires_at", "keep_until")
"""What a second `add` under the same selector replaces, see `TokenStore.add`; all else stays."""


@dataclass(frozen=True, slots=True)
class Quota:
    """No more than ``count`` records of one account and kind created at or after ``since``."""

    count: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetReceipt:
    """The one answer to a request, the same whoever asked.

    ``handle`` is there for everyone when a code was asked for: keep it in the form beside the code's field, and
    join both with `code_token`. ``message`` is a fixed English sentence for the page.
    """

    handle: str | None = None
    message: str = RECEIPT_MESSAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetTicket:
    """What a good token stands for: whose it is, and until when (aware, UTC) the given link or code is good."""

    account_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken(Confidential):
    """A token made for an operator to hand over. ``token`` and ``link`` are secret: who reads them can reset."""

    token: str
    link: str
    expires_at: datetime

    def __post_init__(self) -> None:
        self._hide("token", "link")
