"""Requests on a Celery queue: the web process takes them, a worker looks up, hashes and mails.

Run a worker: ``celery --app celery_queue worker``. The environment names the broker, the database and the mail server:
``BROKER_URL``, ``DATABASE_URL``, ``SMTP_HOST``, ``SMTP_PORT``.
"""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from celery import Celery  # type: ignore[import-untyped]  # which ships no types

from resetkit import Account, ResetManager
from resetkit.mailers import SMTPMailer
from resetkit.stores.sqlalchemy import SQLAlchemyTokenStore

NOW = timedelta(0)
HIDDEN = "(hidden)"  # what logs and monitors show of a job, which names people

app: Any = Celery("celery_queue", broker=os.environ["BROKER_URL"])  # it ships no types
app.conf.update(
    # No worker hoards jobs: it holds those it runs, and of those that are not due yet a hundred.
    worker_prefetch_multiplier=1,
    worker_eta_task_limit=100,
    broker_transport_options={
        # Redis and Valkey: the jobs of a worker that is gone come back after so many seconds. Longer than a delay and a
        # run together.
        "visibility_timeout": 300,
        # No page waits for long: five seconds for a broker that hangs, two for one that is down.
        "socket_timeout": 5,
        "max_retries": 1,
    },
)


class JobFailedError(Exception):
    """Names the type of what failed, and nothing more: an error's text may name people, and Celery logs it."""


class CeleryDispatcher:
    """Hands jobs to `run_reset_job`."""

    def dispatch(self, job: str, run: Callable[[str], None], /, *, delay: timedelta = NOW) -> None:  # noqa: ARG002  # the protocol's names
        """See `resetkit.protocols.Dispatcher`."""
        run_reset_job.apply_async((job,), countdown=delay.total_seconds(), argsrepr=HIDDEN, retry=False)

    def close(self, timeout: float, /) -> None:
        """The queue keeps its jobs."""


class Accounts:
    """Yours. Here: a table of users."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    def _one(self, condition: str, value: str) -> Account | None:
        with self.engine.connect() as connection:
            query = sa.text(f"SELECT id, email, password FROM users WHERE {condition} = :value")  # noqa: S608  # a constant
            row = connection.execute(query, {"value": value}).one_or_none()
        return Account(id=row.id, email=row.email, stamp=row.password) if row else None

    def find(self, identifier: str, /) -> Account | None:
        """See `resetkit.AccountDirectory`."""
        return self._one("email", identifier)

    def get(self, account_id: str, /) -> Account | None:
        """See `resetkit.AccountDirectory`."""
        return self._one("id", account_id)

    def set_password(self, account_id: str, new_password: str, /) -> None:
        """Hash and store it, see examples/quickstart.py."""
        raise NotImplementedError  # yours

    def end_sessions(self, account_id: str, /) -> None:
        """End every log-in of the account."""


engine = sa.create_engine(os.environ["DATABASE_URL"], pool_pre_ping=True, hide_parameters=True)
manager = ResetManager(
    Accounts(engine),
    SQLAlchemyTokenStore(engine),
    SMTPMailer(
        os.environ["SMTP_HOST"],
        port=int(os.environ["SMTP_PORT"]),
        sender="no-reply@app.example",
        security="plaintext",  # to a relay on this machine; leave it out for any other
    ),
    link="https://app.example/reset#{token}",
    dispatcher=CeleryDispatcher(),
)


@app.task(  # type: ignore[untyped-decorator]  # as above
    ignore_result=True,
    # A job is acknowledged when it is done, so a worker that dies loses none; running one twice does no harm.
    acks_late=True,
    reject_on_worker_lost=True,
    soft_time_limit=60,  # seconds, for a mail server that never comes to an end
    # What fails is tried ten times, a minute apart.
    autoretry_for=(JobFailedError,),
    max_retries=9,
    default_retry_delay=60,
    retry_kwargs={"argsrepr": HIDDEN},
)
def run_reset_job(job: str) -> None:
    """What the worker does."""
    try:
        manager.run_job(job)
    except Exception as error:  # noqa: BLE001  # whatever the adapters raise
        raise JobFailedError(type(error).__name__) from None
