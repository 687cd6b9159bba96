"""The demonstration over HTTP, on loopback alone: what every answer carries, and what no request may."""

import socketserver
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, parse_qsl, urlsplit

from typing_extensions import override

from resetkit._checks import check_type
from resetkit._inbox import open_inbox
from resetkit._sync import ResetManager
from resetkit._web_demo import pages
from resetkit._web_demo.accounts import Accounts
from resetkit._web_demo.backstage import Backstage
from resetkit._web_demo.site import Request, Response, Site, problem
from resetkit.errors import ConfigurationError
from resetkit.mailers.message import default_message
from resetkit.mailers.smtp import SMTPMailer
from resetkit.stores.memory import MemoryTokenStore

_HOST: Final = "127.0.0.1"
_MOST_BYTES: Final = 16 * 1024  # of a form; a password may have 1024 characters
_MOST_FIELDS: Final = 10
_PATIENCE: Final = 30.0  # seconds for a browser to send its request
_PULSE: Final = 15.0  # seconds after which a silent stream shows whether somebody still listens
_LEAVE: Final = 2.0  # seconds for the last mails after Ctrl-C
_STREAMS: Final = {"/changes/mails": "mails", "/changes/events": "events"}

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}


class WebServer(ThreadingHTTPServer):
    """Knows where it is, and what it serves. Raises ConfigurationError if the port cannot be had."""

    site: Site
    backstage: Backstage

    def __init__(self, port: int) -> None:
        try:
            super().__init__((_HOST, port), _Handler)
        except OSError as error:
            told = f"port {port} cannot be had: {error.strerror}; without --port a free one is taken"
            raise ConfigurationError(told) from error
        self.hosts = {f"{name}:{self.server_port}" for name in (_HOST, "localhost")}
        if self.server_port == 80:  # noqa: PLR2004  # which browsers leave out
            self.hosts |= {_HOST, "localhost"}
        self.url = f"http://{_HOST}:{self.server_port}"

    @override
    def server_bind(self) -> None:
        """As `HTTPServer`'s, without asking a name server for the name of 127.0.0.1, which can take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = _HOST, self.server_address[1]

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a browser that went away
            super().handle_error(request, client_address)


@contextmanager
def open_server(port: int) -> Generator[WebServer, None, None]:
    """The whole demonstration, ready to serve: call `serve_forever`. Raises as `WebServer`."""
    accounts, backstage = Accounts(), Backstage()
    with open_inbox(backstage.take) as smtp_port, WebServer(port) as server:
        manager = ResetManager(
            accounts,
            MemoryTokenStore(),
            SMTPMailer(
                _HOST,
                port=smtp_port,
                security="plaintext",
                sender="no-reply@app.example",
                compose=partial(default_message, site="Example"),
            ),
            link=server.url + "/reset#{token}",
            on_event=backstage.take,
        )
        server.site, server.backstage = Site(manager, accounts, backstage), backstage
        try:
            yield server
        finally:
            backstage.close()
            manager.close(_LEAVE)


class _RefusedError(Exception):
    """A request that reaches no page."""

    def __init__(self, status: HTTPStatus, told: str) -> None:
        super().__init__(told)
        self.response = problem(status, told)


class _Handler(BaseHTTPRequestHandler):
    server_version = "resetkit-demo"
    sys_version = ""
    timeout = _PATIENCE

    @property
    def _server(self) -> WebServer:
        return check_type("server", self.server, WebServer)

    def do_GET(self) -> None:
        try:
            self._require_host()
            parts = self._address()
            if parts.path in _STREAMS and self.command == "GET":
                self._stream(_STREAMS[parts.path], parts.query)
            else:
                self._send(self._server.site.answer(self._request("GET", {})))
        except _RefusedError as refused:
            self._send(refused.response)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        try:
            body = self._body()  # read in any case: a connection that is closed before shows no answer
            self._require_host()
            response = self._server.site.answer(self._request("POST", self._fields(body)))
        except _RefusedError as refused:
            response = refused.response
        self._send(response)

    def _require_host(self) -> None:
        """A page elsewhere whose name was made to lead here (DNS rebinding) must read nothing."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self._server.hosts:
            told = f"This demonstration is at {self._server.url} and answers to no other name."
            raise _RefusedError(HTTPStatus.MISDIRECTED_REQUEST, told)

    def _address(self) -> SplitResult:
        try:
            return urlsplit(self.path)
        except ValueError:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "This address cannot be read.") from None

    def _body(self) -> str:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()):
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "A form needs its length.")
        if len(length) > len(str(_MOST_BYTES)) or int(length) > _MOST_BYTES:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "This form is too large.")
        return self.rfile.read(int(length)).decode("utf-8", "replace")

    def _fields(self, body: str) -> Mapping[str, str]:
        """The form that was sent, each field once."""
        if self.headers.get_content_type() != "application/x-www-form-urlencoded":
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "This is no form.")
        try:
            pairs = parse_qsl(body, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
        except ValueError:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "This form has too many fields.") from None
        if len(fields := dict(pairs)) < len(pairs):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "This form has a field twice.")
        return fields

    def _request(self, method: str, fields: Mapping[str, str]) -> Request:
        # Other programs on this machine set cookies for it too, of any form: the library's parser stops at the first.
        cookies = (pair.strip().partition("=") for pair in self.headers.get("Cookie", "").split(";"))
        return Request(
            method=method,
            path=self._address().path,
            fields=fields,
            cookies={name: value for name, _, value in cookies},
            client=str(self.client_address[0]),
        )

    def _send(self, response: Response) -> None:
        body = response.body.encode()
        self._begin(response.status, "text/html; charset=utf-8", response.policy)
        self.send_header("Content-Length", str(len(body)))
        for name, value in response.headers.items():
            self.send_header(name, value)
        for name, value in response.cookies.items():
            self.send_header("Set-Cookie", f"{name}={value}; Path=/; HttpOnly; SameSite=Lax")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begin(self, status: HTTPStatus, kind: str, policy: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", policy)
        for name, value in _HEADERS.items():
            self.send_header(name, value)

    def _stream(self, of: str, query: str) -> None:
        """The items of a list as they come: server-sent events, each with its HTML."""
        seen = self.headers.get("Last-Event-ID") or parse_qs(query).get("after", ["0"])[0]
        after = int(seen[:9]) if seen.isascii() and seen.isdecimal() else 0  # no list is longer
        self._begin(HTTPStatus.OK, "text/event-stream", pages.PLAIN_POLICY)
        self.end_headers()
        while (entries := self._server.backstage.wait(after, _PULSE)) is not None:
            for entry in entries:
                after = entry.number
                if pages.list_of(entry) == of:
                    lines = pages.item(entry, is_open=True).splitlines()
                    self.wfile.write("\n".join([f"id: {after}", *(f"data: {line}" for line in lines), "\n"]).encode())
            self.wfile.write(b":\n\n")  # a comment: nobody is told, but whether somebody listens shows

    @override
    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What cannot even be read as a request."""
        self._send(problem(HTTPStatus(code), message or "This request cannot be read."))

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """What happened is shown backstage."""
