"""A password reset without a framework: ``python examples/wsgi_app.py``, and open http://127.0.0.1:8000/forgot.

Accounts, in SQLite, are those of quickstart.py. It prints its mails, until the environment names an SMTP server: see
settings.py. docs/wsgi.md goes through it.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from http.cookies import SimpleCookie
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import parse_qsl
from wsgiref.simple_server import WSGIServer, make_server

from pages import FOLDER, FORGED, HEADERS, LOGIN_COOKIE, RESET_COOKIE, WRONG_LOG_IN, Cookie, is_forged, plain, render
from quickstart import Accounts
from settings import DATABASE, LINK, ORIGIN, PORT, make_mailer

from resetkit import (
    InvalidTokenError,
    PasswordRejectedError,
    ResetManager,
    ResetReceipt,
    ThrottledError,
    code_token,
)
from resetkit.errors import ResetError
from resetkit.mailers import ConsoleMailer, SMTPMailer
from resetkit.stores import SQLiteTokenStore

MAX_FORM = 16_384  # bytes; no form of these is longer
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class Request:
    """What came."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.method: str = environ["REQUEST_METHOD"]
        self.path: str = environ.get("PATH_INFO") or "/"
        self.client: str = environ["REMOTE_ADDR"]
        self.headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): value
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        # Other applications set cookies of any form for this host. SimpleCookie reads no further, or raises.
        cookies = (each.strip().partition("=") for each in environ.get("HTTP_COOKIE", "").split(";"))
        self.cookies = {name: value for name, _, value in cookies}
        length = environ.get("CONTENT_LENGTH") or "0"
        is_number = length.isdecimal() and len(length) <= len(str(MAX_FORM))
        is_whole = is_number and int(length) <= MAX_FORM  # half a form must not be taken for one
        body: bytes = environ["wsgi.input"].read(int(length)) if is_whole else b""
        self.form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


class Response:
    """What goes."""

    def __init__(self, text: str = "", status: int = 200, content_type: str = "text/html; charset=utf-8") -> None:
        self.status = HTTPStatus(status)
        self.body = text.encode()
        self.headers = [*HEADERS.items(), ("Content-Type", content_type), ("Content-Length", str(len(self.body)))]

    def set_cookie(self, name: str, value: str, *, secure: bool, options: Cookie) -> None:
        cookie: SimpleCookie = SimpleCookie({name: value})
        for key, each in {**options, "secure": secure}.items():
            cookie[name][key.replace("_", "-")] = each
        self.headers.append(("Set-Cookie", cookie[name].OutputString()))


def page(template: str, status: int = 200, **values: object) -> Response:
    """A page, rendered."""
    return Response(render(template, **values), status)


def see(address: str) -> Response:
    """Go there."""
    response = Response(status=303)
    response.headers.append(("Location", address))
    return response


class App:
    """The pages. `origin` is where people reach them, such as https://app.example."""

    def __init__(self, accounts: Accounts, manager: ResetManager, *, origin: str) -> None:
        self.accounts = accounts
        self.manager = manager
        self.origin = origin
        self.secure = origin.startswith("https:")
        self.pages: dict[tuple[str, str], Callable[[Request], Response]] = {
            ("GET", "/forgot"): lambda _: page("forgot.html"),
            ("POST", "/forgot"): self.send_mail,
            ("GET", "/sent/"): self.check_your_mail,
            ("GET", "/reset/"): self.open_link,
            ("GET", "/reset"): self.choose_password,
            ("POST", "/reset"): self.reset_password,
            ("GET", "/done"): lambda _: page("done.html"),
            ("GET", "/"): self.home,
            ("GET", "/login"): lambda _: page("login.html"),
            ("POST", "/login"): self.log_in,
            ("POST", "/logout"): self.log_out,
            ("GET", "/static/"): self.style,
        }

    def send_mail(self, request: Request) -> Response:
        email = request.form.get("email", "").strip()
        receipt = self.manager.request_reset(email, client=request.client, code=True)
        return see(f"/sent/{receipt.handle}")

    def check_your_mail(self, request: Request) -> Response:
        return page("reset.html", handle=last_part(request), message=ResetReceipt().message)

    def open_link(self, request: Request) -> Response:
        """Take the token out of the address bar. It is not spent: scanners of mail open links too."""
        response = see("/reset")
        response.set_cookie("reset", plain(last_part(request)), secure=self.secure, options=RESET_COOKIE)
        return response

    def choose_password(self, request: Request) -> Response:
        token = request.cookies.get("reset", "")
        self.manager.check_token(token, client=request.client)
        return page("reset.html", token=token)

    def reset_password(self, request: Request) -> Response:
        handle, code = request.form.get("handle", ""), request.form.get("code", "")
        token = code_token(handle, code) if handle else request.form.get("token", "")
        try:
            self.manager.reset_password(token, request.form.get("password", ""), client=request.client)
        except PasswordRejectedError as rejected:
            problem = " ".join(rejected.messages)
        except InvalidTokenError as refused:
            if not handle:
                raise
            problem = str(refused)
        else:
            response = see("/done")
            response.set_cookie("reset", "", secure=self.secure, options={**RESET_COOKIE, "max_age": 0})
            return response
        return page("reset.html", 422, problem=problem, token=token, handle=handle, code=code)

    def refuse(self, error: ResetError) -> Response:
        if not isinstance(error, ThrottledError):
            return page("error.html", 400, problem=str(error))
        response = page("error.html", 429, problem=str(error))
        response.headers.append(("Retry-After", str(error.retry_after)))
        return response

    # What follows is not about the reset: a log-in, to see it work, and what every page needs.

    def home(self, request: Request) -> Response:
        return page("home.html", email=self.accounts.who(request.cookies.get("login", "")))

    def log_in(self, request: Request) -> Response:
        token = self.accounts.log_in(request.form.get("email", ""), request.form.get("password", ""))
        if token is None:
            return page("login.html", 403, problem=WRONG_LOG_IN)
        response = see("/")
        response.set_cookie("login", token, secure=self.secure, options=LOGIN_COOKIE)
        return response

    def log_out(self, request: Request) -> Response:
        self.accounts.log_out(request.cookies.get("login", ""))
        return see("/")

    def style(self, _: Request) -> Response:
        return Response((FOLDER / "static" / "style.css").read_text(), content_type="text/css; charset=utf-8")

    def answer(self, request: Request) -> Response:
        """The page for this path; "/reset/" stands for all that begins with it."""
        method = "GET" if request.method == "HEAD" else request.method
        begins = f"{request.path.rpartition('/')[0]}/"
        handler = self.pages.get((method, request.path)) or (begins != "/" and self.pages.get((method, begins)))
        if is_forged(request.method, request.headers, self.origin):
            return page("error.html", 403, problem=FORGED)
        if not handler:
            return page("error.html", 404, problem="There is no such page.")
        try:
            return handler(request)
        except ResetError as error:
            return self.refuse(error)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        response = self.answer(request)
        start_response(f"{response.status.value} {response.status.phrase}", response.headers)
        return [b"" if request.method == "HEAD" else response.body]


def last_part(request: Request) -> str:
    """What stands behind the last slash."""
    return request.path.rpartition("/")[2]


def make_app() -> App:
    """For a server: ``gunicorn "wsgi_app:make_app()"``."""
    accounts = Accounts(Path(DATABASE))
    mailer = make_mailer(SMTPMailer, ConsoleMailer)
    manager = ResetManager(accounts, SQLiteTokenStore(DATABASE), mailer, link=LINK)
    if accounts.find("alice@example.org") is None:
        accounts.sign_up("alice@example.org", "correct horse battery")  # for you to try it; leave it out
    return App(accounts, manager, origin=ORIGIN)


class Server(ThreadingMixIn, WSGIServer):
    """One thread for each request."""

    daemon_threads = True


if __name__ == "__main__":
    with make_server("127.0.0.1", PORT, make_app(), server_class=Server) as server, suppress(KeyboardInterrupt):
        print(f"Serving http://127.0.0.1:{PORT} (Press CTRL+C to quit)", flush=True)
        server.serve_forever()
