"""A password reset in aiohttp: ``python examples/aiohttp_app.py``, and open http://127.0.0.1:8000/forgot.

It prints its mails, until the environment names an SMTP server: see settings.py. docs/aiohttp.md goes through it.
"""

from collections.abc import AsyncGenerator

from accounts import Accounts, AsyncAccounts
from aiohttp import web
from aiohttp.typedefs import Handler
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


def page(template: str, status: int = 200, headers: dict[str, str] | None = None, **values: object) -> web.Response:
    """A page, rendered."""
    return web.Response(text=render(template, **values), status=status, headers=headers, content_type="text/html")


def see(address: str) -> web.Response:
    """Go there."""
    return web.Response(status=303, headers={"Location": address})


async def read_form(request: web.Request) -> dict[str, str]:
    """The form's texts. These pages send no files, so the kind of form that can is not read at all."""
    if request.content_type == "multipart/form-data":
        raise web.HTTPUnsupportedMediaType
    try:
        form = await request.post()
    except (ValueError, LookupError) as error:  # bytes that are no text, or in a charset that there is not
        raise web.HTTPBadRequest from error
    return {name: str(value) for name, value in form.items()}


def create_app(accounts: AsyncAccounts, manager: AsyncResetManager, *, origin: str) -> web.Application:
    """The pages. `origin` is where people reach them, such as https://app.example."""
    secure = origin.startswith("https:")
    routes = web.RouteTableDef()

    @routes.get("/forgot")
    async def forgot(_: web.Request) -> web.Response:
        return page("forgot.html")

    @routes.post("/forgot")
    async def send_mail(request: web.Request) -> web.Response:
        email = (await read_form(request)).get("email", "")
        receipt = await manager.request_reset(email.strip(), client=request.remote, code=True)
        return see(f"/sent/{receipt.handle}")

    @routes.get("/sent/{handle}")
    async def check_your_mail(request: web.Request) -> web.Response:
        return page("reset.html", handle=request.match_info["handle"], message=ResetReceipt().message)

    @routes.get("/reset/{token}")
    async def open_link(request: web.Request) -> web.Response:
        """Take the token out of the address bar. It is not spent: scanners of mail open links too."""
        response = see("/reset")
        response.set_cookie("reset", plain(request.match_info["token"]), secure=secure, **RESET_COOKIE)
        return response

    @routes.get("/reset")
    async def choose_password(request: web.Request) -> web.Response:
        token = request.cookies.get("reset", "")
        await manager.check_token(token, client=request.remote)
        return page("reset.html", token=token)

    @routes.post("/reset")
    async def reset_password(request: web.Request) -> web.Response:
        form = await read_form(request)
        handle, code = form.get("handle", ""), form.get("code", "")
        token = code_token(handle, code) if handle else form.get("token", "")
        try:
            await manager.reset_password(token, form.get("password", ""), client=request.remote)
        except PasswordRejectedError as rejected:
            problem = " ".join(rejected.messages)
        except InvalidTokenError as refused:
            if not handle:
                raise
            problem = str(refused)
        else:
            response = see("/done")
            response.del_cookie("reset", path="/reset")
            return response
        return page("reset.html", 422, problem=problem, token=token, handle=handle, code=code)

    @routes.get("/done")
    async def done(_: web.Request) -> web.Response:
        return page("done.html")

    @web.middleware
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ResetError as error:
            wait = {"Retry-After": str(error.retry_after)} if isinstance(error, ThrottledError) else None
            return page("error.html", 429 if wait else 400, wait, problem=str(error))

    # What follows is not about the reset: a log-in, to see it work, and what every page needs.

    @routes.get("/")
    async def home(request: web.Request) -> web.Response:
        return page("home.html", email=await accounts.who(request.cookies.get("login", "")))

    @routes.get("/login")
    async def log_in_form(_: web.Request) -> web.Response:
        return page("login.html")

    @routes.post("/login")
    async def log_in(request: web.Request) -> web.Response:
        form = await read_form(request)
        token = await accounts.log_in(form.get("email", ""), form.get("password", ""))
        if token is None:
            return page("login.html", 403, problem=WRONG_LOG_IN)
        response = see("/")
        response.set_cookie("login", token, secure=secure, **LOGIN_COOKIE)
        return response

    @routes.post("/logout")
    async def log_out(request: web.Request) -> web.Response:
        await accounts.log_out(request.cookies.get("login", ""))
        return see("/")

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        if is_forged(request.method, headers, origin):
            return page("error.html", 403, problem=FORGED)
        return await handler(request)

    async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(HEADERS)

    async def run_manager(_: web.Application) -> AsyncGenerator[None, None]:
        async with manager:
            yield
        await accounts.close()

    app = web.Application(middlewares=[guard, refuse])
    app.add_routes([*routes, web.static("/static", FOLDER / "static")])
    app.on_response_prepare.append(add_headers)
    app.cleanup_ctx.append(run_manager)
    return app


def make_app() -> web.Application:
    """With what settings.py says."""
    accounts = AsyncAccounts(create_async_engine(f"sqlite+aiosqlite:///{DATABASE}"))
    mailer = make_mailer(AsyncSMTPMailer, AsyncConsoleMailer)
    manager = AsyncResetManager(accounts, AsyncSQLiteTokenStore(DATABASE), mailer, link=LINK)
    tables = Accounts(create_engine(f"sqlite:///{DATABASE}"))  # which makes them
    tables.sign_up("alice@example.org", "correct horse battery")  # for you to try it; leave it out
    return create_app(accounts, manager, origin=ORIGIN)


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=PORT)
