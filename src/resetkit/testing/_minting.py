"""Real tokens in a store under test, minted by the engine itself."""

import base64
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, TypeVarTuple

from resetkit._manager import Engine
from resetkit._sync import LiftedDirectory, LiftedMailer
from resetkit.hashing import KeyedTokenHasher
from resetkit.mailers.memory import MemoryMailer
from resetkit.mails import ResetMail
from resetkit.policy import ResetPolicy
from resetkit.protocols import AsyncTokenStore
from resetkit.testing._records import NOW
from resetkit.testing.fakes import FakeAccounts
from resetkit.throttle import AsyncMemoryThrottle

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class _InPlace:
    """A runtime without threads or tasks."""

    async def compute(self, work: Callable[[*Ts], T], /, *args: *Ts) -> T:
        return work(*args)

    async def protect(self, work: Coroutine[Any, Any, T], /) -> T:
        raise NotImplementedError("only a redemption is protected, and nothing is redeemed here")

    async def rest(self, seconds: float, /) -> None:
        raise NotImplementedError("nothing is purged here")

    async def close(self, timeout: float, /) -> None:
        """Nothing to wait for."""


class _AtOnce:
    """A dispatcher that runs each job in the caller's path and never waits by itself."""

    async def dispatch(
        self, job: str, run: Callable[[str], Awaitable[None]], /, *, delay: timedelta = timedelta(0)
    ) -> None:
        del delay
        await run(job)

    async def close(self, timeout: float, /) -> None:
        """Nothing is left."""


@dataclass(frozen=True)
class Secrets:
    """What was mailed: the tokens whole, their secret halves, the codes."""

    selector: str
    clear: list[str] = field(repr=False)

    def shapes(self) -> set[bytes]:
        """The secrets as a backend might write them."""
        return {shape for each in self.clear for shape in shapes(each.encode())}


def shapes(secret: bytes) -> set[bytes]:
    """How these bytes look wherever somebody may have written them: as they are, quoted, or encoded, in any case."""
    found = {secret, repr(bytes(secret))[2:-1].encode(), str([*secret])[1:-1].encode()}
    found |= {secret.hex().encode(), secret.hex().upper().encode()}
    for offset in range(3):  # base64 of a longer text, from the first digit that is the secret's alone to the last
        digits = base64.b64encode(bytes(offset) + secret)[-(-offset * 4 // 3) : (offset + len(secret)) * 4 // 3]
        found |= {digits, digits.translate(_URL_SAFE)}
    if secret.isascii():
        found |= {secret.decode().encode("utf-16-le"), secret.lower(), secret.upper()}
    return found


async def mint(store: AsyncTokenStore) -> Secrets:
    """Have a link and a code mailed, and an operator's token made, with records in the store."""
    accounts, mailer = FakeAccounts(), MemoryMailer()
    accounts.add("alice", "alice@example.org")
    engine = Engine(
        LiftedDirectory(accounts),
        store,
        LiftedMailer(mailer),
        link="https://app.example/reset#{token}",
        policy=ResetPolicy(),
        hasher=KeyedTokenHasher([bytes(range(32))]),
        throttle=AsyncMemoryThrottle(),
        dispatcher=_AtOnce(),
        clock=lambda: NOW,
        on_event=lambda _: None,
        realm="",
        runtime=_InPlace(),
    )
    await engine.request_reset("alice@example.org", client=None, code=True)
    issued = await engine.issue_token("alice")
    (mail,) = (mail for mail in mailer.outbox if isinstance(mail, ResetMail))
    selector, code = mail.token[:32], str(mail.code)
    secrets = [*(str(token) for token in (mail.token, issued.token)), mail.token[32:], issued.token[32:], code]
    return Secrets(selector, secrets)
