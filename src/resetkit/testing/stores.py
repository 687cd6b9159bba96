"""The promises of a token store, each as a test: subclass `TokenStoreConformance` or its async twin.

The author writes ``open_store``. Three abilities are optional, and declared by implementing them: `other_process` (the
store can be opened from another process), `dump` (all that the backend keeps), `drivers` (modules whose calls can be
made to fail).
"""

from collections.abc import Awaitable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar, Final

from resetkit._colour import Colour, check_port
from resetkit._sync import LiftedStore
from resetkit.errors import ConfigurationError, DuplicateSelectorError
from resetkit.protocols import AsyncTokenStore, TokenStore
from resetkit.testing._faults import check_cancelled, check_failing_driver, check_killed
from resetkit.testing._kit import (
    Async,
    BrokenPromiseError,
    Conformance,
    MisuseError,
    Sync,
    expect,
    expect_that,
    explored_promise,
    promise,
    undeclared,
)
from resetkit.testing._logs import listening, told_by
from resetkit.testing._minting import mint
from resetkit.testing._processes import Opener, Others
from resetkit.testing._records import (
    DAY,
    LIFETIME,
    MINUTE,
    NOW,
    REPLACEMENT,
    RETENTION,
    SECOND,
    Call,
    claiming,
    record,
)
from resetkit.values import Quota, TokenRecord

_THREADS: Final = 8
_PROCESSES: Final = 4
_ROUNDS: Final = 10
_MARK: Final = "resetkit-hidden-"  # begins whatever nobody may see

# Text that databases fold, cut, trim or reinterpret; each is another account. Sources: CVE-2019-19844 (case of
# dotless i), MySQL's default collations (accents, trailing spaces, sharp s), utf8mb3 (characters beyond the BMP).
NASTY_IDS: Final = (
    *(
        "a",
        "A",
        "a ",
        " a",
        "a\t",
        "ａ",
        "ª",
        "é",
        "e\u0301",
        "e",
        "ß",
        "ss",
        "ſ",
        "s",
        "ı",
        "i",
        "İ",
        "I",
        "\u212a",
        "k",
        "K",
    ),
    *(
        "1",
        "01",
        "1.0",
        "+1",
        "１",
        "null",
        "None",
        "%",
        "_",
        "*",
        "?",
        "{a}",
        "a:b",
        "a/b",
        "a\\b",
        "'",
        '"',
        "--",
        ";",
        "\n",
    ),
    *("\U0001f511", "\U0001f510", "\u202ea", "\u200ba", "\ufeffa", "x" * 255, "x" * 254 + "y", "\U0001f511" * 255),
)


# What the checks say again and again.


async def put(store: AsyncTokenStore, *records: TokenRecord, keep: int = 99) -> None:
    """Add without a quota."""
    for each in records:
        expect(await store.add(each, quotas=(), keep=keep), True, "an add without a quota takes a new selector")


async def read(store: AsyncTokenStore, selector: str = "s1") -> TokenRecord:
    """The record, which must be there."""
    found = await store.get(selector)
    if found is None:
        raise BrokenPromiseError(f"expected the record {selector}, got None")
    return found


async def states(store: AsyncTokenStore, *selectors: str) -> list[str]:
    """What became of records."""
    return [(await read(store, each)).state for each in selectors]


async def claim(store: AsyncTokenStore, selector: str = "s1", claim_id: str = "c1") -> bool:
    """Claim at T."""
    return await store.claim(selector, claim_id=claim_id, now=NOW)


async def release(store: AsyncTokenStore, selector: str = "s1", claim_id: str = "c1", *, guess: bool = False) -> bool:
    """Release what a link had claimed, or with `guess` a code."""
    return await store.release(selector, claim_id=claim_id, guess=guess)


async def end_three(store: AsyncTokenStore) -> None:
    """Records of alice that ended in each of the three ways, and ``live``, which did not."""
    await put(store, record("used"))
    expect(await claim(store, "used", "winner"), True, "it was outstanding")
    await put(store, record("revoked"))
    expect(await store.revoke("alice", now=NOW), 1, "one was outstanding")
    await put(store, record("superseded"))
    await put(store, record("live"), keep=1)


ENDED: Final = ("used", "revoked", "superseded")


class TokenStoreChecks(Conformance[AsyncTokenStore], shipped=True):
    """What both colours promise."""

    port = "TokenStore"
    opens = "open_store"
    expires_by_itself: ClassVar[bool] = False
    """Whether the backend deletes entries at their ``keep_until`` by itself, so that `purge` may answer 0."""

    adapter: Any
    """The opened store as the author made it."""

    # get

    @promise("get")
    async def test_a_record_comes_back_as_it_was_added(self, store: AsyncTokenStore) -> None:
        """Every field comes back as it was added, times aware, in UTC and to the second.

        For a full record and for one without what is optional, at T, in odd seconds and beyond 2038.
        """
        later = NOW.replace(year=NOW.year + 10, second=59)
        full = record("full", "ä \U0001f511 é", kind="operator", code_hash="code hash", code_expires_at=NOW + MINUTE)
        for each in (full, record("bare"), record("odd", "bob", at=NOW + 17 * SECOND), record("late", "c", at=later)):
            await put(store, each)
            found = await read(store, each.selector)
            expect(found, each, "a record comes back whole")
            offset = found.created_at.utcoffset()
            expect(offset, timedelta(0), "times come back aware and in UTC")

    @promise("get")
    async def test_long_hashes_come_back_whole(self, store: AsyncTokenStore) -> None:
        """Hashes come back as the text that they are: 512 ASCII characters, or digits that are no number."""
        longest = "".join(chr(33 + number % 94) for number in range(512))
        for number, (one, other) in enumerate([(longest, longest[::-1]), ("0012", "1e3"), ("-0", " 1 ")]):
            odd = record(f"s{number}", link_hash=one, code_hash=other, stamp_digest=one, code_expires_at=NOW + MINUTE)
            await put(store, odd)
            expect(await read(store, f"s{number}"), odd, "a hash is text, and hashers may need as much")

    @promise("get")
    async def test_a_selector_is_matched_exactly(self, store: AsyncTokenStore) -> None:
        """Only the very selector finds a record: no prefix, suffix, pattern, other case or other type of text.

        CVE-2023-30843 and its like read secrets through an operator in the place of text.
        """
        await put(store, record("abCD"))
        others = ("", "abC", "bCD", "abcd", "ABCD", "abCD ", " abCD", "ab%", "%", "_bCD", "ab*", ".*", "' OR 1=1--")
        for other in others:
            expect(await store.get(other), None, f"{other!r} is not the selector")
            expect(await claim(store, other), False, f"{other!r} is not the selector")
            expect(await store.attempt(other, limit=5), False, f"{other!r} is not the selector")
            expect(await release(store, other), False, f"{other!r} is not the selector")
        expect(await read(store, "abCD"), record("abCD"), "nothing was done to it")

    @promise("get")
    async def test_look_alike_selectors_are_different_records(self, store: AsyncTokenStore) -> None:
        """Of selectors that differ in case, are patterns of each other or equal as numbers, each finds its own."""
        alike = ("abCD", "ABcd", "abcd", "ab_D", "ab%", "007", "7", "1E2", "100")
        await put(store, *(record(each, f"account of {each}") for each in alike))
        for number, selector in enumerate(alike):
            expect(await store.attempt(selector, limit=1), True, "nobody guessed at it")
            expect(await claim(store, selector, f"c{number}"), True, "it is outstanding")
            found = [(await read(store, each)).state for each in alike]
            expect(
                found, ["used"] * (number + 1) + ["outstanding"] * (len(alike) - number - 1), f"{selector} was claimed"
            )
        for number, selector in enumerate(alike):
            expect(await release(store, selector, f"c{number}"), True, f"c{number} holds it")

    @promise("add")
    async def test_account_ids_are_compared_byte_for_byte(self, store: AsyncTokenStore) -> None:
        """Ids that differ in case, accent, form, spaces or the 255th character are different accounts."""
        for number, account_id in enumerate(NASTY_IDS):
            await put(store, record(f"s{number}", account_id), keep=1)
        for number, account_id in enumerate(NASTY_IDS):
            found = await read(store, f"s{number}")
            expect(found.account_id, account_id, "an id comes back byte for byte")
            expect(found.state, "outstanding", "another account's tokens are of no concern to it")
            expect(await claim(store, f"s{number}", f"c{number}"), True, "no other account's claim ended it")
        for number, account_id in enumerate(NASTY_IDS):
            await put(store, record(f"t{number}", account_id))
        for account_id in NASTY_IDS:
            expect(await store.revoke(account_id, now=NOW), 1, f"{account_id!r} has one outstanding record")

    @promise("add")
    async def test_answers_are_of_the_promised_types(self, store: AsyncTokenStore) -> None:
        """Decisions are True or False, counts are whole numbers, and nothing else that passes for them."""
        for _ in range(2):
            answers: list[tuple[str, object, type]] = [
                ("add", await store.add(record(), quotas=[Quota(9, NOW)], keep=1), bool),
                ("add over quota", await store.add(record("s2"), quotas=[Quota(0, NOW)], keep=1), bool),
                ("attempt", await store.attempt("s1", limit=1), bool),
                ("claim", await claim(store), bool),
                ("release", await release(store), bool),
                ("revoke", await store.revoke("alice", now=NOW), int),
                ("purge", await store.purge(before=NOW, limit=9), int),
            ]
            for method, answer, kind in answers:
                expect_that(type(answer) is kind, f"{method} answers with {kind.__name__}, not {answer!r}")

    # Quotas.

    @promise("add")
    async def test_a_quota_refuses_when_it_is_exactly_reached(self, store: AsyncTokenStore) -> None:
        """With a count of 2, two records are taken; the third is refused, is not there, and changes nothing."""
        quotas = [Quota(2, NOW - MINUTE)]
        expect(await store.add(record("s1"), quotas=quotas, keep=9), True, "the first of two")
        expect(await store.add(record("s2"), quotas=quotas, keep=9), True, "the second of two")
        expect(await store.add(record("s3"), quotas=quotas, keep=1), False, "the quota is reached")
        expect(await store.get("s3"), None, "a refused add leaves nothing behind")
        expect(await states(store, "s1", "s2"), ["outstanding"] * 2, "a refused add supersedes nothing")

    @promise("add")
    async def test_a_quota_of_none_refuses_all(self, store: AsyncTokenStore) -> None:
        """A count of 0 takes no record, not even the account's first."""
        expect(await store.add(record(), quotas=[Quota(0, NOW)], keep=1), False, "nothing may be taken")
        expect(await store.get("s1"), None, "a refused add leaves nothing behind")

    @promise("add")
    async def test_a_quota_counts_from_its_since_on_and_includes_it(self, store: AsyncTokenStore) -> None:
        """A record created at the very instant `since` counts; one created a second earlier does not."""
        await put(store, record("s1", at=NOW - MINUTE))
        at, after = Quota(1, NOW - MINUTE), Quota(1, NOW - MINUTE + SECOND)
        expect(await store.add(record("s2"), quotas=[at], keep=9), False, "created at since")
        expect(await store.add(record("s2"), quotas=[after], keep=9), True, "created a second before since")

    @promise("add")
    async def test_a_quota_counts_records_of_any_state(self, store: AsyncTokenStore) -> None:
        """Used, superseded, revoked and expired records count too: else a quota refills by itself."""
        old = NOW - 40 * MINUTE
        await put(store, record("expired", at=old))
        await end_three(store)
        expect(await store.add(record("s9"), quotas=[Quota(5, old)], keep=9), False, "there are five")
        expect(await store.add(record("s9"), quotas=[Quota(6, old)], keep=9), True, "there are five")

    @promise("add")
    async def test_every_quota_must_have_room(self, store: AsyncTokenStore) -> None:
        """One quota that is reached refuses, whichever place it has in the list."""
        await put(store, record("s1"))
        wide, reached = Quota(9, NOW - MINUTE), Quota(1, NOW - MINUTE)
        for place in range(5):
            quotas = [reached if number == place else wide for number in range(5)]
            expect(await store.add(record("s2"), quotas=quotas, keep=9), False, f"number {place + 1} is reached")
        expect(await store.add(record("s2"), quotas=[wide, Quota(2, NOW)], keep=9), True, "both have room")

    @promise("add")
    async def test_a_quota_counts_one_account_and_one_kind(self, store: AsyncTokenStore) -> None:
        """Neither other accounts' records nor an operator's use a quota up."""
        await put(store, record("s1", "bob"), record("s2", kind="operator"))
        expect(await store.add(record("s3"), quotas=[Quota(1, NOW - MINUTE)], keep=9), True, "alice has no mail yet")

    # Supersession.

    @promise("add")
    async def test_all_but_the_newest_are_superseded(self, store: AsyncTokenStore) -> None:
        """Of the account's outstanding records the newest `keep` stay, the new one included."""
        await put(store, *(record(f"s{number}") for number in range(4)), keep=2)
        found = await states(store, "s0", "s1", "s2", "s3")
        expect(found, ["superseded", "superseded", "outstanding", "outstanding"], "two are kept")
        many = [f"b{number}" for number in range(12)]
        await put(store, *(record(name, "bob") for name in many), keep=12)
        expect(await states(store, *many), ["outstanding"] * 12, "twelve are kept")
        await put(store, record("last", "bob"), keep=1)
        expect(await states(store, *many, "last"), ["superseded"] * 12 + ["outstanding"], "one is kept")

    @promise("add")
    async def test_newest_is_the_order_of_add_not_of_clocks(self, store: AsyncTokenStore) -> None:
        """A record added later is newer even if its clock went back, or stood still."""
        await put(store, record("s1"))
        await put(store, *(record(f"s{number}", at=NOW - number * MINUTE) for number in (2, 3)), keep=2)
        found = await states(store, "s1", "s2", "s3")
        expect(found, ["superseded", "outstanding", "outstanding"], "s2 and s3 were added last")
        await put(store, *(record(name, "bob") for name in ("z", "m", "a", "q")), keep=2)
        found = await states(store, "z", "m", "a", "q")
        expect(found, ["superseded", "superseded", "outstanding", "outstanding"], "a and q were added last")

    @promise("add")
    async def test_only_outstanding_records_are_superseded(self, store: AsyncTokenStore) -> None:
        """Used, revoked and expired records keep their state, so that a visitor is told the right reason."""
        await put(store, record("expired", at=NOW - LIFETIME))
        await end_three(store)
        await put(store, record("s9"), keep=1)
        found = await states(store, "expired", *ENDED, "live", "s9")
        expect(found, ["outstanding", *ENDED, "superseded", "outstanding"], "only live was outstanding at T")

    @promise("add")
    async def test_an_expired_record_takes_no_place_among_the_newest(self, store: AsyncTokenStore) -> None:
        """Only what is outstanding is kept or superseded: an expired record, however new, pushes none out."""
        await put(store, record("s1"))
        await put(store, record("short", expires_at=NOW + SECOND), keep=2)
        await put(store, record("s3", at=NOW + SECOND), keep=2)
        expect(await states(store, "s1", "s3"), ["outstanding"] * 2, "short expired at T+1s")

    @promise("add")
    async def test_supersession_stays_within_account_and_kind(self, store: AsyncTokenStore) -> None:
        """A visitor's mail ends no operator's token, nor another account's; an operator's ends no mail's."""
        await put(store, record("s1", kind="operator"), record("s2", "bob"))
        await put(store, record("s3"), keep=1)
        await put(store, record("s4", kind="operator"), keep=1)
        found = await states(store, "s1", "s2", "s3", "s4")
        expect(found, ["superseded", "outstanding", "outstanding", "outstanding"], "only s4 is of the kind of s1")

    # An add under a selector that exists.

    @promise("add")
    async def test_a_second_add_replaces_hashes_and_expiries_and_nothing_else(self, store: AsyncTokenStore) -> None:
        """Under an outstanding selector, hashes, stamp digest, expiries and keep time are replaced; all else stays."""
        first = record(code_hash="code hash", code_expires_at=NOW + 10 * MINUTE)
        await put(store, first)
        expect(await store.attempt("s1", limit=5), True, "the first guess of five")
        stays = {"created_at": NOW + MINUTE, "kind": "operator", "guesses": 4, "state": "used", "claim_id": "c9"}
        second = replace(first, **(REPLACEMENT | stays))
        expect(await store.add(second, quotas=(), keep=1), True, "the record is outstanding")
        expect(await read(store), replace(first, guesses=1, **REPLACEMENT), "only these are replaced")

    @promise("add")
    async def test_a_second_add_may_take_the_code_away(self, store: AsyncTokenStore) -> None:
        """What the second record does not have is gone, not left over from the first."""
        await put(store, record(code_hash="code hash", code_expires_at=NOW + 10 * MINUTE))
        await put(store, record())
        expect(await read(store), record(), "the second had no code")

    @promise("add")
    async def test_a_second_add_counts_against_no_quota_and_supersedes_nothing(self, store: AsyncTokenStore) -> None:
        """A mail that is sent again is the same mail: no quota counts it, and no other link dies of it."""
        await put(store, record("s1"), record("s2"))
        full = [Quota(1, NOW - MINUTE)]
        expect(await store.add(record("s1"), quotas=full, keep=1), True, "an existing selector is not counted")
        expect(await states(store, "s1", "s2"), ["outstanding"] * 2, "nothing was added that could supersede")
        expect(await store.add(record("s3"), quotas=[Quota(2, NOW)], keep=9), False, "there are two")
        expect(await store.add(record("s3"), quotas=[Quota(3, NOW)], keep=9), True, "there are two")

    @promise("add")
    async def test_a_second_add_keeps_its_place_in_the_order(self, store: AsyncTokenStore) -> None:
        """The older mail does not become the newest by being sent again."""
        await put(store, record("s1"), record("s2"))
        await put(store, record("s1", at=NOW + SECOND), keep=2)
        await put(store, record("s3"), keep=2)
        found = await states(store, "s1", "s2", "s3")
        expect(found, ["superseded", "outstanding", "outstanding"], "s1 was added first")

    @promise("add")
    async def test_a_second_add_takes_no_claim_away(self, store: AsyncTokenStore) -> None:
        """A refused second add leaves the winner of a claim its right to be answered again and to release."""
        await put(store, record())
        expect(await claim(store), True, "it was outstanding")
        expect(await store.add(record(), quotas=(), keep=1), False, "it is used")
        expect(await claim(store), True, "c1 still holds it")
        expect(await release(store), True, "c1 still holds it")

    @promise("add")
    async def test_a_second_add_revives_nothing_that_ended(self, store: AsyncTokenStore) -> None:
        """Under the selector of a used, superseded, revoked or expired record: False, and it stays as it is."""
        await end_three(store)
        for ended in ENDED:
            before = await read(store, ended)
            expect(await store.add(record(ended), quotas=(), keep=9), False, f"it is {ended}")
            expect(await read(store, ended), before, "a refused add changes nothing")
        at_end = record("live", at=NOW + LIFETIME)
        expect(await store.add(at_end, quotas=(), keep=9), False, "at its expires_at a record is expired")
        just_before = record("live", at=NOW + LIFETIME - SECOND)
        expect(await store.add(just_before, quotas=(), keep=9), True, "a second before expires_at it is not")

    @promise("add")
    async def test_a_selector_of_another_account_is_an_error_and_changes_nothing(self, store: AsyncTokenStore) -> None:
        """DuplicateSelectorError, whatever the state of what is there; nothing is overwritten."""
        await put(store, record())
        for _ in range(2):
            before = await read(store)
            try:
                await store.add(record("s1", "bob", link_hash="bob's"), quotas=(), keep=1)
            except DuplicateSelectorError:
                pass
            else:
                raise BrokenPromiseError("expected DuplicateSelectorError: s1 belongs to alice")
            expect(await read(store), before, "nothing is overwritten")
            await store.revoke("alice", now=NOW)
        await put(store, record("s2", "bob"))

    # attempt

    @promise("attempt")
    async def test_at_most_limit_guesses_are_counted(self, store: AsyncTokenStore) -> None:
        """With a limit of 3, three guesses are counted and answered True, and no more; other records have their own."""
        await put(store, record("s1"), record("s2"))
        found = [await store.attempt("s1", limit=3) for _ in range(5)]
        expect(found, [True, True, True, False, False], "three may be compared")
        expect((await read(store, "s1")).guesses, 3, "the record says how many were counted")
        expect((await read(store, "s2")).guesses, 0, "nobody guessed at s2")
        more = [await store.attempt("s1", limit=12) for _ in range(11)]
        expect(more, [True] * 9 + [False] * 2, "a limit of 12 leaves room for nine more")

    @promise("attempt")
    async def test_a_guess_counts_whatever_the_state(self, store: AsyncTokenStore) -> None:
        """An ended record is not guessed at for free, and guessing ends or revives nothing."""
        await end_three(store)
        for selector in (*ENDED, "live"):
            before = await read(store, selector)
            found = [await store.attempt(selector, limit=2) for _ in range(3)]
            expect(found, [True, True, False], f"two guesses at what is {selector}")
            expect(await read(store, selector), replace(before, guesses=2), "only the count moves")

    @promise("attempt")
    async def test_an_attempt_on_nothing_is_false(self, store: AsyncTokenStore) -> None:
        """Without a record there is nothing to compare, and none is made."""
        expect(await store.attempt("s1", limit=5), False, "there is no record")
        expect(await store.get("s1"), None, "an attempt makes no record")

    # claim

    @promise("claim")
    async def test_a_claim_uses_the_record_and_ends_its_siblings_of_every_kind(self, store: AsyncTokenStore) -> None:
        """A winning claim marks the record used, the account's other outstanding ones revoked, and nobody else's."""
        await put(store, record("s1"), record("s2"), record("s3", kind="operator"), record("s4", "bob"))
        expect(await claim(store, "s2"), True, "it is outstanding")
        found = await states(store, "s1", "s2", "s3", "s4")
        expect(found, ["revoked", "used", "revoked", "outstanding"], "s4 is bob's")
        expect((await read(store, "s2")).claim_id, "c1", "the record says who holds it")

    @promise("claim")
    async def test_a_claim_on_what_is_not_outstanding_is_false_and_changes_nothing(
        self, store: AsyncTokenStore
    ) -> None:
        """Unknown, used, revoked and superseded records are not won, and a losing claim ends no sibling."""
        await end_three(store)
        expect(await claim(store, "nothing"), False, "there is no such record")
        for ended in ENDED:
            before = await read(store, ended)
            expect(await claim(store, ended, "other"), False, f"it is {ended}")
            expect(await read(store, ended), before, "a losing claim changes nothing")
        expect(await states(store, "live"), ["outstanding"], "a losing claim ends no sibling")

    @promise("claim")
    async def test_expiry_is_exclusive(self, store: AsyncTokenStore) -> None:
        """At the very instant expires_at a record cannot be claimed; a second before it can."""
        await put(store, record("s1"), record("s2", "bob"))
        end = NOW + LIFETIME
        expect(await store.claim("s1", claim_id="c1", now=end), False, "at expires_at it is expired")
        expect((await read(store)).state, "outstanding", "expiry is no state")
        expect(await store.claim("s2", claim_id="c1", now=end - SECOND), True, "a second before it is not")

    @promise("claim")
    async def test_the_winner_is_answered_true_again(self, store: AsyncTokenStore) -> None:
        """Who won is told so as often as they ask, even after expiry; nobody else ever is.

        Drivers retry when a reply is lost, and the winner must not be told that the link is invalid.
        """
        await put(store, record())
        expect(await claim(store, claim_id="winner"), True, "it is outstanding")
        expect(await claim(store, claim_id="other"), False, "winner holds it")
        expect(await claim(store, claim_id="winner"), True, "a repeat of the winner")
        for later in (LIFETIME, 99 * DAY):
            again = await store.claim("s1", claim_id="winner", now=NOW + later)
            expect(again, True, "a repeat of the winner after expiry")
        expect(await claim(store, claim_id="other"), False, "winner holds it")

    @promise("claim")
    async def test_claim_ids_are_compared_byte_for_byte(self, store: AsyncTokenStore) -> None:
        """Only the very id that won holds the record: no other case, beginning, pattern or equal number, at 255 too."""
        ids = ("abCD", "c" * 254 + "1", "0012", "1e3")
        for number, claim_id in enumerate(ids):
            name = f"s{number}"
            await put(store, record(name, f"a{number}"))
            expect(await claim(store, name, claim_id), True, "it is outstanding")
            expect((await read(store, name)).claim_id, claim_id, "a claim id comes back byte for byte")
            others = {claim_id.swapcase(), claim_id[:-1], claim_id[:32], f"{claim_id} ", "%", "", "12", "1000"} - {
                claim_id
            }
            for other in sorted(others):
                expect(await claim(store, name, other), False, f"{other!r} is another id")
                expect(await release(store, name, other), False, f"{other!r} is another id")
            expect(await claim(store, name, claim_id), True, "it is the winner")
            expect(await release(store, name, claim_id), True, "it is the winner")

    @promise("claim")
    async def test_a_losing_claim_leaves_the_winners_right(self, store: AsyncTokenStore) -> None:
        """Whoever loses, on this record, on a dead sibling or on nothing, takes no right from the winner."""
        await put(store, record("s1"), record("s2"))
        expect(await claim(store, "s1", "winner"), True, "it is outstanding")
        for selector in ("s1", "s2", "nothing"):
            expect(await claim(store, selector, "late"), False, "winner ended it, or it never was")
        expect(await release(store, "s1", "winner"), True, "winner still holds it")

    @promise("claim")
    async def test_expired_siblings_keep_their_state(self, store: AsyncTokenStore) -> None:
        """A claim revokes what is outstanding at its instant; what expired before is told as expired."""
        await put(store, record("old", at=NOW - LIFETIME), record("s1"))
        expect(await claim(store), True, "it is outstanding")
        expect(await states(store, "old"), ["outstanding"], "it had expired by itself")

    # release

    @promise("release")
    async def test_a_release_makes_it_outstanding_again_and_revives_no_sibling(self, store: AsyncTokenStore) -> None:
        """A released record can be claimed anew, once; the siblings that the claim revoked stay revoked."""
        await put(store, record("s1"), record("s2"))
        expect(await claim(store, "s1", "winner"), True, "it is outstanding")
        expect(await release(store, "s1", "winner"), True, "winner holds it")
        expect(await states(store, "s1", "s2"), ["outstanding", "revoked"], "only s1 was released")
        expect((await read(store)).claim_id, None, "nobody holds it")
        expect(await claim(store, "s1", "next"), True, "it is outstanding again")
        expect(await claim(store, "s1", "winner"), False, "next holds it")

    @promise("release")
    async def test_only_the_holder_may_release(self, store: AsyncTokenStore) -> None:
        """A release by another id, before any claim, a second time or of nothing is False and changes nothing."""
        await put(store, record())
        expect(await release(store), False, "nobody claimed it")
        expect(await claim(store, claim_id="winner"), True, "it is outstanding")
        expect(await release(store, claim_id="other"), False, "winner holds it")
        expect(await release(store, "nothing", "winner"), False, "there is no such record")
        expect(await states(store, "s1"), ["used"], "a refused release changes nothing")
        expect(await release(store, claim_id="winner"), True, "winner holds it")
        expect(await release(store, claim_id="winner"), False, "nobody holds it any more")

    @promise("release")
    async def test_a_release_takes_back_one_guess_if_it_was_one(self, store: AsyncTokenStore) -> None:
        """With `guess` one counted guess is taken back, never below none; without it the count stays."""
        await put(store, record())
        for _ in range(2):
            expect(await store.attempt("s1", limit=5), True, "two guesses of five")
        for guess, left in ((False, 2), (True, 1), (True, 0), (True, 0)):
            expect(await claim(store), True, "it is outstanding")
            expect(await release(store, guess=guess), True, "c1 holds it")
            expect((await read(store)).guesses, left, f"released with guess={guess}")

    @promise("release")
    async def test_a_refused_release_takes_back_no_guess(self, store: AsyncTokenStore) -> None:
        """Only who holds the record gets the guess back: else guessing is free."""
        await put(store, record())
        expect(await store.attempt("s1", limit=1), True, "the first guess")
        expect(await release(store, guess=True), False, "nobody claimed it")
        expect(await claim(store, claim_id="winner"), True, "it is outstanding")
        expect(await release(store, claim_id="other", guess=True), False, "winner holds it")
        expect((await read(store)).guesses, 1, "a refused release changes nothing")

    @promise("release")
    async def test_a_late_release_revives_nothing_after_an_add(self, store: AsyncTokenStore) -> None:
        """A later add of the account, of any kind, ends the right to be answered True again and to release."""
        await _claimed(store)
        await put(store, record("s2", kind="operator"))
        await _without_right(store)

    @promise("release")
    async def test_a_late_release_revives_nothing_after_a_revoke(self, store: AsyncTokenStore) -> None:
        """A later revoke of the account ends that right, though nothing was outstanding."""
        await _claimed(store)
        expect(await store.revoke("alice", now=NOW), 0, "nothing is outstanding")
        await _without_right(store)

    @promise("release")
    async def test_a_late_release_revives_nothing_after_another_claim(self, store: AsyncTokenStore) -> None:
        """A later winning claim of the account ends that right; the later one has it.

        Also by a clock that went back, so that a record lives again which had expired when the first claim won.
        """
        await put(store, record("s1"), record("s2", expires_at=NOW + SECOND))
        first = await store.claim("s1", claim_id="winner", now=NOW + SECOND)
        expect(first, True, "it is outstanding, and s2 has expired")
        expect(await claim(store, "s2", "second"), True, "at T it has not expired")
        await _without_right(store)
        expect(await release(store, "s2", "second"), True, "second holds it")

    @promise("release")
    async def test_what_was_refused_takes_no_right_away(self, store: AsyncTokenStore) -> None:
        """An add over quota, and another account's add, claim and revoke leave the winner's right alone."""
        await _claimed(store)
        expect(await store.add(record("s2"), quotas=[Quota(1, NOW)], keep=9), False, "there is one")
        await put(store, record("s3", "bob"))
        expect(await claim(store, "s3"), True, "it is outstanding")
        expect(await store.revoke("bob", now=NOW), 0, "nothing of bob's is outstanding")
        expect(await release(store, "s1", "winner"), True, "winner still holds it")

    # revoke

    @promise("revoke")
    async def test_a_revoke_ends_all_outstanding_of_the_account_and_counts_them(self, store: AsyncTokenStore) -> None:
        """Of every kind, of this account only, not what expired, and a second revoke finds none."""
        old = record("old", at=NOW - LIFETIME)
        await put(store, record("s1"), record("s2", kind="operator"), old, record("s4", "bob"))
        expect(await store.revoke("alice", now=NOW), 2, "old is expired, s4 is bob's")
        found = await states(store, "s1", "s2", "old", "s4")
        expect(found, ["revoked", "revoked", "outstanding", "outstanding"], "old is expired, s4 is bob's")
        expect(await store.revoke("alice", now=NOW), 0, "all have ended")
        expect(await store.revoke("nobody", now=NOW), 0, "there is no such account")

    @promise("revoke")
    async def test_a_revoke_leaves_what_ended_as_it_is(self, store: AsyncTokenStore) -> None:
        """Used and superseded records keep their state, so that a visitor is told the right reason."""
        await end_three(store)
        expect(await store.revoke("alice", now=NOW), 1, "only live is outstanding")
        expect(await states(store, *ENDED, "live"), [*ENDED, "revoked"], "only live was outstanding")

    # purge

    @promise("purge")
    async def test_a_purge_deletes_what_is_past_its_keep_time_only(self, store: AsyncTokenStore) -> None:
        """Strictly before, whatever the state: at the very instant keep_until a record is still kept.

        A backend that expires entries by itself may answer 0; then it must keep them until their time.
        """
        end = NOW + LIFETIME + MINUTE
        await put(store, record("s1", keep_until=end), record("s2", "bob"))
        expect(await claim(store), True, "it is outstanding")
        expect(await store.purge(before=end, limit=9), 0, "at its keep_until it is kept")
        expect(await states(store, "s1", "s2"), ["used", "outstanding"], "nothing was deleted")
        if await self._purged(store, end + SECOND, limit=9, expected=1):
            expect(await store.get("s1"), None, "it was purged")
        expect(await states(store, "s2"), ["outstanding"], "its keep_until is a week away")

    @promise("purge")
    async def test_a_purge_takes_the_oldest_first_and_at_most_limit(self, store: AsyncTokenStore) -> None:
        """By keep_until, not by the order of add or of expiry; what is left waits for the next call."""
        names = ("s1", "s2", "s3")
        for number in (3, 1, 2):
            expires_at, keep_until = NOW + (9 - number) * MINUTE, NOW + LIFETIME + number * MINUTE
            await put(store, record(f"s{number}", expires_at=expires_at, keep_until=keep_until))
        late = NOW + 99 * DAY
        if await self._purged(store, late, limit=2, expected=2):
            gone = [await store.get(name) is None for name in names]
            expect(gone, [True, True, False], "s1 and s2 are the oldest")
            expect(await store.purge(before=late, limit=2), 1, "one was left")
            expect(await store.purge(before=late, limit=2), 0, "none was left")
            await put(store, *(record(f"t{number}") for number in range(12)))
            expect(await store.purge(before=late, limit=99), 12, "twelve are past")

    @promise("purge")
    async def test_a_purge_goes_by_the_replaced_keep_time(self, store: AsyncTokenStore) -> None:
        """A second add that prolonged a record prolongs its keeping."""
        await put(store, record())
        await put(store, replace(record(), **REPLACEMENT))
        first, second = NOW + LIFETIME + RETENTION, NOW + LIFETIME + RETENTION + MINUTE
        expect(await store.purge(before=first + SECOND, limit=9), 0, "it is kept a minute longer")
        await self._purged(store, second + SECOND, limit=9, expected=1)

    @promise("purge")
    async def test_a_purged_account_can_begin_anew(self, store: AsyncTokenStore) -> None:
        """Nothing of it is left that counts, the selector is free, and the order of add goes on."""
        await put(store, record())
        if not await self._purged(store, NOW + 99 * DAY, limit=9, expected=1):
            return
        expect(await store.add(record("s1", "bob"), quotas=(), keep=1), True, "the selector is free")
        expect(await store.add(record("s2"), quotas=[Quota(1, NOW - MINUTE)], keep=1), True, "nothing is left to count")
        await put(store, record("s3"), keep=1)
        expect(await states(store, "s2", "s3"), ["superseded", "outstanding"], "s3 was added last")

    async def _purged(self, store: AsyncTokenStore, before: Any, *, limit: int, expected: int) -> bool:
        """Purge; False if the backend expires entries by itself and leaves it at that."""
        found = await store.purge(before=before, limit=limit)
        if found == 0 and self.expires_by_itself:
            return False
        expect(found, expected, "so many were past their keep_until")
        return True

    # What comes twice, because a reply was lost.

    @promise("add")
    async def test_a_repeated_add_is_one_mail(self, store: AsyncTokenStore) -> None:
        """An add repeated after a lost reply answers True again, counts once and supersedes once."""
        quotas = [Quota(2, NOW - MINUTE)]
        await put(store, record("s1"))
        for _ in range(3):
            expect(await store.add(record("s2"), quotas=quotas, keep=2), True, "s2 is the second of two")
        expect(await states(store, "s1", "s2"), ["outstanding"] * 2, "two are kept")
        expect(await store.add(record("s3"), quotas=quotas, keep=2), False, "there are two")

    @promise("release")
    async def test_a_repeated_release_ends_no_later_claim(self, store: AsyncTokenStore) -> None:
        """A release that is delivered again, late, is False and leaves alone who claimed since."""
        await put(store, record())
        expect(await claim(store, claim_id="first"), True, "it is outstanding")
        expect(await release(store, claim_id="first", guess=True), True, "first holds it")
        expect(await claim(store, claim_id="second"), True, "it is outstanding again")
        expect(await release(store, claim_id="first", guess=True), False, "second holds it")
        expect(await states(store, "s1"), ["used"], "second holds it")
        expect(await claim(store, claim_id="second"), True, "second holds it")

    @promise("claim")
    async def test_a_repeated_claim_ends_nothing_newer(self, store: AsyncTokenStore) -> None:
        """A claim that is delivered again after a newer mail went out is False and ends nothing."""
        await _claimed(store)
        await put(store, record("s2"))
        expect(await claim(store, "s1", "winner"), False, "a later add took the right")
        expect(await states(store, "s1", "s2"), ["used", "outstanding"], "s2 came after the claim")

    @promise("attempt")
    async def test_a_repeated_attempt_counts_again(self, store: AsyncTokenStore) -> None:
        """An attempt repeated after a lost reply costs another guess: too few guesses are safe, too many are not."""
        await put(store, record())
        for count in (1, 2, 3):
            expect(await store.attempt("s1", limit=5), True, "fewer than five were counted")
            expect((await read(store)).guesses, count, "each call counts")

    # Races.

    @promise("claim")
    async def test_of_simultaneous_claims_one_wins(self, store: AsyncTokenStore) -> None:
        """Of any number of claims on one record at once, exactly one id wins.

        CVE-2026-22751, and 15 or 16 of 16 winners in four well-known systems.
        """
        for turn in range(_ROUNDS):
            name = f"s{turn}"
            await put(store, record(name, f"a{turn}"))
            answers = await self.together(*(claim(store, name, f"c{number}") for number in range(_THREADS)))
            expect(answers.count(True), 1, "one id wins")
            holder = (await read(store, name)).claim_id
            expect(holder, f"c{answers.index(True)}", "the record says who won")

    @promise("claim")
    async def test_of_simultaneous_claims_on_siblings_one_wins(self, store: AsyncTokenStore) -> None:
        """Of claims on several tokens of one account at once exactly one wins, and it ends the others."""
        for turn in range(_ROUNDS):
            names = [f"s{turn}.{number}" for number in range(4)]
            await put(store, *(record(name, f"a{turn}") for name in names))
            answers = await self.together(*(claim(store, name, f"c{name}") for name in names))
            expect(answers.count(True), 1, "one id wins")
            found = sorted(await states(store, *names))
            expect(found, ["revoked"] * 3 + ["used"], "the winner ends its siblings")

    @promise("claim")
    async def test_simultaneous_repeats_of_one_claim_all_win(self, store: AsyncTokenStore) -> None:
        """A driver that sends a claim again before the first is answered is told True both times."""
        for turn in range(_ROUNDS):
            await put(store, record(f"s{turn}", f"a{turn}"))
            answers = await self.together(*(claim(store, f"s{turn}", "winner") for _ in range(4)))
            expect(answers, [True] * 4, "they are one claim")

    @promise("attempt")
    async def test_guesses_are_bounded_however_parallel(self, store: AsyncTokenStore) -> None:
        """Of any number of attempts at once, exactly `limit` are counted and answered True (CVE-2019-5421)."""
        for turn in range(_ROUNDS):
            await put(store, record(f"s{turn}", f"a{turn}"))
            answers = await self.together(*(store.attempt(f"s{turn}", limit=5) for _ in range(2 * _THREADS)))
            expect(answers.count(True), 5, "five may be compared")
            expect((await read(store, f"s{turn}")).guesses, 5, "five were counted")

    @promise("add")
    async def test_a_quota_holds_against_simultaneous_adds(self, store: AsyncTokenStore) -> None:
        """Of any number of adds at once, exactly as many are taken as the quota has room for."""
        quotas = [Quota(3, NOW - MINUTE)]
        for turn in range(_ROUNDS):
            fresh = [record(f"s{turn}.{number}", f"a{turn}") for number in range(2 * _THREADS)]
            answers = await self.together(*(store.add(each, quotas=quotas, keep=99) for each in fresh))
            expect(answers.count(True), 3, "the quota has room for three")
            found = [each.selector for each in fresh if await store.get(each.selector) is not None]
            taken = [each.selector for each, answer in zip(fresh, answers, strict=True) if answer]
            expect(found, taken, "what was taken is there, and nothing else")

    @promise("add")
    async def test_simultaneous_adds_leave_the_newest(self, store: AsyncTokenStore) -> None:
        """Of any number of adds at once with keep=1, exactly one stays outstanding."""
        for turn in range(_ROUNDS):
            names = [f"s{turn}.{number}" for number in range(_THREADS)]
            fresh = [record(name, f"a{turn}") for name in names]
            answers = await self.together(*(store.add(each, quotas=(), keep=1) for each in fresh))
            expect(answers, [True] * len(names), "nothing refuses them")
            expect(sorted(await states(store, *names)).count("outstanding"), 1, "one is kept")

    @promise("add")
    async def test_simultaneous_adds_of_one_selector_make_one_record(self, store: AsyncTokenStore) -> None:
        """A job delivered twice at once is one mail: both adds answer True and the quota counts one."""
        for turn in range(_ROUNDS):
            fresh = record(f"s{turn}", f"a{turn}")
            quotas = [Quota(2, NOW - MINUTE)]
            answers = await self.together(*(store.add(fresh, quotas=quotas, keep=9) for _ in range(4)))
            expect(answers, [True] * 4, "they are one mail")
            another = record(f"t{turn}", f"a{turn}")
            expect(await store.add(another, quotas=quotas, keep=9), True, "one was counted")

    @promise("add")
    async def test_an_add_against_a_claim_ends_in_one_of_the_two_orders(self, store: AsyncTokenStore) -> None:
        """Either the claim came first and the new record lives, or the add did and one of the two has ended."""
        for turn in range(_ROUNDS):
            old, new, account = f"o{turn}", f"n{turn}", f"a{turn}"
            await put(store, record(old, account))
            adding = store.add(record(new, account), quotas=(), keep=1)
            taken, added = await self._duel(turn, claim(store, old), adding)
            expect(added, True, "nothing refuses it")
            # With keep=1 an add that comes first supersedes the old record, so that its claim must lose.
            allowed = ["used", "outstanding"] if taken else ["superseded", "outstanding"]
            expect(await states(store, old, new), allowed, f"the claim was answered {taken}")
            if taken:
                expect(await release(store, old), False, "the add came later and took the right")

    @promise("revoke")
    async def test_a_revoke_against_a_claim_ends_in_one_of_the_two_orders(self, store: AsyncTokenStore) -> None:
        """Either the record is used and the revoke found none, or it is revoked and the claim lost."""
        for turn in range(_ROUNDS):
            name = f"s{turn}"
            await put(store, record(name, f"a{turn}"))
            revoking = store.revoke(f"a{turn}", now=NOW)
            taken, count = await self._duel(turn, claim(store, name), revoking)
            found = (await read(store, name)).state
            outcome = (found, bool(taken), count)
            allowed = (("used", True, 0), ("revoked", False, 1))
            expect_that(outcome in allowed, f"expected {allowed[0]} or {allowed[1]}, got {outcome}")
            expect(await release(store, name), False, "after both, nobody may revive it")

    @promise("release")
    async def test_a_release_against_a_revoke_revives_nothing(self, store: AsyncTokenStore) -> None:
        """Whichever came first, after a revoke no record of the account is outstanding."""
        for turn in range(_ROUNDS):
            name = f"s{turn}"
            await put(store, record(name, f"a{turn}"))
            expect(await claim(store, name), True, "it is outstanding")
            revoking = store.revoke(f"a{turn}", now=NOW)
            released, count = await self._duel(turn, release(store, name), revoking)
            found = (await read(store, name)).state
            outcome = (found, bool(released), count)
            allowed = (("used", False, 0), ("revoked", True, 1))
            expect_that(outcome in allowed, f"expected {allowed[0]} or {allowed[1]}, got {outcome}")

    @promise("add")
    async def test_a_second_add_against_a_claim_changes_no_state(self, store: AsyncTokenStore) -> None:
        """A mail sent again while its link is used: the claim wins in either order, and the record stays used."""
        for turn in range(_ROUNDS):
            name = f"s{turn}"
            await put(store, record(name, f"a{turn}"))
            again = store.add(record(name, f"a{turn}", **REPLACEMENT), quotas=(), keep=9)
            won, added = await self._duel(turn, claim(store, name), again)
            expect(won, True, "it is outstanding in either order")
            found = await read(store, name)
            expect((found.state, found.claim_id), ("used", "c1"), "a second add changes no state")
            hashed = REPLACEMENT["link_hash"] if added else record(name).link_hash
            expect(found.link_hash, hashed, f"the add was answered {added}")

    @promise("release")
    async def test_a_release_against_attempts_loses_no_count(self, store: AsyncTokenStore) -> None:
        """Guesses that come while a release takes one back are all counted: a lost count is a free guess."""
        for turn in range(_ROUNDS):
            name = f"s{turn}"
            await put(store, record(name, f"a{turn}"))
            expect(await store.attempt(name, limit=9), True, "the first guess of nine")
            expect(await claim(store, name), True, "it is outstanding")
            calls = [store.attempt(name, limit=9) for _ in range(3)]
            calls.insert(3 * (turn % 2), release(store, name, guess=True))
            expect(await self.together(*calls), [True] * 4, "nothing refuses them")
            found = await read(store, name)
            outcome = (found.state, found.claim_id, found.guesses)
            expect(outcome, ("outstanding", None, 3), "four were counted, and one taken back")

    @promise("attempt")
    async def test_attempts_against_all_change_nothing_but_their_count(self, store: AsyncTokenStore) -> None:
        """Guesses that meet a claim, a revoke and a second add are counted, and undo none of them."""
        for turn in range(_ROUNDS):
            name = f"s{turn}"
            await put(store, record(name, f"a{turn}"))
            *counted, ended, _ = await self.together(
                *(store.attempt(name, limit=9) for _ in range(3)),
                store.revoke(f"a{turn}", now=NOW) if turn % 2 else claim(store, name),
                store.add(record(name, f"a{turn}", **REPLACEMENT), quotas=(), keep=9),
            )
            expect([*counted, ended], [True, True, True, 1], "nothing refuses them")
            found = await read(store, name)
            expect((found.state, found.guesses), ("revoked" if turn % 2 else "used", 3), "each did its part")

    @promise("add")
    async def test_of_simultaneous_adds_of_accounts_one_gets_the_selector(self, store: AsyncTokenStore) -> None:
        """Of adds by several accounts under one selector one is taken; the others are DuplicateSelectorError."""
        for turn in range(_ROUNDS):
            fresh = [record(f"s{turn}", f"{who}{turn}") for who in "abcd"]
            answers = await self.together(*(_named(store.add(each, quotas=(), keep=9)) for each in fresh))
            expect(sorted(answers), ["DuplicateSelectorError"] * 3 + ["True"], "one account gets it")
            owner = (await read(store, f"s{turn}")).account_id
            expect(owner, fresh[answers.index("True")].account_id, "it belongs to who was told so")

    @promise("purge")
    async def test_a_purge_against_a_second_add_leaves_what_is_to_be_kept(self, store: AsyncTokenStore) -> None:
        """A record whose keeping is prolonged while a purge runs is there afterwards, whichever came first."""
        past = NOW - 30 * DAY
        for turn in range(_ROUNDS):
            name = f"s{turn}"
            await put(store, record(name, f"a{turn}", at=past, keep_until=past + LIFETIME))
            longer = record(name, f"a{turn}", at=past, keep_until=NOW + DAY)
            _, added = await self._duel(turn, store.purge(before=NOW, limit=9), store.add(longer, quotas=(), keep=9))
            expect(added, True, "nothing refuses it")
            expect((await read(store, name)).keep_until, NOW + DAY, "it was prolonged, or added anew")

    @promise("purge")
    async def test_a_purge_against_all_takes_only_what_is_past(self, store: AsyncTokenStore) -> None:
        """While records are added, claimed, guessed at and revoked, simultaneous purges delete each past one once."""
        past = NOW - 30 * DAY
        for turn in range(_ROUNDS):
            limit = 4
            old = [record(f"old{turn}.{number}", f"a{turn}", at=past) for number in range(6)]
            await put(store, *old, record(f"s{turn}", f"a{turn}"))
            first, second, added, *_ = await self.together(
                store.purge(before=NOW, limit=limit),
                store.purge(before=NOW, limit=limit),
                store.add(record(f"n{turn}", f"a{turn}"), quotas=(), keep=99),
                store.attempt(f"s{turn}", limit=5),
                claim(store, f"s{turn}"),
                store.revoke(f"b{turn}", now=NOW),
            )
            expect(added, 1, "nothing refuses it")
            if not (first == second == 0 and self.expires_by_itself):
                gone = [each.selector for each in old if await store.get(each.selector) is None]
                expect(first + second, len(gone), "the purges say how many they deleted")
                expect_that(len(gone) >= limit, "a purge that meets another takes others, or the same ones once")
                expect(await store.purge(before=NOW, limit=9), 6 - len(gone), "the next one takes what is left")
            expect((await read(store, f"s{turn}")).guesses, 1, "what is not past stays, with its count")
            expect((await read(store, f"n{turn}")).account_id, f"a{turn}", "what was just added stays")

    async def _duel(self, turn: int, one: Awaitable[int], other: Awaitable[int]) -> tuple[int, int]:
        """What two calls answer that meet, now one ahead by a hair, now the other."""
        if turn % 2:
            second, first = await self.together(other, one)
        else:
            first, second = await self.together(one, other)
        return first, second

    # Everything in any order.

    @explored_promise("")
    def test_any_sequence_of_calls_is_answered_as_the_model_says(self) -> None:
        """After any sequence of calls, every answer and every record is what the contract's words say."""
        from resetkit.testing._store_machine import explore  # noqa: PLC0415  # Hypothesis is in the extra

        explore(self, expires_by_itself=self.expires_by_itself)

    # Failures: what is cut off has happened, or has not.

    @explored_promise("")
    def test_a_call_whose_driver_fails_has_happened_or_has_not(self) -> None:
        """If a call of the driver fails, before or after its work, the operation as a whole happened or did not.

        And the store goes on: nothing is left locked, half done or unusable.
        """
        check_failing_driver(self, self.drivers(), purges=not self.expires_by_itself)

    @promise("")
    async def test_of_claims_from_several_processes_one_wins(self, store: AsyncTokenStore) -> None:
        """Of claims from several processes at once, on a record or its siblings, exactly one id wins."""
        with Others(self.other_process(self.adapter), _PROCESSES) as others:
            await _require_same_store(store, others)
            await _race_in_processes(store, others)

    @promise("")
    async def test_quotas_and_guesses_hold_across_processes(self, store: AsyncTokenStore) -> None:
        """Of adds and attempts from several processes at once, as many are taken as quota and limit allow."""
        with Others(self.other_process(self.adapter), _PROCESSES) as others:
            await _require_same_store(store, others)
            await _bounds_in_processes(store, others)

    @promise("")
    async def test_what_returned_is_seen_by_other_processes(self, store: AsyncTokenStore) -> None:
        """What one process has done, another sees at once: no cache stands in between."""
        with Others(self.other_process(self.adapter), 1) as others:
            await _require_same_store(store, others)
            await _seen_in_processes(store, others)

    @promise("")
    async def test_a_killed_process_leaves_each_operation_done_or_not(self, store: AsyncTokenStore) -> None:
        """A process killed at any line of an operation leaves it done or not done, and nothing locked."""
        with Others(self.other_process(self.adapter), 1) as others:
            await check_killed(self, store, others, purges=not self.expires_by_itself)

    # Secrecy.

    @promise("")
    async def test_the_store_tells_no_hash(self, store: AsyncTokenStore) -> None:
        """Neither log lines, at INFO and above, nor repr nor errors of the store show a hash or a stamp digest."""
        with listening() as told:
            await put(store, _marked("s1", "alice"), _marked("s2", "alice"))
            told += [repr(self.adapter), str(self.adapter)]
            await claim(store)
            await release(store)
            try:
                await store.add(_marked("s1", "bob"), quotas=(), keep=1)
            except DuplicateSelectorError as error:
                told.extend(told_by(error))
            await store.revoke("alice", now=NOW)
            await store.purge(before=NOW + 99 * DAY, limit=9)
        expect_that(not any(_MARK in line for line in told), "a hash stands in a log line, a repr or an error")

    @promise("")
    async def test_a_dump_of_the_store_holds_no_token(self, store: AsyncTokenStore) -> None:
        """All that the backend keeps, after mails with link and code, holds neither token nor code."""
        secrets = await mint(store)
        dump = await self.dumped()
        if not isinstance(dump, bytes):
            raise MisuseError(f"{type(self).__name__}.dump must return bytes, not {type(dump).__name__}")
        expect_that(secrets.selector.encode() in dump, "a dump holds at least the selectors: this is not all")
        expect_that(not any(each in dump for each in secrets.shapes()), "a token or code stands in the dump")

    # Optional abilities: implement them, or state why not.

    def drivers(self) -> Sequence[str]:
        """The modules of the driver beneath the store, such as ``("sqlite3",)``: their calls are made to fail."""
        undeclared("drivers", 'modules of the driver, such as ("sqlite3",)')

    def other_process(self, store: Any, /) -> Opener:
        """What opens the same store in another process: a picklable callable that returns a context manager."""
        undeclared("other_process", "what opens the same store in another process")

    async def dumped(self) -> object:
        """What the author's `dump` returns."""
        raise NotImplementedError  # a subclass says

    def require_store(self, colour: Colour) -> None:
        """Raise MisuseError for what was opened if it is no store of this colour."""
        try:
            check_port("store", self.adapter, colour)
        except ConfigurationError as error:
            raise MisuseError(f"what {type(self).__name__}.open_store yields cannot be checked: {error}") from error

    async def _require_empty(self, store: AsyncTokenStore) -> None:
        for selector in ("s0", "s1"):
            if await store.get(selector) is not None:
                told = f"yields a store that still holds the record {selector} of an earlier check: empty it first"
                raise MisuseError(f"{type(self).__name__}.open_store {told}")


class TokenStoreConformance(TokenStoreChecks, Sync[AsyncTokenStore], shipped=True):
    """Every promise of `TokenStore`. Subclass it and write `open_store`."""

    def open_store(self) -> AbstractContextManager[TokenStore]:
        """A context manager that yields a new or emptied store, and cleans up."""
        raise NotImplementedError  # a subclass says

    def dump(self, store: Any, /) -> bytes:
        """Everything that the backend keeps: a file's bytes, a table's rows, keys and values."""
        undeclared("dump", "everything that the backend keeps, as bytes")

    async def dumped(self) -> object:
        """What the author's `dump` returns."""
        return self.dump(self.adapter)

    @contextmanager
    def opened(self) -> Generator[AsyncTokenStore, None, None]:
        """A lifted store."""
        with self.open_store() as adapter:
            self.adapter = adapter
            self.require_store("sync")
            store = LiftedStore(adapter)
            self.run(self._require_empty(store))
            yield self.watched(store)


class AsyncTokenStoreConformance(TokenStoreChecks, Async[AsyncTokenStore], shipped=True):
    """Every promise of `AsyncTokenStore`. Subclass it and write `open_store`."""

    def open_store(self) -> AbstractAsyncContextManager[AsyncTokenStore]:
        """An async context manager that yields a new or emptied store, and cleans up."""
        raise NotImplementedError  # a subclass says

    async def dump(self, store: Any, /) -> bytes:
        """Everything that the backend keeps: a file's bytes, a table's rows, keys and values."""
        undeclared("dump", "everything that the backend keeps, as bytes")

    async def dumped(self) -> object:
        """What the author's `dump` returns."""
        return await self.dump(self.adapter)

    @contextmanager
    def opened(self) -> Generator[AsyncTokenStore, None, None]:
        """A store in a loop of its own."""
        with self.in_loop(self.open_store()) as adapter:
            self.adapter = adapter
            self.require_store("async")
            self.run(self._require_empty(adapter))
            yield self.watched(adapter)

    @explored_promise("")
    def test_a_cancelled_call_has_happened_or_has_not(self) -> None:
        """If the task is cancelled anywhere in an operation, it happened as a whole or not, and the store goes on."""
        check_cancelled(self, purges=not self.expires_by_itself)


# What several calls of a check share.


async def _claimed(store: AsyncTokenStore) -> None:
    await put(store, record())
    expect(await claim(store, claim_id="winner"), True, "it is outstanding")


async def _without_right(store: AsyncTokenStore) -> None:
    expect(await claim(store, claim_id="winner"), False, "a later operation took the right")
    expect(await release(store, claim_id="winner"), False, "a later operation took the right")
    expect(await states(store, "s1"), ["used"], "a late release revives nothing")


async def _named(adding: Awaitable[bool]) -> str:
    """What an add comes to, as text."""
    try:
        return str(await adding)
    except DuplicateSelectorError as duplicate:
        return type(duplicate).__name__


def _marked(selector: str, account_id: str) -> TokenRecord:
    return record(
        selector,
        account_id,
        link_hash=f"{_MARK}link",
        code_hash=f"{_MARK}code",
        stamp_digest=f"{_MARK}stamp",
        code_expires_at=NOW + MINUTE,
    )


async def _require_same_store(store: AsyncTokenStore, others: Others) -> None:
    probe = record("probe", "account of the probe")
    await put(store, probe)
    if others.at_once(Call("get", ("probe",))) != [probe]:
        raise MisuseError("the other process does not see this store's records: does it open the same database?")


async def _race_in_processes(store: AsyncTokenStore, others: Others) -> None:
    for turn in range(_ROUNDS):
        names = [f"s{turn}.{number % 2}" for number in range(_PROCESSES)]
        await put(store, *(record(name, f"a{turn}") for name in sorted(set(names))))
        answers = others.at_once(*(claiming(name, f"c{number}") for number, name in enumerate(names)))
        expect(answers.count(True), 1, "one id wins, whichever process asks")
        expect(sorted(await states(store, *sorted(set(names)))), ["revoked", "used"], "the winner ends its sibling")


async def _bounds_in_processes(store: AsyncTokenStore, others: Others) -> None:
    quotas = [Quota(2, NOW - MINUTE)]
    for turn in range(_ROUNDS):
        fresh = [record(f"s{turn}.{number}", f"a{turn}") for number in range(_PROCESSES)]
        answers = others.at_once(*(Call("add", (each,), {"quotas": quotas, "keep": 9}) for each in fresh))
        expect(answers.count(True), 2, "the quota has room for two")
        guessed = fresh[answers.index(True)].selector
        answers = others.at_once(*[Call("attempt", (guessed,), {"limit": 3})] * _PROCESSES)
        expect(answers.count(True), 3, "three may be compared")
        expect((await read(store, guessed)).guesses, 3, "three were counted")


async def _seen_in_processes(store: AsyncTokenStore, others: Others) -> None:
    await put(store, record())
    look = Call("get", ("s1",))
    for change in (claiming("s1"), Call("release", ("s1",), {"claim_id": "c1", "guess": False})):
        expect(others.at_once(look), [await store.get("s1")], "another process sees what was done here")
        expect(others.at_once(change), [True], "another process may do it")
        expect(await store.get("s1"), others.at_once(look)[0], "this process sees what was done there")
    expect(await store.revoke("alice", now=NOW), 1, "it is outstanding again")
    expect(others.at_once(claiming("s1")), [False], "this process has revoked it")
