"""django-allauth's views, with its limits off: they would end the measurement after five calls."""

from pathlib import Path

import django_view


class Peer(django_view.Peer):
    name = "django-allauth"
    request = "/accounts/password/reset/"
    fields = ("password1", "password2")

    def configure(self, folder: Path) -> None:
        django_view.configure(
            folder,
            apps=("allauth", "allauth.account"),
            middleware=("allauth.account.middleware.AccountMiddleware",),
            AUTHENTICATION_BACKENDS=[
                "django.contrib.auth.backends.ModelBackend",
                "allauth.account.auth_backends.AuthenticationBackend",
            ],
            ACCOUNT_RATE_LIMITS=False,
        )
        from django.contrib import admin
        from django.urls import include, path

        django_view.urlpatterns[:] = [path("admin/", admin.site.urls), path("accounts/", include("allauth.urls"))]

    def link(self, address: str) -> str:
        from allauth.account.forms import default_token_generator
        from allauth.account.utils import user_pk_to_url_str
        from django.contrib.auth.models import User
        from django.urls import reverse

        user = User.objects.get(email=address)
        key = default_token_generator.make_token(user)
        return reverse("account_reset_password_from_key", kwargs={"uidb36": user_pk_to_url_str(user), "key": key})
