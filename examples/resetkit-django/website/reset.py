"""The one manager of each process."""

from collections.abc import Generator
from contextlib import contextmanager

from django.conf import settings
from django.db import close_old_connections
from resetkit_django.store import DjangoTokenStore

from resetkit import ResetManager
from resetkit.dispatch import ThreadDispatcher
from resetkit.mailers import ConsoleMailer, SMTPMailer
from website.accounts import Accounts


@contextmanager
def fresh_connections() -> Generator[None, None, None]:
    """Around each job. Django looks after connections when a request ends, and a job runs outside of any."""
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()


def make_mailer() -> SMTPMailer | ConsoleMailer:
    """One that sends, if there is a server; or one that prints."""
    if settings.SMTP_HOST is None:
        return ConsoleMailer()
    return SMTPMailer(settings.SMTP_HOST, sender=settings.SMTP_SENDER)


manager = ResetManager(
    Accounts(),
    DjangoTokenStore(),
    make_mailer(),
    link=settings.RESET_LINK,
    dispatcher=ThreadDispatcher(around=fresh_connections),
)
