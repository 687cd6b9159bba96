"""Settings. What is not Django's own default is there for the reset, or says why."""

import os
from pathlib import Path
from urllib.parse import urlsplit

# Where people reach the site: never taken from a request.
ORIGIN = os.environ.get("ORIGIN", "http://127.0.0.1:8000").rstrip("/")
PORT = urlsplit(ORIGIN).port or 8000
RESET_LINK = f"{ORIGIN}/reset/{{token}}"
SMTP_HOST, SMTP_SENDER = os.environ.get("SMTP_HOST"), os.environ.get("SMTP_SENDER")

SECRET_KEY = os.environ.get("SECRET_KEY") or os.urandom(32).hex()  # set it: several processes must have the same
ALLOWED_HOSTS = [urlsplit(ORIGIN).hostname]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ORIGIN.startswith("https:")
SESSION_COOKIE_SAMESITE = "Strict"
CSRF_TRUSTED_ORIGINS = [ORIGIN]  # behind a proxy that ends TLS, Django sees http
CSRF_FAILURE_VIEW = "website.views.refuse_forged"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "resetkit_django",
    "website",
]
AUTH_USER_MODEL = "website.User"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE", "example.sqlite3"),
    }
}
TIME_ZONE = "UTC"  # in the log as in the mails
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "website.middleware.ResetMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ROOT_URLCONF = "website.urls"
PAGES = Path(__file__).parent.parent.parent  # templates and style of all web examples
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [PAGES / "templates"],
        "OPTIONS": {"context_processors": ["website.middleware.csrf_field"]},
    }
]
