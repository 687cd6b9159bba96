"""For tests: fakes to set, and kits that prove an adapter. The kits need the extra ``testing``; the fakes nothing."""

from resetkit.testing._kit import BrokenPromiseError, replaced, unsupported
from resetkit.testing.fakes import AsyncFakeAccounts, FakeAccounts, FakeClock
from resetkit.testing.hashers import TokenHasherConformance
from resetkit.testing.stores import AsyncTokenStoreConformance, TokenStoreConformance

__all__ = [
    "AsyncFakeAccounts",
    "AsyncTokenStoreConformance",
    "BrokenPromiseError",
    "FakeAccounts",
    "FakeClock",
    "TokenHasherConformance",
    "TokenStoreConformance",
    "replaced",
    "unsupported",
]
