"""Names and addresses of machines, as the link, the mail server and the throttle's keys read them."""

import ipaddress
import re
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", re.ASCII)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def read_ip(host: str) -> IPAddress | None:
    """The IP address that `host` is, or None if it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_host(host: str) -> bool:
    """Whether `host` is an IP address, or a name in letters, digits, dots and dashes (IDNA form)."""
    return read_ip(host) is not None or (_NAME.fullmatch(host) is not None and ".." not in host)


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine itself."""
    address = read_ip(host)
    return host == "localhost" if address is None else address.is_loopback
