"""A link with the token behind "#", which no server and no log ever sees: ``python examples/fragment_app.py``.

It takes a few lines of script in the page, static/fragment.js. All else is the site of starlette_app.py.
"""

import uvicorn
from accounts import Accounts, AsyncAccounts
from pages import HEADERS
from settings import DATABASE, ORIGIN, PORT, make_mailer
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette_app import ResetPages, create_app, page
from typing_extensions import override

from resetkit import AsyncResetManager
from resetkit.mailers import AsyncConsoleMailer, AsyncSMTPMailer
from resetkit.stores import AsyncSQLiteTokenStore

POLICY = "Content-Security-Policy"


class FragmentPages(ResetPages):
    """The page takes the token, not the server. So it cannot say that a link is dead before its form is sent.

    It is not at "/reset", which answers the form: a browser that is there would not load it anew for another link.
    """

    async def take_link(self, _: Request) -> Response:
        return page("fragment.html", headers={POLICY: f"{HEADERS[POLICY]}; script-src 'self'"})

    @override
    def routes(self) -> list[Route]:
        others = [route for route in super().routes() if route.path != "/reset/{token}"]
        return [*others, Route("/choose", self.take_link)]


def make_app() -> Starlette:
    """For a server: ``uvicorn --factory fragment_app:make_app``."""
    accounts = AsyncAccounts(create_async_engine(f"sqlite+aiosqlite:///{DATABASE}"))
    mailer = make_mailer(AsyncSMTPMailer, AsyncConsoleMailer)
    link = f"{ORIGIN}/choose#{{token}}"
    manager = AsyncResetManager(accounts, AsyncSQLiteTokenStore(DATABASE), mailer, link=link)
    tables = Accounts(create_engine(f"sqlite:///{DATABASE}"))  # which makes them
    tables.sign_up("alice@example.org", "correct horse battery")  # for you to try it; leave it out
    return create_app(accounts, manager, origin=ORIGIN, pages=FragmentPages)


if __name__ == "__main__":
    uvicorn.run(make_app(), port=PORT)
