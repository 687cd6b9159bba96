"""A password reset in Starlette: ``python examples/starlette_app.py``, and open http://127.0.0.1:8000/forgot.

It prints its mails, until the environment names an SMTP server: see settings.py. docs/starlette.md goes through it.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn
from accounts import Accounts, AsyncAccounts
from pages import FOLDER, FORGED, HEADERS, LOGIN_COOKIE, RESET_COOKIE, WRONG_LOG_IN, is_forged, plain, render
from settings import DATABASE, LINK, ORIGIN, PORT, make_mailer
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from resetkit import (
    AsyncResetManager,
    InvalidTokenError,
    PasswordRejectedError,
    ResetReceipt,
    ThrottledError,
    code_token,
)
from resetkit.errors import ResetError
from resetkit.mailers import AsyncConsoleMailer, AsyncSMTPMailer
from resetkit.stores import AsyncSQLiteTokenStore


def page(template: str, status: int = 200, headers: dict[str, str] | None = None, **values: object) -> Response:
    """A page, rendered."""
    return HTMLResponse(render(template, **values), status, headers)


async def read_form(request: Request) -> dict[str, str]:
    """The form's texts. What is a file is no text."""
    async with request.form() as form:
        return {name: value for name, value in form.items() if isinstance(value, str)}


class ResetPages:
    """From "forgot password" to "done"."""

    def __init__(self, manager: AsyncResetManager, *, secure: bool) -> None:
        self.manager = manager
        self.secure = secure

    async def forgot(self, request: Request) -> Response:
        if request.method != "POST":
            return page("forgot.html")
        email = (await read_form(request)).get("email", "")
        receipt = await self.manager.request_reset(email.strip(), client=client(request), code=True)
        return RedirectResponse(f"/sent/{receipt.handle}", 303)

    async def check_your_mail(self, request: Request) -> Response:
        return page("reset.html", handle=request.path_params["handle"], message=ResetReceipt().message)

    async def open_link(self, request: Request) -> Response:
        """Take the token out of the address bar. It is not spent: scanners of mail open links too."""
        response = RedirectResponse("/reset", 303)
        response.set_cookie("reset", plain(request.path_params["token"]), secure=self.secure, **RESET_COOKIE)
        return response

    async def choose_password(self, request: Request) -> Response:
        if request.method == "POST":
            return await self.reset_password(request)
        token = request.cookies.get("reset", "")
        await self.manager.check_token(token, client=client(request))
        return page("reset.html", token=token)

    async def reset_password(self, request: Request) -> Response:
        form = await read_form(request)
        handle, code = form.get("handle", ""), form.get("code", "")
        token = code_token(handle, code) if handle else form.get("token", "")
        try:
            await self.manager.reset_password(token, form.get("password", ""), client=client(request))
        except PasswordRejectedError as rejected:
            problem = " ".join(rejected.messages)
        except InvalidTokenError as refused:
            if not handle:
                raise
            problem = str(refused)
        else:
            response = RedirectResponse("/done", 303)
            response.delete_cookie("reset", path="/reset")
            return response
        return page("reset.html", 422, problem=problem, token=token, handle=handle, code=code)

    async def done(self, _: Request) -> Response:
        return page("done.html")

    async def refuse(self, _: Request, error: Exception) -> Response:
        wait = {"Retry-After": str(error.retry_after)} if isinstance(error, ThrottledError) else None
        return page("error.html", 429 if wait else 400, wait, problem=str(error))

    def routes(self) -> list[Route]:
        return [
            Route("/forgot", self.forgot, methods=["GET", "POST"]),
            Route("/sent/{handle}", self.check_your_mail),
            Route("/reset/{token}", self.open_link),
            Route("/reset", self.choose_password, methods=["GET", "POST"]),
            Route("/done", self.done),
        ]


def client(request: Request) -> str | None:
    """Who asks. Behind a proxy: ``uvicorn --proxy-headers``."""
    return request.client and request.client.host


class LoginPages:
    """Not about the reset: a log-in, to see it work."""

    def __init__(self, accounts: AsyncAccounts, *, secure: bool) -> None:
        self.accounts = accounts
        self.secure = secure

    async def home(self, request: Request) -> Response:
        return page("home.html", email=await self.accounts.who(request.cookies.get("login", "")))

    async def log_in(self, request: Request) -> Response:
        if request.method != "POST":
            return page("login.html")
        form = await read_form(request)
        token = await self.accounts.log_in(form.get("email", ""), form.get("password", ""))
        if token is None:
            return page("login.html", 403, problem=WRONG_LOG_IN)
        response = RedirectResponse("/", 303)
        response.set_cookie("login", token, secure=self.secure, **LOGIN_COOKIE)
        return response

    async def log_out(self, request: Request) -> Response:
        await self.accounts.log_out(request.cookies.get("login", ""))
        return RedirectResponse("/", 303)

    def routes(self) -> list[Route]:
        return [
            Route("/", self.home),
            Route("/login", self.log_in, methods=["GET", "POST"]),
            Route("/logout", self.log_out, methods=["POST"]),
        ]


def create_app(
    accounts: AsyncAccounts, manager: AsyncResetManager, *, origin: str, pages: type[ResetPages] = ResetPages
) -> Starlette:
    """The site. `origin` is where people reach it, such as https://app.example."""
    secure = origin.startswith("https:")
    resets = pages(manager, secure=secure)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None, None]:
        async with manager:
            yield
        await accounts.close()

    async def guard(request: Request, go_on: RequestResponseEndpoint) -> Response:
        forged = is_forged(request.method, request.headers, origin)
        response = page("error.html", 403, problem=FORGED) if forged else await go_on(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    static = Mount("/static", StaticFiles(directory=FOLDER / "static"))
    app = Starlette(
        routes=[*resets.routes(), *LoginPages(accounts, secure=secure).routes(), static],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=guard)],
        exception_handlers={ResetError: resets.refuse},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # it would lead from "/reset/{token}/" to the host that the request names
    return app


def make_app() -> Starlette:
    """For a server: ``uvicorn --factory starlette_app:make_app``."""
    accounts = AsyncAccounts(create_async_engine(f"sqlite+aiosqlite:///{DATABASE}"))
    mailer = make_mailer(AsyncSMTPMailer, AsyncConsoleMailer)
    manager = AsyncResetManager(accounts, AsyncSQLiteTokenStore(DATABASE), mailer, link=LINK)
    tables = Accounts(create_engine(f"sqlite:///{DATABASE}"))  # which makes them
    tables.sign_up("alice@example.org", "correct horse battery")  # for you to try it; leave it out
    return create_app(accounts, manager, origin=ORIGIN)


if __name__ == "__main__":
    uvicorn.run(make_app(), port=PORT)
