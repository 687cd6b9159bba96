"""A password reset in FastAPI: ``python examples/fastapi_app.py``, and open http://127.0.0.1:8000/forgot.

It prints its mails, until the environment names an SMTP server: see settings.py. docs/fastapi.md goes through it.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from accounts import Accounts, AsyncAccounts
from fastapi import Cookie, FastAPI, Form, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from pages import FOLDER, FORGED, HEADERS, LOGIN_COOKIE, RESET_COOKIE, WRONG_LOG_IN, is_forged, plain, render
from settings import DATABASE, LINK, ORIGIN, PORT, make_mailer
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

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

Field = Annotated[str, Form()]
Kept = Annotated[str, Cookie()]


def create_app(accounts: AsyncAccounts, manager: AsyncResetManager, *, origin: str) -> FastAPI:
    """The pages. `origin` is where people reach them, such as https://app.example."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        async with manager:
            yield
        await accounts.close()

    # It would lead from "/reset/{token}/" to the host that the request names.
    app = FastAPI(lifespan=lifespan, openapi_url=None, redirect_slashes=False)
    secure = origin.startswith("https:")

    def client(request: Request) -> str | None:
        return request.client and request.client.host

    @app.get("/forgot")
    async def forgot() -> Response:
        return page("forgot.html")

    @app.post("/forgot")
    async def send_mail(request: Request, email: Field = "") -> Response:
        receipt = await manager.request_reset(email.strip(), client=client(request), code=True)
        return RedirectResponse(f"/sent/{receipt.handle}", 303)

    @app.get("/sent/{handle}")
    async def check_your_mail(handle: str) -> Response:
        return page("reset.html", handle=handle, message=ResetReceipt().message)

    @app.api_route("/reset/{token}", methods=["GET", "HEAD"])
    async def open_link(token: str) -> Response:
        """Take the token out of the address bar. It is not spent: scanners of mail open links too."""
        response = RedirectResponse("/reset", 303)
        response.set_cookie("reset", plain(token), secure=secure, **RESET_COOKIE)
        return response

    @app.api_route("/reset", methods=["GET", "HEAD"])
    async def choose_password(request: Request, reset: Kept = "") -> Response:
        await manager.check_token(reset, client=client(request))
        return page("reset.html", token=reset)

    @app.post("/reset")
    async def reset_password(
        request: Request, token: Field = "", handle: Field = "", code: Field = "", password: Field = ""
    ) -> Response:
        try:
            await manager.reset_password(
                code_token(handle, code) if handle else token, password, client=client(request)
            )
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

    @app.get("/done")
    async def done() -> Response:
        return page("done.html")

    @app.exception_handler(ResetError)
    async def refuse(_: Request, error: Exception) -> Response:
        wait = {"Retry-After": str(error.retry_after)} if isinstance(error, ThrottledError) else None
        return page("error.html", 429 if wait else 400, wait, problem=str(error))

    # What follows is not about the reset: a log-in, to see it work, and what every page needs.

    @app.get("/")
    async def home(login: Kept = "") -> Response:
        return page("home.html", email=await accounts.who(login))

    @app.get("/login")
    async def log_in_form() -> Response:
        return page("login.html")

    @app.post("/login")
    async def log_in(email: Field = "", password: Field = "") -> Response:
        token = await accounts.log_in(email, password)
        if token is None:
            return page("login.html", 403, problem=WRONG_LOG_IN)
        response = RedirectResponse("/", 303)
        response.set_cookie("login", token, secure=secure, **LOGIN_COOKIE)
        return response

    @app.post("/logout")
    async def log_out(login: Kept = "") -> Response:
        await accounts.log_out(login)
        return RedirectResponse("/", 303)

    @app.exception_handler(RequestValidationError)
    async def refuse_field(_request: Request, _error: Exception) -> Response:  # a file, say, in the place of a text
        return page("error.html", 400, problem="This form cannot be read.")

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        forged = is_forged(request.method, request.headers, origin)
        response = page("error.html", 403, problem=FORGED) if forged else await go_on(request)
        response.headers.update(HEADERS)
        return response

    app.mount("/static", StaticFiles(directory=FOLDER / "static"))
    return app


def page(template: str, status: int = 200, headers: dict[str, str] | None = None, **values: object) -> Response:
    """A page, rendered."""
    return HTMLResponse(render(template, **values), status, headers)


def make_app() -> FastAPI:
    """For a server: ``uvicorn --factory fastapi_app:make_app``."""
    accounts = AsyncAccounts(create_async_engine(f"sqlite+aiosqlite:///{DATABASE}"))
    mailer = make_mailer(AsyncSMTPMailer, AsyncConsoleMailer)
    manager = AsyncResetManager(accounts, AsyncSQLiteTokenStore(DATABASE), mailer, link=LINK)
    tables = Accounts(create_engine(f"sqlite:///{DATABASE}"))  # which makes them
    tables.sign_up("alice@example.org", "correct horse battery")  # for you to try it; leave it out
    return create_app(accounts, manager, origin=ORIGIN)


if __name__ == "__main__":
    uvicorn.run(make_app(), port=PORT)
