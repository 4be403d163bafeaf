"""URL blocklist: addresses that are not wanted; hosts with all below them, and paths."""

from collections.abc import Sequence
from urllib.parse import urlsplit


def blocking_entry(url: str, entries: Sequence[str]) -> str | None:
    """The entry that blocks `url`: a host (also for its subdomains), or host/path (also for what begins with it).

    None too where `url` is none, such as http://[: it has no host.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    host = (parts.hostname or "").removeprefix("www.")
    for entry in entries:
        wanted, _, path = entry.lower().removeprefix("www.").partition("/")
        if (host == wanted or host.endswith("." + wanted)) and (parts.path.lower() or "/").startswith("/" + path):
            return entry
    return None
