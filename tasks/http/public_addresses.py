"""SSRF protection: which addresses belong to the public Internet."""

import ipaddress
import re
from urllib.parse import urlsplit

LOCAL = re.compile(r"^[^.]*$|\.localhost$|(?:^|\.)(?:0x[0-9a-f]*|\d+)$", re.IGNORECASE)
"""Names without a dot, this machine's, and what the system's resolver takes for a number (127.1, 0x7f.1)."""
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # IPv4 addresses behind a translator (RFC 6052)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public Internet (IANA's special-purpose registries).

    Raises:
        ValueError: `address` is no IP address.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in NAT64 else None)
        if inner is not None:
            ip = inner
    return ip.is_global and not ip.is_multicast and not (ip.version == 6 and ip.is_site_local)


def is_ip_address(host: str) -> bool:
    """Whether `host` is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def host_name(url: str) -> str:
    """The host of a URL, in lower case; "" where there is none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def names_public_host(url: str) -> bool:
    """Whether a URL's host is a public address, or a name that is not local to judge by its form; it is not resolved."""
    host = host_name(url)
    return bool(host) and (is_public(host) if is_ip_address(host) else not LOCAL.search(host))
