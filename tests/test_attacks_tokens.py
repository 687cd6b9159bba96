"""Known failures of tokens, and what the next one of each class would be: guessing, reading, keeping, mixing them up.

Each sentence begins with the id of a failure in docs/attacks.md, or says whose sibling it is.
"""

import ast
import hmac
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

import resetkit
from harness import ADDRESS, KEY, Harness, put, roomy
from resetkit import (
    InvalidTokenError,
    KeyedTokenHasher,
    PasswordRejectedError,
    ResetManager,
    ResetPolicy,
    TokenRecord,
    TokenStore,
    code_token,
)
from resetkit.testing._records import NOW, record

MakeHarness = Callable[..., Harness]

PACKAGE = Path(resetkit.__file__).parent
SOURCES = {path: ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}


def reason(kit: Harness, token: str) -> str:
    """The reason for which a token is refused, by both ways in."""
    with pytest.raises(InvalidTokenError) as looked:
        kit.check(token)
    with pytest.raises(InvalidTokenError) as used:
        kit.reset(token)
    assert looked.value.reason == used.value.reason
    return used.value.reason


def bits(token: str) -> int:
    return int(token, 16)


# Predictable tokens.


def imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def test_no_module_imports_a_generator_that_can_be_predicted() -> None:
    """CVE-2012-5508, CVE-2012-6661, CVE-2024-45719: neither random nor uuid; what draws is secrets, alone."""
    assert len(SOURCES) > 60
    assert {path.name for path, tree in SOURCES.items() if imported(tree) & {"random", "uuid", "numpy"}} == set()
    drawing = {path.name for path, tree in SOURCES.items() if "secrets" in imported(tree)}
    assert "_manager.py" in drawing


def test_the_scan_for_generators_finds_one() -> None:
    """A broken twin: the scan must see each way to import."""
    for source in ("import random", "import random as r", "from random import randint", "def f():\n import uuid"):
        assert imported(ast.parse(source)) & {"random", "uuid"}


def test_time_is_not_in_a_token(kit: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """blog.sentry.security: at one instant two tokens differ; with the same entropy, time changes nothing in one."""
    assert kit.issue().token != kit.issue().token
    kit.advance(microseconds=1)
    monkeypatch.setattr("secrets.token_bytes", lambda size=32: b"7" * size)
    assert kit.issue().token == (b"7" * 48).hex()


def test_tokens_asked_for_at_the_same_moment_share_nothing(tmp_path: Path) -> None:
    """H1-2142109: attacker and victim in the same instant; about half of all bits differ, in every round."""
    kit = Harness("sync", "memory", tmp_path, policy=roomy())
    kit.accounts.add("eve", "eve@example.org")
    barrier = threading.Barrier(2)

    def issue(account_id: str) -> list[str]:
        tokens: list[str] = []
        for _ in range(500):
            barrier.wait()
            tokens.append(kit.issue(account_id).token)
        return tokens

    with ThreadPoolExecutor(2) as askers:
        mine, theirs = askers.map(issue, ["eve", "alice"])
    assert len({*mine, *theirs}) == 1000
    distances = [(bits(a) ^ bits(b)).bit_count() for a, b in zip(mine, theirs, strict=True)]
    assert min(distances) > 120  # of 384; for independent bits one pair in 10**13 is nearer
    assert 180 < sum(distances) / len(distances) < 204
    kit.close()


FORKING = """
import os, sys
from resetkit import KeyedTokenHasher, ResetManager
from resetkit.mailers import MemoryMailer
from resetkit.stores import MemoryTokenStore
from resetkit.testing import FakeAccounts

accounts = FakeAccounts()
accounts.add("alice", "alice@example.org")
manager = ResetManager(
    accounts, MemoryTokenStore(), MemoryMailer(),
    link="https://app.example/reset#{token}", hasher=KeyedTokenHasher([b"k" * 32]),
)
manager.issue_token("alice")
for _ in range(2):
    child = os.fork()
    if child == 0:
        print(manager.issue_token("alice").token, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
print(manager.issue_token("alice").token)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_two_children_of_one_process_draw_different_tokens() -> None:
    """A sibling of CVE-2012-6661: no generator's state is inherited through a fork."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    tokens = done.stdout.split()
    assert [len(token) for token in tokens] == [96] * 3
    assert len({token[:32] for token in tokens}) == len({token[32:] for token in tokens}) == 3


REDEEMING = """
import os, sys
from resetkit import InvalidTokenError, KeyedTokenHasher, ResetManager
from resetkit.mailers import MemoryMailer
from resetkit.stores import SQLiteTokenStore
from resetkit.testing import FakeAccounts

accounts = FakeAccounts()
accounts.add("alice", "alice@example.org")
manager = ResetManager(
    accounts, SQLiteTokenStore(sys.argv[1]), MemoryMailer(),
    link="https://app.example/reset#{token}", hasher=KeyedTokenHasher([b"k" * 32]),
)
token = manager.issue_token("alice").token
read, write = os.pipe()
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)  # until the parent lets all go
        try:
            manager.reset_password(token, "new")
        except InvalidTokenError as refused:
            os._exit(1 if refused.reason == "used" else 2)
        os._exit(0)
    children.append(child)
os.close(write)
print(*sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_of_four_children_that_inherit_a_token_one_redeems_it(tmp_path: Path) -> None:
    """A sibling of CVE-2026-22751: manager, store and token forked together; each child has its own accounts."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", REDEEMING, str(tmp_path / "tokens.sqlite3")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["0", "1", "1", "1"]


def test_a_seed_set_for_tests_reaches_no_token(kit: Harness) -> None:
    """A sibling of CVE-2025-1796: the state of the random module neither decides a token nor is moved by one."""
    random.seed(7)
    state = random.getstate()
    handle, code = kit.code()
    assert random.getstate() == state
    random.setstate(state)
    assert kit.code() != (handle, code)


# Readable at rest.


def test_a_record_is_found_by_its_whole_selector_only(store: TokenStore) -> None:
    """CVE-2023-30843: no prefix, suffix, pattern, hash or operator of a query finds a record."""
    kept = record(selector="0123456789abcdef" * 2, link_hash="$hash$", stamp_digest="digest")
    put(store, kept)
    whole = kept.selector
    partial = [whole[:cut] for cut in range(32)] + [whole[cut:] for cut in range(1, 32)]
    patterns = ["%", "_" * 32, f"{whole[:-1]}_", f"{whole}%", "*", "?" * 32, ".*", f"^{whole}", "[0-9a-f]*"]
    others = [
        whole.upper(),
        f" {whole}",
        f"{whole} ",
        f"{whole}\0",
        "$hash$",
        "digest",
        "alice",
        "' OR 1=1--",
        '"" OR ""=',
    ]
    for text in [*partial, *patterns, *others]:
        assert store.get(text) is None
        assert not store.attempt(text, limit=5)
        assert not store.claim(text, claim_id="c", now=kept.created_at)
        assert not store.release(text, claim_id="c", guess=True)
    assert store.revoke("%", now=kept.created_at) == 0
    assert store.revoke("_" * len(kept.account_id), now=kept.created_at) == 0
    assert store.get(whole) == kept


def test_the_answer_holds_nothing_of_the_mail_or_the_account(kit: Harness) -> None:
    """CVE-2025-58434, H1-681468, H1-806151, H1-2256548, H1-293490: no token, no address, not even a part of it."""
    known, unknown = kit.request(), kit.request("nobody@example.com")
    assert known == unknown
    coded = kit.request(code=True)
    mail = kit.reset_mails[-1]
    shown = f"{known} {coded!r} {coded.message} {coded.handle}"
    assert mail.code is not None
    for secret in (mail.token, mail.token[32:], mail.link, mail.code, ADDRESS, "example.org", "alice", "stamp"):
        assert secret not in shown


# Expiry, use, and changes of the account.


def test_an_expired_token_stays_expired_whatever_was_purged(kit: Harness) -> None:
    """CVE-2026-28268: validity depends on no purge, before it, after it, or without it."""
    expired = kit.token()
    kit.advance(minutes=30)
    assert reason(kit, expired) == "expired"
    live = kit.token()
    kit.purge()
    assert reason(kit, expired) == "expired"
    kit.advance(minutes=29)
    kit.purge()
    kit.reset(live)
    kit.advance(days=8)
    kit.purge()
    assert reason(kit, expired) == "unknown"


def test_a_reset_gives_no_life_to_an_expired_token_of_another_purpose(kit: Harness) -> None:
    """CVE-2023-48220: an invitation that has expired stays so, through a reset and through its own page."""
    resets = kit.manager
    kit.manager = invitations = kit.make_manager(realm="invitation")
    invitation = kit.token()
    kit.advance(minutes=30)
    kit.manager = resets
    before = kit.record(invitation)
    kit.reset(kit.token())
    assert kit.record(invitation) == before
    assert reason(kit, invitation) == "unknown"
    kit.manager = invitations
    assert reason(kit, invitation) == "expired"


def test_a_clock_set_back_revives_nothing_that_ended_but_by_time(kit: Harness) -> None:
    """H1-1615790, H1-170161, H1-898841: what was used or superseded needs no clock; expiry does, see security.md."""
    used, superseded = kit.token(), kit.token()
    kit.reset(kit.token())
    assert reason(kit, used) == "superseded"
    expired = kit.token()
    kit.advance(minutes=31)
    assert reason(kit, expired) == "expired"
    kit.advance(days=-1)
    assert reason(kit, used) == "superseded"
    assert reason(kit, superseded) == "superseded"
    kit.check(expired)  # the documented limit


def test_a_job_from_the_future_mails_nothing(kit: Harness) -> None:
    """A sibling of H1-1615790: a clock that jumps back between request and job makes no link that lives longer."""
    kit.on_step["dispatcher.dispatch before"] = lambda: kit.advance(days=-1)
    kit.request()
    assert kit.reset_mails == []
    kit.on_step.clear()
    kit.request()
    assert len(kit.reset_mails) == 1


def test_a_code_cannot_be_replayed_in_its_own_or_the_next_interval(kit: Harness) -> None:
    """CVE-2021-43177, CVE-2015-7225: a used code is used, in the interval it was made for and after it."""
    token = kit.code_token()
    kit.reset(token, "first")
    for _ in range(2):
        assert reason(kit, token) == "used"
        kit.advance(minutes=10)
    assert kit.accounts.password("alice") == "first"


def test_the_mark_comes_before_the_write_and_a_failing_mark_writes_nothing(kit: Harness) -> None:
    """eswan18/identity #78: claim, then write; where the claim fails nothing is written."""
    token = kit.token()
    kit.steps.clear()
    with kit.failing("store.claim before", OSError("away")), pytest.raises(OSError, match="away"):
        kit.reset(token)
    assert "accounts.set_password before" not in kit.steps
    kit.steps.clear()
    kit.reset(token)
    assert kit.steps.index("store.claim after") < kit.steps.index("accounts.set_password before")


def test_an_account_made_anew_under_the_same_id_is_another_one(kit: Harness) -> None:
    """A sibling of H1-145896: deleted and registered again with the same id and address, it has another stamp."""
    token = kit.token()
    kit.accounts.remove("alice")
    kit.accounts.add("alice", ADDRESS, password="of the new owner")
    with pytest.raises(InvalidTokenError) as refused:
        kit.check(token)
    assert refused.value.reason == "stale"
    assert kit.accounts.password("alice") == "of the new owner"


def test_an_address_that_moves_to_another_account_takes_no_token_along(kit: Harness) -> None:
    """A sibling of H1-685007 and H1-1089467: the token is the account's, not the address's."""
    token = kit.token()
    kit.accounts.change("alice", email="new@example.org")
    kit.accounts.add("bob", ADDRESS)
    assert reason(kit, token) == "stale"
    assert kit.accounts.password("bob") == "old"


def test_an_address_that_is_changed_back_does_not_end_the_token_for_ever(kit: Harness) -> None:
    """A sibling of H1-145896, the other way: looking while the address differs spends nothing."""
    token = kit.token()
    kit.accounts.change("alice", email="new@example.org")
    with pytest.raises(InvalidTokenError):
        kit.check(token)
    kit.accounts.change("alice", email=ADDRESS)
    kit.reset(token)


def test_an_operator_s_token_ends_with_a_reset_too(kit: Harness) -> None:
    """A sibling of CVE-2020-11027: any success ends all, of every kind."""
    issued = kit.issue().token
    kit.reset(kit.token())
    assert reason(kit, issued) == "revoked"


# One account's token for another's, wrong purpose, steps left out.


def test_nothing_but_the_token_says_whose_password_is_set(kit: Harness) -> None:
    """CVE-2023-26481, H1-42587, H1-315879, H1-843160: no argument names an account, and none of them changes it."""
    assert list(signature(ResetManager.reset_password).parameters) == [
        "self",
        "token",
        "new_password",
        "client",
        "context",
    ]
    kit.accounts.add("bob", "bob@example.org")
    context = {"account_id": "bob", "id": "bob", "user": "bob", "email": "bob@example.org", "uid": "bob"}
    ticket = kit.reset(kit.token(), "new", client="bob", context=context)
    assert ticket.account_id == "alice"
    assert (kit.accounts.password("alice"), kit.accounts.password("bob")) == ("new", "old")


def test_halves_of_two_tokens_open_neither(kit: Harness) -> None:
    """A sibling of CVE-2023-26481: one account's selector with another's secret, in both directions and as codes."""
    kit.accounts.add("bob", "bob@example.org")
    mine, code = kit.code()
    alice = kit.reset_mails[-1].token
    other = kit.request("bob@example.org", code=True).handle
    bob = kit.reset_mails[-1].token
    assert other is not None
    for mixed in (alice[:32] + bob[32:], bob[:32] + alice[32:], code_token(other, code)):
        assert reason(kit, mixed) == "unknown"
    kit.check(code_token(mine, code))


@pytest.mark.parametrize("realms", [("", "invitation"), ("tenant a", "tenant b"), ("a", "A"), ("a", "a ")])
def test_two_realms_with_the_same_ids_share_no_token(kit: Harness, realms: tuple[str, str]) -> None:
    """H1-98469, H1-3378635: another purpose's or tenant's token is unknown, for links and for codes, both ways."""
    managers = [kit.make_manager(realm=realm) for realm in realms]
    tokens: list[list[str]] = []
    for manager in managers:
        kit.manager = manager
        handle, code = kit.code()
        tokens.append([kit.reset_mails[-1].token, code_token(handle, code)])
    for manager, others in zip(managers, reversed(tokens), strict=True):
        kit.manager = manager
        for token in others:
            assert reason(kit, token) == "unknown"
    assert kit.accounts.password("alice") == "old"


def test_a_code_opens_no_other_request(kit: Harness) -> None:
    """A sibling of H1-98469 (ASVS 5.0, 6.6.2): a code is good for the page that asked, no earlier or later one."""
    earlier, first = kit.code()
    later, second = kit.code()
    assert reason(kit, code_token(earlier, second)) == "unknown"
    assert reason(kit, code_token(later, first)) == "unknown"
    kit.reset(code_token(later, second))


def test_a_link_s_hash_serves_no_code_and_a_code_s_no_link(kit: Harness) -> None:
    """A sibling of CVE-2025-46815: what proves one step proves no other."""
    handle, code = kit.code()
    found = kit.record(handle)
    assert found is not None
    assert found.code_hash not in {None, found.link_hash}
    link = kit.reset_mails[-1].token
    assert reason(kit, f"{handle}-{link[32:40].upper()}") == "unknown"
    assert reason(kit, handle + code.lower() * 8) == "unknown"


# Empty tokens, and texts in their place.


def test_a_blank_token_matches_no_blank_column(store: TokenStore) -> None:
    """CVE-2019-16109, cartalyst/sentry 2016-09-05: a record holds no blank hash or selector; none finds it."""
    blanks: list[dict[str, Any]] = [{"selector": ""}, {"link_hash": ""}, {"code_hash": "", "code_expires_at": NOW}]
    for blank in blanks:
        with pytest.raises(resetkit.ConfigurationError):
            record(**blank)
    put(store, record(code_hash=None))
    for text in ("", " ", "\0", "null", "None"):
        assert store.get(text) is None


def test_accounts_with_one_and_the_same_stamp_share_no_token(kit: Harness) -> None:
    """CVE-2015-2559: the same password hash, even an empty one, makes no token good for another account."""
    for name in ("bob", "eve"):
        kit.accounts.add(name, f"{name}@example.org", password="same")
    kit.request("bob@example.org")
    bob = kit.reset_mails[-1].token
    kit.request("eve@example.org")
    eve = kit.reset_mails[-1].token
    mine, theirs = kit.record(bob), kit.record(eve)
    assert mine is not None
    assert theirs is not None
    assert mine.stamp_digest != theirs.stamp_digest
    assert reason(kit, bob[:32] + eve[32:]) == "unknown"
    kit.reset(eve, "new")
    assert (kit.accounts.password("bob"), kit.accounts.password("eve")) == ("same", "new")


AROUND = " \t\n\r\0\u00a0\u200b\u200d\ufeff\u202e\u2060\u00ad+=/\ud800"


def test_a_token_with_anything_around_or_inside_is_another_text(kit: Harness) -> None:
    """A sibling of CVE-2026-41276: nothing is stripped, folded or decoded, so no two texts are one token."""
    token = kit.token()
    kit.steps.clear()
    for text in (*AROUND, "%20", "\r\n"):
        for other in (text + token, token + text, token[:32] + text + token[32:]):
            assert reason(kit, other) == "unknown"
    encoded = "".join(f"%{ord(char):02x}" for char in token)
    assert reason(kit, encoded) == "unknown"
    assert kit.steps == []
    kit.reset(token)


def test_digits_of_other_scripts_and_look_alike_letters_are_no_code_and_cost_no_guess(kit: Harness) -> None:
    """A sibling of CVE-2019-19844: Arabic or Cyrillic signs typed as a code are refused before any count."""
    handle, code = kit.code()
    kit.steps.clear()
    cyrillic = code.translate(str.maketrans("BCHKMPTX", "\u0412\u0421\u041d\u041a\u041c\u0420\u0422\u0425"))
    for typed in (
        "\u0661" * 8,
        "\u06f1" * 8,
        "\u0967" * 8,
        "\u0412" * 8,
        "\u0392" * 8,
        f"\u0412{code[1:]}",
        code + "\u200b",
    ):
        assert reason(kit, code_token(handle, typed)) == "unknown"
    assert kit.steps == []
    if cyrillic != code:
        assert reason(kit, code_token(handle, cyrillic)) == "unknown"
    kit.reset(code_token(handle, code))


# Comparisons that take time.


def compares_secrets(tree: ast.Module) -> set[str]:
    """The names compared with ``==``, ``!=`` or ``in`` that speak of a secret."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq | ast.In) for op in node.ops):
            for side in (node.left, *node.comparators):
                name = side.attr if isinstance(side, ast.Attribute) else side.id if isinstance(side, ast.Name) else ""
                if {"secret", "token", "code", "hash", "digest", "tag", "mac", "stamp"} & set(name.split("_")):
                    found.add(ast.unparse(node))
    return found


def test_no_secret_is_compared_with_an_operator() -> None:
    """CVE-2017-14775, CVE-2015-8125: where bytes of a secret are compared, hmac.compare_digest or Argon2 does it.

    Not in `resetkit check`, which nobody but who may read all stamps can time.
    """
    deciding = [tree for path, tree in SOURCES.items() if "testing" not in path.parts and path.name != "_findings.py"]
    assert {found for tree in deciding for found in compares_secrets(tree)} == set()


def test_the_scan_for_comparisons_finds_one() -> None:
    """A broken twin: an operator between secrets must be seen."""
    for source in ("record.link_hash == made", "a if token != b else c", "secret in known", "self.code == 5"):
        assert compares_secrets(ast.parse(source))


def test_a_keyed_hash_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2015-8125: the comparison that decides is compare_digest, over values of one length."""
    compared: list[tuple[Any, Any]] = []
    compare = hmac.compare_digest

    def spy(mine: Any, theirs: Any) -> bool:
        compared.append((mine, theirs))
        return compare(mine, theirs)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    hasher = KeyedTokenHasher([KEY])
    stored = hasher.hash(b"secret")
    assert hasher.verify(stored, b"secret")
    assert not hasher.verify(stored, b"secreT")
    assert len(compared) == 2
    assert {len(mine) - len(theirs) for mine, theirs in compared} == {0}


def test_what_a_visitor_sent_meets_a_stored_byte_only_as_a_hash(tmp_path: Path) -> None:
    """CVE-2016-7036, CVE-2018-6596, CVE-2020-11037: the look-up is by selector, the secret is hashed first."""
    seen: list[bytes] = []

    class Noting(KeyedTokenHasher):
        def verify(self, stored: str, secret: bytes, /) -> bool:
            seen.append(secret)
            return super().verify(stored, secret)

    kit = Harness("sync", "memory", tmp_path, hasher=Noting([KEY]))
    token = kit.token()
    asked: list[str] = []

    def get(selector: str) -> TokenRecord | None:
        asked.append(selector)
        return kit.record(selector)

    kit.replace("store", "get", get)
    for guess in (token[:32] + "0" * 64, token[:95] + "0", token):
        try:
            kit.check(guess)
        except InvalidTokenError:
            continue
    assert asked == [token[:32]] * 3
    assert {len(each) for each in seen} == {32}
    distances = [(int.from_bytes(seen[-1]) ^ int.from_bytes(each)).bit_count() for each in seen if each != seen[-1]]
    assert all(80 < distance < 176 for distance in distances)
    kit.close()


# Policies that would be too weak.


@pytest.mark.parametrize(
    "head_start",
    [timedelta(0), timedelta(seconds=-1), timedelta(minutes=15, seconds=1), 1, 0.5, None, float("nan"), True],
    ids=repr,
)
def test_a_head_start_that_is_none_or_outlasts_the_link_is_refused(head_start: Any) -> None:
    """A sibling of CVE-2020-11063: no number takes the head start away, or keeps a job until its link is dead."""
    with pytest.raises(resetkit.ConfigurationError, match="head_start"):
        ResetPolicy(head_start=head_start)
    assert ResetPolicy(head_start=timedelta(minutes=15)).head_start == timedelta(minutes=15)


def test_a_weak_password_is_refused_as_often_as_it_is_tried_and_the_token_is_kept(kit: Harness) -> None:
    """H1-173195, H1-1083531: the application's own rules apply, and trying them costs neither link nor code."""
    token = kit.code_token()
    with kit.failing("accounts.set_password before", PasswordRejectedError("too weak")):
        for _ in range(20):
            with pytest.raises(PasswordRejectedError):
                kit.reset(token, "weak")
    kit.reset(token, "strong")
