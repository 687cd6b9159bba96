"""FastAPI-Users over SQLAlchemy and aiosqlite, as its tutorial puts them together; the hook that mails awaits."""

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated

import httpx
from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    pass


class User(SQLAlchemyBaseUserTableUUID, Base):
    pass


class UserRead(schemas.BaseUser[uuid.UUID]):
    pass


class Peer:
    name = "fastapi-users"
    is_async = True

    def __init__(self, folder: Path, mail: float) -> None:
        self.path = folder / "peer.sqlite3"
        self.tokens: list[str] = []
        tokens = self.tokens
        self.engine = create_async_engine(
            f"sqlite+aiosqlite:///{self.path}",
            pool_size=40,  # one smaller than the race would let fewer in, and prove nothing
            connect_args={"timeout": 60},
        )

        @event.listens_for(self.engine.sync_engine, "connect")
        def _wal(connection, _record) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode=wal")
            cursor.close()

        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False)

        async def get_session() -> AsyncGenerator[AsyncSession, None]:
            async with self.sessions() as session:
                yield session

        class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
            reset_password_token_secret = verification_token_secret = "s" * 50

            async def on_after_forgot_password(self, user, token, request=None) -> None:
                tokens.append(token)
                if mail:
                    await asyncio.sleep(mail)

        async def get_user_db(session: Annotated[AsyncSession, Depends(get_session)]):
            yield SQLAlchemyUserDatabase(session, User)

        async def get_user_manager(database: Annotated[SQLAlchemyUserDatabase, Depends(get_user_db)]):
            yield UserManager(database)

        backend = AuthenticationBackend(
            name="jwt",
            transport=BearerTransport(tokenUrl="auth/jwt/login"),
            get_strategy=lambda: JWTStrategy(secret="s" * 50, lifetime_seconds=3600),
        )
        app = FastAPI()
        app.include_router(FastAPIUsers[User, uuid.UUID](get_user_manager, [backend]).get_reset_password_router())
        self.manager = UserManager(None)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.example")

    async def add(self, addresses) -> None:
        async with self.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        password = self.manager.password_helper.hash("correct horse battery")
        async with self.sessions() as session:
            session.add_all([User(email=each, hashed_password=password) for each in addresses])
            await session.commit()

    async def ask(self, address: str) -> None:
        answer = await self.client.post("/forgot-password", json={"email": address})
        assert answer.status_code == 202, answer.text

    async def link(self, address: str) -> str:
        await self.ask(address)
        return self.tokens[-1]

    def change(self, address: str, what: str) -> None:
        hashed = self.manager.password_helper.hash("changed elsewhere")
        column, value = ("email", f"new.{address}") if what == "address" else ("hashed_password", hashed)
        with sqlite3.connect(self.path) as connection:
            connection.execute(f"UPDATE user SET {column} = ? WHERE email = ?", (value, address))

    def prepare(self, token: str):
        async def redeem(password: str) -> bool:
            answer = await self.client.post("/reset-password", json={"token": token, "password": password})
            return answer.status_code == 200

        return redeem
