"""Top-level domains: which last parts of a name with dots can be a host's."""

from functools import cache
from importlib.metadata import distribution
from pathlib import Path

PRIVATE = frozenset(("corp", "home", "internal", "intranet", "lan", "local", "private"))
"""What networks that are nobody else's use (RFC 6762, appendix G)."""


@cache
def top_level_domains() -> frozenset[str]:
    """The top-level domains in ASCII, in small letters, and those of private networks.

    From the Public Suffix List (publicsuffix.org) as the package tldextract carries it, read without importing that package,
    which takes 0.4 s.
    """
    path = Path(str(distribution("tldextract").locate_file("tldextract/.tld_set_snapshot")))
    lines = path.read_text("utf-8").partition("===BEGIN PRIVATE DOMAINS===")[0].splitlines()
    names = (line.rpartition(".")[2] for line in lines if line and not line.startswith("//"))
    return PRIVATE.union(name for name in names if name.isascii())
