"""``resetkit check``: what is weak in an application's own manager, in plain words.

It reads: the manager's parts, its clock, the stamps of the accounts that it is given, and how many records the store
should have deleted. It sends no mail, writes no record and prints no secret.
"""

# ruff: noqa: SLF001  # the attribute is private to the package, not to its class
# pyright: reportPrivateUsage=false

import asyncio
import inspect
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from resetkit._checks import check_type, check_whole
from resetkit._findings import LATEST_PURGE, MANY, RULES, Seen, file_system_of, sqlite_file
from resetkit._manager import AsyncResetManager, Parts
from resetkit._sync import ResetManager
from resetkit._target import explained, failure, load_target
from resetkit.errors import ConfigurationError
from resetkit.values import Account

_MOUNTINFO: Final = Path("/proc/self/mountinfo")  # Linux's alone
_AFTERWORD: Final = " docs/security.md explains the N numbers; to accept a finding, add --ignore and its name."
_PORTS: Final = ("accounts", "store", "mailer", "throttle", "dispatcher", "hasher")


def run_check(target: str, ids: Sequence[str], ignored: Collection[str], *, strict: bool) -> int:
    """Judge the manager that `target` names, print what is weak, and return the exit status: 1 for any weakness.

    `ids` are of accounts whose stamps are looked at; `ignored` are the names of findings that do not count; with
    `strict`, advice counts too. Raises ConfigurationError if manager, account or name are not there.
    """
    if unknown := set(ignored) - {rule.name for rule in RULES}:
        raise ConfigurationError(f"no finding has the name {', '.join(sorted(unknown))}")
    with asyncio.Runner() as runner:
        reader = _Reader(runner)
        seen = reader.look(reader.manager(target), tuple(dict.fromkeys(ids)))
    found = [(rule, told) for rule in RULES if (told := rule.find(seen))]
    accepted = [each for each in found if each[0].name in ignored]
    advice = [each for each in found if each[0].name not in ignored and each[0].advice]
    weaknesses = [each for each in found if each[0].name not in ignored and not each[0].advice]
    for rule, told in weaknesses:
        print(f"{rule.name}: {told}\n    {rule.do}")
    for rule, told in advice:
        print(f"{rule.name} (advice): {told}\n    {rule.do}")
    for rule, told in accepted:
        print(f"{rule.name} (ignored): {told}")
    for line in reader.unseen:
        print(f"Not judged: {line}.")
    afterword = _AFTERWORD if weaknesses or advice else ""
    print(f"Weaknesses: {len(weaknesses)}. Advice: {len(advice)}.{afterword}", flush=True)
    return 1 if weaknesses or (strict and advice) else 0


class _Reader:
    """Reads what is the application's, in its manager's colour, and notes what it could not."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner  # one loop for all calls, but sync code is called outside it, which Django insists on
        self.unseen: list[str] = []

    def manager(self, target: str) -> ResetManager | AsyncResetManager:
        """What `target` names, or what that makes when it is called."""
        found = load_target(target)
        if callable(found):
            with explained(f"{target}, called without arguments, makes no manager"):
                found = self._call(found)
        if isinstance(found, ResetManager | AsyncResetManager):
            return found
        kind = type(found).__name__
        raise ConfigurationError(f"{target} must be a manager, or make one when called without arguments, not {kind}")

    def look(self, manager: ResetManager | AsyncResetManager, ids: Sequence[str]) -> Seen:
        """Everything that the rules judge."""
        parts = manager._parts
        self._note_own(parts)
        accounts = tuple((self._account(parts, each), self._account(parts, each)) for each in ids)
        if len({first.id for first, _ in accounts}) < 2:  # noqa: PLR2004  # what is constant shows in two
            self.unseen.append("whether the stamp is the same for all: give --account ID --account ID, of two accounts")
        with explained("the clock"):
            clock = check_type("what clock returns", parts.clock(), datetime)
        now = datetime.now(UTC)
        return Seen(
            parts=parts,
            now=now,
            clock=clock,
            accounts=accounts,
            overdue=self._overdue(parts, now),
            file_system=self._file_system(sqlite_file(parts.store)),
        )

    def _call(self, function: Callable[..., Any], *arguments: object, **options: object) -> Any:
        answer = function(*arguments, **options)
        return self._runner.run(_awaited(answer)) if inspect.isawaitable(answer) else answer

    def _note_own(self, parts: Parts) -> None:
        own = [
            f"{port} ({name})" for port in _PORTS if not (name := _name(getattr(parts, port))).startswith("resetkit.")
        ]
        if own:
            self.unseen.append(f"{', '.join(own)}: of your own, for the kits to prove, see docs/adapters.md")

    def _account(self, parts: Parts, account_id: str) -> Account:
        with explained(f"accounts.get({account_id!r})"):
            found = self._call(parts.accounts.get, account_id)
        if found is None:
            raise ConfigurationError(f"accounts.get({account_id!r}) found no account: give the id of one that there is")
        if not isinstance(found, Account):
            raise ConfigurationError(f"accounts.get({account_id!r}) gave no Account, but {type(found).__name__}")
        return found

    def _overdue(self, parts: Parts, now: datetime) -> int:
        count = getattr(parts.store, "count_due", None)
        why = "it has no count_due()"
        if callable(count):
            try:
                counted = self._call(count, before=now - LATEST_PURGE, limit=MANY)
                return check_whole("what count_due returns", counted, least=0)
            except Exception as error:  # noqa: BLE001  # a database that is not there: the rest is judged without it
                why = failure(error)
        self.unseen.append(f"whether records are purged, by {_name(parts.store)}: {why}")
        return 0

    def _file_system(self, path: str | None) -> str | None:
        if not path:
            return None
        if not _MOUNTINFO.exists():
            self.unseen.append("whether the SQLite file is on a network's disk: only Linux tells")
            return None
        mountinfo = _MOUNTINFO.read_text(errors="surrogateescape")
        return file_system_of(Path(path).resolve(), mountinfo)


async def _awaited(answer: Any) -> Any:
    return await answer


def _name(part: object) -> str:
    return f"{type(part).__module__}.{type(part).__qualname__}"
