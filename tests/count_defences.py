"""How many known failures of docs/attacks.md are answered, and by what: ``python tests/count_defences.py``."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from resetkit.testing import vectors

TESTS = Path(__file__).parent
TABLE = TESTS.parent / "docs" / "attacks.md"


@dataclass(frozen=True)
class Row:
    """One failure: its ids, and what shows the answer."""

    ids: tuple[str, ...]
    shown_by: tuple[str, ...]

    @property
    def tests(self) -> list[str]:
        return [each for each in self.shown_by if "::" in each]


def rows() -> list[Row]:
    """The rows of the table, in its order."""
    found: list[Row] = []
    for line in TABLE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if line.startswith("| ") and cells[0] != "failure":
            ids, _, _, shown_by = cells
            found.append(Row(tuple(ids.split(", ")), tuple(each.strip("`") for each in shown_by.split(", "))))
    return found


def sentences() -> dict[str, str]:
    """What each test says it proves: its docstring, by file and name."""
    return {
        f"tests/{path.name}::{name}": text
        for path in sorted(TESTS.glob("test_*.py"))
        for name, text in _tests(ast.parse(path.read_text("utf-8")).body)
    }


def _tests(nodes: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}::{name}", text) for name, text in _tests(node.body))
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name, ast.get_docstring(node) or ""


def main() -> None:
    """Print the counts."""
    known = rows()
    tests = {test for row in known for test in row.tests}
    print(f"{len(known):5}  known failures, {sum(len(row.ids) for row in known)} ids")
    print(f"{sum(bool(row.tests) for row in known):5}  answered by tests: {len(tests)}, each named by its failures")
    for part in ("page", "application"):
        alone = sum(row.shown_by == (part,) for row in known)
        print(f"{sum(part in row.shown_by for row in known):5}  with a part for the {part}, {alone} for it alone")
    print(f"{len(vectors.cases()):5}  vectors in {len(vectors.groups())} groups")


if __name__ == "__main__":
    main()
