"""What can be weak in a set-up: how each weakness is seen, and what to do about it.

Every decision is a pure function of what was `Seen`. N numbers are those of docs/security.md. A number without a
source is ours.
"""

# ruff: noqa: SLF001  # the attributes are private to the package, not to their classes
# pyright: reportPrivateUsage=false

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from itertools import combinations
from pathlib import PurePath
from typing import Any, Final
from urllib.parse import urlsplit

from resetkit._hosts import is_loopback
from resetkit._link import PLACEHOLDER
from resetkit._manager import Parts
from resetkit.dispatch import AsyncInlineDispatcher, InlineDispatcher
from resetkit.hashing import Argon2TokenHasher, KeyedTokenHasher, _KeyRing
from resetkit.mailers.smtp import AsyncSMTPMailer, SMTPMailer
from resetkit.policy import Limit
from resetkit.stores.memory import AsyncMemoryTokenStore, MemoryTokenStore
from resetkit.stores.sqlite import AsyncSQLiteTokenStore, SQLiteTokenStore
from resetkit.throttle import AsyncMemoryThrottle, MemoryThrottle
from resetkit.values import Account

# OWASP Password Storage Cheat Sheet, Argon2id: (KiB, passes) of equal defence, with one lane or more.
_OWASP_COSTS: Final = ((47104, 1), (19456, 2), (12288, 3), (9216, 4), (7168, 5))

_LONGEST_LINK: Final = timedelta(hours=1)  # OWASP WSTG-ATHN-09: rarely more than an hour
_LONGEST_CODE: Final = timedelta(minutes=10)  # OWASP ASVS 5.0, 6.5.5; NIST SP 800-63B-4, 3.1.3.2
_MOST_OUTSTANDING: Final = 2  # as many as N11 advises for who is delayed by strangers
_MOST_MAILS: Final = (10, timedelta(minutes=15))  # who waits for a mail asks again a few times
_MOST_BY_CLIENT: Final = (20 * 60, timedelta(hours=1))  # django-allauth's 20 a minute, over an hour
_MOST_BY_IDENTIFIER: Final = (5 * 60, timedelta(hours=1))  # django-allauth's 5 a minute, over an hour
_LEAST_HEAD_START: Final = timedelta(milliseconds=100)  # half of it is the least wait, and an answer needs some ms
_LONGEST_INPUT: Final = 4096  # characters; CVE-2013-1443
_LEAST_VARIETY: Final = 8  # different bytes in a key; of 32 random ones fewer never come, even as hexadecimal digits
_LARGEST_DRIFT: Final = timedelta(minutes=1)  # a tenth of a code's life

LATEST_PURGE: Final = timedelta(days=1)  # it is to be run daily
MANY: Final = 1000  # no more are counted

# Linux's names (proc(5), /proc/filesystems) for disks that another machine holds: no lock or shared memory of SQLite's
# can be relied on there (sqlite.org/wal.html, sqlite.org/howtocorrupt.html).
_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "ocfs2", "smb3", "smbfs"),
        *("fuse.blobfuse2", "fuse.ceph", "fuse.cephfs", "fuse.davfs", "fuse.gcsfuse", "fuse.glusterfs"),
        *("fuse.juicefs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Seen:
    """A manager's parts, and what was read through them."""

    parts: Parts
    now: datetime
    clock: datetime  # what the manager's own clock showed at `now`
    accounts: tuple[tuple[Account, Account], ...] = ()  # each as it was read twice
    overdue: int = 0  # records that were to be deleted LATEST_PURGE ago, counted up to MANY
    file_system: str | None = None  # where the store's SQLite file is


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One finding: its name, what shows it in a sentence or not at all, and what to do about it."""

    name: str
    find: Callable[[Seen], str | None]
    do: str
    advice: bool = False  # weak for some applications only, and no set-up shows for which


# Throttle, dispatcher, store, mailer: what is for one process, or for tests.


def _throttle_per_process(seen: Seen) -> str | None:
    throttle = seen.parts.throttle
    told = f"{_kind(throttle)} counts in each process by itself: N workers allow N times as much (N10)."
    return told if isinstance(throttle, MemoryThrottle | AsyncMemoryThrottle) else None


def _inline_dispatch(seen: Seen) -> str | None:
    inline = isinstance(seen.parts.dispatcher, InlineDispatcher | AsyncInlineDispatcher)
    told = "Each mail is made while the visitor waits: the time of an answer tells who has an account (N9)."
    return told if inline else None


def _store_in_memory(seen: Seen) -> str | None:
    store = seen.parts.store
    in_memory = isinstance(store, MemoryTokenStore | AsyncMemoryTokenStore) or sqlite_file(store) == ""
    told = "Each process keeps its tokens to itself, and a restart forgets them all (N10)."
    return told if in_memory else None


def _mailer_sends_nothing(seen: Seen) -> str | None:
    mailer = seen.parts.mailer
    if getattr(mailer, "sends_nothing", False) is not True:
        return None
    return f"{_kind(mailer)} sends nothing; who sees its console or memory has every token (N19)."


def _test_double(seen: Seen) -> str | None:
    parts = (getattr(seen.parts, field.name) for field in fields(Parts))
    doubles = [_kind(part) for part in parts if type(part).__module__.startswith("resetkit.testing")]
    return f"For tests only: {', '.join(doubles)}." if doubles else None


def _clock_off(seen: Seen) -> str | None:
    if seen.clock.utcoffset() is None:
        return "The clock gives times without a time zone."
    drift = abs(seen.clock - seen.now)
    told = f"The clock is {drift} away from this machine's, so lifetimes cannot be relied on (N20)."
    return told if drift > _LARGEST_DRIFT else None


# The link and the mail's way.


def _link_in_query(seen: Seen) -> str | None:
    in_query = PLACEHOLDER in urlsplit(seen.parts.link).query
    told = "The link carries the token in its query, which servers, proxies and tools that count visits keep (N19)."
    return told if in_query else None


def _link_in_path(seen: Seen) -> str | None:
    in_path = PLACEHOLDER in urlsplit(seen.parts.link).path
    told = "The link carries the token in its path, which servers and proxies write to their logs (N19)."
    return told if in_path else None


def _link_in_clear(seen: Seen) -> str | None:
    insecure = urlsplit(seen.parts.link).scheme != "https"
    return "The link begins with http: and leads to this machine only." if insecure else None


def _mail_in_clear(seen: Seen) -> str | None:
    mailer = seen.parts.mailer
    smtp = mailer._mailer if isinstance(mailer, AsyncSMTPMailer) else mailer
    if not isinstance(smtp, SMTPMailer) or smtp._security != "plaintext" or is_loopback(smtp._host):
        return None
    return "Mails leave for their server without TLS: who listens on the way has every token (N4)."


# The policy.


def _link_lifetime(seen: Seen) -> str | None:
    lifetime = seen.parts.policy.link_lifetime
    told = f"A link lives {lifetime}; OWASP WSTG says: rarely more than {_LONGEST_LINK}."
    return told if lifetime > _LONGEST_LINK else None


def _code_lifetime(seen: Seen) -> str | None:
    lifetime = seen.parts.policy.code_lifetime
    told = f"A code lives {lifetime}; OWASP ASVS 6.5.5 says: at most {_LONGEST_CODE}."
    return told if lifetime > _LONGEST_CODE else None


def _outstanding_links(seen: Seen) -> str | None:
    outstanding = seen.parts.policy.outstanding
    told = f"The links in an account's last {outstanding} mails are good at once."
    return told if outstanding > _MOST_OUTSTANDING else None


def _account_quotas(seen: Seen) -> str | None:
    _, within = _MOST_MAILS
    mails = min(_calls(quota, within) for quota in seen.parts.policy.account_quotas)
    return _too_many("An account may be sent", mails, "mails", _MOST_MAILS)


def _client_limit(seen: Seen) -> str | None:
    calls = _calls(seen.parts.policy.client_limit, _MOST_BY_CLIENT[1])
    return _too_many("A client may make", calls, "calls", _MOST_BY_CLIENT)


def _identifier_limit(seen: Seen) -> str | None:
    calls = _calls(seen.parts.policy.identifier_limit, _MOST_BY_IDENTIFIER[1])
    return _too_many("One address may be asked for", calls, "times", _MOST_BY_IDENTIFIER)


def _calls(limit: Limit, within: timedelta) -> int:
    """How many a limit lets through in that time at the most."""
    count, window = limit
    return count * -(-within // window)


def _too_many(who: str, number: int, of: str, most: Limit) -> str | None:
    return f"{who} {number} {of} within {most[1]}; {most[0]} are plenty." if number > most[0] else None


def _head_start(seen: Seen) -> str | None:
    head_start = seen.parts.policy.head_start
    if head_start >= _LEAST_HEAD_START:
        return None
    return f"Work begins within {head_start} of the answer, whose time then tells who has an account (N9)."


def _input_length(seen: Seen) -> str | None:
    policy = seen.parts.policy
    longest = max(policy.max_password_length, policy.max_identifier_length)
    told = f"Up to {longest} characters of input are worked on, which strangers can make costly (CVE-2013-1443)."
    return told if longest > _LONGEST_INPUT else None


# The hasher.


def _hash_cost(seen: Seen) -> str | None:
    hasher = seen.parts.hasher
    if not isinstance(hasher, Argon2TokenHasher):
        return None
    memory, passes = hasher._hasher.memory_cost, hasher._hasher.time_cost
    told = f"Argon2id with {memory} KiB and time_cost {passes} is below each of OWASP's rows."
    return None if any(memory >= kib and passes >= least for kib, least in _OWASP_COSTS) else told


def _hash_unkeyed(seen: Seen) -> str | None:
    keys = _keys(seen)
    told = "The hasher has no key: who can write the store makes valid tokens, who reads it can try codes (N16, N17)."
    return None if keys is None or keys else told


def _hash_accepts_unkeyed(seen: Seen) -> str | None:
    keys = _keys(seen)
    told = "accept_unkeyed is on: who can write the store makes valid tokens in spite of the key (N16)."
    return told if keys and keys.takes_unkeyed else None


def _key_not_random(seen: Seen) -> str | None:
    keys = _keys(seen)
    told = f"A key has fewer than {_LEAST_VARIETY} different bytes: it was typed, not drawn at random."
    return told if keys and keys.least_variety < _LEAST_VARIETY else None


def _keys(seen: Seen) -> _KeyRing | None:
    """Those of a hasher of ours; None for another."""
    hasher = seen.parts.hasher
    return hasher._keys if isinstance(hasher, Argon2TokenHasher | KeyedTokenHasher) else None


# The store.


def _network_disk(seen: Seen) -> str | None:
    remote = seen.file_system in _NETWORK_FILE_SYSTEMS
    told = f"The SQLite file is on {seen.file_system}: SQLite's log and locks do not work over a network (N21)."
    return told if remote else None


def _unpurged(seen: Seen) -> str | None:
    number = f"{seen.overdue} or more" if seen.overdue == MANY else seen.overdue
    return f"Records that were to be deleted over a day ago: {number} (N26)." if seen.overdue else None


def sqlite_file(store: object) -> str | None:
    """The path of the SQLite file that a store of ours keeps records in, "" if it is in memory; None for others."""
    if isinstance(store, AsyncSQLiteTokenStore):
        store = store._store
    if isinstance(store, SQLiteTokenStore):
        return store._path
    # Whoever made a store with SQLAlchemy has imported that; others need not have it.
    alchemy: Any = sys.modules.get("resetkit.stores.sqlalchemy")
    if not alchemy or not isinstance(store, alchemy.SQLAlchemyTokenStore | alchemy.AsyncSQLAlchemyTokenStore):
        return None
    alchemist: Any = store
    url = alchemist._engine.url
    if url.get_backend_name() != "sqlite":
        return None
    path = str(url.database or "").removeprefix("file:").partition("?")[0]
    return "" if path == ":memory:" else path


def file_system_of(path: PurePath, mountinfo: str) -> str | None:
    """The type of the file system that holds `path`, absolute and without links, by /proc/self/mountinfo: proc(5)."""
    deepest, found = -1, None
    for line in mountinfo.split("\n"):
        mount, _, source = line.partition(" - ")
        if not source:
            continue
        point = PurePath(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mount.split(" ")[4]))
        if path.is_relative_to(point) and len(point.parts) >= deepest:  # of two at one place the later hides the other
            deepest, found = len(point.parts), source.split(" ")[0]
    return found


# The stamps.


def _stamp_empty(seen: Seen) -> str | None:
    return _of_accounts("The stamp is empty", (first for first, _ in seen.accounts if not first.stamp.strip()))


def _stamp_constant(seen: Seen) -> str | None:
    own = {first.id: first for first, _ in seen.accounts}  # one account may have been asked for by several names
    pairs = combinations(own.values(), 2)
    alike = {one.id: one for pair in pairs if pair[0].stamp == pair[1].stamp and pair[0].stamp.strip() for one in pair}
    return _of_accounts("The stamp is the same", iter(alike.values()))


def _stamp_unstable(seen: Seen) -> str | None:
    return _of_accounts(
        "The stamp differs each time it is read, so no token is ever good",
        (first for first, second in seen.accounts if first.stamp != second.stamp),
    )


def _stamp_no_password(seen: Seen) -> str | None:
    return _of_accounts(
        "The stamp is the id or the address, which no new password changes",
        (first for first, _ in seen.accounts if first.stamp in {first.id, first.email}),
    )


def _of_accounts(told: str, accounts: Iterator[Account]) -> str | None:
    ids = ", ".join(account.id for account in accounts)
    return f"{told} (N8): {ids}." if ids else None


def _kind(part: object) -> str:
    return type(part).__name__


_FRAGMENT: Final = (
    'Put the token behind a "#": https://app.example/reset#{token}. Browsers send that part to no server.'
)
_STAMP: Final = "Let the stamp be the stored, salted hash of the password."

RULES: Final = (
    Rule(
        name="throttle-per-process",
        find=_throttle_per_process,
        do="Several processes: give throttle=LimitsThrottle(storage), over a storage that they share.",
        advice=True,
    ),
    Rule(
        name="inline-dispatch",
        find=_inline_dispatch,
        do="Leave the dispatcher to its default, or use a queue.",
    ),
    Rule(
        name="store-in-memory",
        find=_store_in_memory,
        do="Keep tokens in a file or a database: SQLiteTokenStore, SQLAlchemyTokenStore, RedisTokenStore.",
    ),
    Rule(
        name="mailer-sends-nothing",
        find=_mailer_sends_nothing,
        do="Give a mailer that delivers, such as SMTPMailer.",
    ),
    Rule(
        name="test-double",
        find=_test_double,
        do="Give the application's own, or leave it to its default.",
    ),
    Rule(
        name="clock-off",
        find=_clock_off,
        do="Leave the clock to its default, datetime.now(UTC), and keep the machine's time by NTP.",
    ),
    Rule(name="link-in-query", find=_link_in_query, do=_FRAGMENT),
    Rule(name="link-in-path", find=_link_in_path, do=_FRAGMENT, advice=True),
    Rule(
        name="link-in-clear",
        find=_link_in_clear,
        do="Give the https address that your users open.",
    ),
    Rule(
        name="mail-in-clear",
        find=_mail_in_clear,
        do='Give SMTPMailer security="starttls" or "tls".',
    ),
    Rule(
        name="link-lifetime",
        find=_link_lifetime,
        do="Lower link_lifetime; for a link that an operator hands over there is issue_token.",
    ),
    Rule(
        name="code-lifetime",
        find=_code_lifetime,
        do="Lower code_lifetime.",
    ),
    Rule(
        name="outstanding-links",
        find=_outstanding_links,
        do="Set outstanding to 1, or to 2 where strangers ask for your users too often.",
    ),
    Rule(
        name="account-quotas",
        find=_account_quotas,
        do="Lower account_quotas, or strangers fill a mailbox; the default is 3 in 15 minutes and 20 a day.",
    ),
    Rule(
        name="client-limit",
        find=_client_limit,
        do="Lower client_limit; the default is 60 in 15 minutes.",
    ),
    Rule(
        name="identifier-limit",
        find=_identifier_limit,
        do="Lower identifier_limit; the default is 5 in 15 minutes.",
    ),
    Rule(
        name="head-start",
        find=_head_start,
        do="Leave head_start at its default, one second.",
    ),
    Rule(
        name="input-length",
        find=_input_length,
        do="Lower max_password_length and max_identifier_length; the defaults are 1024 and 320.",
    ),
    Rule(
        name="hash-cost",
        find=_hash_cost,
        do="Leave Argon2TokenHasher's costs at their defaults; with a key, KeyedTokenHasher is cheaper still.",
    ),
    Rule(
        name="hash-unkeyed",
        find=_hash_unkeyed,
        do="Others can read or write the store: give hasher=KeyedTokenHasher([key]) or Argon2TokenHasher(keys=[key]), "
        "the key from outside the database.",
        advice=True,
    ),
    Rule(
        name="hash-accepts-unkeyed",
        find=_hash_accepts_unkeyed,
        do="Take accept_unkeyed away a week after keys were introduced.",
    ),
    Rule(
        name="key-not-random",
        find=_key_not_random,
        do="Draw a key with secrets.token_bytes(32), put it in front, and take this one away a week later.",
    ),
    Rule(
        name="network-disk",
        find=_network_disk,
        do="Put the file on a local disk; for several machines take SQLAlchemyTokenStore or RedisTokenStore.",
    ),
    Rule(
        name="unpurged",
        find=_unpurged,
        do="Call purge_tokens() daily, or resetkit purge from cron.",
    ),
    Rule(name="stamp-empty", find=_stamp_empty, do=_STAMP),
    Rule(name="stamp-constant", find=_stamp_constant, do=_STAMP),
    Rule(name="stamp-unstable", find=_stamp_unstable, do=_STAMP),
    Rule(name="stamp-no-password", find=_stamp_no_password, do=_STAMP),
)
