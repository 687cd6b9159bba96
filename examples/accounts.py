"""Accounts in any database that SQLAlchemy knows, in both colours: what the web examples log in with.

resetkit asks four methods of them: find, get, set_password, end_sessions. The rest is a log-in, to see it work.
"""

import hashlib
import secrets
from asyncio import to_thread

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from resetkit import Account, PasswordRejectedError


class Base(DeclarativeBase):
    """Yours."""


class User(Base):
    """Who may log in. The address is stored in lower case."""

    __tablename__ = "users"
    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True, default=lambda: secrets.token_hex(16))
    email: Mapped[str] = mapped_column(sa.String(320), unique=True)
    password_hash: Mapped[str] = mapped_column(sa.String(255))
    active: Mapped[bool] = mapped_column(default=True)


class Login(Base):
    """One log-in, good as long as the password that made it: one that races a reset is dead when it is written.

    Only a digest of its token is kept, so that a stolen database opens no session.
    """

    __tablename__ = "logins"
    token_digest: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(sa.ForeignKey(User.id), index=True)
    password_hash: Mapped[str] = mapped_column(sa.String(255))


hasher = PasswordHasher()
NOBODY = hasher.hash(secrets.token_urlsafe(32))


def check_password(password: str) -> None:
    """The rules for a new password, at sign-up and at a reset. A list of leaked ones belongs here too."""
    if len(password) < 8:  # noqa: PLR2004  # NIST SP 800-63B-4, 3.1.1.2
        raise PasswordRejectedError("Please use at least 8 characters.")


def is_password(user: User | None, password: str) -> bool:
    """Whether this logs in. The work is the same for nobody, so that the time tells nothing."""
    try:
        hasher.verify(user.password_hash if user else NOBODY, password)
    except (VerificationError, UnicodeEncodeError):
        return False
    return user is not None


def digest(token: str) -> str:
    """What is kept of a log-in's token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def as_account(user: User | None) -> Account | None:
    """What resetkit is told of a user."""
    if user is None:
        return None
    return Account(id=user.id, email=user.email, stamp=user.password_hash, can_reset=user.active)


# The statements, which both colours share.


def by_email(email: str) -> sa.Select[User]:
    return sa.select(User).where(User.email == email.strip().lower())


def by_id(account_id: str) -> sa.Select[User]:
    return sa.select(User).where(User.id == account_id)


def by_token(token: str) -> sa.Select[str]:
    is_good = (Login.token_digest == digest(token), Login.password_hash == User.password_hash, User.active)
    return sa.select(User.email).join(Login).where(*is_good)


def change_password(account_id: str, password_hash: str) -> sa.Update:
    return sa.update(User).where(User.id == account_id).values(password_hash=password_hash)


def end_log_ins(account_id: str) -> sa.Delete:
    return sa.delete(Login).where(Login.user_id == account_id)


def end_log_in(token: str) -> sa.Delete:
    return sa.delete(Login).where(Login.token_digest == digest(token))


class Accounts:
    """For Flask and whatever else is sync."""

    def __init__(self, engine: sa.Engine) -> None:
        Base.metadata.create_all(engine)
        self._begin = sessionmaker(engine, expire_on_commit=False).begin

    def find(self, identifier: str, /) -> Account | None:
        """For resetkit: who is this, as typed?"""
        with self._begin() as session:
            return as_account(session.scalar(by_email(identifier)))

    def get(self, account_id: str, /) -> Account | None:
        """For resetkit: who is this, by id?"""
        with self._begin() as session:
            return as_account(session.scalar(by_id(account_id)))

    def set_password(self, account_id: str, new_password: str, /) -> None:
        """For resetkit: the new password and the end of all log-ins, in one transaction."""
        check_password(new_password)
        password_hash = hasher.hash(new_password)
        with self._begin() as session:
            session.execute(change_password(account_id, password_hash))
            session.execute(end_log_ins(account_id))

    def end_sessions(self, account_id: str, /) -> None:
        """For resetkit: once more, since it may be called without `set_password` having come to its end."""
        with self._begin() as session:
            session.execute(end_log_ins(account_id))

    def sign_up(self, email: str, password: str) -> None:
        """Make a user, unless there is one."""
        check_password(password)
        with self._begin() as session:
            if session.scalar(by_email(email)) is None:
                session.add(User(email=email.lower(), password_hash=hasher.hash(password)))

    def log_in(self, email: str, password: str) -> str | None:
        """The token of a new log-in, or None."""
        with self._begin() as session:
            user = session.scalar(by_email(email).where(User.active))
        if not is_password(user, password) or user is None:
            return None
        token = secrets.token_urlsafe(32)
        with self._begin() as session:
            session.add(Login(token_digest=digest(token), user_id=user.id, password_hash=user.password_hash))
        return token

    def who(self, token: str) -> str | None:
        """The address of who is logged in."""
        with self._begin() as session:
            return session.scalar(by_token(token))

    def log_out(self, token: str) -> None:
        """End one log-in."""
        with self._begin() as session:
            session.execute(end_log_in(token))


class AsyncAccounts:
    """For FastAPI, Starlette, aiohttp and whatever else is async."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._begin = async_sessionmaker(engine, expire_on_commit=False).begin

    async def find(self, identifier: str, /) -> Account | None:
        """For resetkit: who is this, as typed?"""
        async with self._begin() as session:
            return as_account(await session.scalar(by_email(identifier)))

    async def get(self, account_id: str, /) -> Account | None:
        """For resetkit: who is this, by id?"""
        async with self._begin() as session:
            return as_account(await session.scalar(by_id(account_id)))

    async def set_password(self, account_id: str, new_password: str, /) -> None:
        """For resetkit: the new password and the end of all log-ins, in one transaction."""
        check_password(new_password)
        password_hash = await to_thread(hasher.hash, new_password)
        async with self._begin() as session:
            await session.execute(change_password(account_id, password_hash))
            await session.execute(end_log_ins(account_id))

    async def end_sessions(self, account_id: str, /) -> None:
        """For resetkit: once more, since it may be called without `set_password` having come to its end."""
        async with self._begin() as session:
            await session.execute(end_log_ins(account_id))

    async def log_in(self, email: str, password: str) -> str | None:
        """The token of a new log-in, or None."""
        async with self._begin() as session:
            user = await session.scalar(by_email(email).where(User.active))
        if not await to_thread(is_password, user, password) or user is None:
            return None
        token = secrets.token_urlsafe(32)
        async with self._begin() as session:
            session.add(Login(token_digest=digest(token), user_id=user.id, password_hash=user.password_hash))
        return token

    async def who(self, token: str) -> str | None:
        """The address of who is logged in."""
        async with self._begin() as session:
            return await session.scalar(by_token(token))

    async def log_out(self, token: str) -> None:
        """End one log-in."""
        async with self._begin() as session:
            await session.execute(end_log_in(token))

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.dispose()
