"""resetkit beside what ships with frameworks, in one run on one machine: the figures and the picture of docs/timing.md.

In a virtual environment of its own, from a checkout::

    python -m pip install -e . -r tests/peers/requirements.txt
    python tests/peers/compare.py timing 1000 docs/timing.svg    # rounds; the picture is optional
    python tests/peers/compare.py race 20                        # rounds
    python tests/peers/compare.py outlives 1                     # rounds: after what does a link still work?
    python tests/peers/compare.py power 20                       # runs; and beside busy processes
    python tests/peers/compare.py race 20 django_view            # which ones; all but timing take names

Each system runs in a process and a folder of its own, with a mail server that costs nothing and one that takes 20 ms.
"""

import asyncio
import inspect
import math
import os
import platform
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from html import escape
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path

HERE = Path(__file__).parent
RACERS = 16
MAIL = 0.02  # seconds

# What distribution, and the margin at which the controls of its measurement hold, on a busy machine too. Who leaks
# beyond a wide margin does so beyond a narrow one.
PEERS = {
    "resetkit_app": ("resetkit", timedelta(microseconds=50)),
    "django_view": ("django", timedelta(milliseconds=0.2)),
    "allauth_view": ("django-allauth", timedelta(milliseconds=0.2)),
    "fastapi_users_app": ("fastapi-users", timedelta(milliseconds=10)),
    "flask_security_app": ("flask-security-too", timedelta(milliseconds=20)),  # hashes for everyone, not the same way
    "jwt_app": ("pyjwt", timedelta(milliseconds=5)),
}
SLOW = {"fastapi_users_app", "flask_security_app"}  # a round lasts up to a second
FEW, FEWEST = 400, 40


def opened(module, folder, mail=0.0):
    sys.path.insert(0, str(HERE))
    return import_module(module).Peer(Path(folder), mail)


def measured(module, mail, rounds, runs=1):
    """The name and the reports of one system, with a mailer that takes `mail` seconds."""
    from resetkit.testing.timing import addresses, measure, measure_async

    known, unknown = addresses(500, domain="example.com"), addresses(1500, domain="example.com")
    options = {"known": known, "unknown": unknown, "rounds": rounds, "margin": PEERS[module][1]}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        peer = opened(module, folder, mail)
        if not getattr(peer, "is_async", False):
            peer.add(known)
            reports = [measure(peer.ask, **options) for _ in range(runs)]
            getattr(peer, "close", lambda: None)()
            return peer.name, reports

        async def run():
            await peer.add(known)
            return [await measure_async(peer.ask, **options) for _ in range(runs)]

        return peer.name, asyncio.run(run())


def raced(module, rounds):
    """The name of one system, and how many of sixteen were told success, in each round."""
    addresses = [f"user{number:04}@example.com" for number in range(rounds)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        peer = opened(module, folder)
        if getattr(peer, "is_async", False):
            return peer.name, asyncio.run(race_of_tasks(peer, addresses))
        peer.add(addresses)
        return peer.name, [race_of_threads(peer, each) for each in addresses]


def race_of_threads(peer, address):
    token = peer.link(address)
    visitors = [peer.prepare(token) for _ in range(RACERS)]
    barrier, won = threading.Barrier(RACERS), []

    def redeem(number):
        barrier.wait()
        won.append(visitors[number](f"correct horse battery {number}"))

    threads = [threading.Thread(target=redeem, args=(number,)) for number in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(won)


async def race_of_tasks(peer, addresses):
    await peer.add(addresses)
    winners = []
    for address in addresses:
        redeem = peer.prepare(await peer.link(address))
        told = await asyncio.gather(*(redeem(f"correct horse battery {number}") for number in range(RACERS)))
        winners.append(sum(told))
    return winners


def outlived(module, _rounds):
    """The name of one system, and whether its link still works after each of four things."""
    whats = ("use", "newer", "password", "address")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, asyncio.Runner() as runner:
        peer = opened(module, folder)

        def settled(result):
            return runner.run(result) if inspect.iscoroutine(result) else result

        def works(link):
            return settled(peer.prepare(link)("correct horse battery 2"))

        told = []
        settled(peer.add([f"{what}@example.com" for what in whats]))
        for what in whats:
            address = f"{what}@example.com"
            link = settled(peer.link(address))
            time.sleep(1.1)  # Django's links hold the second they were made in
            if what == "use":
                assert works(link)
            elif what == "newer":
                assert settled(peer.link(address)) != link
            else:
                peer.change(address, what)
            told.append(works(link))
        return peer.name, told


def in_a_process(function, *args):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        return processes.submit(function, *args).result()


def outlives(rounds, *only):
    head()
    print("| system | used | a newer link was made | the password was changed | the address was changed |")
    print("|---|---|---|---|---|")
    for module in only or PEERS:
        for _ in range(rounds):
            name, told = in_a_process(outlived, module, rounds)
            cells = " | ".join("works" if still else "refused" for still in told)
            print(f"| {name} {version(PEERS[module][0])} | {cells} |", flush=True)


def head():
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load {load:.1f} at the start\n")


def timing(rounds, picture=None):
    head()
    print("| system | mail takes | median, known | known less unknown | unknown less unknown | margin | n | verdict |")
    print("|---|---|---|---|---|---|---|---|")
    bars = []
    for module in PEERS:
        for mail in (0.0, MAIL):
            name, (report,) = in_a_process(measured, module, mail, FEW if module in SLOW else rounds)
            known, again = report.differences["K"], report.differences["A"]
            label = f"{name} {version(PEERS[module][0])}"
            milliseconds = f"{mail * 1000:.0f} ms"
            cells = (label, milliseconds, f"{report.percentiles['K'].p50:.0f}", known, again, f"{report.margin:g}")
            print(f"| {' | '.join(map(str, cells))} | {report.rounds} | {report.verdict} |", flush=True)
            bars.append((f"{name}, mail {milliseconds}", known))
    if picture:
        Path(picture).write_text(drawn(bars))


def power(runs, *only):
    """How often the measurement comes to the same verdict, with mail that costs nothing: the least leak there is."""
    head()
    print("| system | runs | verdicts | rounds | known less unknown, least and most |\n|---|---|---|---|---|")
    for module in only or PEERS:
        name, reports = in_a_process(measured, module, 0.0, FEWEST if module in SLOW else FEW, runs)
        verdicts = ", ".join(f"{verdict} {count}" for verdict, count in Counter(r.verdict for r in reports).items())
        rounds = sorted({report.rounds for report in reports})
        medians = sorted(report.differences["K"].median for report in reports)
        spread = f"{medians[0]:+.1f}, {medians[-1]:+.1f}"
        label = f"{name} {version(PEERS[module][0])}"
        print(f"| {label} | {runs} | {verdicts} | {', '.join(map(str, rounds))} | {spread} |", flush=True)


def race(rounds, *only):
    head()
    print(f"| system | rounds | winners of {RACERS}: least, median, most |\n|---|---|---|")
    for module in only or PEERS:
        name, winners = in_a_process(raced, module, rounds)
        ordered = sorted(winners)
        spread = f"{ordered[0]}, {ordered[len(ordered) // 2]}, {ordered[-1]}"
        print(f"| {name} {version(PEERS[module][0])} | {rounds} | {spread} |", flush=True)


# The picture: how far apart known and unknown are, in microseconds, on a log scale.

LEFT, WIDTH, TOP, ROW = 290, 390, 46, 26
LEAST, MOST = 0.1, 1e6
TICKS = {1: "1 µs", 10: "10 µs", 100: "100 µs", 1e3: "1 ms", 1e4: "10 ms", 1e5: "100 ms", 1e6: "1 s"}
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.small { font-size: 11px; fill: #57606a }
.grid { stroke: #d0d7de } .bar { stroke: #0969da; stroke-width: 6; stroke-linecap: round } .dot { fill: #0969da }
.leak .bar { stroke: #cf222e } .leak .dot { fill: #cf222e }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .grid { stroke: #3d444d }
  .bar { stroke: #4493f8 } .dot { fill: #4493f8 } .leak .bar { stroke: #f85149 } .leak .dot { fill: #f85149 }
}
"""


def x_of(microseconds):
    share = math.log10(max(microseconds, LEAST) / LEAST) / math.log10(MOST / LEAST)
    return LEFT + WIDTH * min(share, 1.0)


def drawn(bars):
    """An SVG of an interval for each (name, interval). One that holds zero is blue, and reaches to the left edge."""
    height = TOP + ROW * len(bars) + 30
    title = "How far apart the answers for known and unknown accounts are"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" role="img" aria-label="{title}">',
        f"<style>{STYLE}</style>",
        f'<text x="8" y="20">{title} (median, 99.9 % interval)</text>',
    ]
    for tick, name in TICKS.items():
        x = x_of(tick)
        lines += [
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 10}" y2="{height - 26}"/>',
            f'<text class="small" x="{x:.1f}" y="{height - 10}" text-anchor="middle">{name}</text>',
        ]
    for number, (name, interval) in enumerate(bars):
        y = TOP + ROW * number + 8
        apart = interval.low > 0 or interval.high < 0
        low = min(abs(interval.low), abs(interval.high)) if apart else 0
        lines += [
            f'<g class="{"leak" if apart else "same"}"><text x="8" y="{y + 4}">{escape(name)}</text>',
            f'<line class="bar" x1="{x_of(low):.1f}" x2="{x_of(interval.bound):.1f}" y1="{y}" y2="{y}"/>',
            f'<circle class="dot" cx="{x_of(abs(interval.median)):.1f}" cy="{y}" r="5"/></g>',
        ]
    return "\n".join([*lines, "</svg>\n"])


def main(what="", rounds="", *more):
    missing = []
    for distribution, _ in PEERS.values():
        try:
            version(distribution)
        except PackageNotFoundError:
            missing.append(distribution)
    if missing:
        names = ", ".join(missing)
        return f"{names}: not installed. See the top of this file, or: pip install -e . -r tests/peers/requirements.txt"
    commands = {"timing": timing, "race": race, "outlives": outlives, "power": power}
    if what not in commands or not rounds.isdecimal() or (what != "timing" and not PEERS.keys() >= {*more}):
        return __doc__
    commands[what](int(rounds), *more)
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
