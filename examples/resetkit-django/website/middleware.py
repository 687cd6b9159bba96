"""What every page needs."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.utils.functional import SimpleLazyObject
from django.utils.html import format_html

from resetkit import ThrottledError
from resetkit.errors import ResetError

# Django adds the others itself. Its Referrer-Policy is "same-origin", and must not be "no-referrer" where a form is:
# the browser would send the Origin "null" with it, which CsrfViewMiddleware refuses.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Robots-Tag": "noindex",
}


class ResetMiddleware:
    """Headers for every answer, and a page for what resetkit refuses."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Add the headers."""
        response = self.get_response(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """A dead link, or too many requests."""
        if not isinstance(error, ResetError):
            return None
        response = render(request, "error.html", {"problem": str(error)}, status=400)
        if isinstance(error, ThrottledError):
            response.status_code = 429
            response.headers["Retry-After"] = str(error.retry_after)
        return response


def csrf_field(request: HttpRequest) -> dict[str, Any]:
    """What ``{% csrf_token %}`` writes, under a name that the templates of all web examples know."""

    def field() -> object:
        return format_html('<input type="hidden" name="csrfmiddlewaretoken" value="{}">', get_token(request))

    return {"csrf_field": SimpleLazyObject(field)}  # made where a form is, since its token sets a cookie
