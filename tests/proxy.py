"""A proxy in front of a server's socket, that cuts, swallows and delays where it is told."""

import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from servers import folder

Fault = Literal["request", "reply", "delay"]
"""The n-th message to the server: is cut off with its connection; is answered, and the answer lost; comes late."""

_LATE: Final = 0.02  # seconds


class Proxy:
    """Passes on whatever comes, until it is armed."""

    def __init__(self, target: Path) -> None:
        self._target = str(target)
        self._lock = threading.Lock()
        self._left = 0
        self._fault: Fault = "request"
        self.faults = 0
        self.round_trips = 0

    def arm(self, nth: int, fault: Fault) -> None:
        """Let something happen to the n-th message from now on."""
        with self._lock:
            self._left, self._fault = nth, fault

    def disarm(self) -> bool:
        """Whether it happened."""
        with self._lock:
            happened, self._left = self._left == 0, 0
            return happened

    @contextmanager
    def listening(self, path: Path) -> Generator[None, None, None]:
        """Take connections at this socket."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            path.chmod(0o777)
            listener.listen(64)
            thread = threading.Thread(target=self._accept, args=(listener,), daemon=True)
            thread.start()
            try:
                yield
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._target)
            except OSError:  # the server is gone just now
                client.close()
                server.close()
                continue
            pair = _Pair(client, server)
            for pump in (self._up, self._down):
                threading.Thread(target=pump, args=(pair,), daemon=True).start()

    def _up(self, pair: "_Pair") -> None:
        while message := pair.read(pair.client):
            self.round_trips += pair.is_answered  # else it is the rest of what it asks
            pair.is_answered = False
            fault = self._next_fault()
            if fault == "request":
                break
            if fault == "delay":
                time.sleep(_LATE)
            pair.swallows = pair.swallows or fault == "reply"
            if not pair.write(pair.server, message):
                break
        if not pair.swallows:  # else the answer ends it
            pair.cut()

    def _down(self, pair: "_Pair") -> None:
        while message := pair.read(pair.server):
            pair.is_answered = True
            if pair.swallows or not pair.write(pair.client, message):
                break
        pair.cut()

    def _next_fault(self) -> Fault | None:
        with self._lock:
            if self._left == 0:
                return None
            self._left -= 1
            if self._left:
                return None
            self.faults += 1
            return self._fault


@contextmanager
def between(socket: Path, name: str) -> Generator[tuple[Proxy, Path], None, None]:
    """A proxy before the server's socket, at a path that ends with this name."""
    with folder() as path:
        path.chmod(0o755)
        proxy = Proxy(socket)
        with proxy.listening(path / name):
            yield proxy, path


class _Pair:
    """The two ends of a connection."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.swallows = False
        self.is_answered = True

    def read(self, end: socket.socket) -> bytes:
        try:
            return end.recv(65536)
        except OSError:
            return b""

    def write(self, end: socket.socket, message: bytes) -> bool:
        try:
            end.sendall(message)
        except OSError:
            return False
        return True

    def cut(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
