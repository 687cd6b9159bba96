"""A JWT by hand, in the form that tutorials show: FastAPI, PyJWT and SQLAlchemy; the address and an expiry, signed.

As in FastAPI's full-stack template (``generate_password_reset_token`` in backend/app/utils.py, ``recover_password`` and
``reset_password`` in backend/app/api/routes/login.py), with one answer for everyone and without its HTML.
"""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import jwt
from argon2 import PasswordHasher
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

SECRET_KEY, ALGORITHM, LIFETIME = "s" * 50, "HS256", timedelta(hours=48)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    hashed_password: Mapped[str]


class NewPassword(BaseModel):
    token: str
    new_password: str


def make_token(email: str) -> str:
    now = datetime.now(UTC)
    return jwt.encode({"exp": now + LIFETIME, "nbf": now, "sub": email}, SECRET_KEY, algorithm=ALGORITHM)


def read_token(token: str) -> str | None:
    try:
        return str(jwt.decode(token, SECRET_KEY, algorithms=[ALGORITHM])["sub"])
    except jwt.InvalidTokenError:
        return None


class Peer:
    name = "JWT by hand, PyJWT"
    is_async = True

    def __init__(self, folder: Path, mail: float) -> None:
        self.hasher = PasswordHasher()
        self.engine = create_engine(f"sqlite:///{folder / 'peer.sqlite3'}", pool_size=40, connect_args={"timeout": 60})
        event.listen(self.engine, "connect", lambda connection, _: connection.execute("PRAGMA journal_mode=wal"))
        Base.metadata.create_all(self.engine)
        app = FastAPI()

        @app.post("/password-recovery/{email}")
        def recover_password(email: str) -> str:
            with Session(self.engine) as session:
                user = session.scalar(select(User).where(User.email == email))
                if user:
                    make_token(email)
                    time.sleep(mail)  # here it is sent
            return "If that email is registered, we sent a password recovery link"

        @app.post("/reset-password/")
        def reset_password(body: NewPassword) -> str:
            email = read_token(body.token)
            if not email:
                raise HTTPException(400, "Invalid token")
            with Session(self.engine) as session:
                user = session.scalar(select(User).where(User.email == email))
                if not user:
                    raise HTTPException(400, "Invalid token")
                user.hashed_password = self.hasher.hash(body.new_password)
                session.commit()
            return "Password updated successfully"

        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.example")

    async def add(self, addresses) -> None:
        password = self.hasher.hash("correct horse battery")
        with Session(self.engine) as session:
            session.add_all([User(email=each, hashed_password=password) for each in addresses])
            session.commit()

    async def ask(self, address: str) -> None:
        answer = await self.client.post(f"/password-recovery/{address}")
        assert answer.status_code == 200, answer.text

    async def link(self, address: str) -> str:
        return make_token(address)

    def change(self, address: str, what: str) -> None:
        with Session(self.engine) as session:
            user = session.scalars(select(User).where(User.email == address)).one()
            if what == "address":
                user.email = f"new.{address}"
            else:
                user.hashed_password = self.hasher.hash("changed elsewhere")
            session.commit()

    def prepare(self, token: str):
        async def redeem(password: str) -> bool:
            body = {"token": token, "new_password": password}
            answer = await self.client.post("/reset-password/", json=body)
            return answer.status_code == 200

        return redeem
