"""A password reset in Flask: ``python examples/flask_app.py``, and open http://127.0.0.1:8000/forgot.

It prints its mails, until the environment names an SMTP server: see settings.py. docs/flask.md goes through it.
"""

from accounts import Accounts
from flask import Flask, Response, redirect, render_template, request, session, url_for
from flask_wtf.csrf import CSRFError, CSRFProtect, generate_csrf
from markupsafe import Markup
from pages import FORGED, HEADERS, RESET_COOKIE, WRONG_LOG_IN, plain
from settings import DATABASE, LINK, ORIGIN, PORT, SECRET_KEY, make_mailer
from sqlalchemy import create_engine
from werkzeug.wrappers import Response as AnyResponse

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

Page = str | tuple[str, int] | tuple[str, int, dict[str, str]] | AnyResponse


def create_app(accounts: Accounts, manager: ResetManager, *, origin: str, secret_key: str = SECRET_KEY) -> Flask:
    """The pages. `origin` is where people reach them, such as https://app.example."""
    app = Flask(__name__)
    app.url_map.merge_slashes = False  # it would lead to the host that the request names
    secure = origin.startswith("https:")
    app.config.update(
        SECRET_KEY=secret_key,
        SESSION_COOKIE_SECURE=secure,
        SESSION_COOKIE_SAMESITE="Lax",
        WTF_CSRF_SSL_STRICT=False,  # it would ask for a Referer, which these pages tell browsers not to send
    )
    CSRFProtect(app)

    @app.get("/forgot")
    def forgot() -> Page:
        return render_template("forgot.html")

    @app.post("/forgot")
    def send_mail() -> Page:
        receipt = manager.request_reset(request.form.get("email", "").strip(), client=request.remote_addr, code=True)
        return redirect(url_for("check_your_mail", handle=receipt.handle), 303)

    @app.get("/sent/<handle>")
    def check_your_mail(handle: str) -> Page:
        return render_template("reset.html", handle=handle, message=ResetReceipt().message)

    @app.get("/reset/<token>")
    def open_link(token: str) -> Page:
        """Take the token out of the address bar. It is not spent: scanners of mail open links too."""
        response = redirect(url_for("choose_password"), 303)
        response.set_cookie("reset", plain(token), secure=secure, **RESET_COOKIE)
        return response

    @app.get("/reset")
    def choose_password() -> Page:
        token = request.cookies.get("reset", "")
        manager.check_token(token, client=request.remote_addr)
        return render_template("reset.html", token=token)

    @app.post("/reset")
    def reset_password() -> Page:
        handle, code = request.form.get("handle", ""), request.form.get("code", "")
        token = code_token(handle, code) if handle else request.form.get("token", "")
        try:
            manager.reset_password(token, request.form.get("password", ""), client=request.remote_addr)
        except PasswordRejectedError as rejected:
            problem = " ".join(rejected.messages)
        except InvalidTokenError as refused:
            if not handle:
                raise
            problem = str(refused)
        else:
            response = redirect(url_for("done"), 303)
            response.delete_cookie("reset", path="/reset")
            return response
        return render_template("reset.html", problem=problem, token=token, handle=handle, code=code), 422

    @app.get("/done")
    def done() -> Page:
        return render_template("done.html")

    @app.errorhandler(ResetError)
    def refuse(error: ResetError) -> Page:
        page = render_template("error.html", problem=str(error))
        if isinstance(error, ThrottledError):
            return page, 429, {"Retry-After": str(error.retry_after)}
        return page, 400

    # What follows is not about the reset: a log-in, to see it work, and what every page needs.

    @app.get("/")
    def home() -> Page:
        return render_template("home.html", email=accounts.who(session.get("token", "")))

    @app.get("/login")
    def log_in_form() -> Page:
        return render_template("login.html")

    @app.post("/login")
    def log_in() -> Page:
        token = accounts.log_in(request.form.get("email", ""), request.form.get("password", ""))
        if token is None:
            return render_template("login.html", problem=WRONG_LOG_IN), 403
        session.clear()
        session["token"] = token
        return redirect(url_for("home"), 303)

    @app.post("/logout")
    def log_out() -> Page:
        accounts.log_out(session.get("token", ""))
        session.clear()
        return redirect(url_for("home"), 303)

    @app.context_processor
    def csrf_field() -> dict[str, CSRFField]:
        return {"csrf_field": CSRFField()}

    @app.errorhandler(CSRFError)
    def refuse_forged(_: CSRFError) -> Page:
        return render_template("error.html", problem=FORGED), 403

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    return app


class CSRFField:
    """The field that guards a form.

    It begins a session, so it is made only where a form is. A forged form comes without the cookie: an answer to it
    that began a session would put that in the place of the visitor's own, and log them out.
    """

    def __html__(self) -> str:
        return Markup('<input type="hidden" name="csrf_token" value="{}">').format(generate_csrf())


def make_app() -> Flask:
    """For a server: ``gunicorn "flask_app:make_app()"``."""
    accounts = Accounts(create_engine(f"sqlite:///{DATABASE}"))
    mailer = make_mailer(SMTPMailer, ConsoleMailer)
    manager = ResetManager(accounts, SQLiteTokenStore(DATABASE), mailer, link=LINK)
    accounts.sign_up("alice@example.org", "correct horse battery")  # for you to try it; leave it out
    return create_app(accounts, manager, origin=ORIGIN)


if __name__ == "__main__":
    make_app().run(port=PORT)
