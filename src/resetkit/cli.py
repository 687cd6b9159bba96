"""The command ``resetkit``."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from resetkit._demo import run_demo
from resetkit._manager import REST
from resetkit.errors import ConfigurationError
from resetkit.policy import ResetPolicy
from resetkit.stores.sqlite import SQLiteTokenStore

_LAST_PORT: Final = 65535


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 for success, 1 for a failure that was explained, 2 for bad usage.

    Of `check`: 0 for no weakness, 1 for some, 2 for what cannot be read.
    """
    parser = argparse.ArgumentParser(prog="resetkit", description="Password reset for any Python application.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('resetkit')}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="show a complete reset in the terminal, or in a browser")
    demo.add_argument("--web", action="store_true", help="serve it on this machine, to click through")
    demo.add_argument("--port", type=_port, help="where --web serves it; by default a free one")
    check = commands.add_parser("check", help="say what is weak in an application's own manager; for CI")
    check.add_argument("target", metavar="module:manager", help="the manager, or a function that makes it")
    check.add_argument(
        "--account", metavar="ID", action="append", default=[], help="look at this account's stamp; give two"
    )
    check.add_argument("--ignore", metavar="NAME", action="append", default=[], help="a finding that you accept")
    check.add_argument("--strict", action="store_true", help="let advice count as weaknesses do")
    purge = commands.add_parser("purge", help="delete the records past their keep time from an SQLite file; for cron")
    purge.add_argument("file", type=Path, help="the file that SQLiteTokenStore was given")
    kit = commands.add_parser("conformance", help="check an adapter against its port's contract; for adapter authors")
    kit.add_argument("target", metavar="module:name", help="what opens a new adapter, or a subclass of a kit")
    kit.add_argument("--examples", type=int, help="how many examples are tried where any input will do (default 100)")
    options = parser.parse_args(arguments)
    try:
        if options.command == "purge":
            return _purge(options.file)
        if options.command == "conformance":
            return _conformance(options.target, options.examples)
        if options.command == "check":
            return _check(options.target, options.account, options.ignore, strict=options.strict)
        if options.web:
            return _web_demo(options.port or 0)
        if options.port is not None:
            parser.error("--port goes with --web")
        run_demo()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read along has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _web_demo(port: int) -> int:
    from resetkit._web_demo import run_web_demo  # noqa: PLC0415  # the other commands need none of it

    try:
        run_web_demo(port)
    except ConfigurationError as error:
        return _fail(str(error))
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"must be a whole number up to {_LAST_PORT}, not {text}")
    return int(text)


def _check(target: str, ids: list[str], ignored: list[str], *, strict: bool) -> int:
    from resetkit._check_command import run_check  # noqa: PLC0415  # the other commands need none of it

    try:
        return run_check(target, ids, ignored, strict=strict)
    except ConfigurationError as error:
        return _fail(str(error), status=2)


def _conformance(target: str, examples: int | None) -> int:
    from resetkit._conformance import run_conformance  # noqa: PLC0415  # the other commands need none of it
    from resetkit.testing import BrokenPromiseError  # noqa: PLC0415  # as above

    try:
        return run_conformance(target, examples)
    except (BrokenPromiseError, ConfigurationError, ModuleNotFoundError) as error:
        return _fail(str(error))


def _purge(file: Path) -> int:
    if not file.exists():
        return _fail(f"{file} is not there: give the file that SQLiteTokenStore was given")
    try:
        store = SQLiteTokenStore(file, create=False)
    except ConfigurationError as error:
        return _fail(str(error))
    try:
        count = _purge_in_batches(store)
    finally:
        store.close()
    print(f"{count} records purged")
    return 0


def _purge_in_batches(store: SQLiteTokenStore) -> int:
    """As a manager does; progress where somebody watches."""
    before, batch, count = datetime.now(UTC), ResetPolicy().purge_batch, 0
    began = time.monotonic()
    while purged := store.purge(before=before, limit=batch):
        count += purged
        time.sleep(REST * (time.monotonic() - began))
        began = time.monotonic()
        if sys.stderr.isatty():
            print(f"\r{count} records so far", end="", file=sys.stderr, flush=True)
    if count and sys.stderr.isatty():
        print(file=sys.stderr)
    return count


def _fail(message: str, *, status: int = 1) -> int:
    print(f"resetkit: {message}", file=sys.stderr)
    return status
