"""The whole story in the terminal: real store, real hashing, real SMTP on loopback."""

import secrets
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from queue import Queue

from argon2 import PasswordHasher

from resetkit._inbox import open_inbox
from resetkit._sync import ResetManager
from resetkit.errors import InvalidTokenError
from resetkit.events import Event
from resetkit.mailers.smtp import SMTPMailer
from resetkit.stores.sqlite import SQLiteTokenStore
from resetkit.values import Account

_ADDRESS = "alice@example.org"
_RACERS = 16


def run_demo() -> None:
    """Tell the story on a file in a temporary folder, which is gone afterwards."""
    inbox: Queue[EmailMessage] = Queue()
    with tempfile.TemporaryDirectory(prefix="resetkit-demo-") as folder, open_inbox(inbox.put) as port:
        _tell(Path(folder) / "tokens.sqlite3", port, inbox)


def _tell(file: Path, port: int, inbox: "Queue[EmailMessage]") -> None:
    accounts, clock, events = _Accounts(), _Clock(), list[Event]()
    store = SQLiteTokenStore(file)
    mailer = SMTPMailer("127.0.0.1", port=port, security="plaintext", sender="no-reply@app.example")
    link = "https://app.example/reset#{token}"
    manager = ResetManager(accounts, store, mailer, link=link, clock=clock, on_event=events.append)
    with manager:
        _say("1. Alice forgot her password. She asks, and a stranger asks for an address that nobody has.")
        print("  ", manager.request_reset(_ADDRESS, client="192.0.2.1"))
        print("  ", manager.request_reset("nobody@example.org", client="192.0.2.2"))

        _say("2. The answers are alike. One mail went through SMTP, to the stored address:")
        mail = inbox.get(timeout=30)
        token = _show(mail)

        _say("3. A mail scanner opens the link, then Alice does. Looking never spends it.")
        for who in ("the scanner", "Alice"):
            print(f"   {who}: good until {manager.check_token(token).expires_at:%H:%M} UTC")

        _say(f"4. {_RACERS} requests use the link at the same moment, each with a password of its own.")
        outcomes = _race(manager, token)
        print(f"   {outcomes.count('reset')} reset the password; {outcomes.count('used')} were told that it was used.")
        print(f"   Alice's sessions were ended {accounts.ended} time.")

        _say("5. Alice, too, is told by a mail that her password was changed:")
        print("  ", inbox.get(timeout=30)["Subject"])

        _say("6. The link, once more:")
        _refused(manager, token)

        _say("7. She asks again, and comes back 31 minutes later.")
        manager.request_reset(_ADDRESS, client="192.0.2.1")
        token = _token(inbox.get(timeout=30))
        clock.advance(timedelta(minutes=31))
        _refused(manager, token)

        _say("8. What the application was told meanwhile:")
        for event, times in Counter(map(repr, events)).items():
            print(f"   {event}" + f" ({times} times)" * (times > 1))

        _say("That was a link. Codes to type, refused passwords and more: resetkit demo --web.")
    store.close()


def _race(manager: ResetManager, token: str) -> list[str]:
    barrier = threading.Barrier(_RACERS)

    def redeem(_: int) -> str:
        barrier.wait()
        try:
            manager.reset_password(token, secrets.token_urlsafe(12))
        except InvalidTokenError as refused:
            return refused.reason
        return "reset"

    with ThreadPoolExecutor(_RACERS) as racers:
        return list(racers.map(redeem, range(_RACERS)))


def _refused(manager: ResetManager, token: str) -> None:
    try:
        manager.reset_password(token, "a new password")
    except InvalidTokenError as refused:
        print(f"   {refused.reason}: {refused}")


def _say(sentence: str) -> None:
    print(f"\n{sentence}")


def _show(mail: EmailMessage) -> str:
    print(f"   To: {mail['To']}\n   Subject: {mail['Subject']}\n")
    for line in _text(mail).splitlines():
        print("   |", line)
    return _token(mail)


def _text(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    return str(body.get_content()) if body else ""


def _token(mail: EmailMessage) -> str:
    return _text(mail).partition("#")[2].split()[0]


class _Accounts:
    """One account, with its password hashed."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._stored = self._hasher.hash("forgotten")
        self.ended = 0

    def find(self, identifier: str, /) -> Account | None:
        return self.get("alice") if identifier.lower() == _ADDRESS else None

    def get(self, account_id: str, /) -> Account | None:
        return Account(id="alice", email=_ADDRESS, stamp=self._stored) if account_id == "alice" else None

    def set_password(self, _account_id: str, new_password: str, /) -> None:
        self._stored = self._hasher.hash(new_password)

    def end_sessions(self, _account_id: str, /) -> None:
        self.ended += 1


class _Clock:
    """Time, which the story moves on."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> None:
        self._now += by
