"""``resetkit demo --web``: the whole reset over a real socket, as a browser goes through it."""

import base64
import hashlib
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from html import unescape
from html.parser import HTMLParser
from http.client import HTTPConnection, HTTPResponse
from types import SimpleNamespace
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from argon2 import PasswordHasher
from typing_extensions import override

from resetkit import Account, ResetError
from resetkit._web_demo import pages
from resetkit._web_demo.accounts import FIRST_PASSWORD, Accounts
from resetkit._web_demo.backstage import Entry
from resetkit._web_demo.server import WebServer, _Handler, open_server
from resetkit._web_demo.site import Request, Response, Site
from resetkit.cli import main
from resetkit.events import RequestDropped

ALICE, NOBODY, NEW = "alice@example.org", "nobody@example.org", "a new and longer one"
PATIENCE = 30  # seconds


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def shared() -> Iterator[WebServer]:
    with serving() as server:
        yield server


@contextmanager
def serving() -> Generator[WebServer, None, None]:
    with open_server(0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def browser(server: WebServer) -> "Browser":
    return Browser(server)


class Page:
    """An answer, read to its end."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read().decode()

    @property
    def fields(self) -> dict[str, str]:
        """What the hidden fields of its form hold."""
        found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', self.body)
        return {name: unescape(value) for name, value in found}

    @property
    def told(self) -> str:
        """The message on it."""
        found = re.search(r'<p role="(?:status|alert)">(.*?)</p>', self.body)
        assert found
        return unescape(found[1])


class Browser:
    """Keeps cookies, fills in forms, and reads the inbox."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.cookies: dict[str, str] = {}
        self.mails_seen = 0

    def send(self, method: str, path: str, body: str | None = None, **headers: str) -> Page:
        with closing(HTTPConnection("127.0.0.1", self.server.server_port, timeout=PATIENCE)) as connection:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            if body is not None:
                given.setdefault("Content-Type", "application/x-www-form-urlencoded")
            if self.cookies:
                given.setdefault("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
            connection.request(method, path, body, given)
            page = Page(connection.getresponse())
        for cookie in page.headers.get_all("Set-Cookie", []):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return page

    def open(self, path: str) -> Page:
        return self.send("GET", path)

    def post(self, path: str, form: Page, **fields: str) -> Page:
        return self.send("POST", path, urlencode(form.fields | fields))

    def log_in(self, password: str = FIRST_PASSWORD, identifier: str = ALICE) -> Page:
        return self.post("/log-in", self.open("/log-in"), identifier=identifier, password=password)

    def ask(self, identifier: str = ALICE, **fields: str) -> Page:
        return self.post("/forgot", self.open("/forgot"), identifier=identifier, **fields)

    def mail(self) -> str:
        """The next mail's item in the inbox, as soon as it comes."""
        number, item = next(self.changes("mails", self.mails_seen))
        self.mails_seen = number
        return item

    def changes(self, of: str, after: int = 0, **headers: str) -> Iterator[tuple[int, str]]:
        """What a browser is told of a list, with the number of each item."""
        with closing(HTTPConnection("127.0.0.1", self.server.server_port, timeout=PATIENCE)) as connection:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("GET", f"/changes/{of}?after={after}", headers=given)
            with connection.getresponse() as response:
                assert response.headers.get_content_type() == "text/event-stream"
                number, lines = 0, list[str]()
                while line := response.readline().decode():
                    name, _, value = line.rstrip("\n").partition(": ")
                    if name == "id":
                        number = int(value)
                    elif name == "data":
                        lines.append(value)
                    elif not line.strip() and lines:
                        yield number, "\n".join(lines)
                        lines = []

    def link(self) -> str:
        found = re.search(r'<a href="([^"]+)"', self.mail())
        assert found
        return found[1]

    def token(self) -> str:
        return self.link().partition("#")[2]

    def reset(self, token: str, password: str = NEW) -> Page:
        return self.post("/reset", self.open("/reset"), token=token, password=password)


def test_the_whole_reset_by_link(browser: Browser) -> None:
    assert browser.log_in().headers["Location"] == "/account"
    assert browser.open("/account").told == f"You are logged in as {ALICE}."

    browser.ask()
    link = browser.link()
    assert link.startswith(f"{browser.server.url}/reset#")
    token = link.partition("#")[2]

    refused = browser.reset(token, "short")
    assert refused.told == "Please use at least 8 characters."
    assert browser.post("/reset", refused, password="PassWord").told.startswith("This password is on every list")
    assert browser.open("/account").told == f"You are logged in as {ALICE}.", "nothing was changed so far"

    done = browser.post("/reset", refused, password=NEW)
    assert (done.status, done.headers["Location"]) == (303, "/done")
    assert "Your password was changed" in browser.open("/done").body
    assert "Your password at Example was changed" in browser.mail()

    assert "Your log-in has ended" in browser.open("/account").body
    assert browser.log_in().told == "Address or password is wrong."
    assert browser.log_in(NEW).headers["Location"] == "/account"
    assert browser.open("/account").told == f"You are logged in as {ALICE}."

    again = browser.reset(token, "and yet another one")
    assert again.told == "This link or code was already used. Ask for a new mail if you need one."
    assert browser.log_in(NEW).status == 303


def test_the_whole_reset_by_code(browser: Browser) -> None:
    asked = browser.ask(code="yes")
    found = re.search(r"^ +([A-Z]{4}-[A-Z]{4})$", browser.mail(), re.MULTILINE)
    assert found
    wrong = browser.post("/code", asked, code="BBBB-BBBB", password=NEW)
    assert wrong.told == "This link or code is not valid. Check it, or ask for a new mail."
    weak = browser.post("/code", wrong, code=found[1], password="short")
    assert weak.told == "Please use at least 8 characters."
    assert browser.post("/code", weak, code=found[1].lower(), password=NEW).headers["Location"] == "/done"
    assert browser.log_in(NEW).status == 303


def known_and_unknown_are_answered_alike(browser: Browser) -> None:
    browser.open("/forgot")
    known, unknown = browser.ask(ALICE), browser.ask(NOBODY)
    assert known.body == unknown.body, "apart from the CSRF token, which is the same in one browser"
    known_code, unknown_code = browser.ask(ALICE, code="yes"), browser.ask(NOBODY, code="yes")
    handles = [page.fields["handle"] for page in (known_code, unknown_code)]
    assert handles[0] != handles[1]
    assert known_code.body.replace(handles[0], "") == unknown_code.body.replace(handles[1], "")
    for one, other in ((known, unknown), (known_code, unknown_code)):
        headers = [[pair for pair in page.headers.items() if pair[0] != "Date"] for page in (one, other)]
        assert one.status == other.status
        assert headers[0] == headers[1]


def test_known_and_unknown_are_answered_byte_for_byte_alike(browser: Browser) -> None:
    known_and_unknown_are_answered_alike(browser)


def looking_spends_nothing(browser: Browser) -> None:
    browser.ask()
    token = browser.token()
    for method in ("GET", "HEAD"):
        for path in (
            "/reset",
            f"/reset?token={token}&password={NEW.replace(' ', '+')}",
            "/log-out",
            "/code",
            "/mails/1",
        ):
            page = browser.send(method, path)
            assert page.status in {200, 405, 404}
            assert not (method == "HEAD" and page.body)
    assert browser.log_in().status == 303
    assert browser.reset(token).headers["Location"] == "/done"


def test_get_and_head_spend_nothing(browser: Browser) -> None:
    looking_spends_nothing(browser)


def only_its_own_name_is_answered(browser: Browser) -> None:
    port = browser.server.server_port
    form = browser.open("/log-in")
    for name in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port}.evil.example", "[::1]", ""):
        page = browser.send("GET", "/mails", Host=name)
        assert page.status == 421
        assert "Mails" not in page.body
        filled = urlencode(form.fields | {"identifier": ALICE, "password": FIRST_PASSWORD})
        assert browser.send("POST", "/log-in", filled, Host=name).status == 421
        assert browser.send("GET", "/changes/mails", Host=name).status == 421
    assert browser.send("GET", "/mails", Host=f"LocalHost:{port}").status == 200
    assert b" 421 " in raw(port, b"GET / HTTP/1.1\r\n\r\n")
    two = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil.example\r\n\r\n"
    assert b" 421 " in raw(port, two.encode())


def test_a_page_elsewhere_cannot_reach_it_by_a_name_of_its_own(browser: Browser) -> None:
    """DNS rebinding."""
    only_its_own_name_is_answered(browser)


def only_its_own_forms_are_taken(browser: Browser) -> None:
    browser.log_in()
    other = Browser(browser.server)
    stolen = other.open("/forgot").fields["csrf"]
    for csrf in ("", "0" * 64, stolen, "\u0661"):
        for path in ("/log-in", "/log-out", "/forgot", "/code", "/reset"):
            assert browser.send("POST", path, urlencode({"csrf": csrf, "identifier": ALICE})).status == 403
    assert browser.send("POST", "/log-out", "").status == 403
    assert browser.open("/account").told.startswith("You are logged in")
    assert Browser(browser.server).send("POST", "/forgot", urlencode({"csrf": stolen})).status == 403


def test_a_form_from_elsewhere_is_refused(browser: Browser) -> None:
    only_its_own_forms_are_taken(browser)


def nothing_that_was_sent_is_markup(browser: Browser) -> None:
    hostile = "<script>alert(1)</script>\"'&"
    form = browser.open("/forgot")
    answers = [
        browser.log_in(identifier=hostile),
        browser.post("/forgot", form, identifier=hostile, code="yes"),
        browser.post("/code", form, handle=hostile, code=hostile, password=NEW),
        browser.post("/reset", form, token=hostile, password="short"),
        browser.post("/reset", form, token=f"#{hostile}", password=""),
        browser.open(f"/{hostile.replace(' ', '')}"),
        browser.open(f"/mails/{hostile}"),
    ]
    answers.append(browser.open("/events"))
    for page in answers:
        assert "alert(1)" not in page.body.replace("&lt;script&gt;alert(1)", "")
    assert answers[2].fields["handle"] == hostile


def test_nothing_that_was_sent_is_markup(browser: Browser) -> None:
    nothing_that_was_sent_is_markup(browser)


def a_reset_ends_every_log_in(browser: Browser) -> None:
    browser.log_in()
    browser.ask()
    assert browser.reset(browser.token()).status == 303
    assert "Your log-in has ended" in browser.open("/account").body


def forget_the_host(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Handler, "_require_host", lambda _: None)


def take_every_form(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("resetkit._web_demo.site.hmac.compare_digest", lambda *_: True)


def redeem_by_get(patch: pytest.MonkeyPatch) -> None:
    look = _Handler.do_GET

    def redeem(handler: _Handler) -> None:
        fields = dict(parse_qsl(urlsplit(handler.path).query))
        if "token" in fields:
            with suppress(ResetError):
                handler._server.site._redeem(handler._request("GET", fields), fields["token"])
        look(handler)

    patch.setattr(_Handler, "do_GET", redeem)


def say_who_is_unknown(patch: pytest.MonkeyPatch) -> None:
    ask = Site._forgot

    def tell(site: Site, request: Request, csrf: str) -> Response:
        answer = ask(site, request, csrf)
        known = site._accounts.find(request.fields["identifier"])
        return answer if known else replace(answer, body=answer.body.replace("If there is", "If there were"))

    patch.setattr(Site, "_forgot", tell)


def escape_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pages, "escape", lambda text: text)


def leave_the_sessions(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Accounts, "_end", lambda *_: None)


@pytest.mark.parametrize(
    ("breaks", "proof"),
    [
        (forget_the_host, only_its_own_name_is_answered),
        (take_every_form, only_its_own_forms_are_taken),
        (redeem_by_get, looking_spends_nothing),
        (say_who_is_unknown, known_and_unknown_are_answered_alike),
        (escape_nothing, nothing_that_was_sent_is_markup),
        (leave_the_sessions, a_reset_ends_every_log_in),
    ],
)
def test_a_broken_site_is_caught(
    breaks: Callable[[pytest.MonkeyPatch], None],
    proof: Callable[[Browser], None],
    server: WebServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proof(Browser(server))
    monkeypatch.undo()
    breaks(monkeypatch)
    with serving() as broken, pytest.raises(AssertionError):
        proof(Browser(broken))


class Markup(HTMLParser):
    """What a page is made of."""

    def __init__(self, body: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.own: dict[str, list[str]] = {"style": [], "script": []}
        self._in = ""
        self.feed(body)
        self.close()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in = tag
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    @override
    def handle_data(self, data: str) -> None:
        if self._in in self.own:
            self.own[self._in].append(data)
            self._in = ""

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def every_page(browser: Browser) -> dict[str, Page]:
    got = {path: browser.open(path) for path in ("/", "/log-in", "/forgot", "/reset", "/done", "/none", "/mails/99")}
    got["wrong log-in"] = browser.log_in("wrong")
    browser.log_in()
    got["/account"] = browser.open("/account")
    got["sent"] = browser.ask(code="yes")
    token = browser.token()
    got["/mails"], got["/events"] = browser.open("/mails"), browser.open("/events")
    got["code"] = browser.post("/code", got["sent"], code="x", password=NEW)
    got["rejected"] = browser.reset(token, "short")
    got["redirected"] = browser.reset(token)
    got["ended"] = browser.open("/account")
    got["refused"] = browser.reset(token)
    got["no form"] = browser.send("POST", "/reset", "")
    got["no such request"] = browser.send("POST", "/mails", urlencode(got["sent"].fields))
    got["no method"] = browser.send("DELETE", "/mails")
    return got


def test_every_page_carries_what_a_page_of_a_reset_must(browser: Browser) -> None:
    for name, page in every_page(browser).items():
        assert page.headers["Cache-Control"] == "no-store", name
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["X-Robots-Tag"] == "noindex"
        assert page.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "Python" not in page.headers["Server"]
        for cookie in page.headers.get_all("Set-Cookie", []):
            assert cookie.endswith("; Path=/; HttpOnly; SameSite=Lax")
        assert page.headers.keys().count("Content-Security-Policy") == 1
        if name != "redirected":
            look_at(page, browser.server.url)


def look_at(page: Page, url: str) -> None:
    markup = Markup(page.body)
    parts = [part.strip().partition(" ") for part in page.headers["Content-Security-Policy"].split(";")]
    policy = {name: sources for name, _, sources in parts}
    assert policy["default-src"] == policy["base-uri"] == "'none'"
    assert policy["form-action"] == policy["frame-ancestors"] == "'self'"
    for kind, texts in markup.own.items():
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        assert policy.get(f"{kind}-src", "") == " ".join(f"'sha256-{digest}'" for digest in digests)
    for _, attributes in markup.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "action"):
            assert attributes.get(name, "/").startswith(("/", "#", f"{url}/reset#"))

    assert markup.all("html") == [{"lang": "en"}]
    assert {"name": "robots", "content": "noindex"} in markup.all("meta")
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in markup.all("meta")
    assert len(markup.all("h1")) == len(markup.all("main")) == 1
    assert "emonstration" in page.body
    assert all("title" in attributes for attributes in markup.all("iframe"))
    labels = [attributes["for"] for attributes in markup.all("label") if "for" in attributes]
    typed = [each for each in markup.all("input") if each.get("type") not in {"hidden", "checkbox"}]
    assert sorted(labels) == sorted(each["id"] for each in typed)
    ids = [attributes["id"] for _, attributes in markup.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for each in typed:
        assert each["autocomplete"] == AUTOCOMPLETE[each["id"], page.body.count("current-password")]
        assert set(each.get("aria-describedby", "").split()) <= set(ids)


AUTOCOMPLETE = {
    ("identifier", 0): "username",
    ("identifier", 1): "username",
    ("password", 1): "current-password",
    ("password", 0): "new-password",
    ("code", 0): "one-time-code",
    ("token", 0): "off",
}


class TestMails:
    def test_a_mail_is_shown_in_a_sandbox_of_its_own(self, browser: Browser) -> None:
        browser.ask()
        item = browser.mail()
        sandbox = "allow-popups allow-popups-to-escape-sandbox"
        (frame,) = Markup(item).all("iframe")
        assert frame["sandbox"] == sandbox
        page = browser.open(frame["src"])
        assert page.headers["Content-Security-Policy"] == (
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; "
            f"frame-ancestors 'self'; sandbox {sandbox}"
        )
        assert {"target": "_blank"} in Markup(page.body).all("base")
        (first, *_) = Markup(page.body).all("a")
        assert first["href"] in item, "the same link in both parts"

    def test_a_hostile_mail_is_escaped_but_in_its_sandbox(self, browser: Browser) -> None:
        """From whoever found the listener's port. A lone carriage return would begin a line of a stream, too."""
        message = EmailMessage()
        message["Subject"] = message["To"] = hostile = "<img src=x onerror=alert(1)>"
        message.set_content(f"{hostile} http://127.0.0.1:1/reset#<b> \rid: 99")
        browser.server.backstage.take(message)
        for item in (browser.mail(), browser.open("/mails").body):
            assert hostile not in item
            assert "&lt;img src=x" in item
        assert browser.mails_seen == 1
        assert browser.open("/mails/1").body == "", "it has no HTML part"

    def test_a_mail_with_nothing_in_it_is_shown_too(self, browser: Browser) -> None:
        browser.server.backstage.take(EmailMessage())
        assert "<b></b> to " in browser.open("/mails").body

    def test_the_newest_is_open(self, browser: Browser) -> None:
        assert 'class="none"' in browser.open("/mails").body
        for identifier in (ALICE, "bob@example.org"):
            browser.ask(identifier)
            browser.mail()
        opened = re.findall(r"<details( open)?><summary><b>.*?</b> to (\S+)", browser.open("/mails").body)
        assert opened == [(" open", "bob@example.org"), ("", ALICE)]


class TestEvents:
    def test_they_are_told_as_they_happen_with_what_they_mean(self, browser: Browser) -> None:
        browser.ask(NOBODY)
        told = [item for _, item in zip(range(2), browser.changes("events"), strict=False)]
        assert [re.findall(r"<b>(\w+)</b>", item) for _, item in told] == [["ResetRequested"], ["RequestDropped"]]
        assert "A job ended without a mail, and the visitor was told nothing." in told[1][1]
        assert "reason=&#x27;unknown&#x27;" in told[1][1]
        listed = browser.open("/events").body
        assert listed.index("RequestDropped") < listed.index("ResetRequested"), "the newest first"
        assert 'data-changes="/changes/events?after=2"' in listed

    def test_a_browser_that_was_cut_off_goes_on_where_it_was(self, browser: Browser) -> None:
        browser.ask(NOBODY)
        assert next(browser.changes("events"))[0] == 1
        assert next(browser.changes("events", Last_Event_ID="1"))[0] == 2
        assert next(browser.changes("events", after=1))[0] == 2
        assert next(browser.changes("events", Last_Event_ID="-1"))[0] == 1

    def test_mails_and_events_come_apart(self, browser: Browser) -> None:
        browser.ask()
        assert "Choose a new password" in next(browser.changes("mails"))[1]
        kinds = [item for _, item in zip(range(2), browser.changes("events"), strict=False)]
        assert all("<details" not in item for _, item in kinds)

    def test_a_silent_stream_has_a_pulse(self, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("resetkit._web_demo.server._PULSE", 0.01)
        with closing(HTTPConnection("127.0.0.1", browser.server.server_port, timeout=PATIENCE)) as connection:
            connection.request("GET", "/changes/mails")
            with connection.getresponse() as response:
                assert [response.readline() for _ in range(4)] == [b":\n", b"\n", b":\n", b"\n"]

    def test_head_of_a_stream_ends(self, browser: Browser) -> None:
        assert browser.send("HEAD", "/changes/mails").status == 404

    def test_without_docstrings_they_are_told_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As `python -OO` runs."""
        monkeypatch.setattr(RequestDropped, "__doc__", None)
        entry = Entry(1, datetime.now(UTC), RequestDropped(reason="late"))
        assert "<b>RequestDropped</b>" in pages.item(entry, is_open=True)


class TestBadRequests:
    @pytest.fixture
    def server(self, shared: WebServer) -> WebServer:
        """One for all: none of these comes far."""
        return shared

    @pytest.mark.parametrize(
        ("body", "headers", "status"),
        [
            ("csrf=1&csrf=2", {}, 400),
            ("&".join(f"f{number}=1" for number in range(11)), {}, 400),
            ("csrf=1", {"Content_Type": "application/json"}, 415),
            ("csrf=%ff%ed%a0%80", {}, 403),
        ],
    )
    def test_a_form_that_is_none_is_refused(
        self, browser: Browser, body: str, headers: dict[str, str], status: int
    ) -> None:
        page = browser.send("POST", "/forgot", body, **headers)
        assert page.status == status
        assert page.told

    @pytest.mark.parametrize(
        ("length", "status"),
        [(None, 411), ("x", 411), ("-1", 411), ("\u00b2", 411), ("16385", 413), ("9" * 5000, 413)],
    )
    def test_a_length_that_is_none_or_too_great_is_refused_unread(
        self, browser: Browser, length: str | None, status: int
    ) -> None:
        head = f"POST /forgot HTTP/1.1\r\nHost: 127.0.0.1:{browser.server.server_port}\r\n"
        head += "" if length is None else f"Content-Length: {length}\r\n"
        assert f" {status} ".encode() in raw(browser.server.server_port, f"{head}\r\n".encode("latin-1"))

    def test_the_longest_form_is_taken(self, browser: Browser) -> None:
        form = browser.open("/reset")
        rest = 16384 - len(urlencode(form.fields | {"token": "", "password": ""}))
        assert browser.post("/reset", form, token="", password="x" * rest).status == 200

    def test_what_is_no_request_gets_a_page_with_every_header(self, browser: Browser) -> None:
        answer = raw(browser.server.server_port, b"NONSENSE\r\n\r\n")
        assert b"Bad request syntax" in answer
        assert b"Python" not in answer
        assert b"Error code explanation" not in answer

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    def test_an_address_that_cannot_be_read_is_refused(self, browser: Browser, method: str) -> None:
        port = browser.server.server_port
        head = f"{method} http://[ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n"
        assert b" 400 " in raw(port, f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n".encode())

    def test_a_place_in_a_list_that_no_list_has_is_waited_for(self, browser: Browser) -> None:
        with socket.create_connection(("127.0.0.1", browser.server.server_port), PATIENCE) as connection:
            host = f"Host: 127.0.0.1:{browser.server.server_port}"
            connection.sendall(f"GET /changes/mails HTTP/1.1\r\n{host}\r\nLast-Event-ID: {'9' * 5000}\r\n\r\n".encode())
            assert b" 200 " in connection.recv(100)

    def test_a_browser_whose_cookie_is_empty_gets_one(self, browser: Browser) -> None:
        browser.cookies["resetkit-demo-browser"] = ""
        assert browser.ask("another@example.org").status == 200

    def test_a_method_that_a_page_does_not_take_is_told(self, browser: Browser) -> None:
        form = browser.open("/forgot")
        assert browser.open("/code").headers["Allow"] == "POST"
        assert browser.post("/mails", form).headers["Allow"] == "GET, HEAD"

    def test_too_many_requests_are_told_how_long_to_wait(self, browser: Browser) -> None:
        pages = [browser.ask(NOBODY) for _ in range(6)]
        assert [page.status for page in pages] == [200] * 5 + [429]
        assert 0 < int(pages[-1].headers["Retry-After"]) <= 900
        assert pages[-1].told.startswith("Too many requests. Try again in ")

    def test_strange_cookies_of_other_programs_do_no_harm(self, browser: Browser) -> None:
        """A browser sends a machine's cookies to each of its ports."""
        form = browser.open("/log-in")
        cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        filled = urlencode(form.fields | {"identifier": ALICE, "password": FIRST_PASSWORD})
        strange = f'a[b]={{"c": "d"}};;=; {cookies}; e'
        assert browser.send("POST", "/log-in", filled, Cookie=strange).headers["Location"] == "/account"

    def test_a_browser_that_goes_away_is_no_error(self, browser: Browser, capfd: pytest.CaptureFixture[str]) -> None:
        with socket.create_connection(("127.0.0.1", browser.server.server_port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # so that it is reset
            connection.sendall(b"POST /forgot HTTP/1.1\r\nContent-Length: 99\r\n\r\nhalf")
        browser.open("/")
        assert capfd.readouterr().err == ""

    def test_a_mistake_of_ours_is_shown(
        self, browser: Browser, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Site, "answer", lambda *_: None)
        assert (
            raw(browser.server.server_port, f"GET / HTTP/1.1\r\nHost: {browser.server.url[7:]}\r\n\r\n".encode()) == b""
        )
        assert "AttributeError" in capfd.readouterr().err


class TestLogIns:
    def test_who_is_not_logged_in_is_sent_to_the_form(self, browser: Browser) -> None:
        assert browser.open("/account").headers["Location"] == "/log-in"
        assert browser.log_in(identifier=f" {ALICE.upper()} ").status == 303
        assert browser.post("/log-out", browser.open("/account")).headers["Location"] == "/log-in"
        assert browser.open("/account").headers["Location"] == "/log-in"

    def test_wrong_and_unknown_are_answered_alike(self, browser: Browser) -> None:
        wrong, unknown = browser.log_in("wrong"), browser.log_in("wrong", NOBODY)
        assert wrong.body.replace(f'value="{ALICE}"', "") == unknown.body.replace(f'value="{NOBODY}"', "")

    def test_a_log_in_with_a_password_that_is_just_being_changed_opens_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        accounts = Accounts()

        class Slow(PasswordHasher):
            @override
            def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
                verified = super().verify(hash, password)
                accounts.set_password(ALICE, NEW)
                return verified

        monkeypatch.setattr(accounts, "_hasher", Slow())
        assert accounts.log_in(ALICE, FIRST_PASSWORD) is None

    def test_its_accounts_keep_their_part_of_the_contract(self) -> None:
        accounts = Accounts()
        session = accounts.log_in(ALICE, FIRST_PASSWORD)
        assert session is not None
        assert accounts.who(session) == ALICE
        before = accounts.get(ALICE)
        assert isinstance(before, Account)
        accounts.end_sessions(ALICE)
        accounts.end_sessions(ALICE)
        assert accounts.who(session) is None
        accounts.set_password(ALICE, NEW)
        after = accounts.find(ALICE)
        assert after is not None
        assert after.stamp != before.stamp
        assert accounts.find(NOBODY) is None


class TestCommand:
    @pytest.mark.usefixtures("heeds_interrupts")
    def test_ctrl_c_ends_it_cleanly_with_a_stream_open_and_a_mail_due(self) -> None:
        """In a process of its own, as a person runs it."""
        command = [sys.executable, "-m", "resetkit", "demo", "--web"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = urlsplit(process.stdout.readline().split()[-1])
            assert "in memory, and gone when it ends" in process.stdout.readline()
            assert url.hostname == "127.0.0.1"
            browser = Browser(SimpleNamespace(server_port=url.port, url=url.geturl()))
            stream = browser.changes("events")
            browser.ask()
            assert "ResetRequested" in next(stream)[1]
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
            list(stream)  # which ends too
        assert (process.returncode, err) == (0, "")
        assert out == "\nThe demonstration has ended.\n"

    def test_in_process(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(_: WebServer) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(WebServer, "serve_forever", interrupt)
        assert main(["demo", "--web"]) == 0
        assert capsys.readouterr().out.startswith("The demonstration is at http://127.0.0.1:")

    def test_a_port_that_is_taken_is_explained(self, server: WebServer, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["demo", "--web", "--port", str(server.server_port)]) == 1
        told = f"resetkit: port {server.server_port} cannot be had: Address already in use; without --port a free one"
        assert capsys.readouterr().err.startswith(told)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--web", "--port", "65536"], "must be a whole number up to 65535, not 65536"),
            (["--web", "--port", "http"], "must be a whole number up to 65535, not http"),
            (["--port", "8000"], "--port goes with --web"),
        ],
    )
    def test_bad_usage_is_explained(self, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as left:
            main(["demo", *arguments])
        assert left.value.code == 2
        assert says in capsys.readouterr().err

    def test_on_port_80_browsers_leave_the_number_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def bind(server: WebServer) -> None:
            server.server_address = ("127.0.0.1", 80)

        monkeypatch.setattr("socketserver.TCPServer.server_bind", bind)
        monkeypatch.setattr("socketserver.TCPServer.server_activate", lambda _: None)
        with WebServer(80) as server:
            assert server.hosts == {"127.0.0.1", "127.0.0.1:80", "localhost", "localhost:80"}


def raw(port: int, request: bytes) -> bytes:
    """What comes back for these very bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))
