"""Types, checked by both type checkers over this file: what fits a port fits it in the checker's eyes too.

The functions are never called; the one test runs mypy over a file of mistakes, each of which it must see.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import assert_type

from mypy import api

from resetkit import (
    Account,
    AccountDirectory,
    Argon2TokenHasher,
    AsyncAccountDirectory,
    AsyncDispatcher,
    AsyncMailer,
    AsyncResetManager,
    AsyncThrottle,
    AsyncTokenStore,
    Dispatcher,
    InvalidTokenError,
    IssuedToken,
    KeyedTokenHasher,
    Mail,
    Mailer,
    PasswordChangedMail,
    Quota,
    ResetMail,
    ResetManager,
    ResetReceipt,
    ResetTicket,
    Throttle,
    TokenHasher,
    TokenRecord,
    TokenStore,
    code_token,
)
from resetkit.dispatch import AsyncInlineDispatcher, AsyncTaskDispatcher, InlineDispatcher, ThreadDispatcher
from resetkit.errors import TokenReason
from resetkit.mailers import (
    AsyncConsoleMailer,
    AsyncMemoryMailer,
    AsyncSMTPMailer,
    ConsoleMailer,
    MemoryMailer,
    SMTPMailer,
)
from resetkit.stores import AsyncMemoryTokenStore, AsyncSQLiteTokenStore, MemoryTokenStore, SQLiteTokenStore
from resetkit.testing import AsyncFakeAccounts, FakeAccounts
from resetkit.throttle import AsyncMemoryThrottle, MemoryThrottle


def shipped_adapters_fit_their_ports(
    stores: tuple[MemoryTokenStore, SQLiteTokenStore],
    async_stores: tuple[AsyncMemoryTokenStore, AsyncSQLiteTokenStore],
    mailers: tuple[SMTPMailer, ConsoleMailer, MemoryMailer],
    async_mailers: tuple[AsyncSMTPMailer, AsyncConsoleMailer, AsyncMemoryMailer],
    dispatchers: tuple[ThreadDispatcher, InlineDispatcher],
    async_dispatchers: tuple[AsyncTaskDispatcher, AsyncInlineDispatcher],
    throttles: tuple[MemoryThrottle, AsyncMemoryThrottle],
    hashers: tuple[Argon2TokenHasher, KeyedTokenHasher],
    accounts: tuple[FakeAccounts, AsyncFakeAccounts],
) -> None:
    _stores: Sequence[TokenStore] = stores
    _async_stores: Sequence[AsyncTokenStore] = async_stores
    _mailers: Sequence[Mailer] = mailers
    _async_mailers: Sequence[AsyncMailer] = async_mailers
    _dispatchers: Sequence[Dispatcher] = dispatchers
    _async_dispatchers: Sequence[AsyncDispatcher] = async_dispatchers
    _throttle: Throttle = throttles[0]
    _async_throttle: AsyncThrottle = throttles[1]
    _hashers: Sequence[TokenHasher] = hashers
    _accounts: AccountDirectory = accounts[0]
    _async_accounts: AsyncAccountDirectory = accounts[1]


class Users:
    """An application's own, with names of its own for what is positional."""

    async def find(self, typed: str) -> Account | None: ...
    async def get(self, user_id: str) -> Account | None: ...
    async def set_password(self, user_id: str, password: str) -> None: ...
    async def end_sessions(self, user_id: str) -> None: ...


class Store:
    """A store by a third party, which inherits nothing."""

    def add(self, record: TokenRecord, *, quotas: Sequence[Quota], keep: int) -> bool:
        return bool(quotas and keep)

    def get(self, selector: str) -> TokenRecord | None: ...

    def attempt(self, selector: str, *, limit: int) -> bool:
        return bool(selector and limit)

    def claim(self, selector: str, *, claim_id: str, now: datetime) -> bool:
        return bool(selector and claim_id)

    def release(self, selector: str, *, claim_id: str, guess: bool) -> bool:
        return bool(selector and claim_id and guess)

    def revoke(self, account_id: str, *, now: datetime) -> int:
        return len(account_id) + now.year

    def purge(self, *, before: datetime, limit: int) -> int:
        return before.year + limit


def adapters_of_others_fit() -> None:
    _users: AsyncAccountDirectory = Users()
    _store: TokenStore = Store()


def answers_have_their_types(manager: ResetManager, mail: Mail, error: InvalidTokenError) -> None:
    assert_type(manager.request_reset("a", client=None), ResetReceipt)
    assert_type(manager.check_token("t"), ResetTicket)
    assert_type(manager.reset_password("t", "p", context={"ip": "192.0.2.1"}), ResetTicket)
    assert_type(manager.issue_token("1", lifetime=timedelta(days=1)), IssuedToken)
    assert_type(manager.revoke_tokens("1"), int)
    assert_type(manager.purge_tokens(), int)
    assert_type(code_token("h", "c"), str)
    assert_type(error.reason, TokenReason)
    match mail:
        case ResetMail():
            assert_type(mail.code, str | None)
        case PasswordChangedMail():
            assert_type(mail.to, str)


async def async_answers_have_the_same(manager: AsyncResetManager) -> None:
    assert_type(await manager.request_reset("a", client=None), ResetReceipt)
    assert_type(await manager.reset_password("t", "p"), ResetTicket)


MISTAKES = """
from resetkit import AsyncResetManager, ResetManager, Account
from resetkit.mailers import AsyncMemoryMailer, MemoryMailer
from resetkit.stores import AsyncMemoryTokenStore, MemoryTokenStore
from resetkit.testing import AsyncFakeAccounts, FakeAccounts

LINK = "https://app.example/reset#{token}"
ResetManager(FakeAccounts(), AsyncMemoryTokenStore(), MemoryMailer(), link=LINK)  # E: arg-type
AsyncResetManager(AsyncFakeAccounts(FakeAccounts()), AsyncMemoryTokenStore(), MemoryMailer(), link=LINK)  # E: arg-type
ResetManager(FakeAccounts(), MemoryTokenStore(), MemoryMailer())  # E: call-arg
manager = ResetManager(FakeAccounts(), MemoryTokenStore(), MemoryMailer(), link=LINK)
manager.request_reset("alice")  # E: call-arg
manager.reset_password("t", "p", "192.0.2.1")  # E: misc,call-arg
Account(id="1", email="a@b.example")  # E: call-arg
Account(id="1", email="a@b.example", stamp="s").email = "c@d.example"  # E: misc

async def forgotten(manager: AsyncResetManager) -> None:
    manager.reset_password("t", "p")  # E: unused-coroutine,unused-awaitable
"""


def test_mistakes_are_seen_at_the_desk(tmp_path: Path) -> None:
    """Wrong colour, missing link, swapped arguments, a forgotten await: mypy names each on its line."""
    file = tmp_path / "mistakes.py"
    file.write_text(MISTAKES)
    printed, _, status = api.run(["--strict", "--no-incremental", "--cache-dir", str(tmp_path / "cache"), str(file)])
    found = {int(line): code for line, code in re.findall(r"mistakes\.py:(\d+): error: .*\[([a-z-]+)\]", printed)}
    expected = {
        number: code for number, line in enumerate(MISTAKES.splitlines(), 1) if (code := line.partition("# E: ")[2])
    }
    assert status == 1
    assert found.keys() == expected.keys(), printed
    assert all(found[number] in expected[number].split(",") for number in expected), printed
