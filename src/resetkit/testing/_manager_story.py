"""A story: everything that visitors, operators, owners, time and failing ports do to one library.

Each act predicts from the model what must come of it, and is judged at once. What a failing port did is known, since
the kit makes it fail: its work took place (`PortCall.performed`) or not. So the model is never in doubt.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from typing_extensions import override

from resetkit import events
from resetkit._tokens import parse_token
from resetkit.events import Event
from resetkit.policy import ResetPolicy
from resetkit.testing._kit import BrokenPromiseError, expect, expect_that
from resetkit.testing._manager_assembly import LINK, Assembly, PortName
from resetkit.testing._manager_judge import Expected, lost
from resetkit.testing._manager_mailing import Mailing
from resetkit.testing._manager_redeeming import Redeeming
from resetkit.testing._transcript import shown
from resetkit.testing.failing import PortCall
from resetkit.testing.fakes import FakeClock
from resetkit.testing.managers import ManagerChecks
from resetkit.values import IssuedToken

# Ids that careless comparisons take for one, and ids for accounts that are numbered.
FAKE_IDS: Final = ("eve", "Eve")
PLAIN_IDS: Final = ("1", "2")
NAMES: Final = ("eve", "yves")


class Story(Mailing, Redeeming):
    """One library from its opening to its close."""

    @override
    def __init__(
        self, kit: ManagerChecks, assembly: Assembly, policy: ResetPolicy, clock: FakeClock, told: list[Event]
    ) -> None:
        super().__init__(kit, assembly, policy, clock, told)
        self.ids = FAKE_IDS if assembly.has_fakes else PLAIN_IDS
        for account_id, name in zip(self.ids, NAMES, strict=True):
            self._join(account_id, f"{name}@example.org")

    # Operators.

    def issue(self, account_id: str, lifetime: timedelta) -> None:
        """An operator makes a link."""
        work = self._managers[""].issue_token(account_id, lifetime=lifetime)
        outcome = self._do(f"issue a link for {account_id!r} that lives {shown(lifetime)}", work)
        self._untouched("mailer", "throttle", "dispatcher", why="an operator's link goes by no mail")
        self._judge(outcome, self._issued(account_id, lifetime, outcome.value))

    def _issued(self, account_id: str, lifetime: timedelta, value: object) -> Expected:
        failure = self._failure("accounts", "hasher", "store")
        person = self.model.people.get(account_id)
        if failure is None and (person is None or not person.can_reset):
            self._untouched("store", "hasher", why="there is nobody to mint for")
            return Expected(LookupError())
        for call in self._calls("store", "add"):
            if call.performed:
                self.model.issue(_selector(call), account_id, lifetime)
                self._names[_selector(call)] = "an operator's link that nobody got"
        if failure is not None:
            return Expected(failure)
        expect(type(value), IssuedToken, "the operator is handed a link")
        issued: Any = value
        token = parse_token(issued.token)
        if token is None or token.part != "link":
            raise BrokenPromiseError("the operator's token has not the form of a link's")
        expect_that(issued.link == LINK.replace("{token}", issued.token), "the link is the template with the token")
        expect(issued.expires_at, self._clock.now + lifetime, "it is good for as long as was asked")
        self._learn(token, issued.token, None, f"operator's link {self._number('operator')}")
        return Expected(None, [events.TokenIssued(selector=token.selector, account_id=account_id)], value)

    def revoke(self, account_id: str) -> None:
        """An operator ends all tokens of an account."""
        outcome = self._do(f"revoke the tokens of {account_id!r}", self._managers[""].revoke_tokens(account_id))
        call = self._one("store", "revoke")
        count = self.model.store.revoke(account_id, now=self._clock.now) if call.performed else 0
        told = [events.TokensRevoked(account_id=account_id, count=count)]
        self._judge(outcome, Expected(call.error) if call.error else Expected(None, told, count))

    def purge(self) -> None:
        """The daily purge. A store that expires entries by itself may say that it found none."""
        past = [record.selector for record in self.model.past_keeping()]
        outcome = self._do("purge", self._managers[""].purge_tokens())
        failure = self._failure("store")
        deleted = sum(answer for call in self._calls("store", "purge") if isinstance(answer := call.answer, int))
        gone = self._gone(past)
        if deleted:
            expect(deleted, len(gone), "a purge says how many records it deleted")
            expect_that(failure is not None or len(gone) == len(past), "a purge leaves nothing past its keep time")
        self._forget(gone)
        told = [events.TokensPurged(count=deleted)]
        self._judge(outcome, Expected(failure) if failure else Expected(None, told, deleted))

    # Time, owners, and misfortune.

    def wait(self, span: timedelta) -> None:
        """Let time pass. A store may delete by itself what is past its keep time."""
        self._clock.advance(span)
        self._tell(f"wait {shown(span)}, until {shown(self._clock.now)}")
        past = [each.selector for each in self.model.store.records.values() if each.keep_until <= self._clock.now]
        self._forget(self._gone(past))

    def _forget(self, selectors: Sequence[str]) -> None:
        for selector in selectors:
            self.model.forget(selector)

    def change_address(self, account_id: str, name: str) -> None:
        """Its owner moves to another address."""
        email = f"{name}.{self._number('address')}@example.org"
        self._hide(email)
        self._live(f"{account_id!r} moves to {email}", self._assembly.admin.change(account_id, email=email))
        self.model.people[account_id].email = email

    def change_password(self, account_id: str) -> None:
        """Its owner changes the password elsewhere."""
        work = self._assembly.directory.set_password(account_id, self._password())
        self._live(f"{account_id!r} changes the password elsewhere", work)
        self.model.change_password(account_id)

    def let_reset(self, account_id: str, *, can_reset: bool) -> None:
        """An operator disables or enables it."""
        work = self._assembly.admin.change(account_id, can_reset=can_reset)
        self._live(f"{account_id!r} is {'enabled' if can_reset else 'disabled'}", work)
        self.model.people[account_id].can_reset = can_reset

    def delete(self, account_id: str) -> None:
        """It is deleted."""
        self._live(f"{account_id!r} is deleted", self._assembly.admin.remove(account_id))
        del self.model.people[account_id]

    def join(self, account_id: str, name: str) -> None:
        """Somebody else gets the id of a deleted account."""
        self._join(account_id, f"{name}.{self._number('address')}@example.org")

    def _join(self, account_id: str, email: str) -> None:
        self._hide(email)
        work = self._assembly.admin.add(account_id, email, password=self._password())
        self._live(f"a new account {account_id!r} has the address {email}", work)
        self.model.join(account_id, email)

    def _password(self) -> str:
        password = f"{self._kit.password}{self._number('password')}"
        self._hide(password)
        return password

    def plan_failure(self, port: PortName, method: str, error: Exception | None, *, after: bool) -> None:
        """The next call of a port's method fails, once."""
        named = type(error).__name__ if error else "an error"
        self._tell(f"the next {port}.{method} fails with {named} {'after' if after else 'before'} its work")
        self._assembly.failing[port].fail(method, error=error, after=after)

    def end(self) -> None:
        """The manager is closed: every job that is left is reported, and every record is as it should be."""
        for port in self._assembly.failing.values():
            port.heal()
        left = [json.loads(job.text) for job in self._assembly.held]
        outcome = self._do("close", self._managers[""].close(1.0))
        self._judge(outcome, Expected(None, [lost(content) for content in left]))

    def close(self) -> None:
        """Close what is open, however the story ended."""
        for manager in self._managers.values():
            with suppress(Exception):
                self._kit.run(manager.close(1.0))


def _selector(call: PortCall) -> str:
    record: Any = call.args[0]
    return str(record.selector)
