"""A process killed at each step of a redemption: the token is outstanding or spent, the file is sound."""

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from harness import ADDRESS, KEY, LINK
from resetkit import Account, InvalidTokenError, KeyedTokenHasher, ResetManager
from resetkit.dispatch import InlineDispatcher
from resetkit.mailers import MemoryMailer
from resetkit.stores import SQLiteTokenStore

# The application: accounts in a file of their own, which the killed process writes and we read.
APPLICATION = """
import json, os, signal, sys
from pathlib import Path
from harness import tap
from resetkit import Account, KeyedTokenHasher, ResetManager
from resetkit.dispatch import InlineDispatcher
from resetkit.mailers import MemoryMailer
from resetkit.stores import SQLiteTokenStore

folder, token, fatal = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
file = folder / "account.json"

class Accounts:
    def find(self, identifier, /): ...
    def get(self, account_id, /):
        return Account(id="alice", email="alice@example.org", stamp=json.loads(file.read_text())["password"])
    def set_password(self, account_id, new_password, /):
        write(password=str(new_password), sessions=0)  # in one transaction, as the contract advises
    def end_sessions(self, account_id, /):
        write(sessions=0)

def write(**changes):
    draft = folder / "draft"
    draft.write_text(json.dumps(json.loads(file.read_text()) | changes))
    draft.rename(file)

def step(name):
    if name == fatal:
        os.kill(os.getpid(), signal.SIGKILL)

manager = ResetManager(
    tap(Accounts(), step, "accounts"), tap(SQLiteTokenStore(folder / "tokens.sqlite3"), step, "store"),
    tap(MemoryMailer(), step, "mailer"), link="https://app.example/reset#{token}", hasher=KeyedTokenHasher([b"k" * 32]),
    dispatcher=tap(InlineDispatcher(), step, "dispatcher"),
)
manager.reset_password(token, "new")
"""

BEFORE_THE_CLAIM = ["store.get before", "store.get after", "store.claim before"]
BEFORE_THE_WRITE = ["store.claim after", "accounts.get before", "accounts.get after", "accounts.set_password before"]
AFTER_THE_WRITE = [
    "accounts.set_password after",
    "accounts.end_sessions before",
    "accounts.end_sessions after",
    "dispatcher.dispatch before",
    "mailer.send before",
    "mailer.send after",
    "dispatcher.dispatch after",
]


class Accounts:
    """The same accounts, read by the process that lives on."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "account.json"

    def find(self, _identifier: str, /) -> Account | None:
        return self.get("alice")

    def get(self, _account_id: str, /) -> Account | None:
        return Account(id="alice", email=ADDRESS, stamp=self.read("password"))

    def set_password(self, _account_id: str, new_password: str, /) -> None:
        self.file.write_text(json.dumps({"password": str(new_password), "sessions": 0}))

    def end_sessions(self, _account_id: str, /) -> None: ...

    def read(self, name: str) -> str:
        return str(json.loads(self.file.read_text())[name])


@pytest.mark.parametrize("fatal", [*BEFORE_THE_CLAIM, *BEFORE_THE_WRITE, *AFTER_THE_WRITE])
def test_a_killed_process_leaves_the_token_outstanding_or_spent_and_never_usable_after_the_write(
    tmp_path: Path, fatal: str
) -> None:
    (tmp_path / "account.json").write_text(json.dumps({"password": "old", "sessions": 1}))
    accounts, store = Accounts(tmp_path), SQLiteTokenStore(tmp_path / "tokens.sqlite3")
    hasher = KeyedTokenHasher([KEY])
    manager = ResetManager(accounts, store, MemoryMailer(), link=LINK, hasher=hasher, dispatcher=InlineDispatcher())
    token = manager.issue_token("alice").token

    command = [sys.executable, "-c", APPLICATION, str(tmp_path), token, fatal]
    killed = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    check = sqlite3.connect(tmp_path / "tokens.sqlite3")
    assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    check.close()
    if fatal in AFTER_THE_WRITE:
        assert (accounts.read("password"), accounts.read("sessions")) == ("new", "0")
    else:
        assert (accounts.read("password"), accounts.read("sessions")) == ("old", "1")
    if fatal in BEFORE_THE_CLAIM:
        manager.reset_password(token, "second try")
        assert accounts.read("password") == "second try"
    else:
        with pytest.raises(InvalidTokenError) as refused:
            manager.reset_password(token, "second try")
        assert refused.value.reason == "used"
    manager.close()
    store.close()


def test_a_process_killed_inside_a_transaction_leaves_none_of_it(tmp_path: Path) -> None:
    """Between the statements of one add: the file is sound, the lock is free, and nothing was added."""
    path = tmp_path / "tokens.sqlite3"
    script = """
import os, signal, sys
from resetkit.stores import sqlite
from resetkit.testing._records import record
store = sqlite.SQLiteTokenStore(sys.argv[1])
store.add(record("s1"), quotas=(), keep=1)
(connection,) = store._idle
connection.set_trace_callback(
    lambda statement: "superseded" in statement and os.kill(os.getpid(), signal.SIGKILL)  # the insert is done
)
store.add(record("s2"), quotas=(), keep=1)
"""
    command = [sys.executable, "-c", script, str(path)]
    killed = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    store = SQLiteTokenStore(path)
    first = store.get("s1")
    assert first is not None
    assert first.state == "outstanding"
    assert store.get("s2") is None
    store.close()
