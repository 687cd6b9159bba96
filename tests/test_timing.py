"""The measurement of time: it finds what leaks, it passes what does not, and it says so when it cannot tell."""

import asyncio
import gc
import random
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from typing_extensions import override

from harness import ManyAccounts
from resetkit import (
    Argon2TokenHasher,
    AsyncResetManager,
    ConfigurationError,
    KeyedTokenHasher,
    Mail,
    ResetManager,
    ResetPolicy,
)
from resetkit.dispatch import AsyncInlineDispatcher, AsyncTaskDispatcher, InlineDispatcher, ThreadDispatcher
from resetkit.mailers import AsyncMemoryMailer, MemoryMailer
from resetkit.stores import AsyncMemoryTokenStore, MemoryTokenStore
from resetkit.testing import AsyncFakeAccounts, FakeAccounts, timing
from resetkit.testing.timing import (
    Arm,
    Report,
    addresses,
    judge,
    measure,
    measure_async,
    measure_requests,
    measure_requests_async,
    roomy_policy,
)

LINK = "https://app.example/reset#{token}"
KNOWN, UNKNOWN = addresses(500), addresses(1500)
MICROSECONDS = 1000
ROOM = 10**6  # jobs


class SlowMailer(MemoryMailer):
    """A mail server that takes a millisecond."""

    @override
    def send(self, mail: Mail, /) -> None:
        time.sleep(0.001)  # it is the server, not a wait


@contextmanager
def opened(mailer: MemoryMailer | None = None, **options: Any) -> Generator[ResetManager, None, None]:
    defaults: dict[str, Any] = {"link": LINK, "policy": roomy_policy(), "on_event": lambda _: None}
    manager = ResetManager(ManyAccounts(KNOWN), MemoryTokenStore(), mailer or MemoryMailer(), **(defaults | options))
    try:
        yield manager
    finally:
        manager.close(0)


class TestWhatItFinds:
    """Broken twins: a measurement that has lost its power breaks the build."""

    def test_the_shipped_library_passes(self) -> None:
        """CVE-2020-11063."""
        with opened(dispatcher=ThreadDispatcher(capacity=ROOM)) as manager:
            report = measure_requests(manager, known=KNOWN, unknown=UNKNOWN)
        assert report.verdict == "PASS", report

    def test_the_shipped_async_library_passes(self) -> None:
        """CVE-2020-11063."""

        async def run() -> Report:
            manager = AsyncResetManager(
                AsyncFakeAccounts(ManyAccounts(KNOWN)),
                AsyncMemoryTokenStore(),
                AsyncMemoryMailer(),
                link=LINK,
                policy=roomy_policy(),
                dispatcher=AsyncTaskDispatcher(capacity=ROOM),
                on_event=lambda _: None,
            )
            report = await measure_requests_async(manager, known=KNOWN, unknown=UNKNOWN)
            await manager.close(0)
            return report

        report = asyncio.run(run())
        assert report.verdict == "PASS", report

    def test_work_for_known_accounts_only_is_a_leak(self) -> None:
        """CVE-2024-39329, CVE-2016-2513: all the work in the request, and none where there is nothing to reset.

        The hash here costs a fiftieth of the usual one.
        """
        accounts, hasher = ManyAccounts(KNOWN), Argon2TokenHasher(time_cost=1, memory_cost=1024)
        with opened(dispatcher=InlineDispatcher(), hasher=hasher) as manager:

            def ask(identifier: str) -> None:
                if accounts.find(identifier):
                    manager.request_reset(identifier, client=None)

            report = measure(ask, known=KNOWN, unknown=UNKNOWN, rounds=400)
        assert report.verdict == "LEAK", report
        assert report.differences["K"].low > 200

    def test_a_return_before_the_job_is_handed_over_is_a_leak(self) -> None:
        """SS-2017-005, SS-2025-001: an early return. Some 30 µs: what a margin of 10 µs is for."""
        accounts = ManyAccounts(KNOWN)
        with opened(dispatcher=ThreadDispatcher(capacity=ROOM)) as manager:

            def ask(identifier: str) -> None:
                if accounts.find(identifier):
                    manager.request_reset(identifier, client=None)

            report = measure(ask, known=KNOWN, unknown=UNKNOWN, margin=timedelta(microseconds=10), rounds=400)
        assert report.verdict == "LEAK", report

    def test_a_mail_inside_the_request_is_a_leak(self) -> None:
        """GHSA-jrc6-fmhw-fpq2, CVE-2026-40263, CVE-2022-36105, H1-3424977."""
        hasher = KeyedTokenHasher([b"k" * 32])
        with opened(SlowMailer(), dispatcher=InlineDispatcher(), hasher=hasher) as manager:
            wide = timedelta(microseconds=250)  # a whole job in each answer is noisy
            report = measure_requests(manager, known=KNOWN, unknown=UNKNOWN, rounds=400, margin=wide)
        assert report.verdict == "LEAK", report
        assert report.differences["K"].low > 500

    def test_the_planted_leak_in_the_place_of_known_is_a_leak(self) -> None:
        known = set(KNOWN)
        with opened(dispatcher=ThreadDispatcher(capacity=ROOM)) as manager:

            def ask(identifier: str) -> None:
                manager.request_reset(identifier, client=None)
                if identifier in known:
                    timing._be_busy(200 * MICROSECONDS)

            report = measure(ask, known=KNOWN, unknown=UNKNOWN, rounds=400)
        assert report.verdict == "LEAK", report

    def test_a_leak_the_other_way_round_is_one(self) -> None:
        unknown = set(UNKNOWN)
        report = measure(
            lambda identifier: timing._be_busy(100 * MICROSECONDS * (identifier in unknown)),
            known=KNOWN,
            unknown=UNKNOWN,
            rounds=400,
        )
        assert report.verdict == "LEAK", report
        assert report.differences["K"].high < -50


Shifts = Mapping[Arm, Callable[[int], int]]
ARMS: tuple[Arm, ...] = ("K", "U", "A", "L")
NO_SHIFTS: Shifts = {"L": lambda _: 200}


def no_more(_round: int) -> int:
    return 0


def times(shifts: Shifts = NO_SHIFTS, rounds: int = 1000) -> dict[Arm, list[int]]:
    """Times around 100 µs, with what each arm takes more in each round, in microseconds."""
    noise, more = random.Random(7), {**NO_SHIFTS, **shifts}
    return {
        arm: [(noise.randrange(90, 110) + more.get(arm, no_more)(each)) * MICROSECONDS for each in range(rounds)]
        for arm in ARMS
    }


class TestTheVerdict:
    @pytest.mark.parametrize(
        ("shifts", "verdict"),
        [
            ({}, "PASS"),
            ({"K": lambda _: 45}, "PASS"),
            ({"K": lambda _: 55}, "LEAK"),
            ({"K": lambda _: -55}, "LEAK"),
            ({"K": lambda _: 50}, "INCONCLUSIVE"),
            ({"K": lambda each: 2000 * (each % 20 == 0)}, "INCONCLUSIVE"),  # rare and slow: the median sees nothing
            ({"U": lambda each: 2000 * (each % 20 == 0)}, "INVALID"),  # then A differs from U too
            ({"A": lambda _: 55}, "INVALID"),
            ({"A": lambda _: -55}, "INVALID"),
            ({"A": lambda each: 2000 * (each % 20 == 0)}, "INVALID"),
            ({"L": lambda _: 40}, "INVALID"),
            ({"L": lambda _: 40, "K": lambda _: 200}, "INVALID"),
        ],
    )
    def test_follows_from_the_intervals_and_the_tails(self, shifts: Shifts, verdict: str) -> None:
        assert judge(times(shifts)).verdict == verdict

    def test_few_rounds_show_a_leak_and_pass_nothing(self) -> None:
        assert judge(times({"K": lambda _: 100}, rounds=40)).verdict == "LEAK"
        assert judge(times(rounds=399)).verdict == "INCONCLUSIVE"
        assert judge(times(rounds=400)).verdict == "PASS"

    def test_the_margin_is_the_callers(self) -> None:
        """The planted leak grows with it: four margins."""
        assert judge(times({"K": lambda _: 30}), margin=timedelta(microseconds=20)).verdict == "LEAK"
        assert (
            judge(times({"K": lambda _: 90, "L": lambda _: 400}), margin=timedelta(microseconds=100)).verdict == "PASS"
        )

    def test_the_interval_is_the_inverted_sign_test_s(self) -> None:
        """Of 1000 differences, 447 stand outside on either side: 500 less 3.29 · √1000 / 2, rounded down."""
        interval = timing._interval([each * 1000 for each in range(1000)], [0] * 1000)
        assert (interval.low, interval.median, interval.high) == (447, 499.5, 552)
        assert interval.bound == 552
        assert timing._interval([-each * 1000 for each in range(1000)], [0] * 1000).bound == 552

    @pytest.mark.parametrize("rounds", [40, 400])
    def test_the_interval_holds_the_median_as_often_as_it_says(self, rounds: int) -> None:
        """999 of 1000 intervals hold it, whatever the distribution: in 2000 trials about 2 do not."""
        noise = random.Random(11)
        missed = 0
        for _ in range(2000):
            sample = [int(noise.paretovariate(1.2) * 1000) for _ in range(rounds)]
            interval = timing._interval(sample, [0] * rounds)
            missed += not interval.low <= 2 ** (1 / 1.2) <= interval.high
        assert missed < 10

    def test_the_tails_are_compared_in_pairs(self) -> None:
        """McNemar's z: 30 rounds in which only the one is slow, 10 in which only the other is, 5 in which both are."""
        slow, fast = 1000 * MICROSECONDS, 100 * MICROSECONDS
        first = [slow] * 30 + [fast] * 10 + [slow] * 5 + [fast] * 955
        second = [fast] * 30 + [slow] * 10 + [slow] * 5 + [fast] * 955
        assert timing._tail(first, second, 50) == pytest.approx(20 / 40**0.5)
        assert timing._tail(second, first, 50) == pytest.approx(-20 / 40**0.5)
        assert timing._tail(first, first, 50) == 0

    def test_what_the_margin_allows_is_no_tail(self) -> None:
        """A stable shift of a few microseconds makes every slow call of the one slower than nine in ten of both."""
        assert abs(judge(times({"K": lambda _: 15})).tails["K"]) < 1

    def test_arms_of_different_lengths_are_refused(self) -> None:
        uneven = times()
        uneven["K"] = uneven["K"][1:]
        with pytest.raises(ConfigurationError, match="one time for each round"):
            judge(uneven)
        with pytest.raises(ConfigurationError, match="number of rounds must be at least 40"):
            judge(times(rounds=39))


class TestTheReport:
    @pytest.mark.parametrize(
        ("shifts", "says"),
        [
            ({}, "PASS: the medians of known and unknown differ by less than "),
            ({"K": lambda _: 100}, "LEAK: known and unknown differ by +100"),
            ({"K": lambda _: 50}, "INCONCLUSIVE: the interval reaches across the margin"),
            (
                {"K": lambda each: 2000 * (each % 20 == 0)},
                "INCONCLUSIVE: known and unknown differ among the slow calls",
            ),
            ({"A": lambda _: 100}, "INVALID: the controls failed"),
        ],
    )
    def test_says_what_it_means(self, shifts: Shifts, says: str) -> None:
        assert str(judge(times(shifts))).startswith(says)

    def test_says_that_few_rounds_cannot_pass(self) -> None:
        assert str(judge(times(rounds=399))).startswith("INCONCLUSIVE: no leak was seen, but fewer than 400 rounds")
        assert "reaches across the margin" in str(judge(times({"K": lambda _: 50}, rounds=399)))

    def test_shows_every_arm(self) -> None:
        report = judge({arm: [each + shift for each in range(0, 1000_000, 1000)] for arm, shift in LADDER.items()})
        assert str(report).splitlines()[1:] == [
            "1000 rounds, margin 50, all times in microseconds",
            "arm                    p50       p90       p99   minus U: median (99.9 % interval)",
            "K known              519.0     919.0    1009.0   +20.0 (+20.0 to +20.0)",
            "U unknown            499.0     899.0     989.0",
            "A unknown again      500.0     900.0     990.0   +1.0 (+1.0 to +1.0)",
            "L planted leak       699.0    1099.0    1189.0   +200.0 (+200.0 to +200.0)",
            "tails: z = +4.5 for K, +1.0 for A (alarm at ±4.42)",
        ]
        assert report.bound == 20
        assert report.percentiles["U"].p90 == 899
        assert (report.rounds, report.margin) == (1000, 50)


LADDER: dict[Arm, int] = {"K": 20_000, "U": 0, "A": 1_000, "L": 200_000}


class TestTheRun:
    def test_each_round_has_each_arm_once_in_an_order_of_its_own(self) -> None:
        asked: list[str] = []
        measure(asked.append, known=KNOWN, unknown=UNKNOWN, rounds=400)
        arms = {**dict.fromkeys(KNOWN, "K")} | {each: "UAL"[number // 500] for number, each in enumerate(UNKNOWN)}
        rounds = ["".join(arms[each] for each in asked[at : at + 4]) for at in range(0, 2000, 4)]
        assert len(asked) == 4 * (100 + 400)
        assert {"".join(sorted(each)) for each in rounds} == {"AKLU"}
        assert len(set(rounds)) == 24

    def test_a_short_one_warms_up_for_a_quarter_of_its_rounds(self) -> None:
        asked: list[str] = []
        known = set(KNOWN)

        def call(identifier: str) -> None:
            asked.append(identifier)
            timing._be_busy(100 * MICROSECONDS * (identifier in known))

        assert measure(call, known=KNOWN, unknown=UNKNOWN, rounds=40).verdict == "LEAK"
        assert len(asked) == 4 * (10 + 40)

    def test_each_identifier_is_used_as_often_as_the_others_and_never_twice_in_a_row(self) -> None:
        for _ in range(50):
            drawn = timing._draw(["a", "b", "c"])
            row = [next(drawn) for _ in range(30)]
            assert all(first != second for first, second in pairwise(row))
            assert {row.count(each) for each in "abc"} == {10}

    def test_only_the_call_is_timed(self) -> None:
        """Not what runs before it, and not the warming up: those would be a hundred times slower."""
        seen: list[str] = []

        def before(identifier: str) -> None:
            seen.append(identifier)
            timing._be_busy(100 * MICROSECONDS * (len(seen) % 2))

        def call(identifier: str) -> None:
            assert seen[-1] == identifier
            timing._be_busy(1000 * MICROSECONDS * (len(seen) <= 400))

        report = measure(call, known=KNOWN, unknown=UNKNOWN, before=before, rounds=400)
        assert report.percentiles["K"].p50 < 50
        assert report.percentiles["K"].p90 < 100

    def test_the_garbage_collector_is_off_in_the_run_and_back_after_it(self) -> None:
        seen: set[bool] = set()
        measure(lambda _: seen.add(gc.isenabled()), known=KNOWN, unknown=UNKNOWN, rounds=400)
        assert seen == {False}
        assert gc.isenabled()
        gc.disable()
        try:
            measure(lambda _: None, known=KNOWN, unknown=UNKNOWN, rounds=400)
            assert not gc.isenabled()
        finally:
            gc.enable()

    def test_an_error_of_the_call_comes_out_and_the_collector_goes_on(self) -> None:
        with pytest.raises(ZeroDivisionError):
            measure(lambda identifier: 1 // (len(identifier) - 28), known=KNOWN, unknown=UNKNOWN)
        assert gc.isenabled()

    @pytest.mark.parametrize(
        ("verdicts", "rounds"),
        [
            (["PASS"], [400]),
            (["LEAK"], [400]),
            (["INVALID", "INCONCLUSIVE", "PASS"], [400, 800, 1600]),
            (["INCONCLUSIVE", "LEAK"], [400, 800]),
            (["INVALID", "INVALID", "INVALID"], [400, 800, 1600]),
        ],
    )
    def test_what_cannot_be_told_is_tried_twice_more_with_twice_the_rounds_and_never_passes_by_that(
        self, verdicts: list[Any], rounds: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        judged: list[int] = []

        def planned(taken: Any, *, margin: timedelta) -> Report:
            judged.append(len(taken["U"]))
            return replace(judge(taken, margin=margin), verdict=verdicts[len(judged) - 1])

        monkeypatch.setattr(timing, "judge", planned)
        report = measure(lambda _: None, known=KNOWN, unknown=UNKNOWN, rounds=400)
        assert judged == rounds
        assert report.verdict == verdicts[-1]

    def test_between_async_calls_the_loop_goes_on(self) -> None:
        async def run() -> int:
            turns = 0

            async def beside() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            async def call(_identifier: str) -> None:
                pass

            task = asyncio.create_task(beside())
            await measure_async(call, known=KNOWN, unknown=UNKNOWN, rounds=400)
            task.cancel()
            return turns

        assert asyncio.run(run()) >= 4 * 500


class TestBadInput:
    @pytest.mark.parametrize(
        ("known", "unknown", "says"),
        [
            (KNOWN[1:], UNKNOWN, "at least 500 identifiers and unknown 1500, not 499 and 1500"),
            (KNOWN, UNKNOWN[1:], "not 500 and 1499"),
            (KNOWN[1:] + KNOWN[1:2], UNKNOWN, "must be different"),
            (KNOWN, UNKNOWN[1:] + KNOWN[:1], "none both known and unknown"),
            (addresses(500, domain="example.net.example"), UNKNOWN, "the same length"),
            ([f"{n:016}@example.org" for n in range(500)], UNKNOWN, "the same kinds of characters, letters or digits"),
            ([each.replace("@", "ä") for each in KNOWN], UNKNOWN, "in characters and in bytes"),
            ([each.upper() for each in KNOWN], UNKNOWN, "the same kinds of characters, letters or digits"),
            ([*KNOWN[1:], 7], UNKNOWN, "each of known must be of type str"),
            (KNOWN, [*UNKNOWN[1:], b"x"], "each of unknown must be of type str"),
        ],
    )
    def test_unfit_pools_are_refused(self, known: Any, unknown: Any, says: str) -> None:
        with pytest.raises(ConfigurationError, match=says):
            measure(lambda _: None, known=known, unknown=unknown)

    def test_too_few_rounds_and_odd_margins_are_refused(self) -> None:
        pools: dict[str, Any] = {"known": KNOWN, "unknown": UNKNOWN}
        with pytest.raises(ConfigurationError, match="rounds must be at least 40"):
            measure(lambda _: None, **pools, rounds=39)
        with pytest.raises(ConfigurationError, match="margin must be positive"):
            measure(lambda _: None, **pools, margin=timedelta(0))
        not_callable: Any = "request_reset"
        with pytest.raises(ConfigurationError, match="call must be a function"):
            measure(not_callable, **pools)
        with pytest.raises(ConfigurationError, match="call must be a function"):
            asyncio.run(measure_async(not_callable, **pools))
        with pytest.raises(ConfigurationError, match="count must be at least 1"):
            addresses(0)

    def test_an_async_call_is_refused_where_nothing_awaits_it(self) -> None:
        async def call(_identifier: str) -> None:
            raise NotImplementedError  # never called

        wrong: Callable[[str], Awaitable[None]] = call
        with pytest.raises(ConfigurationError, match="awaitable"):
            measure(wrong, known=KNOWN, unknown=UNKNOWN)

    def test_a_throttled_call_ends_the_run_and_says_what_to_do(self) -> None:
        with (
            opened(policy=ResetPolicy(), dispatcher=ThreadDispatcher(capacity=100)) as manager,
            pytest.raises(ConfigurationError, match="roomy_policy"),
        ):
            measure_requests(manager, known=KNOWN, unknown=UNKNOWN)


class Sends:
    def send(self, mail: Mail, /) -> None:
        raise NotImplementedError  # never called


class AsyncSends:
    async def send(self, mail: Mail, /) -> None:
        raise NotImplementedError  # never called


class TestInline:
    """The warning points at the line that makes the manager. Here, since mutation testing adds frames of its own."""

    def test_a_sync_one(self) -> None:
        with pytest.warns(RuntimeWarning) as warned:
            ResetManager(FakeAccounts(), MemoryTokenStore(), Sends(), link=LINK, dispatcher=InlineDispatcher())
        assert warned[0].filename == __file__

    def test_an_async_one(self) -> None:
        accounts, dispatcher = AsyncFakeAccounts(FakeAccounts()), AsyncInlineDispatcher()
        with pytest.warns(RuntimeWarning) as warned:
            AsyncResetManager(accounts, AsyncMemoryTokenStore(), AsyncSends(), link=LINK, dispatcher=dispatcher)
        assert warned[0].filename == __file__


class TestRoomyPolicy:
    @pytest.mark.parametrize(("code_guesses", "mails"), [(1, 100), (5, 20), (100, 1)])
    def test_has_all_the_room_that_is_safe(self, code_guesses: int, mails: int) -> None:
        policy = roomy_policy(code_guesses=code_guesses)
        assert policy.code_guesses == code_guesses
        assert policy.account_quotas == ((mails, timedelta(days=1)),)
        assert policy.identifier_limit[0] == policy.client_limit[0] == 10**9

    def test_leaves_the_rest_as_it_was(self) -> None:
        given = ResetPolicy(link_lifetime=timedelta(minutes=20))
        assert roomy_policy(given).link_lifetime == timedelta(minutes=20)


def test_addresses_are_different_and_fit() -> None:
    made = addresses(2000, domain="example.com")
    assert len(set(made)) == 2000
    assert {len(each) for each in made} == {28}
