"""Personal data in text: e-mail addresses, IP addresses and phone numbers give way to reserved ones.

The replacements are set aside for documentation, so nobody has them, and masking masked text changes nothing:
example.com (RFC 2606), 192.0.2.1 (RFC 5737), 2001:db8::1 (RFC 3849), 555-0100 (North American Numbering Plan).
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Literal

Kind = Literal["email", "ip", "phone"]

EMAIL = re.compile(
    r"(?<![\w.+%-])[A-Za-z0-9_+%-](?:[A-Za-z0-9._+%-]{0,63})@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w@-])"
)
IPV4 = re.compile(r"(?<![\w.+-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
VERSION = re.compile(r"(?:\bv|\bver|version|versions|release|[=<>~^]=?)\.?\s?$", re.IGNORECASE)
IPV6 = re.compile(r"(?<![\w:.])[23][0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4}(?![\w:])")
PHONE = re.compile(
    r"(?<![\w.+/=-])(?:"
    r"(?:\+?1[ .-]?)?(?:\([2-9]\d{2}\) ?[2-9]\d{2}[ .-]\d{4}|[2-9]\d{2}([.-])[2-9]\d{2}\1\d{4})"  # North America
    r"|\+[1-9]\d{0,2}(?:[ .-]?\(?\d{1,5}\)?){2,6}"  # international, with its +
    r")(?![\w-]|\.\d)"
)
EMAIL_MASK, IPV4_MASK, IPV6_MASK, PHONE_MASK = "email@example.com", "192.0.2.1", "2001:db8::1", "+1-202-555-0100"


def mask(text: str, kinds: Sequence[Kind]) -> tuple[str, dict[str, int]]:
    """`text` with what the `kinds` name replaced, and how many of each were.

    Left alone: versions, dates, times, hashes, and addresses that are nobody's (private, loopback, reserved). A dotted
    quad counts as a version after a word like "version" or where each part is below 20, as in (20/256)^4 = 0.004% of
    the addresses. Phone numbers are known by their form: North American ones, and any with an international prefix.
    """
    counts: dict[str, int] = {}
    for kind in kinds:
        counts[kind] = 0
        for trigger, pattern, replace in RULES[kind]:
            if trigger in text:

                def counted(match: re.Match[str], replace: Callable[..., str] = replace, kind: str = kind) -> str:
                    new = replace(match)
                    counts[kind] += new != match.group()
                    return new

                text = pattern.sub(counted, text)
    return text, counts


def _ipv4(match: re.Match[str]) -> str:
    parts = [int(part) for part in match.group().split(".")]
    looks_like_version = max(parts) < 20 or VERSION.search(match.string[max(0, match.start() - 12) : match.start()])
    if looks_like_version or max(parts) > 255 or not ipaddress.IPv4Address(bytes(parts)).is_global:
        return match.group()
    return IPV4_MASK


def _ipv6(match: re.Match[str]) -> str:
    try:
        address = ipaddress.IPv6Address(match.group())
    except ValueError:  # a time, a slice, a MAC address
        return match.group()
    groups = sum(bool(group) for group in match.group().split(":"))
    return IPV6_MASK if address.is_global and groups > 2 else match.group()


def _phone(match: re.Match[str]) -> str:
    digits = sum(character.isdigit() for character in match.group())
    return PHONE_MASK if 8 <= digits <= 15 else match.group()


RULES: dict[Kind, list[tuple[str, re.Pattern[str], Callable[[re.Match[str]], str]]]] = {
    "email": [("@", EMAIL, lambda _: EMAIL_MASK)],
    "ip": [(".", IPV4, _ipv4), (":", IPV6, _ipv6)],
    "phone": [("", PHONE, _phone)],
}
