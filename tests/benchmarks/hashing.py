"""Beside Argon2 alone, at the same cost: what else a job and a redemption take is to be small."""

import secrets
from functools import partial
from typing import Final

from argon2 import PasswordHasher

from benchmarks.measure import OURS, Batch, Effort, Figure, compare, manager
from harness import ManyAccounts
from resetkit import Argon2TokenHasher, ResetManager
from resetkit.hashing import OWASP_MEMORY_KIB, OWASP_PARALLELISM, OWASP_TIME_COST
from resetkit.testing.timing import addresses

ADDRESSES: Final = addresses(100)
ARGON2: Final = PasswordHasher(OWASP_TIME_COST, OWASP_MEMORY_KIB, OWASP_PARALLELISM)
HASHED: Final = "Argon2 alone"


def figures(effort: Effort) -> list[Figure]:
    return [
        *compare("a mail's job", {OURS: jobs, HASHED: hashes}, rounds=effort.rounds),
        *compare("check", {OURS: checks, HASHED: verifications}, rounds=effort.rounds),
        *compare("redeem", {OURS: redemptions, HASHED: verifications}, rounds=effort.rounds),
    ]


def hashing_manager() -> ResetManager:
    return manager(ManyAccounts(ADDRESSES), hasher=Argon2TokenHasher())


OUR_MANAGER: Final = hashing_manager()


def jobs(count: int) -> Batch:
    queue = OUR_MANAGER._parts.dispatcher
    for each in secrets.SystemRandom().sample(ADDRESSES, count):
        OUR_MANAGER.request_reset(each, client=None)
    made, queue.jobs[:] = [*queue.jobs], []  # type: ignore[union-attr]  # it is our own
    return OUR_MANAGER.run_job, made


def checks(count: int) -> Batch:
    ours = hashing_manager()
    return ours.check_token, [ours.issue_token(str(number)).token for number in range(count)]


def redemptions(count: int) -> Batch:
    ours = hashing_manager()
    tokens = [ours.issue_token(str(number)).token for number in range(count)]
    return partial(ours.reset_password, new_password="correct horse battery"), tokens


def hashes(count: int) -> Batch:
    return ARGON2.hash, [secrets.token_bytes(32) for _ in range(count)]


def verifications(count: int) -> Batch:
    secret = secrets.token_bytes(32)
    return partial(ARGON2.verify, password=secret), [ARGON2.hash(secret) for _ in range(count)]
