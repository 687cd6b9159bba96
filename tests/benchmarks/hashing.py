"""Beside Argon2 alone, at the same cost: what else a job and a redemption take is to be small."""

import random
import secrets
from functools import cache, partial
from typing import Final

from argon2 import PasswordHasher

from benchmarks.measure import OURS, Batch, Effort, Figure, Queue, compare, manager
from harness import ManyAccounts
from resetkit import Argon2TokenHasher, ResetManager
from resetkit.hashing import OWASP_MEMORY_KIB, OWASP_PARALLELISM, OWASP_TIME_COST
from resetkit.testing.timing import addresses

ACCOUNTS: Final = 100
ADDRESSES: Final = addresses(ACCOUNTS)
QUEUE: Final = Queue()
ARGON2: Final = PasswordHasher(OWASP_TIME_COST, OWASP_MEMORY_KIB, OWASP_PARALLELISM)
HASHED: Final = "Argon2 alone"


def figures(effort: Effort) -> list[Figure]:
    return [
        *compare("a mail's job", {OURS: jobs, HASHED: hashes}, rounds=effort.rounds),
        *compare("check", {OURS: checks, HASHED: verifications}, rounds=effort.rounds),
        *compare("redeem", {OURS: redemptions, HASHED: verifications}, rounds=effort.rounds),
    ]


@cache
def ours() -> ResetManager:
    return manager(ManyAccounts(ADDRESSES), hasher=Argon2TokenHasher(), dispatcher=QUEUE)


def jobs(count: int) -> Batch:
    for each in random.sample(ADDRESSES, count):
        ours().request_reset(each, client=None)
    made, QUEUE.jobs = QUEUE.jobs, []
    return ours().run_job, made


def issued(count: int) -> list[str]:
    QUEUE.jobs.clear()
    return [ours().issue_token(str(number)).token for number in random.sample(range(ACCOUNTS), count)]


def checks(count: int) -> Batch:
    return ours().check_token, issued(count)


def redemptions(count: int) -> Batch:
    return partial(ours().reset_password, new_password="correct horse battery"), issued(count)


def hashes(count: int) -> Batch:
    return ARGON2.hash, [secrets.token_bytes(32) for _ in range(count)]


def verifications(count: int) -> Batch:
    secret = secrets.token_bytes(32)
    return partial(ARGON2.verify, password=secret), [ARGON2.hash(secret) for _ in range(count)]
