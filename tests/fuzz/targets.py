"""One function for each part that reads what strangers, developers or a store's thieves write.

A target takes any bytes, and returns if its promise held: what comes out is what the documentation names, and nothing
else. It needs no fuzzer, so the suite replays the kept inputs; `run.py` hands it new ones.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from unicodedata import normalize
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from typing_extensions import override

from resetkit import (
    Account,
    Argon2TokenHasher,
    ConfigurationError,
    InvalidTokenError,
    KeyedTokenHasher,
    PasswordRejectedError,
    ResetMail,
    ResetManager,
    ResetPolicy,
    ResetReceipt,
    TokenHasher,
    TokenRecord,
    code_token,
    hashing,
)
from resetkit._confidential import Secret
from resetkit._link import check_link, fill_link
from resetkit._tokens import CODE_ALPHABET, bind, link_token, make_code, parse_token, stamp_digest
from resetkit.dispatch import InlineDispatcher
from resetkit.events import Event, RequestDropped
from resetkit.mailers import MemoryMailer, default_message
from resetkit.stores import MemoryTokenStore
from resetkit.testing import FakeAccounts, FakeClock

LINK: Final = "https://app.example/reset#{token}"
KEY: Final = bytes(range(32))
HASHER: Final = KeyedTokenHasher([KEY])
NOW: Final = datetime(2030, 1, 1, tzinfo=UTC)
ADDRESS: Final = "alice@example.org"
STORED: Final = frozenset({ADDRESS, "bob@example.org"})
PASSWORD: Final = "new password"
SELECTOR: Final = "0" * 32
CODE: Final = "BCDFGHJK"
ROOMY: Final = ResetPolicy(identifier_limit=(100, timedelta(minutes=1)))


def text_of(data: bytes) -> str:
    """Any bytes as a text, and any text from some bytes: what is no UTF-8 becomes a lone surrogate."""
    return data.decode("utf-8", "surrogateescape")


# Tokens and codes: what the visitor brings back.


def token(data: bytes) -> None:
    """Any text is a token that reads as it was made, or none; a guessed one opens nothing and changes nothing."""
    text = text_of(data)
    parsed = parse_token(text)
    if parsed is not None:
        made = code_token(parsed.selector, parsed.secret)
        assert text == (link_token(parsed.selector, parsed.secret) if parsed.part == "link" else made)
    accounts, manager = _with_a_record("an unknown code")
    assert _refusal(lambda: manager.check_token(text)) == "unknown"
    assert _refusal(lambda: manager.reset_password(text, text)) in {"unknown", "password_rejected"}
    assert accounts.password("alice") == "old"
    assert accounts.sessions("alice") == 1


def code(data: bytes) -> None:
    """Typed text makes a code or nothing; a code is read however it is typed; the right one alone opens."""
    typed = text_of(data)
    token = code_token(SELECTOR, typed)
    parsed = parse_token(token)
    accounts, manager = _with_a_record(CODE)
    refusal = _refusal(lambda: manager.reset_password(token, PASSWORD))
    if parsed is not None:
        assert (parsed.part, parsed.selector) == ("code", SELECTOR)
        assert code_token(SELECTOR, parsed.secret.lower()) == token
    right = parsed is not None and parsed.secret == CODE
    assert refusal == (None if right else "unknown")
    assert accounts.password("alice") == (PASSWORD if right else "old")
    made = make_code(data[:32].ljust(32, b"\0"))
    assert code_token(SELECTOR, _typed(made, data)) == f"{SELECTOR}-{made}"


_SPELLINGS: Final = {"D": "0Oo", "L": "1Ii|!", "Z": "2", "S": "5$", "G": "6", "B": "8", "V": "Uu"}
_BETWEEN: Final = ("", "", " ", "-", "\u00a0", "\u2013", "_.", "\t")


def _typed(code: str, data: bytes) -> str:
    """The code as a person might type it, by choice of `data`."""
    choices = data.ljust(len(code), b"\0")
    written = ""
    for letter, choice in zip(code, choices, strict=False):
        wide = chr(ord(letter) - ord("A") + ord("\uff21"))
        ways = [letter, letter.lower(), wide, *_SPELLINGS.get(letter, "")]
        written += ways[choice % len(ways)] + _BETWEEN[choice // 16 % len(_BETWEEN)]
    return written


def _with_a_record(code: str) -> tuple[FakeAccounts, ResetManager]:
    """A manager with alice's outstanding record under SELECTOR, whose code is known and whose link is not."""
    accounts, store = FakeAccounts(), MemoryTokenStore()
    account = accounts.add("alice", ADDRESS)
    ends = NOW + timedelta(minutes=10)
    bound: dict[str, Any] = {"realm": "", "kind": "mail", "selector": SELECTOR, "account_id": account.id}
    bound |= {"stamp_digest": stamp_digest("", SELECTOR, account), "expires_at": ends}
    record = TokenRecord(
        selector=SELECTOR,
        account_id=account.id,
        kind="mail",
        link_hash=HASHER.hash(bytes(32)),
        code_hash=HASHER.hash(bind("code", code, **bound)),
        stamp_digest=bound["stamp_digest"],
        created_at=NOW,
        expires_at=ends,
        code_expires_at=ends,
        keep_until=ends,
    )
    assert store.add(record, quotas=(), keep=1)
    return accounts, _manager(accounts, store)


def _refusal(call: Callable[[], object]) -> str | None:
    """The word of the error that may come out, None for success."""
    try:
        call()
    except (InvalidTokenError, PasswordRejectedError) as refused:
        return refused.reason
    return None


def _manager(accounts: Any, store: MemoryTokenStore, **options: Any) -> ResetManager:
    defaults: dict[str, Any] = {
        "link": LINK,
        "hasher": HASHER,
        "dispatcher": InlineDispatcher(),
        "clock": FakeClock(NOW),
        "on_event": lambda _: None,
    }
    return ResetManager(accounts, store, options.pop("mailer", MemoryMailer()), **(defaults | options))


# Identifiers, and the jobs that carry them: what the visitor types first.


class _ForgivingAccounts(FakeAccounts):
    """A directory that compares as forgivingly as a database's collation may."""

    def __init__(self) -> None:
        super().__init__()
        self.add("alice", ADDRESS)
        self.add("bob", "bob@example.org")
        self.asked: list[str] = []

    @override
    def find(self, identifier: str, /) -> Account | None:
        self.asked.append(identifier)
        return super().find(normalize("NFKC", identifier).strip())


def identifier(data: bytes) -> None:
    """Any text is answered alike, and mail goes to stored addresses only; a directory sees one line, as typed."""
    text = text_of(data)
    accounts, mailer, told = _ForgivingAccounts(), MemoryMailer(), list[Event]()
    options: dict[str, Any] = {"policy": ROOMY, "on_event": told.append}
    manager = _manager(accounts, MemoryTokenStore(), mailer=mailer, **options)
    assert manager.request_reset(text, client=text, context={text: text}) == ResetReceipt()
    receipt = manager.request_reset(text, client=text, code=True)
    assert re.fullmatch("[0-9a-f]{32}", receipt.handle or "")
    assert receipt == ResetReceipt(handle=receipt.handle)
    assert accounts.asked in ([], [text, text])
    if accounts.asked:
        assert 1 <= len(text) <= ROOMY.max_identifier_length
        assert not set(text) & set("\r\n\0\u2028\u2029\x85")
        text.encode()
    known = [normalize("NFKC", asked).strip().casefold() for asked in accounts.asked]
    assert [mail.to for mail in mailer.outbox] == [address for address in known if address in STORED]
    assert all(event.reason in {"empty", "unknown"} for event in told if isinstance(event, RequestDropped))
    for mail in mailer.outbox:
        assert all(len(each) <= 200 and each.isprintable() for entry in mail.context.items() for each in entry)


def job(data: bytes) -> None:
    """A queue may carry any text: no error comes of it, and mail goes to an account's address or a notice's only."""
    text = text_of(data)
    accounts, mailer = _ForgivingAccounts(), MemoryMailer()
    manager = _manager(accounts, MemoryTokenStore(), mailer=mailer)
    manager.run_job(text)
    manager.run_job(text)
    for mail in mailer.outbox:
        assert mail.account.id in {"alice", "bob"}
        assert default_message(mail)["Subject"]
        if isinstance(mail, ResetMail):
            assert mail.to == mail.account.email


# Links and policies: what a developer, or a file of settings, may hold.


def link(data: bytes) -> None:
    """A template is refused, or every link made of it is an https link to its own host that carries the token whole."""
    text = text_of(data)
    try:
        template = check_link(text)
    except ConfigurationError:
        return
    assert template == text
    for digit in "1af":
        token = Secret(f"{digit}0e7d2c9b5a8" * 8)
        made = str(fill_link(template, token))
        assert re.fullmatch(r"[!-~]+", made)
        assert not set(made) & set('\\<>"{}^`|')
        url, origin = urlsplit(made), re.match(r"(https?)://([^/?#]+)", made.lower())
        assert origin is not None
        scheme, netloc = origin.groups()
        host = re.fullmatch(r"([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::\d*)?", netloc)
        assert host is not None, "a plain host and nothing else"
        assert scheme == "https" or host[1] == "localhost" or host[1].startswith(("127.", "[")), "a stranger's host"
        assert token not in netloc
        rest = url.path + "?" + url.query + "#" + url.fragment
        assert unquote(rest).count(token) == 1, "the token does not arrive whole"


class Drawn:
    """Values of any kind, chosen by bytes; zeros follow the last."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def bytes(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken.ljust(count, b"\0")

    def whole(self, size: Literal[1, 2, 8], *, signed: bool = False) -> int:
        return int.from_bytes(self.bytes(size), signed=signed)

    def value(self, depth: int = 0) -> Any:
        """A value; nested ones but twice."""
        kinds: list[Callable[[], Any]] = [
            lambda: self.whole(1),
            lambda: timedelta(seconds=self.whole(2)),
            lambda: (self.whole(1), timedelta(seconds=self.whole(2))),
            lambda: tuple((self.whole(1), timedelta(minutes=self.whole(2))) for _ in range(self.whole(1) % 4)),
            lambda: timedelta(minutes=self.whole(2)),
            lambda: self.whole(8, signed=True),
            lambda: timedelta(microseconds=self.whole(8, signed=True)),
            lambda: struct.unpack("<d", self.bytes(8))[0],
            lambda: bool(self.whole(1) % 2),
            lambda: None,
            lambda: text_of(self.bytes(self.whole(1) % 8)),
            lambda: self.bytes(self.whole(1) % 8),
            lambda: 1 << 8 * self.whole(1),
            lambda: tuple(self.value(depth + 1) for _ in range(self.whole(1) % 4 if depth < 2 else 0)),
            lambda: [self.value(depth + 1) for _ in range(self.whole(1) % 4 if depth < 2 else 0)],
        ]
        return kinds[self.whole(1) % len(kinds)]()


_POLICY_FIELDS: Final = tuple(each.name for each in fields(ResetPolicy))


def policy(data: bytes) -> None:
    """A policy is refused with ConfigurationError, or it is within its bounds and a whole reset works under it."""
    drawn, chosen = Drawn(data), dict[str, Any]()
    while drawn:
        name = _POLICY_FIELDS[drawn.whole(1) % len(_POLICY_FIELDS)]
        chosen[name] = drawn.value()
    try:
        made = ResetPolicy(**chosen)
    except ConfigurationError:
        return
    assert replace(made) == made
    hours, second = timedelta(hours=1), timedelta(seconds=1)
    assert second <= made.code_lifetime <= made.link_lifetime <= 24 * hours
    assert timedelta(0) < made.head_start <= made.link_lifetime / 2
    assert made.retention >= max(within for _, within in made.account_quotas)
    assert 1 <= made.mail_attempts <= 10
    for each in fields(made):
        if each.type is int:
            assert 1 <= getattr(made, each.name) < 2**31, "what every database can count"
    guesses = made.code_guesses * _mails_in_a_day(made, most=101)
    assert guesses <= 100
    assert guesses / len(CODE_ALPHABET) ** 8 <= 1e-6
    _reset_under(made)


def _mails_in_a_day(policy: ResetPolicy, *, most: int) -> int:
    """How many mails an account gets from a stranger who asks whenever the quotas allow it."""
    sent: list[timedelta] = []
    now = timedelta(0)
    while now < timedelta(days=1) and len(sent) < most:
        sent.append(now)
        waits = [sent[-count] + within for count, within in policy.account_quotas if count <= len(sent)]
        now = max([now, *(wait + timedelta(seconds=1) for wait in waits)])
    return len(sent)


class _OneAccount(FakeAccounts):
    """A directory that knows whoever is asked for, so that the length of an identifier may be anything."""

    @override
    def find(self, identifier: str, /) -> Account | None:
        return self.get("alice")


def _reset_under(policy: ResetPolicy) -> None:
    accounts, mailer, clock = _OneAccount(), MemoryMailer(), FakeClock(NOW)
    accounts.add("alice", ADDRESS)
    manager = _manager(accounts, MemoryTokenStore(), mailer=mailer, policy=policy, clock=clock)
    receipt = manager.request_reset("a", client="192.0.2.1", code=True)
    (mail,) = mailer.outbox
    assert isinstance(mail, ResetMail)
    assert default_message(mail)["Subject"]
    assert mail.expires_at - NOW == policy.link_lifetime
    manager.reset_password(code_token(receipt.handle or "", mail.code or ""), PASSWORD, client="192.0.2.1")
    assert accounts.password("alice") == PASSWORD
    clock.advance(policy.link_lifetime + policy.retention + timedelta(seconds=1))
    assert manager.purge_tokens() == 1
    manager.close(0)


# Stored hashes: what a thief who can write the store may put there.

_CHEAP: Final[dict[str, Any]] = {"time_cost": 1, "memory_cost": 8}
HASHERS: Final[tuple[TokenHasher, ...]] = (
    Argon2TokenHasher(**_CHEAP),
    Argon2TokenHasher(**_CHEAP, keys=[KEY], accept_unkeyed=True),
    HASHER,
)
_PRESENTED: Final = b"\xff" * 32  # what no kept input was made from

# The grammar that libargon2 reads (encoding.c, decode_string), as far as it leads to work.
_ARGON2: Final = re.compile(r"\$argon2id(?:\$v=\d+)?\$m=(\d+),t=(\d+),p=(\d+)\$.*", re.ASCII | re.DOTALL)


class _Watched(PasswordHasher):
    """Argon2 that looks at the bill before it pays, and pays small ones only: a fuzzer has thousands a second."""

    @override
    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
        assert isinstance(hash, str)
        if costs := _ARGON2.fullmatch(hash):
            memory, passes, lanes = map(int, costs.groups())
            assert memory <= 262_144, "KiB"
            assert memory * passes <= 1_048_576
            assert lanes <= 16
            if memory * passes > 4096:
                raise VerifyMismatchError
        return super().verify(hash, password)


def stored_hash(data: bytes) -> None:
    """No stored text is an error, costs more than the caps allow, or verifies what it was not made from."""
    text = text_of(data)
    with patch.object(hashing, "PasswordHasher", _Watched):
        for hasher in HASHERS:
            assert hasher.verify(text, _PRESENTED) is False


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    each.__name__: each for each in (token, code, identifier, job, link, policy, stored_hash)
}
"""Each by the name of its folder in `corpus`."""
