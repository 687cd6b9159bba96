"""``resetkit check``: each weakness is found where it is, and nowhere else."""

import asyncio
import re
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath
from textwrap import dedent
from typing import Any

import limits.aio.storage
import limits.storage
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from harness import ADDRESS, LINK, Colour, put
from resetkit import Account, Argon2TokenHasher, AsyncResetManager, KeyedTokenHasher, ResetManager, ResetPolicy
from resetkit._findings import RULES, file_system_of
from resetkit.cli import main
from resetkit.dispatch import AsyncInlineDispatcher, InlineDispatcher
from resetkit.mailers import (
    AsyncConsoleMailer,
    AsyncMemoryMailer,
    AsyncSMTPMailer,
    ConsoleMailer,
    MemoryMailer,
    SMTPMailer,
)
from resetkit.stores import AsyncMemoryTokenStore, AsyncSQLiteTokenStore, MemoryTokenStore, SQLiteTokenStore
from resetkit.stores.redis import AsyncRedisTokenStore, RedisTokenStore
from resetkit.stores.sqlalchemy import AsyncSQLAlchemyTokenStore, SQLAlchemyTokenStore
from resetkit.testing import AsyncFakeAccounts, FakeAccounts, FakeClock
from resetkit.testing._records import record
from resetkit.throttle import AsyncLimitsThrottle, AsyncMemoryThrottle, LimitsThrottle, MemoryThrottle

KEY = bytes(range(32))
NOTHING: dict[str, object] = {}
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LOCAL = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"


class Accounts:
    """The application's own: its stamps are as they should be, unless a test says otherwise. It can be read only."""

    def __init__(self, stamp: Callable[[str], str] = "the hash of {}'s password".format) -> None:
        self._stamp = stamp

    def find(self, _identifier: str, /) -> Account | None:
        raise AssertionError("nobody is looked for")

    def get(self, account_id: str, /) -> Account | None:
        if account_id not in {"1", "2", "3"}:
            return None
        return Account(id=account_id, email=f"{account_id}@example.org", stamp=self._stamp(account_id))

    def set_password(self, _account_id: str, _new_password: str, /) -> None:
        raise AssertionError("nothing is written")

    def end_sessions(self, _account_id: str, /) -> None:
        raise AssertionError("nothing is ended")


class AsyncAccounts:
    def __init__(self, stamp: Callable[[str], str] = "the hash of {}'s password".format) -> None:
        self._plain = Accounts(stamp)

    async def find(self, identifier: str, /) -> Account | None:
        return self._plain.find(identifier)

    async def get(self, account_id: str, /) -> Account | None:
        await asyncio.sleep(0)
        return self._plain.get(account_id)

    async def set_password(self, account_id: str, new_password: str, /) -> None:
        self._plain.set_password(account_id, new_password)

    async def end_sessions(self, account_id: str, /) -> None:
        self._plain.end_sessions(account_id)


class Bench:
    """Makes managers of one colour, sound but for what a test changes, and checks them by the command."""

    def __init__(self, colour: Colour, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.colour = colour
        self.folder = folder
        self._capsys = capsys
        self.printed = ""

    def pick(self, plain: Any, waiting: Any) -> Any:
        return waiting if self.colour == "async" else plain

    def smtp(self, host: str = "smtp.example.org", **options: Any) -> Any:
        return self.pick(SMTPMailer, AsyncSMTPMailer)(host, sender="no-reply@app.example", **options)

    def throttle(self) -> Any:
        url = "redis://127.0.0.1:1"  # never asked
        if self.colour == "async":
            return AsyncLimitsThrottle(limits.aio.storage.RedisStorage(f"async+{url}", implementation="redispy"))
        return LimitsThrottle(limits.storage.RedisStorage(url))

    def make(self, **changes: Any) -> Any:
        sound: dict[str, Any] = {
            "accounts": self.pick(Accounts, AsyncAccounts)(),
            "store": lambda: self.pick(SQLiteTokenStore, AsyncSQLiteTokenStore)(self.folder / "tokens.sqlite3"),
            "mailer": self.smtp(),
            "link": LINK,
            "hasher": KeyedTokenHasher([KEY]),
            "throttle": self.throttle(),
        }
        options = sound | changes
        if callable(options["store"]):
            options["store"] = options["store"]()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of an inline dispatcher
            return self.pick(ResetManager, AsyncResetManager)(**options)

    def check(self, found: Any, *arguments: str) -> int:
        module = types.ModuleType("module_of_the_test")
        module.__dict__["found"] = found
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, module.__name__, module)
            status = main(["check", f"{module.__name__}:found", *arguments])
        self.printed = self._capsys.readouterr().out
        return status

    def findings(self, manager: Any, *arguments: str) -> list[str]:
        """The names of what is found, advice after weaknesses. The status must agree."""
        status = self.check(manager, *arguments)
        found = re.findall(r"^([a-z-]+)( \(advice\))?: .+\n    \S", self.printed, re.MULTILINE)
        weaknesses, advice = ([name for name, kind in found if bool(kind) is advised] for advised in (False, True))
        assert status == (1 if weaknesses or ("--strict" in arguments and advice) else 0)
        assert f"\nWeaknesses: {len(weaknesses)}. Advice: {len(advice)}." in f"\n{self.printed}"
        assert [name in ADVICE for name, _ in found] == [False] * len(weaknesses) + [True] * len(advice)
        return weaknesses + advice


@pytest.fixture(autouse=True)
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for /proc/self/mountinfo: every test's files are on a local disk."""
    path = tmp_path / "mountinfo"
    path.write_text(LOCAL)
    monkeypatch.setattr("resetkit._check_command._MOUNTINFO", path)
    monkeypatch.setattr("sys.path", list(sys.path))
    return path


@pytest.fixture
def bench(colour: Colour, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(colour, tmp_path, capsys)


def stamps(stamp: Callable[[str], str]) -> Callable[[Bench], dict[str, Any]]:
    return lambda bench: {"accounts": bench.pick(Accounts, AsyncAccounts)(stamp)}


def policy(**changes: Any) -> Callable[[Bench], dict[str, Any]]:
    return lambda _: {"policy": ResetPolicy(**changes)}


def store_on(url: str, async_url: str) -> Callable[[Bench], dict[str, Any]]:
    """A store through SQLAlchemy, without a pool, so that no connection is left to a loop that is gone."""

    def store(bench: Bench) -> Any:
        if bench.colour == "async":
            return AsyncSQLAlchemyTokenStore(create_async_engine(async_url.format(bench.folder), poolclass=NullPool))
        return SQLAlchemyTokenStore(sa.create_engine(url.format(bench.folder), poolclass=NullPool))

    return lambda bench: {"store": store(bench)}


def overdue(by: timedelta) -> Callable[[Bench], dict[str, Any]]:
    """A store whose oldest record was to be deleted so long ago."""

    def store(bench: Bench) -> Any:
        at = datetime.now(UTC).replace(microsecond=0) - by
        with closing(SQLiteTokenStore(bench.folder / "tokens.sqlite3")) as store:
            put(store, replace(record("old"), keep_until=at), record("new"))
        return bench.pick(SQLiteTokenStore, AsyncSQLiteTokenStore)(bench.folder / "tokens.sqlite3")

    return lambda bench: {"store": store(bench)}


def on_disk_of(kind: str) -> Callable[[Bench], dict[str, Any]]:
    def options(bench: Bench) -> dict[str, Any]:
        with (bench.folder / "mountinfo").open("a") as mountinfo:
            mountinfo.write(f"99 22 0:44 / {bench.folder} rw - {kind} server:/share rw\n")
        return {}

    return options


def argon2(**options: Any) -> Callable[[Bench], dict[str, Any]]:
    return lambda _: {"hasher": Argon2TokenHasher(keys=[KEY], **options)}


def fakes() -> FakeAccounts:
    accounts = FakeAccounts()
    accounts.add("1", "1@example.org", password="one")
    accounts.add("2", "2@example.org", password="two")
    return accounts


def shifted(by: timedelta) -> Callable[[Bench], dict[str, Any]]:
    return lambda _: {"clock": lambda: datetime.now(UTC) + by}


ever = iter(range(10**9))
Options = Callable[[Bench], dict[str, Any]]

# What has each weakness, in every shape that it may have.
WEAK: dict[str, list[Options]] = {
    "throttle-per-process": [
        lambda bench: {"throttle": None},
        lambda bench: {"throttle": bench.pick(MemoryThrottle, AsyncMemoryThrottle)()},
    ],
    "inline-dispatch": [lambda bench: {"dispatcher": bench.pick(InlineDispatcher, AsyncInlineDispatcher)()}],
    "store-in-memory": [
        lambda bench: {"store": bench.pick(MemoryTokenStore, AsyncMemoryTokenStore)()},
        store_on("sqlite://", "sqlite+aiosqlite://"),
        store_on("sqlite:///:memory:", "sqlite+aiosqlite:///:memory:"),
        store_on("sqlite:///file::memory:?cache=shared&uri=true", "sqlite+aiosqlite:///file::memory:?uri=true"),
    ],
    "mailer-sends-nothing": [
        lambda bench: {"mailer": bench.pick(ConsoleMailer, AsyncConsoleMailer)()},
        lambda bench: {"mailer": bench.pick(MemoryMailer, AsyncMemoryMailer)()},
    ],
    "test-double": [
        lambda bench: {"accounts": bench.pick(fakes, lambda: AsyncFakeAccounts(fakes()))()},
        lambda bench: {"clock": FakeClock(datetime.now(UTC))},
    ],
    "clock-off": [shifted(2 * MINUTE), shifted(-2 * MINUTE), lambda bench: {"clock": datetime.now}],
    "link-in-query": [
        lambda bench: {"link": "https://app.example/reset?token={token}"},
        lambda bench: {"link": "https://app.example/reset?token={token}#choose"},
    ],
    "link-in-path": [
        lambda bench: {"link": "https://app.example/reset/{token}"},
        lambda bench: {"link": "https://app.example/reset/{token}?step=1#choose"},
    ],
    "link-in-clear": [lambda bench: {"link": "http://localhost:8000/reset#{token}"}],
    "mail-in-clear": [lambda bench: {"mailer": bench.smtp(security="plaintext")}],
    "link-lifetime": [policy(link_lifetime=HOUR + timedelta(seconds=1))],
    "code-lifetime": [policy(code_lifetime=timedelta(seconds=601))],
    "outstanding-links": [policy(outstanding=3)],
    "account-quotas": [
        policy(account_quotas=((11, 15 * MINUTE), (20, DAY))),
        policy(account_quotas=((1, MINUTE), (11, DAY))),
    ],
    "client-limit": [policy(client_limit=(1201, HOUR)), policy(client_limit=(21, MINUTE))],
    "identifier-limit": [policy(identifier_limit=(301, HOUR)), policy(identifier_limit=(6, MINUTE))],
    "head-start": [policy(head_start=timedelta(milliseconds=99))],
    "input-length": [policy(max_password_length=4097), policy(max_identifier_length=4097)],
    "hash-cost": [
        argon2(time_cost=1),
        argon2(memory_cost=8),
        *(argon2(memory_cost=kib - 1, time_cost=passes) for kib, passes in ((47104, 1), (19456, 2), (12288, 3))),
        *(argon2(memory_cost=kib - 1, time_cost=passes) for kib, passes in ((9216, 4), (7168, 5), (7168, 99))),
    ],
    "hash-unkeyed": [lambda bench: {"hasher": None}, lambda bench: {"hasher": Argon2TokenHasher()}],
    "hash-accepts-unkeyed": [
        lambda bench: {"hasher": KeyedTokenHasher([KEY], accept_unkeyed=True)},
        argon2(accept_unkeyed=True),
    ],
    "key-not-random": [
        lambda bench: {"hasher": KeyedTokenHasher([b"changeme" * 4])},
        lambda bench: {"hasher": Argon2TokenHasher(keys=[KEY, bytes(32)])},
    ],
    "network-disk": [on_disk_of("nfs4"), on_disk_of("cifs"), on_disk_of("fuse.gcsfuse"), on_disk_of("9p")],
    "unpurged": [overdue(DAY + MINUTE)],
    "stamp-empty": [stamps(lambda account_id: "" if account_id == "1" else "hash"), stamps(lambda account_id: " ")],
    "stamp-constant": [stamps(lambda account_id: "constant")],
    "stamp-unstable": [stamps(lambda account_id: f"salt {next(ever)}")],
    "stamp-no-password": [stamps(lambda account_id: account_id), stamps("{}@example.org".format)],
}

# As near to a weakness as may be without having it.
SOUND: dict[str, Options] = {
    "as it should be": lambda bench: {},
    "a clock that is a little off": shifted(MINUTE / 2),
    "mail in clear to this machine's own server": lambda bench: {
        "mailer": bench.smtp("127.0.0.1", security="plaintext")
    },
    "mail over TLS": lambda bench: {"mailer": bench.smtp(security="tls")},
    "the longest lifetimes": policy(link_lifetime=HOUR, code_lifetime=10 * MINUTE),
    "two links": policy(outstanding=2),
    "many mails, but not at once": policy(account_quotas=((10, 15 * MINUTE), (20, DAY))),
    "wide limits": policy(client_limit=(20, MINUTE), identifier_limit=(5, MINUTE)),
    "a short head start": policy(head_start=timedelta(milliseconds=100)),
    "long input": policy(max_password_length=4096, max_identifier_length=4096),
    "OWASP's first row": argon2(memory_cost=47104, time_cost=1),
    "OWASP's second row": argon2(),
    "OWASP's third row": argon2(memory_cost=12288, time_cost=3),
    "OWASP's fourth row": argon2(memory_cost=9216, time_cost=4),
    "OWASP's last row": argon2(memory_cost=7168, time_cost=5),
    "RFC 9106's second": argon2(memory_cost=2**16, time_cost=3, parallelism=4),
    "a key in hexadecimal digits": lambda bench: {"hasher": KeyedTokenHasher([b"0123456701234567" * 2])},
    "a disk of this machine's": on_disk_of("xfs"),
    "a disk that a program makes": on_disk_of("fuse.mergerfs"),
    "nearly overdue": overdue(DAY - MINUTE),
    "a file through SQLAlchemy": store_on("sqlite:///{}/other.sqlite3", "sqlite+aiosqlite:///{}/other.sqlite3"),
    "a server through SQLAlchemy": store_on(
        "postgresql+psycopg://127.0.0.1:1/none", "postgresql+asyncpg://127.0.0.1:1/none"
    ),
}
TWO = ("--account", "1", "--account", "2")
ADVICE = {"throttle-per-process", "link-in-path", "hash-unkeyed"}  # right for some


SHAPES = [
    pytest.param(name, options, id=f"{name}-{number}")
    for name, weak in WEAK.items()
    for number, options in enumerate(weak)
]


@pytest.mark.parametrize(("name", "options"), SHAPES)
def test_what_is_weak_is_found_and_nothing_else(bench: Bench, name: str, options: Options) -> None:
    prove(bench, name, options)


def prove(bench: Bench, name: str, options: Options) -> None:
    assert bench.findings(bench.make(**options(bench)), *TWO) == [name]


@pytest.mark.parametrize(("name", "options"), SHAPES)
def test_without_its_rule_it_would_not_be_found(
    bench: Bench, name: str, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: the test above must fail."""
    rules = tuple(rule for rule in RULES if rule.name != name)
    assert len(rules) == len(RULES) - 1
    monkeypatch.setattr("resetkit._check_command.RULES", rules)
    with pytest.raises(AssertionError):
        prove(bench, name, options)


@pytest.mark.parametrize("name", SOUND)
def test_what_is_sound_is_not_found(bench: Bench, name: str) -> None:
    assert bench.findings(bench.make(**SOUND[name](bench)), *TWO) == []
    assert bench.printed.endswith("\nWeaknesses: 0. Advice: 0.\n")


def test_every_rule_has_its_weak_managers() -> None:
    assert list(WEAK) == [rule.name for rule in RULES]


def test_all_at_once_are_told_with_what_to_do(bench: Bench) -> None:
    names = ["link-lifetime", "throttle-per-process", "hash-unkeyed"]
    manager = bench.make(throttle=None, policy=ResetPolicy(link_lifetime=2 * HOUR), hasher=None)
    assert bench.findings(manager, *TWO) == names
    assert "\n    Lower link_lifetime; " in bench.printed
    assert bench.printed.splitlines()[-1].startswith("Weaknesses: 1. Advice: 2. docs/security.md explains ")
    assert bench.findings(bench.make(throttle=None, hasher=None), *TWO) == names[1:], "with status 0"
    assert bench.findings(bench.make(throttle=None, hasher=None), *TWO, "--strict") == names[1:], "with status 1"


def test_what_is_ignored_is_shown_and_does_not_count(bench: Bench) -> None:
    manager = bench.make(throttle=None, policy=ResetPolicy(link_lifetime=2 * HOUR))
    assert bench.findings(manager, *TWO, "--ignore", "link-lifetime") == ["throttle-per-process"]
    assert "\nlink-lifetime (ignored): A link lives 2:00:00; " in bench.printed
    accepted = ("--ignore", "link-lifetime", "--ignore", "throttle-per-process")
    assert bench.findings(manager, *TWO, *accepted, "--strict") == []


def test_how_many_records_were_to_be_deleted_is_told_and_no_more_counted_than_need_be(bench: Bench) -> None:
    class Full(MemoryTokenStore):
        def count_due(self, *, before: datetime, limit: int) -> int:
            return limit

    class AsyncFull(AsyncMemoryTokenStore):
        async def count_due(self, *, before: datetime, limit: int) -> int:
            return limit

    assert bench.findings(bench.make(**overdue(2 * DAY)(bench)), *TWO) == ["unpurged"]
    assert "over a day ago: 1 (N26)." in bench.printed
    full = bench.make(store=bench.pick(Full, AsyncFull)())
    assert bench.findings(full, *TWO, "--ignore", "store-in-memory") == ["unpurged"]
    assert "over a day ago: 1000 or more (N26)." in bench.printed


class TestNotJudged:
    def test_the_application_s_own_parts_are_named_and_are_no_finding(self, bench: Bench) -> None:
        class Mailer:
            def send(self, mail: Any, /) -> None:
                raise AssertionError("nothing is sent")

        class AsyncMailer:
            async def send(self, mail: Any, /) -> None:
                raise AssertionError("nothing is sent")

        assert bench.findings(bench.make(mailer=bench.pick(Mailer, AsyncMailer)()), *TWO) == []
        own = f"{__name__}.{bench.pick('', 'Async')}Accounts), mailer ({__name__}.TestNotJudged."
        assert f"\nNot judged: accounts ({own}" in f"\n{bench.printed}"

    def test_a_stamp_that_is_the_same_for_all_shows_in_two_accounts_only(self, bench: Bench) -> None:
        constant = bench.make(**stamps(lambda _: "constant")(bench))
        for arguments in ((), ("--account", "1"), ("--account", "1", "--account", "1")):
            assert bench.findings(constant, *arguments) == []
            assert "Not judged: whether the stamp is the same for all: give --account ID --account ID" in bench.printed
        assert bench.findings(constant, *TWO) == ["stamp-constant"]
        assert "whether the stamp" not in bench.printed

    def test_an_account_has_the_same_stamp_by_whatever_name_it_is_asked_for(self, bench: Bench) -> None:
        class Lenient(Accounts):
            def get(self, account_id: str, /) -> Account | None:
                return super().get(account_id.lstrip("0"))

        class AsyncLenient(AsyncAccounts):
            async def get(self, account_id: str, /) -> Account | None:
                return await super().get(account_id.lstrip("0"))

        manager = bench.make(accounts=bench.pick(Lenient, AsyncLenient)())
        assert bench.findings(manager, "--account", "1", "--account", "01") == []
        assert "Not judged: whether the stamp is the same for all: give --account ID --account ID" in bench.printed

    def test_one_account_shows_an_empty_stamp(self, bench: Bench) -> None:
        assert bench.findings(bench.make(**stamps(lambda _: "")(bench)), "--account", "1") == ["stamp-empty"]

    def test_only_the_accounts_with_the_same_stamp_are_named(self, bench: Bench) -> None:
        manager = bench.make(**stamps(lambda account_id: "alike" if account_id != "2" else "other")(bench))
        assert bench.findings(manager, *TWO, "--account", "3") == ["stamp-constant"]
        assert "(N8): 1, 3.\n" in bench.printed

    @pytest.mark.parametrize("kind", ["a database that is away", "no method"])
    def test_a_store_that_cannot_say_so_is_no_finding(self, bench: Bench, kind: str) -> None:
        class Store(MemoryTokenStore):
            count_due = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

        class AsyncStore(AsyncMemoryTokenStore):
            count_due = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

        away = SOUND["a server through SQLAlchemy"](bench)
        store = away if kind != "no method" else {"store": bench.pick(Store, AsyncStore)()}
        assert bench.findings(bench.make(**store), *TWO, "--ignore", "store-in-memory") == []
        assert "Not judged: whether records are purged, by " in bench.printed

    def test_in_redis_records_go_by_themselves(self, bench: Bench) -> None:
        class Client:
            def register_script(self, script: str) -> Any: ...
            def hgetall(self, name: str) -> Any: ...
            def info(self, section: str) -> Any: ...

        store = bench.pick(RedisTokenStore, AsyncRedisTokenStore)(Client())
        assert bench.findings(bench.make(store=store), *TWO) == []
        assert "purged" not in bench.printed

    def test_where_nothing_tells_of_disks_none_is_judged(self, bench: Bench, disk: Path) -> None:
        disk.unlink()
        assert bench.findings(bench.make(), *TWO) == []
        assert "Not judged: whether the SQLite file is on a network's disk: only Linux tells." in bench.printed


class TestUnreadable:
    """Status 2, one line, and no text of the application's own, which may quote a secret."""

    MODULE = dedent(
        """
        import sys

        from resetkit import ResetManager

        def fails():
            raise RuntimeError("the password is s3cret")

        def leaves():
            sys.exit("s3cret")

        def needs(argument):
            pass

        def nothing():
            pass

        def http():
            return ResetManager(None, None, None, link="http://app.example/")

        number = 7

        class Box:
            @property
            def closed(self):
                raise RuntimeError("s3cret")

            @property
            def empty(self):
                raise AttributeError("s3cret")

            @property
            def last(self):
                sys.exit("s3cret")

        box = Box()
        """
    )

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("one_of_the_test", "give module:name"),
            ("one_of_the_test:", "give module:name"),
            ("no_such_module:manager", "cannot be imported: No module named 'no_such_module'"),
            ("one_of_the_test:app.manager", "cannot be imported: module 'one_of_the_test' has no attribute 'app'"),
            ("one_of_the_test:number.real.manager", "has no attribute 'manager'"),
            ("one_of_the_test:number", "must be a manager, or make one when called without arguments, not int"),
            ("one_of_the_test:nothing", "must be a manager, or make one when called without arguments, not NoneType"),
            ("one_of_the_test:box.closed", "box.closed cannot be imported: RuntimeError at "),
            ("one_of_the_test:box.empty", "box.empty cannot be imported: AttributeError at "),
            ("one_of_the_test:box.last", "box.last cannot be imported: SystemExit at "),
            ("one_of_the_test:fails", "makes no manager: RuntimeError at "),
            ("one_of_the_test:leaves", "makes no manager: SystemExit at "),
            ("one_of_the_test:needs", "called without arguments, makes no manager: TypeError at "),
            ("one_of_the_test:http", "makes no manager: ConfigurationError: accounts needs a method find()"),
            ("broken_one_of_the_test:manager", "cannot be imported: KeyError at "),
            ("no_python_of_the_test:manager", "cannot be imported: invalid syntax (no_python_of_the_test.py, line 1)"),
        ],
    )
    def test_what_is_no_manager_is_explained(
        self, name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "one_of_the_test.py").write_text(self.MODULE)
        (tmp_path / "broken_one_of_the_test.py").write_text("import os\nos.environ['s3cret']\n")
        (tmp_path / "no_python_of_the_test.py").write_text("s3cret is secret secret\n")
        monkeypatch.chdir(tmp_path)
        assert main(["check", name]) == 2
        printed = capsys.readouterr()
        assert says in printed.err
        assert "s3cret" not in printed.err
        assert printed.out == ""

    @pytest.mark.parametrize(
        ("get", "says"),
        [
            (lambda: None, "accounts.get('1') found no account: give the id of one that there is"),
            (lambda: {"email": "s3cret"}, "accounts.get('1') gave no Account, but dict"),
            (lambda: NOTHING["s3cret"], "accounts.get('1'): KeyError at "),
        ],
    )
    def test_an_account_that_cannot_be_read_is_explained(
        self, bench: Bench, capsys: pytest.CaptureFixture[str], get: Callable[[], Any], says: str
    ) -> None:
        class Broken(Accounts):
            def get(self, account_id: str, /) -> Any:
                return get()

        class AsyncBroken(AsyncAccounts):
            async def get(self, account_id: str, /) -> Any:
                return get()

        manager = bench.make(accounts=bench.pick(Broken, AsyncBroken)())
        module = types.ModuleType("module_of_the_test")
        module.__dict__["found"] = manager
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, module.__name__, module)
            assert main(["check", "module_of_the_test:found", *TWO]) == 2
        printed = capsys.readouterr()
        assert says in printed.err
        assert "s3cret" not in printed.err

    @pytest.mark.parametrize("clock", [lambda: NOTHING["s3cret"], lambda: "s3cret"])
    def test_so_is_a_clock(self, bench: Bench, clock: Callable[[], Any]) -> None:
        assert bench.check(bench.make(clock=clock)) == 2

    def test_a_name_that_no_finding_has_is_explained(self, bench: Bench) -> None:
        assert bench.check(bench.make(), "--ignore", "throtle") == 2


def test_a_function_may_make_the_manager(bench: Bench) -> None:
    assert bench.findings(lambda: bench.make(hasher=None)) == ["hash-unkeyed"]


def test_so_may_an_async_one_in_the_loop_that_its_manager_is_asked_in(bench: Bench) -> None:
    loops: list[object] = []

    class AccountsOfOneLoop(AsyncAccounts):
        async def get(self, account_id: str, /) -> Account | None:
            loops.append(asyncio.get_running_loop())
            return await super().get(account_id)

    async def make() -> Any:
        loops.append(asyncio.get_running_loop())
        return bench.make(**({"accounts": AccountsOfOneLoop()} if bench.colour == "async" else {}))

    assert bench.findings(make, *TWO) == []
    assert len({id(loop) for loop in loops}) == 1


def test_sync_parts_are_asked_outside_any_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As Django's are, which refuse to work inside one."""

    class Strict(Accounts):
        def get(self, account_id: str, /) -> Account | None:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            return super().get(account_id)

    bench = Bench("sync", tmp_path, capsys)
    assert bench.findings(lambda: bench.make(accounts=Strict()), *TWO) == []


def test_it_only_reads_and_shows_no_secret(bench: Bench) -> None:
    """Ports that fail when asked to do anything, and a file that stays as it is, byte for byte."""

    class Sealed:
        def __init__(self, *methods: str) -> None:
            for method in methods:
                setattr(self, method, bench.pick(self.plain, self.waiting))

        def plain(self, *_arguments: Any, **_options: Any) -> Any:
            raise AssertionError("this writes, sends or counts")

        async def waiting(self, *_arguments: Any, **_options: Any) -> Any:
            raise AssertionError("this writes, sends or counts")

    secrets = ["the salted hash", KEY.hex(), repr(KEY), "the mail server's password", "1@example.org", ADDRESS]
    overdue(3 * DAY)(bench)
    before = (bench.folder / "tokens.sqlite3").read_bytes()
    manager = bench.make(
        **stamps(lambda account_id: "the salted hash")(bench),
        mailer=bench.smtp(username="app", password="the mail server's password"),
        hasher=KeyedTokenHasher([KEY, b"0" * 32], accept_unkeyed=True),
        throttle=Sealed("hit"),
        dispatcher=Sealed("dispatch", "close"),
    )
    expected = ["hash-accepts-unkeyed", "key-not-random", "unpurged", "stamp-constant"]
    assert bench.findings(manager, *TWO) == expected
    assert (bench.folder / "tokens.sqlite3").read_bytes() == before
    assert not [secret for secret in secrets if secret in bench.printed]

    sealed = Sealed("add", "get", "attempt", "claim", "release", "revoke", "purge")
    assert bench.findings(bench.make(store=sealed), *TWO) == []


def test_from_the_command_line_with_a_status_for_ci(tmp_path: Path) -> None:
    """In a process of its own, in the folder of an application."""
    (tmp_path / "shop.py").write_text(
        dedent(
            """
            from resetkit import ResetManager
            from resetkit.mailers import SMTPMailer
            from resetkit.stores import SQLiteTokenStore
            from test_check import Accounts

            class App:
                def __init__(self):
                    mailer = SMTPMailer("smtp.example.org", sender="no-reply@app.example")
                    link = "https://app.example/reset#{token}"
                    self.manager = ResetManager(Accounts(), SQLiteTokenStore("tokens.sqlite3"), mailer, link=link)

            app = App()
            """
        )
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "resetkit", "check", *arguments]
        environment = {"PYTHONPATH": str(Path(__file__).parent)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    done = run("shop:app.manager", *TWO)
    assert (done.returncode, done.stderr) == (0, ""), "the defaults are no weakness"
    assert re.findall(r"^([a-z-]+) \(advice\): ", done.stdout, re.MULTILINE) == ["throttle-per-process", "hash-unkeyed"]
    assert run("shop:app.manager", *TWO, "--strict").returncode == 1
    decided = ("--strict", "--ignore", "throttle-per-process", "--ignore", "hash-unkeyed")
    assert run("shop:app.manager", *TWO, *decided).returncode == 0
    assert run("shop:app.mailer").returncode == 2


class TestDisks:
    MOUNTS = (
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "23 22 0:21 / /proc rw - proc proc rw\n"
        "30 22 0:40 / /srv rw - nfs4 server:/export rw,vers=4.2\n"
        "31 30 254:1 / /srv/local rw - xfs /dev/vdb rw\n"
        "32 22 0:41 /sub /mnt/with\\040space\\134 rw master:2 propagate_from:1 - cifs //server/share rw\n"
        "33 22 0:42 / /over rw - nfs server:/first rw\n"
        "34 33 0:43 / /over rw - tmpfs tmpfs rw\n"
        "a line that is none\n"
    )

    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("/var/lib/tokens.sqlite3", "ext4"),
            ("/srv/tokens.sqlite3", "nfs4"),
            ("/srv", "nfs4"),
            ("/srvs/tokens.sqlite3", "ext4"),
            ("/srv/local/tokens.sqlite3", "xfs"),
            ("/mnt/with space\\/tokens.sqlite3", "cifs"),
            ("/over/tokens.sqlite3", "tmpfs"),
        ],
    )
    def test_the_deepest_mount_that_is_not_hidden_counts(self, path: str, kind: str) -> None:
        assert file_system_of(PurePath(path), self.MOUNTS) == kind

    def test_without_mounts_there_is_none(self) -> None:
        assert file_system_of(PurePath("/srv"), "") is None

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
    def test_this_machine_s_own_are_read(self) -> None:
        path = Path("/proc/self/mountinfo")
        assert file_system_of(path, path.read_text()) == "proc"


def test_a_link_of_the_file_system_is_followed(bench: Bench, disk: Path) -> None:
    (bench.folder / "share").mkdir()
    (bench.folder / "here").symlink_to(bench.folder / "share")
    disk.write_text(f"{LOCAL}99 22 0:44 / {bench.folder}/share rw - nfs4 server:/share rw\n")
    store = bench.pick(SQLiteTokenStore, AsyncSQLiteTokenStore)(bench.folder / "here" / "tokens.sqlite3")
    assert bench.findings(bench.make(store=store), *TWO) == ["network-disk"]
