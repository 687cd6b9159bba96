"""The promises of the whole library, on any set of adapters: subclass `ManagerConformance` or its async twin.

The author writes ``open_ports``. A machine then asks, mails, redeems, guesses, waits, changes accounts and makes any
port fail at any moment, and compares everything that happens with a small model of what is to happen.
"""

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import ClassVar

from resetkit.events import Event
from resetkit.policy import ResetPolicy
from resetkit.testing._kit import Async, Conformance, Sync, explored_promise
from resetkit.testing._manager_assembly import (
    AccountAdmin,
    Assembly,
    AsyncAccountAdmin,
    AsyncPorts,
    Ports,
    assemble,
    assemble_async,
)
from resetkit.testing.fakes import FakeClock

__all__ = [
    "AccountAdmin",
    "AsyncAccountAdmin",
    "AsyncManagerConformance",
    "AsyncPorts",
    "ManagerChecks",
    "ManagerConformance",
    "Ports",
]


class ManagerChecks(Conformance[Assembly], shipped=True):
    """What both colours promise."""

    port = "ResetManager"
    opens = "open_ports"

    password: ClassVar[str] = "Correct-Horse-7-Battery!"
    """A password that the application takes, also with digits after it."""

    def assembled(
        self, policy: ResetPolicy, clock: FakeClock, on_event: Callable[[Event], None]
    ) -> AbstractContextManager[Assembly]:
        """The library over freshly opened ports."""
        raise NotImplementedError  # a subclass says

    @explored_promise("")
    def test_every_story_goes_as_the_model_says(self) -> None:
        """Whatever visitors, operators, time and failing adapters do: answers, mails, records and events are right.

        At most one success for a token; none after its end, or for another account than stands now; strangers learn
        nothing; the outcome of a failure is known or safe; no event, error or log shows a secret.
        """
        from resetkit.testing._manager_machine import explore  # noqa: PLC0415  # Hypothesis is in the extra

        explore(self)


class ManagerConformance(ManagerChecks, Sync[Assembly], shipped=True):
    """The sync library on your adapters. Subclass it and write `open_ports`; see the guide "Write an adapter"."""

    def open_ports(self) -> AbstractContextManager[Ports]:
        """A context manager that yields adapters, new or emptied, and cleans up."""
        raise NotImplementedError  # a subclass says

    @contextmanager
    def assembled(
        self, policy: ResetPolicy, clock: FakeClock, on_event: Callable[[Event], None]
    ) -> Generator[Assembly, None, None]:
        """The sync library over freshly opened ports."""
        with self.open_ports() as ports:
            yield assemble(ports, policy, clock, on_event)


class AsyncManagerConformance(ManagerChecks, Async[Assembly], shipped=True):
    """`ManagerConformance` for the async library."""

    def open_ports(self) -> AbstractAsyncContextManager[AsyncPorts]:
        """As `ManagerConformance.open_ports`, but an async context manager."""
        raise NotImplementedError  # a subclass says

    @contextmanager
    def assembled(
        self, policy: ResetPolicy, clock: FakeClock, on_event: Callable[[Event], None]
    ) -> Generator[Assembly, None, None]:
        """The async library over freshly opened ports, in a loop of its own."""
        with self.in_loop(self._assembled(policy, clock, on_event)) as assembly:
            yield assembly

    @asynccontextmanager
    async def _assembled(
        self, policy: ResetPolicy, clock: FakeClock, on_event: Callable[[Event], None]
    ) -> AsyncGenerator[Assembly, None]:
        async with self.open_ports() as ports:
            yield assemble_async(ports, policy, clock, on_event)
