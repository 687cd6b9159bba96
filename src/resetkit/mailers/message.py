"""What the mails say: subject, plain text and HTML. One function makes all three; give a mailer another to replace it.

The default texts carry the account's own data, escaped, and nothing that the visitor sent. Those in other languages
stand in gettext's catalogues, under ``locale`` beside this file; docs/mails.md says how they are made.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from email.header import Header
from email.headerregistry import BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, Policy
from gettext import NullTranslations
from os import PathLike
from typing import ClassVar, Final, Literal
from urllib.parse import urlsplit

from typing_extensions import override

from resetkit._checks import check_text, is_header_text
from resetkit._tokens import CODE_LENGTH
from resetkit.errors import ConfigurationError
from resetkit.mailers import _page
from resetkit.mailers._catalogues import texts_for
from resetkit.mails import Mail, PasswordChangedMail, ResetMail

Compose = Callable[[Mail], EmailMessage]
"""Makes a message with Subject and content. The mailer adds From, To, Date and Message-ID itself."""

_MAX_LINE: Final = 998  # octets without the line's end; RFC 5322, 2.1.1
_MAX_ENCODED_LINE: Final = 76  # of a header; RFC 2047, 2


class _Subject(UnstructuredHeader, BaseHeader):
    """A subject that keeps its spaces: headerregistry's folding loses or doubles some between words that it encodes."""

    max_count: ClassVar[Literal[1] | None] = 1

    @override
    def fold(self, *, policy: Policy) -> str:
        """The header's lines."""
        plain = self.isascii() and len(f"{self.name}: {self}") <= _MAX_ENCODED_LINE
        charset = "us-ascii" if plain else "utf-8"
        header = Header(str(self), charset, header_name=self.name, maxlinelen=_MAX_ENCODED_LINE)
        return f"{self.name}: {header.encode(linesep=policy.linesep)}{policy.linesep}"


_HEADERS: Final = HeaderRegistry()
_HEADERS.map_to_type("subject", _Subject)
_POLICY: Final = SMTP.clone(cte_type="7bit", header_factory=_HEADERS)  # any server takes 7 bits


def default_message(mail: Mail, *, site: str = "", localedir: str | PathLike[str] | None = None) -> EmailMessage:
    """The message for `mail`, with a text and an HTML part, in the language that ``mail.locale`` names, or in English.

    `site` names the application, as in ``functools.partial(default_message, site="Example")``; without it the reset
    mail names the link's host. `localedir` holds catalogues of your own, as gettext lays them out
    (``<language>/LC_MESSAGES/resetkit.mo``): what stands there goes before resetkit's texts.

    Raises ConfigurationError for a `site` of more than one line, a `localedir` without a catalogue, and a text in a
    catalogue with placeholders that the English one has not.
    """
    if not is_header_text(check_text("site", site)):
        raise ConfigurationError("site must be one line of plain text")
    texts = texts_for(mail.locale, localedir)
    if isinstance(mail, ResetMail):
        return _reset_message(mail, site or urlsplit(mail.link).hostname or "", texts)
    return _changed_message(mail, site, texts)


def _reset_message(mail: ResetMail, site: str, texts: NullTranslations) -> EmailMessage:
    draft = _Draft(texts, address=mail.to, site=site)
    draft.say(texts.gettext("Somebody asked for a new password for the account %(address)s at %(site)s."))
    draft.show_link(mail.link)
    draft.say(
        texts.gettext(
            "The link works once, for %(duration)s, until %(time)s. If several such mails came, use the newest."
        ),
        duration=_duration(mail.expires_at - mail.created_at, texts),
        time=_instant(mail.expires_at, texts),
    )
    if mail.code is not None and mail.code_expires_at is not None:
        draft.say(texts.gettext("Or type this code on the page where you asked:"))
        draft.show_code(f"{mail.code[: CODE_LENGTH // 2]}-{mail.code[CODE_LENGTH // 2 :]}")
        draft.say(
            texts.gettext("The code works for %(duration)s, until %(time)s."),
            duration=_duration(mail.code_expires_at - mail.created_at, texts),
            time=_instant(mail.code_expires_at, texts),
        )
    draft.say(
        texts.gettext("If it was not you, ignore this mail: the password stays as it is, and nobody was given access.")
    )
    return draft.message(texts.gettext("Choose a new password for %(site)s"))


def _changed_message(mail: PasswordChangedMail, site: str, texts: NullTranslations) -> EmailMessage:
    draft = _Draft(texts, address=mail.to, site=site)
    draft.say(_changed(mail, site, texts), time=_instant(mail.changed_at, texts))
    draft.say(texts.gettext("If it was you, there is nothing to do."))
    draft.say(
        texts.gettext(
            "If it was not you, somebody can read this account's mail: change the password of the mailbox first, "
            "then ask for a new password, and tell the people who run the site."
        )
    )
    return draft.message(
        texts.gettext("Your password at %(site)s was changed") if site else texts.gettext("Your password was changed")
    )


def _changed(mail: PasswordChangedMail, site: str, texts: NullTranslations) -> str:
    own = mail.to == mail.account.email
    if own and site:
        return texts.gettext("The password of the account %(address)s at %(site)s was changed at %(time)s.")
    if own:
        return texts.gettext("The password of the account %(address)s was changed at %(time)s.")
    if site:
        return texts.gettext(
            "The password of the account at %(site)s whose notices go to %(address)s was changed at %(time)s."
        )
    return texts.gettext("The password of the account whose notices go to %(address)s was changed at %(time)s.")


class _Draft:
    """A mail while it is written: the same words as text and as HTML."""

    def __init__(self, texts: NullTranslations, **values: str) -> None:
        self._texts = texts
        self._values = values
        # Translators: ltr if your language is written from left to right, rtl if from right to left.
        self._direction = texts.pgettext("direction", "ltr")
        if self._direction not in {"ltr", "rtl"}:
            raise ConfigurationError('the catalogue must translate the text "ltr" as "ltr" or "rtl"')
        self._text: list[str] = []
        self._html: list[str] = []

    def say(self, template: str, **values: str) -> None:
        """A paragraph: what the catalogue has, filled in."""
        said = self._filled(template, values)
        self._text.append(said)
        self._html.append(_page.paragraph(said, unbroken=values.get("time", "")))

    def show_link(self, link: str) -> None:
        """The link, on a line to itself: nothing may be taken for a part of it."""
        self._text += [self._texts.gettext("To choose a new password, open this link:"), link]
        self._html += [
            _page.button(link, self._texts.gettext("Choose a new password")),
            _page.paragraph(self._texts.gettext("Or open this link:")),
            _page.address(link),
        ]

    def show_code(self, code: str) -> None:
        """The code, likewise."""
        self._text.append(f"    {code}")
        self._html.append(_page.code(code))

    def message(self, subject: str) -> EmailMessage:
        """What was written, under this subject."""
        message = EmailMessage(policy=_POLICY)
        message["Subject"] = _fill(subject, self._values)
        _set_text(message, "\n\n".join(self._text) + "\n")
        # Translators: the tag of your language, such as pt-BR.
        lang = self._texts.pgettext("language tag", "en")
        page = _page.page(self._filled(subject, {}), self._html, lang=lang, direction=self._direction)
        message.add_alternative(page, subtype="html")
        return message

    def _filled(self, template: str, values: dict[str, str]) -> str:
        return _fill(template, {name: self._isolated(value) for name, value in (self._values | values).items()})

    def _isolated(self, value: str) -> str:
        """`value`, kept from mixing with words in the other direction (Unicode, UAX 9, 2.4: FSI and PDI)."""
        return f"\u2068{value}\u2069" if self._direction == "rtl" else value


def _fill(template: str, values: dict[str, str] | dict[str, int]) -> str:
    try:
        return template % values
    except (KeyError, TypeError, ValueError):
        raise ConfigurationError(
            f"the catalogue's text {template!r} must have no other placeholders than {', '.join(sorted(values))}"
        ) from None


def _set_text(message: EmailMessage, text: str) -> None:
    """As plain lines where they may be: a link that is not folded can be read and copied in any program."""
    plain = text.isascii() and all(len(line) <= _MAX_LINE for line in text.splitlines())
    if plain:
        message.set_content(text, cte="7bit")
    else:
        message.set_content(text)


def _instant(instant: datetime, texts: NullTranslations) -> str:
    # Translators: the date in digits, as your language orders them, and the time. UTC must stand in it.
    template = texts.gettext("%(year)d-%(month)02d-%(day)02d %(hour)02d:%(minute)02d UTC")
    parts = ("year", "month", "day", "hour", "minute")
    return _fill(template, {part: getattr(instant, part) for part in parts})


def _duration(duration: timedelta, texts: NullTranslations) -> str:
    minutes = max(1, round(duration / timedelta(minutes=1)))
    hours, rest = divmod(minutes, 60)
    if rest:
        # Translators: as in "the link works for 30 minutes".
        template = texts.npgettext("works for", "%(count)d minute", "%(count)d minutes", minutes)
        return _fill(template, {"count": minutes})
    # Translators: as in "the link works for 2 hours".
    template = texts.npgettext("works for", "%(count)d hour", "%(count)d hours", hours)
    return _fill(template, {"count": hours})
