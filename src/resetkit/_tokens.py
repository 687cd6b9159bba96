"""The forms of tokens and what is hashed of them: pure functions, randomness and time come in as arguments.

A token is a selector, which finds the record, and a secret, which proves possession. Two shapes exist, and the
shape alone says which of a record's hashes a token is for:

    link token   32 hex digits of selector, 64 of secret      alphanumeric: mail programs cut links elsewhere
    code token   the 32 of the handle, "-", 8 letters          joined by `code_token`, never shown to anyone

What is hashed binds the secret to everything that a thief of the database could want to change: version, realm,
kind, part, selector, account, stamp digest and expiry. NUL stands between the parts. It can
stand in none of them but the last: not in a realm, an id or an address, which are refused with it, nor in what is
ASCII by its form. So no two lists of as many parts give the same bytes, and the first parts say how many there are.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from resetkit._checks import require_text
from resetkit._confidential import Confidential, Secret, SecretBytes
from resetkit.values import Account, Kind, TokenRecord

Part = Literal["link", "code"]

SELECTOR_BYTES: Final = 16  # 128 bits: OWASP ASVS 5.0, 11.5.1
SECRET_BYTES: Final = 32  # 256 bits, above all the standards ask
CODE_LENGTH: Final = 8

# RFC 8628, 6.1: consonants only, so that no word is spelled; without Q, so that every look-alike has one reading.
CODE_ALPHABET: Final = "BCDFGHJKLMNPRSTVWXZ"
CODE_SPACE: Final = len(CODE_ALPHABET) ** CODE_LENGTH  # 1.7 * 10**10, 34 bits

# How a code is misread: each sign that is not in the alphabet, and the letter it was.
_LOOK_ALIKES: Final = str.maketrans("0OQ1I|!256$8U", "DDDLLLLZSGSBV")
_IGNORED: Final = re.compile(r"[\s\-_.\u2010-\u2015\u2212]+")
_MAX_TYPED: Final = 64

_SELECTOR: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_LINK_TOKEN: Final = re.compile(r"([0-9a-f]{32})([0-9a-f]{64})", re.ASCII)
_CODE_TOKEN: Final = re.compile(rf"([0-9a-f]{{32}})-([{CODE_ALPHABET}]{{{CODE_LENGTH}}})", re.ASCII)

_VERSION: Final = "resetkit-1"


@dataclass(slots=True)
class Token(Confidential):
    """A parsed token: nothing is known of it yet but its form."""

    part: Part
    selector: str
    secret: Secret


def make_selector(entropy: bytes) -> str:
    """The selector for 16 random bytes."""
    return entropy.hex()


def is_selector(text: str) -> bool:
    """Whether `text` is a selector by its form."""
    return _SELECTOR.fullmatch(text) is not None


def make_secret(entropy: bytes) -> Secret:
    """The link's secret for 32 random bytes."""
    return Secret(entropy.hex())


def make_code(entropy: bytes) -> Secret:
    """The code for 32 random bytes; the remainder of 256 bits favours no letter by more than 2**-220."""
    number = int.from_bytes(entropy)
    letters: list[str] = []
    for _ in range(CODE_LENGTH):
        number, index = divmod(number, len(CODE_ALPHABET))
        letters.append(CODE_ALPHABET[index])
    return Secret("".join(letters))


def link_token(selector: str, secret: Secret) -> Secret:
    """What a link carries."""
    return Secret(selector + secret)


def code_token(handle: str, typed: str) -> str:
    """Join the page's handle and the code a person typed to a token for ``reset_password``.

    Forgiving about case, spaces, dashes, full-width letters and look-alikes (0 for D, 1 for L, 5 for S, ...). Any
    text is taken: what cannot be a code makes a token that is refused like any other, and costs no guess.
    Raises InvalidRequestError if either is no ``str``.
    """
    require_text("handle", handle)
    require_text("typed", typed)
    if len(typed) > _MAX_TYPED:
        return Secret(f"{handle[:_MAX_TYPED]}-")
    letters = _IGNORED.sub("", unicodedata.normalize("NFKC", typed)).upper().translate(_LOOK_ALIKES)
    return Secret(f"{handle}-{letters}")


def parse_token(text: str) -> Token | None:
    """The parts of a token, or None if `text` is none. The form is fixed, so any size is refused at once."""
    if match := _LINK_TOKEN.fullmatch(text):
        return Token("link", match[1], Secret(match[2]))
    if match := _CODE_TOKEN.fullmatch(text):
        return Token("code", match[1], Secret(match[2]))
    return None


def digest(*parts: str) -> bytes:
    """SHA-256 over the parts, with NUL between them."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()


def stamp_digest(realm: str, selector: str, account: Account) -> Secret:
    """What is kept of the account's stamp and address: either changing ends the token."""
    return Secret(digest(_VERSION, "stamp", realm, account.id, selector, account.email, account.stamp).hex())


def bind(
    part: Part,
    secret: str,
    *,
    realm: str,
    kind: Kind,
    selector: str,
    account_id: str,
    stamp_digest: str,
    expires_at: datetime,
) -> SecretBytes:
    """The bytes that are hashed and kept for one part of a token."""
    expiry = str(int(expires_at.timestamp()))
    return SecretBytes(
        digest(_VERSION, "secret", realm, kind, part, selector, account_id, stamp_digest, expiry, secret)
    )


def stored_part(record: TokenRecord, part: Part) -> tuple[str, datetime] | None:
    """The hash that a token of this shape is for, and its expiry; None if the record has none."""
    if part == "link":
        return record.link_hash, record.expires_at
    if record.code_hash is None or record.code_expires_at is None:
        return None
    return record.code_hash, record.code_expires_at


def decoy_account_id(selector: str) -> str:
    """The account id of the ordinary-looking record that answers guesses where there is no account."""
    return f"decoy:{selector}"
