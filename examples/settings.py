"""What the environment tells the web examples. Told nothing, they run on this machine alone, and print their mails."""

import os
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

S = TypeVar("S")
C = TypeVar("C")

# Where people reach the site: never taken from a request.
ORIGIN = os.environ.get("ORIGIN", "http://127.0.0.1:8000").rstrip("/")
LINK = f"{ORIGIN}/reset/{{token}}"
PORT = urlsplit(ORIGIN).port or 8000  # where the example itself listens, for want of a server in front
DATABASE = os.environ.get("DATABASE", "example.sqlite3")  # a file
SECRET_KEY = os.environ.get("SECRET_KEY") or os.urandom(32).hex()  # set it: several processes must have the same


def make_mailer(smtp: Callable[..., S], console: Callable[[], C]) -> S | C:
    """A mailer that sends, if there is a server; or one that prints."""
    if (host := os.environ.get("SMTP_HOST")) is None:
        return console()
    names = {"sender": "SMTP_SENDER", "username": "SMTP_USERNAME", "password": "SMTP_PASSWORD"}
    return smtp(host, **{option: os.environ[name] for option, name in names.items()})
