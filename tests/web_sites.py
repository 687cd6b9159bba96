"""The web examples, each behind a real socket, with a real mail server beside it.

A site is served in this process, so that a test may give it a policy with room, and see when all mails are out.
"""

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from werkzeug.serving import make_server

import accounts as site_accounts
import flask_app
from harness import KEY
from resetkit import KeyedTokenHasher, ResetManager, ResetPolicy
from resetkit.events import Event, JobLost, MailFailed, MailSent, PasswordReset, RequestDropped, ResetRequested
from resetkit.mailers import SMTPMailer
from resetkit.stores import SQLiteTokenStore
from smtp_server import Certificates, Delivery, MailServer

PATIENCE: Final = 60  # seconds: a machine that is busy is slow
CERTIFICATES: Final = Certificates()

ADDRESS: Final = "alice@example.org"
PASSWORD: Final = "correct horse battery"


def roomy(**options: Any) -> ResetPolicy:
    """Limits that no test meets by chance, and no head start to wait for."""
    usual: dict[str, Any] = {
        "client_limit": (10_000, timedelta(minutes=15)),
        "identifier_limit": (10_000, timedelta(minutes=15)),
        "account_quotas": ((20, timedelta(days=1)),),
        "head_start": timedelta(milliseconds=1),
    }
    return ResetPolicy(**(usual | options))


class Post:
    """Knows from the manager's events which mails are on their way, and reads those that came."""

    def __init__(self, server: MailServer) -> None:
        self._server = server
        self._changed = threading.Condition()
        self._pending = 0
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            match event:
                case ResetRequested() | PasswordReset():  # a mail, or a notice to the one address
                    self._pending += 1
                case MailSent() | RequestDropped() | JobLost() | MailFailed(retry=False):
                    self._pending -= 1
                case _:
                    pass
            self._changed.notify_all()

    def deliveries(self) -> list[Delivery]:
        """All that came, once none is on its way."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._pending == 0, PATIENCE), "a mail is still on its way"
        return list(self._server.deliveries)

    def last(self) -> EmailMessage:
        return self.deliveries()[-1].message


def text_of(message: EmailMessage) -> str:
    """The mail's plain text."""
    part = message.get_body(("plain",))
    assert part is not None
    text: str = part.get_content()
    return text


@dataclass
class Site:
    """One example, served."""

    name: str
    origin: str
    post: Post
    sign_up: Callable[[str, str], None] = field(repr=False)


@dataclass
class Options:
    """What an example is opened with."""

    folder: Path
    origin: str
    smtp_port: int
    policy: ResetPolicy
    on_event: Callable[[Event], None]

    @property
    def database(self) -> Path:
        return self.folder / "site.sqlite3"

    def manager(self, kind: Any, accounts: Any, store: Any, mailer: Any, *, link: str = "/reset/{token}") -> Any:
        """As the example makes it, but for the mail server on this machine, and a hash that takes no time."""
        return kind(
            accounts,
            store,
            mailer("127.0.0.1", port=self.smtp_port, sender="no-reply@app.example", security="plaintext"),
            link=f"{self.origin}{link}",
            policy=self.policy,
            hasher=KeyedTokenHasher([KEY]),
            on_event=self.on_event,
        )

    def sign_up(self, email: str, password: str) -> None:
        """In the tables of accounts.py."""
        engine = sa.create_engine(f"sqlite:///{self.database}")
        site_accounts.Accounts(engine).sign_up(email, password)
        engine.dispose()


@contextmanager
def flask_site(options: Options) -> Generator[tuple[Any, Callable[[str, str], None]], None, None]:
    engine = sa.create_engine(f"sqlite:///{options.database}")
    accounts, store = site_accounts.Accounts(engine), SQLiteTokenStore(options.database)
    with options.manager(ResetManager, accounts, store, SMTPMailer) as manager:
        yield flask_app.create_app(accounts, manager, origin=options.origin, secret_key="k" * 32), accounts.sign_up
    store.close()
    engine.dispose()


@contextmanager
def serve_wsgi(listener: socket.socket, app: Any, context: ssl.SSLContext | None) -> Generator[None, None, None]:
    """Werkzeug's server, which is Flask's."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server(
        "127.0.0.1",
        listener.getsockname()[1],
        app,
        threaded=True,
        ssl_context=context,
        fd=listener.fileno(),
    )
    thread = threading.Thread(target=server.serve_forever, name="site")
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


Opened = AbstractContextManager[tuple[Any, Callable[[str, str], None]]]
Serve = Callable[[socket.socket, Any, ssl.SSLContext | None], AbstractContextManager[None]]

EXAMPLES: Final[dict[str, tuple[Callable[[Options], Opened], Serve]]] = {
    "flask": (flask_site, serve_wsgi),
}


@contextmanager
def open_site(
    name: str, folder: Path, *, https: bool = False, policy: ResetPolicy | None = None
) -> Generator[Site, None, None]:
    """An example on a free port, empty but for Alice."""
    make, serve = EXAMPLES[name]
    context = CERTIFICATES.server_context() if https else None
    with MailServer() as mail_server, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        origin = f"{'https' if https else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        post = Post(mail_server)
        options = Options(folder, origin, mail_server.port, policy or roomy(), post.on_event)
        with make(options) as (app, sign_up):
            sign_up(ADDRESS, PASSWORD)
            with serve(listener, app, context):
                yield Site(name, origin, post, sign_up)
