"""For tests: fakes to set, ports that fail when told to, and kits that prove an adapter.

The kits and `resetkit.testing.strategies` need the extra ``testing``; the rest needs nothing.
"""

from resetkit.testing._kit import BrokenPromiseError, MisuseError, replaced, unsupported
from resetkit.testing.directories import AccountDirectoryConformance, AsyncAccountDirectoryConformance
from resetkit.testing.dispatchers import AsyncDispatcherConformance, DispatcherConformance
from resetkit.testing.failing import (
    AsyncFailingAccountDirectory,
    AsyncFailingDispatcher,
    AsyncFailingMailer,
    AsyncFailingThrottle,
    AsyncFailingTokenStore,
    FailingAccountDirectory,
    FailingDispatcher,
    FailingMailer,
    FailingThrottle,
    FailingTokenHasher,
    FailingTokenStore,
)
from resetkit.testing.fakes import AsyncFakeAccounts, FakeAccounts, FakeClock
from resetkit.testing.hashers import TokenHasherConformance
from resetkit.testing.mailers import AsyncMailerConformance, MailerConformance, Received
from resetkit.testing.managers import AsyncManagerConformance, AsyncPorts, ManagerConformance, Ports
from resetkit.testing.stores import AsyncTokenStoreConformance, TokenStoreConformance
from resetkit.testing.throttles import AsyncThrottleConformance, ThrottleConformance

__all__ = [
    "AccountDirectoryConformance",
    "AsyncAccountDirectoryConformance",
    "AsyncDispatcherConformance",
    "AsyncFailingAccountDirectory",
    "AsyncFailingDispatcher",
    "AsyncFailingMailer",
    "AsyncFailingThrottle",
    "AsyncFailingTokenStore",
    "AsyncFakeAccounts",
    "AsyncMailerConformance",
    "AsyncManagerConformance",
    "AsyncPorts",
    "AsyncThrottleConformance",
    "AsyncTokenStoreConformance",
    "BrokenPromiseError",
    "DispatcherConformance",
    "FailingAccountDirectory",
    "FailingDispatcher",
    "FailingMailer",
    "FailingThrottle",
    "FailingTokenHasher",
    "FailingTokenStore",
    "FakeAccounts",
    "FakeClock",
    "MailerConformance",
    "ManagerConformance",
    "MisuseError",
    "Ports",
    "Received",
    "ThrottleConformance",
    "TokenHasherConformance",
    "TokenStoreConformance",
    "replaced",
    "unsupported",
]
