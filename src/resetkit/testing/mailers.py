"""The promises of a mailer, each as a test: subclass `MailerConformance` or its async twin.

The author writes ``open_mailer``. One ability is optional, and declared by implementing it: `failing` (a mailer whose
next hop does not take the mail).
"""

import hashlib
import re
import unicodedata
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from html import unescape
from typing import Final, Literal

from typing_extensions import override

from resetkit._sync import LiftedMailer
from resetkit._tokens import link_token, make_code, make_secret, make_selector
from resetkit.mails import Mail, PasswordChangedMail, ResetMail
from resetkit.protocols import AsyncMailer, Mailer
from resetkit.testing._kit import (
    Async,
    Conformance,
    Sync,
    expect,
    expect_that,
    explored_promise,
    promise,
    undeclared,
)
from resetkit.testing._logs import listening, told_by
from resetkit.testing._records import NOW
from resetkit.values import Account

ALICE: Final = "alice@example.org"
BOB: Final = "bob@example.org"
EVE: Final = "eve@evil.example"

# What templates, wrapping and escaping break: one &, %, = that is no quoted-printable, and a line of 300 characters.
LINKS: Final = (
    "https://app.example/reset#{token}",
    "https://app.example/reset/{token}",
    "https://app.example/reset?lang=de&token={token}",
    "http://localhost:8000/reset#{token}",
    f"https://app.example/{'long/' * 40}~x/%2Freset%20now?a=3D&b==20&token={{token}}",
)

# Addresses that `Account` takes, and that other software reads as an option, a command, a route, a format or another.
ODD_ADDRESSES: Final = (
    *("Alice.O'Hara+reset=1%x@Mail.Example.ORG", "ALICE@example.org", f"{'x' * 64}@example.org", "x@localhost"),
    *("-oQ/tmp/x@example.org", "-t@example.org", "|id@example.org", "`id`@example.org", "$HOME@example.org"),
    *("/dev/null@example.org", "&@example.org", "b%evil.example@example.org", "evil.example!b@example.org"),
    *("%s@example.org", "{0}@example.org", "{token}@example.org", "{{7*7}}@example.org", "=41lice@example.org"),
    *("*@example.org", "?@example.org", "#@example.org", ".x.@example.org", "a..b@example.org", "a@192.0.2.1"),
)

# Addresses that one encoding or another takes for somebody else's: IDNA 2003 folds sharp s and final sigma, NFKC wide
# letters and ligatures; look-alikes are other letters; an encoded word is no mailbox.
FOREIGN_ADDRESSES: Final = (
    *("jörg@example.org", "m\u0131ke@example.org", "ﬁ@example.org", "\uff41@example.org", "用户@example.org"),
    *("\U0001f511@example.org", "alice@bücher.example", "alice@straße.example", "alice@φίλος.example"),
    *("alice@\u0430\u0440\u0440\u04cf\u0435.example", "alice@例子.example", "jörg@straße.example"),
)

# What a visitor may put there: the manager drops controls, and lets the rest through.
CONTEXT: Final = {
    "device": '<img src=x onerror=alert(1)> & "quoted"',
    "Bcc": EVE,
    "agent": f"Bcc: {EVE}",
    "name": f"=?utf-8?q?x=0d=0aBcc:_{EVE}?=",
    "{token}": "%(token)s %s %d {0.__class__} ${HOME} $token {{1111111*7}} {% include 'x' %}",
    "dot": ".",
    "odd": "\U0001f511 é ß",
    EVE: "x" * 200,
}
_INJECTED: Final = "<img src=x"
_EVALUATED: Final = "7777777"

# What the manager would have dropped: a mailer may refuse it, but not let it out of its line.
BREAKS: Final = (f"x\r\nBcc: {EVE}\r\n\r\nx", f"x\nTo: {EVE}", f"x\rCc: {EVE}", f"x\u2028Bcc: {EVE}", "x\r\n.\r\nx")

# Of languages, in each spelling that applications have; of none; and such as lead elsewhere where they name a file.
LOCALES: Final = (
    *(None, "", "de", "de-AT", "en_US.UTF-8", "zh-Hans-CN", "ar", "zz", "i-klingon"),
    *("../de", "/", "x" * 300),
)

_SENDERS: Final = 8  # at once
_MINUTE: Final = timedelta(minutes=1)
_TAG: Final = re.compile(r"<[^>]*>")
_BETWEEN: Final = re.compile(r"[\s\-_.\u2010-\u2015\u2212]+")  # `code_token` ignores it too


@dataclass(frozen=True, slots=True)
class Received:
    """One message as it arrived.

    ``to`` are the addresses that it was delivered to: those of the envelope, not of the headers. ``text`` and ``html``
    are what it says, decoded; either may be empty. `parse` makes one from a message as it goes over the wire.
    """

    to: Sequence[str]
    text: str
    html: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.to, str):
            raise TypeError("Received.to is a list of addresses, also if there is one")

    @classmethod
    def parse(cls, to: Sequence[str], content: bytes) -> "Received":
        """The message with these envelope recipients and this content (RFC 5322)."""
        message = message_from_bytes(content, policy=default)
        return cls(to, _part(message, "plain"), _part(message, "html"))


Inbox = Callable[[], Sequence[Received]]
"""What arrived since the mailer was opened, in order."""


@dataclass(frozen=True, slots=True)
class Post:
    """A mailer in the shape that checks are written in, and a look at what arrived."""

    mailer: AsyncMailer
    inbox: Inbox


def reset_mail(
    number: int = 1,
    *,
    to: str = ALICE,
    account: Account | None = None,
    link: str = LINKS[0],
    code: bool = False,
    locale: str | None = None,
    context: Mapping[str, str] | None = None,
) -> ResetMail:
    """A mail as the manager makes it, with a token of its own for each number."""
    entropy = hashlib.sha256(b"mail %d" % number).digest()
    token = link_token(make_selector(entropy[:16]), make_secret(entropy))
    return ResetMail(
        to=to,
        account=account or _account(to, locale=locale),
        token=token,
        link=link.replace("{token}", token),
        code=make_code(entropy) if code else None,
        created_at=NOW,
        expires_at=NOW + 30 * _MINUTE,
        code_expires_at=NOW + 10 * _MINUTE if code else None,
        locale=locale,
        context=context or {},
    )


def notice_mail(
    *,
    to: str = ALICE,
    account: Account | None = None,
    locale: str | None = None,
    context: Mapping[str, str] | None = None,
) -> PasswordChangedMail:
    """A notice as the manager makes it."""
    account = account or _account(to, locale=locale)
    return PasswordChangedMail(to=to, account=account, changed_at=NOW, locale=locale, context=context or {})


def _account(email: str, *, notify: tuple[str, ...] = (), locale: str | None = None) -> Account:
    return Account(id="1", email=email, stamp="stamp", notify=notify, locale=locale)


class MailerChecks(Conformance[Post], shipped=True):
    """What both colours promise."""

    port = "Mailer"
    opens = "open_mailer"

    # To whom.

    @promise("send")
    async def test_a_mail_goes_to_its_address_and_to_nobody_else(self, post: Post) -> None:
        """A reset mail goes to ``mail.to`` alone, whatever addresses the account and the context name."""
        account = _account("stored@example.org", notify=(BOB, "carol@example.org"))
        for code in (False, True):
            mail = reset_mail(account=account, code=code, context={"to": EVE, "cc": EVE})
            expect_addressed(await deliver(post, mail), mail)

    @promise("send")
    async def test_a_notice_goes_to_its_address_and_to_nobody_else(self, post: Post) -> None:
        """A notice goes to ``mail.to`` alone, which may be another address than the account's: each has its own."""
        account = _account(ALICE, notify=(BOB, "carol@example.org"))
        for to in (ALICE, *account.notify):
            notice = notice_mail(to=to, account=account, context={"to": EVE})
            expect_addressed(await deliver(post, notice), notice)

    @promise("send")
    async def test_an_odd_address_gets_its_mail_or_nobody_does(self, post: Post) -> None:
        """A mail to an address with odd but valid characters goes there and nowhere else, or is refused with an error.

        Such as those that a shell, sendmail's options, a route (% and !) or a format would read. CVE-2016-10033.
        """
        mails = [reset_mail(number, to=address) for number, address in enumerate(ODD_ADDRESSES)]
        await expect_delivered_or_refused(post, mails)

    @promise("send")
    async def test_an_address_in_any_script_is_not_taken_for_another(self, post: Post) -> None:
        """A mail to an address in any script goes there, or is refused: straße.example is not strasse.example.

        IDNA 2003, which Python's ``idna`` codec speaks, makes that another domain, which another person may own.
        """
        mails = [reset_mail(number, to=address) for number, address in enumerate(FOREIGN_ADDRESSES)]
        await expect_delivered_or_refused(post, mails)

    @promise("send")
    async def test_two_mails_are_two_messages(self, post: Post) -> None:
        """Each mail is a message of its own, also of two to the same address: nothing is joined, kept back or lost."""
        mails = [reset_mail(1), reset_mail(2), reset_mail(3, to=BOB), reset_mail(4)]
        for mail in mails:
            received = await deliver(post, mail)
            expect_addressed(received, mail)
            expect_whole(received, mail)
            expect_no_secret_of(received, [other for other in mails if other is not mail])

    @promise("send")
    async def test_several_may_send_at_once(self, post: Post) -> None:
        """Of mails that are sent at once each arrives once, at its own address, with its own token and code."""
        mails = [reset_mail(number, to=f"user{number}@example.org", code=True) for number in range(_SENDERS)]
        await self.together(*(post.mailer.send(mail) for mail in mails))
        arrived = list(post.inbox())
        expect(len(arrived), len(mails), "each mail is one message")
        for mail in mails:
            own = [each for each in arrived if _is_at(each, mail.to)]
            expect(len(own), 1, f"{mail.to} was sent one mail")
            expect_whole(own[0], mail)
            expect_no_secret_of(own[0], [other for other in mails if other is not mail])

    # What it says.

    @promise("send")
    async def test_the_link_arrives_whole(self, post: Post) -> None:
        """The link stands in the mail unbroken: not folded, cut or escaped, also if long or with &, % and =.

        A mail that names no address of the link's site may carry the token alone.
        """
        for number, link in enumerate(LINKS):
            mail = reset_mail(number, link=link)
            expect_whole(await deliver(post, mail), mail)

    @promise("send")
    async def test_the_code_arrives_whole(self, post: Post) -> None:
        """A mail with a code carries its 8 letters, in groups if you like, beside the link."""
        for number in range(3):
            mail = reset_mail(number, code=True)
            expect_whole(await deliver(post, mail), mail)

    @promise("send")
    async def test_a_notice_carries_no_token(self, post: Post) -> None:
        """A notice says that the password was changed, and carries no link, token or code of a mail before it."""
        mail = reset_mail(code=True)
        expect_whole(await deliver(post, mail), mail)
        received = await deliver(post, notice_mail())
        expect_that(bool(received.text.strip() or received.html.strip()), "the notice says nothing")
        expect_no_secret_of(received, [mail])

    @promise("send")
    async def test_any_locale_is_taken(self, post: Post) -> None:
        """A mail without a locale, or with one that nobody has heard of, is sent all the same."""
        for number, locale in enumerate(LOCALES):
            mail = reset_mail(number, code=True, locale=locale)
            expect_whole(await deliver(post, mail), mail)
            notice = notice_mail(locale=locale)
            expect_addressed(await deliver(post, notice), notice)

    @promise("send")
    async def test_a_visitors_context_breaks_nothing(self, post: Post) -> None:
        """Markup, headers, formats and templates in the context stay text, and the mail arrives where it should.

        A message that shows the context escapes it in HTML.
        """
        mail, notice = reset_mail(code=True, context=CONTEXT), notice_mail(context=CONTEXT)
        for each in (mail, notice):
            received = await deliver(post, each)
            expect_addressed(received, each)
            expect_that(_INJECTED not in received.html, "the visitor's markup stands in the HTML as markup")
            expect_that(_EVALUATED not in received.text + received.html, "the visitor's text was run as a template")
            if isinstance(each, ResetMail):
                expect_whole(received, each)

    @promise("send")
    async def test_a_line_break_in_the_context_adds_no_recipient(self, post: Post) -> None:
        """A context with line breaks, which the manager never passes, is kept in its place or refused with an error."""
        contexts = [context for text in BREAKS for context in ({"device": text}, {text: "device"})]
        mails = [reset_mail(number, context=context) for number, context in enumerate(contexts)]
        await expect_delivered_or_refused(post, [*mails, *(notice_mail(context=context) for context in contexts)])

    # What it answers.

    @promise("send")
    async def test_send_answers_nothing(self, post: Post) -> None:
        """A send that returns has handed the mail over and answers None: a failure is an error, never an answer."""
        for mail in (reset_mail(), reset_mail(2, code=True), notice_mail()):
            answers = await self.together(post.mailer.send(mail))
            expect(answers, [None], "nobody looks at an answer")

    @promise("send")
    async def test_no_log_line_tells_a_secret(self, post: Post) -> None:
        """What is logged while a mail is sent, at INFO and above, quotes neither token nor link nor code."""
        mail = reset_mail(code=True)
        with listening() as lines:
            await post.mailer.send(mail)
        _expect_silent(lines, mail, "a log line")

    @explored_promise("send")
    def test_a_mail_that_was_not_taken_is_an_error(self) -> None:
        """If the next hop refuses the mail or is gone, send raises an Exception, every time."""
        with self.opened_failing() as mailer:
            for mail in (reset_mail(code=True), notice_mail(), reset_mail(2)):
                expect_that(self.run(_error_of(mailer, mail)) is not None, "send returned, and the mail was not taken")

    @explored_promise("send")
    def test_a_failure_tells_no_secret(self) -> None:
        """Neither the error of a failed send, with all that led to it, nor a log line quotes token, link or code."""
        with self.opened_failing() as mailer:
            for mail in (reset_mail(code=True), reset_mail(2)):
                with listening() as lines:
                    error = self.run(_error_of(mailer, mail))
                _expect_silent(lines, mail, "a log line")
                expect_that(error is not None, "send returned, and the mail was not taken")
                _expect_silent(told_by(error), mail, "the error")

    # The colour's.

    def opened_failing(self) -> AbstractContextManager[AsyncMailer]:
        """A mailer in its async shape, whose sends fail."""
        raise NotImplementedError  # a subclass says


class MailerConformance(MailerChecks, Sync[Post], shipped=True):
    """Every promise of `Mailer`. Subclass it and write `open_mailer`; see the guide "Write an adapter"."""

    def open_mailer(self) -> AbstractContextManager[tuple[Mailer, Inbox]]:
        """A context manager that yields a mailer, and a function without arguments that says what arrived.

        It answers with a `Received` for each message since the mailer was opened, in order.
        """
        raise NotImplementedError  # a subclass says

    def failing(self) -> AbstractContextManager[Mailer]:
        """A context manager that yields a mailer whose next hop refuses each mail, or is not there."""
        undeclared("failing", "a context manager that yields a mailer whose next hop refuses or is gone")

    @override
    @contextmanager
    def opened(self) -> Generator[Post, None, None]:
        """A lifted mailer."""
        with self.open_mailer() as (mailer, inbox):
            yield Post(self.transcript.watch(LiftedMailer(mailer)), inbox)

    @override
    @contextmanager
    def opened_failing(self) -> Generator[AsyncMailer, None, None]:
        """A lifted mailer."""
        with self.failing() as mailer:
            yield self.transcript.watch(LiftedMailer(mailer))


class AsyncMailerConformance(MailerChecks, Async[Post], shipped=True):
    """Every promise of `AsyncMailer`. Subclass it and write `open_mailer`; see the guide "Write an adapter"."""

    def open_mailer(self) -> AbstractAsyncContextManager[tuple[AsyncMailer, Inbox]]:
        """As `MailerConformance.open_mailer`, but an async context manager. The function stays an ordinary one."""
        raise NotImplementedError  # a subclass says

    def failing(self) -> AbstractAsyncContextManager[AsyncMailer]:
        """As `MailerConformance.failing`, but an async context manager."""
        undeclared("failing", "an async context manager that yields a mailer whose next hop refuses or is gone")

    @override
    @contextmanager
    def opened(self) -> Generator[Post, None, None]:
        """The mailer, in a loop of its own."""
        with self.in_loop(self._post()) as post:
            yield post

    @override
    @contextmanager
    def opened_failing(self) -> Generator[AsyncMailer, None, None]:
        """The mailer, in a loop of its own."""
        with self.in_loop(self._failing_post()) as post:
            yield post.mailer

    @asynccontextmanager
    async def _post(self) -> AsyncGenerator[Post, None]:
        async with self.open_mailer() as (mailer, inbox):
            yield Post(self.transcript.watch(mailer), inbox)

    @asynccontextmanager
    async def _failing_post(self) -> AsyncGenerator[Post, None]:
        async with self.failing() as mailer:
            yield Post(self.transcript.watch(mailer), inbox=tuple)


# What the checks say again and again.


async def deliver(post: Post, mail: Mail) -> Received:
    """Send `mail`, and see the one message that it became."""
    before = len(post.inbox())
    await post.mailer.send(mail)
    arrived = post.inbox()[before:]
    expect(len(arrived), 1, "one mail is one message, and the next hop has it when send returns")
    return arrived[0]


def expect_addressed(received: Received, mail: Mail) -> None:
    """The message went to the mail's address alone."""
    to = [str(each) for each in received.to]
    expect_that(_is_at(received, mail.to), f"the mail is for {str(mail.to)!r} alone, and went to {to}")


async def expect_delivered_or_refused(post: Post, mails: Sequence[Mail]) -> None:
    """Each mail goes to its address alone; or send raises, and it goes nowhere."""
    sent = [mail for mail in mails if await _error_of(post.mailer, mail) is None]
    arrived = post.inbox()
    expect(len(arrived), len(sent), "what is refused arrives nowhere, all else once")
    for received, mail in zip(arrived, sent, strict=True):
        expect_addressed(received, mail)
        if isinstance(mail, ResetMail):
            expect_whole(received, mail)


def expect_whole(received: Received, mail: ResetMail) -> None:
    """Each part of the message carries the link, and the code where there is one."""
    parts = {"text": received.text.strip(), "HTML": received.html.strip()}
    expect_that(any(parts.values()), "the message says nothing")
    for kind, part in parts.items():
        if part:
            text = unescape(part) if kind == "HTML" else part
            expect_that(_has_link(text, mail), f"the link is not whole in the {kind}: expected {mail.link} in {text}")
        if part and mail.code is not None:
            expect_that(mail.code in _letters(part), f"the code {mail.code} is not in the {kind}: {part}")


def expect_no_secret_of(received: Received, mails: Sequence[ResetMail]) -> None:
    """The message carries nothing of these mails."""
    for mail in mails:
        told = _tells(f"{received.text}\n{received.html}", mail)
        expect_that(not told, f"it carries the token or code of another mail: {received.text or received.html}")


def _is_at(received: Received, address: str) -> bool:
    return [_plain(each) for each in received.to] == [_plain(address)]


def _plain(address: str) -> tuple[str, str]:
    """Local part and domain, such that the two spellings of a domain are one (RFC 5891) and two domains are two."""
    local, _, domain = address.rpartition("@")
    return local, ".".join(map(_label, domain.lower().split(".")))


def _label(label: str) -> str:
    if label.startswith("xn--") and label.isascii():
        label = label[4:].encode().decode("punycode", "replace")
    return unicodedata.normalize("NFC", label)


def _has_link(text: str, mail: ResetMail) -> bool:
    """The link, and nothing glued to it; or the token, where nothing leads to the link's site."""
    site = "/".join(mail.link.split("/")[:3]) + "/"
    wanted = mail.link if site in text else mail.token
    return re.search(re.escape(wanted) + r"(?![0-9A-Za-z])", text) is not None


def _letters(text: str) -> str:
    return _BETWEEN.sub("", unescape(_TAG.sub("", text))).upper()


def _part(message: EmailMessage, kind: Literal["plain", "html"]) -> str:
    part = message.get_body((kind,))
    return part.get_content() if part else ""


async def _error_of(mailer: AsyncMailer, mail: Mail) -> Exception | None:
    try:
        await mailer.send(mail)
    except Exception as error:  # noqa: BLE001  # the contract: any
        return error
    return None


def _tells(text: str, mail: ResetMail) -> bool:
    """Whether `text` shows the token, its secret half (so also the link), or the code."""
    secret = mail.token[32:]
    return secret in text or (mail.code is not None and mail.code in _letters(text))


def _expect_silent(lines: Sequence[str], mail: ResetMail, where: str) -> None:
    for line in lines:
        expect_that(not _tells(line, mail), f"the token or the code stands in {where}: {line}")
