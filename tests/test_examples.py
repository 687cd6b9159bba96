"""The examples that have tests of their own pass them, as their own projects would run them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_django_adapter_keeps_every_promise_of_a_store(tmp_path: Path) -> None:
    project = shutil.copytree(EXAMPLES / "resetkit-django", tmp_path / "resetkit-django")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"],
        cwd=project,
        env=os.environ | {"PYTEST_ADDOPTS": ""},  # which is of this run
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout.splitlines()[-1]
