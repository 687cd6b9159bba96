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
from functools import partial
from pathlib import Path
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler

import accounts as site_accounts
import aiohttp_app
import fastapi_app
import flask_app
import fragment_app
import quickstart
import sqlalchemy as sa
import starlette_app
import uvicorn
import wsgi_app
from aiohttp import web
from sqlalchemy.ext.asyncio import create_async_engine
from typing_extensions import override
from werkzeug.serving import make_server

import quick_hashes
from django_site import django_site
from harness import KEY
from resetkit import AsyncResetManager, KeyedTokenHasher, ResetManager, ResetPolicy
from resetkit.events import Event, JobLost, MailFailed, MailSent, PasswordReset, RequestDropped, ResetRequested
from resetkit.mailers import AsyncSMTPMailer, SMTPMailer
from resetkit.stores import AsyncSQLiteTokenStore, SQLiteTokenStore
from smtp_server import Certificates, Delivery, MailServer

quick_hashes.hurry()

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
    post: Post | Any  # whatever has `last`
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

    def manager(
        self, kind: Any, accounts: Any, store: Any, mailer: Any, *, link: str = "/reset/{token}", **named: Any
    ) -> Any:
        """As the example makes it, but for the mail server on this machine, and a hash that takes no time."""
        return kind(
            accounts,
            store,
            mailer("127.0.0.1", port=self.smtp_port, sender="no-reply@app.example", security="plaintext"),
            link=f"{self.origin}{link}",
            policy=self.policy,
            hasher=KeyedTokenHasher([KEY]),
            on_event=self.on_event,
            **named,
        )


Running = tuple[Any, Callable[[str, str], None]]  # an application, and how to sign up there


@contextmanager
def flask_site(options: Options) -> Generator[Running, None, None]:
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
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="site")
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def async_site(options: Options, create_app: Callable[..., Any], **named: Any) -> Generator[Running, None, None]:
    sign_up_engine = sa.create_engine(f"sqlite:///{options.database}")
    sign_up = site_accounts.Accounts(sign_up_engine).sign_up
    accounts = site_accounts.AsyncAccounts(create_async_engine(f"sqlite+aiosqlite:///{options.database}"))
    store = AsyncSQLiteTokenStore(options.database)
    link = "/choose#{token}" if named else "/reset/{token}"
    manager = options.manager(AsyncResetManager, accounts, store, AsyncSMTPMailer, link=link)
    yield create_app(accounts, manager, origin=options.origin, **named), sign_up
    store.close()
    sign_up_engine.dispose()


@contextmanager
def wsgi_site(options: Options) -> Generator[Running, None, None]:
    accounts, store = quickstart.Accounts(options.database), SQLiteTokenStore(options.database)
    with options.manager(ResetManager, accounts, store, SMTPMailer) as manager:
        yield wsgi_app.App(accounts, manager, origin=options.origin), accounts.sign_up
    store.close()


@contextmanager
def serve_asgi(listener: socket.socket, app: Any, context: ssl.SSLContext | None) -> Generator[None, None, None]:
    # Visitors come from this machine, where Uvicorn expects a proxy by default, and would believe what that says.
    config = uvicorn.Config(app, log_level="error", lifespan="on", proxy_headers=False)
    config.load()
    config.ssl = context
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="site")
    thread.start()  # who connects before it accepts waits: the socket listens already
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def serve_aiohttp(listener: socket.socket, app: Any, context: ssl.SSLContext | None) -> Generator[None, None, None]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="site")
    thread.start()
    runner = web.AppRunner(app)

    async def start() -> None:
        await runner.setup()
        await web.SockSite(runner, listener, ssl_context=context).start()

    async def stop() -> None:
        for connection in runner.server.connections if runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()  # a browser keeps them open
        await runner.cleanup()

    try:
        asyncio.run_coroutine_threadsafe(start(), loop).result(PATIENCE)
        yield
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def serve_wsgiref(listener: socket.socket, app: Any, context: ssl.SSLContext | None) -> Generator[None, None, None]:
    """The example's own server, on a socket that listens already."""

    class Quiet(WSGIRequestHandler):
        @override
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = wsgi_app.Server(listener.getsockname(), Quiet, bind_and_activate=False)
    server.socket.close()
    server.socket = listener.dup() if context is None else context.wrap_socket(listener.dup(), server_side=True)
    server.server_name, server.server_port = "127.0.0.1", listener.getsockname()[1]
    server.setup_environ()
    server.set_app(app)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="site")
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


Serve = Callable[[socket.socket, Any, ssl.SSLContext | None], AbstractContextManager[None]]

EXAMPLES: Final[dict[str, tuple[Callable[[Options], AbstractContextManager[Running]], Serve]]] = {
    "flask": (flask_site, serve_wsgi),
    "django": (django_site, serve_wsgi),
    "fastapi": (partial(async_site, create_app=fastapi_app.create_app), serve_asgi),
    "starlette": (partial(async_site, create_app=starlette_app.create_app), serve_asgi),
    "aiohttp": (partial(async_site, create_app=aiohttp_app.create_app), serve_aiohttp),
    "wsgi": (wsgi_site, serve_wsgiref),
    "fragment": (
        partial(async_site, create_app=starlette_app.create_app, pages=fragment_app.FragmentPages),
        serve_asgi,
    ),
}
BY_PATH: Final = [name for name in EXAMPLES if name != "fragment"]


@contextmanager
def open_site(
    name: str, folder: Path, *, https: bool = False, policy: ResetPolicy | None = None
) -> Generator[Site, None, None]:
    """An example on a free port, empty but for Alice."""
    make, serve = EXAMPLES[name]
    context = CERTIFICATES.server_context() if https else None
    with (
        MailServer() as mail_server,
        socket.socket(proto=socket.IPPROTO_TCP) as listener,
    ):  # so that asyncio sends at once
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        origin = f"{'https' if https else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        post = Post(mail_server)
        options = Options(folder, origin, mail_server.port, policy or roomy(), post.on_event)
        with make(options) as (app, sign_up):
            sign_up(ADDRESS, PASSWORD)
            with serve(listener, app, context):
                yield Site(name, origin, post, sign_up)
