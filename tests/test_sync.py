"""Two colours of one engine: the right ports in each, the wrong ones refused at construction."""

import asyncio
import functools
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Awaitable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness import ADDRESS, KEY, LINK, Colour, Harness, reset_in_child
from resetkit import (
    AsyncResetManager,
    ConfigurationError,
    InvalidTokenError,
    KeyedTokenHasher,
    ResetManager,
    ResetPolicy,
    _fork,
    code_token,
)
from resetkit._sync import lift, step
from resetkit.dispatch import AsyncInlineDispatcher, AsyncTaskDispatcher, InlineDispatcher
from resetkit.mailers import AsyncMemoryMailer, MemoryMailer
from resetkit.stores import AsyncMemoryTokenStore, MemoryTokenStore
from resetkit.testing import AsyncFakeAccounts, FakeAccounts, FakeClock
from resetkit.throttle import AsyncMemoryThrottle, MemoryThrottle


def ports(colour: str) -> dict[str, Any]:
    if colour == "sync":
        return {
            "accounts": FakeAccounts(),
            "store": MemoryTokenStore(),
            "mailer": MemoryMailer(),
            "throttle": MemoryThrottle(),
            "dispatcher": InlineDispatcher(),
        }
    return {
        "accounts": AsyncFakeAccounts(FakeAccounts()),
        "store": AsyncMemoryTokenStore(),
        "mailer": AsyncMemoryMailer(),
        "throttle": AsyncMemoryThrottle(),
        "dispatcher": AsyncTaskDispatcher(),
    }


def make(colour: str, **options: Any) -> Any:
    manager: Any = ResetManager if colour == "sync" else AsyncResetManager
    return manager(**ports(colour) | {"link": LINK, "hasher": KeyedTokenHasher([KEY])} | options)


@pytest.mark.parametrize("colour", ["sync", "async"])
class TestColours:
    @pytest.mark.parametrize("port", ["accounts", "store", "mailer", "throttle", "dispatcher"])
    def test_an_adapter_of_the_wrong_colour_is_refused_at_construction(self, colour: str, port: str) -> None:
        other = ports("async" if colour == "sync" else "sync")[port]
        names = ("sync", "async", "ResetManager") if colour == "async" else ("async", "sync", "AsyncResetManager")
        saying = rf"^{port} must be {names[1]}, but \w+\.\w+ is {names[0]}: it goes with {names[2]}$"
        with pytest.raises(ConfigurationError, match=saying):
            make(colour, **{port: other})

    @pytest.mark.parametrize("port", ["accounts", "store", "mailer", "throttle", "dispatcher"])
    def test_an_adapter_without_a_method_is_refused_by_name(self, colour: str, port: str) -> None:
        with pytest.raises(ConfigurationError, match=rf"{port} needs a method \w+\(\), which object does not have"):
            make(colour, **{port: object()})

    def test_a_class_instead_of_an_object_is_refused(self, colour: str) -> None:
        with pytest.raises(ConfigurationError, match="not the class MemoryTokenStore"):
            make(colour, store=MemoryTokenStore)

    def test_what_a_manager_was_made_of_is_kept_for_who_judges_it(self, colour: str) -> None:
        given: dict[str, Any] = ports(colour) | {
            "hasher": KeyedTokenHasher([KEY]),
            "link": LINK,
            "policy": ResetPolicy(outstanding=2),
            "clock": FakeClock(),
        }
        parts = make(colour, **given)._parts
        assert {name: getattr(parts, name) for name in given} == given
        bare = make(colour, throttle=None, dispatcher=None, hasher=None)._parts
        kinds = [type(getattr(bare, name)).__name__ for name in ("throttle", "dispatcher", "hasher", "policy")]
        waits = colour == "async"
        names = ["AsyncMemoryThrottle", "AsyncTaskDispatcher"] if waits else ["MemoryThrottle", "ThreadDispatcher"]
        assert kinds == [*names, "Argon2TokenHasher", "ResetPolicy"]

    def test_other_things_of_the_wrong_type_are_refused(self, colour: str) -> None:
        async def on_event(_event: object) -> None: ...

        class AsyncHasher:
            async def hash(self, _secret: bytes, /) -> str:
                return ""

            async def verify(self, _stored: str, _secret: bytes, /) -> bool:
                return True

        class NumberHasher:
            def hash(self, _secret: bytes, /) -> int:
                return 5

            def verify(self, _stored: str, _secret: bytes, /) -> bool:
                return True

        wrong: list[tuple[dict[str, Any], str]] = [
            ({"policy": {"link_lifetime": 5}}, "policy must be of type ResetPolicy"),
            ({"on_event": on_event}, "on_event must be a plain function"),
            ({"hasher": AsyncHasher()}, "hasher must be sync, but AsyncHasher.hash is async"),
            ({"hasher": NumberHasher()}, "what hasher.hash returns must be of type str"),
            ({"clock": 5}, "clock must be a function"),
            ({"on_event": "log"}, "on_event must be a function"),
            ({"realm": None}, "realm must be of type str"),
            ({"realm": "\0"}, "realm must be text without NUL"),
        ]
        for options, saying in wrong:
            with pytest.raises(ConfigurationError, match=f"^{saying}"):
                make(colour, **options)

    def test_the_defaults_are_enough(self, colour: str) -> None:
        manager: Any = ResetManager if colour == "sync" else AsyncResetManager
        needed = {name: port for name, port in ports(colour).items() if name in {"accounts", "store", "mailer"}}
        engine = manager(**needed, link=LINK)
        engine = getattr(engine, "_engine", engine)
        assert engine._policy == ResetPolicy()
        assert engine._realm == ""
        assert engine._dummy.startswith("$argon2id$v=19$m=19456,t=2,p=1$")

    def test_a_wrapped_method_has_the_colour_of_what_it_wraps(self, colour: str) -> None:
        mailer = ports(colour)["mailer"]

        class Wrapping:
            sends_nothing = True

            @functools.wraps(mailer.send)
            def send(self, mail: object) -> Any: ...

        make(colour, mailer=Wrapping())
        with pytest.raises(ConfigurationError):
            make("async" if colour == "sync" else "sync", mailer=Wrapping())


class TestAsyncPorts:
    def test_a_method_that_says_it_returns_an_awaitable_is_async(self) -> None:
        class Mailer:
            sends_nothing = True

            def send(self, mail: object, /) -> Awaitable[None]:
                raise NotImplementedError  # never called

        make("async", mailer=Mailer())
        with pytest.raises(ConfigurationError):
            make("sync", mailer=Mailer())

    def test_a_built_in_function_is_sync(self) -> None:
        """It has no annotations to read."""

        class Mailer:
            sends_nothing = True
            send = staticmethod(print)

        make("sync", mailer=Mailer())

    def test_an_object_called_asynchronously_is_async(self) -> None:
        class Send:
            async def __call__(self, mail: object) -> None: ...

        class Mailer:
            sends_nothing = True
            send = Send()

        make("async", mailer=Mailer())
        with pytest.raises(ConfigurationError):
            make("sync", mailer=Mailer())


class TestSteps:
    @pytest.mark.parametrize("kind", ["coroutine", "awaitable"])
    def test_an_answer_to_be_awaited_under_the_sync_manager_is_a_clear_error(self, kind: str) -> None:
        """A store that hides its colour: the awaitable, which is true, must not count as a won claim."""
        accounts, store = FakeAccounts(), MemoryTokenStore()
        accounts.add("alice", ADDRESS)
        with make("sync", accounts=accounts, store=store) as manager:
            token = manager.issue_token("alice").token

        async def late() -> bool:
            return True

        class Late:
            def __await__(self) -> Generator[None, None, bool]:
                return late().__await__()

        class Hiding:
            def __getattr__(self, name: str) -> Any:
                return getattr(store, name)

            def claim(self, _selector: str, /, *, claim_id: str, now: object) -> Any:
                return late() if kind == "coroutine" else Late()

        hiding = make("sync", accounts=accounts, store=Hiding())
        with pytest.raises(ConfigurationError, match="sync adapters only"):
            hiding.reset_password(token, "new")
        assert accounts.password("alice") == "old"

    @pytest.mark.parametrize("colour", ["sync", "async"])
    @pytest.mark.parametrize("answer", [1, None, "yes"])
    def test_what_is_neither_true_nor_false_is_no_yes(self, colour: str, answer: object) -> None:
        """An adapter's decision is a bool, or the reset is refused."""

        class Deciding(KeyedTokenHasher):
            def verify(self, stored: str, secret: bytes, /) -> Any:
                return answer

        accounts = FakeAccounts()
        accounts.add("alice", ADDRESS)
        directory = accounts if colour == "sync" else AsyncFakeAccounts(accounts)
        manager = make(colour, accounts=directory, hasher=Deciding([KEY]))

        async def story() -> None:
            issued = await manager.issue_token("alice")
            await manager.reset_password(issued.token, "new")

        def reset() -> None:
            if colour == "sync":
                manager.reset_password(manager.issue_token("alice").token, "new")
            else:
                asyncio.run(story())

        with pytest.raises(ConfigurationError, match=r"^what an adapter decides must be of type bool"):
            reset()
        assert accounts.password("alice") == "old"

    def test_a_step_that_truly_waits_is_a_clear_error(self) -> None:
        async def wait() -> None:
            await asyncio.sleep(0)

        with pytest.raises(ConfigurationError, match="waited"):
            step(wait())

    def test_what_a_lifted_function_raises_comes_out_as_it_is(self) -> None:
        with pytest.raises(ZeroDivisionError):
            step(lift(lambda: 1 / 0)())

    def test_the_sync_manager_works_inside_a_running_loop(self) -> None:
        async def inside() -> str:
            accounts = FakeAccounts()
            accounts.add("alice", ADDRESS)
            with make("sync", accounts=accounts) as manager:
                manager.reset_password(manager.issue_token("alice").token, "new")
            return accounts.password("alice")

        assert asyncio.run(inside()) == "new"

    def test_the_async_manager_is_made_without_a_loop_and_serves_several(self) -> None:
        accounts = FakeAccounts()
        accounts.add("alice", ADDRESS)
        manager = make("async", accounts=AsyncFakeAccounts(accounts), dispatcher=AsyncInlineDispatcher())

        async def reset(password: str) -> None:
            await manager.reset_password((await manager.issue_token("alice")).token, password)

        for password in ("first", "second"):
            asyncio.run(reset(password))
            assert accounts.password("alice") == password
        asyncio.run(manager.close())


class CountingHasher:
    """Knows how many hashes ran at once, and in which threads."""

    def __init__(self) -> None:
        self._keyed = KeyedTokenHasher([KEY])
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.threads: set[str] = set()

    def _enter(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.threads.add(threading.current_thread().name)
        threading.Event().wait(0.01)
        with self._lock:
            self._now -= 1

    def hash(self, secret: bytes, /) -> str:
        self._enter()
        return self._keyed.hash(secret)

    def verify(self, stored: str, secret: bytes, /) -> bool:
        self._enter()
        return self._keyed.verify(stored, secret)


class TestHashing:
    def test_at_most_as_many_hashes_at_once_as_the_policy_says(self) -> None:
        hasher, policy = CountingHasher(), ResetPolicy(hash_workers=2)
        accounts = FakeAccounts()
        for number in range(16):
            accounts.add(f"a{number}", ADDRESS)
        manager = make("sync", accounts=accounts, hasher=hasher, policy=policy)
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(manager.issue_token, [f"a{number}" for number in range(16)]))
        assert hasher.most == 2

    def test_the_async_manager_hashes_off_the_loop_and_no_more_at_once(self) -> None:
        hasher, policy = CountingHasher(), ResetPolicy(hash_workers=2)
        accounts = FakeAccounts()
        for number in range(16):
            accounts.add(f"a{number}", ADDRESS)
        manager = make("async", accounts=AsyncFakeAccounts(accounts), hasher=hasher, policy=policy)
        hasher.threads.clear()  # the dummy's, made at construction

        async def issue() -> None:
            await asyncio.gather(*(manager.issue_token(f"a{number}") for number in range(16)))

        asyncio.run(issue())
        assert hasher.most == 2
        assert all(name.startswith("resetkit-hash") for name in hasher.threads)

    @pytest.mark.parametrize("case", ["no record for a link", "no record for a code", "no guess left"])
    @pytest.mark.parametrize("colour", ["sync", "async"])
    def test_where_there_is_nothing_to_compare_a_dummy_costs_the_same(
        self, colour: Colour, case: str, tmp_path: Path
    ) -> None:
        """One verify each, as for a wrong secret (CVE-2020-11063 and its kin)."""
        verified: list[str] = []

        class Noting(KeyedTokenHasher):
            def verify(self, stored: str, secret: bytes, /) -> bool:
                verified.append(stored)
                return super().verify(stored, secret)

        kit = Harness(colour, "memory", tmp_path, hasher=Noting([KEY]))
        handle, code = kit.code()
        token = {"no record for a link": "0" * 96, "no record for a code": "0" * 32 + "-BBBBBBBB"}.get(case, "")
        if not token:
            token = code_token(handle, code)
            for _ in range(5):
                kit.plain_store.attempt(handle, limit=5)
        with pytest.raises(InvalidTokenError):
            kit.check(token)
        record = kit.record(handle)
        assert record is not None
        assert len(verified) == 1
        assert verified[0] not in {record.link_hash, record.code_hash}
        assert len(verified[0]) == len(record.link_hash)
        kit.close()


FORKING = """
import os, sys, threading
from resetkit import KeyedTokenHasher, ResetManager
from resetkit.mailers import MemoryMailer
from resetkit.stores import {store} as Store
from resetkit.testing import FakeAccounts

accounts = FakeAccounts()
accounts.add("alice", "alice@example.org")
mailer, store = MemoryMailer(), Store({argument})
manager = ResetManager(
    accounts, store, mailer, link="https://app.example/reset#{{token}}", hasher=KeyedTokenHasher([b"k" * 32])
)
manager.request_reset("alice@example.org", client="192.0.2.1")
held = [manager._engine._throttle.hit.__closure__[0].cell_contents.__self__._lock]
held += [getattr(store, "_lock", threading.Lock())]
for lock in held:
    lock.acquire()  # as another thread of the parent might at the moment of the fork
places = manager._engine._runtime._places
taken = [places.get() for _ in range(places.qsize())]
child = os.fork()
if child == 0:
    manager.request_reset("alice@example.org", client="192.0.2.1")
    token = manager.issue_token("alice").token
    manager.reset_password(token, "new")
    manager.close(10)
    os._exit(0 if accounts.password("alice") == "new" and mailer.outbox else 1)
for lock in held:
    lock.release()
for place in taken:
    places.put(place)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
token = manager.issue_token("alice").token
manager.reset_password(token, "parent's")
manager.close(10)
sys.exit(status or (accounts.password("alice") != "parent's"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(("store", "argument"), [("MemoryTokenStore", ""), ("SQLiteTokenStore", "sys.argv[1]")])
def test_a_forked_child_starts_afresh_even_with_every_lock_held_at_the_fork(
    tmp_path: Any, store: str, argument: str
) -> None:
    """Threads, locks, queue and connections: the child works, and so does the parent after it."""
    script = FORKING.format(store=store, argument=argument)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, str(tmp_path / "tokens.sqlite3")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_living_owner_starts_afresh_in_a_child_and_no_dead_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here without a fork; the test above has a real one."""

    class Owner:
        def __init__(self) -> None:
            self.afresh = 0
            _fork.start_afresh_in_child(self)

        def _start_afresh(self) -> None:
            self.afresh += 1

    monkeypatch.setattr(_fork, "_living", weakref.WeakSet())
    owner, dead = Owner(), Owner()
    del dead
    gc.collect()
    _fork._in_child()
    assert owner.afresh == 1
    calls: list[str] = []

    class Held(Owner):
        def _hold(self) -> None:
            calls.append("hold")

        def _resume(self) -> None:
            calls.append("resume")

    monkeypatch.setattr(_fork, "_held", weakref.WeakSet())
    held = Held()
    _fork.hold_for_forks(held)
    _fork._before()
    _fork._in_parent()
    assert calls == ["hold", "resume"]
    store = MemoryTokenStore()
    store._lock.acquire()
    _fork._in_child()
    assert store.get("s1") is None


def test_a_spawned_process_makes_its_own_manager() -> None:
    """Nothing depends on fork."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(reset_in_child) == "new"


class TestClose:
    def test_the_managers_close_as_context_managers_and_twice(self) -> None:
        async def story() -> None:
            async with make("async") as manager:
                await manager.request_reset(ADDRESS, client=None)
            await manager.close()

        with make("sync") as manager:
            manager.request_reset(ADDRESS, client=None)
        manager.close()
        asyncio.run(story())

    def test_a_closed_manager_takes_no_request_and_no_password_and_says_so(self) -> None:
        manager = make("sync")
        manager.close()
        with pytest.raises(RuntimeError, match="for the life of the application"):
            manager.request_reset(ADDRESS, client=None)
        with pytest.raises(RuntimeError, match="for the life of the application"):
            manager.reset_password("0" * 96, "new")
        assert manager.purge_tokens() == 0

    def test_close_waits_for_a_reset_that_is_being_written(self) -> None:
        accounts, closed = FakeAccounts(), threading.Event()
        accounts.add("alice", ADDRESS)
        manager = make("sync", accounts=accounts)
        token = manager.issue_token("alice").token
        original = accounts.end_sessions

        def slow(account_id: str, /) -> None:
            closing.start()
            assert not closed.wait(0.05), "close did not wait"
            original(account_id)

        def close() -> None:
            manager.close(30)
            closed.set()

        closing = threading.Thread(target=close)
        accounts.end_sessions = slow  # type: ignore[method-assign]  # before the manager lifts it
        manager = make("sync", accounts=accounts, store=manager_store(manager))
        manager.reset_password(token, "new")
        assert closed.wait(30)
        assert accounts.sessions("alice") == 0

    def test_close_waits_for_each_of_two(self) -> None:
        """One that has ended does not stand for the other, and a wait has an end."""
        accounts, written, go_on = FakeAccounts(), threading.Semaphore(0), threading.Event()
        for name in ("alice", "bob"):
            accounts.add(name, ADDRESS)
        store = MemoryTokenStore()
        tokens = [make("sync", accounts=accounts, store=store).issue_token(name).token for name in ("alice", "bob")]
        original = accounts.end_sessions

        def slow(account_id: str, /) -> None:
            written.release()
            assert account_id == "bob" or go_on.wait(30)
            original(account_id)

        accounts.end_sessions = slow  # type: ignore[method-assign]  # before the manager lifts it
        manager = make("sync", accounts=accounts, store=store)
        with ThreadPoolExecutor(2) as threads:
            alice = threads.submit(manager.reset_password, tokens[0], "new")
            assert written.acquire(timeout=30)
            manager.reset_password(tokens[1], "new")
            manager.close(0.01)
            assert not alice.done(), "close waited longer than it was told"
            closing = threads.submit(manager.close, 30)
            with pytest.raises(TimeoutError):
                closing.result(0.05)
            go_on.set()
            closing.result(30)
            assert alice.done()


def manager_store(manager: ResetManager) -> Any:
    return manager._engine._store.get.__closure__[0].cell_contents.__self__  # type: ignore[index]  # lifted
