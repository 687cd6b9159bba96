"""The accounts of the web examples keep every promise of a directory."""

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import accounts as sql
import pytest
import quickstart
import sqlalchemy as sa
from argon2 import PasswordHasher
from sqlalchemy.ext.asyncio import create_async_engine
from typing_extensions import override

import quick_hashes
from resetkit import AccountDirectory, AsyncAccountDirectory
from resetkit.testing import AccountDirectoryConformance, AsyncAccountDirectoryConformance

quick_hashes.hurry()
ALICE, BOB = "alice@example.org", "bob@example.org"


class SQL:
    """What the kit cannot know of accounts.py, done behind its back with an engine of its own."""

    def __init__(self, accounts: Any, engine: sa.Engine) -> None:
        self.accounts = accounts
        self.engine = engine

    def begin(self, account_id: str) -> Callable[[], bool]:
        token = secrets.token_urlsafe(32)
        of_user = sa.select(sa.literal(sql.digest(token)), sql.User.id, sql.User.password_hash)
        columns = ["token_digest", "user_id", "password_hash"]
        with self.engine.begin() as connection:
            rows = of_user.where(sql.User.id == account_id)
            connection.execute(sa.insert(sql.Login).from_select(columns, rows))
        return lambda: self.who(token) is not None

    def who(self, token: str) -> str | None:
        with self.engine.connect() as connection:
            return connection.scalar(sql.by_token(token))

    def knows(self, account_id: str, password: str) -> bool:
        with self.engine.connect() as connection:
            found = connection.execute(sa.select(sql.User.__table__).where(sql.User.id == account_id)).one()
        return sql.is_password(sql.User(**found._asdict()), password)

    def change(self, account_id: str, address: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.update(sql.User).where(sql.User.id == account_id).values(email=address))

    def remove(self, account_id: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(sql.end_log_ins(account_id))
            connection.execute(sa.delete(sql.User).where(sql.User.id == account_id))


@contextmanager
def populated() -> Generator[tuple[str, sa.Engine, sql.Accounts], None, None]:
    with TemporaryDirectory() as folder:
        path = f"{folder}/site.sqlite3"
        engine = sa.create_engine(f"sqlite:///{path}")
        accounts = sql.Accounts(engine)
        for each in (ALICE, BOB):
            accounts.sign_up(each, "old password")
        yield path, engine, accounts
        engine.dispose()


class TestAccounts(AccountDirectoryConformance):
    other_identifier = BOB
    behind: SQL

    @contextmanager
    def open_accounts(self) -> Generator[AccountDirectory, None, None]:
        with populated() as (_, engine, accounts):
            self.behind = SQL(accounts, engine)
            yield accounts

    def rejected_password(self) -> str:
        return "short"

    def log_in(self, accounts: Any, account_id: str, /) -> Callable[[], bool]:
        return self.behind.begin(account_id)

    def knows_password(self, accounts: Any, account_id: str, password: str, /) -> bool:
        return self.behind.knows(account_id, password)

    def change_address(self, accounts: Any, account_id: str, address: str, /) -> None:
        self.behind.change(account_id, address)

    def remove(self, accounts: Any, account_id: str, /) -> None:
        self.behind.remove(account_id)


class TestAsyncAccounts(AsyncAccountDirectoryConformance):
    other_identifier = BOB
    behind: SQL

    @asynccontextmanager
    async def open_accounts(self) -> AsyncGenerator[AsyncAccountDirectory, None]:
        with populated() as (path, engine, _):
            accounts = sql.AsyncAccounts(create_async_engine(f"sqlite+aiosqlite:///{path}"))
            self.behind = SQL(accounts, engine)
            yield accounts
            await accounts.close()

    def rejected_password(self) -> str:
        return "short"

    def log_in(self, accounts: Any, account_id: str, /) -> Callable[[], bool | Awaitable[bool]]:
        return self.behind.begin(account_id)

    def knows_password(self, accounts: Any, account_id: str, password: str, /) -> bool:
        return self.behind.knows(account_id, password)

    def change_address(self, accounts: Any, account_id: str, address: str, /) -> None:
        self.behind.change(account_id, address)

    def remove(self, accounts: Any, account_id: str, /) -> None:
        self.behind.remove(account_id)


class TestQuickstart(AccountDirectoryConformance):
    other_identifier = BOB

    @contextmanager
    def open_accounts(self) -> Generator[AccountDirectory, None, None]:
        with TemporaryDirectory() as folder:
            accounts = quickstart.Accounts(Path(folder) / "users.sqlite3")
            for each in (ALICE, BOB):
                accounts.sign_up(each, "old password")
            yield accounts

    def rejected_password(self) -> str:
        return "short"

    def log_in(self, accounts: Any, account_id: str, /) -> Callable[[], bool]:
        token = secrets.token_urlsafe(32)
        with accounts._transaction() as connection:
            connection.execute("INSERT INTO sessions VALUES (?, ?)", (quickstart._digest(token), account_id))
        return lambda: accounts.who(token) is not None

    def knows_password(self, accounts: Any, account_id: str, password: str, /) -> bool:
        return accounts.log_in(accounts.get(account_id).email, password) is not None

    def change_address(self, accounts: Any, account_id: str, address: str, /) -> None:
        with accounts._transaction() as connection:
            connection.execute("UPDATE users SET email = ? WHERE id = ?", (address, account_id))

    def remove(self, accounts: Any, account_id: str, /) -> None:
        with accounts._transaction() as connection:
            connection.execute("DELETE FROM users WHERE id = ?", (account_id,))


def test_a_log_in_that_races_a_reset_does_not_outlive_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It judged the old password, the reset ended all log-ins, and only then it is written."""
    with populated() as (_, engine, accounts):
        token = accounts.log_in(ALICE, "old password")
        assert token
        with engine.begin() as connection:
            row = connection.execute(sa.select(sql.Login.__table__)).one()._asdict()
        account = accounts.find(ALICE)
        assert account
        accounts.set_password(account.id, "a new password")
        with engine.begin() as connection:
            connection.execute(sa.insert(sql.Login).values(**row))
        assert accounts.who(token) is None

    own = quickstart.Accounts(tmp_path / "users.sqlite3")
    own.sign_up(ALICE, "old password")

    class Slow(PasswordHasher):
        """During whose work the password is reset."""

        @override
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # as its base
            monkeypatch.undo()
            own.set_password("1", "a new password")
            return super().verify(hash, password)

    monkeypatch.setattr(quickstart, "hasher", Slow())
    assert own.log_in(ALICE, "old password") is None
    assert own.log_in(ALICE, "a new password")


def test_a_log_in_of_nobody_is_hashed_as_one_of_somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So its time tells nobody who has an account."""
    worked: list[str | bytes] = []

    class Counting(PasswordHasher):
        @override
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # as its base
            worked.append(password)
            return super().verify(hash, password)

    own = quickstart.Accounts(tmp_path / "users.sqlite3")
    own.sign_up(ALICE, "old password")
    with populated() as (_, _, accounts):
        for module, directory in ((sql, accounts), (quickstart, own)):
            monkeypatch.setattr(module, "hasher", Counting())
            for email in (ALICE, "nobody@example.com"):
                assert directory.log_in(email, f"wrong for {email}") is None
                assert worked.pop() == f"wrong for {email}"
                assert not worked
