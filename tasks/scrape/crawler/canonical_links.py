"""Canonical links: which of the pages that name a canonical URL (RFC 6596) stays; a result of what they name, not of their order."""

from collections.abc import Mapping, Sequence


def canonical_of(key: str, pointers: Mapping[str, str]) -> str:
    """Where the chain of canonical URLs from `key` ends; the least of a circle's URLs if it does not."""
    seen: dict[str, None] = {}
    while key in pointers and key not in seen:
        seen[key] = None
        key = pointers[key]
    if key not in seen:
        return key
    chain = list(seen)
    return min(chain[chain.index(key) :])


def canonical_duplicates(pointers: Mapping[str, str], saved: Sequence[str]) -> list[str]:
    """The saved pages that are the same as another one.

    `pointers`: page → canonical URL that it names, also of pages that fell away before. `saved`: in the order of the
    crawl. Of pages whose chains end at the same URL, that URL's stays if it was saved, else the first; of a circle
    and what leads there, the first. So it does not matter how often this is done while the pages come in.
    """
    groups: dict[str, list[str]] = {}
    for key in saved:
        groups.setdefault(canonical_of(key, pointers), []).append(key)
    folded = []
    for end, members in groups.items():
        stays = end if end not in pointers and end in members else members[0]
        folded += [key for key in members if key != stays]
    return folded
