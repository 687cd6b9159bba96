"""Fakes for tests: a clock to set, accounts in memory. For mails, use `resetkit.mailers.MemoryMailer`."""

from resetkit.testing.fakes import AsyncFakeAccounts, FakeAccounts, FakeClock

__all__ = ["AsyncFakeAccounts", "FakeAccounts", "FakeClock"]
