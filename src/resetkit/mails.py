"""What is sent: one frozen value for each mail. A mailer turns it into a message, see `resetkit.mailers`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from resetkit._confidential import Confidential
from resetkit.values import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetMail(Confidential):
    """The mail that carries a token, to ``to`` and nobody else.

    ``link`` is the whole address to click, ``token`` the part of it that a page hands to ``reset_password``.
    ``code`` is there when one was asked for: 8 letters to type beside the page that asked. ``expires_at`` ends
    the link, ``code_expires_at`` the code; ``created_at`` is when the mail was made. Times are aware and UTC.
    ``context`` is what the visitor's request carried (address, device): visitors choose it, so a composer that
    shows it must escape it. The default mails do not show it.
    """

    to: str
    account: Account
    token: str
    link: str
    code: str | None
    created_at: datetime
    expires_at: datetime
    code_expires_at: datetime | None
    locale: str | None
    context: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)

    def __post_init__(self) -> None:
        self._hide("to", "token", "link", "code")


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordChangedMail(Confidential):
    """The notice that a password was changed, one mail for each address. ``context`` as in `ResetMail`."""

    to: str
    account: Account
    changed_at: datetime
    locale: str | None
    context: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)

    def __post_init__(self) -> None:
        self._hide("to")


Mail = ResetMail | PasswordChangedMail
"""Whatever a mailer may be asked to send."""
