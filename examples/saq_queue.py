"""Requests on a SAQ queue, for asyncio: the web process takes them, a worker looks up, hashes and mails.

Run a worker: ``saq saq_queue.settings``. The environment names the broker, the database and the mail server:
``BROKER_URL``, ``DATABASE_URL``, ``SMTP_HOST``, ``SMTP_PORT``. In the web process, ``async with manager:`` around the
application's life closes the connections to the broker.
"""

import asyncio
import json
import math
import os
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from saq.job import Status
from saq.queue.redis import RedisQueue
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from resetkit import Account, AsyncResetManager
from resetkit.mailers import AsyncSMTPMailer
from resetkit.stores.sqlalchemy import AsyncSQLAlchemyTokenStore

NOW = timedelta(0)
PATIENCE = 5  # seconds for the broker: where it hangs, no page does

# A job runs for a minute at most: what has not ended by then has lost its worker, and the next sweep, of each minute,
# puts it back. What fails is tried ten times, a minute apart. What is done is not kept (ttl).
JOB = {"timeout": 60, "retries": 10, "retry_delay": 60.0, "ttl": -1}


class Hidden(str):
    """What a job was called with: it names people, and SAQ logs it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "(hidden)"


def load(payload: str | bytes) -> dict[str, Any]:
    """Read a job from the broker."""
    job: dict[str, Any] = json.loads(payload)
    job["kwargs"] = {name: Hidden(value) if name == "text" else value for name, value in job.get("kwargs", {}).items()}
    return job


class JobFailedError(Exception):
    """Names the type of what failed, and nothing more: an error's text may name people, and SAQ logs and keeps it."""


class ResetQueue(RedisQueue):
    """SAQ's queue over Redis or Valkey, with a sweep that may be killed too."""

    async def sweep(self, lock: int = 60, abort: float = 5.0) -> list[str]:  # noqa: ARG002  # SAQ's names
        """Put back the jobs of workers that are gone, each in one step.

        SAQ's own takes a job off every list for seconds before it puts it back: a worker killed meanwhile loses it.
        """
        active, swept = self.namespace("active"), list[str]()
        names: list[Any] = await self.redis.lrange(active, 0, -1)
        for name in names:
            job = await self.job(self.job_key_from_id(name.decode()))
            if job is None:
                await self.redis.lrem(active, 0, name)
            elif job.stuck or job.status != Status.ACTIVE:
                await self.retry(job, self.swept_error_message)
                swept.append(job.id)
        return swept


queue = ResetQueue.from_url(os.environ["BROKER_URL"], load=load)


class SAQDispatcher:
    """Hands jobs to `run_reset_job`."""

    async def dispatch(self, job: str, run: Callable[[str], Awaitable[None]], /, *, delay: timedelta = NOW) -> None:  # noqa: ARG002  # the protocol's names
        """See `resetkit.protocols.AsyncDispatcher`."""
        due = math.ceil(time.time() + delay.total_seconds())
        async with asyncio.timeout(PATIENCE):
            await queue.enqueue("run_reset_job", text=Hidden(job), scheduled=due, **JOB)

    async def close(self, timeout: float, /) -> None:  # noqa: ARG002  # as above
        """The queue keeps its jobs."""
        await queue.redis.aclose()


class Accounts:
    """Yours. Here: a table of users."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def _one(self, condition: str, value: str) -> Account | None:
        async with self.engine.connect() as connection:
            query = sa.text(f"SELECT id, email, password FROM users WHERE {condition} = :value")  # noqa: S608  # a constant
            row = (await connection.execute(query, {"value": value})).one_or_none()
        return Account(id=row.id, email=row.email, stamp=row.password) if row else None

    async def find(self, identifier: str, /) -> Account | None:
        """See `resetkit.AsyncAccountDirectory`."""
        return await self._one("email", identifier)

    async def get(self, account_id: str, /) -> Account | None:
        """See `resetkit.AsyncAccountDirectory`."""
        return await self._one("id", account_id)

    async def set_password(self, account_id: str, new_password: str, /) -> None:
        """Hash and store it, see examples/quickstart.py."""
        raise NotImplementedError  # yours

    async def end_sessions(self, account_id: str, /) -> None:
        """End every log-in of the account."""


engine = create_async_engine(os.environ["DATABASE_URL"], pool_pre_ping=True, hide_parameters=True)
mailer = AsyncSMTPMailer(
    os.environ["SMTP_HOST"],
    port=int(os.environ["SMTP_PORT"]),
    sender="no-reply@app.example",
    security="plaintext",  # to a relay on this machine; leave it out for any other
)
manager = AsyncResetManager(
    Accounts(engine),
    AsyncSQLAlchemyTokenStore(engine),
    mailer,
    link="https://app.example/reset#{token}",
    dispatcher=SAQDispatcher(),
)


async def run_reset_job(_context: dict[str, Any], *, text: str) -> None:
    """What the worker does."""
    try:
        await manager.run_job(text)
    except Exception as error:  # noqa: BLE001  # whatever the adapters raise
        raise JobFailedError(type(error).__name__) from None


async def stop(_context: dict[str, Any]) -> None:
    """What the worker does last."""
    await manager.close()
    await mailer.close()
    await engine.dispose()


settings = {
    "queue": queue,
    "functions": [run_reset_job],
    "shutdown": stop,
    "shutdown_grace_period_s": 5,  # for jobs to end when the worker is stopped; the others are put back
    "dequeue_timeout": 2,  # less than what redis-py gives each answer, 5 seconds
}
