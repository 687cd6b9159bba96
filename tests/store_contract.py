"""The promises of a store as checks: each takes an empty store, and says in its docstring what it proves."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from resetkit import DuplicateSelectorError, Quota, TokenRecord, TokenStore

NOW: Final = datetime(2030, 1, 1, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)
MINUTE: Final = timedelta(minutes=1)
LIFETIME: Final = 30 * MINUTE
RETENTION: Final = timedelta(days=7)

Check = Callable[[TokenStore], None]
CHECKS: Final[dict[str, Check]] = {}


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


def record(selector: str = "s1", account_id: str = "alice", *, at: datetime = NOW, **fields: Any) -> TokenRecord:
    defaults: dict[str, Any] = {
        "kind": "mail",
        "link_hash": f"link hash of {selector}",
        "stamp_digest": "d" * 64,
        "created_at": at,
        "expires_at": at + LIFETIME,
        "keep_until": at + LIFETIME + RETENTION,
    }
    return TokenRecord(selector=selector, account_id=account_id, **(defaults | fields))


def put(store: TokenStore, *records: TokenRecord, keep: int = 99) -> None:
    for each in records:
        assert store.add(each, quotas=(), keep=keep), "add without a quota must insert a fresh selector"


def state(store: TokenStore, selector: str = "s1") -> str:
    found = store.get(selector)
    assert found is not None, f"{selector} is gone"
    return found.state


def claim(store: TokenStore, selector: str = "s1", claim_id: str = "c1", now: datetime = NOW) -> bool:
    return store.claim(selector, claim_id=claim_id, now=now)


def release(store: TokenStore, selector: str = "s1", claim_id: str = "c1", *, guess: bool = False) -> bool:
    return store.release(selector, claim_id=claim_id, guess=guess)


def counting(store: TokenStore, each: TokenRecord, *quotas: Quota, keep: int = 99) -> bool:
    return store.add(each, quotas=quotas, keep=keep)


# get


@check
def a_record_comes_back_as_it_was_added(store: TokenStore) -> None:
    """Every field survives, for a full and for a bare record."""
    full = record(
        "full", code_hash="code hash", code_expires_at=NOW + 10 * MINUTE, kind="operator", account_id="ä \U0001f511 é"
    )
    put(store, full, record("bare"))
    assert store.get("full") == full
    assert store.get("bare") == record("bare")


@check
def an_unknown_selector_is_none(store: TokenStore) -> None:
    """Exact match only: no prefix, suffix, pattern or other case finds a record (CVE-2023-30843)."""
    put(store, record("abCD"))
    for other in ("", "abC", "bCD", "abcd", "ABCD", "abCD ", "ab%", "%", "_bCD", ".*", "' OR 1=1--", "abCD\0"):
        assert store.get(other) is None, f"{other!r} found a record"


@check
def account_ids_are_compared_byte_for_byte(store: TokenStore) -> None:
    """Case, accents, composed forms and trailing spaces make other accounts; 255 characters are kept whole."""
    ids = ["a", "A", "a ", "ａ", "é", "e\u0301", "e", "x" * 255, "x" * 254 + "y", "1", "01", "%", "null", "ſ", "s"]
    for number, account_id in enumerate(ids):
        put(store, record(f"s{number}", account_id))
    for number in range(len(ids)):
        assert claim(store, f"s{number}", f"c{number}"), f"claiming for {ids[number]!r} ended another account's token"
    for number, account_id in enumerate(ids):
        found = store.get(f"s{number}")
        assert found is not None
        assert found.account_id == account_id


# add


@check
def a_quota_refuses_when_it_is_exactly_reached(store: TokenStore) -> None:
    """With a count of 2, two are taken and the third is not, and leaves nothing behind."""
    quota = Quota(2, NOW - MINUTE)
    assert counting(store, record("s1"), quota)
    assert counting(store, record("s2"), quota)
    assert not counting(store, record("s3"), quota, keep=1)
    assert store.get("s3") is None
    assert (state(store, "s1"), state(store, "s2")) == ("outstanding", "outstanding")


@check
def a_quota_counts_from_its_since_on_and_includes_it(store: TokenStore) -> None:
    """Created at `since` counts, a second earlier does not."""
    put(store, record("s1", at=NOW - MINUTE))
    assert not counting(store, record("s2"), Quota(1, NOW - MINUTE))
    assert counting(store, record("s2"), Quota(1, NOW - MINUTE + SECOND))


@check
def a_quota_counts_records_of_any_state(store: TokenStore) -> None:
    """Used, superseded, revoked and expired records count too, or quotas would refill."""
    old = NOW - 40 * MINUTE
    put(store, record("expired", at=old))
    put(store, record("used"))
    claim(store, "used")
    put(store, record("revoked"))
    store.revoke("alice", now=NOW)
    put(store, record("superseded"))
    put(store, record("last"), keep=1)
    assert not counting(store, record("s9"), Quota(5, old))
    assert counting(store, record("s9"), Quota(6, old))


@check
def every_quota_must_have_room(store: TokenStore) -> None:
    """One that is reached refuses, whichever place it has."""
    put(store, record("s1"))
    wide, reached = Quota(9, NOW - MINUTE), Quota(1, NOW - MINUTE)
    assert not counting(store, record("s2"), wide, reached)
    assert not counting(store, record("s2"), reached, wide)
    assert counting(store, record("s2"), wide, Quota(2, NOW - MINUTE))


@check
def a_quota_counts_one_account_and_one_kind(store: TokenStore) -> None:
    """Neither other accounts nor operators' tokens use it up."""
    put(store, record("s1", "bob"), record("s2", kind="operator"))
    assert counting(store, record("s3"), Quota(1, NOW - MINUTE))


@check
def all_but_the_newest_are_superseded(store: TokenStore) -> None:
    """`keep` counts the new one."""
    for number in range(4):
        put(store, record(f"s{number}"), keep=2)
    assert [state(store, f"s{number}") for number in range(4)] == [
        "superseded",
        "superseded",
        "outstanding",
        "outstanding",
    ]


@check
def newest_is_the_order_of_add_not_of_clocks(store: TokenStore) -> None:
    """A clock that went back does not make the newer mail the dead one."""
    put(store, record("s1"))
    put(store, record("s2", at=NOW - 5 * MINUTE), keep=1)
    assert (state(store, "s1"), state(store, "s2")) == ("superseded", "outstanding")


@check
def only_outstanding_ones_are_superseded(store: TokenStore) -> None:
    """Used, revoked and expired records keep their word, so that the right reason can be told."""
    put(store, record("expired", at=NOW - LIFETIME), record("used"))
    claim(store, "used")
    put(store, record("revoked"))
    store.revoke("alice", now=NOW)
    put(store, record("s9"), keep=1)
    states = [state(store, each) for each in ("expired", "used", "revoked", "s9")]
    assert states == ["outstanding", "used", "revoked", "outstanding"]


@check
def an_expired_record_takes_no_place_among_the_newest(store: TokenStore) -> None:
    """Only outstanding ones are kept or superseded: an expired one, however new, pushes none out."""
    put(store, record("s1"))
    put(store, record("short", expires_at=NOW + SECOND), keep=2)
    put(store, record("s3", at=NOW + SECOND), keep=2)
    assert [state(store, each) for each in ("s1", "s3")] == ["outstanding", "outstanding"]


@check
def supersession_stays_within_account_and_kind(store: TokenStore) -> None:
    """A visitor's request ends neither an operator's token nor another account's."""
    put(store, record("s1", kind="operator"), record("s2", "bob"))
    put(store, record("s3"), keep=1)
    put(store, record("s4", kind="operator"), keep=1)
    assert [state(store, f"s{number}") for number in range(1, 5)] == [
        "superseded",
        "outstanding",
        "outstanding",
        "outstanding",
    ]


REPLACEMENT: Final = {
    "link_hash": "new link hash",
    "code_hash": "new code hash",
    "stamp_digest": "e" * 64,
    "expires_at": NOW + LIFETIME + MINUTE,
    "code_expires_at": NOW + 11 * MINUTE,
    "keep_until": NOW + LIFETIME + RETENTION + MINUTE,
}


@check
def a_second_add_replaces_hashes_and_expiries_and_nothing_else(store: TokenStore) -> None:
    """created_at, guesses, kind and state stay."""
    first = record(code_hash="code hash", code_expires_at=NOW + 10 * MINUTE)
    put(store, first)
    store.attempt("s1", limit=5)
    second = replace(first, created_at=NOW + MINUTE, **REPLACEMENT)  # type: ignore[arg-type]  # fields by name
    assert store.add(second, quotas=(), keep=1)
    assert store.get("s1") == replace(first, guesses=1, **REPLACEMENT)  # type: ignore[arg-type]  # fields by name


@check
def a_second_add_may_take_the_code_away(store: TokenStore) -> None:
    """What is replaced is replaced by None too."""
    put(store, record(code_hash="code hash", code_expires_at=NOW + 10 * MINUTE))
    assert store.add(record(), quotas=(), keep=1)
    assert store.get("s1") == record()


@check
def a_second_add_counts_against_no_quota_and_supersedes_nothing(store: TokenStore) -> None:
    """A retried mail is the same mail."""
    put(store, record("s1"), record("s2"))
    assert counting(store, record("s1"), Quota(1, NOW - MINUTE), keep=1)
    assert (state(store, "s1"), state(store, "s2")) == ("outstanding", "outstanding")
    assert not counting(store, record("s3"), Quota(2, NOW - MINUTE))


@check
def a_second_add_keeps_its_place_in_the_order(store: TokenStore) -> None:
    """The older mail does not become the newest by being sent again."""
    put(store, record("s1"), record("s2"))
    assert store.add(record("s1", at=NOW + SECOND), quotas=(), keep=2)
    put(store, record("s3"), keep=2)
    assert [state(store, f"s{number}") for number in (1, 2, 3)] == ["superseded", "outstanding", "outstanding"]


@check
def a_second_add_revives_nothing_that_ended(store: TokenStore) -> None:
    """Used, superseded, revoked and expired records answer False and stay as they are."""
    put(store, record("used"))
    claim(store, "used")
    put(store, record("revoked"))
    store.revoke("alice", now=NOW)
    put(store, record("superseded"))
    put(store, record("s4"), keep=1)
    for ended in ("used", "revoked", "superseded"):
        before = store.get(ended)
        assert not store.add(record(ended), quotas=(), keep=9), f"{ended} was revived"
        assert store.get(ended) == before
    assert not store.add(record("s4", at=NOW + LIFETIME), quotas=(), keep=9), "an expired record was revived"
    assert store.add(record("s4", at=NOW + LIFETIME - SECOND), quotas=(), keep=9)


@check
def a_selector_of_another_account_is_an_error_and_changes_nothing(store: TokenStore) -> None:
    """DuplicateSelectorError, whatever the state of what is there."""
    put(store, record("s1"))
    for _ in range(2):
        try:
            store.add(record("s1", "bob"), quotas=(), keep=1)
        except DuplicateSelectorError:
            pass
        else:
            raise AssertionError("another account's selector was taken")
        found = store.get("s1")
        assert found is not None
        assert found.account_id == "alice"
        store.revoke("alice", now=NOW)


# attempt


@check
def at_most_limit_guesses_are_counted(store: TokenStore) -> None:
    """Each is counted once, and none beyond the limit."""
    put(store, record("s1"), record("s2"))
    assert [store.attempt("s1", limit=3) for _ in range(5)] == [True, True, True, False, False]
    found, other = store.get("s1"), store.get("s2")
    assert found is not None
    assert other is not None
    assert (found.guesses, other.guesses) == (3, 0)


@check
def a_guess_counts_whatever_the_state(store: TokenStore) -> None:
    """An ended record cannot be guessed at for free."""
    put(store, record("s1"))
    claim(store)
    assert [store.attempt("s1", limit=2) for _ in range(3)] == [True, True, False]


@check
def an_attempt_on_nothing_is_false(store: TokenStore) -> None:
    """And makes no record."""
    assert not store.attempt("s1", limit=5)
    assert store.get("s1") is None


# claim


@check
def a_claim_uses_the_record_and_ends_its_siblings_of_every_kind(store: TokenStore) -> None:
    """All other outstanding records of the account are revoked, and nobody else's."""
    put(store, record("s1"), record("s2"), record("s3", kind="operator"), record("s4", "bob"))
    assert claim(store, "s2")
    assert [state(store, f"s{number}") for number in range(1, 5)] == ["revoked", "used", "revoked", "outstanding"]


@check
def a_claim_on_what_is_not_outstanding_is_false_and_changes_nothing(store: TokenStore) -> None:
    """Unknown, used, revoked and superseded ones."""
    assert not claim(store, "nothing")
    put(store, record("used"))
    assert claim(store, "used", "winner")
    put(store, record("revoked"))
    store.revoke("alice", now=NOW)
    put(store, record("superseded"))
    put(store, record("live"), keep=1)
    for ended in ("used", "revoked", "superseded"):
        before = store.get(ended)
        assert not claim(store, ended, "other"), f"{ended} was claimed"
        assert store.get(ended) == before
    assert state(store, "live") == "outstanding", "a losing claim ended a sibling"


@check
def expiry_is_exclusive(store: TokenStore) -> None:
    """At expires_at it is expired; a second before it is not."""
    put(store, record("s1"), record("s2", "bob"))
    assert not claim(store, "s1", now=NOW + LIFETIME)
    assert claim(store, "s2", now=NOW + LIFETIME - SECOND)


@check
def the_winner_is_answered_true_again(store: TokenStore) -> None:
    """A driver that retries after a lost reply must not be told that the link is invalid; others must."""
    put(store, record("s1"))
    assert claim(store, claim_id="winner")
    assert not claim(store, claim_id="other")
    assert claim(store, claim_id="winner")
    assert claim(store, claim_id="winner", now=NOW + LIFETIME)
    assert not claim(store, claim_id="other")


@check
def a_losing_claim_leaves_the_winner_s_right(store: TokenStore) -> None:
    """It may still release, whoever came late, on this record or a dead sibling."""
    put(store, record("s1"), record("s2"))
    claim(store, "s1", "winner")
    claim(store, "s1", "late")
    claim(store, "s2", "late")
    claim(store, "nothing", "late")
    assert release(store, "s1", "winner")


@check
def expired_siblings_keep_their_word(store: TokenStore) -> None:
    """A claim revokes what is outstanding at its instant; what expired by then is told as expired."""
    put(store, record("old", at=NOW - LIFETIME), record("s1"))
    claim(store, "s1")
    assert state(store, "old") == "outstanding"


# release


@check
def a_release_makes_it_outstanding_again_and_revives_no_sibling(store: TokenStore) -> None:
    """And the claim id is gone: the same id may claim anew, once."""
    put(store, record("s1"), record("s2"))
    claim(store, "s1", "winner")
    assert release(store, "s1", "winner")
    assert (state(store, "s1"), state(store, "s2")) == ("outstanding", "revoked")
    found = store.get("s1")
    assert found is not None
    assert found.claim_id is None
    assert claim(store, "s1", "next")
    assert not claim(store, "s1", "winner")


@check
def only_the_holder_may_release(store: TokenStore) -> None:
    """Others, repeats and unknown ones are False and change nothing."""
    put(store, record("s1"))
    assert not release(store, "s1")
    claim(store, "s1", "winner")
    assert not release(store, "s1", "other")
    assert not release(store, "nothing", "winner")
    assert state(store) == "used"
    assert release(store, "s1", "winner")
    assert not release(store, "s1", "winner")


@check
def a_release_takes_back_one_guess_if_it_was_one(store: TokenStore) -> None:
    """Never below none, and not for a link."""
    put(store, record("s1"))
    store.attempt("s1", limit=5)
    store.attempt("s1", limit=5)
    for guess, left in ((False, 2), (True, 1), (True, 0), (True, 0)):
        claim(store)
        assert release(store, guess=guess)
        found = store.get("s1")
        assert found is not None
        assert found.guesses == left


def _late_release(store: TokenStore, meanwhile: Callable[[], object]) -> None:
    put(store, record("s1"))
    claim(store, "s1", "winner")
    meanwhile()
    assert not claim(store, "s1", "winner"), "the winner is still answered True"
    assert not release(store, "s1", "winner"), "a late release was taken"
    assert state(store, "s1") == "used"


@check
def a_late_release_revives_nothing_after_an_add(store: TokenStore) -> None:
    """A newer mail of any kind ended the claim's right."""
    _late_release(store, lambda: put(store, record("s2", kind="operator")))


@check
def a_late_release_revives_nothing_after_a_revoke(store: TokenStore) -> None:
    """An operator's revoke ended it, though nothing was outstanding."""
    _late_release(store, lambda: store.revoke("alice", now=NOW))


@check
def a_late_release_revives_nothing_after_another_claim(store: TokenStore) -> None:
    """A token added and claimed meanwhile ended it."""

    def add_and_claim() -> None:
        put(store, record("s2"))
        assert claim(store, "s2", "second")

    _late_release(store, add_and_claim)
    assert release(store, "s2", "second")


@check
def what_was_refused_takes_no_right_away(store: TokenStore) -> None:
    """An add over quota, another account's add and an unknown revoke change nothing."""
    put(store, record("s1"))
    claim(store, "s1", "winner")
    assert not counting(store, record("s2"), Quota(1, NOW - MINUTE))
    put(store, record("s3", "bob"))
    store.revoke("bob", now=NOW)
    assert release(store, "s1", "winner")


# revoke


@check
def a_revoke_ends_all_outstanding_of_the_account_and_counts_them(store: TokenStore) -> None:
    """Of every kind, of this account only, and not what expired."""
    put(store, record("s1"), record("s2", kind="operator"), record("old", at=NOW - LIFETIME), record("s4", "bob"))
    assert store.revoke("alice", now=NOW) == 2
    assert [state(store, each) for each in ("s1", "s2", "old", "s4")] == [
        "revoked",
        "revoked",
        "outstanding",
        "outstanding",
    ]
    assert store.revoke("alice", now=NOW) == 0
    assert store.revoke("nobody", now=NOW) == 0


# purge


@check
def a_purge_deletes_what_is_past_its_keep_time_only(store: TokenStore) -> None:
    """Strictly before, whatever the state."""
    put(store, record("s1", keep_until=NOW + LIFETIME + MINUTE), record("s2", "bob"))
    assert store.purge(before=NOW + LIFETIME + MINUTE, limit=9) == 0
    assert store.purge(before=NOW + LIFETIME + MINUTE + SECOND, limit=9) == 1
    assert store.get("s1") is None
    assert state(store, "s2") == "outstanding"


@check
def a_purge_takes_the_oldest_first_and_at_most_limit(store: TokenStore) -> None:
    """By keep time, not by order of add."""
    for number in (3, 1, 2):
        put(store, record(f"s{number}", keep_until=NOW + LIFETIME + number * MINUTE))
    late = NOW + timedelta(days=99)
    assert store.purge(before=late, limit=2) == 2
    assert [store.get(f"s{number}") is None for number in (1, 2, 3)] == [True, True, False]
    assert store.purge(before=late, limit=2) == 1
    assert store.purge(before=late, limit=2) == 0


@check
def a_purge_goes_by_the_replaced_keep_time(store: TokenStore) -> None:
    """A second add that prolonged a record prolongs its keeping."""
    put(store, record("s1"))
    store.add(replace(record("s1"), **REPLACEMENT), quotas=(), keep=1)  # type: ignore[arg-type]  # fields by name
    assert store.purge(before=NOW + LIFETIME + RETENTION + SECOND, limit=9) == 0
    assert store.purge(before=NOW + LIFETIME + RETENTION + MINUTE + SECOND, limit=9) == 1


@check
def a_purged_account_can_begin_anew(store: TokenStore) -> None:
    """Nothing of it is left that counts, and the order of add goes on."""
    put(store, record("s1"))
    store.purge(before=NOW + timedelta(days=99), limit=9)
    assert counting(store, record("s1"), Quota(1, NOW - MINUTE))
    put(store, record("s2"), keep=1)
    assert (state(store, "s1"), state(store, "s2")) == ("superseded", "outstanding")


# races


def together(*actions: Callable[[], Any]) -> list[Any]:
    """The answers of actions begun at the same moment, each in its own thread."""
    barrier = threading.Barrier(len(actions))

    def act(action: Callable[[], Any]) -> Any:
        barrier.wait()
        return action()

    with ThreadPoolExecutor(len(actions)) as threads:
        return list(threads.map(act, actions))


def claiming(store: TokenStore, selector: str, number: int) -> Callable[[], bool]:
    return lambda: claim(store, selector, f"c{number}")


def superseding(store: TokenStore, fresh: TokenRecord) -> Callable[[], bool]:
    return lambda: store.add(fresh, quotas=(), keep=1)


def revoking(store: TokenStore, account_id: str) -> Callable[[], int]:
    return lambda: store.revoke(account_id, now=NOW)


def adding(store: TokenStore, selector: str, *quotas: Quota) -> Callable[[], bool]:
    return lambda: counting(store, record(selector), *quotas)


@check
def of_simultaneous_claims_one_wins(store: TokenStore) -> None:
    """Eight threads, in ten rounds (CVE-2026-22751)."""
    for turn in range(10):
        put(store, record(f"s{turn}", f"a{turn}"))
        assert sum(together(*(claiming(store, f"s{turn}", number) for number in range(8)))) == 1


@check
def of_simultaneous_claims_on_siblings_one_wins(store: TokenStore) -> None:
    """Two tokens of one account at once, in ten rounds."""
    for turn in range(10):
        names = [f"s{turn}.{number}" for number in range(4)]
        put(store, *(record(name, f"a{turn}") for name in names))
        assert sum(together(*(claiming(store, name, number) for number, name in enumerate(names)))) == 1
        assert sorted(state(store, name) for name in names) == ["revoked"] * 3 + ["used"]


@check
def a_quota_holds_against_simultaneous_adds(store: TokenStore) -> None:
    """Sixteen at once, three are taken."""
    quota = Quota(3, NOW - MINUTE)
    assert sum(together(*(adding(store, f"s{number}", quota) for number in range(16)))) == 3


@check
def guesses_are_bounded_however_parallel(store: TokenStore) -> None:
    """Sixteen threads, five guesses (CVE-2019-5421)."""
    put(store, record("s1"))
    assert sum(together(*[lambda: store.attempt("s1", limit=5)] * 16)) == 5


@check
def an_add_against_a_claim_ends_in_one_of_the_two_orders(store: TokenStore) -> None:
    """Either the claim came first and the new one lives, or the add did and was revoked."""
    for turn in range(10):
        old, new, account = f"o{turn}", f"n{turn}", f"a{turn}"
        put(store, record(old, account))
        taken, added = together(claiming(store, old, 1), superseding(store, record(new, account)))
        assert added
        found = (state(store, old), state(store, new))
        assert found in {("used", "outstanding"), ("superseded", "outstanding")} | (
            {("used", "revoked")} if taken else set()
        )
        assert taken == (found[0] == "used")


@check
def a_revoke_against_a_claim_ends_in_one_of_the_two_orders(store: TokenStore) -> None:
    """Used, or revoked, and in both cases the other is told so."""
    for turn in range(10):
        put(store, record(f"s{turn}", f"a{turn}"))
        taken, count = together(claiming(store, f"s{turn}", 1), revoking(store, f"a{turn}"))
        assert (state(store, f"s{turn}"), taken, count) in {("used", True, 0), ("revoked", False, 1)}
