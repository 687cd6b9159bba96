"""Where the pages are. A token is letters and digits alone, so a slug."""

from django.conf import settings
from django.urls import path
from django.views.static import serve

from website import views

urlpatterns = [
    path("forgot", views.forgot, name="forgot"),
    path("sent/<slug:handle>", views.check_your_mail, name="sent"),
    path("reset/<slug:token>", views.open_link),
    path("reset", views.choose_password, name="reset"),
    path("done", views.done, name="done"),
    path("", views.home, name="home"),
    path("login", views.log_in),
    path("logout", views.log_out),
    path("static/<path:path>", serve, {"document_root": settings.PAGES / "static"}),
]
