"""What resetkit asks of Django's users."""

from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db.models import F

from resetkit import Account, PasswordRejectedError
from website.models import User


class Accounts:
    """Users, as resetkit sees them."""

    def find(self, identifier: str, /) -> Account | None:
        """Who is this, as typed?"""
        return self._account(email=identifier.strip().lower())

    def get(self, account_id: str, /) -> Account | None:
        """Who is this, by id?"""
        return self._account(id=int(account_id)) if account_id.isdecimal() and len(account_id) < 19 else None  # noqa: PLR2004  # what an integer column holds

    def _account(self, **condition: Any) -> Account | None:
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
