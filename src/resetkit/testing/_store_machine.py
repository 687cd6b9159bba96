"""Random sequences of calls, on a store and on the model beside it."""

from collections.abc import Iterable
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from resetkit.errors import DuplicateSelectorError
from resetkit.protocols import AsyncTokenStore
from resetkit.testing._explore import exploring
from resetkit.testing._kit import Conformance, expect
from resetkit.testing._records import LIFETIME, MINUTE, NOW, RETENTION, SECOND, Call, record
from resetkit.testing._store_model import StoreModel
from resetkit.values import Kind, Quota, TokenRecord

# Few names, so that calls meet; the last are accounts that a careless comparison takes for the first.
ACCOUNTS: Final = st.sampled_from(["alice"] * 6 + ["Alice", "ålice"])
CLAIM_IDS: Final = st.sampled_from(["c1", "c2"])
KINDS: Final[st.SearchStrategy[Kind]] = st.sampled_from(["mail", "mail", "mail", "operator"])
KEEPS: Final = st.sampled_from([1, 2, 2, 9])
LIMITS: Final = st.integers(1, 3)
PICKS: Final = st.integers(0, 2)
EDGES: Final = st.sampled_from([-SECOND, timedelta(0), SECOND])  # the very instant, and to either side of it
ROOM: Final = st.integers(-1, 1)  # how many more than there are may be
YES_OR_NO: Final = st.booleans()

STEPS: Final = 100  # the faults that only a sequence shows need five calls on the same record and more

known = precondition(lambda machine: bool(machine._model.records))  # noqa: SLF001  # the machine's own


class StoreMachine(RuleBasedStateMachine):
    """Each rule is one call, answered by both; then every record is compared."""

    def __init__(self, kit: Conformance[AsyncTokenStore], *, expires_by_itself: bool) -> None:
        super().__init__()
        self._kit = kit
        self._expires_by_itself = expires_by_itself
        self._stack = ExitStack()
        self._store = self._stack.enter_context(kit.opened())
        self._model = StoreModel()
        self._selectors: list[str] = []
        self._comparing = False
        self._now = self._keep_until = NOW

    def teardown(self) -> None:
        """Look at what no call was about, too."""
        with self._stack:
            if not self._comparing:  # or it has failed already
                self._look(self._selectors, "at the end")

    @initialize(keep=KEEPS)
    def begin(self, keep: int) -> None:
        for _ in range(2):
            self._add(self._fresh(self._new_selector(), "alice", "mail"), keep)

    @rule(by=st.sampled_from([SECOND, MINUTE, -SECOND, -MINUTE]))
    def time_passes(self, by: timedelta) -> None:
        self._now += by

    @known
    @rule(pick=PICKS, edge=EDGES)
    def a_record_expires(self, pick: int, edge: timedelta) -> None:
        self._now = self._picked(pick).expires_at + edge

    @rule(account=ACCOUNTS, kind=KINDS, keep=KEEPS, code=YES_OR_NO)
    def add(self, account: str, kind: Kind, keep: int, code: bool) -> None:  # noqa: FBT001  # drawn
        self._add(self._fresh(self._new_selector(), account, kind, code=code), keep)

    @known
    @rule(pick=PICKS, edge=EDGES, room=ROOM, keep=KEEPS, decoy=YES_OR_NO)
    def add_within_quotas(self, pick: int, edge: timedelta, room: int, keep: int, decoy: bool) -> None:  # noqa: FBT001  # drawn
        """Room for one more, for none, or for less than there are, from an instant beside that of a record."""
        near = self._picked(pick)
        since = near.created_at + edge
        kindred = [each for each in self._model.records.values() if each.account_id == near.account_id]
        count = len([each for each in kindred if each.kind == near.kind and each.created_at >= since])
        quotas = [Quota(9, since)] * decoy + [Quota(max(0, count + room), since)] + [Quota(9, since)] * (not decoy)
        self._add(self._fresh(self._new_selector(), near.account_id, near.kind), keep, quotas)

    @known
    @rule(pick=PICKS, keep=KEEPS, code=YES_OR_NO, full=YES_OR_NO)
    def add_again(self, pick: int, keep: int, code: bool, full: bool) -> None:  # noqa: FBT001  # drawn
        old = self._picked(pick)
        self._add(self._fresh(old.selector, old.account_id, old.kind, code=code), keep, [Quota(0, NOW)] * full)

    @known
    @rule(pick=PICKS, account=ACCOUNTS)
    def add_under_another_selector(self, pick: int, account: str) -> None:
        self._add(self._fresh(self._picked(pick).selector, account, "mail"), 1)

    @known
    @rule(pick=PICKS, limit=LIMITS)
    def attempt(self, pick: int, limit: int) -> None:
        self._compare(Call("attempt", (self._picked(pick).selector,), {"limit": limit}))

    @known
    @rule(pick=PICKS, claim_id=CLAIM_IDS)
    def claim(self, pick: int, claim_id: str) -> None:
        self._compare(Call("claim", (self._picked(pick).selector,), {"claim_id": claim_id, "now": self._now}))

    @known
    @rule(pick=PICKS, claim_id=CLAIM_IDS, guess=YES_OR_NO)
    def release(self, pick: int, claim_id: str, guess: bool) -> None:  # noqa: FBT001  # drawn
        held = [each for each in self._model.records.values() if each.claim_id]
        self._release((held or [self._picked(pick)])[0].selector, claim_id, guess=guess)

    @known
    @rule(pick=PICKS, claim_id=CLAIM_IDS, guess=YES_OR_NO)
    def a_password_is_refused(self, pick: int, claim_id: str, guess: bool) -> None:  # noqa: FBT001  # drawn
        """The commonest way to a release."""
        selector = self._picked(pick).selector
        if guess:
            self.attempt(pick, 5)
        self.claim(pick, claim_id)
        self._release(selector, claim_id, guess=guess)

    @known
    @rule(pick=PICKS)
    def ask_for_what_is_not_there(self, pick: int) -> None:
        selector = self._picked(pick).selector.upper()
        self._compare(Call("attempt", (selector,), {"limit": 5}))
        self._compare(Call("claim", (selector,), {"claim_id": "c1", "now": self._now}))
        self._release(selector, "c1", guess=True)

    @rule(account=ACCOUNTS)
    def revoke(self, account: str) -> None:
        self._compare(Call("revoke", (account,), {"now": self._now}))

    @known
    @precondition(lambda machine: not machine._expires_by_itself)  # noqa: SLF001  # the machine's own
    @rule(pick=PICKS, edge=EDGES, limit=LIMITS)
    def purge(self, pick: int, edge: timedelta, limit: int) -> None:
        self._compare(Call("purge", (), {"before": self._picked(pick).keep_until + edge, "limit": limit}))

    def _release(self, selector: str, claim_id: str, *, guess: bool) -> None:
        self._compare(Call("release", (selector,), {"claim_id": claim_id, "guess": guess}))

    def _picked(self, pick: int) -> TokenRecord:
        """One of the newest records: they are those that still change."""
        newest = list(self._model.records.values())[-3:]
        return newest[pick % len(newest)]

    def _new_selector(self) -> str:
        self._selectors.append(f"s{len(self._selectors)}")
        return self._selectors[-1]

    def _fresh(self, selector: str, account: str, kind: Kind, *, code: bool = False) -> TokenRecord:
        fields: dict[str, Any] = {"code_hash": "code", "code_expires_at": self._now + MINUTE} if code else {}
        # Unlike all others, for of two that are as old a purge may take either; and not in the order of add.
        apart = len(self._selectors) * MINUTE * (-1 if len(self._selectors) % 2 else 1)
        keep_until = self._now + LIFETIME + RETENTION + apart
        while keep_until in {each.keep_until for each in self._model.records.values()}:
            keep_until += SECOND
        return record(selector, account, at=self._now, kind=kind, keep_until=keep_until, **fields)

    def _add(self, fresh: TokenRecord, keep: int, quotas: list[Quota] | None = None) -> None:
        self._compare(Call("add", (fresh,), {"quotas": quotas or [], "keep": keep}))

    def _compare(self, call: Call) -> None:
        self._comparing = True
        before = dict(self._model.records)
        expected = _answer(call, self._model)
        expect(self._kit.run(_answered(call, self._store)), expected, f"so the contract says of this {call.method}")
        changed = {name for name, each in before.items() if self._model.get(name) is not each}
        self._look({*changed, *self._selectors[-4:], "s", "S0"}, f"after this {call.method}")
        self._comparing = False

    def _look(self, selectors: Iterable[str], when: str) -> None:
        for selector in sorted(selectors):
            with self._kit.transcript.unwritten():
                found = self._kit.run(Call("get", (selector,)).on(self._store))
            expect(found, self._model.get(selector), f"so the contract says of {selector} {when}")


def _answer(call: Call, model: StoreModel) -> object:
    try:
        return call.begin(model)
    except DuplicateSelectorError:
        return DuplicateSelectorError


async def _answered(call: Call, store: AsyncTokenStore) -> object:
    try:
        return await call.on(store)
    except DuplicateSelectorError:
        return DuplicateSelectorError


def explore(kit: Conformance[AsyncTokenStore], *, expires_by_itself: bool) -> None:
    """Run as many sequences as the kit's examples say."""

    class Machine(StoreMachine):
        def __init__(self) -> None:
            super().__init__(kit, expires_by_itself=expires_by_itself)

    run_state_machine_as_test(Machine, settings=settings(exploring(kit), stateful_step_count=STEPS))
