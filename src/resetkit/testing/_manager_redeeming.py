"""From the token to the new password: acts of visitors who come back."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from resetkit import events
from resetkit._tokens import Token, parse_token
from resetkit.errors import InvalidTokenError, PasswordRejectedError
from resetkit.events import Event
from resetkit.policy import ResetPolicy
from resetkit.testing._kit import expect, expect_that
from resetkit.testing._manager_assembly import Assembly
from resetkit.testing._manager_judge import (
    CLIENTS,
    CONTEXT,
    NO_CONTEXT,
    Caller,
    Expected,
    Judge,
    Shown,
    content_of,
    delay_of,
    lost,
)
from resetkit.testing.failing import PortCall
from resetkit.testing.fakes import FakeClock
from resetkit.testing.managers import ManagerChecks
from resetkit.values import Account, ResetTicket, TokenRecord


class Redeeming(Judge):
    """Looks, guesses and resets."""

    def __init__(
        self, kit: ManagerChecks, assembly: Assembly, policy: ResetPolicy, clock: FakeClock, told: list[Event]
    ) -> None:
        super().__init__(kit, assembly, policy, clock, told)
        self._compared: Counter[str] = Counter()
        self._won: set[str] = set()

    # What there is to come back with.

    def good(self) -> list[Shown]:
        """The tokens that would be good now."""
        return [each for each in self.tokens if (token := parse_token(each.text)) and self._is_good(token)]

    def _is_good(self, token: Token) -> bool:
        return self.model.why_not(token) is None and not self.model.is_stale(token.selector)

    def owner(self, token: Shown) -> str:
        """Whose a good token is."""
        return self.model.store.records[token.text[:32]].account_id

    def left(self, token: Shown) -> timedelta:
        """How long a good token has to live."""
        parsed = parse_token(token.text)
        return self._ends(parsed) - self._clock.now if parsed else timedelta(0)

    # The acts.

    def look(self, token: Shown, *, client: str | None, elsewhere: bool = False) -> None:
        """A page looks at a token, here or in another realm, where nobody knows it. Only a code's guess is spent."""
        where = " in another realm" if elsewhere else ""
        work = self._managers["other" if elsewhere else ""].check_token(token.text, client=client)
        outcome = self._do(f"look at {token.label}{where}{_by(client)}", work)
        self._untouched("mailer", "dispatcher", why="looking changes nothing")
        self._judge(outcome, self._looked(token.text, client, elsewhere=elsewhere))

    def redeem(self, token: Shown, *, client: str | None, password: str = "", rejected: bool = False) -> None:
        """A visitor sets a new password, which the directory takes or, where `rejected`, refuses."""
        accounts = self._assembly.failing["accounts"]
        password = f"{password or self._kit.password}{self._number('password')}"
        if rejected:
            accounts.fail("set_password", error=PasswordRejectedError("It is too short."))
        self._hide(password)
        work = self._managers[""].reset_password(token.text, password, client=client, context=CONTEXT)
        outcome = self._do(f"redeem {token.label}{' with a refused password' if rejected else ''}{_by(client)}", work)
        self._untouched("mailer", why="mails are for jobs")
        expected = self._redeemed(token.text, password, client)
        if rejected:
            accounts.heal()  # it may not have come to that
        self._judge(outcome, expected)

    def redeem_with(self, token: Shown, unusable: str) -> None:
        """A visitor gives a password that no directory could keep: nothing is touched."""
        work = self._managers[""].reset_password(token.text, unusable, client=None)
        outcome = self._do(f"redeem {token.label} with a password of {len(unusable)} characters", work)
        self._untouched("accounts", "store", "mailer", "throttle", "dispatcher", "hasher", why="it is no password")
        self._judge(outcome, Expected(PasswordRejectedError(), [events.PasswordRejected()]))

    # A token, by itself.

    def _looked(self, text: str, client: str | None, *, elsewhere: bool) -> Expected:
        token = self._matched(text, client, NO_CONTEXT, elsewhere=elsewhere)
        if isinstance(token, Expected):
            return token
        read = self._one("accounts", "get")
        if read.error is not None:
            return Expected(read.error)
        selector, account_id = token.selector, self._account_id(token)
        if self.model.is_stale(selector):
            return _refused("stale", selector, account_id)
        ticket = ResetTicket(account_id=account_id, expires_at=self._ends(token))
        return Expected(None, [events.TokenChecked(selector=selector, account_id=account_id)], ticket)

    def _matched(
        self, text: str, client: str | None, context: Mapping[str, str], *, elsewhere: bool = False
    ) -> Token | Expected:
        """The token, if its secret is right and it was not ended; or what is told instead."""
        token = parse_token(text)
        if token is None:
            self._untouched("accounts", "store", "throttle", "dispatcher", "hasher", why="it has not a token's form")
            return Expected(InvalidTokenError(), [events.TokenRefused(reason="malformed")])
        callers: list[Caller] = [("client", CLIENTS[client], self._policy.client_limit)] if client else []
        if stop := self._throttled("redeem", callers, context, " elsewhere" if elsewhere else ""):
            return stop
        allowed = True
        if token.part == "code":
            call = self._one("store", "attempt")
            if call.error is None or call.performed:
                allowed = self.model.guess(token.selector)
            if call.error is not None:
                return Expected(call.error)
        return self._verified(token, allowed=allowed, elsewhere=elsewhere)

    def _verified(self, token: Token, *, allowed: bool, elsewhere: bool) -> Token | Expected:
        read = self._first("store", "get")
        if read.error is not None:
            return Expected(read.error)
        verify = self._one("hasher", "verify")  # a dummy, where there is nothing to compare with
        self._count_comparison(token, read.answer, verify)
        if verify.error is not None:
            return Expected(verify.error)
        reason = self.model.why_not(token) if allowed and not elsewhere else "unknown"
        if reason is None:
            return token
        self._untouched("accounts", why="nobody is looked up for a token that is not good")
        record = self.model.store.get(token.selector)
        account_id = record.account_id if record else None
        if reason == "unknown" and token.part == "code":
            exhausted = record is not None and not allowed
            guess = events.GuessRefused(selector=token.selector, exhausted=exhausted, account_id=account_id)
            return Expected(InvalidTokenError(), [guess])
        return _refused(reason, token.selector, account_id)

    def _count_comparison(self, token: Token, record: object, verify: PortCall) -> None:
        if token.part == "code" and isinstance(record, TokenRecord) and verify.args[0] == record.code_hash:
            self._compared[token.selector] += 1
            most = self._policy.code_guesses
            expect_that(self._compared[token.selector] <= most, f"more than {most} codes are compared with one record")

    # The reset.

    def _redeemed(self, text: str, password: str, client: str | None) -> Expected:
        token = self._matched(text, client, CONTEXT)
        if isinstance(token, Expected):
            self._uncalled("store", "claim", why="what opens nothing is not claimed")
            return token
        claim = self._one("store", "claim")
        if claim.error is None or claim.performed:
            self.model.claim(token.selector)
        if failure := claim.error or self._failure_of_reading():
            return self._given_back(token, failure)
        if self.model.is_stale(token.selector):
            self._uncalled("accounts", "set_password", why="the account is not as it was mailed")
            return _refused("stale", token.selector, self._account_id(token))
        return self._written(token, password)

    def _failure_of_reading(self) -> BaseException | None:
        return next((call.error for call in self._calls("accounts", "get") if call.error), None)

    def _given_back(self, token: Token, failure: BaseException) -> Expected:
        """Nothing was written when a port failed: the token is good as before, unless the store failed once more."""
        self._uncalled("accounts", "set_password", why="nothing is written once a port has failed")
        release = self._one("store", "release")
        if release.performed:
            self._release(token)
        state = self.model.store.records[token.selector].state
        expect_that(state == "outstanding" or release.error is not None, "a token is spent, but nothing was written")
        return Expected(failure)

    def _written(self, token: Token, password: str) -> Expected:
        account_id = self._account_id(token)
        account = self._account(self._one("accounts", "get").answer)
        write = self._one("accounts", "set_password")
        expect_that(write.args == (account_id, password), "the password is the visitor's, and the account the token's")
        if isinstance(write.error, PasswordRejectedError) and not write.performed:
            return self._rejected(token, write.error)
        if write.performed:
            self.model.change_password(account_id)
        expect_that(token.selector not in self._won, "a token is good for one success, and this is its second")
        self._won.add(token.selector)
        end = self._one("accounts", "end_sessions")
        expect(end.args, (account_id,), "the sessions of the account are ended")
        order = [call.method for call in self._calls("accounts")]
        expect(order, ["get", "set_password", "end_sessions"], "sessions end after the password was written")
        told: list[Event] = [_set(token, account_id, write)]
        if end.error is not None:
            told.append(events.SessionsNotEnded(account_id=account_id, error=type(end.error).__name__))
        told += self._notified(account)
        failure = write.error or end.error
        ticket = ResetTicket(account_id=account_id, expires_at=self._ends(token))
        return Expected(failure, told, ticket)

    def _rejected(self, token: Token, error: BaseException) -> Expected:
        """Nothing was written: the token is good as before, though its siblings are not."""
        release = self._one("store", "release")
        if release.error is None or release.performed:
            self._release(token)
        self._uncalled("accounts", "end_sessions", why="a refused password ends no session")
        self._untouched("dispatcher", why="a refused password is no news for the owner")
        told = events.PasswordRejected(selector=token.selector, account_id=self._account_id(token))
        return Expected(error, [told])

    def _release(self, token: Token) -> None:
        self.model.release(token)
        if token.part == "code":
            self._compared[token.selector] -= 1

    def _notified(self, account: Account) -> list[Event]:
        """A notice for each address of the account; one that cannot be handed over is an event."""
        calls = self._calls("dispatcher", "dispatch")
        contents = [content_of(call) for call in calls]
        addresses = sorted({str(account.email), *map(str, account.notify)})
        expect(sorted(str(each.get("to")) for each in contents), addresses, "each address is told once")
        now = int(self._clock.now.timestamp())
        for call, content in zip(calls, contents, strict=True):
            about = (content["type"], content["account_id"], content["changed_at"], delay_of(call))
            expect(about, ("notice", account.id, now, timedelta(0)), "the notice is of this change, and sent at once")
        self._take_jobs()
        return [lost(content) for call, content in zip(calls, contents, strict=True) if call.error is not None]

    def _account_id(self, token: Token) -> str:
        return self.model.store.records[token.selector].account_id

    def _ends(self, token: Token) -> datetime:
        record = self.model.store.records[token.selector]
        return record.code_expires_at or record.expires_at if token.part == "code" else record.expires_at


def _by(client: str | None) -> str:
    return "" if client is None else f", client={client!r}"


def _refused(reason: Any, selector: str, account_id: str | None) -> Expected:
    refused = events.TokenRefused(reason=reason, selector=selector, account_id=account_id)
    return Expected(InvalidTokenError(reason), [refused])


def _set(token: Token, account_id: str, write: PortCall) -> Event:
    name = type(write.error).__name__ if write.error else None
    return events.PasswordReset(selector=token.selector, account_id=account_id, error=name, context=CONTEXT)
