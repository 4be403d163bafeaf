"""Boilerplate: lines that stand on many pages of a site; menus, banners and footers that extraction left.

As CCNet does for whole crawls (Wenzek et al. 2020, arXiv:1911.00359, section 3.1), here by source and by share of its
pages. Memory: 8 bytes for each distinct line of a page, in one source at a time.
"""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

UInt64 = npt.NDArray[np.uint64]
MIN_PAGES = 10  # on fewer, a line is a coincidence


def line_hash(line: str) -> int:
    """64 bits of BLAKE2b of a line without the white space around it."""
    return int.from_bytes(
        hashlib.blake2b(line.strip().encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )


def page_line_hashes(text: str) -> UInt64:
    """Hashes of the distinct lines with a letter, uint64 [lines], sorted."""
    lines = {line.strip() for line in text.split("\n")}
    hashes = {line_hash(line) for line in lines if any(map(str.isalpha, line))}
    return np.array(sorted(hashes), np.uint64)


def common_line_hashes(pages: list[Path], share: float) -> UInt64:
    """Of .npz files with `hashes` (of each page, one after the other) and `pages`: those on more than `share` of all pages."""
    shards = [np.load(path) for path in pages]
    count = sum(int(shard["pages"]) for shard in shards)
    hashes, on_pages = np.unique(np.concatenate([shard["hashes"] for shard in shards]), return_counts=True)
    return hashes[on_pages > max(share * count, MIN_PAGES - 1)]


def drop_common_lines(text: str, common: UInt64) -> tuple[str, list[str]]:
    """The text without the lines in `common` (sorted), and those; at most one line is left blank between others."""
    lines = text.split("\n")
    hashes = np.array([line_hash(line) for line in lines], np.uint64)
    drop = np.isin(hashes, common)
    if not drop.any():
        return text, []
    kept: list[str] = []
    for line, gone in zip(lines, drop.tolist(), strict=True):
        if not gone and (line or (kept and kept[-1])):
            kept.append(line)
    return "\n".join(kept).strip("\n"), [line.strip() for line, gone in zip(lines, drop.tolist(), strict=True) if gone]
