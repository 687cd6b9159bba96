"""Who may log in. A project that has users of its own takes `session_epoch` and the method over."""

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models
from django.utils.crypto import salted_hmac


class UserManager(BaseUserManager):
    """Makes users."""

    def create_user(self, email: str, password: str) -> Any:
        """One who can log in."""
        user = self.model(email=email.lower())
        user.set_password(password)
        user.save()
        return user


class User(AbstractBaseUser):
    """A user by mail address, which is stored in lower case."""

    email = models.EmailField(max_length=320, unique=True)
    is_active = models.BooleanField(default=True)
    session_epoch = models.PositiveIntegerField(default=0)

    objects = UserManager()
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    def get_session_auth_hash(self) -> str:
        """What each session is held against: a new password ends all of them, and so does a new epoch."""
        state = f"{self.session_epoch} {self.password}"
        return str(salted_hmac("website.User.session", state, algorithm="sha256").hexdigest())
