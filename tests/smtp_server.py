"""Real mail servers on loopback for tests: one that works (aiosmtpd), and one that answers as it is told.

Each runs in a loop of its own in a thread of its own, on a port that the system chose.
"""

import asyncio
import ssl
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from enum import Enum, auto
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

T = TypeVar("T")
Security = Literal["starttls", "tls", "plaintext"]

USERNAME: Final = "postman"
PASSWORD: Final = "pass word of the postman"  # nosec


class Certificates:
    """An authority that nobody knows, and what it signs."""

    def __init__(self) -> None:
        self._authority = trustme.CA()

    def server_context(self, *names: str) -> ssl.SSLContext:
        """What a server named so presents; localhost and 127.0.0.1 by default."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate = self._authority.issue_cert(*(names or ("localhost", "127.0.0.1")))
        certificate.configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # it takes pyOpenSSL's too
        return context

    def client_context(self) -> ssl.SSLContext:
        """One that trusts this authority."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]  # as above
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A mail that the server took, and how it came."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    encrypted: bool
    logged_in: bool

    @property
    def message(self) -> EmailMessage:
        """The content, parsed."""
        return message_from_bytes(self.content, policy=policy.default)


class _Server(ABC):
    """The thread, its loop, and the listening socket."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: int = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="smtp-server")

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._call(self._listen())
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def drop_connections(self) -> None:
        """Hang up on everybody, without a word."""
        self._call(self._drop())

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    @abstractmethod
    async def _listen(self) -> asyncio.Server: ...

    @abstractmethod
    async def _drop(self) -> None: ...

    async def _stop(self) -> None:
        self._server.close()
        await self._drop()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*rest, return_exceptions=True)
        await self._server.wait_closed()


class MailServer(_Server):
    """A server that works: it takes mail, from who has logged in if `login` is required, and keeps it.

    `context` encrypts: with ``"starttls"`` nothing is taken before it, with ``"tls"`` from the first byte on.
    `faults` are the answers to the first mails instead of taking them; an empty one hangs up. With `loses_answers`
    it takes the mail all the same.
    """

    def __init__(
        self,
        security: Security = "plaintext",
        context: ssl.SSLContext | None = None,
        *,
        login: bool = False,
        smtputf8: bool = True,
        faults: tuple[str, ...] = (),
        loses_answers: bool = False,
    ) -> None:
        super().__init__()
        self.deliveries: list[Delivery] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.quits = 0
        self._security = security
        self._context = context
        self._login = login
        self._smtputf8 = smtputf8
        self._faults = list(faults)
        self._loses_answers = loses_answers
        self._sessions: list[SMTP] = []

    async def _listen(self) -> asyncio.Server:
        implicit = self._context if self._security == "tls" else None
        return await self._loop.create_server(self._session, "127.0.0.1", 0, ssl=implicit)

    async def _drop(self) -> None:
        for session in self._sessions:
            if isinstance(session.transport, asyncio.WriteTransport):
                session.transport.abort()

    def _session(self) -> SMTP:
        self.connections += 1
        starttls = self._security == "starttls"
        session = SMTP(
            self,
            hostname="localhost",
            enable_SMTPUTF8=self._smtputf8,
            tls_context=self._context if starttls else None,
            require_starttls=starttls,
            auth_require_tls=starttls,
            authenticator=self._authenticate,
            loop=self._loop,
        )
        self._sessions.append(session)
        return session

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword
    ) -> AuthResult:
        del server, session, envelope, mechanism
        self.logins.append((data.login, data.password))
        return AuthResult(success=data == LoginPassword(USERNAME.encode(), PASSWORD.encode()), handled=False)

    # The hooks, by the names that aiosmtpd looks for.

    async def handle_MAIL(  # noqa: N802  # aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        del server, options
        if self._login and not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's name
        fault = self._faults.pop(0) if self._faults else None
        transport = server.transport
        if fault is None or self._loses_answers:
            self._take(transport, session, envelope)
        if fault == "" and isinstance(transport, asyncio.WriteTransport):
            transport.abort()
        return fault or "250 OK"

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's name
        del server, session, envelope
        self.quits += 1
        return "221 Bye"

    def _take(self, transport: asyncio.BaseTransport | None, session: Session, envelope: Envelope) -> None:
        assert envelope.mail_from is not None
        assert isinstance(envelope.content, bytes)
        delivery = Delivery(
            sender=envelope.mail_from,
            recipients=tuple(envelope.rcpt_tos),
            content=envelope.content,
            encrypted=transport is not None and transport.get_extra_info("ssl_object") is not None,
            logged_in=bool(session.authenticated),
        )
        self.deliveries.append(delivery)


class Act(Enum):
    """What a scripted server does where another would answer."""

    HANG = auto()
    DROP = auto()


Reply = str | Act

_REPLIES: Final[Mapping[str, Reply]] = {
    "greeting": "220 localhost",
    "EHLO": "250-localhost\r\n250-8BITMIME\r\n250 SMTPUTF8",
    "DATA": "354 Go on",
    "QUIT": "221 Bye",
}


class ScriptedServer(_Server):
    """A server that answers each command with its entry in `replies`, and writes down every byte that it gets.

    The entry ``"greeting"`` comes first, ``"."`` answers a mail; what has no entry is answered as if all were well.
    After ``220`` to STARTTLS it reads on and says nothing.
    """

    def __init__(self, **replies: Reply) -> None:
        super().__init__()
        self.received = bytearray()
        self._replies: dict[str, Reply] = {**_REPLIES, **replies}
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def commands(self) -> list[bytes]:
        """The lines that came."""
        return bytes(self.received).split(b"\r\n")

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _drop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        with suppress(ConnectionError):
            await self._converse(reader, writer)
        writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        verb, in_mail = "greeting", False
        while True:
            if not in_mail:
                reply = self._replies.get(verb, "250 OK")
                if reply is Act.DROP:
                    return
                if reply is Act.HANG:
                    break
                writer.write(f"{reply}\r\n".encode())
                await writer.drain()
                in_mail = verb == "DATA"
                if verb == "STARTTLS":
                    break
            line = await reader.readline()
            if not line:
                return
            self.received += line
            if in_mail:
                in_mail = line != b".\r\n"
            verb = line.split()[0].decode("ascii", "replace").upper() if line.strip() else ""
        while rest := await reader.read(4096):
            self.received += rest
