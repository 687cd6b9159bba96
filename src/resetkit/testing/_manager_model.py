"""What the library is to do, in the fewest words: people, records, and the secrets that were mailed last. No I/O."""

import itertools
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from resetkit._tokens import Token, decoy_account_id
from resetkit.errors import DuplicateSelectorError, TokenReason
from resetkit.policy import ResetPolicy
from resetkit.testing._store_model import StoreModel
from resetkit.testing.fakes import FakeClock
from resetkit.values import Kind, Quota, TokenRecord

_BREAKS_A_LINE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_CLAIM_ID: Final = "the model's"


@dataclass(slots=True)
class Person:
    """An account as it stands now. `version` moves with its password."""

    email: str
    version: int
    can_reset: bool = True

    @property
    def standing(self) -> tuple[str, int]:
        """What ends a token when it changes."""
        return self.email, self.version


@dataclass(slots=True)
class Secrets:
    """What was mailed last under a selector, and how the account stood; a decoy has none of it."""

    standing: tuple[str, int] | None
    link: str | None = None
    code: str | None = None


class ManagerModel:
    """The state of everything behind the manager, and the rules of when a token is good."""

    def __init__(self, policy: ResetPolicy, clock: FakeClock) -> None:
        self.policy = policy
        self.clock = clock
        self.people: dict[str, Person] = {}
        self.store = StoreModel()
        self.secrets: dict[str, Secrets] = {}
        self._versions = itertools.count()

    # People.

    def join(self, account_id: str, email: str) -> None:
        """Somebody gets this id: whoever had it before is gone."""
        self.people[account_id] = Person(email, next(self._versions))

    def change_password(self, account_id: str) -> None:
        """It was written, here or elsewhere."""
        self.people[account_id].version = next(self._versions)

    # What is typed.

    def is_identifier(self, text: str) -> bool:
        """Whether anybody may be called so: one line, not too long, something to see."""
        breaks = any(unicodedata.category(char) in _BREAKS_A_LINE for char in text)
        return bool(text) and len(text) <= self.policy.max_identifier_length and not breaks and not text.isspace()

    # A reset job.

    def mail(self, selector: str, account_id: str, *, code: bool) -> Literal["mailed", "quota", "repeated"]:
        """What becomes of a job for somebody who may reset."""
        quotas = [Quota(count, self.clock.now - within) for count, within in self.policy.account_quotas]
        fresh = self._record(selector, account_id, "mail", self.policy.link_lifetime, code=code)
        try:
            added = self.store.add(fresh, quotas=quotas, keep=self.policy.outstanding)
        except DuplicateSelectorError:
            return "repeated"
        if added:
            self.secrets[selector] = Secrets(self.people[account_id].standing)
            return "mailed"
        return "quota" if self.store.get(selector) is None else "repeated"

    def leave_decoy(self, selector: str) -> bool:
        """Keep a record that nobody can open, so that guessing answers alike; False if there is another one."""
        decoy = self._record(selector, decoy_account_id(selector), "mail", self.policy.link_lifetime, code=True)
        try:
            self.store.add(decoy, quotas=(), keep=1)
        except DuplicateSelectorError:
            return False
        self.secrets[selector] = Secrets(None)
        return True

    def issue(self, selector: str, account_id: str, lifetime: timedelta) -> None:
        """An operator's token: the account's newest only is good."""
        fresh = self._record(selector, account_id, "operator", lifetime, code=False)
        self.store.add(fresh, quotas=(), keep=1)
        self.secrets[selector] = Secrets(self.people[account_id].standing)

    def _record(self, selector: str, account_id: str, kind: Kind, lifetime: timedelta, *, code: bool) -> TokenRecord:
        now = self.clock.now
        return TokenRecord(
            selector=selector,
            account_id=account_id,
            kind=kind,
            link_hash="hash",
            code_hash="hash" if code else None,
            stamp_digest="digest",
            created_at=now,
            expires_at=now + lifetime,
            code_expires_at=now + self.policy.code_lifetime if code else None,
            keep_until=now + lifetime + self.policy.retention,
        )

    # A visitor's token.

    def guess(self, selector: str) -> bool:
        """Whether one more code may be compared."""
        return self.store.attempt(selector, limit=self.policy.code_guesses)

    def why_not(self, token: Token) -> TokenReason | None:
        """Why a token opens nothing, whatever its account; None if it does. Strangers learn no reason."""
        record, secrets = self.store.get(token.selector), self.secrets.get(token.selector)
        if record is None or secrets is None or not _matches(token, secrets):
            return "unknown"
        if record.state != "outstanding":
            return record.state
        ends = record.expires_at if token.part == "link" else record.code_expires_at
        return "expired" if ends is None or self.clock.now >= ends else None

    def is_stale(self, selector: str) -> bool:
        """Whether the account is gone, may not reset, or has another password or address than when it was mailed."""
        record = self.store.records[selector]
        person = self.people.get(record.account_id)
        return person is None or not person.can_reset or person.standing != self.secrets[selector].standing

    def claim(self, selector: str) -> None:
        """Somebody redeems it: its siblings end."""
        self.store.claim(selector, claim_id=_CLAIM_ID, now=self.clock.now)

    def release(self, token: Token) -> None:
        """The password was refused: the token is good again, and the guess is given back."""
        self.store.release(token.selector, claim_id=_CLAIM_ID, guess=token.part == "code")

    # Time.

    def past_keeping(self) -> list[TokenRecord]:
        """What a purge deletes, and what a store that expires by itself may have deleted."""
        return [each for each in self.store.records.values() if each.keep_until < self.clock.now]

    def forget(self, selector: str) -> None:
        """The record was purged."""
        del self.store.records[selector], self.secrets[selector]

    def ahead(self) -> list[datetime]:
        """The instants to come at which something changes: expiries, quotas that have room again, keep times."""
        found: set[datetime] = set()
        for each in self.store.records.values():
            found |= {each.expires_at, each.keep_until, *([each.code_expires_at] if each.code_expires_at else [])}
            found |= {each.created_at + within for _, within in self.policy.account_quotas}
        return sorted(instant for instant in found if instant > self.clock.now)


def _matches(token: Token, secrets: Secrets) -> bool:
    if token.part == "link":
        return secrets.link == token.selector + token.secret
    return secrets.code == token.secret


def counted_as(text: str) -> str:
    """The one caller that look-alikes count as."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).strip()
