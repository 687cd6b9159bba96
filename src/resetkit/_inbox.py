"""Where the demonstrations' mails arrive: as much of an SMTP server as one mail needs."""

import email
import email.policy
import socketserver
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from email.message import EmailMessage

from typing_extensions import override


@contextmanager
def open_inbox(take: Callable[[EmailMessage], object]) -> Generator[int, None, None]:
    """Listen on loopback with as much SMTP (RFC 5321) as one mail needs. Yields the port; `take` is given each mail."""

    class Session(socketserver.StreamRequestHandler):
        @override
        def handle(self) -> None:
            self._reply(220)
            while (line := self.rfile.readline()) and not line.startswith(b"quit"):
                if line.startswith(b"data"):
                    self._reply(354)
                    lines = iter(self.rfile.readline, b".\r\n")
                    take(email.message_from_bytes(b"".join(lines), policy=email.policy.default))
                self._reply(250)
            self._reply(221)

        def _reply(self, code: int) -> None:
            self.wfile.write(b"%d inbox\r\n" % code)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
