"""The command, as a person or cron runs it."""

import io
import runpy
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest

from harness import put
from resetkit.cli import main
from resetkit.stores import SQLiteTokenStore
from resetkit.testing._records import record


def test_the_demo_tells_the_whole_story() -> None:
    """In a process of its own, as from the README."""
    done = subprocess.run([sys.executable, "-m", "resetkit", "demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for words in (
        "To: alice@example.org",
        "https://app.example/reset#",
        "1 reset the password; 15 were told that it was used.",
        "Alice's sessions were ended 1 time.",
        "Your password was changed",
        "used: This link or code was already used.",
        "expired: This link or code has expired.",
        "RequestDropped(reason='unknown'",
    ):
        assert words in done.stdout
    answers = [line for line in done.stdout.splitlines() if "ResetReceipt(" in line]
    assert len(answers) == 2
    assert answers[0] == answers[1]


def test_the_demo_runs_in_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == 0
    assert "8. What the application was told meanwhile:" in capsys.readouterr().out


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A store with 250 records long past their keep time, and one that is not."""
    path = tmp_path / "tokens.sqlite3"
    store = SQLiteTokenStore(path)
    long_ago = datetime(2000, 1, 1, tzinfo=UTC)
    put(store, *(record(f"s{number}", f"a{number}", at=long_ago) for number in range(250)))
    put(store, record("live"))
    store.close()
    return path


def test_purge_deletes_what_is_past_its_keep_time(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["purge", str(file)]) == 0
    assert capsys.readouterr() == ("250 records purged\n", "")
    store = SQLiteTokenStore(file)
    assert store.get("live") is not None
    store.close()
    assert main(["purge", str(file)]) == 0
    assert capsys.readouterr().out == "0 records purged\n"


def test_purge_shows_progress_to_a_person(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["purge", str(file)]) == 0
    assert terminal.getvalue() == "\r100 records so far\r200 records so far\r250 records so far\n"


@pytest.mark.parametrize("content", [None, b"no database" * 99])
def test_purge_explains_a_wrong_file(tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other"
    if content:
        path.write_bytes(content)
    assert main(["purge", str(path)]) == 1
    assert capsys.readouterr().err.startswith(f"resetkit: {path} is ")
    assert path.exists() == bool(content), "a wrong path must not make a file"


def test_purge_leaves_another_database_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "users.sqlite3"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE users (id)")
    before = path.read_bytes()
    assert main(["purge", str(path)]) == 1
    assert "holds no tokens" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_purge_names_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["purge", str(tmp_path)]) == 1
    assert "is a folder" in capsys.readouterr().err


def test_a_reader_who_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m resetkit demo | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_a_broken_pipe_ends_quietly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail() -> None:
        raise BrokenPipeError

    monkeypatch.setattr("resetkit.cli.run_demo", fail)
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["demo"]) == 1


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"resetkit {version('resetkit')}\n"


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["purge"]])
def test_bad_usage_is_explained_with_status_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "usage: resetkit" in capsys.readouterr().err


def test_the_module_is_the_command_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["resetkit", "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module("resetkit", run_name="__main__")
    assert left.value.code == 0
    assert "demo" in capsys.readouterr().out
