"""``resetkit conformance``: which kit it takes, what it prints, and when it fails."""

from pathlib import Path
from textwrap import dedent

import pytest

from resetkit._conformance import kit_for
from resetkit.cli import main
from resetkit.errors import ConfigurationError
from resetkit.testing import (
    AsyncDispatcherConformance,
    AsyncThrottleConformance,
    AsyncTokenStoreConformance,
    DispatcherConformance,
    ThrottleConformance,
    TokenHasherConformance,
    TokenStoreConformance,
)

MODULE = dedent(
    """
    from contextlib import asynccontextmanager, closing, contextmanager
    from hashlib import sha256
    from tempfile import TemporaryDirectory

    from resetkit import KeyedTokenHasher
    from resetkit.stores import AsyncMemoryTokenStore, MemoryTokenStore, SQLiteTokenStore
    from resetkit.testing import TokenHasherConformance, unsupported


    @contextmanager
    def open_store():
        with TemporaryDirectory() as folder, closing(SQLiteTokenStore(folder + "/t")) as store:
            yield store


    @asynccontextmanager
    async def open_async_store():
        yield AsyncMemoryTokenStore()


    def hasher():
        return KeyedTokenHasher([b"k" * 32])


    class Unsalted:
        def hash(self, secret, /):
            return sha256(secret).hexdigest()

        def verify(self, stored, secret, /):
            return stored == sha256(secret).hexdigest()


    class TestHasher(TokenHasherConformance):
        test_a_hash_is_salted = unsupported("the salt is elsewhere")

        @contextmanager
        def open_hasher(self):
            yield Unsalted()


    class TestNothing(TestHasher):
        pass


    for _name in TestNothing.promises():
        setattr(TestNothing, _name, unsupported("no time"))
    TestNothing.test_a_hash_is_salted = unsupported("no time")


    async def coroutine():
        return MemoryTokenStore()


    number = 7
    """
)


@pytest.fixture(autouse=True)
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a module that only this test's command finds."""
    (tmp_path / "adapters_of_the_test.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere-else", *__import__("sys").path])


@pytest.mark.parametrize(
    ("target", "kit"),
    [
        ("adapters_of_the_test:open_store", TokenStoreConformance),
        ("adapters_of_the_test:open_async_store", AsyncTokenStoreConformance),
        ("resetkit.stores:MemoryTokenStore", TokenStoreConformance),
        ("resetkit.stores:AsyncMemoryTokenStore", AsyncTokenStoreConformance),
        ("resetkit.throttle:MemoryThrottle", ThrottleConformance),
        ("resetkit.throttle:AsyncMemoryThrottle", AsyncThrottleConformance),
        ("resetkit.dispatch:ThreadDispatcher", DispatcherConformance),
        ("resetkit.dispatch:AsyncTaskDispatcher", AsyncDispatcherConformance),
        ("adapters_of_the_test:hasher", TokenHasherConformance),
        ("adapters_of_the_test:TestHasher", TokenHasherConformance),
    ],
)
def test_it_finds_the_kit_by_the_adapter_s_methods_and_colour(target: str, kit: type) -> None:
    assert issubclass(kit_for(target), kit)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("adapters_of_the_test", "give module:name"),
        ("adapters_of_the_test:", "give module:name"),
        (":open_store", "give module:name"),
        ("no_such_module:open_store", "cannot be imported: No module named 'no_such_module'"),
        ("adapters_of_the_test:nothing", "cannot be imported: module 'adapters_of_the_test' has no attribute"),
        ("adapters_of_the_test:number", "must be callable"),
        ("adapters_of_the_test:coroutine", "must return an adapter or a context manager, not a coroutine"),
        ("resetkit.mailers:MemoryMailer", "for a mailer or a directory, write a kit's subclass"),
        ("resetkit.testing:TokenStoreConformance", "is a kit: give a class of yours that derives from it"),
    ],
)
def test_what_it_cannot_use_is_explained(target: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigurationError, match=says):
        kit_for(target)
    assert main(["conformance", target]) == 1
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("target", ["open_store", "open_async_store"])
def test_a_sound_store_holds(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", f"adapters_of_the_test:{target}", "--examples", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"adapters_of_the_test:{target}: the ")
    assert "held         claim    At the very instant expires_at a record cannot be claimed;" in "\n".join(lines)
    assert any(line.startswith("not checked  all      A process killed at any line") for line in lines)
    assert lines[-1].endswith(" held, 0 broken, 6 not checked")


def test_a_broken_adapter_fails_and_shows_what_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "adapters_of_the_test:Unsalted", "--examples", "3"]) == 1
    printed = capsys.readouterr().out
    assert "BROKEN       hash    The same secret is never hashed to the same text twice." in printed
    assert "expected 5, got 1: each hash has a salt of its own\nWhat was done:\n   1. hash(" in printed
    assert printed.endswith("1 broken, 0 not checked\n")


def test_a_waived_promise_is_shown_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "adapters_of_the_test:TestHasher", "--examples", "3"]) == 0
    printed = capsys.readouterr().out
    assert (
        "not checked  hash    The same secret is never hashed to the same text twice. (the salt is elsewhere)"
        in printed
    )


def test_a_run_that_checks_nothing_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "adapters_of_the_test:TestNothing"]) == 1
    assert "waives every promise: it checks nothing" in capsys.readouterr().err


def test_progress_is_shown_where_somebody_watches(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["conformance", "adapters_of_the_test:hasher", "--examples", "3"])
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    main(["conformance", "adapters_of_the_test:hasher", "--examples", "3"])
    assert "\r\x1b[K3/10 test_" in capsys.readouterr().err


def test_without_hypothesis_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resetkit.testing._kit.find_spec", lambda _: None)
    assert main(["conformance", "adapters_of_the_test:hasher"]) == 1
    assert 'pip install "resetkit[testing]"' in capsys.readouterr().err
