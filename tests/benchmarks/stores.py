"""How the three stores are measured: a manager's work beside the same by hand, from the token to the record.

By hand means random bytes, HMAC-SHA-256 with a key and the fewest statements that keep the same promises (`by_hand`).
No record is checked, no event told and no account looked up.
"""

import hmac
import itertools
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from benchmarks.measure import OURS, Batch, Figure, Queue, Side, alone, calm_policy, compare, manager
from by_hand import ByHand, Quotas
from harness import KEY, ManyAccounts
from proxy import Proxy
from resetkit import ResetPolicy, TokenStore
from resetkit.stores._rows import COLUMNS, seconds
from resetkit.testing.timing import addresses
from site_records import KEPT, LIFETIME, Row, this_second

HAND: Final = "by hand"
ACCOUNTS: Final = 20_000  # more than there are calls: one with a long past has more to be gone through
CALLS: Final = 10
SETTLED: Final = 10  # calls, after which a driver has prepared its statements
LINK_HASH: Final = COLUMNS.index("link_hash")
PASSWORD: Final = "correct horse battery"


class Hand:
    """A token is a selector and a secret."""

    def __init__(self, statements: ByHand) -> None:
        self._statements = statements
        self._numbers = itertools.count()

    def make(self, number: int, quotas: Quotas) -> tuple[str, bytes]:
        selector, secret = secrets.token_hex(16), secrets.token_bytes(32)
        digest = hmac.digest(KEY, secret, "sha256").hex()
        assert self._statements.add(new_row(selector, str(number), digest), quotas)
        return selector, secret

    def look(self, token: tuple[str, bytes]) -> None:
        selector, secret = token
        found = self._statements.get(selector)
        stored = found[b"link_hash"].decode() if isinstance(found, dict) else found[LINK_HASH]
        assert hmac.compare_digest(hmac.digest(KEY, secret, "sha256").hex(), stored)

    def use(self, token: tuple[str, bytes]) -> None:
        self.look(token)
        assert self._statements.claim(token[0], secrets.token_hex(16), seconds(this_second()))

    def issue(self, count: int) -> Batch:
        return partial(self.make, quotas=()), self._next(count)

    def mail(self, count: int) -> Batch:
        now = this_second()
        quotas = [(most, seconds(now - within)) for most, within in ResetPolicy().account_quotas]
        return partial(self.make, quotas=quotas), self._next(count)

    def check(self, count: int) -> Batch:
        return self.look, [self.make(number, ()) for number in self._next(count)]

    def redeem(self, count: int) -> Batch:
        return self.use, [self.make(number, ()) for number in self._next(count)]

    def _next(self, count: int) -> list[int]:
        return list(itertools.islice(self._numbers, count))


def new_row(selector: str, account_id: str, digest: str) -> Row:
    now = seconds(this_second())
    ends, kept = now + int(LIFETIME.total_seconds()), now + int(KEPT.total_seconds())
    return selector, account_id, "mail", digest, None, digest, now, ends, None, kept, 0, "outstanding", None


class Pair:
    """A store under a manager, and the same by hand."""

    def __init__(self, store: TokenStore, hand: Hand) -> None:
        self.hand = hand
        self._addresses = addresses(ACCOUNTS)
        self._queue = Queue()
        policy = calm_policy()
        self._manager = manager(ManyAccounts(self._addresses), store, dispatcher=self._queue, policy=policy)
        self._numbers = itertools.count()

    def sides(self) -> Mapping[str, Mapping[str, Side]]:
        return {
            "issue": {OURS: self.issue, HAND: self.hand.issue},
            "a mail's job": {OURS: self.mail, HAND: self.hand.mail},
            "check": {OURS: self.check, HAND: self.hand.check},
            "redeem": {OURS: self.redeem, HAND: self.hand.redeem},
        }

    def figures(self, rounds: int) -> list[Figure]:
        return [
            figure
            for what, sides in self.sides().items()
            for figure in compare(what, sides, rounds=rounds, calls=CALLS)
        ]

    def issue(self, count: int) -> Batch:
        return self._manager.issue_token, self._next(count)

    def mail(self, count: int) -> Batch:
        for number in self._next(count):
            self._manager.request_reset(self._addresses[int(number)], client=None)
        jobs, self._queue.jobs = self._queue.jobs, []
        return self._manager.run_job, jobs

    def check(self, count: int) -> Batch:
        return self._manager.check_token, self._tokens(count)

    def redeem(self, count: int) -> Batch:
        return partial(self._manager.reset_password, new_password=PASSWORD), self._tokens(count)

    def _tokens(self, count: int) -> list[str]:
        tokens = [self._manager.issue_token(each).token for each in self._next(count)]
        self._queue.jobs.clear()
        return tokens

    def _next(self, count: int) -> list[str]:
        return [str(number) for number in itertools.islice(self._numbers, count)]


def round_trips(proxies: Mapping[str, Proxy], pair: Pair) -> list[Figure]:
    """How often a client waits for its server, as a proxy between them sees it."""
    return [
        alone(f"round trips, {what}, {name}", "", _counted(proxies[name], *side(2 * SETTLED)))
        for what, sides in pair.sides().items()
        for name, side in sides.items()
    ]


def _counted(proxy: Proxy, call: Callable[[Any], object], arguments: Sequence[Any]) -> list[float]:
    counts = list[float]()
    for each in arguments:
        before = proxy.round_trips
        call(each)
        counts.append(proxy.round_trips - before)
    return counts[SETTLED:]
