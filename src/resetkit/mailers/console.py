"""Mails on the console, for development: whoever sees the console sees the tokens."""

import sys
from typing import TextIO

from resetkit.mailers.message import Compose, default_message
from resetkit.mails import Mail


class ConsoleMailer:
    """Writes each mail's text to `stream`, standard error by default. Never use it in production."""

    def __init__(self, stream: TextIO | None = None, *, compose: Compose = default_message) -> None:
        self._stream = stream
        self._compose = compose

    def send(self, mail: Mail, /) -> None:
        """See `Mailer.send`."""
        message = self._compose(mail)
        part = message.get_body(("plain", "html"))
        content = part.get_content() if part else ""
        stream = self._stream or sys.stderr
        stream.write(f"To: {mail.to}\nSubject: {message['Subject']}\n\n{content}\n")
        stream.flush()


class AsyncConsoleMailer:
    """`ConsoleMailer`, async."""

    def __init__(self, stream: TextIO | None = None, *, compose: Compose = default_message) -> None:
        self._mailer = ConsoleMailer(stream, compose=compose)

    async def send(self, mail: Mail, /) -> None:
        """See `Mailer.send`."""
        self._mailer.send(mail)
