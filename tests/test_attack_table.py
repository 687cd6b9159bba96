"""The table of known failures: what it names exists and says so, and what says so stands in it."""

import re

import pytest

import count_defences
from count_defences import Row
from resetkit.testing import vectors

ROWS, SENTENCES = count_defences.rows(), count_defences.sentences()
SOURCES = {f"vectors/{group.name}": ", ".join(group.sources) for group in vectors.groups()}
PARTS = ("page", "application")

NUMBERED = re.compile(r"\b(?:CVE-\d{4}-\d{4,}|GHSA(?:-[0-9a-z]{4}){3}|H1-\d+|SS-\d{4}-\d+)\b")


def names(text: str, failure: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(failure)}(?!\w)", text) is not None


def faults(row: Row) -> list[str]:
    """What is wrong with a row."""
    told = {each: (SENTENCES | SOURCES).get(each) for each in row.shown_by if each not in PARTS}
    found = [f"{each} does not exist" for each, text in told.items() if text is None]
    texts = {each: text for each, text in told.items() if text is not None}
    found += [
        f"{each} names none of it" for each, text in texts.items() if not any(names(text, one) for one in row.ids)
    ]
    everything = "\n".join(text for each, text in texts.items() if each in SENTENCES)
    if row.tests:
        found += [f"no test names {one}" for one in row.ids if not names(everything, one)]
    elif not set(row.shown_by) & set(PARTS):
        found.append("neither a test nor whose part it is")
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.ids[0])
def test_a_row_names_tests_and_vectors_that_exist_and_name_its_failures(row: Row) -> None:
    assert faults(row) == []


USED = "tests/test_flows.py::TestEndsOfAToken::test_used"


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (
            Row(("CVE-2024-41888",), ("tests/test_flows.py::test_gone",)),
            "tests/test_flows.py::test_gone does not exist",
        ),
        (Row(("CVE-2024-41888",), ("vectors/gone",)), "vectors/gone does not exist"),
        (Row(("CVE-1999-0001",), (USED,)), f"{USED} names none of it"),
        (Row(("CVE-2024-4188",), (USED,)), "no test names CVE-2024-4188"),
        (Row(("CVE-2024-41888", "CVE-1999-0001"), (USED,)), "no test names CVE-1999-0001"),
        (Row(("CVE-1999-0001",), ("vectors/types", "page")), "vectors/types names none of it"),
        (Row(("CVE-2024-41888",), ("vectors/orders",)), "neither a test nor whose part it is"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_row_is_caught(row: Row, fault: str) -> None:
    assert fault in faults(row)


def test_no_failure_stands_there_twice_and_none_was_lost() -> None:
    ids = [one for row in ROWS for one in row.ids]
    assert len(ids) == len(set(ids))
    assert len(ROWS) >= 115
    assert len(ids) >= 177


def test_every_failure_that_a_test_names_stands_in_the_table() -> None:
    listed = {one for row in ROWS for one in row.ids}
    named = {one for text in SENTENCES.values() for one in NUMBERED.findall(text)}
    assert len(named) >= 150
    assert named <= listed


def test_every_source_of_a_vector_stands_in_the_table_beside_it() -> None:
    for group in vectors.groups():
        for source in group.sources:
            assert any(source in row.ids and f"vectors/{group.name}" in row.shown_by for row in ROWS), source


def test_the_counts_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    count_defences.main()
    printed = capsys.readouterr().out
    assert f"{len(ROWS)}  known failures" in printed
    assert f"{len(vectors.cases())}  vectors in {len(vectors.groups())} groups" in printed
