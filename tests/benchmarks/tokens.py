"""A token in memory: made, looked at, redeemed. Nothing is stored on a disk, and no password is hashed."""

import hmac
import secrets
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

from itsdangerous import URLSafeTimedSerializer

from benchmarks.measure import OURS, Batch, Effort, Figure, compare, manager, peer
from by_hand import TokensByHand
from harness import KEY, ManyAccounts
from resetkit import ResetManager
from resetkit.testing.timing import addresses

CALLS = 100
PASSWORD = "correct horse battery"
ADDRESSES = addresses(CALLS)


def figures(effort: Effort) -> list[Figure]:
    issue = {OURS: ours_issue, DJANGO: django_issue, ITSDANGEROUS: dumps, PYJWT: encode}
    check = {OURS: ours_check, DJANGO: django_check, ITSDANGEROUS: loads, PYJWT: decode}
    issue |= {BARE: bare_issue, "HMAC alone": hmac_issue}
    check |= {BARE: bare_check, "HMAC alone": hmac_check}
    redeem = {OURS: ours_redeem, DJANGO: django_redeem}
    return [
        *compare("issue", issue, rounds=effort.rounds, calls=CALLS),
        *compare("check", check, rounds=effort.rounds, calls=CALLS),
        *compare("redeem", redeem, rounds=effort.rounds, calls=CALLS),
    ]


def issued(count: int) -> tuple[ResetManager, list[str]]:
    """One record for each account, as most have."""
    ours = manager(ManyAccounts(ADDRESSES[:count]))
    return ours, [ours.issue_token(str(number)).token for number in range(count)]


def ours_issue(count: int) -> Batch:
    return manager(ManyAccounts(ADDRESSES[:count])).issue_token, [str(number) for number in range(count)]


def ours_check(count: int) -> Batch:
    ours, tokens = issued(count)
    return ours.check_token, tokens


def ours_redeem(count: int) -> Batch:
    ours, tokens = issued(count)
    return partial(ours.reset_password, new_password=PASSWORD), tokens


DJANGO = "Django"


@cache
def generator() -> Any:
    peer("django_view").configure(Path())
    return import_module("django.contrib.auth.tokens").PasswordResetTokenGenerator()  # not before it is set up


@cache
def users() -> list[Any]:
    """Loaded already."""
    generator()
    user = import_module("django.contrib.auth.models").User
    hashed = "pbkdf2_sha256$1000000$" + "s" * 22 + "$" + "h" * 43 + "="
    return [user(pk=number, username=each, email=each, password=hashed) for number, each in enumerate(ADDRESSES)]


def django_issue(count: int) -> Batch:
    return generator().make_token, users()[:count]


def django_check(count: int) -> Batch:
    check = generator().check_token
    given = [(user, generator().make_token(user)) for user in users()[:count]]
    assert check(*given[0])
    return lambda each: check(*each), given


def django_redeem(count: int) -> Batch:
    check, given = django_check(count)
    accounts = ManyAccounts(ADDRESSES[:count])

    def redeem(each: tuple[Any, str]) -> None:
        if check(each):
            accounts.set_password(str(each[0].pk), PASSWORD)
            accounts.end_sessions(str(each[0].pk))

    return redeem, given


ITSDANGEROUS = "itsdangerous"
SERIALIZER = URLSafeTimedSerializer("s" * 50, salt="reset")


def dumps(count: int) -> Batch:
    return SERIALIZER.dumps, ADDRESSES[:count]


def loads(count: int) -> Batch:
    return partial(SERIALIZER.loads, max_age=1800), [SERIALIZER.dumps(each) for each in ADDRESSES[:count]]


PYJWT = "PyJWT"


def encode(count: int) -> Batch:
    return peer("jwt_app").make_token, ADDRESSES[:count]


def decode(count: int) -> Batch:
    jwt = peer("jwt_app")
    tokens = [jwt.make_token(each) for each in ADDRESSES[:count]]
    assert jwt.read_token(tokens[0])
    return jwt.read_token, tokens


BARE = "the same, bare"


def bare_issue(count: int) -> Batch:
    return TokensByHand(ManyAccounts(ADDRESSES[:count])).issue, [str(number) for number in range(count)]


def bare_check(count: int) -> Batch:
    bare = TokensByHand(ManyAccounts(ADDRESSES[:count]))
    return bare.check, [bare.issue(str(number))[0] for number in range(count)]


def hmac_issue(count: int) -> Batch:
    """The least that can be: a selector, a secret, and its digest."""
    return lambda each: (secrets.token_bytes(16), hmac.digest(KEY, secrets.token_bytes(32) + each, "sha256")), [
        each.encode() for each in ADDRESSES[:count]
    ]


def hmac_check(count: int) -> Batch:
    given = [each.encode() for each in ADDRESSES[:count]]
    digests = [(each, hmac.digest(KEY, each, "sha256")) for each in given]
    return lambda each: hmac.compare_digest(hmac.digest(KEY, each[0], "sha256"), each[1]), digests
