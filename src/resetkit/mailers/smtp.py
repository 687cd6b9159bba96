"""Mails over SMTP, encrypted, to a server whose certificate is verified."""

import smtplib
import ssl
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import localtime, make_msgid
from functools import partial
from typing import Final, Literal, get_args

from resetkit._checks import check_address, check_callable, check_duration, check_text, check_whole, is_header_text
from resetkit._confidential import Secret, clear_locals
from resetkit._fork import start_afresh_in_child
from resetkit._hosts import is_host, is_loopback
from resetkit._threads import Threads
from resetkit.errors import ConfigurationError
from resetkit.mailers.message import Compose, default_message
from resetkit.mails import Mail

Security = Literal["starttls", "tls", "plaintext"]
"""How the connection is encrypted: upgraded (RFC 3207), from its first byte (RFC 8314), or not at all."""

_PORTS: Final[dict[Security, int]] = {"starttls": 587, "tls": 465, "plaintext": 25}
_THREADS: Final = 10  # as many mails at once as the default dispatcher runs
_OK: Final = 250
_MAILERS_HEADERS: Final = ("From", "To", "Cc", "Bcc", "Sender", "Reply-To", "Date", "Message-ID", "Auto-Submitted")


class SMTPMailer:
    """Sends each mail to its one address through the SMTP server `host`.

    `sender` is the address that mails come from, `sender_name` the name beside it, `reply_to` where answers go.
    `security`: ``"starttls"`` (port 587), ``"tls"`` (465), or ``"plaintext"`` (25), which never carries a password but
    to a loopback host. `ssl_context` verifies the server; the default trusts the system's authorities. `timeout` bounds
    each wait for the server. With `reuse`, a connection is kept for the next mail as long as that. `compose` makes
    subject, text and HTML of a mail; see `default_message`.

    May be called from several threads; each mail has a connection to itself. Raises ConfigurationError at construction
    for what cannot be safe, and smtplib's, ssl's and socket's errors from `send`.
    """

    def __init__(
        self,
        host: str,
        *,
        sender: str,
        sender_name: str = "",
        reply_to: str | None = None,
        security: Security = "starttls",
        port: int | None = None,
        username: str | None = None,
        password: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout: timedelta = timedelta(seconds=10),
        reuse: timedelta | None = None,
        compose: Compose = default_message,
    ) -> None:
        self._host = _host(host)
        if security not in get_args(Security):
            raise ConfigurationError('security must be "starttls", "tls" or "plaintext"')
        self._security: Security = security
        self._port = _PORTS[security] if port is None else check_whole("port", port, least=1, most=65535)
        self._sender = check_address("sender", sender)
        if not is_header_text(check_text("sender_name", sender_name)):
            raise ConfigurationError("sender_name must be one line of plain text")
        self._from = _header_address(sender, sender_name)
        self._reply_to = None if reply_to is None else _header_address(check_address("reply_to", reply_to))
        self._login = _login(username, password, self._host, security)
        self._context = _verifying(ssl_context)
        self._timeout = check_duration("timeout", timeout, whole=False).total_seconds()
        self._reuse = 0.0 if reuse is None else check_duration("reuse", reuse, whole=False).total_seconds()
        check_callable("compose", compose)
        self._compose = compose
        self._start_afresh()
        start_afresh_in_child(self)

    def _start_afresh(self) -> None:
        self._idle: list[tuple[smtplib.SMTP, float]] = []
        self._lock = threading.Lock()

    def send(self, mail: Mail, /) -> None:
        """See `Mailer.send`."""
        outer = sys.exception()
        try:
            message = self._message(mail)
            with self._connection() as connection:
                connection.send_message(message, self._sender, [mail.to])
        except BaseException as error:
            clear_locals(error, outer)
            raise

    def close(self) -> None:
        """Close the connections that are kept for reuse."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            _quit(connection)

    def _message(self, mail: Mail) -> EmailMessage:
        message = self._compose(mail)
        if taken := [name for name in _MAILERS_HEADERS if name in message]:
            raise ConfigurationError(f"compose must leave {', '.join(taken)} to the mailer")
        message["From"] = self._from
        message["To"] = _header_address(check_address("to", mail.to))
        if self._reply_to is not None:
            message["Reply-To"] = self._reply_to
        message["Date"] = localtime()
        message["Message-ID"] = make_msgid(domain=self._from.domain)
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday answers
        return message

    @contextmanager
    def _connection(self) -> Generator[smtplib.SMTP, None, None]:
        connection = self._take_idle() or self._connect()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if self._reuse:
            with self._lock:
                self._idle.append((connection, time.monotonic()))
        else:
            _quit(connection)

    def _take_idle(self) -> smtplib.SMTP | None:
        """A kept connection that still answers. Those that do not are closed."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection, since = self._idle.pop()
            with suppress(smtplib.SMTPException, OSError):
                if time.monotonic() - since < self._reuse and connection.noop()[0] == _OK:
                    return connection
            connection.close()

    def _connect(self) -> smtplib.SMTP:
        if self._security == "tls":
            connection: smtplib.SMTP = smtplib.SMTP_SSL(
                self._host, self._port, timeout=self._timeout, context=self._context
            )
        else:
            connection = smtplib.SMTP(self._host, self._port, timeout=self._timeout)
        try:
            if self._security == "starttls":
                connection.starttls(context=self._context)
            connection.ehlo_or_helo_if_needed()
            if self._login is not None:
                connection.login(*self._login)
        except BaseException:
            connection.close()
            raise
        return connection


class AsyncSMTPMailer:
    """`SMTPMailer`, async: each mail is sent from a thread."""

    def __init__(
        self,
        host: str,
        *,
        sender: str,
        sender_name: str = "",
        reply_to: str | None = None,
        security: Security = "starttls",
        port: int | None = None,
        username: str | None = None,
        password: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout: timedelta = timedelta(seconds=10),
        reuse: timedelta | None = None,
        compose: Compose = default_message,
    ) -> None:
        self._mailer = SMTPMailer(
            host,
            sender=sender,
            sender_name=sender_name,
            reply_to=reply_to,
            security=security,
            port=port,
            username=username,
            password=password,
            ssl_context=ssl_context,
            timeout=timeout,
            reuse=reuse,
            compose=compose,
        )
        self._threads = Threads(_THREADS, "resetkit-smtp")

    async def send(self, mail: Mail, /) -> None:
        """See `Mailer.send`."""
        await self._threads.run(partial(self._mailer.send, mail))

    async def close(self) -> None:
        """As `SMTPMailer.close`."""
        await self._threads.run(self._mailer.close)
        self._threads.close()


def _header_address(address: str, name: str = "") -> Address:
    """The address as it is: `Address` parses what is given as one text, and refuses what some mailboxes are called."""
    username, _, domain = address.partition("@")
    return Address(display_name=name, username=username, domain=domain)


def _host(host: str) -> str:
    if not is_host(check_text("host", host)):
        raise ConfigurationError("host must be the name or address of an SMTP server; the port goes to port=")
    return host


def _login(username: str | None, password: str | None, host: str, security: Security) -> tuple[str, str] | None:
    if username is None and password is None:
        return None
    if username is None or password is None:
        raise ConfigurationError("username and password go together: give both or neither")
    if security == "plaintext" and not is_loopback(host):
        raise ConfigurationError('a password must not cross the network in clear: use security="starttls" or "tls"')
    return username, Secret(password)


def _verifying(context: ssl.SSLContext | None) -> ssl.SSLContext:
    if context is None:
        return ssl.create_default_context()
    if context.verify_mode != ssl.CERT_REQUIRED or not context.check_hostname:
        raise ConfigurationError(
            "ssl_context must verify certificate and host name; add your own authority to it instead"
        )
    return context


def _quit(connection: smtplib.SMTP) -> None:
    """Take leave. The mail is accepted by now, so an unfriendly goodbye is no failure."""
    with suppress(smtplib.SMTPException, OSError):
        connection.quit()
    connection.close()
