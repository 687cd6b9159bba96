"""Servers that are killed under load and come back, or stop answering for a while: no promise is broken meanwhile.

Visitors ask for mails, look, and redeem each link several times at once, and again after an error, as people do. The
accounts' stamp never changes, so that nothing but the store stands between a token and its second use.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final

import pytest
import redis
import sqlalchemy as sa
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.exc import DBAPIError

from engines import TABLES, URLS
from resetkit import (
    Account,
    InvalidTokenError,
    KeyedTokenHasher,
    Mail,
    ResetError,
    ResetMail,
    ResetManager,
    ResetPolicy,
    TokenStore,
)
from resetkit.dispatch import ThreadDispatcher
from resetkit.events import Event
from resetkit.stores.redis import RedisTokenStore
from resetkit.stores.sqlalchemy import SQLAlchemyTokenStore
from servers import SERVERS, Server

# Drivers leave the sockets of servers that died to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

PATIENCE: Final = 60  # seconds
ACCOUNTS: Final = 300
QUOTA: Final = 3
OUTAGES: Final = 3
AT_ONCE: Final = 3  # visitors with one link
SERVER_OF: Final = {"psycopg": "postgres", "pymysql": "mariadb", "redis-py": "valkey"}
Note = Callable[[str, object], None]
"""Says how many visitors there were, in the report that ``--junitxml`` writes."""
DOCUMENTED: Final = (DBAPIError, redis.RedisError)  # of an operator: the driver's own


@dataclass
class Site:
    """An application, and what happened to it."""

    store: TokenStore
    links: SimpleQueue[str] = field(default_factory=SimpleQueue)
    mails: list[str] = field(default_factory=list)
    passwords: list[str] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    undocumented: list[BaseException] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.manager = ResetManager(
            self,
            self.store,
            self,
            link="https://app.example/reset#{token}",
            hasher=KeyedTokenHasher([b"k" * 32]),
            policy=ResetPolicy(account_quotas=((QUOTA, timedelta(days=1)),)),
            dispatcher=ThreadDispatcher(workers=3),
            on_event=self.note,
        )

    def find(self, identifier: str, /) -> Account | None:
        return Account(id=identifier, email=identifier, stamp="the same for ever")

    get = find

    def set_password(self, account_id: str, new_password: str, /) -> None:
        self.passwords.append(str(new_password))

    def end_sessions(self, account_id: str, /) -> None:
        pass

    def send(self, mail: Mail, /) -> None:
        if isinstance(mail, ResetMail):
            self.mails.append(mail.to)
            for _ in range(AT_ONCE):
                self.links.put(mail.link.split("#")[1])

    def note(self, event: Event) -> None:
        self.told[type(event).__name__] += 1

    def ask(self) -> None:
        while not self.stopping.wait(0.002):
            with self.visitor("asked"):
                self.manager.request_reset(f"{random.randrange(ACCOUNTS)}@example.org", client=None)

    def redeem(self) -> None:
        while not self.stopping.is_set():
            try:
                token = self.links.get(timeout=0.1)
            except Empty:
                continue
            with self.visitor("redeemed", again=partial(self.links.put, token)):
                self.manager.reset_password(token, f"the new password by {token}")

    def look(self) -> None:
        """Somebody reads the page of a link again and again, so that an outage always meets a visitor."""
        token = self.links.get(timeout=PATIENCE)
        while not self.stopping.wait(0.002):
            with self.visitor("looked"):
                self.manager.check_token(token)

    @contextmanager
    def visitor(self, what: str, again: Callable[[], object] = lambda: None) -> Generator[None, None, None]:
        try:
            yield
            self.told[what] += 1
        except ResetError:
            self.told["refused"] += 1
        except DOCUMENTED:
            self.told["failed"] += 1
            again()
        except BaseException as error:
            self.undocumented.append(error)
            raise

    @contextmanager
    def busy(self) -> Generator[None, None, None]:
        visitors = [threading.Thread(target=each) for each in (self.ask, self.look, *[self.redeem] * 6)]
        for each in visitors:
            each.start()
        try:
            yield
        finally:
            self.stopping.set()
            for each in visitors:
                each.join()
            self.manager.close(timeout=1)

    def more(self, what: str, count: int) -> None:
        """Wait until so many more visitors were told so."""
        enough, deadline = self.told[what] + count, time.monotonic() + PATIENCE
        while self.told[what] < enough:
            assert time.monotonic() < deadline, (what, self.told)
            assert not self.undocumented
            time.sleep(0.01)  # threads are at work

    def judge(self, record_property: Note) -> None:
        for what in ("asked", "redeemed", "refused", "failed"):
            record_property(what, self.told[what])
        assert self.undocumented == []
        assert set(Counter(self.passwords).values()) == {1}, "a token was used twice"
        assert max(Counter(self.mails).values()) <= QUOTA
        for password in self.passwords:
            with pytest.raises(InvalidTokenError):
                self.manager.check_token(password.split()[-1])


@pytest.fixture(params=sorted(SERVER_OF))
def driver(request: pytest.FixtureRequest) -> str:
    driver: str = request.param
    return driver


@pytest.fixture
def stack() -> Generator[ExitStack, None, None]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def server(driver: str, stack: ExitStack) -> Server:
    """One of this test's own."""
    return stack.enter_context(SERVERS[SERVER_OF[driver]]())


def open_store(driver: str, server: Server, stack: ExitStack, **options: Any) -> TokenStore:
    if driver == "redis-py":
        once_more = Retry(NoBackoff(), 1)  # by itself the client tries ten times, which takes a minute
        client = redis.Redis(unix_socket_path=str(server.place), retry=once_more, **options)
        return RedisTokenStore(stack.enter_context(client))
    engine = sa.create_engine(URLS[driver].format(server.place), pool_size=10, **{"pool_pre_ping": True} | options)
    stack.callback(engine.dispose)
    store = SQLAlchemyTokenStore(engine, tables=TABLES)
    store.create_tables()
    return store


def test_a_server_killed_under_load_comes_back_and_no_promise_was_broken(
    driver: str, server: Server, stack: ExitStack, record_property: Note
) -> None:
    site = Site(open_store(driver, server, stack))
    with site.busy():
        for _ in range(OUTAGES):
            site.more("redeemed", 20)
            server.kill()
            site.more("failed", 5)
            server.start()
        site.more("redeemed", 20)
    site.judge(record_property)


def test_while_a_server_does_not_answer_requests_are_taken_and_nobody_wins_twice(
    driver: str, server: Server, stack: ExitStack, record_property: Note
) -> None:
    site = Site(open_store(driver, server, stack))
    with site.busy():
        for _ in range(OUTAGES):
            site.more("redeemed", 20)
            with server.paused():
                site.more("asked", 20)
        site.more("redeemed", 20)
    site.judge(record_property)
    if driver != "redis-py":  # whose client has a timeout, and says so
        assert site.told["failed"] == 0


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("pymysql", {"connect_args": {"read_timeout": 1}, "pool_pre_ping": False}),
        ("redis-py", {"socket_timeout": 0.5}),
    ],
)
def test_with_a_timeout_the_visitor_gets_an_error_and_nobody_wins_twice(
    options: dict[str, Any],
    driver: str,
    server: Server,
    stack: ExitStack,
    record_property: Note,
) -> None:
    site = Site(open_store(driver, server, stack, **options))
    with site.busy():
        site.more("redeemed", 20)
        with server.paused():
            site.more("failed", 5)
        site.more("redeemed", 20)
    site.judge(record_property)
