"""An async visitor who goes away: cancelled at each step, nothing is left half done."""

import asyncio
import functools
import gc
import threading
from pathlib import Path
from typing import Any

import pytest

from harness import ADDRESS, KEY, LINK
from resetkit import AsyncResetManager, KeyedTokenHasher, PasswordChangedMail
from resetkit._manager import LoopRuntime
from resetkit._threads import Threads
from resetkit.dispatch import AsyncTaskDispatcher
from resetkit.events import JobLost, PasswordReset
from resetkit.mailers import AsyncMemoryMailer
from resetkit.stores import AsyncMemoryTokenStore
from resetkit.testing import AsyncFakeAccounts, FakeAccounts

STEPS = [
    "store.get",
    "store.claim",
    "accounts.get",
    "accounts.set_password",
    "accounts.end_sessions",
    "dispatcher.dispatch",
]


class Gate:
    """Where the world waits for the test: reached, then opened."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def pass_through(self, step: str) -> None:
        if step == self.step and not self.open.is_set():
            self.reached.set()
            await self.open.wait()


def gated(port: object, name: str, gate: Gate) -> Any:
    class Gated:
        def __getattr__(self, method: str) -> Any:
            function = getattr(port, method)

            @functools.wraps(function)
            async def passing(*args: Any, **kwargs: Any) -> Any:
                await gate.pass_through(f"{name}.{method} before")
                result = await function(*args, **kwargs)
                await gate.pass_through(f"{name}.{method} after")
                return result

            return passing

    return Gated()


class Site:
    def __init__(self, gate: Gate) -> None:
        self.accounts = FakeAccounts()
        self.accounts.add("alice", ADDRESS)
        self.mailer = AsyncMemoryMailer()
        self.store = AsyncMemoryTokenStore()
        self.events: list[object] = []
        self.manager = AsyncResetManager(
            gated(AsyncFakeAccounts(self.accounts), "accounts", gate),
            gated(self.store, "store", gate),
            self.mailer,
            link=LINK,
            hasher=KeyedTokenHasher([KEY]),
            dispatcher=gated(AsyncTaskDispatcher(), "dispatcher", gate),
            on_event=self.events.append,
        )


@pytest.mark.parametrize("step", [f"{step} {moment}" for step in STEPS for moment in ("before", "after")])
def test_a_caller_cancelled_at_any_step_leaves_no_password_written_with_sessions_alive_or_without_a_notice(
    step: str,
) -> None:
    async def story() -> None:
        gate = Gate("")
        site = Site(gate)
        token = (await site.manager.issue_token("alice")).token
        gate.step = step
        visitor = asyncio.create_task(site.manager.reset_password(token, "new"))
        await gate.reached.wait()
        visitor.cancel()
        with pytest.raises(asyncio.CancelledError):
            await visitor
        gate.open.set()
        await site.manager.close()
        written = site.accounts.password("alice") == "new"
        notices = [mail for mail in site.mailer.outbox if isinstance(mail, PasswordChangedMail)]
        assert written == (site.accounts.sessions("alice") == 0) == bool(notices)
        assert written == any(isinstance(event, PasswordReset) for event in site.events)
        record = await site.store.get(token[:32])
        assert record is not None
        assert record.state == ("used" if written else "outstanding")
        assert written == (not step.startswith("store.get"))

    asyncio.run(story())


def test_without_the_shield_sessions_would_live_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin: awaited in the caller's own task, a cancelled write leaves the sessions alive."""

    async def unprotected(_runtime: object, work: Any, /) -> Any:
        return await work

    async def story() -> bool:
        gate = Gate("")
        site = Site(gate)
        token = (await site.manager.issue_token("alice")).token
        gate.step = "accounts.get after"
        visitor = asyncio.create_task(site.manager.reset_password(token, "new"))
        await gate.reached.wait()
        visitor.cancel()
        with pytest.raises(asyncio.CancelledError):
            await visitor
        gate.open.set()
        await site.manager.close()
        return site.accounts.password("alice") == "new"

    assert asyncio.run(story()), "shielded, the reset goes on"
    monkeypatch.setattr(LoopRuntime, "protect", unprotected)
    assert not asyncio.run(story()), "unshielded, it does not"


def test_a_loop_that_ends_in_the_middle_still_ends_the_sessions() -> None:
    """asyncio.run cancels every task: the reset's own, hit while it writes, goes on to the sessions."""
    sites: list[Site] = []

    async def story() -> None:
        gate = Gate("accounts.set_password after")
        site = Site(gate)
        sites.append(site)
        token = (await site.manager.issue_token("alice")).token
        visitor = asyncio.create_task(site.manager.reset_password(token, "new"))
        await gate.reached.wait()
        visitor.cancel()

    asyncio.run(story())
    assert sites[0].accounts.password("alice") == "new"
    assert sites[0].accounts.sessions("alice") == 0


def test_a_loop_that_ends_while_notices_are_handed_over_says_which_are_lost() -> None:
    """The address that was in hand is reported lost; the others are told all the same."""
    events: list[object] = []
    visitors: list[object] = []

    async def story() -> None:
        gate = Gate("")
        site = Site(gate)
        site.accounts.add("alice", ADDRESS, notify=("home@example.org",))
        site.manager._on_event = events.append
        token = (await site.manager.issue_token("alice")).token
        gate.step = "dispatcher.dispatch before"
        visitors.append(asyncio.create_task(site.manager.reset_password(token, "new")))  # the loop ends before it
        await gate.reached.wait()
        gate.step = ""

    asyncio.run(story())
    lost = [event for event in events if isinstance(event, JobLost)]
    assert [event.mail for event in lost] == ["notice"]
    assert [event for event in events if isinstance(event, PasswordReset)]


def test_a_manager_that_closes_before_the_claim_writes_nothing() -> None:
    """After close no notice could be handed over, so the owner would never be told."""

    async def story() -> None:
        gate = Gate("store.get after")
        site = Site(gate)
        token = (await site.manager.issue_token("alice")).token
        visitor = asyncio.create_task(site.manager.reset_password(token, "new"))
        await gate.reached.wait()
        await site.manager.close()
        gate.open.set()
        with pytest.raises(RuntimeError, match="closed"):
            await visitor
        assert site.accounts.password("alice") == "old"

    asyncio.run(story())


def test_close_waits_no_longer_than_it_is_told() -> None:
    async def story() -> None:
        gate = Gate("")
        site = Site(gate)
        token = (await site.manager.issue_token("alice")).token
        gate.step = "accounts.set_password before"
        visitor = asyncio.create_task(site.manager.reset_password(token, "new"))
        await gate.reached.wait()
        await asyncio.wait_for(site.manager.close(0.01), 10)
        assert not visitor.done()
        gate.open.set()
        await visitor

    asyncio.run(story())


def test_close_does_not_wait_for_another_loop() -> None:
    runtime = LoopRuntime(1)
    other = asyncio.new_event_loop()

    async def wait() -> None:
        await asyncio.Event().wait()

    work = other.create_task(runtime.protect(wait()))
    other.run_until_complete(asyncio.sleep(0))
    asyncio.run(asyncio.wait_for(runtime.close(30), 5))
    work.cancel()
    for task in asyncio.all_tasks(other):
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        other.run_until_complete(work)
    other.close()


def test_a_job_cancelled_with_its_loop_is_reported_lost() -> None:
    events: list[object] = []

    async def story() -> None:
        gate = Gate("accounts.find before")
        site = Site(gate)
        site.events = events
        site.manager._on_event = events.append
        await site.manager.request_reset(ADDRESS, client=None)
        await gate.reached.wait()

    asyncio.run(story())
    assert [type(event) for event in events if isinstance(event, JobLost)] == [JobLost]


@pytest.mark.parametrize("error", [OSError("s3cret"), None])
def test_what_became_of_a_reset_nobody_waits_for_is_logged_by_type(
    error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        gate = Gate("")
        site = Site(gate)
        token = (await site.manager.issue_token("alice")).token
        if error is not None:
            site.accounts.end_sessions = fail  # type: ignore[method-assign]  # found at each call
        gate.step = "accounts.set_password before"
        visitor = asyncio.create_task(site.manager.reset_password(token, "new"))
        await gate.reached.wait()
        visitor.cancel()
        with pytest.raises(asyncio.CancelledError):
            await visitor
        gate.open.set()
        await site.manager.close()

    def fail(_account_id: str, /) -> None:
        raise OSError("s3cret")

    asyncio.run(story())
    logged = [line.getMessage() for line in caplog.records if line.levelname == "ERROR"]
    assert logged == (["a reset whose caller was cancelled ended with OSError"] if error else [])


def test_a_cancelled_look_up_in_a_file_ends_before_its_caller_is_told(tmp_path: Path) -> None:
    """Or a release could come before the claim that it undoes."""

    async def story() -> list[str]:
        order: list[str] = []
        entered, leave = threading.Event(), threading.Event()

        def work() -> None:
            entered.set()
            leave.wait(30)
            order.append("work")

        threads = Threads(1, "test")
        caller = asyncio.create_task(threads.run(work))
        await asyncio.to_thread(entered.wait, 30)
        for _ in range(3):
            caller.cancel()
            await asyncio.sleep(0)
        leave.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
        order.append("told")
        threads.close()
        return order

    assert asyncio.run(story()) == ["work", "told"]


def test_a_failure_that_nobody_waits_for_is_not_logged_by_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        entered, leave = threading.Event(), threading.Event()

        def work() -> None:
            entered.set()
            leave.wait(30)
            raise OSError("s3cret")

        threads = Threads(1, "test")
        caller = asyncio.create_task(threads.run(work))
        await asyncio.to_thread(entered.wait, 30)
        caller.cancel()
        leave.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
        threads.close()

    asyncio.run(story())
    gc.collect()
    assert caplog.records == []


def test_closing_threads_waits_for_no_work() -> None:
    async def story() -> None:
        entered, leave = threading.Event(), threading.Event()

        def work() -> bool:
            entered.set()
            return leave.wait(30)

        threads = Threads(1, "test")
        running = asyncio.create_task(threads.run(work))
        await asyncio.to_thread(entered.wait, 30)
        threads.close()
        assert not running.done()
        leave.set()
        assert await running

    asyncio.run(asyncio.wait_for(story(), 20))


def test_close_reports_each_job_left_once() -> None:
    async def story() -> list[object]:
        gate = Gate("accounts.find before")
        site = Site(gate)
        await site.manager.request_reset(ADDRESS, client=None)
        await gate.reached.wait()
        await site.manager.close(0.01)
        await site.manager.close(0.01)
        return [event for event in site.events if isinstance(event, JobLost)]

    (lost,) = asyncio.run(story())
    assert isinstance(lost, JobLost)
    assert lost.mail == "reset"
