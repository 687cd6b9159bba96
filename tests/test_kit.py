"""The kit's frame: guards against hollow runs, and what a failure tells."""

import asyncio
import os
import subprocess
import sys
import threading
import unittest
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import Phase

from harness import open_file
from profiles import profile
from resetkit import AsyncTokenStore, KeyedTokenHasher, TokenRecord, TokenStore
from resetkit.stores import AsyncMemoryTokenStore, MemoryTokenStore
from resetkit.testing import (
    AsyncTokenStoreConformance,
    BrokenPromiseError,
    MisuseError,
    TokenHasherConformance,
    TokenStoreConformance,
    replaced,
    unsupported,
)
from resetkit.testing._records import NOW
from resetkit.testing._transcript import shown

EXPIRY = "test_expiry_is_exclusive"


class Sound(TokenStoreConformance):
    __test__ = False

    @contextmanager
    def open_store(self) -> Generator[TokenStore, None, None]:
        yield MemoryTokenStore()


def do_nothing(_: object) -> None:
    pass


def undecorated(_: object) -> Generator[TokenStore, None, None]:
    yield MemoryTokenStore()


async def undecorated_async(_: object) -> AsyncGenerator[AsyncTokenStore, None]:
    yield AsyncMemoryTokenStore()


async def opening_coroutine(_: object) -> TokenStore:
    return MemoryTokenStore()


def yielding(yielded: Any) -> TokenStoreConformance:
    class TestYielding(TokenStoreConformance):
        @contextmanager
        def open_store(self) -> Generator[TokenStore, None, None]:
            yield yielded

    return TestYielding()


class TestGuards:
    @pytest.mark.parametrize(
        "hollow", [do_nothing, None, lambda _: None, staticmethod(do_nothing), property(do_nothing)]
    )
    def test_a_promise_is_not_overridden_without_a_reason(self, hollow: Any) -> None:
        with pytest.raises(TypeError, match=f"{EXPIRY} without a reason"):
            type("TestHollow", (Sound,), {EXPIRY: hollow})

    def test_nor_by_a_mixin(self) -> None:
        mixin = type("Mixin", (), {EXPIRY: do_nothing})
        with pytest.raises(TypeError, match=f"{EXPIRY} without a reason"):
            type("TestHollow", (mixin, Sound), {})

    def test_nor_removed_from_the_kit_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr("resetkit.testing.stores.TokenStoreChecks." + EXPIRY)
        with pytest.raises(TypeError, match=f"{EXPIRY} without a reason"):
            type("TestHollow", (Sound,), {})

    def test_nor_replaced_when_the_class_is_there(self) -> None:
        kit = type("TestHollow", (Sound,), {})
        setattr(kit, EXPIRY, do_nothing)
        with pytest.raises(TypeError, match=f"{EXPIRY} without a reason"):
            kit().test_the_kit_is_whole()

    def test_the_guard_itself_cannot_be_overridden(self) -> None:
        with pytest.raises(TypeError, match="test_the_kit_is_whole without a reason"):
            type("TestHollow", (Sound,), {"test_the_kit_is_whole": do_nothing})

    @pytest.mark.parametrize("reason", ["", " \n"])
    def test_a_reason_has_words(self, reason: str) -> None:
        with pytest.raises(TypeError, match="state a reason"):
            unsupported(reason)
        with pytest.raises(TypeError, match="state a reason"):
            replaced(reason)

    def test_a_stated_reason_is_told_when_the_test_is_skipped(self) -> None:
        kit: Any = type("TestHonest", (Sound,), {EXPIRY: unsupported("the backend knows days only")})
        with pytest.raises(unittest.SkipTest, match="the backend knows days only"):
            getattr(kit(), EXPIRY)()
        kit().test_the_kit_is_whole()

    def test_a_promise_may_be_checked_in_another_way_for_a_stated_reason(self) -> None:
        done = []

        class TestAnother(Sound):
            @replaced("the backend rounds up to five minutes")
            def test_expiry_is_exclusive(self) -> None:
                done.append(self)

        TestAnother().test_expiry_is_exclusive()
        TestAnother().test_the_kit_is_whole()
        assert len(done) == 1

    def test_a_subclass_inherits_what_was_stated(self) -> None:
        first = type("TestFirst", (Sound,), {EXPIRY: unsupported("days only")})
        second: Any = type("TestSecond", (first,), {})
        second().test_the_kit_is_whole()

    def test_a_class_that_waives_everything_fails(self) -> None:
        waived = dict.fromkeys(TokenStoreConformance.promises(), unsupported("no time"))
        kit: Any = type("TestNothing", (Sound,), waived)
        with pytest.raises(BrokenPromiseError, match="waives every promise"):
            kit().test_the_kit_is_whole()

    def test_a_class_that_pytest_would_not_collect_is_refused(self) -> None:
        with pytest.raises(TypeError, match="name it TestMyStore"):
            type("MyStore", (TokenStoreConformance,), {"open_store": Sound.open_store})
        type("MyStore", (Sound,), {"__test__": True})

    def test_a_class_that_opens_nothing_is_refused(self) -> None:
        with pytest.raises(TypeError, match=r"TestMyStore must implement open_store\(self\), a context manager"):
            type("TestMyStore", (TokenStoreConformance,), {})

    def test_without_hypothesis_a_kit_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("resetkit.testing._kit.find_spec", do_nothing)
        with pytest.raises(ModuleNotFoundError, match=r"pip install \"resetkit\[testing\]\""):
            type("TestMyStore", (Sound,), {})


class TestHollowRuns:
    def test_a_check_that_never_called_the_adapter_fails(self) -> None:
        kit = Sound()
        vars(kit)["opened"] = lambda: nullcontext(AsyncMemoryTokenStore())  # nobody looks on
        with pytest.raises(BrokenPromiseError, match="the adapter was never called: this check checked nothing"):
            kit.test_expiry_is_exclusive()

    def test_a_profile_that_generates_nothing_fails(self) -> None:
        nothing = "no phase that generates examples: this checks nothing"
        with profile(phases=[Phase.explicit]), pytest.raises(BrokenPromiseError, match=nothing):
            Sound().test_any_sequence_of_calls_is_answered_as_the_model_says()

    def test_a_driver_of_which_no_call_is_seen_fails(self) -> None:
        class TestWrongDriver(Sound):
            def drivers(self) -> list[str]:
                return ["sqlite4"]

        with pytest.raises(BrokenPromiseError, match="no call of sqlite4 was seen: name the modules of the driver"):
            TestWrongDriver().test_a_call_whose_driver_fails_has_happened_or_has_not()

    def test_a_dump_that_is_not_all_fails(self) -> None:
        class TestShortDump(Sound):
            def dump(self, store: Any, /) -> bytes:
                return b""

        with pytest.raises(BrokenPromiseError, match="a dump holds at least the selectors"):
            TestShortDump().test_a_dump_of_the_store_holds_no_token()

    @pytest.mark.parametrize("ability", ["drivers", "other_process", "dump"])
    def test_an_ability_that_nobody_spoke_of_is_skipped_and_says_so(self, ability: str) -> None:
        check = {
            "drivers": Sound().test_a_call_whose_driver_fails_has_happened_or_has_not,
            "other_process": Sound().test_of_claims_from_several_processes_one_wins,
            "dump": Sound().test_a_dump_of_the_store_holds_no_token,
        }[ability]
        with pytest.raises(unittest.SkipTest, match=rf"implement {ability} .* or state {ability} = unsupported"):
            check()


class TestMisuse:
    """What is wrong with the subclass is said of the subclass, not of the adapter."""

    @pytest.mark.parametrize(
        ("opener", "says"),
        [
            (lambda _: iter(()), None),
            (unsupported("no database here"), "cannot be waived"),
            (undecorated, "must be a context manager: decorate it with @contextmanager"),
            (undecorated_async, "must be a context manager: decorate it with @contextmanager"),
            (opening_coroutine, "must be a context manager: decorate it with @contextmanager"),
            (asynccontextmanager(undecorated_async), "is async: derive from the kit with Async before its name"),
        ],
    )
    def test_an_opener_of_the_wrong_form_is_refused_at_once(self, opener: Any, says: str | None) -> None:
        with pytest.raises(TypeError, match=says) if says else nullcontext():
            type("TestMine", (TokenStoreConformance,), {"open_store": opener})

    def test_a_sync_opener_in_an_async_kit_is_refused(self) -> None:
        with pytest.raises(TypeError, match="is sync: derive from the kit without Async before its name"):
            type("TestMine", (AsyncTokenStoreConformance,), {"open_store": contextmanager(undecorated)})

    @pytest.mark.parametrize(
        ("yielded", "says"),
        [
            (None, "store needs a method add.*which NoneType does not have"),
            (MemoryTokenStore, "store must be an object, not the class MemoryTokenStore"),
            (AsyncMemoryTokenStore(), "store must be sync, but AsyncMemoryTokenStore.add is async"),
        ],
    )
    def test_what_is_no_store_is_named(self, yielded: object, says: str) -> None:
        kit = yielding(yielded)
        with pytest.raises(MisuseError, match=f"what TestYielding.open_store yields cannot be checked: {says}"):
            kit.test_expiry_is_exclusive()

    def test_a_store_that_was_not_emptied_is_named(self) -> None:
        kit = yielding(MemoryTokenStore())
        kit.test_expiry_is_exclusive()
        with pytest.raises(MisuseError, match="still holds the record s1 of an earlier check: empty it first"):
            kit.test_expiry_is_exclusive()

    def test_another_process_that_opens_another_database_is_named(self, tmp_path: Path) -> None:
        class TestElsewhere(Sound):
            __test__ = True

            def other_process(self, store: Any, /) -> Any:
                return partial(open_file, tmp_path / "other.sqlite3")

        with pytest.raises(MisuseError, match="does it open the same database"):
            TestElsewhere().test_what_returned_is_seen_by_other_processes()

    def test_an_opener_that_swallows_errors_is_named(self) -> None:
        class TestSwallowing(TokenStoreConformance):
            @contextmanager
            def open_store(self) -> Generator[TokenStore, None, None]:
                with suppress(Exception):
                    yield Late()

        with pytest.raises(MisuseError, match=r"TestSwallowing.open_store swallowed what a check raised"):
            TestSwallowing().test_expiry_is_exclusive()

    @pytest.mark.parametrize("name", ["opened", "run", "together", "watched", "transcript", "require_done"])
    def test_what_checks_stand_on_is_not_overridden(self, name: str) -> None:
        with pytest.raises(TypeError, match=f"overrides {name}, which is the kit's own"):
            type("TestMine", (Sound,), {name: do_nothing})

    @pytest.mark.parametrize("examples", [0, -1, True, "10", 2.5])
    def test_a_number_of_examples_is_a_number(self, examples: object) -> None:
        with pytest.raises(TypeError, match="examples must be a whole number of 1 or more, or None"):
            type("TestMine", (Sound,), {"examples": examples})

    def test_an_adapter_does_not_skip_its_checks(self) -> None:
        class Skips(MemoryTokenStore):
            def claim(self, selector: str, /, *, claim_id: str, now: Any) -> bool:
                raise unittest.SkipTest("not today")

        assert "claim raised SkipTest: an adapter decides nothing about its checks" in report(Skips, EXPIRY)

    @pytest.mark.parametrize("dump", ["text", None])
    def test_a_dump_is_bytes(self, dump: object) -> None:
        class TestDumps(Sound):
            def dump(self, store: Any, /) -> Any:
                return dump

        with pytest.raises(MisuseError, match=r"TestDumps.dump must return bytes, not "):
            TestDumps().test_a_dump_of_the_store_holds_no_token()

    @pytest.mark.parametrize("opener", [None, lambda: nullcontext(MemoryTokenStore())])
    def test_what_opens_a_store_elsewhere_can_be_sent_there(self, opener: Any) -> None:
        class TestElsewhere(Sound):
            def other_process(self, store: Any, /) -> Any:
                return opener

        with pytest.raises(MisuseError, match="other_process must return a function of a module"):
            TestElsewhere().test_of_claims_from_several_processes_one_wins()

    def test_what_opens_another_store_is_named(self) -> None:
        class TestElsewhere(Sound):
            def other_process(self, store: Any, /) -> Any:
                return partial(nullcontext, MemoryTokenStore)

        with pytest.raises(BrokenPromiseError, match="in another process, no error was expected, and there was"):
            TestElsewhere().test_of_claims_from_several_processes_one_wins()

    def test_an_opener_that_fails_elsewhere_is_quoted(self) -> None:
        class TestElsewhere(Sound):
            def other_process(self, store: Any, /) -> Any:
                return partial(int, "no database")

        with pytest.raises(BrokenPromiseError, match="could not make the call: ValueError: invalid literal"):
            TestElsewhere().test_a_killed_process_leaves_each_operation_done_or_not()

    def test_one_module_of_a_driver_may_be_given_as_text(self) -> None:
        class TestOneDriver(Sound):
            def drivers(self) -> Any:
                return "sqlite4"

        with pytest.raises(BrokenPromiseError, match="no call of sqlite4 was seen"):
            TestOneDriver().test_a_call_whose_driver_fails_has_happened_or_has_not()


class TestStuck:
    def test_an_answer_that_never_comes_is_a_broken_promise(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("resetkit.testing._kit.PATIENCE", 0.1)
        forever = threading.Event()

        class Deadlock(MemoryTokenStore):
            def claim(self, selector: str, /, *, claim_id: str, now: Any) -> bool:
                forever.wait()
                return True

        text = report(Deadlock, "test_of_simultaneous_claims_one_wins")
        forever.set()
        assert "is something left locked, or a connection not given back?" in text
        assert "at once: claim('s0', claim_id='c0', now=T) -> did not return" in text

    def test_so_it_is_in_a_loop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("resetkit.testing._kit.PATIENCE", 0.1)

        class Deadlock(AsyncMemoryTokenStore):
            async def claim(self, selector: str, /, *, claim_id: str, now: Any) -> bool:
                await asyncio.Event().wait()
                return True

        class TestDeadlock(AsyncTokenStoreConformance):
            @asynccontextmanager
            async def open_store(self) -> AsyncGenerator[AsyncTokenStore, None]:
                yield Deadlock()

        with pytest.raises(BrokenPromiseError, match="is something left locked"):
            TestDeadlock().test_of_simultaneous_claims_one_wins()


class Late(MemoryTokenStore):
    def claim(self, selector: str, /, *, claim_id: str, now: Any) -> bool:
        return super().claim(selector, claim_id=claim_id, now=NOW)


class Failing(MemoryTokenStore):
    def claim(self, selector: str, /, *, claim_id: str, now: Any) -> bool:
        raise LookupError("no such table")


def report(store: type[MemoryTokenStore], check: str) -> str:
    class TestBroken(Sound):
        @contextmanager
        def open_store(self) -> Generator[TokenStore, None, None]:
            yield store()

    with pytest.raises(BrokenPromiseError) as broken:
        getattr(TestBroken(), check)()
    return str(broken.value)


class TestReports:
    def test_it_names_the_promise_what_was_expected_and_what_was_done(self) -> None:
        assert report(Late, EXPIRY) == dedent(
            """\
            TokenStore.claim does not keep its promise: \
At the very instant expires_at a record cannot be claimed; a second before it can.
            expected False, got True: at expires_at it is expired
            What was done:
               1. add(record('s1', 'alice'), quotas=[], keep=99) -> True
               2. add(record('s2', 'bob'), quotas=[], keep=99) -> True
               3. claim('s1', claim_id='c1', now=T+30m) -> True"""
        )

    def test_it_names_an_error_that_was_not_promised(self) -> None:
        text = report(Failing, EXPIRY)
        assert "no error was expected, and there was LookupError: no such table" in text
        assert text.endswith("3. claim('s1', claim_id='c1', now=T+30m) -> raised LookupError")

    def test_of_records_it_shows_what_differs(self) -> None:
        class Counts(MemoryTokenStore):
            def get(self, selector: str, /) -> TokenRecord | None:
                found = super().get(selector)
                return found and replace(found, link_hash="cut", guesses=7)

        text = report(Counts, "test_long_hashes_come_back_whole")
        assert "expected record(link_hash='!\"#" in text
        assert ", guesses=0), got record(link_hash='cut', guesses=7): a hash is text" in text

    def test_of_an_instant_it_shows_that_there_is_no_zone(self) -> None:
        assert shown(NOW.replace(tzinfo=None)) == "2100-01-01 00:00:00 without a time zone"

    def test_simultaneous_calls_are_marked(self) -> None:
        text = report(Failing, "test_of_simultaneous_claims_one_wins")
        assert "at once: claim('s0', claim_id='c0', now=T) -> raised LookupError" in text

    def test_a_long_story_is_cut_to_its_end(self) -> None:
        class Counts(MemoryTokenStore):
            def attempt(self, selector: str, /, *, limit: int) -> bool:
                return True

        text = report(Counts, "test_guesses_are_bounded_however_parallel")
        assert len(text.splitlines()) < 60

    def test_pytest_shows_the_report_and_the_check_s_line(self, tmp_path: Path) -> None:
        """In a project that has nothing but the package."""
        (tmp_path / "test_store.py").write_text(
            dedent(
                """
                from contextlib import contextmanager
                from datetime import timedelta

                from resetkit.stores import MemoryTokenStore
                from resetkit.testing import TokenStoreConformance


                class Late(MemoryTokenStore):
                    def claim(self, selector, /, *, claim_id, now):
                        return super().claim(selector, claim_id=claim_id, now=now - timedelta(seconds=1))


                class TestLate(TokenStoreConformance):
                    @contextmanager
                    def open_store(self):
                        yield Late()
                """
            )
        )
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-k", "expiry"]
        env = os.environ | {"PYTEST_ADDOPTS": ""}  # which are of this run
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "TestLate.test_expiry_is_exclusive" in done.stdout
        assert '>       expect(await store.claim("s1", claim_id="c1", now=end), False,' in done.stdout
        assert "E       expected False, got True: at expires_at it is expired\n" in done.stdout
        assert "E          3. claim('s1', claim_id='c1', now=T+30m) -> True\n" in done.stdout
        assert "resetkit.testing.BrokenPromiseError: TokenStore.claim does not keep its promise" in done.stdout


class TestRuns:
    def test_a_kit_runs_without_pytest(self) -> None:
        class TestPlain(TokenHasherConformance):
            @contextmanager
            def open_hasher(self) -> Generator[Any, None, None]:
                yield KeyedTokenHasher([b"k" * 32])

        for name in TestPlain.promises():
            check: Callable[[], None] = getattr(TestPlain(), name)
            check()

    def test_every_promise_says_what_it_is_in_one_sentence(self) -> None:
        for promise in TokenStoreConformance.promises().values():
            assert promise.says.endswith((".", ")."))
            assert 20 < len(promise.says) < 200
