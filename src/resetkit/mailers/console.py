"""Mails on the console, for development: whoever sees the console sees the tokens."""

import sys
from typing import ClassVar, Final, TextIO

from resetkit._checks import check_callable
from resetkit.mailers.message import Compose, default_message
from resetkit.mails import Mail

_RULE: Final = "-" * 72


class ConsoleMailer:
    """Writes each mail's text to `stream`, standard output by default. Never use it in production."""

    sends_nothing: ClassVar[bool] = True
    """So that an `InlineDispatcher` goes with it: see there."""

    def __init__(self, stream: TextIO | None = None, *, compose: Compose = default_message) -> None:
        check_callable("compose", compose)
        if stream is not None:
            check_callable("stream.write", getattr(stream, "write", None))
        self._stream = stream
        self._compose = compose

    def send(self, mail: Mail, /) -> None:
        """See `Mailer.send`."""
        message = self._compose(mail)
        part = message.get_body(("plain", "html"))
        content = part.get_content() if part else ""
        stream = self._stream or sys.stdout
        stream.write(f"{_RULE}\nTo: {mail.to}\nSubject: {message['Subject']}\n\n{content}{_RULE}\n")
        stream.flush()


class AsyncConsoleMailer:
    """`ConsoleMailer`, async."""

    sends_nothing: ClassVar[bool] = True
    """As `ConsoleMailer.sends_nothing`."""

    def __init__(self, stream: TextIO | None = None, *, compose: Compose = default_message) -> None:
        self._mailer = ConsoleMailer(stream, compose=compose)

    async def send(self, mail: Mail, /) -> None:
        """See `Mailer.send`."""
        self._mailer.send(mail)
