"""The link's template: fixed by the developer, checked once, never built from a request."""

import re
from typing import Final
from urllib.parse import urlsplit

from resetkit._confidential import Secret
from resetkit._hosts import is_host, is_loopback
from resetkit.errors import ConfigurationError

PLACEHOLDER: Final = "{token}"

# RFC 3986 reserved and unreserved characters, and "%" of an escape, that may stand in a template. Everything else, the
# backslash above all, is read in different ways by different programs.
_STRANGE: Final = re.compile(r"[^A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]|%(?![0-9A-Fa-f]{2})", re.ASCII)


def check_link(template: object) -> str:
    """`template`, if every link made from it leads to the developer's own https page.

    Raises ConfigurationError for another scheme than https (http is for loopback only), a user name or password
    in the address, an unclear host, characters that need quoting, or not exactly one ``{token}`` after the host.
    """
    if not isinstance(template, str):
        raise ConfigurationError('link must be a str such as "https://app.example/reset#{token}"')
    if (times := template.count(PLACEHOLDER)) != 1:
        raise ConfigurationError(f"link must hold {PLACEHOLDER} exactly once, not {times} times")
    # Not left out but replaced: a "%" just before the token would swallow its first digits.
    if strange := _STRANGE.search(template.replace(PLACEHOLDER, "~")):
        raise ConfigurationError(
            f"link holds {strange[0]!r}, which a URL may not hold: only {PLACEHOLDER} is filled in"
        )
    try:
        parts = urlsplit(template)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError("link has an address or port that cannot be read") from None
    if not parts.scheme or not parts.netloc:
        raise ConfigurationError("link must be absolute, such as https://app.example/reset#{token}")
    if PLACEHOLDER in parts.netloc or not host or "@" in parts.netloc or port == 0:
        raise ConfigurationError("link must name its host plainly, without user name or password, before {token}")
    if not is_host(host) or "%" in host or not _is_plain(parts.netloc, host):
        raise ConfigurationError("link must name its host in letters, digits, dots and dashes (IDNA form)")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ConfigurationError("link must start with https:// (http:// only for a loopback host)")
    return template


def _is_plain(netloc: str, host: str) -> bool:
    """Whether this host and a port are all that is there. What stands beside a "]", `urlsplit` passes over."""
    named = f"[{host}]" if ":" in host else host
    return re.fullmatch(rf"{re.escape(named)}(:[0-9]*)?", netloc.lower()) is not None


def fill_link(template: str, token: Secret) -> Secret:
    """The link that carries `token`."""
    return Secret(template.replace(PLACEHOLDER, token))
