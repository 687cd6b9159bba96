"""What the demonstration's site answers to each request: the pages of an application that uses resetkit."""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from http import HTTPStatus
from typing import Final

from resetkit._sync import ResetManager
from resetkit._tokens import code_token
from resetkit._web_demo import pages
from resetkit._web_demo.accounts import Accounts
from resetkit._web_demo.backstage import Backstage, Entry
from resetkit.errors import InvalidTokenError, PasswordRejectedError, ThrottledError

BROWSER: Final = "resetkit-demo-browser"  # the cookie that a form's CSRF token belongs to
SESSION: Final = "resetkit-demo-session"  # the cookie of a log-in

_WRONG_LOG_IN: Final = "Address or password is wrong."


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Request:
    """What a browser asks. `fields` are a form's, each given once; `method` is GET for HEAD too."""

    method: str
    path: str
    fields: Mapping[str, str]
    cookies: Mapping[str, str]
    client: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Response:
    """What it is answered, in HTML."""

    body: str = ""
    status: HTTPStatus = HTTPStatus.OK
    policy: str = pages.PLAIN_POLICY
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    cookies: Mapping[str, str] = field(default_factory=dict[str, str])


class Site:
    """Answers requests from any thread. What only looks, by GET, changes nothing."""

    def __init__(self, manager: ResetManager, accounts: Accounts, backstage: Backstage) -> None:
        self._manager = manager
        self._accounts = accounts
        self._backstage = backstage
        self._key = secrets.token_bytes(32)
        self._routes: dict[str, dict[str, Callable[[Request, str], Response]]] = {
            "/": {"GET": lambda _, __: Response(body=pages.desk(), policy=pages.DESK_POLICY)},
            "/log-in": {"GET": lambda _, csrf: Response(body=pages.log_in(csrf)), "POST": self._log_in},
            "/account": {"GET": self._account},
            "/log-out": {"POST": self._log_out},
            "/forgot": {"GET": lambda _, csrf: Response(body=pages.forgot(csrf)), "POST": self._forgot},
            "/code": {"POST": self._code},
            "/reset": {
                "GET": lambda _, csrf: Response(body=pages.reset(csrf), policy=pages.RESET_POLICY),
                "POST": self._reset,
            },
            "/done": {"GET": lambda _, __: Response(body=pages.done())},
            "/mails": {"GET": lambda _, __: self._list(pages.mails)},
            "/events": {"GET": lambda _, __: self._list(pages.events)},
        }

    def answer(self, request: Request) -> Response:
        """The page for a request, with the cookies and headers that go with it."""
        browser = request.cookies.get(BROWSER) or secrets.token_urlsafe(32)
        response = self._route(request, browser)
        return response if request.cookies.get(BROWSER) else _with_cookie(response, BROWSER, browser)

    def _route(self, request: Request, browser: str) -> Response:
        if request.method == "GET" and request.path.startswith("/mails/"):
            return self._mail(request.path.removeprefix("/mails/"))
        methods = self._routes.get(request.path)
        if methods is None:
            return problem(HTTPStatus.NOT_FOUND, "There is no such page.")
        if request.method not in methods:
            allowed = {"Allow": ", ".join(["GET", "HEAD"] * ("GET" in methods) + ["POST"] * ("POST" in methods))}
            return problem(HTTPStatus.METHOD_NOT_ALLOWED, "This page takes no such request.", allowed)
        csrf = hmac.new(self._key, browser.encode(), hashlib.sha256).hexdigest()
        if request.method == "POST" and not hmac.compare_digest(request.fields.get("csrf", "").encode(), csrf.encode()):
            return problem(HTTPStatus.FORBIDDEN, "This form is from another time or another site. Open the page again.")
        try:
            return methods[request.method](request, csrf)
        except ThrottledError as throttled:
            wait = {"Retry-After": str(throttled.retry_after)}
            return problem(HTTPStatus.TOO_MANY_REQUESTS, str(throttled), wait)

    def _log_in(self, request: Request, csrf: str) -> Response:
        identifier = request.fields.get("identifier", "")
        session = self._accounts.log_in(identifier, request.fields.get("password", ""))
        if session is None:
            return Response(body=pages.log_in(csrf, identifier, _WRONG_LOG_IN))
        return _with_cookie(_see("/account"), SESSION, session)

    def _account(self, request: Request, csrf: str) -> Response:
        session = request.cookies.get(SESSION)
        if not session:
            return _see("/log-in")
        address = self._accounts.who(session)
        return Response(body=pages.account(csrf, address) if address else pages.ended())

    def _log_out(self, request: Request, _: str) -> Response:
        self._accounts.log_out(request.cookies.get(SESSION, ""))
        return _with_cookie(_see("/log-in"), SESSION, "")

    def _forgot(self, request: Request, csrf: str) -> Response:
        receipt = self._manager.request_reset(
            request.fields.get("identifier", "").strip(),
            client=request.client,
            code="code" in request.fields,
            context={"ip": request.client},
        )
        return Response(body=pages.sent(csrf, receipt.message, receipt.handle))

    def _code(self, request: Request, csrf: str) -> Response:
        handle = request.fields.get("handle", "")
        try:
            self._redeem(request, code_token(handle, request.fields.get("code", "")))
        except PasswordRejectedError as rejected:
            return Response(body=pages.code(csrf, handle, " ".join(rejected.messages)))
        except InvalidTokenError as refused:
            return Response(body=pages.code(csrf, handle, str(refused)))
        return _see("/done")

    def _reset(self, request: Request, csrf: str) -> Response:
        token = request.fields.get("token", "").strip().rpartition("#")[2]  # whoever has no scripts pastes the link
        try:
            self._redeem(request, token)
        except PasswordRejectedError as rejected:
            return Response(body=pages.reset(csrf, token, " ".join(rejected.messages)))
        except InvalidTokenError as refused:
            return Response(body=pages.refused(str(refused)))
        return _see("/done")

    def _redeem(self, request: Request, token: str) -> None:
        password, context = request.fields.get("password", ""), {"ip": request.client}
        self._manager.reset_password(token, password, client=request.client, context=context)

    def _list(self, page: Callable[[Sequence[Entry]], str]) -> Response:
        return Response(body=page(self._backstage.entries()), policy=pages.LIST_POLICY)

    def _mail(self, number: str) -> Response:
        for entry in self._backstage.entries():
            if str(entry.number) == number and isinstance(entry.what, EmailMessage):
                return Response(body=pages.mail_document(entry.what), policy=pages.MAIL_POLICY)
        return problem(HTTPStatus.NOT_FOUND, "There is no such mail.")


def problem(status: HTTPStatus, told: str, headers: Mapping[str, str] | None = None) -> Response:
    """The page for a request that is refused."""
    return Response(body=pages.problem(status.phrase, told), status=status, headers=headers or {})


def _see(path: str) -> Response:
    """After a form was taken, so that loading again sends nothing twice."""
    return Response(status=HTTPStatus.SEE_OTHER, headers={"Location": path})


def _with_cookie(response: Response, name: str, value: str) -> Response:
    return Response(
        body=response.body,
        status=response.status,
        policy=response.policy,
        headers=response.headers,
        cookies={**response.cookies, name: value},
    )
