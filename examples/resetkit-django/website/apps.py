"""What INSTALLED_APPS names."""

from django.apps import AppConfig


class WebsiteConfig(AppConfig):
    """The app ``website``."""

    name = "website"
