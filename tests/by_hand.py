"""The same work as a careful author would write it by hand, for what resetkit takes more.

`TokensByHand` is the least that can be issued and looked at, in memory: the same digests, record and answer, in one
function for each step. What is missing: checks of what comes in, hidden secrets, frozen values, events, ports and
their second colour.

The others are the work of a store, with a driver and few statements.

What `measure_scale.py` compares the stores with. The promises are those of `TokenStore`: a row of its own orders the
operations of an account, quotas are counted and siblings end in the same transaction. What is missing: the second
delivery of a job, tries after a deadlock, and records, for a row comes back as the driver gives it. A statement that
stands alone has no transaction around it.
"""

import hashlib
import heapq
import hmac
import secrets
import sqlite3
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from harness import KEY, LINK
from resetkit import AccountDirectory
from resetkit.stores._rows import COLUMNS
from site_records import Row

NAMES: Final = ", ".join(COLUMNS)
PLACES: Final = ", ".join(["%s"] * len(COLUMNS))
SELECTOR, ACCOUNT, KIND, CREATED_AT, KEEP_UNTIL = (
    COLUMNS.index(name) for name in ("selector", "account_id", "kind", "created_at", "keep_until")
)

Quotas = Sequence[tuple[int, int]]
"""Counts, and the second since which they count: two of them or, but for MariaDB, none."""


class RecordByHand:
    __slots__ = COLUMNS

    def __init__(
        self,
        selector: str,
        account_id: str,
        link_hash: str,
        stamp_digest: str,
        created_at: datetime,
        expires_at: datetime,
        keep_until: datetime,
    ) -> None:
        self.selector = selector
        self.account_id = account_id
        self.kind = "operator"
        self.link_hash = link_hash
        self.code_hash = None
        self.stamp_digest = stamp_digest
        self.created_at = created_at
        self.expires_at = expires_at
        self.code_expires_at = None
        self.keep_until = keep_until
        self.guesses = 0
        self.state = "outstanding"
        self.claim_id = None


class TokensByHand:
    """Issues and looks at tokens over the same accounts; the answers are tuples."""

    def __init__(self, accounts: AccountDirectory) -> None:
        self._accounts = accounts
        self._records: dict[str, Any] = {}
        self._selectors: dict[str, list[str]] = {}
        self._by_time: list[tuple[datetime, str]] = []
        self._lock = threading.Lock()
        self._keyed = hmac.new(KEY, digestmod=hashlib.sha256)

    def issue(self, account_id: str) -> tuple[str, str, datetime]:
        account = self._accounts.get(account_id)
        if account is None or not account.can_reset:
            raise LookupError
        selector, secret, salt = draw()
        stamp = digest_stamp(account_id, selector, account.email, account.stamp)
        now = read_clock()
        expires_at = now + timedelta(days=1)
        keep_until = expires_at + timedelta(days=7)
        mac = self.mac(salt, account_id, selector, stamp, expires_at, secret).hex()
        link_hash = f"hmac-sha256$key-id${salt.hex()}${mac}"
        self.keep(RecordByHand(selector, account_id, link_hash, stamp, now, expires_at, keep_until))
        return answer(selector + secret, expires_at)

    def check(self, token: str) -> tuple[str, datetime]:
        selector, secret = token[:32], token[32:]
        record = self.find(selector)
        if not self.verify(record, secret) or record.state != "outstanding" or read_clock() >= record.expires_at:
            raise LookupError
        account = self._accounts.get(record.account_id)
        if account is None or not account.can_reset:
            raise LookupError
        stamp = digest_stamp(record.account_id, selector, account.email, account.stamp)
        if not hmac.compare_digest(stamp, record.stamp_digest):
            raise LookupError
        return record.account_id, record.expires_at

    def keep(self, record: Any) -> None:
        with self._lock:
            self._records[record.selector] = record
            self._selectors.setdefault(record.account_id, []).append(record.selector)
            heapq.heappush(self._by_time, (record.keep_until, record.selector))

    def find(self, selector: str) -> Any:
        with self._lock:
            return self._records[selector]

    def verify(self, record: Any, secret: str) -> bool:
        _, _, salt, mac = record.link_hash.split("$")
        given = record.account_id, record.selector, record.stamp_digest, record.expires_at, secret
        return hmac.compare_digest(self.mac(bytes.fromhex(salt), *given), bytes.fromhex(mac))

    def mac(self, salt: bytes, account_id: str, selector: str, stamp: str, expires_at: datetime, secret: str) -> bytes:
        expiry = int(expires_at.timestamp())
        bound = f"resetkit-1\0secret\0\0operator\0link\0{selector}\0{account_id}\0{stamp}\0{expiry}\0{secret}"
        keyed = self._keyed.copy()
        keyed.update(salt + hashlib.sha256(bound.encode()).digest())
        return keyed.digest()


def draw() -> tuple[str, str, bytes]:
    drawn = secrets.token_bytes(64)
    return drawn[:16].hex(), drawn[16:48].hex(), drawn[48:]


def read_clock() -> datetime:
    return datetime.fromtimestamp(int(time.time()), UTC)


def answer(token: str, expires_at: datetime) -> tuple[str, str, datetime]:
    return token, LINK.replace("{token}", token), expires_at


def digest_stamp(account_id: str, selector: str, email: str, stamp: str) -> str:
    kept = f"resetkit-1\0stamp\0\0{account_id}\0{selector}\0{email}\0{stamp}"
    return hashlib.sha256(kept.encode("utf-8", "surrogatepass")).hexdigest()


class ByHand(Protocol):
    """The operations of a store; times in seconds, a record as its row."""

    def add(self, row: Row, quotas: Quotas) -> bool: ...
    def get(self, selector: str) -> Any: ...
    def attempt(self, selector: str, limit: int) -> bool: ...
    def claim(self, selector: str, claim_id: str, now: int) -> bool: ...
    def release(self, selector: str, claim_id: str) -> bool: ...
    def revoke(self, account_id: str, now: int) -> int: ...
    def purge(self, before: int, limit: int) -> int: ...


# PostgreSQL and MariaDB, whose drivers take the same places for values.

INSERT: Final = f"INSERT INTO resetkit_tokens ({NAMES}) VALUES ({PLACES})"
LOCK: Final = "ON CONFLICT (account_id) DO UPDATE SET account_id = excluded.account_id"
GET: Final = f"SELECT {NAMES} FROM resetkit_tokens WHERE selector = %s"
COUNT: Final = """SELECT count(CASE WHEN created_at >= %s THEN 1 END), count(CASE WHEN created_at >= %s THEN 1 END)
    FROM resetkit_tokens WHERE account_id = %s AND kind = %s AND created_at >= %s"""
SUPERSEDE: Final = """UPDATE resetkit_tokens SET claim_id = NULL,
    state = CASE WHEN state = 'outstanding' AND kind = %s THEN 'superseded' ELSE state END
    WHERE account_id = %s AND (state = 'outstanding' AND expires_at > %s OR claim_id IS NOT NULL)"""
ATTEMPT: Final = "UPDATE resetkit_tokens SET guesses = guesses + 1 WHERE selector = %s AND guesses < %s"
FIND: Final = "SELECT account_id FROM resetkit_tokens WHERE selector = %s"
USE: Final = """UPDATE resetkit_tokens SET state = 'used', claim_id = %s
    WHERE selector = %s AND state = 'outstanding' AND expires_at > %s"""
END_OTHERS: Final = """UPDATE resetkit_tokens SET claim_id = NULL,
    state = CASE WHEN state = 'outstanding' THEN 'revoked' ELSE state END
    WHERE account_id = %s AND selector <> %s AND (state = 'outstanding' AND expires_at > %s OR claim_id IS NOT NULL)"""
GIVE_BACK: Final = (
    "UPDATE resetkit_tokens SET state = 'outstanding', claim_id = NULL WHERE selector = %s AND claim_id = %s"
)
REVOKE: Final = """UPDATE resetkit_tokens SET state = 'revoked'
    WHERE account_id = %s AND state = 'outstanding' AND expires_at > %s"""
FORGET: Final = "UPDATE resetkit_tokens SET claim_id = NULL WHERE account_id = %s AND claim_id IS NOT NULL"


class PostgresByHand:
    def __init__(self, connection: Any) -> None:
        self.connection = connection  # in autocommit

    def _lock(self, account_id: Any) -> None:
        self.connection.execute(f"INSERT INTO resetkit_accounts VALUES (%s) {LOCK}", (account_id,))

    def _lock_owner(self, selector: str) -> Any:
        found = self.connection.execute(
            f"INSERT INTO resetkit_accounts {FIND} {LOCK} RETURNING account_id", (selector,)
        )
        return found.fetchone()

    def add(self, row: Row, quotas: Quotas) -> bool:
        account_id, kind = row[ACCOUNT], row[KIND]
        with self.connection.transaction():
            self._lock(account_id)
            if quotas:
                since = [each for _, each in quotas]
                counted = self.connection.execute(COUNT, (*since, account_id, kind, min(since))).fetchone() or ()
                if any(count >= most for count, (most, _) in zip(counted, quotas, strict=True)):
                    return False
            self.connection.execute(SUPERSEDE, (kind, account_id, row[CREATED_AT]))
            self.connection.execute(INSERT, row)
            return True

    def get(self, selector: str) -> Any:
        return self.connection.execute(GET, (selector,)).fetchone()

    def attempt(self, selector: str, limit: int) -> bool:
        return bool(self.connection.execute(ATTEMPT, (selector, limit)).rowcount == 1)

    def claim(self, selector: str, claim_id: str, now: int) -> bool:
        with self.connection.transaction():
            found = self._lock_owner(selector)
            if found is None:
                return False
            if self.connection.execute(USE, (claim_id, selector, now)).rowcount != 1:
                return False
            self.connection.execute(END_OTHERS, (found[0], selector, now))
            return True

    def release(self, selector: str, claim_id: str) -> bool:
        with self.connection.transaction():
            found = self._lock_owner(selector)
            if found is None:
                return False
            return bool(self.connection.execute(GIVE_BACK, (selector, claim_id)).rowcount == 1)

    def revoke(self, account_id: str, now: int) -> int:
        with self.connection.transaction():
            self._lock(account_id)
            count = int(self.connection.execute(REVOKE, (account_id, now)).rowcount)
            self.connection.execute(FORGET, (account_id,))
            return count

    def purge(self, before: int, limit: int) -> int:
        with self.connection.transaction():
            gone = self.connection.execute(
                """DELETE FROM resetkit_tokens WHERE position IN (
                    SELECT position FROM resetkit_tokens WHERE keep_until < %s ORDER BY keep_until LIMIT %s)
                RETURNING account_id""",
                (before, limit),
            ).fetchall()
        self.connection.execute(
            """DELETE FROM resetkit_accounts a WHERE account_id = ANY(%s)
                AND NOT EXISTS (SELECT 1 FROM resetkit_tokens t WHERE t.account_id = a.account_id)""",
            ([account_id for (account_id,) in gone],),
        )
        return len(gone)


class MariaDBByHand:
    def __init__(self, connection: Any) -> None:
        self.connection = connection  # in autocommit
        self.cursor = connection.cursor()

    def _lock(self, account_id: Any) -> None:
        self.cursor.execute(
            "INSERT INTO resetkit_accounts VALUES (%s) ON DUPLICATE KEY UPDATE account_id = VALUES(account_id)",
            (account_id,),
        )

    def add(self, row: Row, quotas: Quotas) -> bool:
        account_id, kind = row[ACCOUNT], row[KIND]
        self.connection.begin()
        self._lock(account_id)
        since = [each for _, each in quotas]
        self.cursor.execute(COUNT, (*since, account_id, kind, min(since)))
        counted = self.cursor.fetchone()
        if any(count >= most for count, (most, _) in zip(counted, quotas, strict=True)):
            self.connection.rollback()
            return False
        self.cursor.execute(SUPERSEDE, (kind, account_id, row[CREATED_AT]))
        self.cursor.execute(INSERT, row)
        self.connection.commit()
        return True

    def get(self, selector: str) -> Any:
        self.cursor.execute(GET, (selector,))
        return self.cursor.fetchone()

    def attempt(self, selector: str, limit: int) -> bool:
        return bool(self.cursor.execute(ATTEMPT, (selector, limit)) == 1)

    def claim(self, selector: str, claim_id: str, now: int) -> bool:
        self.cursor.execute(FIND, (selector,))
        found = self.cursor.fetchone()
        if found is None:
            return False
        self.connection.begin()
        self._lock(found[0])
        won = self.cursor.execute(USE, (claim_id, selector, now)) == 1
        if won:
            self.cursor.execute(END_OTHERS, (found[0], selector, now))
        self.connection.commit()
        return bool(won)

    def release(self, selector: str, claim_id: str) -> bool:
        self.cursor.execute(FIND, (selector,))
        found = self.cursor.fetchone()
        if found is None:
            return False
        self.connection.begin()
        self._lock(found[0])
        count = self.cursor.execute(GIVE_BACK, (selector, claim_id))
        self.connection.commit()
        return bool(count == 1)

    def revoke(self, account_id: str, now: int) -> int:
        self.connection.begin()
        self._lock(account_id)
        count = self.cursor.execute(REVOKE, (account_id, now))
        self.cursor.execute(FORGET, (account_id,))
        self.connection.commit()
        return int(count)

    def purge(self, before: int, limit: int) -> int:
        self.cursor.execute(
            "DELETE FROM resetkit_tokens WHERE keep_until < %s ORDER BY keep_until LIMIT %s RETURNING account_id",
            (before, limit),
        )
        gone = self.cursor.fetchall()
        if gone:
            self.cursor.execute(
                """DELETE FROM resetkit_accounts WHERE account_id IN %s AND NOT EXISTS (
                    SELECT 1 FROM resetkit_tokens t WHERE t.account_id = resetkit_accounts.account_id)""",
                ([account_id for (account_id,) in gone],),
            )
        return len(gone)


class SQLiteByHand:
    """One writer at a time has the file, so no row is needed to order those of an account."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection  # in autocommit

    def _run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self.connection.execute(statement.replace("%s", "?"), values)

    def add(self, row: Row, quotas: Quotas) -> bool:
        account_id, kind = row[ACCOUNT], row[KIND]
        self._run("BEGIN IMMEDIATE")
        if quotas:
            since = [each for _, each in quotas]
            counted = self._run(COUNT, (*since, account_id, kind, min(since))).fetchone()
            if any(count >= most for count, (most, _) in zip(counted, quotas, strict=True)):
                self._run("ROLLBACK")
                return False
        self._run(SUPERSEDE, (kind, account_id, row[CREATED_AT]))
        self._run(INSERT, row)
        self._run("COMMIT")
        return True

    def get(self, selector: str) -> Any:
        return self._run(GET, (selector,)).fetchone()

    def attempt(self, selector: str, limit: int) -> bool:
        return self._run(ATTEMPT, (selector, limit)).rowcount == 1

    def claim(self, selector: str, claim_id: str, now: int) -> bool:
        self._run("BEGIN IMMEDIATE")
        won = self._run(USE, (claim_id, selector, now)).rowcount == 1
        if won:
            (account_id,) = self._run(FIND, (selector,)).fetchone()
            self._run(END_OTHERS, (account_id, selector, now))
        self._run("COMMIT")
        return won

    def release(self, selector: str, claim_id: str) -> bool:
        return self._run(GIVE_BACK, (selector, claim_id)).rowcount == 1

    def revoke(self, account_id: str, now: int) -> int:
        self._run("BEGIN IMMEDIATE")
        count = self._run(REVOKE, (account_id, now)).rowcount
        self._run(FORGET, (account_id,))
        self._run("COMMIT")
        return count

    def purge(self, before: int, limit: int) -> int:
        return self._run(
            """DELETE FROM resetkit_tokens WHERE position IN (
                SELECT position FROM resetkit_tokens WHERE keep_until < %s ORDER BY keep_until LIMIT %s)""",
            (before, limit),
        ).rowcount


# Valkey. KEYS[1] is the record, KEYS[2] the sorted set of its account.

ADD_SCRIPT: Final = """
local now, within, last, ended, claimed = tonumber(ARGV[2]), {0, 0}, 0, {}, {}
local older = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
for place = 1, #older, 2 do
  local key = ARGV[1] .. older[place]
  local at = redis.call('HMGET', key, 'kind', 'created_at', 'state', 'expires_at', 'claim_id')
  last = tonumber(older[place + 1])
  if at[1] == 'mail' then
    for each = 1, 2 do
      if tonumber(at[2]) >= tonumber(ARGV[2 * each + 2]) then within[each] = within[each] + 1 end
      if within[each] >= tonumber(ARGV[2 * each + 1]) then return 0 end
    end
    if at[3] == 'outstanding' and tonumber(at[4]) > now then ended[#ended + 1] = key end
  end
  if at[5] then claimed[#claimed + 1] = key end
end
for _, key in ipairs(ended) do redis.call('HSET', key, 'state', 'superseded') end
for _, key in ipairs(claimed) do redis.call('HDEL', key, 'claim_id') end
redis.call('HSET', KEYS[1], unpack(ARGV, 9))
redis.call('EXPIREAT', KEYS[1], ARGV[7])
redis.call('ZADD', KEYS[2], last + 1, ARGV[8])
redis.call('EXPIREAT', KEYS[2], ARGV[7])
return 1
"""
ATTEMPT_SCRIPT: Final = """
local guesses = redis.call('HGET', KEYS[1], 'guesses')
if not guesses or tonumber(guesses) >= tonumber(ARGV[1]) then return 0 end
return redis.call('HINCRBY', KEYS[1], 'guesses', 1) and 1
"""
END_SCRIPT: Final = """
local now, count = tonumber(ARGV[2]), 0
local function is_live(at) return at[1] == 'outstanding' and tonumber(at[2]) > now end
local set = KEYS[2]
if ARGV[3] ~= '' then
  local at = redis.call('HMGET', KEYS[1], 'state', 'expires_at', 'account_id')
  if not is_live(at) then return 0 end
  set = ARGV[4] .. at[3]
end
for _, selector in ipairs(redis.call('ZRANGE', set, 0, -1)) do
  local key = ARGV[1] .. selector
  local at = redis.call('HMGET', key, 'state', 'expires_at', 'claim_id')
  if is_live(at) then
    redis.call('HSET', key, 'state', 'revoked')
    count = count + 1
  elseif at[3] then
    redis.call('HDEL', key, 'claim_id')
  end
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'state', 'used', 'claim_id', ARGV[3])
  return 1
end
return count
"""
RELEASE_SCRIPT: Final = """
if redis.call('HGET', KEYS[1], 'claim_id') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'state', 'outstanding')
return redis.call('HDEL', KEYS[1], 'claim_id')
"""
TOKEN, OF_ACCOUNT = "{resetkit}:token:", "{resetkit}:account:"


class ValkeyByHand:
    def __init__(self, client: Any) -> None:
        self.client = client
        scripts = (ADD_SCRIPT, ATTEMPT_SCRIPT, END_SCRIPT, RELEASE_SCRIPT)
        self.scripts = [client.register_script(each) for each in scripts]

    def add(self, row: Row, quotas: Quotas) -> bool:
        fields = [text for name, value in zip(COLUMNS, row, strict=True) if value is not None for text in (name, value)]
        (first, first_since), (second, second_since) = quotas or ((2**31, 0), (2**31, 0))
        answer = self.scripts[0](
            keys=[f"{TOKEN}{row[SELECTOR]}", f"{OF_ACCOUNT}{row[ACCOUNT]}"],
            args=[
                *(TOKEN, row[CREATED_AT], first, first_since, second, second_since),
                *(row[KEEP_UNTIL], row[SELECTOR], *fields),
            ],
        )
        return bool(answer)

    def get(self, selector: str) -> Any:
        return self.client.hgetall(f"{TOKEN}{selector}")

    def attempt(self, selector: str, limit: int) -> bool:
        return bool(self.scripts[1](keys=[f"{TOKEN}{selector}"], args=[limit]))

    def claim(self, selector: str, claim_id: str, now: int) -> bool:
        return bool(self.scripts[2](keys=[f"{TOKEN}{selector}"], args=[TOKEN, now, claim_id, OF_ACCOUNT]))

    def release(self, selector: str, claim_id: str) -> bool:
        return bool(self.scripts[3](keys=[f"{TOKEN}{selector}"], args=[claim_id]))

    def revoke(self, account_id: str, now: int) -> int:
        key = f"{OF_ACCOUNT}{account_id}"
        return int(self.scripts[2](keys=[key, key], args=[TOKEN, now, ""]))

    def purge(self, before: int, limit: int) -> int:
        return 0
