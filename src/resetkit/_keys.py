"""What a call is counted under: a digest, so that a throttle's memory or a shared cache holds no address."""

import ipaddress
import unicodedata
from typing import Final, Literal

from resetkit._hosts import read_ip
from resetkit._tokens import digest

Purpose = Literal["request-client", "request-identifier", "redeem-client"]

_IPV6_NETWORK_BITS: Final = 64  # what one customer is given at the least; RFC 6177


def throttle_key(purpose: Purpose, realm: str, value: str) -> str:
    """The key for calls of this purpose by `value`, already in the form that tells callers apart."""
    return digest(purpose, realm, value).hex()


def identifier_form(identifier: str) -> str:
    """The identifier for counting: look-alikes in Unicode count together. Empty if nothing visible is left."""
    folded = unicodedata.normalize("NFKC", identifier).casefold()
    return unicodedata.normalize("NFKC", folded).strip()


def client_form(client: str) -> str:
    """The client for counting: an IPv6 address counts by its /64, an IPv4 address however it is written."""
    address = read_ip(client.strip().partition("%")[0])
    if address is None:
        return client
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((int(address), _IPV6_NETWORK_BITS), strict=False))
        address = address.ipv4_mapped
    return str(address)
