"""How a token's secret is kept: salted Argon2id by default, or a salted keyed hash.

A stored hash is ASCII text that says by itself how to verify it, and names its key:

    $argon2id$v=19$m=...,t=...,p=...$SALT$HASH          Argon2id, as argon2-cffi writes it
    hmac-sha256$KEY-ID$SALT$MAC                         HMAC-SHA-256 over salt and secret
    hmac-sha256$KEY-ID$argon2id$v=19$...                Argon2id over HMAC-SHA-256 of the secret

Both hashers verify all three as far as they have the key, each at the cost of one hash, so a site changes from
one to the other without ending outstanding tokens. But a hash without a key is one that anybody can make, who can
write the store: a hasher with keys takes it only if told to, for the days of such a change.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from resetkit._checks import check_type, check_whole
from resetkit._confidential import Confidential, SecretBytes
from resetkit.errors import ConfigurationError

MIN_KEY_BYTES: Final = 32

# OWASP Password Storage Cheat Sheet, Argon2id: 19 MiB, two passes, one lane.
OWASP_TIME_COST: Final = 2
OWASP_MEMORY_KIB: Final = 19456
OWASP_PARALLELISM: Final = 1

# What a stored hash may ask of a verify: who can write the store must not be able to exhaust the machine. The
# work, passes times memory, takes about a second of one core at most; OWASP's rows and RFC 9106's second are below.
MAX_MEMORY_KIB: Final = 2**18
MAX_WORK_KIB: Final = 2**20
MAX_PARALLELISM: Final = 16
_MIN_MEMORY_KIB_A_LANE: Final = 8  # RFC 9106, 3.1
_MAX_STORED_LENGTH: Final = 512

_KEYED: Final = "hmac-sha256"
_ARGON2: Final = "$argon2id$"
_MIN_TAG_BYTES: Final = 16
_MIN_SALT_BYTES: Final = 8
_SALT_BYTES: Final = 16  # 128 bits; NIST SP 800-63B-4, 3.1.2.2 asks for 32 or more


class Argon2TokenHasher:
    """Salted Argon2id, by default at OWASP's cost: 19 MiB, 2 passes, 1 lane; about 30 ms of CPU.

    With `keys`, hashes Argon2id over HMAC-SHA-256 with the newest key, and verifies what was made with any of them, by
    `KeyedTokenHasher` too. Then who can only write the store makes no token valid, unless `accept_unkeyed` admits
    hashes made without a key: for the week after keys were introduced, until the last of those tokens has expired.

    `time_cost` passes; `memory_cost` KiB, at least 8 a lane and at most 262,144, times the passes at most 1,048,576;
    `parallelism` lanes, at most 16; `keys` newest first, each of 32 bytes or more. Raises ConfigurationError otherwise.
    """

    def __init__(
        self,
        *,
        time_cost: int = OWASP_TIME_COST,
        memory_cost: int = OWASP_MEMORY_KIB,
        parallelism: int = OWASP_PARALLELISM,
        keys: Sequence[bytes] = (),
        accept_unkeyed: bool = False,
    ) -> None:
        check_whole("parallelism", parallelism, least=1, most=MAX_PARALLELISM)
        check_whole("memory_cost", memory_cost, least=_MIN_MEMORY_KIB_A_LANE * parallelism, most=MAX_MEMORY_KIB)
        check_whole("time_cost", time_cost, least=1, most=MAX_WORK_KIB // memory_cost)
        self._hasher = PasswordHasher(time_cost, memory_cost, parallelism)
        self._keys = _KeyRing(keys, accept_unkeyed=accept_unkeyed)

    def hash(self, secret: bytes, /) -> str:
        """The text to store for `secret`: at most 512 ASCII characters."""
        if not self._keys:
            return self._hasher.hash(secret)
        key_id, key = self._keys.signing
        return f"{_KEYED}${key_id}{self._hasher.hash(SecretBytes(_mac(key, secret)))}"

    def verify(self, stored: str, secret: bytes, /) -> bool:
        """Whether `stored` was made from `secret`. Any text is taken; what no hasher made is False."""
        return _verify(stored, secret, self._keys)


class KeyedTokenHasher:
    """Salted HMAC-SHA-256 with a secret key: microseconds, for sites where 30 ms of CPU a token are too many.

    `keys` newest first, each of 32 random bytes or more: the newest signs, all verify. Keep them outside the
    store; `secrets.token_bytes(32)` makes one. It verifies what `Argon2TokenHasher` made with any of these keys, and
    with `accept_unkeyed` what it made without one: for the week after the change from there, since with it a row that
    somebody wrote into the store can be a valid token. Raises ConfigurationError for no key or a short one.
    """

    def __init__(self, keys: Sequence[bytes], *, accept_unkeyed: bool = False) -> None:
        self._keys = _KeyRing(keys, accept_unkeyed=accept_unkeyed)
        if not self._keys:
            raise ConfigurationError("KeyedTokenHasher needs at least one key: secrets.token_bytes(32) makes one")

    def hash(self, secret: bytes, /) -> str:
        """The text to store for `secret`: at most 512 ASCII characters."""
        salt = secrets.token_bytes(_SALT_BYTES)
        key_id, key = self._keys.signing
        return f"{_KEYED}${key_id}${salt.hex()}${_mac(key, salt + secret).hex()}"

    def verify(self, stored: str, secret: bytes, /) -> bool:
        """Whether `stored` was made from `secret`. Any text is taken; what no hasher made is False."""
        return _verify(stored, secret, self._keys)


class _KeyRing(Confidential):
    """Keys by the id that a stored hash names, which of them signs, and whether a hash without a key is taken.

    Each is an HMAC to go on from, for setting it up takes as long as a message. The bytes of a key are not kept.
    """

    __slots__ = ("by_id", "least_variety", "signing", "takes_unkeyed")

    def __init__(self, keys: Sequence[bytes], *, accept_unkeyed: bool) -> None:
        if isinstance(keys, bytes | bytearray | str):
            raise ConfigurationError("keys must be a list of keys, newest first, not one key")
        self.by_id: dict[str, hmac.HMAC] = {}
        self.least_variety = 256  # different bytes in a key
        for key in keys:
            if len(check_type("each key", key, bytes)) < MIN_KEY_BYTES:
                raise ConfigurationError(f"each key must have {MIN_KEY_BYTES} bytes or more: secrets.token_bytes(32)")
            keyed = hmac.new(key, digestmod=hashlib.sha256)
            self.by_id.setdefault(_mac(keyed, b"resetkit key id")[:8].hex(), keyed)
            self.least_variety = min(self.least_variety, len(set(key)))
        self.takes_unkeyed = accept_unkeyed or not self.by_id
        if self.by_id:
            self.signing = next(iter(self.by_id.items()))  # the newest key, and its id

    def __bool__(self) -> bool:
        return bool(self.by_id)


def _mac(keyed: hmac.HMAC, message: bytes) -> bytes:
    fresh = keyed.copy()
    fresh.update(message)
    return fresh.digest()


def _verify(stored: str, secret: bytes, keys: _KeyRing) -> bool:
    if len(stored) > _MAX_STORED_LENGTH:
        return False
    if stored.startswith(_ARGON2):
        return keys.takes_unkeyed and _verify_argon2(stored, secret)
    scheme, _, named = stored.partition("$")
    key_id, _, rest = named.partition("$")
    key = keys.by_id.get(key_id)
    if scheme != _KEYED or key is None:
        return False
    if rest.startswith(_ARGON2[1:]):
        return _verify_argon2(f"${rest}", SecretBytes(_mac(key, secret)))
    return _verify_mac(rest, secret, key)


def _verify_mac(rest: str, secret: bytes, key: hmac.HMAC) -> bool:
    salt, _, mac = rest.partition("$")
    try:
        return hmac.compare_digest(_mac(key, bytes.fromhex(salt) + secret), bytes.fromhex(mac))
    except ValueError:
        return False


def _verify_argon2(stored: str, secret: bytes) -> bool:
    try:
        costs = extract_parameters(stored)
        work = costs.time_cost * costs.memory_cost
        if costs.hash_len < _MIN_TAG_BYTES or costs.salt_len < _MIN_SALT_BYTES:
            return False
        if costs.memory_cost > MAX_MEMORY_KIB or work > MAX_WORK_KIB or costs.parallelism > MAX_PARALLELISM:
            return False
        return PasswordHasher().verify(stored, secret)
    except (InvalidHashError, VerificationError, ValueError):
        return False
