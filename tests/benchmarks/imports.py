"""``import resetkit`` beside a bare start of Python: in processes of their own, in turns."""

import os
import subprocess
import sys
from typing import Final

from benchmarks.measure import OURS, Batch, Effort, Figure, Side, alone, difference, take_turns

BARE: Final = "a bare start"
OPTIONAL: Final = ("sqlalchemy", "redis", "limits", "pytest", "hypothesis", "sqlite3", "smtplib")
LOADED: Final = "import sys; before = {*sys.modules}; import resetkit; print(*sorted({*sys.modules} - before))"


def figures(effort: Effort) -> list[Figure]:
    taken = take_turns({OURS: start("import resetkit"), BARE: start("pass")}, rounds=effort.rounds, calls=1)
    ours, bare = ([each / 1000 for each in taken[name]] for name in (OURS, BARE))
    modules = loaded()
    heavy = [name for name in OPTIONAL if name in modules]
    return [
        difference("import resetkit", BARE, "ms", ours, bare),
        alone("modules that it loads", "", [len(modules)]),
        alone("asyncio is one of them (1: yes)", "", ["asyncio" in modules]),
        alone(f"modules that it loads, of {', '.join(OPTIONAL)}", "", [len(heavy)]),
    ]


def start(program: str) -> Side:
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def batch(count: int) -> Batch:
        return lambda each: subprocess.run(each, check=True, env=compiled), [[sys.executable, "-c", program]] * count

    return batch


def loaded() -> list[str]:
    """The modules that come with it, beyond what Python starts with."""
    told = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True).stdout
    return told.split()
