"""From a visitor's request to the answer: resetkit alone, and beside each peer as its documentation sets it up."""

import asyncio
import inspect
import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import OURS, Batch, Effort, Figure, calm_policy, compare, in_a_process, manager, peer
from harness import ManyAccounts
from resetkit.dispatch import ThreadDispatcher
from resetkit.testing.timing import addresses

ROOM: Final = 10**6  # jobs
CALLS: Final = 50
OF_A_PEER: Final = 5
PEERS: Final = {  # and whether a call takes a tenth of a second
    "django_view": False,
    "allauth_view": False,
    "jwt_app": False,
    "fastapi_users_app": True,
    "flask_security_app": True,
}


def figures(effort: Effort) -> list[Figure]:
    found = by_itself(effort)
    for module, is_slow in PEERS.items():
        found += in_a_process(beside, module, effort, is_slow)
    return found


def by_itself(effort: Effort) -> list[Figure]:
    """With the default throttle and dispatcher. What is looked up, hashed, stored and sent is in the job, not here."""
    known, unknown = addresses(500), addresses(500)
    dispatcher = ThreadDispatcher(capacity=ROOM)
    ours = manager(ManyAccounts(known), dispatcher=dispatcher)

    def asked(whom: list[str], count: int) -> Batch:
        return partial(ours.request_reset, client="192.0.2.1"), random.sample(whom, count)

    found = [
        *compare("request, known", {OURS: partial(asked, known)}, rounds=effort.rounds, calls=CALLS),
        *compare("request, unknown", {OURS: partial(asked, unknown)}, rounds=effort.rounds, calls=CALLS),
    ]
    dispatcher.close(0)  # alone: the manager would tell of each job that is left
    return found


class Visits:
    """One system, called as a function or, where it is async, in a loop that goes on."""

    def __init__(self, system: Any, runner: asyncio.Runner) -> None:
        self._system, self._runner = system, runner
        self.name: str = system.name

    def __getattr__(self, method: str) -> Callable[..., Any]:
        function = getattr(self._system, method)
        return lambda *args: self.settled(function(*args))

    def settled(self, result: Any) -> Any:
        return self._runner.run(result) if inspect.iscoroutine(result) else result

    def asked(self, whom: list[str], count: int) -> Batch:
        return self.ask, random.sample(whom, count)

    def made(self, whom: list[str], count: int) -> Batch:
        return self.link, random.sample(whom, count)

    def redeemed(self, whom: list[str], count: int) -> Batch:
        prepared = [self.prepare(self.link(each)) for each in random.sample(whom, count)]

        def redeem(visit: Callable[[str], Any]) -> None:
            if not self.settled(visit("correct horse battery 2")):
                raise RuntimeError(f"{self.name} refused a token: nothing was measured")

        return redeem, prepared


def beside(module: str, effort: Effort, is_slow: bool) -> list[Figure]:
    """Both on an SQLite file in WAL, with passwords hashed, with mail that costs nothing."""
    known, unknown = addresses(500, domain="example.com"), addresses(500, domain="example.com")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, asyncio.Runner() as runner:
        places = [Path(folder) / name for name in ("ours", "theirs")]
        for place in places:
            place.mkdir()
        ours = Visits(peer("resetkit_app").Peer(places[0], 0.0, calm_policy()), runner)
        theirs = Visits(peer(module).Peer(places[1], 0.0), runner)
        for each in (ours, theirs):
            each.add(known)
        hashing = partial(compare, rounds=effort.slow)
        visits = hashing if is_slow else partial(compare, rounds=effort.rounds, calls=OF_A_PEER)
        found = [
            *visits("visit, known", {each.name: partial(each.asked, known) for each in (ours, theirs)}),
            *visits("visit, unknown", {each.name: partial(each.asked, unknown) for each in (ours, theirs)}),
            *hashing("link", {each.name: partial(each.made, known) for each in (ours, theirs)}),
            *hashing("new password", {each.name: partial(each.redeemed, known) for each in (ours, theirs)}),
        ]
        ours.close()
    return [each for each in found if each.beside]
