"""What resetkit asks of Django's users, and the one manager."""

from collections.abc import Generator
from contextlib import contextmanager

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import close_old_connections
from django.db.models import F

from resetkit import Account, PasswordRejectedError, ResetManager
from resetkit.dispatch import ThreadDispatcher
from resetkit.mailers import ConsoleMailer, SMTPMailer
from resetkit_django.store import DjangoTokenStore
from website.models import User


class Accounts:
    """Users, as resetkit sees them."""

    def find(self, identifier: str, /) -> Account | None:
        """Who is this, as typed?"""
        return self._account(email=identifier.strip().lower())

    def get(self, account_id: str, /) -> Account | None:
        """Who is this, by id?"""
        return self._account(id=int(account_id)) if account_id.isdecimal() and len(account_id) < 19 else None  # noqa: PLR2004

    def _account(self, **condition: object) -> Account | None:
        user = User.objects.filter(**condition).first()
        return user and Account(id=str(user.id), email=user.email, stamp=user.password, can_reset=user.is_active)

    def set_password(self, account_id: str, new_password: str, /) -> None:
        """The new password, by the rules of AUTH_PASSWORD_VALIDATORS. It ends all sessions, as Django has it."""
        try:
            validate_password(new_password, User.objects.get(id=account_id))
        except ValidationError as error:
            raise PasswordRejectedError(*error.messages) from None
        User.objects.filter(id=account_id).update(password=make_password(new_password))

    def end_sessions(self, account_id: str, /) -> None:
        """Once more, since it may be called without `set_password` having come to its end."""
        User.objects.filter(id=account_id).update(session_epoch=F("session_epoch") + 1)


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
