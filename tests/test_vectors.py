"""The vectors: well-formed, each of them used, kept by both managers, and able to catch a broken site."""

import json
import runpy
from collections import Counter
from importlib.resources import files
from typing import Any

import pytest

from resetkit.testing import BrokenPromiseError, vectors
from resetkit.testing.vectors import Case
from resetkit.testing.vectors._run import _CHECKS
from sites import TWINS, AsyncSite, DoesNothing, SyncSite, opener

FILES = sorted(file.name for file in files(vectors).iterdir() if file.name.endswith(".json"))


@pytest.mark.parametrize("case", vectors.cases(), ids=str)
@pytest.mark.parametrize("site", [SyncSite, AsyncSite], ids=["sync", "async"])
def test_the_manager_keeps_every_vector(site: type[SyncSite], case: Case) -> None:
    vectors.check(case, opener(site))


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.__name__)
def test_a_broken_site_is_caught_by_its_group(twin: type[SyncSite]) -> None:
    group = TWINS[twin]
    failures = vectors.run(opener(twin), vectors.cases(group))
    assert failures
    assert all(each.startswith(f"{group}:") and says.startswith(f"{each} (") for each, says in failures.items())


def test_every_group_catches_a_broken_site() -> None:
    assert set(TWINS.values()) == {group.name for group in vectors.groups()}


def test_a_site_that_does_nothing_keeps_no_vector_but_the_links_that_nobody_may_take() -> None:
    kept = {str(case) for case in vectors.cases()} - set(vectors.run(opener(DoesNothing)))
    assert kept == {str(case) for case in vectors.cases("link_bases") if case.result == "invalid"}


def test_a_sound_site_has_no_failures_to_tell() -> None:
    assert vectors.run(opener(SyncSite), vectors.cases("orders")) == {}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_ascii_and_of_one_form(name: str) -> None:
    text = (files(vectors) / name).read_text("ascii")
    group: Any = json.loads(text)
    assert list(group) == ["name", "check", "about", "sources", "cases"]
    assert f"{group['name']}.json" == name
    assert group["check"] in _CHECKS
    assert all(isinstance(each, str) and each for each in [group["about"], *group["sources"]])
    assert group["sources"]
    for case in group["cases"]:
        assert list(case) == ["id", "comment", "input", "result"]
        assert all(isinstance(case[key], str) and case[key] for key in ("id", "comment", "result"))


def test_every_case_of_every_file_is_loaded_under_an_id_of_its_own() -> None:
    written = [
        f"{group['name']}:{case['id']}"
        for group in (json.loads((files(vectors) / name).read_text("ascii")) for name in FILES)
        for case in group["cases"]
    ]
    assert [case.id for case in vectors.cases()] == written
    assert max(Counter(written).values()) == 1


def test_every_way_of_trying_has_cases() -> None:
    assert {case.check for case in vectors.cases()} == set(_CHECKS)


def test_cases_of_chosen_groups_only() -> None:
    assert {case.check for case in vectors.cases("races", "orders")} == {"races", "orders"}
    with pytest.raises(LookupError, match="no group"):
        vectors.cases("race")


def test_a_failure_names_the_case_and_what_was_expected() -> None:
    (case,) = (case for case in vectors.cases("orders") if case.id == "orders:twice")
    twin = next(twin for twin in TWINS if twin.__name__ == "NeverSpends")
    with pytest.raises(BrokenPromiseError, match=r"orders:twice \(redeemed twice: CVE-2024-41888\): expected False"):
        vectors.check(case, opener(twin))


def test_an_error_that_escapes_is_a_failure_with_its_type() -> None:
    twin = next(twin for twin in TWINS if twin.__name__ == "CrashesOnNul")
    failures = vectors.run(opener(twin), vectors.cases("hostile_text"))
    assert "ValueError" in failures["hostile_text:nul"]


def test_an_unknown_result_is_an_error() -> None:
    from resetkit.testing.vectors._cases import _cases  # noqa: PLC0415  # only here

    with pytest.raises(ValueError, match="must be one of"):
        list(_cases("g", "typed", [{"id": "i", "comment": "c", "input": "", "result": "good"}]))


def test_the_command_prints_groups_counts_and_total(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_module("resetkit.testing.vectors", run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    counts = [int(line.split()[0]) for line in lines]
    assert [line.split()[1] for line in lines[:-1]] == [f"{group.name}:" for group in vectors.groups()]
    assert counts[-1] == sum(counts[:-1]) == len(vectors.cases()) > 500
