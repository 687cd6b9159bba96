"""Sound mailers keep every promise, and the kit catches every mailer that breaks one, by the check that names it."""

import asyncio
import io
import logging
import re
import smtplib
import socket
import textwrap
import time
import unicodedata
import unittest
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from email import message_from_bytes
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTPUTF8
from functools import partial
from html import escape
from typing import Any

import pytest

from resetkit import Account, AsyncMailer, Mail, Mailer, PasswordChangedMail, ResetMail
from resetkit._jobs import clean_context
from resetkit.mailers import (
    AsyncConsoleMailer,
    AsyncMemoryMailer,
    AsyncSMTPMailer,
    ConsoleMailer,
    MemoryMailer,
    SMTPMailer,
)
from resetkit.testing import BrokenPromiseError, unsupported
from resetkit.testing.mailers import (
    ALICE,
    CONTEXT,
    FOREIGN_ADDRESSES,
    LINKS,
    ODD_ADDRESSES,
    AsyncMailerConformance,
    Inbox,
    MailerChecks,
    MailerConformance,
    Received,
    reset_mail,
)
from smtp_server import MailServer

SENDER = "noreply@mail.example.org"


# Sound mailers: ours, and one as an application writes it.


def arrived(server: MailServer) -> list[Received]:
    """What a real server took."""
    return [Received.parse(each.recipients, each.content) for each in server.deliveries]


def kept(outbox: Sequence[Mail]) -> list[Received]:
    """What a list of mails would say."""
    return [Received([mail.to], words(mail)) for mail in outbox]


def printed(stream: io.StringIO) -> list[Received]:
    """What stands on the console."""
    _, *mails = re.split(r"^-{72}\n(?=To: )", stream.getvalue(), flags=re.MULTILINE)
    return [Received([mail.partition("\n")[0].removeprefix("To: ")], mail) for mail in mails]


def words(mail: Mail) -> str:
    """A text of an application's own."""
    if isinstance(mail, PasswordChangedMail):
        return f"The password was changed on {mail.changed_at:%d %B}.\n"
    code = "" if mail.code is None else f"Or type {mail.code[:4]} {mail.code[4:]}.\n"
    return f"To choose a new password, open\n\n{mail.link}\n\n{code}"


@contextmanager
def port_of_nobody() -> Generator[int, None, None]:
    """A port at which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


class BrokenStream(io.StringIO):
    def write(self, text: str, /) -> int:
        raise OSError("the console is gone")


class SmtplibMailer:
    """As an application writes it, on smtplib alone."""

    def __init__(self, port: int) -> None:
        self._port = port

    def send(self, mail: Mail, /) -> None:
        message = EmailMessage()
        message["Subject"], message["From"], message["To"] = "Your password", SENDER, mail.to
        message.set_content(words(mail))
        message.add_alternative(f"<p>{escape(words(mail))}</p>", subtype="html")
        with smtplib.SMTP("127.0.0.1", self._port, timeout=10) as server:
            server.send_message(message, SENDER, [mail.to])


class TestMemory(MailerConformance):
    failing = unsupported("a list takes every mail")

    @contextmanager
    def open_mailer(self) -> Generator[tuple[Mailer, Inbox], None, None]:
        mailer = MemoryMailer()
        yield mailer, lambda: kept(mailer.outbox)


class TestAsyncMemory(AsyncMailerConformance):
    failing = unsupported("a list takes every mail")

    @asynccontextmanager
    async def open_mailer(self) -> AsyncGenerator[tuple[AsyncMailer, Inbox], None]:
        mailer = AsyncMemoryMailer()
        yield mailer, lambda: kept(mailer.outbox)


class TestConsole(MailerConformance):
    @contextmanager
    def open_mailer(self) -> Generator[tuple[Mailer, Inbox], None, None]:
        stream = io.StringIO()
        yield ConsoleMailer(stream), lambda: printed(stream)

    @contextmanager
    def failing(self) -> Generator[Mailer, None, None]:
        yield ConsoleMailer(BrokenStream())


class TestAsyncConsole(AsyncMailerConformance):
    @asynccontextmanager
    async def open_mailer(self) -> AsyncGenerator[tuple[AsyncMailer, Inbox], None]:
        stream = io.StringIO()
        yield AsyncConsoleMailer(stream), lambda: printed(stream)

    @asynccontextmanager
    async def failing(self) -> AsyncGenerator[AsyncMailer, None]:
        yield AsyncConsoleMailer(BrokenStream())


class TestSMTP(MailerConformance):
    @contextmanager
    def open_mailer(self) -> Generator[tuple[Mailer, Inbox], None, None]:
        with MailServer() as server:
            mailer = SMTPMailer("127.0.0.1", port=server.port, sender=SENDER, security="plaintext")
            yield mailer, lambda: arrived(server)

    @contextmanager
    def failing(self) -> Generator[Mailer, None, None]:
        with port_of_nobody() as port:
            yield SMTPMailer("127.0.0.1", port=port, sender=SENDER, security="plaintext")


class TestAsyncSMTP(AsyncMailerConformance):
    @asynccontextmanager
    async def open_mailer(self) -> AsyncGenerator[tuple[AsyncMailer, Inbox], None]:
        with MailServer() as server:
            mailer = AsyncSMTPMailer("127.0.0.1", port=server.port, sender=SENDER, security="plaintext")
            yield mailer, lambda: arrived(server)
            await mailer.close()

    @asynccontextmanager
    async def failing(self) -> AsyncGenerator[AsyncMailer, None]:
        with MailServer(faults=("554 5.7.1 Spam",) * 9) as server:
            mailer = AsyncSMTPMailer("127.0.0.1", port=server.port, sender=SENDER, security="plaintext")
            yield mailer
            await mailer.close()


class TestSmtplib(MailerConformance):
    @contextmanager
    def open_mailer(self) -> Generator[tuple[Mailer, Inbox], None, None]:
        with MailServer() as server:
            yield SmtplibMailer(server.port), lambda: arrived(server)

    @contextmanager
    def failing(self) -> Generator[Mailer, None, None]:
        with MailServer(faults=("",) * 9) as server:
            yield SmtplibMailer(server.port)


# A sound mailer without a network, and its twins, each broken in one place.


class Hop:
    """The server that takes the messages, or refuses them."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.taken: list[tuple[list[str], bytes]] = []
        self._refuses = refuses

    def take(self, to: list[str], content: bytes) -> None:
        if self._refuses:
            raise ConnectionError("554 not now")
        self.taken.append((to, content))

    def inbox(self) -> list[Received]:
        return [Received.parse(to, content) for to, content in self.taken]


class Own:
    """Sound."""

    def __init__(self, hop: Hop) -> None:
        self.hop = hop

    def send(self, mail: Mail, /) -> Any:
        self.hop.take(self.to(mail), self.message(mail).as_bytes(policy=SMTPUTF8))

    def to(self, mail: Mail) -> list[str]:
        return [mail.to]

    def message(self, mail: Mail) -> EmailMessage:
        message = EmailMessage(policy=SMTPUTF8)
        message["Subject"] = self.subject(mail)
        message.set_content(self.text(mail))
        if html := self.html(mail):
            message.add_alternative(html, subtype="html")
        return message

    def subject(self, mail: Mail) -> str:
        return "Your password"

    def text(self, mail: Mail) -> str:
        return words(mail)

    def html(self, mail: Mail) -> str:
        shown = [*words(mail).splitlines(), *mail.context, *mail.context.values()]
        return "".join(f"<p>{escape(line)}</p>\n" for line in shown)

    @classmethod
    def in_tasks(cls, hop: Hop) -> AsyncMailer:
        """The same, async."""
        return InTasks(cls(hop))


class InTasks:
    def __init__(self, mailer: Own) -> None:
        self._mailer = mailer

    async def send(self, mail: Mail, /) -> Any:
        await asyncio.sleep(0)
        return self._mailer.send(mail)


class ToTheAccount(Own):
    """Sends to the account's address, whatever the mail says."""

    def to(self, mail: Mail) -> list[str]:
        return [mail.account.email]


class ToAllOfTheAccount(Own):
    """Sends to whoever is to be told of a changed password."""

    def to(self, mail: Mail) -> list[str]:
        return [mail.to, *mail.account.notify]


class WithACopy(Own):
    """Sends the operators a copy."""

    def to(self, mail: Mail) -> list[str]:
        return [mail.to, "archive@example.org"]


class ToTheContext(Own):
    """Sends where the visitor would like it."""

    def to(self, mail: Mail) -> list[str]:
        return [mail.context.get("to", mail.to)]


class LowerCasing(Own):
    """Takes mailboxes that differ in case for one."""

    def to(self, mail: Mail) -> list[str]:
        return [mail.to.lower()]


class Normalising(Own):
    """Takes look-alikes for one."""

    def to(self, mail: Mail) -> list[str]:
        return [unicodedata.normalize("NFKC", mail.to)]


class Routing(Own):
    """Knows the percent hack (RFC 1123, 5.2.16)."""

    def to(self, mail: Mail) -> list[str]:
        return [mail.to.partition("@")[0].replace("%", "@", 1) if "%" in mail.to else mail.to]


class NoOptions(Own):
    """Passes the address to a program, which reads some as an option, and answers that all is well."""

    def send(self, mail: Mail, /) -> None:
        if not mail.to.startswith("-"):
            super().send(mail)


class EncodedWord(Own):
    """Encodes a mailbox as if it were a name (RFC 2047)."""

    def to(self, mail: Mail) -> list[str]:
        local, _, domain = mail.to.rpartition("@")
        return [f"{Header(local).encode()}@{domain}"]


class LateRefusing(Own):
    """Refuses an address that it has sent to."""

    def send(self, mail: Mail, /) -> None:
        super().send(mail)
        if not mail.to.isascii():
            raise ValueError("non-ASCII address")


class AsciiOnly(Own):
    """Sound: refuses what it cannot carry."""

    def send(self, mail: Mail, /) -> None:
        mail.to.encode("ascii")
        super().send(mail)


class Punycode(Own):
    """Sound: another spelling of the same domain (RFC 3492)."""

    def to(self, mail: Mail) -> list[str]:
        local, _, domain = mail.to.rpartition("@")
        return [f"{local}@{'.'.join(map(self.label, domain.split('.')))}"]

    def label(self, label: str) -> str:
        return label if label.isascii() else f"xn--{label.encode('punycode').decode()}"


class IDNA2003(Own):
    """Encodes a domain as Python's codec does."""

    def to(self, mail: Mail) -> list[str]:
        local, _, domain = mail.to.rpartition("@")
        return [f"{local}@{domain.encode('idna').decode()}"]


class OncePerAddress(Own):
    """Takes the second mail to an address for a repetition."""

    def send(self, mail: Mail, /) -> None:
        if [mail.to] not in [to for to, _ in self.hop.taken]:
            super().send(mail)


class Growing(Own):
    """Writes every mail into the same text."""

    def __init__(self, hop: Hop) -> None:
        super().__init__(hop)
        self.so_far = ""

    def text(self, mail: Mail) -> str:
        self.so_far += words(mail)
        return self.so_far

    def html(self, mail: Mail) -> str:
        return ""


class Batching(Own):
    """Sends when there are two."""

    def __init__(self, hop: Hop) -> None:
        super().__init__(hop)
        self.waiting: list[Mail] = []

    def send(self, mail: Mail, /) -> None:
        self.waiting.append(mail)
        if len(self.waiting) == 2:
            for each in self.waiting:
                super().send(each)
            self.waiting.clear()


class Twofold(Own):
    """Sends each mail twice, to be sure."""

    def send(self, mail: Mail, /) -> None:
        super().send(mail)
        super().send(mail)


class SharedDraft(Own):
    """Keeps the mail that it is writing where the next one overwrites it."""

    current: Mail

    def send(self, mail: Mail, /) -> None:
        self.current = mail
        time.sleep(0.001)
        super().send(mail)

    def text(self, mail: Mail) -> str:
        return words(self.current)

    def html(self, mail: Mail) -> str:
        return ""

    @classmethod
    def in_tasks(cls, hop: Hop) -> AsyncMailer:
        return AsyncSharedDraft(cls(hop))


class AsyncSharedDraft:
    def __init__(self, mailer: SharedDraft) -> None:
        self._mailer = mailer

    async def send(self, mail: Mail, /) -> None:
        self._mailer.current = mail
        await asyncio.sleep(0)
        Own.send(self._mailer, mail)


class Losing(SharedDraft):
    """Sends what another thread or task was about to send."""

    def to(self, mail: Mail) -> list[str]:
        return [self.current.to]


class Folding(Own):
    """Wraps its text, as for a terminal."""

    def text(self, mail: Mail) -> str:
        return "\n".join(textwrap.fill(line, 76) for line in words(mail).splitlines())


class EscapingText(Own):
    """Escapes the plain text as if it were HTML."""

    def text(self, mail: Mail) -> str:
        return escape(words(mail))


class BreakingHTML(Own):
    """Breaks the link where it is shown, in the HTML alone."""

    def html(self, mail: Mail) -> str:
        return super().html(mail).replace("&amp;", "& ")


class Gluing(Own):
    """Leaves no space after the link."""

    def text(self, mail: Mail) -> str:
        return f"{words(mail).strip()}If it was not you, do nothing.\n"


class Unquoting(Own):
    """Undoes the percent signs of the link."""

    def text(self, mail: Mail) -> str:
        return words(mail).replace("%20", " ").replace("%2F", "/")


class WithoutLink(Own):
    """Mails the code alone."""

    def text(self, mail: Mail) -> str:
        return words(mail).replace(mail.link, "") if isinstance(mail, ResetMail) else words(mail)


class NeedsACode(Own):
    """Knows no mail without a code."""

    def text(self, mail: Mail) -> str:
        return f"{words(mail)} {mail.code[:4]}" if isinstance(mail, ResetMail) else words(mail)  # type: ignore[index]  # that is its fault


class Mute(Own):
    """Says nothing."""

    def text(self, mail: Mail) -> str:
        return ""

    def html(self, mail: Mail) -> str:
        return ""


class WithoutCode(Own):
    """Forgets the code."""

    def text(self, mail: Mail) -> str:
        return words(replace(mail, code=None)) if isinstance(mail, ResetMail) else words(mail)


class HalfACode(Own):
    """Shows the first half of the code, in the HTML."""

    def html(self, mail: Mail) -> str:
        return super().html(mail).split("Or type")[0]


class RememberingTheLink(Own):
    """Ends a notice with the last link, so that one may undo it."""

    link = ""

    def text(self, mail: Mail) -> str:
        if isinstance(mail, ResetMail):
            self.link = mail.link
        return f"{words(mail)}\n{self.link}\n"


class ResetMailsOnly(Own):
    """Knows no notices."""

    def text(self, mail: Mail) -> str:
        assert isinstance(mail, ResetMail)
        return words(mail)


class KnownLocalesOnly(Own):
    """Looks its subject up by locale."""

    def subject(self, mail: Mail) -> str:
        return {None: "Your password", "de": "Ihr Passwort"}[mail.locale]


class ShowingMarkup(Own):
    """Puts the visitor's device into the HTML as it is."""

    def html(self, mail: Mail) -> str:
        return f"{super().html(mail)}<p>{mail.context.get('device', '')}</p>"


class RunningTemplates(Own):
    """Runs its own text, with the visitor's in it, as a template."""

    def text(self, mail: Mail) -> str:
        shown = f"{words(mail)}{list(mail.context.values())}"
        return re.sub(r"\{\{(\d+)\*(\d+)\}\}", lambda found: str(int(found[1]) * int(found[2])), shown)


class FormattingTwice(Own):
    """Formats its own text with the visitor's in it."""

    def text(self, mail: Mail) -> str:
        return f"{words(mail)}{list(mail.context.values())}".format()


class ContextAsHeaders(Own):
    """Passes the context on as headers, and reads the recipients from them, as ``sendmail -t`` does."""

    def send(self, mail: Mail, /) -> None:
        message = self.message(mail)
        for name, value in mail.context.items():
            with suppress(ValueError):
                message[name] = value
        to = [mail.to, *message.get_all("Bcc", [])]
        self.hop.take(to, message.as_bytes(policy=SMTPUTF8))


class Unstuffed(Own):
    """Ends its text at the first dot that stands alone (RFC 5321, 4.5.2)."""

    def text(self, mail: Mail) -> str:
        lines = [*mail.context.values(), *words(mail).splitlines()]
        return "\n".join(lines[: lines.index(".")] if "." in lines else lines)


class RawHeaders(Own):
    """Writes its headers by hand, and reads the recipients from them, as ``sendmail -t`` does."""

    def send(self, mail: Mail, /) -> None:
        device = "".join(f"X-Device: {text}\r\n" for text in (*mail.context, *mail.context.values()))
        content = f"{device}Subject: Your password\r\n\r\n".encode() + words(mail).encode()
        headers = message_from_bytes(content)
        others = [headers[name] for name in ("To", "Cc", "Bcc") if name in headers]
        self.hop.take([mail.to, *others], content)


class Counting(Own):
    """Answers how many were sent."""

    def send(self, mail: Mail, /) -> int:
        super().send(mail)
        return 1


class LoggingLinks(Own):
    """Logs what it sends, for support."""

    def send(self, mail: Mail, /) -> None:
        super().send(mail)
        logging.getLogger("app.mail").warning("sent %s", words(mail))


class LoggingCodes(Own):
    """Logs the code that it sends, in groups."""

    def send(self, mail: Mail, /) -> None:
        super().send(mail)
        if isinstance(mail, ResetMail) and mail.code is not None:
            logging.getLogger("app.mail").error("%s-%s", mail.code[:4], mail.code[4:])


class Swallowing(Own):
    """Keeps going."""

    def send(self, mail: Mail, /) -> None:
        with suppress(ConnectionError):
            super().send(mail)


class FailingOnce(Own):
    """Gives up in silence after the first failure, as a circuit breaker that tells nobody."""

    failed = False

    def send(self, mail: Mail, /) -> None:
        if not self.failed:
            self.failed = True
            super().send(mail)


class Quoting(Own):
    """Says what could not be sent."""

    def send(self, mail: Mail, /) -> None:
        try:
            super().send(mail)
        except ConnectionError:
            raise RuntimeError(f"could not send {words(mail)}") from None


class QuotingTheCode(Own):
    """Names the code that could not be sent."""

    def send(self, mail: Mail, /) -> None:
        try:
            super().send(mail)
        except ConnectionError as error:
            error.add_note(f"code: {mail.code if isinstance(mail, ResetMail) else None}")
            raise


class QuotingBehind(Own):
    """Says what could not be sent in the error that led to another."""

    def send(self, mail: Mail, /) -> None:
        try:
            try:
                super().send(mail)
            except ConnectionError:
                raise RuntimeError(words(mail))  # noqa: B904  # that is its fault
        except RuntimeError as error:
            raise OSError("could not send") from error


class Unprinted(Exception):  # noqa: N818  # it is a twin's
    """Keeps the mail among its arguments."""

    def __str__(self) -> str:
        return "could not send"


class QuotingInRepr(Own):
    """Says in its error's repr what could not be sent."""

    def send(self, mail: Mail, /) -> None:
        try:
            super().send(mail)
        except ConnectionError as error:
            raise OSError("could not send") from Unprinted(words(mail), error)


class Sanitising(Own):
    """Sound: what quoted the mail is hidden from every log."""

    def send(self, mail: Mail, /) -> None:
        try:
            try:
                super().send(mail)
            except ConnectionError as error:
                raise RuntimeError(words(mail)) from error
        except RuntimeError:
            raise OSError("could not send") from None


class LoggingFailures(Own):
    """Logs what could not be sent."""

    def send(self, mail: Mail, /) -> None:
        try:
            super().send(mail)
        except ConnectionError:
            logging.getLogger("app.mail").exception("could not send %s", words(mail))
            raise


TWINS: dict[str, tuple[type[Own], ...]] = {
    "test_a_mail_goes_to_its_address_and_to_nobody_else": (ToTheAccount, ToAllOfTheAccount, WithACopy, ToTheContext),
    "test_a_notice_goes_to_its_address_and_to_nobody_else": (ToTheAccount, ToAllOfTheAccount, WithACopy, ToTheContext),
    "test_an_odd_address_gets_its_mail_or_nobody_does": (LowerCasing, Routing, NoOptions),
    "test_an_address_in_any_script_is_not_taken_for_another": (Normalising, IDNA2003, EncodedWord, LateRefusing),
    "test_two_mails_are_two_messages": (OncePerAddress, Growing, Batching, Twofold),
    "test_several_may_send_at_once": (SharedDraft, Losing, Twofold),
    "test_the_link_arrives_whole": (
        *(Folding, EscapingText, BreakingHTML, Gluing, Unquoting, WithoutLink, NeedsACode, Mute),
    ),
    "test_the_code_arrives_whole": (WithoutCode, HalfACode),
    "test_a_notice_carries_no_token": (RememberingTheLink, ResetMailsOnly, Growing, Mute),
    "test_any_locale_is_taken": (KnownLocalesOnly,),
    "test_a_visitors_context_breaks_nothing": (
        *(ShowingMarkup, RunningTemplates, FormattingTwice, ContextAsHeaders, Unstuffed),
    ),
    "test_a_line_break_in_the_context_adds_no_recipient": (RawHeaders,),
    "test_send_answers_nothing": (Counting,),
    "test_no_log_line_tells_a_secret": (LoggingLinks, LoggingCodes),
    "test_a_mail_that_was_not_taken_is_an_error": (Swallowing, FailingOnce),
    "test_a_failure_tells_no_secret": (
        *(Quoting, QuotingTheCode, QuotingBehind, QuotingInRepr, LoggingFailures, Swallowing),
    ),
}
SOUND = (Own, AsciiOnly, Punycode, Sanitising)
PAIRS = pytest.mark.parametrize(
    ("check", "twin"),
    [(check, twin) for check, twins in TWINS.items() for twin in twins],
    ids=[f"{check}-{twin.__name__}" for check, twins in TWINS.items() for twin in twins],
)
CHECKS = pytest.mark.parametrize("check", TWINS)


class OwnKit(MailerConformance):
    __test__ = False

    def __init__(self, twin: type[Own]) -> None:
        self._twin = twin

    @contextmanager
    def open_mailer(self) -> Generator[tuple[Mailer, Inbox], None, None]:
        hop = Hop()
        yield self._twin(hop), hop.inbox

    @contextmanager
    def failing(self) -> Generator[Mailer, None, None]:
        yield self._twin(Hop(refuses=True))


class AsyncOwnKit(AsyncMailerConformance):
    __test__ = False

    def __init__(self, twin: type[Own]) -> None:
        self._twin = twin

    @asynccontextmanager
    async def open_mailer(self) -> AsyncGenerator[tuple[AsyncMailer, Inbox], None]:
        hop = Hop()
        yield self._twin.in_tasks(hop), hop.inbox

    @asynccontextmanager
    async def failing(self) -> AsyncGenerator[AsyncMailer, None]:
        yield self._twin.in_tasks(Hop(refuses=True))


KITS = pytest.mark.parametrize("kit", [OwnKit, AsyncOwnKit])


@pytest.mark.no_cover  # the twins, and the shipped mailers, run the same lines
@KITS
@CHECKS
@pytest.mark.parametrize("sound", SOUND)
def test_a_sound_mailer_keeps_each_promise(kit: Any, check: str, sound: type[Own]) -> None:
    getattr(kit(sound), check)()


@KITS
@PAIRS
def test_a_broken_mailer_is_caught(kit: Any, check: str, twin: type[Own]) -> None:
    with pytest.raises(BrokenPromiseError) as broken:
        getattr(kit(twin), check)()
    assert kit.promises()[check].says in str(broken.value)


def test_every_promise_has_a_broken_twin() -> None:
    """A check that cannot fail is a defect."""
    assert set(TWINS) == set(MailerConformance.promises()) == set(AsyncMailerConformance.promises())


@pytest.mark.parametrize("base", [MailerConformance, AsyncMailerConformance])
@pytest.mark.parametrize("check", ["test_a_mail_that_was_not_taken_is_an_error", "test_a_failure_tells_no_secret"])
def test_what_needs_a_failing_mailer_is_skipped_with_a_hint(base: Any, check: str) -> None:
    class Kit(base):  # type: ignore[misc]  # one of the bases above
        __test__ = False

    with pytest.raises(unittest.SkipTest, match="implement failing"):
        getattr(Kit(), check)()


@pytest.mark.parametrize("base", [MailerConformance, AsyncMailerConformance])
def test_the_base_cannot_open_a_mailer(base: Any) -> None:
    with pytest.raises(NotImplementedError):
        base().open_mailer()
    with pytest.raises(NotImplementedError):
        MailerChecks.opened_failing(base())


def test_every_odd_address_is_one_that_an_account_may_have() -> None:
    for address in (*ODD_ADDRESSES, *FOREIGN_ADDRESSES):
        assert Account(id="1", email=address, stamp="").email == address


def test_the_context_that_must_be_taken_is_one_that_the_manager_passes() -> None:
    assert clean_context(CONTEXT) == CONTEXT


def test_mails_differ_in_token_and_code() -> None:
    mails = [reset_mail(number, code=True, link=link) for number in range(20) for link in LINKS]
    assert len({mail.token for mail in mails}) == len({mail.code for mail in mails}) == 20
    assert all(mail.token in mail.link for mail in mails)


class TestReceived:
    def test_a_message_is_read_as_its_reader_sees_it(self) -> None:
        message = EmailMessage()
        message.set_content("Grüße: https://app.example/" + "x" * 100, cte="quoted-printable")
        message.add_alternative("<p>Grüße &amp; mehr</p>", subtype="html", cte="base64")
        received = Received.parse([ALICE], message.as_bytes())
        assert received == Received(
            [ALICE], "Grüße: https://app.example/" + "x" * 100 + "\n", "<p>Grüße &amp; mehr</p>\n"
        )

    @pytest.mark.parametrize(("kind", "expected"), [("plain", ("x\n", "")), ("html", ("", "x\n"))])
    def test_a_message_may_have_one_part(self, kind: str, expected: tuple[str, str]) -> None:
        message = EmailMessage()
        message.set_content("x", subtype=kind)
        received = Received.parse([ALICE], message.as_bytes())
        assert (received.text, received.html) == expected

    def test_one_address_is_a_list_too(self) -> None:
        with pytest.raises(TypeError, match="list"):
            Received(ALICE, "text")


class TestOwnLinks:
    """A mail may lead to a page of the application's own instead, with the token in it."""

    @pytest.mark.parametrize(
        ("shown", "holds"),
        [("app://reset/{token}", True), ("app://reset/{token}x", False), ("https://app.example/r/{token}", False)],
    )
    def test_the_token_will_do_where_no_link_leads_to_the_site(self, shown: str, holds: bool) -> None:
        class Deep(Own):
            def text(self, mail: Mail) -> str:
                return shown.replace("{token}", mail.token) if isinstance(mail, ResetMail) else "changed"

            def html(self, mail: Mail) -> str:
                return ""

        check = partial(OwnKit(Deep).test_the_link_arrives_whole)
        if holds:
            check()
        else:
            with pytest.raises(BrokenPromiseError, match="link is not whole"):
                check()
