"""From "forgot password" to "done", and a log-in to see it work."""

from django.conf import settings
from django.contrib import auth
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from resetkit import InvalidTokenError, PasswordRejectedError, ResetReceipt, code_token
from website import reset

form_page = require_http_methods(["GET", "HEAD", "POST"])


def client(request: HttpRequest) -> str:
    """Who asks. Behind a proxy: what the proxy says, by a middleware of yours."""
    return str(request.META["REMOTE_ADDR"])


@form_page
def forgot(request: HttpRequest) -> HttpResponse:
    """Ask for a mail."""
    if request.method != "POST":
        return render(request, "forgot.html")
    receipt = reset.manager.request_reset(request.POST.get("email", "").strip(), client=client(request), code=True)
    return redirect("sent", receipt.handle)


@require_safe
def check_your_mail(request: HttpRequest, handle: str) -> HttpResponse:
    """Where the code may be typed."""
    return render(request, "reset.html", {"handle": handle, "message": ResetReceipt().message})


@require_safe
def open_link(request: HttpRequest, token: str) -> HttpResponse:  # noqa: ARG001  # Django's name
    """Take the token out of the address bar. It is not spent: scanners of mail open links too.

    It goes into a cookie of its own, not into the session, which would keep it in the database, readable. The cookie is
    not Strict: who comes from a mail in a browser comes from another site.
    """
    response = redirect("reset")
    secure = settings.SESSION_COOKIE_SECURE
    response.set_cookie("reset", token, max_age=30 * 60, path="/reset", secure=secure, httponly=True, samesite="Lax")
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@form_page
def choose_password(request: HttpRequest) -> HttpResponse:
    """Set the new password."""
    if request.method != "POST":
        token = request.COOKIES.get("reset", "")
        reset.manager.check_token(token, client=client(request))
        return render(request, "reset.html", {"token": token})
    handle, code = request.POST.get("handle", ""), request.POST.get("code", "")
    token = code_token(handle, code) if handle else request.POST.get("token", "")
    try:
        reset.manager.reset_password(token, request.POST.get("password", ""), client=client(request))
    except PasswordRejectedError as rejected:
        problem = " ".join(rejected.messages)
    except InvalidTokenError as refused:
        if not handle:
            raise
        problem = str(refused)
    else:
        response = redirect("done")
        response.delete_cookie("reset", path="/reset", samesite="Lax")
        return response
    values = {"problem": problem, "token": token, "handle": handle, "code": code}
    return render(request, "reset.html", values, status=422)


@require_safe
def done(request: HttpRequest) -> HttpResponse:
    """The password was changed. Nobody is logged in by that."""
    return render(request, "done.html")


def refuse_forged(request: HttpRequest, reason: str = "") -> HttpResponse:  # noqa: ARG001  # Django's name
    """For CSRF_FAILURE_VIEW."""
    problem = "This form was not sent by our own page. Please go back, load the page anew and try again."
    return render(request, "error.html", {"problem": problem}, status=403)


# What follows is not about the reset.


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Who is logged in."""
    return render(request, "home.html", {"email": getattr(request.user, "email", None)})


@form_page
def log_in(request: HttpRequest) -> HttpResponse:
    """With address and password."""
    if request.method != "POST":
        return render(request, "login.html")
    email, password = request.POST.get("email", "").strip().lower(), request.POST.get("password", "")
    user = auth.authenticate(request, username=email, password=password)
    if user is None:
        return render(request, "login.html", {"problem": "No account has this address and password."}, status=403)
    auth.login(request, user)
    return redirect("home")


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    """End this session."""
    auth.logout(request)
    return redirect("home")
