"""The examples' passwords, hashed at the lowest cost, for tests that are not about that cost.

As shipped each hash takes a tenth of a second of processor time, on purpose, and tests make hundreds.
"""

from typing import Any, Final

import accounts
import quickstart
from argon2 import PasswordHasher
from django.contrib.auth.hashers import Argon2PasswordHasher

COST: Final[dict[str, Any]] = {"time_cost": 1, "memory_cost": 8, "parallelism": 1}


class QuickHasher(Argon2PasswordHasher):
    """For Django's PASSWORD_HASHERS."""

    time_cost, memory_cost, parallelism = COST.values()


def hurry() -> None:
    """From here on, in this process."""
    accounts.hasher = quickstart.hasher = PasswordHasher(**COST)
    accounts.NOBODY = quickstart.NOBODY = accounts.hasher.hash("")
