"""Mails: over real SMTP to servers that work and servers that do not, to the console, and what stands in them."""

import asyncio
import html
import inspect
import io
import os
import re
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import resetkit
from resetkit import (
    Account,
    AsyncResetManager,
    ConfigurationError,
    InvalidTokenError,
    KeyedTokenHasher,
    Mail,
    Mailer,
    PasswordChangedMail,
    ResetMail,
    ResetManager,
    ResetPolicy,
    ResetReceipt,
)
from resetkit.dispatch import AsyncInlineDispatcher, InlineDispatcher
from resetkit.events import Event, MailFailed, MailSent
from resetkit.mailers import (
    AsyncConsoleMailer,
    AsyncMemoryMailer,
    AsyncSMTPMailer,
    ConsoleMailer,
    MemoryMailer,
    SMTPMailer,
    default_message,
)
from resetkit.stores import AsyncMemoryTokenStore, MemoryTokenStore
from resetkit.testing import AsyncFakeAccounts, FakeAccounts, FakeClock
from smtp_server import PASSWORD, USERNAME, Act, Certificates, MailServer, Reply, ScriptedServer

SENDER = "noreply@mail.example.org"
ADDRESS = "alice@example.org"
NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
LINK = "https://app.example/reset#{token}"
TOKEN = "0123456789abcdef" * 6
SHORT = timedelta(seconds=0.2)
LOGIN: dict[str, Any] = {"username": USERNAME, "password": PASSWORD}
EVIL = {
    "<device>": "<script>EVIL</script>",
    "{{7*7}}": "{{7*7}}",
    "{title}": "{token}%s${HOME}",
    "{ip}": "https://evil.example/\r\nBcc: eve@evil.example",
}
STARTTLS = "250-localhost\r\n250 STARTTLS"


def reset_mail(
    to: str = ADDRESS,
    *,
    link: str = LINK,
    code: str | None = None,
    lifetime: timedelta = timedelta(minutes=30),
    context: Mapping[str, str] | None = None,
) -> ResetMail:
    """A mail as the manager makes it."""
    return ResetMail(
        to=to,
        account=Account(id="alice", email=to, stamp="stamp"),
        token=TOKEN,
        link=link.replace("{token}", TOKEN),
        code=code,
        created_at=NOW,
        expires_at=NOW + lifetime,
        code_expires_at=NOW + timedelta(minutes=10) if code else None,
        locale=None,
        context=context or {},
    )


def notice_mail(to: str = ADDRESS, *, context: Mapping[str, str] | None = None) -> PasswordChangedMail:
    """A notice as the manager makes it."""
    account = Account(id="alice", email=to, stamp="stamp")
    return PasswordChangedMail(to=to, account=account, changed_at=NOW, locale=None, context=context or {})


def mailer_for(server: MailServer | ScriptedServer, **options: Any) -> SMTPMailer:
    """A mailer for this server."""
    return SMTPMailer("localhost", sender=SENDER, port=server.port, **options)


def content(message: EmailMessage, kind: Literal["plain", "html"]) -> str:
    """What a reader of one of the parts sees."""
    part = message.get_body((kind,))
    assert part is not None
    text = part.get_content()
    assert isinstance(text, str)
    return text


def links(text: str) -> list[str]:
    """Everything in `text` that looks like a web address."""
    return re.findall(r"[a-z][a-z0-9+.-]*://[^\s\"'<>]*", text, re.IGNORECASE)


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture
def starttls(certificates: Certificates) -> Iterator[MailServer]:
    """A server that takes nothing without encryption and login."""
    with MailServer("starttls", certificates.server_context(), login=True) as server:
        yield server


@pytest.fixture
def plain() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


class TestDelivery:
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
    def test_starttls_with_login_by_name_and_by_address(
        self, host: str, starttls: MailServer, certificates: Certificates
    ) -> None:
        context = certificates.client_context()
        SMTPMailer(host, sender=SENDER, port=starttls.port, ssl_context=context, **LOGIN).send(reset_mail())
        (delivery,) = starttls.deliveries
        assert (delivery.encrypted, delivery.logged_in) == (True, True)
        assert starttls.quits == 1

    def test_implicit_tls_with_login(self, certificates: Certificates) -> None:
        with MailServer("tls", certificates.server_context(), login=True) as server:
            mailer_for(server, security="tls", ssl_context=certificates.client_context(), **LOGIN).send(reset_mail())
        (delivery,) = server.deliveries
        assert (delivery.encrypted, delivery.logged_in) == (True, True)

    def test_plaintext_without_login(self, plain: MailServer) -> None:
        mailer_for(plain, security="plaintext").send(reset_mail())
        (delivery,) = plain.deliveries
        assert (delivery.encrypted, delivery.logged_in) == (False, False)

    def test_a_login_in_clear_to_this_very_machine(self) -> None:
        with MailServer(login=True) as server:
            mailer_for(server, security="plaintext", **LOGIN).send(reset_mail())
        assert [delivery.logged_in for delivery in server.deliveries] == [True]

    def test_the_envelope_names_the_sender_and_the_one_recipient(self, plain: MailServer) -> None:
        to = "Alice.O'Hara+reset=1%x@Mail.Example.ORG"
        mailer_for(plain, security="plaintext").send(reset_mail(to))
        (delivery,) = plain.deliveries
        assert delivery.sender == SENDER
        assert delivery.recipients == (to,)

    def test_the_mail_that_arrives_is_the_mail_that_was_composed(self, plain: MailServer) -> None:
        mail = reset_mail(code="BCDFGHJK")
        mailer_for(plain, security="plaintext").send(mail)
        arrived, composed = plain.deliveries[0].message, default_message(mail)
        assert arrived["Subject"] == composed["Subject"]
        for kind in ("plain", "html"):
            assert content(arrived, kind).splitlines() == content(composed, kind).splitlines()

    def test_a_notice_is_delivered_too(self, plain: MailServer) -> None:
        mailer_for(plain, security="plaintext").send(notice_mail("bob@example.org"))
        assert [delivery.recipients for delivery in plain.deliveries] == [("bob@example.org",)]

    def test_the_headers_are_the_mailers_own(self, plain: MailServer) -> None:
        """CVE-2017-8295, H1-796013, H1-244555: none of them comes from a request."""
        before = datetime.now(UTC).replace(microsecond=0)
        mailer_for(plain, security="plaintext", sender_name="Example, Inc.", reply_to="help@example.org").send(
            reset_mail()
        )
        message = plain.deliveries[0].message
        (sender,) = message["From"].addresses
        assert (sender.display_name, sender.addr_spec) == ("Example, Inc.", SENDER)
        assert [to.addr_spec for to in message["To"].addresses] == [ADDRESS]
        assert message["Reply-To"] == "help@example.org"
        assert before <= parsedate_to_datetime(message["Date"]) <= datetime.now(UTC)
        assert re.fullmatch(r"<[^<>@\s]+@mail\.example\.org>", message["Message-ID"])
        assert message["Auto-Submitted"] == "auto-generated"
        assert not {"cc", "bcc", "sender"} & {name.lower() for name in message}
        assert len(message.keys()) == len({name.lower() for name in message})

    def test_without_a_name_and_reply_address_neither_stands_there(self, plain: MailServer) -> None:
        mailer_for(plain, security="plaintext").send(reset_mail())
        message = plain.deliveries[0].message
        assert message["From"] == SENDER
        assert "Reply-To" not in message

    def test_two_mails_have_two_message_ids(self, plain: MailServer) -> None:
        mailer = mailer_for(plain, security="plaintext")
        mailer.send(reset_mail())
        mailer.send(reset_mail())
        first, second = (delivery.message["Message-ID"] for delivery in plain.deliveries)
        assert first != second

    def test_a_sender_name_in_any_script_needs_nothing_of_the_server(self) -> None:
        name = "Größte „Bücherei“ 図書館"
        with MailServer(smtputf8=False) as server:
            mailer_for(server, security="plaintext", sender_name=name).send(reset_mail())
        assert server.deliveries[0].message["From"].addresses[0].display_name == name
        assert server.deliveries[0].content.isascii()

    @pytest.mark.parametrize("to", ["jörg@example.org", "anna@bücher.example", "用户@例子.example"])
    def test_an_address_in_any_script_is_delivered_by_a_server_that_takes_it(self, to: str, plain: MailServer) -> None:
        mailer_for(plain, security="plaintext").send(reset_mail(to))
        (delivery,) = plain.deliveries
        assert delivery.recipients == (to,)
        assert f"To: {to}".encode() in delivery.content.splitlines()
        assert to in content(delivery.message, "plain")

    @pytest.mark.parametrize("to", ["jörg@example.org", "anna@bücher.example"])
    def test_an_address_in_another_script_is_never_rewritten_for_a_server_that_does_not(self, to: str) -> None:
        with MailServer(smtputf8=False) as server, pytest.raises(smtplib.SMTPNotSupportedError):
            mailer_for(server, security="plaintext").send(reset_mail(to))
        assert server.deliveries == []

    @pytest.mark.parametrize("to", ["taro.@docomo.example", "a..b@example.org", ".a@example.org"])
    def test_an_address_with_dots_where_the_standard_has_none_is_delivered(self, to: str, plain: MailServer) -> None:
        """Some providers gave such addresses out, and an account may have one."""
        mailer_for(plain, security="plaintext").send(reset_mail(to))
        assert [delivery.recipients for delivery in plain.deliveries] == [(to,)]

    def test_any_address_that_an_account_may_have_stands_byte_for_byte_in_the_one_rcpt_command(self) -> None:
        signs = st.sampled_from("aZ0.!#$%&'*+-/=?^_`{|}~ö例\u200b\uff0e") | st.characters(exclude_categories=["C", "Z"])
        words = st.text(signs, min_size=1, max_size=100)

        @settings(max_examples=60, deadline=None)
        @given(words, words)
        def send_one(local: str, domain: str) -> None:
            try:
                mail = reset_mail(f"{local}@{domain}")
            except ConfigurationError:
                return
            before = len(server.received)
            mailer.send(mail)
            lines = bytes(server.received[before:]).split(b"\r\n")
            named = [line for line in lines if line.lower().startswith(b"rcpt")]
            assert [line.partition(b":")[2].rstrip() for line in named] == [b"<" + mail.to.encode() + b">"]
            headers = bytes(server.received[before:]).partition(b"\r\ndata\r\n")[2].partition(b"\r\n\r\n")[0]
            shown = re.findall(rb"^To:(.*(?:\r\n[ \t].*)*)", headers, re.MULTILINE)
            assert [b"".join(each.split()) for each in shown] == [mail.to.encode()]

        with (
            ScriptedServer() as server,
            closing(mailer_for(server, security="plaintext", reuse=timedelta(minutes=1))) as mailer,
        ):
            send_one()

    def test_several_threads_send_each_over_a_connection_to_itself(self, plain: MailServer) -> None:
        mailer = mailer_for(plain, security="plaintext", reuse=timedelta(minutes=1))
        addresses = [f"user{number:02}@example.org" for number in range(24)]
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(mailer.send, map(reset_mail, addresses)))
        mailer.close()
        assert sorted(delivery.recipients for delivery in plain.deliveries) == [(to,) for to in addresses]
        assert plain.connections <= 6
        assert plain.quits == plain.connections


class TestSecurity:
    @pytest.mark.parametrize("security", ["starttls", "tls"])
    def test_an_authority_that_the_system_does_not_know_is_refused(
        self, security: Literal["starttls", "tls"], certificates: Certificates
    ) -> None:
        with (
            MailServer(security, certificates.server_context(), login=True) as server,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            mailer_for(server, security=security, **LOGIN).send(reset_mail())
        assert (server.deliveries, server.logins) == ([], [])

    @pytest.mark.parametrize("security", ["starttls", "tls"])
    def test_a_certificate_for_another_host_is_refused(
        self, security: Literal["starttls", "tls"], certificates: Certificates
    ) -> None:
        context = certificates.server_context("mail.other.example")
        with (
            MailServer(security, context, login=True) as server,
            pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"),
        ):
            mailer_for(server, security=security, ssl_context=certificates.client_context(), **LOGIN).send(reset_mail())
        assert (server.deliveries, server.logins) == ([], [])

    def test_a_wrong_login_is_refused_and_nothing_sent(self, starttls: MailServer, certificates: Certificates) -> None:
        mailer = mailer_for(starttls, ssl_context=certificates.client_context(), username=USERNAME, password="wrong")
        with pytest.raises(smtplib.SMTPAuthenticationError):
            mailer.send(reset_mail())
        assert starttls.deliveries == []
        assert (USERNAME.encode(), b"wrong") in starttls.logins

    @pytest.mark.parametrize(
        ("replies", "error"),
        [
            ({}, smtplib.SMTPNotSupportedError),
            ({"EHLO": STARTTLS, "STARTTLS": "454 TLS not available"}, smtplib.SMTPResponseException),
        ],
        ids=["not offered", "offered and refused"],
    )
    def test_without_starttls_neither_password_nor_mail_goes_out(
        self, replies: dict[str, Reply], error: type[Exception]
    ) -> None:
        """As when somebody on the way takes the offer out."""
        with ScriptedServer(**replies) as server, pytest.raises(error):
            mailer_for(server, **LOGIN).send(reset_mail())
        assert {line.split()[0].lower() for line in server.commands if line} <= {b"ehlo", b"starttls", b"quit"}

    def test_a_server_that_is_not_the_encrypted_one_gets_no_word(self) -> None:
        with ScriptedServer() as server, pytest.raises(ssl.SSLError):
            mailer_for(server, security="tls", **LOGIN).send(reset_mail())
        assert b"EHLO" not in server.received.upper()


class TestMisbehavingServers:
    @pytest.mark.parametrize(
        ("security", "replies"),
        [
            ("plaintext", {"greeting": Act.HANG}),
            ("tls", {"greeting": Act.HANG}),
            ("starttls", {"EHLO": Act.HANG}),
            ("starttls", {"EHLO": STARTTLS, "STARTTLS": "220 Go on"}),
            ("plaintext", {"RCPT": Act.HANG}),
            ("plaintext", {".": Act.HANG}),
        ],
        ids=["greeting", "TLS handshake", "EHLO", "STARTTLS handshake", "RCPT", "end of the mail"],
    )
    def test_a_server_that_never_answers_is_left_after_the_timeout(
        self, security: str, replies: dict[str, Reply]
    ) -> None:
        """Smtplib raises the TimeoutError as it is where it shakes hands, and from inside its own where it reads."""
        with ScriptedServer(**replies) as server, pytest.raises(OSError, match="timed out") as caught:
            mailer_for(server, security=security, timeout=SHORT).send(reset_mail())
        if not isinstance(caught.value, TimeoutError):
            assert isinstance(caught.value, smtplib.SMTPServerDisconnected)
            assert isinstance(caught.value.__context__, TimeoutError)

    @pytest.mark.parametrize("when", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "."])
    def test_a_dropped_connection_is_an_error(self, when: str) -> None:
        with ScriptedServer(**{when: Act.DROP}) as server, pytest.raises(smtplib.SMTPServerDisconnected):
            mailer_for(server, security="plaintext").send(reset_mail())

    @pytest.mark.parametrize(
        ("replies", "error"),
        [
            ({"greeting": "554 No service"}, smtplib.SMTPConnectError),
            ({"MAIL": "550 Not you"}, smtplib.SMTPSenderRefused),
            ({"RCPT": "550 No such user"}, smtplib.SMTPRecipientsRefused),
            ({"DATA": "451 Later"}, smtplib.SMTPDataError),
            ({".": "554 Spam"}, smtplib.SMTPDataError),
        ],
        ids=["greeting", "sender", "recipient", "data", "mail"],
    )
    def test_a_refusal_is_an_error(self, replies: dict[str, Reply], error: type[Exception]) -> None:
        with ScriptedServer(**replies) as server, pytest.raises(error):
            mailer_for(server, security="plaintext").send(reset_mail())

    def test_nobody_at_the_port_is_an_error(self) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            mailer = SMTPMailer("127.0.0.1", sender=SENDER, security="plaintext", port=bound.getsockname()[1])
            with pytest.raises(ConnectionRefusedError):
                mailer.send(reset_mail())

    @pytest.mark.parametrize("goodbye", [Act.DROP, Act.HANG, "500 What?"])
    def test_an_unfriendly_goodbye_after_an_accepted_mail_is_none(self, goodbye: Reply) -> None:
        with ScriptedServer(QUIT=goodbye) as server:
            mailer_for(server, security="plaintext", timeout=SHORT).send(reset_mail())
        assert server.commands[-2:] == [b"quit", b""]

    @pytest.mark.parametrize("replies", [{"RCPT": "550 No"}, {".": "554 No"}, {".": Act.DROP}, {".": Act.HANG}])
    def test_no_error_quotes_the_token(self, replies: dict[str, Reply]) -> None:
        with ScriptedServer(**replies) as server, pytest.raises(smtplib.SMTPException) as caught:
            mailer_for(server, security="plaintext", timeout=SHORT).send(reset_mail(code="BCDFGHJK"))
        shown = repr(caught.value) + str(caught.value) + repr(caught.value.__context__)
        assert not [secret for secret in (TOKEN, "BCDF") if secret in shown]


class TestReuse:
    @pytest.mark.parametrize("security", ["starttls", "tls", "plaintext"])
    def test_one_connection_serves_two_mails_until_it_is_closed(
        self, security: Literal["starttls", "tls", "plaintext"], certificates: Certificates
    ) -> None:
        with MailServer(security, certificates.server_context(), login=True) as server:
            context = certificates.client_context()
            mailer = mailer_for(server, security=security, ssl_context=context, reuse=timedelta(minutes=1), **LOGIN)
            mailer.send(reset_mail("a@example.org"))
            mailer.send(reset_mail("b@example.org"))
            assert [delivery.recipients for delivery in server.deliveries] == [("a@example.org",), ("b@example.org",)]
            assert (server.connections, len(server.logins), server.quits) == (1, 1, 0)
            mailer.close()
            assert server.quits == 1

    def test_without_reuse_each_mail_has_its_own_connection(self, plain: MailServer) -> None:
        mailer = mailer_for(plain, security="plaintext")
        mailer.send(reset_mail())
        mailer.send(reset_mail())
        mailer.close()
        assert (plain.connections, plain.quits, len(plain.deliveries)) == (2, 2, 2)

    def test_a_closed_mailer_opens_anew(self, plain: MailServer) -> None:
        mailer = mailer_for(plain, security="plaintext", reuse=timedelta(minutes=1))
        for _ in range(2):
            mailer.send(reset_mail())
            mailer.close()
        assert (plain.connections, plain.quits, len(plain.deliveries)) == (2, 2, 2)

    def test_a_kept_connection_that_died_is_replaced(self, plain: MailServer) -> None:
        mailer = mailer_for(plain, security="plaintext", reuse=timedelta(minutes=1))
        mailer.send(reset_mail())
        plain.drop_connections()
        mailer.send(reset_mail())
        mailer.close()
        assert (plain.connections, len(plain.deliveries)) == (2, 2)

    def test_closing_a_kept_connection_that_died_is_no_failure(self, plain: MailServer) -> None:
        mailer = mailer_for(plain, security="plaintext", reuse=timedelta(minutes=1))
        mailer.send(reset_mail())
        plain.drop_connections()
        mailer.close()
        assert (plain.connections, plain.quits) == (1, 0)

    def test_a_kept_connection_that_says_no_is_replaced(self) -> None:
        with ScriptedServer(NOOP="421 Too long idle") as server:
            mailer = mailer_for(server, security="plaintext", reuse=timedelta(minutes=1))
            mailer.send(reset_mail())
            mailer.send(reset_mail())
            mailer.close()
        assert (server.connections, server.commands.count(b"data")) == (2, 2)

    def test_a_connection_is_kept_no_longer_than_told(self, plain: MailServer) -> None:
        mailer = mailer_for(plain, security="plaintext", reuse=timedelta(microseconds=1))
        mailer.send(reset_mail())
        mailer.send(reset_mail())
        mailer.close()
        assert (plain.connections, len(plain.deliveries)) == (2, 2)

    def test_a_connection_on_which_a_mail_failed_is_not_kept(self) -> None:
        with ScriptedServer(RCPT="550 No such user") as server:
            mailer = mailer_for(server, security="plaintext", reuse=timedelta(minutes=1))
            for _ in range(2):
                with pytest.raises(smtplib.SMTPRecipientsRefused):
                    mailer.send(reset_mail())
        assert server.connections == 2

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
    def test_a_forked_child_leaves_its_parents_connection_alone(self, plain: MailServer) -> None:
        script = (
            "import os\n"
            "from datetime import UTC, datetime, timedelta\n"
            "from resetkit import Account, PasswordChangedMail\n"
            "from resetkit.mailers import SMTPMailer\n"
            "account = Account(id='alice', email='alice@example.org', stamp='')\n"
            "now = datetime(2030, 1, 1, tzinfo=UTC)\n"
            "mail = PasswordChangedMail(to='alice@example.org', account=account, changed_at=now, locale=None)\n"
            f"mailer = SMTPMailer('localhost', sender='{SENDER}', security='plaintext', port={plain.port},\n"
            "                    reuse=timedelta(minutes=1))\n"
            "mailer.send(mail)\n"
            "child = os.fork()\n"
            "if child and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):\n"
            "    raise SystemExit(1)\n"
            "mailer.send(mail)\n"
            "if child:\n"
            "    mailer.close()\n"
            "os._exit(0)\n"
        )
        path = str(Path(resetkit.__file__).parents[1])
        subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": path})
        assert (len(plain.deliveries), plain.connections, plain.quits) == (3, 2, 1)


def lenient(verify_mode: ssl.VerifyMode, *, check_hostname: bool) -> ssl.SSLContext:
    """A context that takes what the default one refuses."""
    context = ssl.create_default_context()
    context.check_hostname = check_hostname
    context.verify_mode = verify_mode
    return context


class TestHeaders:
    def test_an_address_that_a_header_would_read_as_another_is_never_written(self) -> None:
        """The second line, were an account ever to have one: encoded words are decoded when a header is read."""
        encoded = "=?utf-8?q?boss=40bank.example=0d=0aReply-To=3A_m=40evil.org?=@mallory.org"
        mail = reset_mail()
        object.__setattr__(mail, "to", encoded)
        mailer = SMTPMailer("127.0.0.1", sender=SENDER, security="plaintext")
        with pytest.raises((ConfigurationError, ValueError)):
            mailer._message(mail)

    def test_a_sender_s_name_is_no_encoded_word(self) -> None:
        with pytest.raises(ConfigurationError, match="sender_name"):
            SMTPMailer("127.0.0.1", sender=SENDER, sender_name="=?utf-8?q?a=0d=0ab?=")


class TestConstruction:
    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"security": "ssl"}, "security"),
            ({"security": None}, "security"),
            ({"port": 0}, "port"),
            ({"port": 65536}, "port"),
            ({"port": True}, "port"),
            ({"port": "587"}, "port"),
            ({"sender": "a@example.org\r\nBcc: eve@evil.example"}, "sender"),
            ({"sender": "a@example.org, b@example.org"}, "sender"),
            ({"sender": "Example <a@example.org>"}, "sender"),
            ({"sender": "example.org"}, "sender"),
            ({"sender": ""}, "sender"),
            ({"sender": None}, "sender"),
            ({"sender_name": "Example\nBcc: eve@evil.example"}, "sender_name"),
            ({"sender_name": "Example\rX"}, "sender_name"),
            ({"sender_name": "Example\u2028X"}, "sender_name"),
            ({"sender_name": "\0"}, "sender_name"),
            ({"sender_name": None}, "sender_name"),
            ({"reply_to": "a@example.org, b@example.org"}, "reply_to"),
            ({"reply_to": "a@example.org\nBcc: eve@evil.example"}, "reply_to"),
            ({"username": "postman"}, "username and password"),
            ({"password": "secret"}, "username and password"),
            ({"ssl_context": lenient(ssl.CERT_NONE, check_hostname=False)}, "context"),
            ({"ssl_context": lenient(ssl.CERT_REQUIRED, check_hostname=False)}, "context"),
            ({"ssl_context": lenient(ssl.CERT_OPTIONAL, check_hostname=True)}, "context"),
            ({"timeout": timedelta(0)}, "timeout"),
            ({"timeout": 10}, "timeout"),
            ({"reuse": timedelta(seconds=-1)}, "reuse"),
            ({"reuse": timedelta(0)}, "reuse"),
            ({"host": ""}, "host"),
            ({"host": "mail example.org"}, "host"),
            ({"host": "mail.example.org\r\n"}, "host"),
            ({"host": "smtp://mail.example.org"}, "host"),
            ({"host": "postman@mail.example.org"}, "host"),
            ({"host": None}, "host"),
        ],
        ids=lambda options: "" if isinstance(options, str) else ascii(options).partition(" object at")[0],
    )
    def test_what_cannot_be_safe_is_refused(self, options: dict[str, Any], says: str) -> None:
        """And the error says which argument to change."""
        with pytest.raises(ConfigurationError, match=says):
            SMTPMailer(**dict[str, Any](host="mail.example.org", sender=SENDER) | options)

    @pytest.mark.parametrize(
        "host", ["mail.example.org", "192.0.2.1", "localhost.example.org", "127.0.0.1.example.org", "0.0.0.0", "::"]
    )
    def test_a_password_never_crosses_the_network_in_clear(self, host: str) -> None:
        with pytest.raises(ConfigurationError, match="in clear"):
            SMTPMailer(host, sender=SENDER, security="plaintext", **LOGIN)

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
    def test_a_password_may_go_in_clear_to_this_machine(self, host: str) -> None:
        SMTPMailer(host, sender=SENDER, security="plaintext", **LOGIN)

    def test_refusing_a_password_does_not_quote_it(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            SMTPMailer("mail.example.org", sender=SENDER, security="plaintext", **LOGIN)
        assert PASSWORD not in str(caught.value)

    def test_the_async_mailer_takes_the_same_arguments(self) -> None:
        assert inspect.signature(AsyncSMTPMailer) == inspect.signature(SMTPMailer)
        with pytest.raises(ConfigurationError):
            AsyncSMTPMailer("mail.example.org", sender=SENDER, username="postman")


class TestCompose:
    def test_a_compose_of_ones_own_makes_subject_and_content(self, plain: MailServer) -> None:
        def compose(mail: Mail) -> EmailMessage:
            message = EmailMessage()
            message["Subject"] = "Zurücksetzen"
            message.set_content(f"Für {mail.to}\n")
            return message

        mailer_for(plain, security="plaintext", compose=compose).send(reset_mail())
        message = plain.deliveries[0].message
        assert message["Subject"] == "Zurücksetzen"
        assert content(message, "plain").strip() == f"Für {ADDRESS}"

    @pytest.mark.parametrize(
        "header", ["To", "Cc", "Bcc", "bcc", "From", "Sender", "Reply-To", "Date", "Message-ID", "MESSAGE-ID"]
    )
    def test_a_compose_that_sets_the_mailers_headers_is_refused_and_nothing_sent(
        self, header: str, plain: MailServer
    ) -> None:
        def compose(mail: Mail) -> EmailMessage:
            message = default_message(mail)
            message[header] = "Tue, 01 Jan 2030 12:00:00 +0000" if header == "Date" else "<eve@evil.example>"
            return message

        with pytest.raises(ConfigurationError, match=f"(?i){header}"):
            mailer_for(plain, security="plaintext", compose=compose).send(reset_mail())
        assert (plain.connections, plain.deliveries) == (0, [])

    def test_what_compose_raises_comes_out_and_nothing_is_sent(self, plain: MailServer) -> None:
        def compose(mail: Mail) -> EmailMessage:
            raise KeyError(type(mail).__name__)

        with pytest.raises(KeyError, match="ResetMail"):
            mailer_for(plain, security="plaintext", compose=compose).send(reset_mail())
        assert plain.connections == 0


class TestAsyncTwins:
    def test_smtp_delivers_several_at_once_and_closes(self, starttls: MailServer, certificates: Certificates) -> None:
        mailer = AsyncSMTPMailer(
            "localhost",
            sender=SENDER,
            sender_name="Example",
            reply_to="help@example.org",
            port=starttls.port,
            ssl_context=certificates.client_context(),
            reuse=timedelta(minutes=1),
            compose=partial(default_message, site="Example"),
            **LOGIN,
        )
        addresses = [f"user{number}@example.org" for number in range(4)]

        async def send_all() -> None:
            await asyncio.gather(*(mailer.send(reset_mail(to)) for to in addresses))
            assert starttls.quits == 0
            await mailer.close()

        asyncio.run(send_all())
        assert sorted(delivery.recipients for delivery in starttls.deliveries) == [(to,) for to in addresses]
        message = starttls.deliveries[0].message
        assert message["From"] == f"Example <{SENDER}>"
        assert message["Reply-To"] == "help@example.org"
        assert message["Subject"] == "Choose a new password for Example"
        assert starttls.quits == starttls.connections

    def test_smtp_opens_anew_after_closing(self, plain: MailServer) -> None:
        async def story() -> None:
            mailer = AsyncSMTPMailer("localhost", sender=SENDER, security="plaintext", port=plain.port)
            await mailer.close()
            await mailer.send(reset_mail())
            await mailer.close()

        asyncio.run(story())
        assert [delivery.recipients for delivery in plain.deliveries] == [(ADDRESS,)]

    def test_smtp_raises_what_the_sync_one_raises(self) -> None:
        with ScriptedServer(greeting=Act.HANG) as server:
            mailer = AsyncSMTPMailer("localhost", sender=SENDER, security="tls", port=server.port, timeout=SHORT)
            with pytest.raises(TimeoutError):
                asyncio.run(mailer.send(reset_mail()))

    def test_console_writes_what_the_sync_one_writes(self) -> None:
        expected, written = io.StringIO(), io.StringIO()
        ConsoleMailer(expected).send(reset_mail())
        asyncio.run(AsyncConsoleMailer(written).send(reset_mail()))
        assert written.getvalue() == expected.getvalue() != ""

    def test_memory_keeps_mails_in_the_order_of_sending(self) -> None:
        mails: list[Mail] = [reset_mail(), notice_mail()]
        sync_mailer, async_mailer = MemoryMailer(), AsyncMemoryMailer()

        async def send_all() -> None:
            for mail in mails:
                sync_mailer.send(mail)
                await async_mailer.send(mail)

        asyncio.run(send_all())
        assert sync_mailer.outbox == async_mailer.outbox == mails


RULE = "-" * 72 + "\n"


class TestConsoleMailer:
    @pytest.mark.parametrize("arguments", [{"stream": "a path"}, {"compose": "hello"}])
    def test_what_cannot_be_written_to_or_called_is_refused(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError):
            ConsoleMailer(**arguments)

    def test_it_writes_recipient_subject_and_text_to_the_stream(self) -> None:
        stream = io.StringIO()
        mail = reset_mail(code="BCDFGHJK")
        ConsoleMailer(stream).send(mail)
        head, _, text = stream.getvalue().partition("\n\n")
        assert head == f"{RULE}To: {ADDRESS}\nSubject: Choose a new password for app.example"
        assert text == content(default_message(mail), "plain") + RULE
        assert mail.link in text.splitlines()

    def test_it_writes_to_standard_output_as_it_is_when_sending(self, capsys: pytest.CaptureFixture[str]) -> None:
        ConsoleMailer().send(notice_mail())
        out, err = capsys.readouterr()
        assert err == ""
        assert out.startswith(f"{RULE}To: {ADDRESS}\nSubject: Your password was changed\n\n")

    def test_it_shows_the_html_where_there_is_no_text(self) -> None:
        def compose(mail: Mail) -> EmailMessage:
            message = EmailMessage()
            message["Subject"] = type(mail).__name__
            message.set_content("<p>hello</p>\n", subtype="html")
            return message

        stream = io.StringIO()
        ConsoleMailer(stream, compose=compose).send(notice_mail())
        assert stream.getvalue() == f"{RULE}To: {ADDRESS}\nSubject: PasswordChangedMail\n\n<p>hello</p>\n{RULE}"

    def test_it_shows_a_mail_without_any_text(self) -> None:
        def compose(mail: Mail) -> EmailMessage:
            message = EmailMessage()
            message["Subject"] = type(mail).__name__
            message.set_content(b"\0", maintype="application", subtype="octet-stream")
            return message

        stream = io.StringIO()
        ConsoleMailer(stream, compose=compose).send(notice_mail())
        assert stream.getvalue() == f"{RULE}To: {ADDRESS}\nSubject: PasswordChangedMail\n\n{RULE}"


class Page(HTMLParser):
    """The targets of a page's links, and its text, without the sheet."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets += [value or "" for name, value in attrs if name in {"href", "src", "action", "background"}]

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is None:
            self.text += data


MAILS: dict[str, Callable[..., Mail]] = {
    "reset": reset_mail,
    "reset with code": partial(reset_mail, code="BCDFGHJK"),
    "notice": notice_mail,
}
each_mail = pytest.mark.parametrize("make", MAILS.values(), ids=MAILS.keys())


class TestDefaultMessage:
    @each_mail
    def test_there_is_a_text_and_an_html_part(self, make: Callable[..., Mail]) -> None:
        message = default_message(make())
        assert message.get_content_type() == "multipart/alternative"
        parts = [part.get_content_type() for part in message.iter_parts()]
        assert parts == ["text/plain", "text/html"]

    def test_the_link_stands_unfolded_in_the_raw_text_part(self) -> None:
        mail = reset_mail()
        part = default_message(mail).get_body(("plain",))
        assert part is not None
        assert mail.link.encode() in part.as_bytes().splitlines()

    def test_the_link_stands_unfolded_on_the_wire(self) -> None:
        mail = reset_mail()
        with ScriptedServer() as server:
            mailer_for(server, security="plaintext").send(mail)
        assert mail.link.encode() in server.commands

    @pytest.mark.parametrize(
        ("to", "site"), [("jörg@example.org", ""), (ADDRESS, "Bücherei 図書館"), (ADDRESS, "x" * 1200)]
    )
    def test_where_the_text_must_be_encoded_the_link_is_whole_when_decoded(self, to: str, site: str) -> None:
        mail = reset_mail(to)
        raw = default_message(mail, site=site).as_bytes(policy=policy.SMTPUTF8)
        message = message_from_bytes(raw, policy=policy.default)
        assert mail.link in content(message, "plain").splitlines()
        assert max(map(len, raw.splitlines())) <= 998

    def test_a_code_is_shown_in_two_halves_with_its_own_end(self) -> None:
        message = default_message(reset_mail(code="BCDFGHJK"))
        for text in (content(message, "plain"), Page(content(message, "html")).text):
            assert [line.strip() for line in text.splitlines()].count("BCDF-GHJK") == 1
            assert "The code works for 10 minutes, until 2030-01-01 12:10 UTC." in text

    def test_without_a_code_none_is_spoken_of(self) -> None:
        message = default_message(reset_mail())
        assert "code" not in content(message, "plain")
        assert "code" not in Page(content(message, "html")).text

    @pytest.mark.parametrize(
        ("lifetime", "says"),
        [
            (timedelta(seconds=1), "for 1 minute, until 2030-01-01 12:00 UTC"),
            (timedelta(minutes=1), "for 1 minute, until 2030-01-01 12:01 UTC"),
            (timedelta(minutes=30), "for 30 minutes, until 2030-01-01 12:30 UTC"),
            (timedelta(minutes=90), "for 90 minutes, until 2030-01-01 13:30 UTC"),
            (timedelta(hours=1), "for 1 hour, until 2030-01-01 13:00 UTC"),
            (timedelta(hours=24), "for 24 hours, until 2030-01-02 12:00 UTC"),
        ],
        ids=lambda value: str(value) if isinstance(value, timedelta) else "",
    )
    def test_it_says_when_the_link_ends(self, lifetime: timedelta, says: str) -> None:
        message = default_message(reset_mail(lifetime=lifetime))
        assert says in content(message, "plain")
        assert says in Page(content(message, "html")).text

    @pytest.mark.parametrize(
        ("mail", "says"),
        [
            (reset_mail(), "If it was not you, ignore"),
            (notice_mail(), "If it was not you, somebody can read"),
        ],
        ids=["reset", "notice"],
    )
    def test_it_says_what_to_do_for_who_did_not_ask(self, mail: Mail, says: str) -> None:
        message = default_message(mail)
        assert says in content(message, "plain")
        assert says in Page(content(message, "html")).text

    @each_mail
    def test_the_accounts_data_is_escaped_in_the_html(self, make: Callable[..., Mail]) -> None:
        """CVE-2021-21333."""
        message = default_message(make("a&b'c@example.org"))
        source = content(message, "html")
        assert "a&amp;b&#x27;c@example.org" in source
        assert "a&b" not in source
        assert "a&b'c@example.org" in Page(source).text
        assert "a&b'c@example.org" in content(message, "plain")

    @each_mail
    def test_the_sites_name_is_escaped_in_the_html(self, make: Callable[..., Mail]) -> None:
        site = "<b>Fish & Chips</b>"
        source = content(default_message(make(), site=site), "html")
        assert "b" not in Page(source).tags
        assert site in Page(source).text

    @each_mail
    def test_nothing_that_the_visitor_sent_stands_in_the_mail(self, make: Callable[..., Mail]) -> None:
        message = default_message(make(context=EVIL))
        shown = [content(message, "plain"), content(message, "html"), html.unescape(content(message, "html"))]
        shown += [f"{name}: {value}" for name, value in message.items()]
        for text in shown:
            assert not [each for entry in EVIL.items() for each in entry if each in text]
            assert not [word for word in ("EVIL", "evil", "{{", "49", "Bcc") if word in text]

    @each_mail
    def test_the_context_changes_no_letter_of_the_mail(self, make: Callable[..., Mail]) -> None:
        with_context, without = default_message(make(context=EVIL)), default_message(make())
        assert with_context["Subject"] == without["Subject"]
        for kind in ("plain", "html"):
            assert content(with_context, kind) == content(without, kind)

    @pytest.mark.parametrize("link", [LINK, "https://app.example/reset?lang=en&token={token}", "http://[::1]/{token}"])
    def test_every_address_in_both_parts_is_exactly_the_link(self, link: str) -> None:
        """H1-1888915: whatever context the visitor sent."""
        mail = reset_mail(link=link, code="BCDFGHJK", context=EVIL)
        message = default_message(mail, site="Example")
        source = content(message, "html")
        page = Page(source)
        assert links(content(message, "plain")) == [mail.link]
        assert links(page.text) == [mail.link]
        assert page.targets == [mail.link, mail.link]
        assert links(source) == links(html.escape(mail.link)) * 3

    def test_the_notice_holds_no_link_and_no_token(self) -> None:
        message = default_message(notice_mail(context=EVIL), site="Example")
        page = Page(content(message, "html"))
        assert (links(content(message, "plain")), links(content(message, "html")), page.targets) == ([], [], [])
        assert not re.search(r"[0-9a-f]{16}", content(message, "plain") + content(message, "html"))

    def test_the_notice_says_when_and_for_which_account(self) -> None:
        text = content(default_message(notice_mail()), "plain")
        assert f"The password of the account {ADDRESS} was changed at 2030-01-01 12:00 UTC." in text

    def test_the_notice_to_another_address_names_that_one_alone(self) -> None:
        account = Account(id="alice", email=ADDRESS, stamp="stamp", notify=("old@example.org",))
        mail = PasswordChangedMail(to="old@example.org", account=account, changed_at=NOW, locale=None)
        text = content(default_message(mail), "plain")
        assert "the account whose notices go to old@example.org" in text
        assert ADDRESS not in text

    @pytest.mark.parametrize(
        ("mail", "site", "subject"),
        [
            (reset_mail(), "", "Choose a new password for app.example"),
            (reset_mail(), "Example", "Choose a new password for Example"),
            (notice_mail(), "", "Your password was changed"),
            (notice_mail(), "Example", "Your password at Example was changed"),
        ],
        ids=["reset, unnamed", "reset, named", "notice, unnamed", "notice, named"],
    )
    def test_subject_title_and_text_name_the_site(self, mail: Mail, site: str, subject: str) -> None:
        message = default_message(mail, site=site)
        assert message["Subject"] == subject
        assert f"<title>{subject}</title>" in content(message, "html")
        for text in (content(message, "plain"), Page(content(message, "html")).text):
            assert f" at {site or 'app.example'}" in text or (not site and isinstance(mail, PasswordChangedMail))

    @each_mail
    def test_the_subject_holds_no_address_link_or_code(self, make: Callable[..., Mail]) -> None:
        subject = default_message(make())["Subject"]
        assert not [part for part in (ADDRESS, TOKEN, "BCDF", "://") if part in subject]

    @each_mail
    @pytest.mark.parametrize("site", ["Example\r\nBcc: eve@evil.example", "Example\nX", "\u2028", "=?utf-8?q?a=0ab?="])
    def test_a_site_with_a_line_break_makes_no_message(self, site: str, make: Callable[..., Mail]) -> None:
        with pytest.raises(ConfigurationError, match="site"):
            default_message(make(), site=site)

    @pytest.mark.parametrize("mail", [reset_mail(code="BCDFGHJK"), notice_mail()], ids=["reset", "notice"])
    @settings(deadline=None)
    @given(site=st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=300))
    def test_any_name_of_a_site_makes_a_message_with_one_subject_and_the_same_parts(
        self, mail: Mail, site: str
    ) -> None:
        message = default_message(mail, site=site)
        assert not re.search(r"[\r\n]", message["Subject"])
        raw = message.as_bytes()
        assert raw.isascii()
        parsed = message_from_bytes(raw, policy=policy.default)
        assert len(parsed.get_all("Subject", [])) == 1
        assert set(parsed.keys()) == {"Subject", "MIME-Version", "Content-Type"}
        assert [part.get_content_type() for part in parsed.iter_parts()] == ["text/plain", "text/html"]
        for kind in ("plain", "html"):
            assert content(parsed, kind).splitlines() == content(message, kind).splitlines()
        assert site in content(parsed, "plain")


# The whole manager, over mail servers that fail.


@contextmanager
def wrong_certificate(certificates: Certificates) -> Generator[SMTPMailer]:
    with MailServer("starttls", certificates.server_context(), login=True) as server:
        yield mailer_for(server, **LOGIN)
    assert (server.deliveries, server.logins) == ([], [])


@contextmanager
def wrong_login(certificates: Certificates) -> Generator[SMTPMailer]:
    with MailServer("starttls", certificates.server_context(), login=True) as server:
        yield mailer_for(server, ssl_context=certificates.client_context(), username=USERNAME, password="wrong")
    assert server.deliveries == []


@contextmanager
def no_starttls(_: Certificates) -> Generator[SMTPMailer]:
    with MailServer() as server:
        yield mailer_for(server)
    assert server.deliveries == []


@contextmanager
def drops_after_the_mail(_: Certificates) -> Generator[SMTPMailer]:
    with MailServer(faults=("", "", "")) as server:
        yield mailer_for(server, security="plaintext")
    assert server.deliveries == []


@contextmanager
def scripted(_: Certificates, *, security: str = "plaintext", **replies: Reply) -> Generator[SMTPMailer]:
    with ScriptedServer(**replies) as server:
        yield mailer_for(server, security=security, timeout=timedelta(seconds=0.1))


FAILURES: dict[str, tuple[str, Callable[[Certificates], AbstractContextManager[SMTPMailer]]]] = {
    "wrong certificate": ("SSLCertVerificationError", wrong_certificate),
    "wrong login": ("SMTPAuthenticationError", wrong_login),
    "no STARTTLS": ("SMTPNotSupportedError", no_starttls),
    "hangs in the handshake": ("TimeoutError", partial(scripted, security="tls", greeting=Act.HANG)),
    "hangs at the greeting": ("SMTPServerDisconnected", partial(scripted, greeting=Act.HANG)),
    "drops at the greeting": ("SMTPServerDisconnected", partial(scripted, greeting=Act.DROP)),
    "drops after the mail": ("SMTPServerDisconnected", drops_after_the_mail),
    "refuses the recipient": ("SMTPRecipientsRefused", partial(scripted, RCPT=f"550 No such user: {ADDRESS}")),
}


class Flow:
    """A manager over this mailer, with one account, and what it reported."""

    def __init__(self, mailer: Mailer, *, attempts: int = 3) -> None:
        self.events: list[Event] = []
        self.accounts = FakeAccounts()
        self.accounts.add("alice", ADDRESS)
        with pytest.warns(RuntimeWarning, match="InlineDispatcher sends each mail while the visitor waits"):
            self.manager = ResetManager(
                self.accounts,
                MemoryTokenStore(),
                mailer,
                link=LINK,
                policy=ResetPolicy(mail_attempts=attempts),
                hasher=KeyedTokenHasher([b"k" * 32]),
                dispatcher=InlineDispatcher(),
                clock=FakeClock(),
                on_event=self.events.append,
            )

    @property
    def failures(self) -> list[MailFailed]:
        """The failed attempts, first to last; a retry runs inside of what it repeats, so it is reported before."""
        return sorted((event for event in self.events if isinstance(event, MailFailed)), key=lambda each: each.attempt)


def token_in(message: EmailMessage) -> str:
    """The token in the one link of a mail's text."""
    (link,) = links(content(message, "plain"))
    return link.removeprefix(LINK.replace("{token}", ""))


class TestTheManagerOverFailingServers:
    @pytest.mark.parametrize(("error", "failure"), FAILURES.values(), ids=FAILURES.keys())
    def test_the_visitor_is_answered_as_ever_and_the_operator_learns_of_each_try(
        self,
        error: str,
        failure: Callable[[Certificates], AbstractContextManager[SMTPMailer]],
        certificates: Certificates,
    ) -> None:
        """CVE-2024-45231."""
        with failure(certificates) as mailer:
            flow = Flow(mailer)
            known = flow.manager.request_reset(ADDRESS, client="192.0.2.1", context=EVIL)
            unknown = flow.manager.request_reset("nobody@example.org", client="192.0.2.1", context=EVIL)
        assert known == unknown == ResetReceipt()
        tries = [(event.mail, event.attempt, event.retry, event.error) for event in flow.failures]
        assert tries == [("reset", 1, True, error), ("reset", 2, True, error), ("reset", 3, False, error)]
        assert not [event for event in flow.events if isinstance(event, MailSent)]
        assert not [event for event in flow.failures if "@" in repr(event) or "EVIL" in repr(event)]

    def test_the_receipt_with_a_code_is_of_one_form_too(self) -> None:
        with ScriptedServer(greeting=Act.DROP) as server:
            flow = Flow(mailer_for(server, security="plaintext"))
            known = flow.manager.request_reset(ADDRESS, client=None, code=True)
            unknown = flow.manager.request_reset("nobody@example.org", client=None, code=True)
        for receipt in (known, unknown):
            assert receipt.message == ResetReceipt().message
            assert re.fullmatch("[0-9a-f]{32}", receipt.handle or "")

    def test_one_attempt_means_no_retry(self) -> None:
        with ScriptedServer(greeting=Act.DROP) as server:
            flow = Flow(mailer_for(server, security="plaintext"), attempts=1)
            flow.manager.request_reset(ADDRESS, client=None)
        assert [(event.attempt, event.retry) for event in flow.failures] == [(1, False)]
        assert server.connections == 1

    @pytest.mark.parametrize("fault", ["451 4.3.0 Later", ""], ids=["later", "hangs up"])
    @pytest.mark.parametrize("reuse", [None, timedelta(minutes=1)], ids=["one each", "reuse"])
    def test_a_server_that_fails_once_delivers_one_mail_whose_link_works(
        self, fault: str, reuse: timedelta | None
    ) -> None:
        with MailServer(faults=(fault,)) as server:
            mailer = mailer_for(server, security="plaintext", reuse=reuse)
            flow = Flow(mailer)
            flow.manager.request_reset(ADDRESS, client=None)
            (delivery,) = server.deliveries
            assert delivery.recipients == (ADDRESS,)
            flow.manager.reset_password(token_in(delivery.message), "correct horse")
            mailer.close()
        assert flow.accounts.password("alice") == "correct horse"
        assert [(event.attempt, event.retry) for event in flow.failures] == [(1, True)]
        assert [event.mail for event in flow.events if isinstance(event, MailSent)] == ["reset", "notice"]
        reset, notice = server.deliveries
        assert notice.message["Subject"] == "Your password was changed"
        assert links(content(notice.message, "plain")) == []
        assert reset.message["Message-ID"] != notice.message["Message-ID"]

    def test_where_only_the_answer_was_lost_the_newer_of_both_mails_works(self) -> None:
        """As the mails themselves say: use the newest."""
        with MailServer(faults=("",), loses_answers=True) as server:
            flow = Flow(mailer_for(server, security="plaintext"))
            flow.manager.request_reset(ADDRESS, client=None)
            older, newer = (token_in(delivery.message) for delivery in server.deliveries)
            with pytest.raises(InvalidTokenError):
                flow.manager.reset_password(older, "correct horse")
            flow.manager.reset_password(newer, "correct horse")
        assert flow.accounts.password("alice") == "correct horse"

    def test_a_notice_that_cannot_be_sent_undoes_no_reset(self) -> None:
        with MailServer(faults=()) as server:
            flow = Flow(mailer_for(server, security="plaintext"))
            flow.manager.request_reset(ADDRESS, client=None)
            token = token_in(server.deliveries[0].message)
        flow.manager.reset_password(token, "correct horse")
        assert flow.accounts.password("alice") == "correct horse"
        tries = [(event.mail, event.attempt, event.retry, event.error) for event in flow.failures]
        refused = "ConnectionRefusedError"
        assert tries == [("notice", 1, True, refused), ("notice", 2, True, refused), ("notice", 3, False, refused)]

    def test_the_async_manager_does_the_same_over_the_async_mailer(self) -> None:
        events: list[Event] = []
        accounts = FakeAccounts()
        accounts.add("alice", ADDRESS)

        async def story(server: MailServer) -> None:
            with pytest.warns(RuntimeWarning, match="AsyncInlineDispatcher sends each mail while the visitor waits"):
                manager = AsyncResetManager(
                    AsyncFakeAccounts(accounts),
                    AsyncMemoryTokenStore(),
                    AsyncSMTPMailer("localhost", sender=SENDER, security="plaintext", port=server.port),
                    link=LINK,
                    hasher=KeyedTokenHasher([b"k" * 32]),
                    dispatcher=AsyncInlineDispatcher(),
                    clock=FakeClock(),
                    on_event=events.append,
                )
            async with manager:
                known = await manager.request_reset(ADDRESS, client=None)
                unknown = await manager.request_reset("nobody@example.org", client=None)
                assert known == unknown == ResetReceipt()
                await manager.reset_password(token_in(server.deliveries[0].message), "correct horse")

        with MailServer(faults=("451 4.3.0 Later",)) as server:
            asyncio.run(story(server))
        assert accounts.password("alice") == "correct horse"
        assert len(server.deliveries) == 2
        failed = [event for event in events if isinstance(event, MailFailed)]
        assert [(event.attempt, event.error, event.retry) for event in failed] == [(1, "SMTPDataError", True)]
