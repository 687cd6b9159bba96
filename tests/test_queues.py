"""The queues of the examples: a real broker, real workers in processes of their own, and a real mail server.

Workers run the examples as they are. Only where one is killed the times are shorter, so that the next one takes its
jobs over after seconds instead of minutes.
"""

import base64
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import redis
import sqlalchemy as sa

from resetkit._jobs import ResetJob, encode_job
from resetkit._tokens import make_selector
from resetkit.stores.sqlalchemy import token_tables
from servers import Servers
from smtp_server import Act, MailServer, ScriptedServer

EXAMPLES = Path(__file__).parent.parent / "examples"
BIN = Path(sys.executable).parent
PATIENCE = 300  # seconds: a machine that is busy is slow to start a process
SELECTOR = 32  # hex digits of a token that are no secret
CROWD = [f"visitor{number}" for number in range(20)]

WORKERS = {
    "celery": [BIN / "celery", "--app", "{}", "worker", "--concurrency", "1", "--loglevel", "INFO"],
    "saq": [BIN / "saq", "--verbose", "{}.settings"],
}

# Here a worker is held dead after as long as a process takes to start.
HASTE = {
    "celery": """
        import math, os, time

        from celery_queue import *

        SECONDS = max(3, math.ceil(time.time() - float(os.environ["BEGUN"])))
        app.conf.broker_transport_options |= {
            "visibility_timeout": SECONDS,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
        }
        run_reset_job.default_retry_delay = 0
    """,
    "saq": """
        import math, os, time

        from saq_queue import *

        SECONDS = max(3, math.ceil(time.time() - float(os.environ["BEGUN"])))
        JOB |= {"timeout": SECONDS, "retries": 100, "retry_delay": 0.1}
        settings |= {"timers": {"sweep": 1}}
    """,
}
PAGES = {
    "celery": """
        from {} import *

        dispatcher, finish = CeleryDispatcher(), lambda done: done
    """,
    "saq": """
        import asyncio

        from {} import *

        dispatcher, finish = SAQDispatcher(), asyncio.Runner().run
    """,
}

ASK = """
def ask(name):
    finish(manager.request_reset(f"{name}@example.org", client=None, code=True))
"""

TELL_FAILURES = """
import time, traceback

for name in ("alice", "nobody"):
    begun = time.monotonic()
    try:
        ask(name)
    except Exception as error:
        print(type(error).__name__, time.monotonic() - begun)
        traceback.print_exc()
"""


class Site:
    """An application with a queue, as processes see it: a module and an environment."""

    def __init__(self, kind: str, broker: Path, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.module = f"{kind}_queue"
        (folder / "haste.py").write_text(dedent(HASTE[kind]))
        url = f"sqlite:///{folder}/site.sqlite3"
        self.engine = sa.create_engine(url, poolclass=sa.NullPool)
        metadata = sa.MetaData()
        self.tokens = token_tables(metadata).tokens
        columns = [sa.Column(name, sa.Text) for name in ("id", "email", "password")]
        users = sa.Table("users", metadata, *columns)
        metadata.create_all(self.engine)
        with self.engine.begin() as connection:
            for number, name in enumerate(["alice", *CROWD]):
                user = {"id": f"id{number}", "email": f"{name}@example.org", "password": "old"}
                connection.execute(users.insert(), user)
        self.environment = os.environ | {
            "DATABASE_URL": url if kind == "celery" else url.replace("sqlite:", "sqlite+aiosqlite:"),
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": "25",
            "PYTHONPATH": f"{EXAMPLES}{os.pathsep}{folder}",
        }
        self.client = redis.Redis(unix_socket_path=str(broker))
        self.use(broker)

    def use(self, broker: Path) -> None:
        self.environment["BROKER_URL"] = f"{'redis+socket' if self.kind == 'celery' else 'unix'}://{broker}"

    def hurry(self) -> None:
        """Use short times from now on."""
        self.module = "haste"

    def run(self, code: str) -> str:
        """What a process of the web application prints."""
        page = dedent(PAGES[self.kind]).format(self.module) + ASK + code + "\nfinish(manager.close())"
        done = subprocess.run(
            [sys.executable, "-c", page],
            env=self.environment | {"BEGUN": str(time.time())},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    def ask(self, *names: str) -> None:
        self.run(f"for name in {names}: ask(name)")

    @contextmanager
    def worker(self, port: int) -> Generator[subprocess.Popen[bytes], None, None]:
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [str(each).format(self.module) for each in WORKERS[self.kind]],
                env=self.environment | {"BEGUN": str(time.time()), "SMTP_PORT": str(port)},
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                kill(process)

    def log(self) -> str:
        return (self.folder / "worker.log").read_text()

    def jobs(self) -> int:
        """How many the broker holds: those that wait, and those that a worker has."""
        broker: Any = self.client.pipeline()
        if self.kind == "celery":
            broker.llen("celery").hlen("unacked")
        else:
            broker.zcard("saq:default:incomplete")
        return sum(broker.execute())

    def in_the_broker(self) -> str:
        """Every value of every key; what Celery encodes, decoded."""
        text = repr([(key, self.client.dump(key), read(self.client, key)) for key in self.client.scan_iter()])
        bodies = [base64.b64decode(body).decode() for body in re.findall(r'"body": "([\w+/=]+)"', text)]
        return text + repr(bodies)

    def accounts_with_tokens(self) -> list[str]:
        with self.engine.connect() as connection:
            return sorted(connection.execute(sa.select(self.tokens.c.account_id)).scalars())


def read(client: Any, key: bytes) -> Any:
    kind = client.type(key)
    if kind == b"hash":
        return client.hgetall(key)
    if kind == b"list":
        return client.lrange(key, 0, -1)
    if kind == b"set":
        return client.smembers(key)
    return client.get(key) if kind == b"string" else client.zrange(key, 0, -1)


def kill(process: subprocess.Popen[bytes]) -> None:
    """The worker and its children, at once and without a word."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def until(what: Callable[[], Any], site: Site) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, site.log()[-3000:]
        time.sleep(0.05)  # another process is at work


def told(mails: MailServer) -> set[str]:
    """Whom the mails went to."""
    return {each.recipients[0].partition("@")[0] for each in mails.deliveries}


def text_of(message: EmailMessage) -> str:
    body: Any = message.get_body(("plain",))
    return str(body.get_content())


def token_in(message: EmailMessage) -> str:
    (token,) = re.findall(r"#(\S+)", text_of(message))
    return str(token)


def taken_by(server: ScriptedServer) -> list[EmailMessage]:
    """The mails that came whole, whatever was answered."""
    mails = [each.partition(b"\r\n.\r\n") for each in bytes(server.received).split(b"data\r\n")[1:]]
    return [message_from_bytes(content, policy=policy.default) for content, end, _ in mails if end]


@pytest.fixture(params=["celery", "saq"])
def site(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Generator[Site, None, None]:
    site = Site(request.param, servers["valkey"], tmp_path)
    with site.client:
        site.client.flushall()
        yield site


def test_a_request_becomes_a_mail_and_neither_broker_nor_log_learns_more_than_they_must(site: Site) -> None:
    with MailServer() as mails:
        site.ask("alice")
        before = site.in_the_broker()
        assert "alice@example.org" in before, "jobs name people, and the broker holds them"
        with site.worker(mails.port):
            until(lambda: mails.deliveries and not site.jobs(), site)
            after = site.in_the_broker()
    (delivery,) = mails.deliveries
    assert delivery.recipients == ("alice@example.org",)
    token = token_in(delivery.message)
    (code,) = re.findall(r"\b[A-Z0-9]{4}-[A-Z0-9]{4}\b", text_of(delivery.message))
    for secret in (token[SELECTOR:], code, code.replace("-", "")):
        assert secret not in before + after + site.log()
    assert "alice" not in after + site.log()


def test_a_job_that_fails_is_tried_again_and_no_log_names_anybody(site: Site) -> None:
    site.hurry()
    with ScriptedServer(RCPT="550 5.1.1 nobody here is called alice@example.org") as refusing:
        site.ask("alice")
        with site.worker(refusing.port):
            until(lambda: site.log().count("error='SMTPRecipientsRefused'") > 1, site)
    assert "alice" not in site.log()


def test_a_worker_killed_in_the_middle_loses_no_request_and_the_last_link_is_the_good_one(site: Site) -> None:
    site.hurry()
    with ScriptedServer(**{".": Act.HANG}) as hanging:
        site.ask("alice")
        with site.worker(hanging.port):
            until(lambda: taken_by(hanging), site)
        first = token_in(taken_by(hanging)[0])
        assert first[SELECTOR:] not in site.in_the_broker()
    with MailServer() as mails, site.worker(mails.port):
        until(lambda: mails.deliveries and not site.jobs(), site)
    assert told(mails) == {"alice"}
    assert site.accounts_with_tokens() == ["id0"]
    last = token_in(mails.deliveries[-1].message)
    assert tickets(site, first, last) == ["unknown", "id0"]


def test_workers_killed_again_and_again_lose_no_request(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    site.hurry()
    site.ask(*CROWD)
    with MailServer() as mails:

        def are_more(than: int) -> bool:
            return len(mails.deliveries) > than

        for _ in range(3):
            with site.worker(mails.port) as worker:
                until(partial(are_more, len(mails.deliveries)), site)
                if site.kind == "celery":
                    until(partial(stands_where_all_is_kept, worker, site, mails), site)
        with site.worker(mails.port):
            until(lambda: len(told(mails)) == len(CROWD) and not site.jobs(), site)
    assert told(mails) == set(CROWD)
    assert len(site.accounts_with_tokens()) == len(CROWD)
    record_property("requests", len(CROWD))
    record_property("mails", len(mails.deliveries))


def stands_where_all_is_kept(worker: subprocess.Popen[bytes], site: Site, mails: MailServer) -> bool:
    """Stop Celery's worker, but not where it has just taken a job from Redis: there a kill loses the job."""
    os.kill(worker.pid, signal.SIGSTOP)
    left = set(CROWD) - told(mails)
    looks = [site.in_the_broker() for _ in range(2)]  # the second finds what was still on its way at the first
    if all(f"{name}@example.org" in look for name in left for look in looks):
        return True
    os.kill(worker.pid, signal.SIGCONT)
    return False


def test_what_waits_outlives_all_workers_and_a_worker_that_is_stopped_hands_back_what_it_holds(site: Site) -> None:
    site.ask(*CROWD)
    with MailServer() as mails:
        with site.worker(mails.port) as worker:
            until(lambda: mails.deliveries, site)
            worker.terminate()
            assert worker.wait(PATIENCE) == 0
        with site.worker(mails.port):
            until(lambda: len(told(mails)) == len(CROWD) and not site.jobs(), site)
    assert told(mails) == set(CROWD)
    assert len(site.accounts_with_tokens()) == len(CROWD)


def test_a_job_delivered_twice_counts_once_and_no_more_is_mailed_than_the_quota(site: Site) -> None:
    job = encode_job(
        ResetJob(
            realm="",
            selector=make_selector(bytes(range(16))),
            identifier="alice@example.org",
            code=False,
            context={},
            created_at=datetime.now(UTC),
        )
    )
    with MailServer() as mails, site.worker(mails.port):
        site.run(f"finish(dispatcher.dispatch({job!r}, print))")
        until(lambda: len(mails.deliveries) == 1, site)
        site.run(f"finish(dispatcher.dispatch({job!r}, print))")
        until(lambda: len(mails.deliveries) == 2, site)
        assert site.accounts_with_tokens() == ["id0"]
        tokens = [token_in(each.message) for each in mails.deliveries]
        assert tickets(site, *tokens) == ["unknown", "id0"]
        site.ask(*["alice"] * 4)
        until(lambda: site.log().count("reason='quota'") == 2, site)
    assert len(mails.deliveries) == 2 + 2, "the quota is 3, and one job was mailed twice"
    assert site.accounts_with_tokens().count("id0") == 3


def tickets(site: Site, *tokens: str) -> list[str]:
    """Whose each token is, or what is wrong with it."""
    checks = f"""
from resetkit import InvalidTokenError

for token in {tokens}:
    try:
        print(finish(manager.check_token(token)).account_id)
    except InvalidTokenError as error:
        print(error.reason)
"""
    return site.run(checks).split()


def test_a_broker_that_is_down_fails_alike_for_everybody_and_soon(site: Site, tmp_path: Path) -> None:
    site.use(tmp_path / "nothing")
    assert_both_failed(site.run(TELL_FAILURES))


def test_a_broker_that_hangs_fails_alike_for_everybody_and_soon(site: Site) -> None:
    broker: Any = site.client.info("server")
    stop = f"import os, signal\nask('alice')\nos.kill({broker['process_id']}, signal.SIGSTOP)"
    go_on = f"os.kill({broker['process_id']}, signal.SIGCONT)"
    try:
        assert_both_failed(site.run(f"{stop}\n{TELL_FAILURES}\n{go_on}"))
    finally:
        os.kill(broker["process_id"], signal.SIGCONT)


def assert_both_failed(printed: str) -> None:
    known, unknown = re.findall(r"^(\w+) ([\d.]+)$", printed, re.MULTILINE)
    assert known[0] == unknown[0]
    assert max(float(known[1]), float(unknown[1])) < 15, "seconds"
    assert printed.count("JobLost(") == 2
    assert "example.org" not in printed


@pytest.mark.parametrize("site", ["celery"], indirect=True)
def test_celery_gives_a_job_whose_process_was_killed_to_the_next_process_at_once(site: Site) -> None:
    find = "print(*next(iter(app.control.inspect(timeout=60, limit=1).stats().values()))['pool']['processes'])"
    with ScriptedServer(**{".": Act.HANG}) as hanging, site.worker(hanging.port):
        site.ask("alice")
        until(lambda: taken_by(hanging), site)
        os.kill(int(site.run(find)), signal.SIGKILL)
        until(lambda: len(taken_by(hanging)) == 2, site)
    assert "alice" not in site.log()


@pytest.mark.parametrize("site", ["saq"], indirect=True)
def test_a_saq_worker_killed_while_it_puts_jobs_back_loses_none(site: Site) -> None:
    site.hurry()
    with ScriptedServer(**{".": Act.HANG}) as hanging:
        site.ask("alice")
        with site.worker(hanging.port):
            until(lambda: taken_by(hanging), site)
        with site.worker(hanging.port):
            until(lambda: not site.client.llen("saq:default:active"), site)
    with MailServer() as mails, site.worker(mails.port):
        until(lambda: mails.deliveries, site)
