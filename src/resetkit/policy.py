"""The numbers of the policy, each with its reason and source, checked together at construction."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from resetkit._checks import check_duration, check_type, check_whole
from resetkit._tokens import CODE_SPACE
from resetkit.errors import ConfigurationError

Limit = tuple[int, timedelta]
"""A number of calls and the time in which they may come."""

# NIST SP 800-63B-4, 4.2.1.2: a recovery code sent by e-mail is valid for at most 24 hours.
MAX_LINK_LIFETIME: Final = timedelta(hours=24)
# An operator hands the link over by other means, so the bound for e-mail does not apply; a week is ours.
MAX_OPERATOR_LIFETIME: Final = timedelta(days=7)
# Ours: the chance of guessing one account's code within a day, all its mails together.
MAX_GUESS_CHANCE: Final = 1e-6
# Ours, after NIST SP 800-63B-4, 3.2.2, which bounds consecutive failures for one account by the same figure.
MAX_GUESSES_A_DAY: Final = 100

# Ours: what an integer of any database holds, so that no store fails at a number that was accepted here.
MAX_COUNT: Final = 2**31 - 1
# Ours: each hash takes a thread, and a thousand of Argon2's default cost 19 GiB; a place for each is made at the start.
MAX_HASH_WORKERS: Final = 1000
# Ours: more at once than cores end none of them sooner, take more memory, and keep an event loop from its turn.
DEFAULT_HASH_WORKERS: Final = min(4, os.cpu_count() or 1)

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetPolicy:
    """What the manager allows. Every value that cannot be safe raises ConfigurationError.

    - ``link_lifetime``: from mail to expiry, at most 24 h (NIST SP 800-63B-4, 4.2.1.2; OWASP WSTG: rarely over 1 h).
    - ``code_lifetime``: the same for a typed code, at most the link's (OWASP ASVS 5.0, 6.5.5: 10 minutes).
    - ``code_guesses``: tries for one code. With ``account_quotas`` they bound the guesses at a day's codes: at most 100
      (NIST, 3.2.2, has that figure for consecutive failures), with a chance of at most 10⁻⁶, or ConfigurationError.
    - ``outstanding``: how many of an account's newest links stay good. 1: a newer mail ends the older.
    - ``account_quotas``: (mails, within) pairs for one account, silent when reached. Fewer mean less mail bombing and
      fewer guesses, but let a stranger use the day's mails up.
    - ``client_limit``, ``identifier_limit``: (calls, within) before ThrottledError. The identifier's lets a stranger
      delay the owner, for as long as the window lasts.
    - ``retention``: how long a record is kept after expiry, to tell why a link is dead and to count quotas; at least
      the longest quota's window.
    - ``head_start``: how long the answer has to leave before its job begins. A job waits a random time between half of
      it and the whole: begun at once, its work would slow the answer down for known accounts only.
    - ``mail_attempts``: tries for a failing mail in all, at most 10; ``mail_retry_delay`` before the second, doubled
      each time. A job that would come after its link has expired is dropped.
    - ``hash_workers``: hashes at once, by default as many as there are cores, up to 4; at most 1000. With Argon2 each
      takes its memory cost (19 MiB by default). The async manager starts as many threads with its first hash.
    - ``max_password_length``: characters; longer is rejected before hashing (CVE-2013-1443), 64 must be allowed (NIST,
      3.1.1.2). ``max_identifier_length``: characters; what is longer is no identifier.
    - ``purge_batch``: records deleted in one transaction; small, so that writers wait for milliseconds only.
    """

    link_lifetime: timedelta = timedelta(minutes=30)
    code_lifetime: timedelta = timedelta(minutes=10)
    code_guesses: int = 5
    outstanding: int = 1
    account_quotas: tuple[Limit, ...] = ((3, timedelta(minutes=15)), (20, timedelta(hours=24)))
    client_limit: Limit = (60, timedelta(minutes=15))
    identifier_limit: Limit = (5, timedelta(minutes=15))
    retention: timedelta = timedelta(days=7)
    head_start: timedelta = timedelta(seconds=1)
    mail_attempts: int = 4
    mail_retry_delay: timedelta = timedelta(seconds=15)
    hash_workers: int = DEFAULT_HASH_WORKERS
    max_password_length: int = 1024
    max_identifier_length: int = 320
    purge_batch: int = 100

    def __post_init__(self) -> None:
        check_duration("link_lifetime", self.link_lifetime, most=MAX_LINK_LIFETIME)
        check_duration("code_lifetime", self.code_lifetime, most=self.link_lifetime)
        check_duration("retention", self.retention)
        check_duration("head_start", self.head_start, most=self.link_lifetime / 2, whole=False)
        check_duration("mail_retry_delay", self.mail_retry_delay, most=timedelta(hours=1))
        check_whole("mail_attempts", self.mail_attempts, least=1, most=10)
        for name in ("code_guesses", "outstanding", "purge_batch"):
            check_whole(name, getattr(self, name), least=1, most=MAX_COUNT)
        check_whole("hash_workers", self.hash_workers, least=1, most=MAX_HASH_WORKERS)
        check_whole("max_password_length", self.max_password_length, least=64, most=MAX_COUNT)
        check_whole("max_identifier_length", self.max_identifier_length, least=1, most=MAX_COUNT)
        _check_limit("client_limit", self.client_limit)
        _check_limit("identifier_limit", self.identifier_limit)
        self._check_quotas()

    def _check_quotas(self) -> None:
        if not check_type("account_quotas", self.account_quotas, tuple):
            raise ConfigurationError("account_quotas must hold at least one (mails, within) pair")
        for quota in self.account_quotas:
            _check_limit("account_quotas", quota)
        if self.retention < max(within for _, within in self.account_quotas):
            raise ConfigurationError("retention must be at least the longest window in account_quotas")
        guesses = self.guesses_a_day
        if guesses > MAX_GUESSES_A_DAY or guesses / CODE_SPACE > MAX_GUESS_CHANCE:
            message = (
                f"code_guesses and account_quotas allow {guesses} guesses a day: at most {MAX_GUESSES_A_DAY}, "
                f"and a chance of {MAX_GUESS_CHANCE}; lower one of them"
            )
            raise ConfigurationError(message)

    @property
    def guesses_a_day(self) -> int:
        """How many guesses an attacker has at the codes of all mails that one account is sent in any 24 hours."""
        mails = min(count * -(-_DAY // within) for count, within in self.account_quotas)
        return self.code_guesses * mails


def _check_limit(name: str, value: Limit) -> None:
    try:
        count, within = value
    except (TypeError, ValueError):
        raise ConfigurationError(f"{name} takes (number, timedelta) pairs") from None
    check_whole(f"the number in {name}", count, least=1, most=MAX_COUNT)
    check_duration(f"the window in {name}", within)
