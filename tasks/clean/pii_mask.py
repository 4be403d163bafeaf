"""PII masks: personal data and secrets in text give way to stand-ins that show what stood there.

The stand-ins are set aside for documentation or cannot be valid, so nobody has them, and masking masked text changes
nothing: example.com (RFC 2606), 192.0.2.1 (RFC 5737), 2001:db8::1 (RFC 3849), 555-0100 (North American Numbering Plan),
card numbers that begin with 0 (ISO/IEC 7812: no issuer's), IBANs of XX (user-assigned in ISO 3166); a secret keeps its prefix.
"""

import ipaddress
import re
import string
from collections.abc import Callable, Sequence
from typing import Literal

from tasks.clean.secret_patterns import SECRET_PATTERNS
from tasks.clean.top_level_domains import top_level_domains

PiiKind = Literal["email", "ip", "phone", "credit_card", "iban", "secret"]

# A pattern that begins with a set of characters, and looks back only then, is searched for several times as fast.
EMAIL = re.compile(
    r"(?<![\w.+%-])[A-Za-z0-9_+%-](?:[A-Za-z0-9._+%-]{0,63})@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w@-])"
)
REPOSITORY_USERS = ("git", "hg", "svn")
"""Whom repositories are fetched as (git@host:path, ssh://git@host/path): nobody's name."""
IPV4 = re.compile(r"\d(?<![\w.+-].)\d{0,2}\.(?:\d{1,3}\.){2}\d{1,3}(?![\w-]|\.\d)")
VERSION = re.compile(r"(?:\bv|\bver|version|versions|release|[=<>~^]=?)\.?\s?$", re.IGNORECASE)
IPV6 = re.compile(r"[23](?<![\w:.].)[0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4}(?![\w:])")
PHONE = re.compile(
    r"[+(1-9](?<![\w.+/=-].)(?:"
    r"(?:(?<=\+)1|(?<=1))[ .-]?(?:\([2-9]\d{2}\) ?[2-9]\d{2}[ .-]\d{4}|[2-9]\d{2}([.-])[2-9]\d{2}\1\d{4})"  # +1, 1
    r"|(?<=\()[2-9]\d{2}\) ?[2-9]\d{2}[ .-]\d{4}|(?<=[2-9])\d{2}([.-])[2-9]\d{2}\2\d{4}"  # the rest of North America
    r"|(?<=\+)[1-9]\d{0,2}(?:[ .-]?\(?(?:\d{5}(?=\d)|\d{1,5}+(?!\d))\)?){2,6}"  # international, with its +
    r")(?![\w-]|\.\d)"
)
# Visa, Mastercard, Discover, JCB and Maestro in fours; American Express 4-6-5; Diners Club 4-6-4. One separator throughout.
CARD = re.compile(
    r"[2-6](?<![\w.+/=#-].)(?:(?:(?<=[4-6])\d{3}|(?<=2)[2-7]\d{2}|(?<=3)5\d{2})([ -]?)\d{4}\1\d{4}\1\d{4}"
    r"|(?<=3)[47]\d{2}([ -]?)\d{6}\2\d{5}|(?<=3)[068]\d{2}([ -]?)\d{6}\3\d{4})(?![\w-]|\.\d)"
)
IBAN = re.compile(r"[A-Z](?<![\w+/=-].)[A-Z]\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![\w+/=-])")
# Characters of an IBAN by country: SWIFT's IBAN registry, release 99 (ISO 13616).
IBAN_REGISTRY = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
    "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 "
    "LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 "
    "QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in IBAN_REGISTRY.split()}
EMAIL_MASK, IPV4_MASK, IPV6_MASK, PHONE_MASK = "email@example.com", "192.0.2.1", "2001:db8::1", "+1-202-555-0100"
CARD_MASK, IBAN_MASK = "0000 0000 0000 0000", "XX00 0000 0000 0000"


def mask_pii(text: str, kinds: Sequence[PiiKind]) -> tuple[str, dict[str, int]]:
    """`text` with what the `kinds` name replaced, and how many of each were. The order of `kinds` does not matter.

    Left alone: versions, dates, times, hashes, ISBNs, and addresses that are nobody's (private, loopback, reserved). A
    dotted quad counts as a version after a word like "version" or where each part is below 20, as in (20/256)^4 =
    0.004% of the addresses. An e-mail address ends in a top-level domain that there is. Phone numbers are known by their
    form: North American ones, and any with an international prefix. Card numbers by their issuer's prefix, their groups and
    Luhn's check digit (ISO/IEC 7812-1, annex B), IBANs by country, length and check digits (ISO 13616, mod 97), secrets by
    the prefixes that their issuers gave them.
    """
    counts: dict[str, int] = {}
    shape = text.encode().translate(SHAPE) if text.isascii() else None  # beyond ASCII there are other digits
    for kind in RULES:
        if kind not in kinds:
            continue
        counts[kind] = 0
        for trigger, pattern, replace in RULES[kind]:
            if trigger in text and (shape is None or any(part in shape for part in SHAPES.get(pattern, (b"",)))):

                def counted(match: re.Match[str], replace: Callable[..., str] = replace, kind: str = kind) -> str:
                    new = replace(match)
                    counts[kind] += new != match.group()
                    return new

                text = pattern.sub(counted, text)
    return text, counts


def _email(match: re.Match[str]) -> str:
    """An address has a domain that can be somebody's: what only looks like one (logo@2x.png, A@B.transpose()) stays."""
    found, after = match.group(), match.string[match.end() : match.end() + 1]
    user, _, host = found.partition("@")
    *names, last = host.split(".")
    if last.lower() not in top_level_domains():
        if not last.istitle() or len(names) < 2 or names[-1].lower() not in top_level_domains():
            return found
        end = len(last) + 1  # the next sentence, which a space should keep away
        return EMAIL_MASK + found[-end:]
    is_call = after == "("
    is_repository = user in REPOSITORY_USERS and after in (":", "/")
    is_product = len(user) == len(names[0]) == 1 and (user + names[0]).isupper()
    is_version = len(names) > 1 and all(name.isdigit() for name in names)
    is_scale = names[0][:-1].isdigit() and names[0][-1] == "x"  # of an image, as app stores want it named: icon@2x
    return found if is_call or is_repository or is_product or is_version or is_scale else EMAIL_MASK


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


def _card(match: re.Match[str]) -> str:
    digits = [int(character) for character in match.group() if character.isdecimal()]
    return CARD_MASK if luhn(digits) and len(set(digits)) > 2 else match.group()


def luhn(digits: Sequence[int]) -> bool:
    """Whether the last digit is the check digit of the others."""
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(match: re.Match[str]) -> str:
    """An IBAN's length is its country's: what follows it in capitals stays, though the pattern took it along."""
    found = match.group()
    wanted = IBAN_LENGTHS.get(found[:2], 0)
    taken = [at for at, character in enumerate(found) if character != " "]
    if not wanted or len(taken) < wanted:
        return found
    end = taken[wanted - 1] + 1
    if len(taken) > wanted and found[end] != " ":
        return found
    iban = found[:end].replace(" ", "")
    number = int("".join(str(int(character, 36)) for character in iban[4:] + iban[:4]))
    return IBAN_MASK + found[end:] if number % 97 == 1 else found


RULES: dict[PiiKind, list[tuple[str, re.Pattern[str], Callable[[re.Match[str]], str]]]] = {
    "secret": [(trigger, pattern, replace) for trigger, pattern, replace in SECRET_PATTERNS],
    "iban": [("", IBAN, _iban)],
    "credit_card": [("", CARD, _card)],
    "email": [("@", EMAIL, _email)],
    "ip": [(".", IPV4, _ipv4), (":", IPV6, _ipv6)],
    "phone": [("", PHONE, _phone)],
}
"""In the order in which they are applied: (what must be in the text, pattern, replacement)."""
SHAPE = bytes.maketrans((string.digits + string.ascii_uppercase).encode(), b"0" * 10 + b"A" * 26)
SHAPES = {
    IBAN: (b"AA00",),
    CARD: (b"00000000", b"0000 0000", b"0000-0000"),
    IPV4: (b".0.", b".00.", b".000."),
    PHONE: (b"+0", b"000 0000", b"000.0000", b"000-0000"),
}
"""Of which one stands in every match, digits written as 0 and capitals as A: most texts have none and need no pattern."""
