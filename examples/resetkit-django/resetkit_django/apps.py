"""What INSTALLED_APPS names."""

from django.apps import AppConfig


class ResetkitDjangoConfig(AppConfig):
    """The app ``resetkit_django``."""

    name = "resetkit_django"
    verbose_name = "Password resets"
