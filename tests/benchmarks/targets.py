"""What each figure is meant to reach: the only place that says so."""

from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.measure import Figure, Figures

Verdict = Literal["reached", "open", "missed", "not measured"]


@dataclass(frozen=True, slots=True)
class Target:
    """At most so much; of all figures of a group whose names begin so."""

    says: str
    group: str
    names: tuple[str, ...]
    most: float


def beside(peer: str, *whats: str) -> tuple[str, ...]:
    return tuple(f"{what}, beside {peer}" for what in whats)


TARGETS: Final = (
    Target("A visitor's request, by itself", "requests", ("request, known", "request, unknown"), 100),
    Target("Issue and check, beside Django", "tokens", beside("Django", "issue", "check"), 1.0),
    Target("Issue and check, beside itsdangerous", "tokens", beside("itsdangerous", "issue", "check"), 0.5),
    Target("Issue and check, beside PyJWT", "tokens", beside("PyJWT", "issue", "check"), 0.5),
    Target("A mail's job and a redemption, beside Argon2 alone", "hashing", ("a mail's job, ", "redeem, "), 1.05),
    Target("Issue on SQLite, beside the same by hand", "sqlite", beside("by hand", "issue"), 1.3),
    Target("Redeem on SQLite, beside the same by hand", "sqlite", beside("by hand", "redeem"), 1.5),
    Target("Issue and redeem on PostgreSQL, by hand", "postgres", beside("by hand", "issue", "redeem"), 1.3),
    Target("Issue and redeem on Valkey, by hand", "valkey", beside("by hand", "issue", "redeem"), 1.3),
    Target(
        "A store's ratio, from the fewest records to the most",
        "records",
        tuple(
            f"{engine}, {name}, its largest"
            for engine in ("sqlite", "postgres", "valkey")
            for name in ("add", "get", "claim")
        ),
        1.2,
    ),
    Target(
        "What the sync face adds to a call", "faces", ("sync request", "sync issue", "sync check", "sync redeem"), 3
    ),
    Target("The loop's longest hold, 64 redemptions at once", "faces", ("the loop's longest hold",), 5),
    Target("`import resetkit`, beyond a bare start", "imports", ("import resetkit",), 30),
)


def figures_for(target: Target, figures: Figures) -> list[Figure]:
    """In the order of the names. One that was not measured is left out."""
    group = figures.get(target.group, {})
    return [each for name in target.names for key, each in group.items() if key.startswith(name)]


def verdict(target: Target, found: list[Figure]) -> Verdict:
    """Open where the interval holds the target: measure on a quieter machine, or in more rounds."""
    if not found:
        return "not measured"
    if all(each.value.high <= target.most for each in found):
        return "reached"
    return "missed" if any(each.value.low > target.most for each in found) else "open"
