"""Django's commands; with none, the site with an account to try it: alice@example.org, "correct horse battery"."""

import os
import sys

from django import setup
from django.conf import settings
from django.core.management import call_command, execute_from_command_line


def main() -> None:
    """Do as told."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "website.settings")
    if len(sys.argv) > 1:
        execute_from_command_line(sys.argv)
        return
    setup()
    call_command("migrate", verbosity=0)

    from website.models import User  # noqa: PLC0415  # after setup

    if not User.objects.filter(email="alice@example.org").exists():
        User.objects.create_user("alice@example.org", "correct horse battery")
    call_command("runserver", f"127.0.0.1:{settings.PORT}", use_reloader=False)


if __name__ == "__main__":
    main()
