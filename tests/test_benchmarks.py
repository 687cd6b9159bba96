"""The benchmarks run and their figures stand in the documentation. Nothing here judges a time."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import records, requests, workers
from benchmarks.measure import (
    OURS,
    Batch,
    Effort,
    Figure,
    Interval,
    alone,
    compare,
    figures_in,
    in_a_process,
    interval,
    ratio,
)
from benchmarks.page import PAGE, PLACE, filled
from benchmarks.pictures import DOCS, KEPT, PICTURES, dots, pictures
from benchmarks.run import GROUPS, SLOWEST, drifted, joined, measured, write
from benchmarks.targets import TARGETS, Target, figures_for, verdict
from measure_scale import ROUNDS

TINY = Effort(rounds=2, quick=True)
QUICK_GROUPS = ("tokens", "profile", "hashing", "imports", "faces", "memory", "sqlite", "postgres", "valkey")


def kept() -> dict[str, Any]:
    return dict(json.loads(KEPT.read_text()))


class TestFigures:
    def test_an_interval_holds_the_median_and_narrows_with_more_rounds(self) -> None:
        few, many = interval(range(20)), interval(range(2000))
        assert few.low < few.median < few.high
        assert (many.high - many.low) / 2000 < (few.high - few.low) / 20

    def test_an_interval_of_a_few_rounds_reaches_from_the_least_to_the_most(self) -> None:
        assert interval([3, 1, 2]) == Interval(low=1, median=2, high=3)

    def test_an_interval_has_the_rank_of_the_sign_test(self) -> None:
        """With 20 rounds: 3 below and 3 above are left out, as tables of the sign test have it for 99 %."""
        assert interval(range(20)) == Interval(low=3, median=9.5, high=16)

    def test_a_ratio_is_of_each_round(self) -> None:
        assert ratio("what", "other", [1, 10, 100], [2, 20, 200]).value == Interval(low=0.5, median=0.5, high=0.5)

    def test_sides_take_turns_and_the_first_rounds_are_dropped(self) -> None:
        turns = list[str]()

        def side(name: str) -> Any:
            def batch(count: int) -> Batch:
                turns.append(name)
                return str, range(count)

            return batch

        figures = compare("what", {OURS: side("ours"), "other": side("theirs")}, rounds=10, calls=3)
        assert [{*turns[at : at + 2]} for at in range(0, len(turns), 2)] == [{"ours", "theirs"}] * 12
        assert [(each.beside, each.unit, each.rounds) for each in figures] == [("", "µs", 10), ("other", "×", 10)]


class TestGroups:
    @pytest.mark.parametrize("group", QUICK_GROUPS)
    def test_each_group_runs_and_gives_figures(self, group: str) -> None:
        given = json.loads(json.dumps(measured([group], TINY)))
        assert given["figures"][group]
        assert {"cpu", "cores", "python"} <= given["machine"].keys()
        assert given["versions"].keys() >= {"resetkit", "argon2-cffi"}
        assert given["runs"][group].keys() == {"rounds", "quick", "when", "load"}
        for name, each in figures_in(given)[group].items():
            assert name == each.name
            assert each.value.low <= each.value.median <= each.value.high
            assert each.rounds > 0

    def test_a_request_is_measured_beside_a_peer(self) -> None:
        """Of those peers that the development extra brings along."""
        figures = [*requests.by_itself(TINY), *in_a_process(requests.beside, "django_view", TINY, False)]
        assert {each.what for each in figures} == {
            *("request, known", "request, unknown"),
            *("visit, known", "visit, unknown", "link", "new password"),
        }

    def test_a_store_is_measured_beside_many_records(self) -> None:
        figures = records.of_engine("valkey", [1000, 2000])
        assert [(each.what, each.rounds) for each in figures if "add" in each.what] == [
            ("valkey, add, 1000 records", ROUNDS // 2),
            ("valkey, add, 2000 records", ROUNDS // 2),
            ("valkey, add, its largest ratio to its least", ROUNDS // 2),
        ]
        assert len(figures) == 3 * len(records.OPERATIONS)

    def test_a_ratio_that_grows_with_the_records_is_told(self) -> None:
        few, many = (ratio("what", "by hand", [each] * 20, [1.0] * 20) for each in (1.1, 2.2))
        assert records.change("change", [few, many]).value.median == pytest.approx(2)

    @pytest.mark.parametrize(("processes", "threads"), [(2, 1), (1, 2)])
    def test_workers_come_to_the_end_of_resets(self, processes: int, threads: int, tmp_path: Path) -> None:
        place = tmp_path / "tokens.sqlite3"
        assert workers.resets_a_second("sqlite", place, processes, threads, 1.0) > 0

    def test_what_is_kept_has_every_group(self) -> None:
        assert {*kept()["figures"]} == {*GROUPS, *SLOWEST}


def run_with(median: float, *, unit: str = "×", cpu: str = "a", group: str = "tokens") -> dict[str, Any]:
    value = {"low": median - 0.1, "median": median, "high": median + 0.1}
    figure = {"what": "issue", "beside": "", "unit": unit, "value": value, "medians": {}, "rounds": 20}
    return {"machine": {"cpu": cpu}, "versions": {}, "runs": {group: {}}, "figures": {group: {"issue": figure}}}


class TestKeeping:
    def test_each_group_is_kept_as_soon_as_it_is_measured(self) -> None:
        seen = list[set[str]]()
        measured(["imports", "hashing"], TINY, lambda kept: seen.append({*kept["figures"]}))
        assert seen == [{"imports"}, {"imports", "hashing"}]

    def test_what_is_written_is_joined(self, tmp_path: Path) -> None:
        for group in ("tokens", "sqlite"):
            write(tmp_path / "kept.json", run_with(1.0, group=group))
        assert json.loads((tmp_path / "kept.json").read_text())["figures"].keys() == {"tokens", "sqlite"}

    def test_a_group_replaces_itself_alone(self) -> None:
        old, new = run_with(1.0) | {"runs": {"tokens": {}, "sqlite": {}}}, run_with(2.0)
        kept = joined(old, new)
        assert kept["figures"]["tokens"] == new["figures"]["tokens"]
        assert kept["runs"].keys() == {"tokens", "sqlite"}
        assert joined(run_with(1.0, group="sqlite"), new)["figures"].keys() == {"tokens", "sqlite"}

    def test_figures_of_another_machine_are_not_kept_beside(self) -> None:
        assert joined(run_with(1.0, group="sqlite", cpu="b"), run_with(2.0)) == run_with(2.0)


class TestDrift:
    def test_a_figure_beyond_both_intervals_is_told(self) -> None:
        assert drifted(run_with(1.0), run_with(1.3)) == ["tokens: issue: 1 ×, now 1.3"]
        assert drifted(run_with(1.3), run_with(1.0)) == ["tokens: issue: 1.3 ×, now 1"]

    def test_one_within_the_intervals_is_not(self) -> None:
        assert drifted(run_with(1.0), run_with(1.15)) == []

    def test_times_are_compared_on_the_same_machine_only(self) -> None:
        assert drifted(run_with(1.0, unit="µs"), run_with(2.0, unit="µs"))
        assert not drifted(run_with(1.0, unit="µs"), run_with(2.0, unit="µs", cpu="b"))
        assert drifted(run_with(1.0), run_with(2.0, cpu="b"))

    def test_a_count_may_be_off_by_a_hundredth(self) -> None:
        """A count has no interval, and what memory holds differs by some bytes."""
        once, more, most = (run_with(each) for each in (100, 100.5, 102))
        for each in (once, more, most):
            value = each["figures"]["tokens"]["issue"]["value"]
            value["low"] = value["high"] = value["median"]
        assert drifted(once, more) == []
        assert drifted(once, most)

    def test_a_new_figure_has_not_drifted(self) -> None:
        assert drifted(run_with(1.0) | {"figures": {}}, run_with(2.0)) == []


class TestTargets:
    @pytest.mark.parametrize(("low", "high", "said"), [(0.5, 0.9, "reached"), (0.9, 1.1, "open"), (1.1, 1.2, "missed")])
    def test_the_interval_decides(self, low: float, high: float, said: str) -> None:
        figure = Figure(what="issue", value=Interval(low=low, median=low, high=high), rounds=20)
        assert verdict(Target("Issue", "tokens", ("issue",), 1.0), [figure]) == said

    def test_what_was_not_measured_is_not_reached(self) -> None:
        assert verdict(TARGETS[0], []) == "not measured"

    @pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.says)
    def test_each_target_has_its_figures(self, target: Target) -> None:
        names = figures_in(kept())[target.group]
        assert all(any(key.startswith(name) for key in names) for name in target.names)
        assert figures_for(target, figures_in(kept()))


class TestPage:
    def test_the_page_has_the_figures_that_are_kept(self) -> None:
        assert PAGE.read_text() == filled(PAGE.read_text(), kept())

    def test_the_page_has_a_place_for_each_group(self) -> None:
        assert {place[1] for place in PLACE.findall(PAGE.read_text())} == {"targets", "machine", *GROUPS, *SLOWEST}

    def test_the_pictures_are_of_the_figures_that_are_kept(self) -> None:
        drawn = pictures(figures_in(kept()))
        assert len(drawn) == len(PICTURES)
        for name, text in drawn.items():
            assert (DOCS / name).read_text() == text

    def test_a_dot_is_where_its_figure_is(self) -> None:
        """On a scale of powers of ten: a hundred is twice as far from one as ten."""
        text = dots("Title", {"issue": {"least": 1.0, OURS: 10.0, "other": 100.0}})
        least, ours, other = (float(each) for each in re.findall(r'class="dot" cx="([\d.]+)"', text))
        assert other - least == pytest.approx(2 * (ours - least))


def test_what_nothing_stands_beside_has_its_unit() -> None:
    assert alone("memory", "MiB", [1.0]).name == "memory"
