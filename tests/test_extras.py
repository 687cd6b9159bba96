"""Without the extras: the core imports none of them, and what needs one says what to install."""

import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import limits.aio.storage
import limits.storage
import pytest

from resetkit.throttle import AsyncLimitsThrottle, LimitsThrottle

MEMORY, ASYNC_MEMORY = limits.storage.MemoryStorage(), limits.aio.storage.MemoryStorage()
EXTRAS = ("sqlalchemy", "redis", "limits", "hypothesis", "pytest")


def run(code: str, *, without: tuple[str, ...] = EXTRAS) -> subprocess.CompletedProcess[str]:
    blocked = f"import sys; sys.modules.update(dict.fromkeys({without!r}))\n"
    return subprocess.run([sys.executable, "-c", blocked + code], capture_output=True, text=True, check=False)


def test_the_core_and_its_adapters_need_none() -> None:
    modules = ("", ".stores", ".mailers", ".dispatch", ".throttle", ".cli", "._check_command", "._web_demo")
    done = run("\n".join(f"import resetkit{module}" for module in modules))
    assert done.returncode == 0, done.stderr


def test_they_load_none_either() -> None:
    code = "import resetkit, resetkit.stores, resetkit.throttle; print(sorted(%r & set(sys.modules)))"
    done = run("import sys\n" + code % (set(EXTRAS),), without=())
    assert done.stdout.strip() == "[]", done.stderr


def test_a_sync_application_needs_no_asyncio(tmp_path: Path) -> None:
    """Which takes longer to load than all the rest together."""
    story = """
from resetkit import Account, ResetManager
from resetkit.mailers import MemoryMailer, SMTPMailer
from resetkit.stores import SQLiteTokenStore

class Accounts:
    def find(self, identifier, /): return self.get(identifier)
    def get(self, account_id, /): return Account(id=account_id, email="alice@example.org", stamp="s")
    def set_password(self, account_id, new_password, /): pass
    def end_sessions(self, account_id, /): pass

mailer = MemoryMailer()
with ResetManager(Accounts(), SQLiteTokenStore("t"), mailer, link="https://app.example/reset#{token}") as manager:
    manager.request_reset("1", client="192.0.2.1")
manager = ResetManager(Accounts(), SQLiteTokenStore("t"), mailer, link="https://app.example/reset#{token}")
manager.reset_password(mailer.last_reset().token, "correct horse battery")
manager.purge_tokens()
manager.close()
"""
    done = run(f"import os; os.chdir({str(tmp_path)!r})\n{story}", without=(*EXTRAS, "asyncio"))
    assert done.returncode == 0, done.stderr


def test_it_loads_nothing_that_only_event_loops_need() -> None:
    """Each takes milliseconds at every start."""
    spared = {"asyncio", "concurrent.futures"}
    done = run(f"import sys, resetkit; print(sorted({spared} & set(sys.modules)))", without=())
    assert done.stdout.strip() == "[]", done.stderr


def test_the_store_for_redis_takes_any_client_and_imports_none() -> None:
    assert run("import resetkit.stores.redis").returncode == 0


@pytest.mark.parametrize(
    ("extra", "use"),
    [
        ("sqlalchemy", lambda: import_module("resetkit.stores.sqlalchemy")),
        ("limits", lambda: LimitsThrottle(MEMORY)),
        ("limits", lambda: AsyncLimitsThrottle(ASYNC_MEMORY)),
    ],
)
def test_what_needs_one_says_what_to_install(
    extra: str, use: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in {extra, *sys.modules}:
        if name.partition(".")[0] == extra:
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "resetkit.stores.sqlalchemy", raising=False)
    with pytest.raises(ImportError, match=re.escape(f'python -m pip install "resetkit[{extra}]"')):
        use()
