"""The documentation: every code block runs, and every test that it names is there. Its links: see test_site.py."""

import importlib
import inspect
import re
import runpy
import subprocess
import sys
from importlib.metadata import metadata
from operator import attrgetter
from pathlib import Path
from textwrap import indent

import pytest
import sqlalchemy
from sybil import Document
from sybil.parsers.markdown import PythonCodeBlockParser

import resetkit
from broken_stores import TWINS
from resetkit import InvalidTokenError
from resetkit._findings import RULES
from resetkit.mailers import MemoryMailer
from resetkit.stores import MemoryTokenStore

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES_ALONE = sorted((ROOT / "docs").glob("from-*.md"))
PAGES_TOGETHER = [page for page in PAGES if page not in PAGES_ALONE]
NAMED = re.compile(r"`tests/([\w/]+)\.py::([\w:]+)`")


@pytest.mark.parametrize("page", PAGES_ALONE, ids=lambda page: page.name)
def test_every_code_block_runs_beside_another_library(page: Path, tmp_path: Path) -> None:
    """In a process of its own: these pages set up Django and others, which a process does once."""
    blocks = [example.parsed for example in Document.parse(str(page), PythonCodeBlockParser()).examples()]
    assert len(blocks) == page.read_text().count("```python\n")
    (tmp_path / "page.py").write_text("\n".join(blocks))
    command = [sys.executable, "-W", "error", "page.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES_TOGETHER, ids=lambda page: page.name)
def test_every_code_block_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    document = Document.parse(str(page), PythonCodeBlockParser())
    for example in document.examples():
        example.evaluate()
    blocks = page.read_text().count("```python\n")
    assert len(list(document.examples())) == blocks
    for name, value in document.namespace.items():
        if name in {"manager", "asking", "working", "watched"}:
            value.close()
        if isinstance(value, sqlalchemy.Engine):
            value.dispose()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_excerpt_stands_in_an_example(page: Path) -> None:
    """A block marked ``py`` is a part of a program that has tests of its own."""
    examples = [path.read_text() for path in (ROOT / "examples").rglob("*.py")]
    for excerpt in re.findall(r"^```py\n(.+?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        indented = [indent(excerpt, " " * depth) for depth in (0, 4, 8)]
        assert any(each in text for each in indented for text in examples), excerpt


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_program_that_a_console_block_runs_is_there(page: Path) -> None:
    """The long measurements are run by hand; benchmarks, site, demo, check and kits have tests of their own."""
    blocks = re.findall(r"^```console\n(.+?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    named = re.findall(r"\b(?:tests|docs|examples)/[\w./-]+", "\n".join(blocks))
    assert [each for each in named if not (ROOT / each).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_function_to_copy_for_a_new_password_says_what_became_of_it(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that defines a function runs without a look at what is in it."""
    monkeypatch.chdir(tmp_path)
    document = Document.parse(str(ROOT / page), PythonCodeBlockParser())
    for example in document.examples():
        example.evaluate()
    names = document.namespace
    names["manager"].close()
    manager = resetkit.ResetManager(names["Accounts"](), MemoryTokenStore(), MemoryMailer(), link=names["link"])
    names["manager"] = manager
    given = [manager] * (page == "README.md")
    with manager:
        token = manager.issue_token("1").token
        told = [
            names["choose_password"](*given, token, new, "192.0.2.1") for new in ("long" * 1000, *["new word"] * 61)
        ]
    assert told[0] == "The password is longer than 1024 characters."
    assert told[1:3] == ["Your password was changed. Please log in.", str(InvalidTokenError("used"))]
    assert told[-1].startswith("Please wait ")


def test_the_readme_has_code_to_run() -> None:
    assert (ROOT / "README.md").read_text().count("```python\n") >= 2


def test_both_managers_take_the_same_arguments() -> None:
    for name in ("__init__", "request_reset", "check_token", "reset_password", "issue_token", "close"):
        sync, other = (
            inspect.signature(getattr(manager, name)) for manager in (resetkit.ResetManager, resetkit.AsyncResetManager)
        )
        assert list(sync.parameters) == list(other.parameters)
        for parameter in sync.parameters:
            first, second = sync.parameters[parameter], other.parameters[parameter]
            assert (first.kind, first.default) == (second.kind, second.default)


def test_no_request_has_a_say_in_the_link() -> None:
    """CVE-2021-30185: nothing in the signature could carry a host."""
    parameters = inspect.signature(resetkit.ResetManager.request_reset).parameters
    assert list(parameters) == ["self", "identifier", "client", "code", "context"]


def test_the_quickstart_plays_its_story(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / "quickstart.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "refused: Please use at least 8 characters." in printed
    assert printed.endswith(
        "refused: This link or code was already used. Ask for a new mail if you need one.\n"
        "still logged in: False\nold password works: False\nnew password works: True\n"
    )


def test_the_installed_package_has_its_licence_and_two_requirements() -> None:
    found = metadata("resetkit")
    assert found["License-Expression"] == "MIT"
    assert sorted(each for each in found.get_all("Requires-Dist") or [] if "extra" not in each) == [
        "argon2-cffi>=23.1",
        "typing-extensions>=4.10",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_and_twin_that_a_page_names_is_there(page: Path) -> None:
    for file, name in NAMED.findall(page.read_text()):
        assert attrgetter(name.replace("::", "."))(importlib.import_module(file.replace("/", ".")))


def test_each_promise_has_its_number_and_tests_that_show_it() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    rows = re.findall(r"^\| (P\d+) \| (.+) \| .+ \|$", text, re.MULTILINE)
    assert [number for number, _ in rows] == numbers("P")
    for _, cell in rows:
        names = [name for _, name in NAMED.findall(cell)]
        assert len(names) == cell.count("`") / 2 > 0
        assert all(name.split("::")[-1].startswith("test_") for name in names)


@pytest.mark.parametrize("page", ["check.md", "security.md", "standards.md"])
def test_the_numbers_of_promises_and_non_promises_lead_somewhere(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    assert set(re.findall(r"\b[PN]\d+\b", text)) <= {*numbers("P"), *numbers("N")}


def numbers(letter: str) -> list[str]:
    """The numbers that promises (P) or non-promises (N) have: from 1 on, without a gap."""
    text = (ROOT / "docs" / "security.md").read_text()
    found = re.findall(rf"^- \*\*({letter}\d+)", text, re.MULTILINE)
    assert found == [f"{letter}{number}" for number in range(1, len(found) + 1)]
    assert len(found) > 20
    return found


def test_every_finding_of_the_check_is_in_its_table() -> None:
    text = (ROOT / "docs" / "check.md").read_text()
    listed = re.findall(r"^\| `([a-z-]+)`(, advice)? \|", text, re.MULTILINE)
    assert listed == [(rule.name, ", advice" * rule.advice) for rule in RULES]


def test_the_table_of_broken_stores_is_that_of_the_tests() -> None:
    """Each was caught in every run, by each check that names its promise."""
    lines = (ROOT / "docs" / "adapters.md").read_text().splitlines()
    rows = [line.split(" | ") for line in lines if "| `test_" in line]
    told = {(row[0].removeprefix("| ").split(":")[0], row[1].strip("`")) for row in rows}
    assert told == {(twin.__name__, check) for twin, checks in TWINS.items() for check in checks}
    assert {counts.strip(" |") for row in rows for counts in row[2:]} == {"20 of 20", "-"}
