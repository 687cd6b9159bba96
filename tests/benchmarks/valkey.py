"""On Valkey, beside scripts by hand: one server each, through redis-py."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import redis

from benchmarks.measure import OURS, Batch, Effort, Figure, Side, compare
from benchmarks.stores import CALLS, HAND, Hand, Pair, round_trips
from by_hand import ValkeyByHand
from proxy import Proxy
from resetkit.stores.redis import RedisTokenStore
from servers import folder, valkey

EMPTY = "one empty round trip"


def figures(effort: Effort) -> list[Figure]:
    with valkey() as one, valkey() as other, opened(one.place, other.place) as (pair, client):
        found = pair.figures(effort.rounds)
        for what in ("issue", "redeem"):
            sides: dict[str, Side] = {OURS: pair.sides()[what][OURS], EMPTY: partial(pings, client)}
            found += compare(what, sides, rounds=effort.rounds, calls=CALLS)[1:]
        return found + counted(one.place, other.place)


@contextmanager
def opened(ours: Path, theirs: Path) -> Generator[tuple[Pair, redis.Redis], None, None]:
    with ExitStack() as stack:
        client, by_hand = (stack.enter_context(redis.Redis(unix_socket_path=str(place))) for place in (ours, theirs))
        for each in (client, by_hand):
            each.flushall()
        yield Pair(RedisTokenStore(client), Hand(ValkeyByHand(by_hand))), by_hand


def pings(client: redis.Redis, count: int) -> Batch:
    return lambda _: client.ping(), range(count)


def counted(one: Path, other: Path) -> list[Figure]:
    proxies = {OURS: Proxy(one), HAND: Proxy(other)}
    with folder() as place:
        listening = (proxies[OURS].listening(place / "ours"), proxies[HAND].listening(place / "theirs"))
        with listening[0], listening[1], opened(place / "ours", place / "theirs") as (pair, _):
            return round_trips(proxies, pair)
