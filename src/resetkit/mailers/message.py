"""What the mails say: subject, plain text and HTML. One function makes all three; give a mailer another to replace it.

The default texts carry the account's own data, escaped, and nothing that the visitor sent.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from html import escape
from typing import Final
from urllib.parse import urlsplit

from resetkit._tokens import CODE_LENGTH
from resetkit.mails import Mail, PasswordChangedMail, ResetMail

Compose = Callable[[Mail], EmailMessage]
"""Makes a message with Subject and content. The mailer adds From, To, Date and Message-ID itself."""

_MAX_LINE: Final = 998  # octets without the line's end; RFC 5322, 2.1.1

_PAGE: Final = """<!doctype html>
<html lang="en" dir="ltr">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
</head>
<body style="margin:0;padding:24px;font-family:system-ui,sans-serif;font-size:16px;line-height:1.5">
<div style="max-width:34em;margin:0 auto">
{body}
</div>
</body>
</html>
"""
_BUTTON: Final = (
    "display:inline-block;padding:12px 20px;border-radius:6px;background:#1f5fbf;color:#ffffff;text-decoration:none"
)
_PLAIN_LINK: Final = "word-break:break-all"
_CODE: Final = "font-family:ui-monospace,monospace;font-size:24px;letter-spacing:2px"


def default_message(mail: Mail, *, site: str = "") -> EmailMessage:
    """The message for `mail`, in English, with a text and an HTML part.

    `site` names the application, as in ``functools.partial(default_message, site="Example")``; without it the reset
    mail names the link's host.
    """
    if isinstance(mail, ResetMail):
        return _reset_message(mail, site or urlsplit(mail.link).hostname or "")
    return _changed_message(mail, site)


def _reset_message(mail: ResetMail, site: str) -> EmailMessage:
    lifetime = _duration(mail.expires_at - mail.created_at)
    end = f"The link works once, until {_instant(mail.expires_at)} ({lifetime} after this mail was sent)."
    asked = f"Somebody asked for a new password for the account {mail.to} at {site}."
    not_you = "If it was not you, do nothing: the password stays as it is, and nobody was given access."
    newest = "If several such mails came, use the newest."
    text = [asked, "To choose a new password, open this link:", mail.link]
    body = [
        _paragraph(asked),
        f'<p><a href="{escape(mail.link)}" style="{_BUTTON}">Choose a new password</a></p>',
        f'<p>Or open this link:<br><a href="{escape(mail.link)}" style="{_PLAIN_LINK}">{escape(mail.link)}</a></p>',
    ]
    if mail.code is not None and mail.code_expires_at is not None:
        code = f"{mail.code[: CODE_LENGTH // 2]}-{mail.code[CODE_LENGTH // 2 :]}"
        typed = f"Or type this code on the page where you asked, until {_instant(mail.code_expires_at)}:"
        text += [typed, f"    {code}"]
        body += [_paragraph(typed), f'<p style="{_CODE}">{escape(code)}</p>']
    text += [f"{end} {newest}", not_you]
    body += [_paragraph(f"{end} {newest}"), _paragraph(not_you)]
    return _message(f"Choose a new password for {site}", text, body)


def _changed_message(mail: PasswordChangedMail, site: str) -> EmailMessage:
    where = f" at {site}" if site else ""
    account = mail.to if mail.to == mail.account.email else f"whose notices go to {mail.to}"
    changed = f"The password of the account {account}{where} was changed at {_instant(mail.changed_at)}."
    ended = "If it was you, there is nothing to do."
    not_you = (
        "If it was not you, somebody can read this account's mail: change the password of the mailbox first, then ask "
        f"for a new password{where}, and tell the people who run the site."
    )
    paragraphs = [changed, ended, not_you]
    return _message(f"Your password{where} was changed", paragraphs, [_paragraph(each) for each in paragraphs])


def _message(subject: str, text: list[str], body: list[str]) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["Subject"] = subject
    _set_text(message, "\n\n".join(text) + "\n")
    message.add_alternative(_PAGE.format(title=escape(subject), body="\n".join(body)), subtype="html")
    return message


def _set_text(message: EmailMessage, text: str) -> None:
    """As plain lines where they may be: a link that is not folded can be read and copied in any program."""
    plain = text.isascii() and all(len(line) <= _MAX_LINE for line in text.splitlines())
    if plain:
        message.set_content(text, cte="7bit")
    else:
        message.set_content(text)


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _instant(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"


def _duration(duration: timedelta) -> str:
    minutes = max(1, round(duration / timedelta(minutes=1)))
    hours = minutes // 60
    if minutes % 60 or not hours:
        return f"{minutes} minute{'s' * (minutes != 1)}"
    return f"{hours} hour{'s' * (hours != 1)}"
