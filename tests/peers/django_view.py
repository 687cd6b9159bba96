"""Django's own views: the mail backend sleeps, sessions are in the database, SQLite runs in WAL."""

import time
from pathlib import Path

import django
from django.conf import settings

urlpatterns = []


class SlowBackend:
    """A mail server: ``seconds`` for each connection."""

    seconds = 0.0

    def __init__(self, **_options):
        pass

    def send_messages(self, messages):
        time.sleep(self.seconds)
        return len(messages)


def configure(folder: Path, **more) -> None:
    apps = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django.contrib.messages"]
    middleware = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ]
    options = {
        "SECRET_KEY": "s" * 50,
        "ALLOWED_HOSTS": ["*"],
        "ROOT_URLCONF": __name__,
        "INSTALLED_APPS": [*apps, "django.contrib.admin", *more.pop("apps", ())],  # admin: its templates
        "MIDDLEWARE": [*middleware, *more.pop("middleware", ())],
        "DATABASES": {
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": folder / "peer.sqlite3",
                "OPTIONS": {"init_command": "PRAGMA journal_mode=wal", "timeout": 60},
            }
        },
        "TEMPLATES": [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        "EMAIL_BACKEND": f"{SlowBackend.__module__}.SlowBackend",
        "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
        "LOGIN_URL": "/login/",
    }
    settings.configure(**(options | more))
    django.setup()


class Peer:
    name = "Django PasswordResetView"
    request = "/password_reset/"
    field = "email"

    def __init__(self, folder: Path, mail: float) -> None:
        self.configure(folder)
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        SlowBackend.seconds = mail

    def configure(self, folder: Path) -> None:
        configure(folder)
        from django.contrib import admin
        from django.urls import include, path

        urlpatterns[:] = [path("admin/", admin.site.urls), path("", include("django.contrib.auth.urls"))]

    def add(self, addresses) -> None:
        from django.contrib.auth.hashers import make_password
        from django.contrib.auth.models import User

        password = make_password("correct horse battery")
        User.objects.bulk_create(
            [User(username=f"u{n}", email=each, password=password) for n, each in enumerate(addresses)]
        )

    def ask(self, address: str) -> None:
        from django.test import Client

        if not hasattr(self, "client"):
            self.client = Client()
        answer = self.client.post(self.request, {self.field: address})
        assert answer.status_code == 302, answer.content

    def link(self, address: str) -> str:
        from django.contrib.auth.models import User
        from django.contrib.auth.tokens import default_token_generator
        from django.utils.encoding import force_bytes
        from django.utils.http import urlsafe_base64_encode

        user = User.objects.get(email=address)
        return f"/reset/{urlsafe_base64_encode(force_bytes(user.pk))}/{default_token_generator.make_token(user)}/"

    def change(self, address: str, what: str) -> None:
        from django.contrib.auth.models import User

        user = User.objects.get(email=address)
        if what == "address":
            user.email = f"new.{address}"
        else:
            user.set_password("changed elsewhere")
        user.save()

    def prepare(self, link: str):
        """What one visitor does before the race: open the link. Returns what it does in the race."""
        from django.db import connection
        from django.test import Client

        client = Client()
        form = client.get(link).headers.get("Location")  # a link that is refused leads nowhere

        def redeem(password: str) -> bool:
            if form is None:
                return False
            answer = client.post(form, dict.fromkeys(self.fields, password))
            connection.close()
            return answer.status_code == 302

        return redeem

    fields = ("new_password1", "new_password2")
