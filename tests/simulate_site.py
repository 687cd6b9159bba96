"""What a site of a billion accounts is asked for in four weeks, and what it keeps: the picture of docs/scale.md.

::

    python tests/simulate_site.py 100000                    # accounts to simulate; each stands for 10,000
    python tests/simulate_site.py 1000000 docs/scale.svg    # smoother, some minutes, and a picture
    python tests/simulate_site.py 100000 codes              # the pages ask for a code each time

The manager, its throttle and its policy are the real ones; the clock, the visitors and the mail server are not. People
forget passwords by day more than by night. On one day the news has it that passwords were stolen. Later somebody
asks for every account that there is, from as many addresses as it takes to be through in two days.
"""

import heapq
import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import Final

from resetkit import (
    Account,
    InvalidTokenError,
    KeyedTokenHasher,
    Mail,
    ResetMail,
    ResetManager,
    ResetPolicy,
    ThrottledError,
    code_token,
)
from resetkit.dispatch import InlineDispatcher
from resetkit.stores import MemoryTokenStore

# What is assumed. Put the figures of your own log here.
SITE: Final = 10**9  # accounts that the simulated ones stand for
FORGET: Final = 0.015 / 30  # share of accounts a day (Florêncio and Herley, WWW 2007: 1.5 % a month)
AGAIN: Final = 0.3  # share of people who ask once more, within minutes
FINISH: Final = 0.8  # share of mails whose reader sets a password, within minutes
RHYTHM: Final = 0.8  # how far noon and midnight are from the mean
DAYS: Final = 28
LEAK_DAY: Final = 7
LEAK_SHARE: Final = 0.2  # of all accounts ask, half of them within eight hours
LEAK_MEAN: Final = 12 * 3600  # seconds from the news to the request
ATTACK_DAY: Final = 17.5
ATTACK_DAYS: Final = 2
PUSHING: Final = 1.2  # an attacker's addresses ask so many times as often as each is allowed to
BYTES: Final = 592  # of a record in PostgreSQL with its indexes, as docs/scale.md has measured

HOUR: Final = 3600
DAY: Final = 24 * HOUR
START: Final = datetime(2030, 1, 7, tzinfo=UTC)
MINUTES: Final = 300  # seconds, in the mean, until somebody asks again or reads the mail

Arrival = tuple[float, int, str]
"""When, for which account, and from where."""


@dataclass(slots=True)
class Hour:
    """What happened in an hour, and what was kept at its end."""

    asked: int = 0
    refused: int = 0
    mails: int = 0
    notices: int = 0
    records: int = 0


class Site:
    """The application: its accounts, its mail server, and what is counted."""

    sends_nothing = True

    def __init__(self, policy: ResetPolicy) -> None:
        self.second = 0.0
        self.hours = [Hour()]
        self.mail: ResetMail | None = None
        self._changes: dict[str, int] = {}
        self._readers: list[tuple[float, str]] = []
        self._store = MemoryTokenStore()
        self._manager = ResetManager(
            self,
            self._store,
            self,
            link="https://app.example/reset#{token}",
            policy=policy,
            hasher=KeyedTokenHasher([b"a key of 32 bytes for tests only"]),
            dispatcher=InlineDispatcher(),
            clock=lambda: START + timedelta(seconds=int(self.second)),
            on_event=lambda event: None,
        )

    def ask(self, arrival: Arrival, chance: random.Random, *, code: bool) -> None:
        """One request; who gets a mail may read it later."""
        second, number, client = arrival
        self._go_on_to(second)
        self.hours[-1].asked += 1
        self.mail = None
        try:
            receipt = self._manager.request_reset(f"user{number}@app.example", client=client, code=code)
        except ThrottledError:
            self.hours[-1].refused += 1
            return
        if self.mail is None or client.startswith("bot") or chance.random() > FINISH:
            return
        token = self.mail.token
        if receipt.handle is not None and self.mail.code is not None:
            token = code_token(receipt.handle, self.mail.code)
        heapq.heappush(self._readers, (second + chance.expovariate(1 / MINUTES), token))

    def go_on_to_the_end(self) -> None:
        self._go_on_to(DAYS * DAY - 1)
        self.hours[-1].records = len(self._store._records)

    def _go_on_to(self, second: float) -> None:
        """All that happens before: readers set their passwords, and each hour ends with a purge."""
        while True:
            end = len(self.hours) * HOUR
            reads = self._readers[0][0] if self._readers else math.inf
            if min(end, reads) > second:
                break
            self.second = min(end, reads)
            if reads < end:
                _, token = heapq.heappop(self._readers)
                with suppress(InvalidTokenError):  # a newer mail has ended it, or it is too late
                    self._manager.reset_password(token, "a new password")
                continue
            self._manager.purge_tokens()
            self.hours[-1].records = len(self._store._records)
            self.hours.append(Hour())
        self.second = second

    # The ports.

    def find(self, identifier: str, /) -> Account | None:
        stamp = str(self._changes.get(identifier, 0))
        return Account(id=identifier, email=identifier, stamp=stamp)

    get = find

    def set_password(self, account_id: str, new_password: str, /) -> None:
        del new_password
        self._changes[account_id] = self._changes.get(account_id, 0) + 1

    def end_sessions(self, account_id: str, /) -> None:
        """There are none."""

    def send(self, mail: Mail, /) -> None:
        if isinstance(mail, ResetMail):
            self.mail = mail
            self.hours[-1].mails += 1
        else:
            self.hours[-1].notices += 1


def people(accounts: int, chance: random.Random) -> list[Arrival]:
    """Who forgot a password, who heard the news, and who of them asks again."""
    seconds = list[float]()
    for hour in range(DAYS * 24):
        second, rate = hour * float(HOUR), accounts * FORGET / DAY * (1 - RHYTHM * math.cos(2 * math.pi * hour / 24))
        while (second := second + chance.expovariate(rate)) < (hour + 1) * HOUR:
            seconds.append(second)
    frightened = int(accounts * LEAK_SHARE)
    seconds += (LEAK_DAY * DAY + 9 * HOUR + chance.expovariate(1 / LEAK_MEAN) for _ in range(frightened))
    arrivals = [(second, chance.randrange(accounts)) for second in seconds]
    arrivals += [(at + chance.expovariate(1 / MINUTES), who) for at, who in arrivals if chance.random() < AGAIN]
    return sorted((at, who, f"home of {who}") for at, who in arrivals if at < DAYS * DAY)


def attack(accounts: int, policy: ResetPolicy) -> Iterator[Arrival]:
    """Every account once, from just enough addresses, each of which asks a little too often."""
    clients = bots(accounts, policy)
    allowed, within = policy.client_limit
    step = within.total_seconds() / allowed / clients / PUSHING
    for number in range(int(accounts * PUSHING)):
        yield ATTACK_DAY * DAY + number * step, number % accounts, f"bot {number % clients}"


def bots(accounts: int, policy: ResetPolicy) -> int:
    """How many addresses it takes."""
    allowed, within = policy.client_limit
    return math.ceil(accounts * within.total_seconds() / allowed / (ATTACK_DAYS * DAY))


def simulated(accounts: int, *, code: bool) -> list[Hour]:
    """What happened in each hour, for all accounts of the site."""
    chance, policy = random.Random(accounts), ResetPolicy()
    site = Site(policy)
    for arrival in heapq.merge(people(accounts, chance), attack(accounts, policy)):
        site.ask(arrival, chance, code=code)
    site.go_on_to_the_end()
    scale = SITE // accounts
    return [Hour(*(getattr(hour, each.name) * scale for each in fields(Hour))) for hour in site.hours]


PHASES: Final = (
    ("a usual week", 0, LEAK_DAY),
    ("three days of news", LEAK_DAY, LEAK_DAY + 3),
    ("the attack", ATTACK_DAY, ATTACK_DAY + ATTACK_DAYS),
)


def report(hours: Sequence[Hour]) -> None:
    print("| when | asked a day | refused | mails a day | mails a second, worst hour | records, most | GB |")
    print("|---|---|---|---|---|---|---|")
    for number, (name, begins, ends) in enumerate(PHASES):
        some = hours[int(begins * 24) : int(ends * 24)]
        next_begins = PHASES[number + 1][1] if number + 1 < len(PHASES) else DAYS
        days = len(some) / 24
        mails = [hour.mails + hour.notices for hour in some]
        kept = max(hour.records for hour in hours[int(begins * 24) : int(next_begins * 24)])
        refused = sum(hour.refused for hour in some) / max(1, sum(hour.asked for hour in some))
        cells = (
            short(sum(hour.asked for hour in some) / days),
            f"{refused:.0%}",
            short(sum(mails) / days),
            short(max(mails) / HOUR),
            short(kept),
            f"{kept * BYTES / 1e9:.1f}",
        )
        print(f"| {name} | {' | '.join(cells)} |")


def short(number: float) -> str:
    """Three figures, and a word where there are many."""
    for unit, name in ((1e9, " billion"), (1e6, " million")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{float(f'{number:.3g}'):,.0f}"


# The picture: two panels over one axis of days.

LEFT, WIDTH, HEIGHT, TOPS = 92, 540, 170, (58, 288)
LEAST, MOST = 1e4, 1e8
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.small { font-size: 11px; fill: #57606a }
.grid { stroke: #d0d7de } .span { fill: #d0d7de; opacity: 0.4 }
.line { fill: none; stroke-width: 1.5 } .asked { stroke: #cf222e } .mails { stroke: #0969da }
.kept { stroke: #0969da; fill: #0969da; fill-opacity: 0.2; stroke-width: 1.5 }
.key-asked { fill: #cf222e } .key-mails { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .grid { stroke: #3d444d } .span { fill: #3d444d }
  .asked { stroke: #f85149 } .mails { stroke: #4493f8 } .kept { stroke: #4493f8; fill: #4493f8 }
  .key-asked { fill: #f85149 } .key-mails { fill: #4493f8 }
}
"""


def x_of(day: float) -> float:
    return LEFT + WIDTH * day / DAYS


def drawn(hours: Sequence[Hour]) -> str:
    """An SVG of requests and mails an hour, and of the records kept."""
    title = "Password resets of a billion accounts in four weeks, simulated"
    rates, kept = TOPS
    most = max(hour.records for hour in hours)
    step = next(each for each in (1e5, 1e6, 1e7, 2e7, 5e7, 1e8, 2e8, 5e8, 1e9, 1e10) if most / each <= 6)
    full = step * math.ceil(most / step)

    legend = '<tspan class="key-asked">requests</tspan> and <tspan class="key-mails">mails</tspan> an hour'

    def y_of_rate(rate: float) -> float:
        share = math.log10(max(rate, LEAST) / LEAST) / math.log10(MOST / LEAST)
        return rates + HEIGHT * (1 - min(share, 1))

    def y_of_kept(records: float) -> float:
        return kept + HEIGHT * (1 - records / full)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 500" role="img" aria-label="{title}">',
        f"<style>{STYLE}</style>",
        f'<text x="8" y="20">{title}</text>',
        f'<text x="{LEFT}" y="{rates - 14}">{legend}</text>',
        f'<text x="{LEFT}" y="{kept - 14}">records kept, and their size in PostgreSQL</text>',
    ]
    for name, begins, ends in PHASES[1:]:
        left, width = x_of(begins), x_of(ends) - x_of(begins)
        lines += [f'<rect class="span" x="{left:.1f}" y="{y}" width="{width:.1f}" height="{HEIGHT}"/>' for y in TOPS]
        lines.append(f'<text class="small" x="{left + 4:.1f}" y="{rates + 14}">{escape(name)}</text>')
    for power in range(round(math.log10(LEAST)), round(math.log10(MOST)) + 1):
        lines += grid(y_of_rate(10.0**power), short(10.0**power))
    for number in range(round(full / step) + 1):
        records = number * step
        size = f"{records * BYTES / 1e9:.3g} GB"
        lines += grid(y_of_kept(records), short(records), size)
    for day in range(0, DAYS + 1, 7):
        lines.append(
            f'<text class="small" x="{x_of(day):.1f}" y="{kept + HEIGHT + 18}" text-anchor="middle">{day}</text>'
        )
    lines.append(f'<text class="small" x="{x_of(DAYS / 2)}" y="{kept + HEIGHT + 36}" text-anchor="middle">day</text>')
    surface = path(hours, lambda hour: y_of_kept(hour.records))
    bottom_left, bottom_right = (f"{x_of(day):.1f},{kept + HEIGHT}" for day in (0, DAYS))
    lines += [
        f'<polyline class="line asked" points="{path(hours, lambda hour: y_of_rate(hour.asked))}"/>',
        f'<polyline class="line mails" points="{path(hours, lambda hour: y_of_rate(hour.mails + hour.notices))}"/>',
        f'<polygon class="kept" points="{bottom_left} {surface} {bottom_right}"/>',
    ]
    return "\n".join([*lines, "</svg>\n"])


def grid(y: float, left: str, right: str = "") -> list[str]:
    """A line across, with what it stands for at either end."""
    end = LEFT + WIDTH
    return [
        f'<line class="grid" x1="{LEFT}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>',
        f'<text class="small" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{left}</text>',
        f'<text class="small" x="{end + 6}" y="{y + 4:.1f}">{right}</text>',
    ]


def path(hours: Sequence[Hour], y_of: Callable[[Hour], float]) -> str:
    return " ".join(f"{x_of(number / 24):.1f},{y_of(hour):.1f}" for number, hour in enumerate(hours))


def main(accounts: str = "", *words: str) -> int | str:
    pictures = [word for word in words if word.endswith(".svg")]
    if not accounts.isdecimal() or int(accounts) < 1 or set(words) - {"codes", *pictures}:
        return str(__doc__)
    count = int(accounts)
    addresses = short(bots(count, ResetPolicy()) * SITE / count)
    print(f"{short(count)} accounts, each for {SITE // count} of a site; the attacker has {addresses} addresses\n")
    hours = simulated(count, code="codes" in words)
    report(hours)
    for picture in pictures:
        Path(picture).write_text(drawn(hours))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
