"""Records and calls that the checks of a store are made of, as data that can be sent to another process."""

from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from resetkit.values import TokenRecord

NOW: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""The instant at which every check begins, shown as T. Time is an argument: nothing waits for it.

It lies ahead, so that a backend which expires entries by the machine's clock keeps them.
"""

SECOND: Final = timedelta(seconds=1)
MINUTE: Final = timedelta(minutes=1)
DAY: Final = timedelta(days=1)
LIFETIME: Final = 30 * MINUTE
RETENTION: Final = 7 * DAY

REPLACEMENT: Final[dict[str, Any]] = {
    "link_hash": "new link hash",
    "code_hash": "new code hash",
    "stamp_digest": "e" * 64,
    "expires_at": NOW + LIFETIME + MINUTE,
    "code_expires_at": NOW + 11 * MINUTE,
    "keep_until": NOW + LIFETIME + RETENTION + MINUTE,
}
"""What a second `add` under a selector brings along, see `resetkit.values.REPLACED_FIELDS`."""


def record(selector: str = "s1", account_id: str = "alice", *, at: datetime = NOW, **given: Any) -> TokenRecord:
    """An outstanding record of a mail at T, but for the fields given."""
    usual: dict[str, Any] = {
        "kind": "mail",
        "link_hash": f"link hash of {selector}",
        "stamp_digest": "d" * 64,
        "created_at": at,
        "expires_at": at + LIFETIME,
        "keep_until": at + LIFETIME + RETENTION,
    }
    return TokenRecord(selector=selector, account_id=account_id, **(usual | given))


@dataclass(frozen=True)
class Call:
    """One call of a store. Records refuse pickling, since they hold hashes; these are the checks' own."""

    method: str
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    async def on(self, store: object) -> Any:
        """What an async store answers."""
        return await self.begin(store)

    def begin(self, store: object) -> Any:
        """What the store's method returns: an answer, or an awaitable."""
        return getattr(store, self.method)(*self.args, **self.options)

    def __getstate__(self) -> dict[str, Any]:
        return {"method": self.method, "args": [pack(each) for each in self.args], "options": self.options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"args": tuple(unpack(each) for each in state["args"])})


@dataclass(frozen=True)
class _Packed:
    record: dict[str, Any]


def pack(value: Any) -> Any:
    """A value with a record in a form that can be pickled."""
    if isinstance(value, TokenRecord):
        found = {each.name: getattr(value, each.name) for each in fields(value)}
        return _Packed({name: str(each) if isinstance(each, str) else each for name, each in found.items()})
    return value


def unpack(value: Any) -> Any:
    """What `pack` was given."""
    return TokenRecord(**value.record) if isinstance(value, _Packed) else value


def adding(selector: str, account_id: str, *, keep: int = 99, **given: Any) -> Call:
    """An add without a quota."""
    return Call("add", (record(selector, account_id, **given),), {"quotas": (), "keep": keep})


def claiming(selector: str, claim_id: str = "c1") -> Call:
    """A claim at T."""
    return Call("claim", (selector,), {"claim_id": claim_id, "now": NOW})


@dataclass(frozen=True)
class Scenario:
    """One operation, after some that prepare it, on records of its own; and the selectors that it may change."""

    before: tuple[Call, ...]
    call: Call
    selectors: tuple[str, ...]


def scenarios(name: str, *, purges: bool = True) -> list[Scenario]:
    """One for each thing that an operation does to several records at once; `name` keeps runs apart.

    `purges`: the last one is a purge, which a backend that deletes by itself may leave undone.
    """
    a, b, account = f"a{name}", f"b{name}", f"account {name}"
    two = (adding(a, account), adding(b, account))
    one, held = (adding(a, account),), (adding(a, account), claiming(a))
    # By a clock that went back, a claim that may be released beside a record that lives.
    then = Call("claim", (a,), {"claim_id": "c1", "now": NOW + SECOND})
    odd = (adding(a, account), adding(b, account, expires_at=NOW + SECOND), then)
    past = NOW - 30 * DAY
    all_of_them = [
        Scenario(one, adding(b, account, keep=1), (a, b)),  # supersedes a
        Scenario(held, adding(b, account), (a, b)),  # takes c1 from a
        Scenario(one, adding(a, account, **REPLACEMENT), (a,)),
        Scenario(one, Call("attempt", (a,), {"limit": 5}), (a,)),
        Scenario(two, claiming(a), (a, b)),
        Scenario(
            (*one, Call("attempt", (a,), {"limit": 5}), claiming(a)),
            Call("release", (a,), {"claim_id": "c1", "guess": True}),
            (a,),
        ),
        Scenario(two, Call("revoke", (account,), {"now": NOW}), (a, b)),
        Scenario(odd, Call("revoke", (account,), {"now": NOW}), (a, b)),
        Scenario(odd, claiming(b, "c2"), (a, b)),
        Scenario(
            (adding(a, account, at=past), adding(b, account, at=past)),
            Call("purge", (), {"before": NOW, "limit": 999}),  # with what cut-off runs have left
            (a, b),
        ),
    ]
    return all_of_them if purges else all_of_them[:-1]
