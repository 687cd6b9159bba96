"""Hypothesis strategies for the values that pass through the library, and for what visitors type.

In a test: ``@given(strategies.identifiers())``.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from resetkit.policy import MAX_GUESSES_A_DAY, Limit, ResetPolicy
from resetkit.values import Account, Kind, State, TokenRecord

try:
    from hypothesis import strategies as st
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        'resetkit.testing.strategies needs Hypothesis: python -m pip install "resetkit[testing]"', name="hypothesis"
    ) from _missing

__all__ = ["account_ids", "accounts", "addresses", "identifiers", "instants", "passwords", "policies", "records"]

_MINUTE: Final = timedelta(minutes=1)
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_FIRST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(2100, 1, 1, tzinfo=UTC)  # beyond 2038 and 2**31 seconds
_ADDRESS: Final = "alice@example.org"

# Text that databases fold, cut, trim or reinterpret: case of dotless i (CVE-2019-19844), accents, trailing spaces,
# characters beyond the BMP, the signs of patterns. Each is another account.
_NASTY_IDS: Final = (
    *("1", "01", "a", "A", "a ", " a", "é", "e\u0301", "ß", "ss", "\u0131", "i", "\u212a", "k", "\uff41"),
    *("null", "%", "_", "*"),
    *("'", '"', "--", "\\", "\n", "\U0001f511", "\u202ea", "\u200ba", "\ufeffa", "x" * 255, "\U0001f511" * 255),
)

_NASTY_ADDRESSES: Final = (
    *(_ADDRESS, "Alice@Example.ORG", "alice+tag@example.org", "o'brien@example.org", "a@b", "%@example.org"),
    *("postmaster@xn--bcher-kva.example", "bücher@bücher.example", "ali\u0441e@example.org", "al\u0131ce@example.org"),
    *("\U0001f511@example.org", "a" * 64 + "@example.org", "a@" + ".".join(["b" * 62] * 4)),
)

# What is put into an address by who hopes that two programs read it differently.
_INTRUDERS: Final = (
    *("\0", "\r\nBcc: x@example.org", "\n", "\t", " ", "\u00a0", "\u200b", "\u200d", "\u2060", "\ufeff", "\u00ad"),
    *("\u202e", "\u2066", "\u2028", "\u0301", "\u0301" * 50, "\ud800", "\udfff", "\U000e0041", "\U0010ffff", "\x1b[2J"),
    *("%", "_", "*", "' OR 1=1 --", '"', "\\", ",", ";", "<", "(", "=?utf-8?q?x?=", "@", "%00", "${jndi:x}", "{{7*7}}"),
)

# Texts that are no address at all.
_NO_ADDRESSES: Final = (
    *("", " ", "\0", "\u3000", "\u200b", "\ud800", "\udfff\ud800", "%", "_", "*", ".*", "null", "None", "0"),
    *("' OR '1'='1", "'; DROP TABLE users; --", "admin'--", "*)(uid=*", '{"$gt": ""}', "../../etc/passwd"),
    *("\U0001f511", "\ufdfa" * 9, "\u0301" * 400),
    *(f"{_ADDRESS}," * 50, f"{_ADDRESS}, mallory@example.org"),
)

_LOOK_ALIKES: Final = str.maketrans("aceiko", "\u0430\u0441\u0435\u0131\u212a\u043e")  # Cyrillic, dotless, Kelvin


def instants(*, min_value: datetime = _FIRST, max_value: datetime = _LAST) -> st.SearchStrategy[datetime]:
    """Aware instants, in UTC and whole seconds, from `min_value` to `max_value`, both included."""
    seconds = int((max_value - min_value).total_seconds())
    return st.integers(0, seconds).map(lambda since: min_value + timedelta(seconds=since))


def account_ids() -> st.SearchStrategy[str]:
    """Every account id that a store must keep: 1 to 255 characters, without NUL or lone surrogates."""
    return st.sampled_from(_NASTY_IDS) | st.text(_storable(), min_size=1, max_size=255)


def addresses() -> st.SearchStrategy[str]:
    """Addresses that `Account` takes: plain, in other scripts, in odd case, up to the greatest length."""
    local = st.text(_plain(also="!#$%&'*+-/^_`{|}~."), min_size=1, max_size=20)
    labels = st.lists(st.text(_plain(also="-"), min_size=1, max_size=10), min_size=1, max_size=3)
    made = st.tuples(local, labels.map(".".join)).map("@".join)
    return st.sampled_from(_NASTY_ADDRESSES) | made


def identifiers(like: str = _ADDRESS) -> st.SearchStrategy[str]:
    """What visitors type: addresses, some that look `like` the given one, and text meant to do harm.

    Any ``str`` may come: empty or very long, with control characters, line breaks, bidirectional overrides, zero-width
    and combining characters, lone surrogates, wildcards, SQL.
    """
    spelled, none = st.sampled_from(_spellings(like)), st.sampled_from(_NO_ADDRESSES)
    long = st.sampled_from((321, 2_000, 20_000)).map("a".__mul__)
    return st.one_of(spelled, none, _pierced(like), long, addresses(), st.text(max_size=400))


def passwords(*, max_size: int = 64) -> st.SearchStrategy[str]:
    """New passwords that the manager hands on, of any characters but NUL and lone surrogates.

    Every policy takes 64 characters; with a larger `max_size`, yours has to.
    """
    nasty = ("correct horse battery staple", " ", "  a  ", "pa$$'\"\\word", "пароль", "e\u0301", "\U0001f511" * 16)
    fitting = [*(each[:max_size] for each in nasty), "x" * max_size]
    return st.sampled_from(fitting) | st.text(_storable(), min_size=1, max_size=max_size)


@st.composite
def policies(draw: st.DrawFn) -> ResetPolicy:
    """Valid policies, from strict to generous; the simplest is the default one."""
    usual = ResetPolicy()
    quotas = draw(st.sampled_from(_QUOTAS))
    mails = min(count * -(-_DAY // within) for count, within in quotas)
    lifetime = draw(st.sampled_from((usual.link_lifetime, _MINUTE, _HOUR, _DAY)))
    return ResetPolicy(
        link_lifetime=lifetime,
        code_lifetime=min(lifetime, draw(st.sampled_from((usual.code_lifetime, _MINUTE, _DAY)))),
        code_guesses=min(draw(st.sampled_from((usual.code_guesses, 1, 2, 3))), MAX_GUESSES_A_DAY // mails),
        outstanding=draw(st.sampled_from((usual.outstanding, 2, 3, 99))),
        account_quotas=quotas,
        client_limit=draw(st.sampled_from((usual.client_limit, (1, _MINUTE), (10_000, _MINUTE)))),
        identifier_limit=draw(st.sampled_from((usual.identifier_limit, (10_000, _MINUTE), (2, _HOUR)))),
        retention=draw(st.sampled_from((usual.retention, _DAY, 90 * _DAY))),
        head_start=draw(st.sampled_from((usual.head_start, timedelta(milliseconds=1), 30 * timedelta(seconds=1)))),
        mail_attempts=draw(st.sampled_from((usual.mail_attempts, 1, 2, 10))),
        mail_retry_delay=draw(st.sampled_from((usual.mail_retry_delay, _MINUTE, _HOUR))),
        hash_workers=draw(st.sampled_from((usual.hash_workers, 1, 4))),
        max_password_length=draw(st.sampled_from((usual.max_password_length, 64))),
        max_identifier_length=draw(st.sampled_from((usual.max_identifier_length, 64, 254))),
        purge_batch=draw(st.sampled_from((usual.purge_batch, 1, 2))),
    )


_QUOTAS: Final[tuple[tuple[Limit, ...], ...]] = (
    ResetPolicy().account_quotas,
    ((20, _DAY),),
    ((1, _DAY),),
    ((2, _HOUR), (5, _DAY)),
    ((1, 15 * _MINUTE),),
)


@st.composite
def accounts(draw: st.DrawFn, *, account_id: str | None = None) -> Account:
    """Valid accounts, with the given id or any."""
    return Account(
        id=draw(account_ids()) if account_id is None else account_id,
        email=draw(addresses()),
        stamp=draw(st.text(_storable(), max_size=100)),
        can_reset=draw(st.sampled_from((True, False))),
        notify=tuple(draw(st.lists(addresses(), max_size=3))),
        locale=draw(st.sampled_from((None, "en", "de-CH", "zh-Hant"))),
    )


@st.composite
def records(
    draw: st.DrawFn, *, account_id: str | None = None, selector: str | None = None, fresh: bool = False
) -> TokenRecord:
    """Valid records, of the given account and selector or of any; `fresh` ones are as `TokenStore.add` takes them."""
    kinds: tuple[Kind, ...] = ("mail", "operator")
    states: tuple[State, ...] = ("outstanding",) if fresh else ("outstanding", "used", "superseded", "revoked")
    created_at = draw(instants())
    lifetime = draw(_spans(_DAY))
    code_expires_at = draw(st.none() | _spans(lifetime).map(lambda span: created_at + span))
    state = draw(st.sampled_from(states))
    return TokenRecord(
        selector=draw(st.binary(min_size=16, max_size=16)).hex() if selector is None else selector,
        account_id=draw(account_ids()) if account_id is None else account_id,
        kind=draw(st.sampled_from(kinds)),
        link_hash=draw(_hashes()),
        code_hash=None if code_expires_at is None else draw(_hashes()),
        stamp_digest=draw(st.binary(min_size=32, max_size=32)).hex(),
        created_at=created_at,
        expires_at=created_at + lifetime,
        code_expires_at=code_expires_at,
        keep_until=created_at + lifetime + draw(_spans(90 * _DAY)),
        guesses=0 if fresh else draw(st.integers(0, 100)),
        state=state,
        claim_id=draw(st.none() | st.sampled_from(("c1", "0" * 32))) if state == "used" else None,
    )


@st.composite
def _pierced(draw: st.DrawFn, address: str) -> str:
    at = draw(st.integers(0, len(address)))
    return address[:at] + draw(st.sampled_from(_INTRUDERS)) + address[at:]


def _storable() -> st.SearchStrategy[str]:
    """Characters that every database keeps."""
    return st.characters(exclude_categories=["Cs"], exclude_characters="\0")


def _plain(also: str) -> st.SearchStrategy[str]:
    """Letters and digits of any script, and a few more signs."""
    return st.characters(categories=["L", "N"], include_characters=also)


def _spellings(address: str) -> list[str]:
    """The address as people and attackers write it."""
    local, _, domain = address.partition("@")
    wide = "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in address)
    plain = [address, address.upper(), address.title(), f"{local}@{domain.upper()}", f" {address} ", f"{address}."]
    alike = [wide, address.translate(_LOOK_ALIKES)]
    return [*plain, *alike, address[::-1], f"{local}+tag@{domain}", f"<{address}>", local]


def _spans(most: timedelta) -> st.SearchStrategy[timedelta]:
    """Durations of whole seconds."""
    return st.integers(1, int(most.total_seconds())).map(lambda seconds: timedelta(seconds=seconds))


def _hashes() -> st.SearchStrategy[str]:
    """ASCII text, as hashers make it, up to the greatest length."""
    signs = st.characters(min_codepoint=33, max_codepoint=126)
    return st.sampled_from(("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA", "~" * 512)) | st.text(signs, min_size=1)
