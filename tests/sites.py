"""Our own managers as sites for the vectors, and sites that are broken in one way each, as hand-written resets are."""

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from typing_extensions import override

from harness import KEY
from resetkit import (
    Account,
    AsyncResetManager,
    InvalidRequestError,
    InvalidTokenError,
    KeyedTokenHasher,
    Mail,
    PasswordRejectedError,
    ResetManager,
    ResetReceipt,
    ThrottledError,
)
from resetkit.dispatch import AsyncInlineDispatcher, InlineDispatcher
from resetkit.errors import ResetError
from resetkit.mailers import AsyncMemoryMailer, MemoryMailer, default_message
from resetkit.stores import AsyncMemoryTokenStore, MemoryTokenStore
from resetkit.testing import AsyncFakeAccounts, FakeAccounts
from resetkit.testing.vectors import Mailed

T = TypeVar("T")


class SyncSite:
    """`ResetManager` with nothing around it: headers become context, errors become answers."""

    def __init__(self, link: str) -> None:
        self.accounts = FakeAccounts()
        self.ids: dict[str, str] = {}
        self.mailer = self.make_mailer()
        self.manager: Any = self.make_manager(link)

    def make_mailer(self) -> MemoryMailer | AsyncMemoryMailer:
        return MemoryMailer()

    def make_manager(self, link: str) -> Any:
        return ResetManager(
            self.accounts,
            MemoryTokenStore(),
            self.mailer,  # type: ignore[arg-type]  # of this colour
            link=link,
            hasher=KeyedTokenHasher([KEY]),
            dispatcher=InlineDispatcher(),
        )

    def call(self, result: Any) -> Any:
        return result

    def close(self) -> None:
        self.manager.close()

    def register(self, email: str, password: str, /) -> None:
        account_id = str(len(self.ids) + 1)
        self.accounts.add(account_id, email, password=password)
        self.ids[email] = account_id

    def ask(self, identifier: Any, headers: Mapping[str, str], /) -> object:
        try:
            answer: ResetReceipt = self.call(self.manager.request_reset(identifier, client=None, context=headers))
        except (ThrottledError, InvalidRequestError) as refused:
            return refused.reason
        return answer

    def mails(self) -> Sequence[Mailed]:
        return [Mailed((str(mail.to),), written(mail)) for mail in self.mailer.outbox]

    def look(self, token: Any, /) -> None:
        try:
            self.call(self.manager.check_token(token))
        except (InvalidTokenError, InvalidRequestError):
            return

    def redeem(self, token: Any, new_password: Any, /) -> bool:
        try:
            self.call(self.manager.reset_password(token, new_password))
        except (InvalidTokenError, InvalidRequestError, PasswordRejectedError):
            return False
        return True

    def logs_in(self, email: str, password: str, /) -> bool:
        return self.accounts.password(self.ids[email]) == password


class AsyncSite(SyncSite):
    """`AsyncResetManager`, in a loop of its own that any thread may call."""

    @override
    def make_mailer(self) -> AsyncMemoryMailer:
        return AsyncMemoryMailer()

    @override
    def make_manager(self, link: str) -> Any:
        manager = AsyncResetManager(
            AsyncFakeAccounts(self.accounts),
            AsyncMemoryTokenStore(),
            self.mailer,  # type: ignore[arg-type]  # of this colour
            link=link,
            hasher=KeyedTokenHasher([KEY]),
            dispatcher=AsyncInlineDispatcher(),
        )
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        return manager

    @override
    def call(self, result: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(result, self.loop).result()

    @override
    def close(self) -> None:
        self.call(self.manager.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


def written(mail: Mail) -> str:
    """The mail as its reader gets it."""
    message = default_message(mail)
    parts = [part.get_content() for part in message.walk() if not part.is_multipart()]
    return "\n".join([*(f"{name}: {text}" for name, text in message.items()), *parts])


def opener(site: Callable[[str], SyncSite]) -> Callable[[str], Any]:
    """What opens such sites."""

    @contextmanager
    def open_site(link: str) -> Generator[SyncSite, None, None]:
        opened = site(link)
        try:
            yield opened
        finally:
            opened.close()

    return open_site


# Broken in one way each.


class MailsWhatWasTyped(SyncSite):
    """Compares what it folded, and mails to what was typed."""

    @override
    def mails(self) -> Sequence[Mailed]:
        return [Mailed((self.typed,), mail.text) for mail in super().mails()]

    @override
    def ask(self, identifier: Any, headers: Mapping[str, str], /) -> object:
        self.typed = str(identifier)
        return super().ask(identifier, headers)


class FoldingAccounts(FakeAccounts):
    """The first account that looks alike, as a loose collation finds it."""

    @override
    def find(self, identifier: str, /) -> Account | None:
        wanted = identifier.upper()
        return next((each.account for each in self._entries.values() if each.account.email.upper() == wanted), None)


class FindsTheFirstThatFolds(SyncSite):
    """Of two that fold alike, mails the first."""

    @override
    def register(self, email: str, password: str, /) -> None:
        super().register(email, password)
        entries = list(self.accounts._entries.items())
        self.accounts._entries = dict(entries[::-1])

    @override
    def make_manager(self, link: str) -> Any:
        self.accounts = FoldingAccounts()
        return super().make_manager(link)


class TakesLists(SyncSite):
    """Asks for the first of a list and mails to all of it."""

    copies: tuple[Mailed, ...] = ()

    @override
    def ask(self, identifier: Any, headers: Mapping[str, str], /) -> object:
        if not isinstance(identifier, list) or not identifier or not isinstance(identifier[0], str):
            return super().ask(identifier, headers)
        answer = super().ask(identifier[0], headers)
        self.copies = tuple(Mailed(tuple(identifier), mail.text) for mail in super().mails()[-1:])
        return answer

    @override
    def mails(self) -> Sequence[Mailed]:
        return [*super().mails(), *self.copies]


class TakesListsOfTokens(SyncSite):
    """Takes the first of a list for the token."""

    @override
    def redeem(self, token: Any, new_password: Any, /) -> bool:
        return super().redeem(token[0] if isinstance(token, list) and token else token, new_password)


class WritesAnyPassword(SyncSite):
    """Makes a text of whatever comes as a password."""

    @override
    def redeem(self, token: Any, new_password: Any, /) -> bool:
        return super().redeem(token, str(new_password))


class MailsEveryOneOfAList(SyncSite):
    """Splits what was typed at commas."""

    @override
    def ask(self, identifier: Any, headers: Mapping[str, str], /) -> object:
        for each in str(identifier).split(","):
            super().ask(each.strip(), headers)
        return super().ask("nobody@example.com", headers)


class SplitsLines(SyncSite):
    """Takes the first line of what was typed."""

    @override
    def ask(self, identifier: Any, headers: Mapping[str, str], /) -> object:
        return super().ask((str(identifier).splitlines() or [""])[0], headers)


class AnswersByForm(SyncSite):
    """Tells whether what was typed looks like an address."""

    @override
    def ask(self, identifier: Any, headers: Mapping[str, str], /) -> object:
        answer = super().ask(identifier, headers)
        return answer if re.fullmatch(r"[^@\s]+@[^@\s]+", str(identifier)) else "That is no address."


class CrashesOnNul(SyncSite):
    """As a driver does that is handed NUL or half a character."""

    @override
    def ask(self, identifier: Any, headers: Mapping[str, str], /) -> object:
        if "\0" in str(identifier):
            raise ValueError("A string literal cannot contain NUL (0x00) characters.")
        return super().ask(identifier, headers)


class StoresAnything(SyncSite):
    """Mails to whatever stands in its table."""

    def __init__(self, link: str) -> None:
        super().__init__(link)
        self.stored: dict[str, str] = {}

    @override
    def register(self, email: str, password: str, /) -> None:
        plain = f"{len(self.stored)}@example.org"
        self.stored[plain] = email
        super().register(plain, password)

    @override
    def ask(self, identifier: Any, headers: Mapping[str, str], /) -> object:
        plain = next((plain for plain, email in self.stored.items() if email == identifier), identifier)
        return super().ask(plain, headers)

    @override
    def mails(self) -> Sequence[Mailed]:
        return [Mailed((self.stored[mail.recipients[0]],), mail.text) for mail in super().mails()]


class BelievesTheHost(SyncSite):
    """Builds the link from the request."""

    host = "app.example"

    @override
    def ask(self, identifier: Any, headers: Mapping[str, str], /) -> object:
        self.host = headers.get("X-Forwarded-Host") or headers.get("Host") or self.host
        return super().ask(identifier, headers)

    @override
    def mails(self) -> Sequence[Mailed]:
        return [Mailed(mail.recipients, mail.text.replace("app.example", self.host)) for mail in super().mails()]


class TakesAnyLink(SyncSite):
    """Looks only for the token's place."""

    def __init__(self, link: str) -> None:
        self.link = link
        super().__init__("https://app.example/reset#{token}")

    @override
    def mails(self) -> Sequence[Mailed]:
        base = self.link.partition("{token}")[0]
        told = [mail.text.replace("https://app.example/reset#", base) for mail in super().mails()]
        return [Mailed(mail.recipients, text) for mail, text in zip(super().mails(), told, strict=True)]


class CleansTokens(SyncSite):
    """Keeps what looks like a token of any text."""

    @override
    def redeem(self, token: Any, new_password: Any, /) -> bool:
        return super().redeem(re.sub(r"[^0-9a-f]", "", str(token).lower()), new_password)


class BlankTokenOpensTheFirstAccount(SyncSite):
    """A blank token matches the blank column of who never asked."""

    @override
    def redeem(self, token: Any, new_password: Any, /) -> bool:
        if not str(token).strip():
            self.accounts.set_password("1", str(new_password))
            return True
        return super().redeem(token, new_password)


class BurnsOnSight(SyncSite):
    """Opening the page spends the token."""

    @override
    def look(self, token: Any, /) -> None:
        super().redeem(token, "whatever")


class StripsPasswords(SyncSite):
    """Cleans the new password up."""

    @override
    def redeem(self, token: Any, new_password: Any, /) -> bool:
        return super().redeem(token, new_password.strip() if isinstance(new_password, str) else new_password)


class CutsPasswords(SyncSite):
    """Reads 72 bytes of a password, silently."""

    @override
    def redeem(self, token: Any, new_password: Any, /) -> bool:
        return super().redeem(token, new_password[:72] if isinstance(new_password, str) else new_password)


class NeverSpends(SyncSite):
    """Keeps every token good."""

    def __init__(self, link: str) -> None:
        super().__init__(link)
        self.known: dict[str, str] = {}

    @override
    def redeem(self, token: Any, new_password: Any, /) -> bool:
        try:
            ticket = self.manager.check_token(token)
        except ResetError:
            account_id = self.known.get(token) if isinstance(token, str) else None
        else:
            account_id = self.known[token] = ticket.account_id
        if account_id is not None and isinstance(new_password, str):
            self.accounts.set_password(account_id, new_password)
        return account_id is not None


class ChecksAndThenActs(SyncSite):
    """Looks whether the token is good, and sets the password when another has looked too."""

    def __init__(self, link: str) -> None:
        super().__init__(link)
        self.both = threading.Barrier(2)
        self.lock = threading.Lock()
        self.callers: list[str] = []

    @override
    def redeem(self, token: Any, new_password: Any, /) -> bool:
        with self.lock:
            self.callers.append(token)
            place = self.callers.count(token)
        if place > 2:
            return super().redeem(token, new_password)
        try:
            account_id = self.manager.check_token(token).account_id
        except InvalidTokenError:
            account_id = None
        self.both.wait()
        if account_id is not None:
            self.accounts.set_password(account_id, new_password)
        return account_id is not None


class CountsAndThenMails(SyncSite):
    """Of requests at the same moment, each counts before any has mailed."""

    more: tuple[Mailed, ...] = ()

    @override
    def ask(self, identifier: Any, headers: Mapping[str, str], /) -> object:
        answer = super().ask(identifier, headers)
        if threading.current_thread() is not threading.main_thread():
            self.more += (Mailed((str(identifier),), ""),)
        return answer

    @override
    def mails(self) -> Sequence[Mailed]:
        return [*super().mails(), *self.more]


class DoesNothing(SyncSite):
    """Refuses every token, and mails nobody."""

    @override
    def ask(self, identifier: Any, headers: Mapping[str, str], /) -> object:
        return None

    @override
    def redeem(self, token: Any, new_password: Any, /) -> bool:
        return False


# The group that must catch each of them.
TWINS: Mapping[type[SyncSite], str] = {
    TakesLists: "types",
    TakesListsOfTokens: "types",
    WritesAnyPassword: "types",
    MailsWhatWasTyped: "look_alikes",
    FindsTheFirstThatFolds: "look_alikes",
    MailsEveryOneOfAList: "recipients",
    SplitsLines: "header_injection",
    AnswersByForm: "hostile_text",
    CrashesOnNul: "hostile_text",
    StoresAnything: "stored_addresses",
    BelievesTheHost: "request_headers",
    TakesAnyLink: "link_bases",
    CleansTokens: "malformed_tokens",
    BlankTokenOpensTheFirstAccount: "malformed_tokens",
    StripsPasswords: "passwords",
    CutsPasswords: "passwords",
    BurnsOnSight: "orders",
    NeverSpends: "orders",
    ChecksAndThenActs: "races",
    CountsAndThenMails: "races",
}
