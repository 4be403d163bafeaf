"""Canonical URLs: when two addresses are of one page; equal in canonical form."""

import hashlib
import re
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import pyarrow as pa

TRACKING_PARAMETERS = re.compile(
    r"utm_\w+|fbclid|gclid|dclid|gbraid|wbraid|msclkid|yclid|igshid|mc_[ce]id|_ga|_gl|ref_src|"
    r"phpsessid|jsessionid|aspsessionid\w*|sessionid",
    re.IGNORECASE,
)
"""Query keys that name the reader or the way to the page, not the page."""
_SESSION = re.compile(r";jsessionid=[^/?]*", re.IGNORECASE)
_SAFE = "~:@!$&'()*+,;="
DEFAULT_PORTS = {"http": 80, "https": 443}


def canonical_url(url: str | None) -> str | None:
    """The canonical form of an http or https address; None for others (they name records, not pages).

    RFC 3986, section 6.2: host in lower case, default port and dot segments gone, percent-encoding in one form; beyond
    it: no scheme, no `www.`, no fragment, no trailing slash, no tracking or session keys, the query sorted by its
    keys.
    """
    try:
        parts = urlsplit((url or "").strip())
        port = parts.port
    except ValueError:
        return None
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in DEFAULT_PORTS or not host:
        return None
    host = host.removeprefix("www.")
    if port not in (None, DEFAULT_PORTS[parts.scheme]):
        host += f":{port}"
    segments: list[str] = []
    for segment in _SESSION.sub("", parts.path).split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in (".", ""):
            segments.append(quote(unquote(segment, errors="surrogateescape"), safe=_SAFE, errors="surrogateescape"))
    # Bytes that are no UTF-8 (`%C4%E3` is GBK) stay what they are: read with replacement, they would all be alike.
    pairs = parse_qsl(parts.query, keep_blank_values=True, errors="surrogateescape")
    kept = sorted((pair for pair in pairs if not TRACKING_PARAMETERS.fullmatch(pair[0])), key=lambda pair: pair[0])
    query = urlencode(kept, errors="surrogateescape")
    return "/".join([host, *segments]) + (f"?{query}" if query else "")


def url_keys(urls: pa.ChunkedArray) -> pa.Array:
    """BLAKE2b-128 of each canonical address, fixed-size binary [urls]; null where there is none."""
    return pa.array(
        [
            hashlib.blake2b(each.encode("utf-8", "surrogatepass"), digest_size=16).digest() if each else None
            for each in map(canonical_url, urls.to_pylist())
        ],
        pa.binary(16),
    )
