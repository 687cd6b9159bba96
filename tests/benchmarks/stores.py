"""How the three stores are measured: a manager's work beside the same by hand, from the token to the record.

Then what a store does alone, so that it is seen how much of the time is whose. By hand means random bytes, HMAC-SHA-256
with a key and the fewest statements that keep the same promises (`by_hand`). No record is checked, no event told and no
account looked up.
"""

import hmac
import itertools
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from benchmarks.measure import OURS, Batch, Figure, Queue, Side, alone, calm_policy, compare, manager
from by_hand import SELECTOR, ByHand, Quotas
from harness import KEY, ManyAccounts
from proxy import Proxy
from resetkit import ResetPolicy, TokenStore
from resetkit.stores._rows import COLUMNS, record_of, seconds
from resetkit.testing.timing import addresses
from site_records import KEPT, LIFETIME, Row, this_second

HAND: Final = "by hand"
ACCOUNTS: Final = 20_000  # more than there are calls: one with a long past has more to be gone through
CALLS: Final = 10
SETTLED: Final = 10  # calls, after which a driver has prepared its statements
LINK_HASH: Final = COLUMNS.index("link_hash")
CLAIM: Final = "0" * 32
DIGEST: Final = "d" * 64
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

    def add(self, count: int) -> Batch:
        return partial(self._statements.add, quotas=()), new_rows(count)

    def get(self, count: int) -> Batch:
        return self._statements.get, self._added(count)

    def claim(self, count: int) -> Batch:
        return partial(self._statements.claim, claim_id=CLAIM, now=seconds(this_second())), self._added(count)

    def _added(self, count: int) -> list[str]:
        rows = new_rows(count)
        for row in rows:
            assert self._statements.add(row, ())
        return [str(row[SELECTOR]) for row in rows]

    def _next(self, count: int) -> list[int]:
        return list(itertools.islice(self._numbers, count))


def new_rows(count: int) -> list[Row]:
    """Of as many new accounts."""
    return [new_row(secrets.token_hex(16), f"of-{secrets.token_hex(8)}", DIGEST) for _ in range(count)]


def new_row(selector: str, account_id: str, digest: str) -> Row:
    now = seconds(this_second())
    ends, kept = now + int(LIFETIME.total_seconds()), now + int(KEPT.total_seconds())
    return selector, account_id, "mail", digest, None, digest, now, ends, None, kept, 0, "outstanding", None


class Pair:
    """A store under a manager, and the same by hand."""

    def __init__(self, store: TokenStore, hand: Hand) -> None:
        self.hand = hand
        self._store = store
        self._addresses = addresses(ACCOUNTS)
        self._queue = Queue()
        policy = calm_policy()
        self._manager = manager(ManyAccounts(self._addresses), store, dispatcher=self._queue, policy=policy)
        self._numbers = itertools.count()

    def sides(self) -> dict[str, Mapping[str, Side]]:
        return {
            "issue": {OURS: self.issue, HAND: self.hand.issue},
            "a mail's job": {OURS: self.mail, HAND: self.hand.mail},
            "check": {OURS: self.check, HAND: self.hand.check},
            "redeem": {OURS: self.redeem, HAND: self.hand.redeem},
        }

    def store_sides(self) -> dict[str, Mapping[str, Side]]:
        """The same without a manager."""
        return {
            "the store's add": {OURS: self.add, HAND: self.hand.add},
            "the store's get": {OURS: self.get, HAND: self.hand.get},
            "the store's claim": {OURS: self.claim, HAND: self.hand.claim},
        }

    def figures(self, rounds: int) -> list[Figure]:
        return [
            figure
            for what, sides in (self.sides() | self.store_sides()).items()
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

    def add(self, count: int) -> Batch:
        return partial(self._store.add, quotas=(), keep=1), [record_of(row) for row in new_rows(count)]

    def get(self, count: int) -> Batch:
        return self._store.get, self._added(count)

    def claim(self, count: int) -> Batch:
        return partial(self._store.claim, claim_id=CLAIM, now=this_second()), self._added(count)

    def _added(self, count: int) -> list[str]:
        add, records = self.add(count)
        for record in records:
            assert add(record)
        return [record.selector for record in records]

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
