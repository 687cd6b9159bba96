"""Records in Redis (6.2 or later) or Valkey: one script for each operation, keys that expire by themselves.

A record is a hash under its selector. An account has a sorted set of its records' selectors, in the order of `add`. The
server runs one script at a time, so the operations of an account need nothing else to order them.

All keys have one prefix with a hash tag. On a cluster they share a slot by it: a script reaches records that it learns
of from the account's set, which it can within a slot only.
"""

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, Protocol

from resetkit._checks import check_text
from resetkit._confidential import forget_locals
from resetkit.errors import ConfigurationError, DuplicateSelectorError
from resetkit.stores._rows import COLUMNS, record_of, seconds, values_of
from resetkit.values import REPLACED_FIELDS, Quota, TokenRecord

_HASH_TAG: Final = re.compile(r"[^{]*\{[^}]+\}")  # found as a cluster does
_NUMBERS: Final = frozenset({"created_at", "expires_at", "code_expires_at", "keep_until", "guesses"})
_KEYS: Final = tuple((name, name.encode()) for name in COLUMNS)

_COMMON: Final = """
local prefix = ARGV[1]
local function token(selector) return prefix .. 'token:' .. selector end
local function account(id) return prefix .. 'account:' .. id end
local function is_outstanding(state, expires_at, now) return state == 'outstanding' and tonumber(expires_at) > now end

-- Ends every outstanding record of the account but one, and every claim on them. Returns how many were outstanding.
local function revoke(id, spared, now)
  local count = 0
  for _, selector in ipairs(redis.call('ZRANGE', account(id), 0, -1)) do
    local key = token(selector)
    local at = redis.call('HMGET', key, 'state', 'expires_at')
    if selector ~= spared and at[1] then
      if is_outstanding(at[1], at[2], now) then
        redis.call('HSET', key, 'state', 'revoked')
        count = count + 1
      end
      redis.call('HDEL', key, 'claim_id')
    end
  end
  return count
end
"""

_ADD: Final = (
    _COMMON
    + f"local replaced = {{{', '.join(map(repr, REPLACED_FIELDS))}}}"
    + """
local new, quotas = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local keep, now = tonumber(ARGV[4]), tonumber(new.created_at)
local function keep_until_at_least(key)
  local time, left = redis.call('TIME'), redis.call('PTTL', key)
  local ends = time[1] * 1000 + time[2] / 1000 + left
  if left < 0 or ends < new.keep_until * 1000 then redis.call('EXPIREAT', key, new.keep_until) end
end

local existing = redis.call('HMGET', KEYS[1], 'account_id', 'state', 'expires_at')
if existing[1] then
  if existing[1] ~= new.account_id then return -1 end
  if not is_outstanding(existing[2], existing[3], now) then return 0 end
  for _, name in ipairs(replaced) do
    if new[name] then redis.call('HSET', KEYS[1], name, new[name]) else redis.call('HDEL', KEYS[1], name) end
  end
  redis.call('EXPIREAT', KEYS[1], new.keep_until)
  if not redis.call('ZSCORE', KEYS[2], new.selector) then redis.call('ZADD', KEYS[2], 0, new.selector) end  -- evicted
  keep_until_at_least(KEYS[2])
  return 1
end

for _, quota in ipairs(quotas) do if quota[1] <= 0 then return 0 end end
local last, older, all, gone = 0, {}, {}, {}
local members = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
for place = 1, #members, 2 do
  local selector = members[place]
  local at = redis.call('HMGET', token(selector), 'kind', 'state', 'expires_at', 'created_at')
  last = tonumber(members[place + 1])
  if not at[1] then
    gone[#gone + 1] = selector
  else
    all[#all + 1] = selector
    if at[1] == new.kind then
      for _, quota in ipairs(quotas) do
        if tonumber(at[4]) >= quota[2] then quota[1] = quota[1] - 1 end
        if quota[1] <= 0 then return 0 end
      end
      if is_outstanding(at[2], at[3], now) then older[#older + 1] = selector end
    end
  end
end
for _, selector in ipairs(gone) do redis.call('ZREM', KEYS[2], selector) end
for place = 1, #older - keep + 1 do redis.call('HSET', token(older[place]), 'state', 'superseded') end
for _, selector in ipairs(all) do redis.call('HDEL', token(selector), 'claim_id') end
local fields = {}
for name, value in pairs(new) do
  fields[#fields + 1] = name
  fields[#fields + 1] = value
end
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('EXPIREAT', KEYS[1], new.keep_until)
redis.call('ZADD', KEYS[2], last + 1, new.selector)
keep_until_at_least(KEYS[2])
return 1
"""
)

_ATTEMPT: Final = """
local guesses = redis.call('HGET', KEYS[1], 'guesses')
if not guesses or tonumber(guesses) >= tonumber(ARGV[1]) then return 0 end
redis.call('HINCRBY', KEYS[1], 'guesses', 1)
return 1
"""

_CLAIM: Final = (
    _COMMON
    + """
local selector, claim_id, now = ARGV[2], ARGV[3], tonumber(ARGV[4])
local at = redis.call('HMGET', KEYS[1], 'account_id', 'state', 'expires_at', 'claim_id')
if not at[1] then return 0 end
if not is_outstanding(at[2], at[3], now) then return at[4] == claim_id and 1 or 0 end
revoke(at[1], selector, now)
redis.call('HSET', KEYS[1], 'state', 'used', 'claim_id', claim_id)
return 1
"""
)

_RELEASE: Final = """
local at = redis.call('HMGET', KEYS[1], 'claim_id', 'guesses')
if at[1] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'state', 'outstanding', 'guesses', math.max(0, at[2] - ARGV[2]))
redis.call('HDEL', KEYS[1], 'claim_id')
return 1
"""

_REVOKE: Final = _COMMON + "return revoke(ARGV[2], nil, tonumber(ARGV[3]))"

_SCRIPTS: Final = {"add": _ADD, "attempt": _ATTEMPT, "claim": _CLAIM, "release": _RELEASE, "revoke": _REVOKE}
_WARNING: Final = (
    "this server evicts keys when its memory is full (maxmemory-policy {policy}): a token may be gone before it "
    "expires, and so may the record of a mail that counts against a quota. Use a server with noeviction"
)


class Client(Protocol):
    """What a store calls of a client: redis-py's ``Redis`` or ``RedisCluster``, or valkey-py's."""

    def register_script(self, script: str) -> Any:
        """A function of ``keys`` and ``args`` that runs the script."""
        ...

    def hgetall(self, name: str) -> Any:
        """The fields and values of a hash."""
        ...

    def info(self, section: str) -> Any:
        """What the server says of itself."""
        ...


class RedisTokenStore:
    """Keeps records in the server that `client` talks to, which stays the caller's.

    Every key begins with `prefix`, which must hold a hash tag, such as ``{resetkit}``. The client may retry:
    operations can be repeated. Warns, at the first `add`, of a server that may evict tokens. Errors are the client's.
    Raises ConfigurationError for a prefix without a hash tag.
    """

    def __init__(self, client: Client, *, prefix: str = "{resetkit}:") -> None:
        self._calls = _Calls(prefix)
        self._client = client
        self._scripts = {name: client.register_script(script) for name, script in _SCRIPTS.items()}
        self._is_checked = False

    def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        """See `TokenStore.add`."""
        if not self._is_checked:
            self._is_checked = True
            memory: Mapping[str, Any] = {}
            with suppress(Exception):  # a user that may not ask INFO; what else is wrong comes out below
                memory = self._client.info("memory")
            _warn_of_eviction(memory)
        return _is_added(self._run("add", self._calls.add(record, quotas, keep)))

    def get(self, selector: str, /) -> TokenRecord | None:
        """See `TokenStore.get`."""
        with forget_locals():
            return _record(self._client.hgetall(self._calls.token(selector)))

    def attempt(self, selector: str, /, *, limit: int) -> bool:
        """See `TokenStore.attempt`."""
        return self._run("attempt", self._calls.attempt(selector, limit)) == 1

    def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        """See `TokenStore.claim`."""
        return self._run("claim", self._calls.claim(selector, claim_id, now)) == 1

    def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        """See `TokenStore.release`."""
        return self._run("release", self._calls.release(selector, claim_id, guess=guess)) == 1

    def revoke(self, account_id: str, /, *, now: datetime) -> int:
        """See `TokenStore.revoke`."""
        return int(self._run("revoke", self._calls.revoke(account_id, now)))

    def purge(self, *, before: datetime, limit: int) -> int:  # noqa: ARG002  # keys expire by themselves
        """See `TokenStore.purge`: 0."""
        return 0

    def count_due(self, *, before: datetime, limit: int) -> int:  # noqa: ARG002  # as above
        """How many records `purge` would delete: 0."""
        return 0

    def _run(self, script: str, call: Mapping[str, Any]) -> int:
        with forget_locals():
            answer: int = self._scripts[script](**call)
            return answer


class AsyncRedisTokenStore:
    """`RedisTokenStore`, async: `client` is one of ``redis.asyncio``."""

    def __init__(self, client: Client, *, prefix: str = "{resetkit}:") -> None:
        self._calls = _Calls(prefix)
        self._client = client
        self._scripts = {name: client.register_script(script) for name, script in _SCRIPTS.items()}
        self._is_checked = False

    async def add(self, record: TokenRecord, /, *, quotas: Sequence[Quota], keep: int) -> bool:
        """See `TokenStore.add`."""
        if not self._is_checked:
            self._is_checked = True
            memory: Mapping[str, Any] = {}
            with suppress(Exception):  # as above
                memory = await self._client.info("memory")
            _warn_of_eviction(memory)
        return _is_added(await self._run("add", self._calls.add(record, quotas, keep)))

    async def get(self, selector: str, /) -> TokenRecord | None:
        """See `TokenStore.get`."""
        with forget_locals():
            return _record(await self._client.hgetall(self._calls.token(selector)))

    async def attempt(self, selector: str, /, *, limit: int) -> bool:
        """See `TokenStore.attempt`."""
        return await self._run("attempt", self._calls.attempt(selector, limit)) == 1

    async def claim(self, selector: str, /, *, claim_id: str, now: datetime) -> bool:
        """See `TokenStore.claim`."""
        return await self._run("claim", self._calls.claim(selector, claim_id, now)) == 1

    async def release(self, selector: str, /, *, claim_id: str, guess: bool) -> bool:
        """See `TokenStore.release`."""
        return await self._run("release", self._calls.release(selector, claim_id, guess=guess)) == 1

    async def revoke(self, account_id: str, /, *, now: datetime) -> int:
        """See `TokenStore.revoke`."""
        return int(await self._run("revoke", self._calls.revoke(account_id, now)))

    async def purge(self, *, before: datetime, limit: int) -> int:  # noqa: ARG002  # keys expire by themselves
        """See `TokenStore.purge`: 0."""
        return 0

    async def count_due(self, *, before: datetime, limit: int) -> int:  # noqa: ARG002  # as above
        """How many records `purge` would delete: 0."""
        return 0

    async def _run(self, script: str, call: Mapping[str, Any]) -> int:
        with forget_locals():
            answer: int = await self._scripts[script](**call)
            return answer


class _Calls:
    """The keys and arguments of each script."""

    def __init__(self, prefix: str) -> None:
        check_text("prefix", prefix)
        if not _HASH_TAG.match(prefix):
            raise ConfigurationError("prefix must hold a hash tag, such as {resetkit}: its keys belong together")
        self._prefix = prefix

    def token(self, selector: str) -> str:
        return f"{self._prefix}token:{selector}"

    def account(self, account_id: str) -> str:
        return f"{self._prefix}account:{account_id}"

    def add(self, record: TokenRecord, quotas: Sequence[Quota], keep: int) -> Mapping[str, Any]:
        fields = {name: str(value) for name, value in values_of(record).items() if value is not None}
        counted = [(quota.count, seconds(quota.since)) for quota in quotas]
        return {
            "keys": [self.token(record.selector), self.account(record.account_id)],
            "args": [self._prefix, json.dumps(fields), json.dumps(counted), keep],
        }

    def attempt(self, selector: str, limit: int) -> Mapping[str, Any]:
        return {"keys": [self.token(selector)], "args": [limit]}

    def claim(self, selector: str, claim_id: str, now: datetime) -> Mapping[str, Any]:
        return {"keys": [self.token(selector)], "args": [self._prefix, selector, claim_id, seconds(now)]}

    def release(self, selector: str, claim_id: str, *, guess: bool) -> Mapping[str, Any]:
        return {"keys": [self.token(selector)], "args": [claim_id, int(guess)]}

    def revoke(self, account_id: str, now: datetime) -> Mapping[str, Any]:
        return {"keys": [self.account(account_id)], "args": [self._prefix, account_id, seconds(now)]}


def _record(found: Mapping[str | bytes, str | bytes]) -> TokenRecord | None:
    """`found` is what HGETALL gave: bytes, or text where the client decodes."""
    if not found:
        return None
    return record_of(_value(name, found.get(key, found.get(name))) for name, key in _KEYS)


def _value(name: str, value: str | bytes | None) -> str | int | None:
    text = value.decode() if isinstance(value, bytes) else value
    return int(text) if text and name in _NUMBERS else text


def _is_added(answer: int) -> bool:
    if answer < 0:
        raise DuplicateSelectorError
    return answer == 1


def _warn_of_eviction(memory: Mapping[str, Any]) -> None:
    policy = memory.get("maxmemory_policy", "noeviction")
    if memory.get("maxmemory") and policy != "noeviction":
        warnings.warn(_WARNING.format(policy=policy), RuntimeWarning, stacklevel=3)
