"""The documentation site: every page is found, every link leads somewhere, every drawing is that of its source.

The generator needs to be installed for none of this; `docs/build.py` builds the site itself, strictly.
"""

import ast
import hashlib
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import resetkit

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")
DEFINED = re.compile(r"^\[([\w-]+)\]: (?:\w+:\S+|([^#\s]*)(?:#(\S+))?)$", re.MULTILINE)
MODULES = [  # whose names are public, besides those of resetkit itself
    *("stores", "stores.redis", "stores.sqlalchemy", "mailers", "dispatch", "throttle", "events"),
    *("testing", "testing.strategies", "testing.timing", "testing.vectors"),
]


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^( *)(```|~~~).*?^\1\2", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What a link into `page` may name, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    named = DEFINED.findall(prose(page))
    assert {name for name, _, _ in named} == set(re.findall(r"\]\[([\w-]+)\]", prose(page)))
    for *_, target, anchor in [*LINK.findall(prose(page)), *named]:
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_heading_has_one_anchor_that_the_site_makes_too(page: Path) -> None:
    """The site joins what GitHub leaves apart; a heading for which that matters could be linked on one of them only."""
    made = [found for found in anchors(page) if re.search(r"--|^-|-$", found)]
    linked = {anchor for each in PAGES for _, _, _, anchor in LINK.findall(prose(each))}
    assert not linked & set(made)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_picture_says_in_words_what_it_shows(page: Path) -> None:
    assert all(words for picture, words, _, _ in LINK.findall(prose(page)) if picture)


def entries(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        for target in entry.values():
            yield from [target] if isinstance(target, str) else entries(target)


def test_every_page_is_in_the_navigation_once() -> None:
    nav = list(entries(tomllib.loads((DOCS / "zensical.toml").read_text())["project"]["nav"]))
    assert sorted(nav) == sorted(["changelog.md", *(page.name for page in DOCS.glob("*.md"))])


@pytest.mark.parametrize("source", sorted(DOCS.glob("*.mmd")), ids=lambda source: source.name)
def test_every_drawing_is_that_of_its_source_and_shown(source: Path) -> None:
    """`docs/build.py` draws it anew, and compares."""
    drawing = source.with_suffix(".svg").read_text()
    assert f"<!-- sha256 of the source: {hashlib.sha256(source.read_bytes()).hexdigest()} -->" in drawing
    assert "prefers-color-scheme: dark" in drawing
    assert any(f"]({source.stem}.svg)" in page.read_text() for page in PAGES)


def own_names(module: Any) -> list[str]:
    """The public names of a module: its `__all__`, or what it defines."""
    defined = (name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
    return list(getattr(module, "__all__", None) or [name for name in defined if not name.startswith("_")])


def in_reference() -> dict[str, Any]:
    """Everything that the reference takes from docstrings, by its full name."""
    directives = [
        directive
        for page in DOCS.glob("reference*.md")
        for directive in re.findall(r"^#+ ::: (\S+)$", page.read_text(), re.MULTILINE)
    ]
    assert len(directives) == len(set(directives))
    found: dict[str, Any] = {}
    for directive in directives:
        parent, _, last = directive.rpartition(".")
        if directive.removeprefix("resetkit.") in MODULES:
            module = importlib.import_module(directive)
            found |= {f"{directive}.{name}": getattr(module, name) for name in own_names(module)}
        else:
            found[directive] = getattr(importlib.import_module(parent), last)
    return found


def test_every_public_name_is_in_the_reference() -> None:
    public = {f"resetkit.{name}" for name in resetkit.__all__}
    for module in (importlib.import_module(f"resetkit.{name}") for name in MODULES):
        public |= {f"{module.__name__}.{name}" for name in own_names(module)}
    assert len(public) > 100
    assert set(in_reference()) == public


def described_assignments() -> set[str]:
    """The names that are assigned at the top of a module with a docstring behind."""
    found: set[str] = set()
    for path in Path(resetkit.__file__).parent.rglob("*.py"):
        body = ast.parse(path.read_text()).body
        for statement, following in pairwise(body):
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            described = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            found |= {each.id for each in targets if described and isinstance(each, ast.Name)}
    return found


def test_everything_in_the_reference_has_a_docstring() -> None:
    assigned = described_assignments()
    for name, value in in_reference().items():
        if not (inspect.isclass(value) or inspect.isfunction(inspect.unwrap(value))):
            assert name.rpartition(".")[2] in assigned, name
            continue
        assert value.__doc__, name
        assert not value.__doc__.startswith(f"{value.__name__}("), f"{name} has a dataclass's own docstring"
        for member, it in inspect.getmembers(value):
            function = it.fget if isinstance(it, property) else it
            ours = inspect.isfunction(function) and function.__module__.startswith("resetkit")
            assert it.__doc__ or member.startswith("_") or not ours, f"{name}.{member}"
