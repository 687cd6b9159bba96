"""What the pages of the web examples share: their headers, their templates, and who may send a form."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypedDict

from jinja2 import Environment, FileSystemLoader


class Cookie(TypedDict):
    """Options of a cookie, as Flask, Django, Starlette and aiohttp all call them."""

    max_age: int
    path: str
    httponly: bool
    samesite: Literal["lax", "strict"]


FOLDER = Path(__file__).parent

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}

# With the token that a link carried, between the link and the page it leads to. Not Strict: who comes from a mail in a
# browser comes from another site. No script needs it, and only one page gets it.
RESET_COOKIE: Cookie = {"max_age": 30 * 60, "path": "/reset", "httponly": True, "samesite": "lax"}
LOGIN_COOKIE: Cookie = {"max_age": 30 * 86400, "path": "/", "httponly": True, "samesite": "strict"}

FORGED = "This form was not sent by our own page. Please go back, load the page anew and try again."
WRONG_LOG_IN = "No account has this address and password."

_templates = Environment(loader=FileSystemLoader(FOLDER / "templates"), autoescape=True)


def render(template: str, **values: object) -> str:
    """A page. Values are escaped."""
    return _templates.get_template(template).render(values)


def plain(token: str) -> str:
    """`token`, fit for a cookie: a real one is letters and digits alone."""
    return token if token.isascii() and token.isalnum() else ""


def is_forged(method: str, headers: Mapping[str, str], origin: str) -> bool:
    """Whether another site made the browser send this form.

    Browsers say where a request comes from, and no page can make them say otherwise: in Sec-Fetch-Site since 2023 at
    the latest, before that in Origin. So a form needs neither a cookie nor a token in it. What says nothing is refused.
    `headers` are read in lower case.
    """
    if method in {"GET", "HEAD"}:
        return False
    site = headers.get("sec-fetch-site")
    # Only where there is no Sec-Fetch-Site: a page that sends no referrer has the Origin "null".
    return headers.get("origin") != origin if site is None else site not in {"same-origin", "none"}
