"""Real threads and real processes, through a barrier, on the whole manager."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

from harness import ADDRESS, KEY, LINK, roomy
from resetkit import AsyncResetManager, InvalidTokenError, KeyedTokenHasher, ResetMail, ResetManager, ResetPolicy
from resetkit.dispatch import AsyncInlineDispatcher, InlineDispatcher
from resetkit.mailers import AsyncMemoryMailer, MemoryMailer
from resetkit.stores import AsyncMemoryTokenStore, AsyncSQLiteTokenStore, SQLiteTokenStore
from resetkit.testing import AsyncFakeAccounts, FakeAccounts, FakeClock

THREADS = 16
ROUNDS = 100


class Site:
    """An application with a manager, made anew for each test."""

    def __init__(self, store: Any, **options: Any) -> None:
        self.accounts = FakeAccounts()
        self.accounts.add("alice", ADDRESS)
        self.mailer = MemoryMailer()
        self.events: list[Any] = []
        defaults: dict[str, Any] = {
            "policy": roomy(),
            "hasher": KeyedTokenHasher([KEY]),
            "dispatcher": InlineDispatcher(),
            "on_event": self.events.append,
        }
        self.manager = ResetManager(self.accounts, store, self.mailer, link=LINK, **(defaults | options))

    def token(self) -> str:
        return self.manager.issue_token("alice").token


def together(actions: list[Callable[[], Any]]) -> list[Any]:
    """What simultaneous actions come to: an answer, or the reason of a refused token."""
    barrier = threading.Barrier(len(actions))

    def act(action: Callable[[], Any]) -> Any:
        barrier.wait()
        try:
            return action()
        except InvalidTokenError as refused:
            return refused.reason

    with ThreadPoolExecutor(len(actions)) as threads:
        return list(threads.map(act, actions))


def redeeming(site: Site, token: str, password: str) -> Callable[[], str]:
    def redeem() -> str:
        site.manager.reset_password(token, password)
        return password

    return redeem


def winners(answers: list[Any]) -> list[str]:
    return [answer for answer in answers if answer not in {"used", "stale", "revoked"}]


def test_sixteen_threads_redeem_one_token_and_one_wins_in_each_of_a_hundred_rounds(store: Any) -> None:
    """CVE-2026-22751, and 15 or 16 of 16 winners measured on four peers."""
    site = Site(store)
    for turn in range(ROUNDS):
        token = site.token()
        answers = together([redeeming(site, token, f"{turn}.{number}") for number in range(THREADS)])
        (winner,) = winners(answers)
        assert site.accounts.password("alice") == winner


def test_two_tokens_of_one_account_redeemed_at_once_have_one_winner(store: Any) -> None:
    clock = FakeClock()
    site = Site(store, clock=clock)
    for turn in range(ROUNDS):
        clock.advance(timedelta(hours=2))  # within the quota
        first = site.token()
        site.manager.request_reset(ADDRESS, client=None)
        mail = site.mailer.outbox[-1]
        assert isinstance(mail, ResetMail)
        second = mail.token
        answers = together([redeeming(site, first, f"{turn}.1"), redeeming(site, second, f"{turn}.2")])
        (winner,) = winners(answers)
        assert site.accounts.password("alice") == winner


def test_sixty_four_requests_at_once_mail_exactly_the_quota(store: Any) -> None:
    policy = ResetPolicy(identifier_limit=(1000, timedelta(minutes=15)))
    site = Site(store, policy=policy)
    together([lambda: site.manager.request_reset(ADDRESS, client=None)] * 64)
    assert len(site.mailer.outbox) == 3


def test_sixty_four_requests_at_once_in_one_loop_mail_exactly_the_quota(tmp_path: Path) -> None:
    for store in (AsyncMemoryTokenStore(), AsyncSQLiteTokenStore(tmp_path / "tokens.sqlite3")):
        mailer = asyncio.run(_ask_at_once(store))
        assert len(mailer.outbox) == 3
        if isinstance(store, AsyncSQLiteTokenStore):
            store.close()


async def _ask_at_once(store: Any) -> AsyncMemoryMailer:
    accounts, mailer = FakeAccounts(), AsyncMemoryMailer()
    accounts.add("alice", ADDRESS)
    policy = ResetPolicy(identifier_limit=(1000, timedelta(minutes=15)))
    async with AsyncResetManager(
        AsyncFakeAccounts(accounts), store, mailer, link=LINK, policy=policy, hasher=KeyedTokenHasher([KEY])
    ) as manager:
        await asyncio.gather(*(manager.request_reset(ADDRESS, client=None) for _ in range(64)))
    return mailer


def test_sixteen_tasks_redeem_one_token_and_one_wins(tmp_path: Path) -> None:
    async def race(store: Any) -> int:
        accounts = FakeAccounts()
        accounts.add("alice", ADDRESS)
        dispatcher = AsyncInlineDispatcher()
        async with AsyncResetManager(
            AsyncFakeAccounts(accounts),
            store,
            AsyncMemoryMailer(),
            link=LINK,
            hasher=KeyedTokenHasher([KEY]),
            dispatcher=dispatcher,
        ) as manager:
            token = (await manager.issue_token("alice")).token
            resets = (manager.reset_password(token, f"new {number}") for number in range(THREADS))
            answers = await asyncio.gather(*resets, return_exceptions=True)
        return sum(not isinstance(answer, BaseException) for answer in answers)

    for _ in range(20):
        assert asyncio.run(race(AsyncMemoryTokenStore())) == 1
    store = AsyncSQLiteTokenStore(tmp_path / "tokens.sqlite3")
    for _ in range(20):
        assert asyncio.run(race(store)) == 1
    store.close()


REDEEMER = """
import sys
from resetkit import InvalidTokenError, KeyedTokenHasher, ResetManager
from resetkit.dispatch import InlineDispatcher
from resetkit.mailers import MemoryMailer
from resetkit.stores import SQLiteTokenStore
from resetkit.testing import FakeAccounts

accounts = FakeAccounts()
accounts.add("alice", "alice@example.org")
store = SQLiteTokenStore(sys.argv[1])
manager = ResetManager(
    accounts, store, MemoryMailer(), link="https://app.example/reset#{token}",
    hasher=KeyedTokenHasher([b"k" * 32]), dispatcher=InlineDispatcher(),
)
print("ready", flush=True)
for line in sys.stdin:
    accounts.add("alice", "alice@example.org")
    try:
        manager.reset_password(line.strip(), "new")
    except InvalidTokenError as refused:
        print(refused.reason, flush=True)
    else:
        print("won", flush=True)
"""


def test_four_processes_redeem_one_token_on_one_file_and_one_wins_in_each_of_a_hundred_rounds(tmp_path: Path) -> None:
    """CVE-2026-22751; each process has an account directory of its own, so the store alone decides."""
    path = tmp_path / "tokens.sqlite3"
    store = SQLiteTokenStore(path)
    site = Site(store)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", REDEEMER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    try:
        assert [_answer(process) for process in processes] == ["ready"] * 4
        for _ in range(ROUNDS):
            token = site.token()
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(f"{token}\n")
            for process in processes:
                assert process.stdin is not None
                process.stdin.flush()
            answers = [_answer(process) for process in processes]
            assert sorted(answers) == ["used"] * 3 + ["won"]
    finally:
        for process in processes:
            process.communicate()
        store.close()


def _answer(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_eight_processes_make_one_new_file_at_once(tmp_path: Path) -> None:
    """None of them finds it locked or half made."""
    script = (
        "import sys; sys.stdin.readline(); from resetkit.stores import SQLiteTokenStore as S; S(sys.argv[1]).close()"
    )
    for turn in range(3):
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(tmp_path / f"{turn}.sqlite3")],
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(8)
        ]
        assert [process.communicate("go\n")[1] for process in processes] == [""] * 8
