"""Sequence packing: rows of equal length from documents of any length.

`best_fit`: Ding et al. 2024, "Fewer Truncations Improve Language Modeling" (arXiv:2404.10830): a document longer than a
row is cut into row-sized chunks, of which only the last is shorter; then chunks are packed, longest first, each into the
fullest row that still has room for it. Few documents are cut and hardly any room is lost.
`greedy`: the same chunks in the order of the stream; one that does not fit begins a new row (next-fit). Rows keep the
order of the corpus, and pay for it with padding.
`chunked`: the stream is cut wherever a row is full (GPT-2, GPT-3). No padding but in the last row; documents are cut at
random places.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Strategy = Literal["best_fit", "greedy", "chunked"]


@dataclass(frozen=True)
class PackedRows:
    """Rows as pieces of a token stream.

    Attributes:
        segments: int64 [segments, 2]: (first token in the stream, number of tokens), in the order of the rows.
            No segment crosses a document's border.
        rows: int64 [rows + 1]: row r consists of the segments `rows[r]` to `rows[r + 1]`.
    """

    segments: Int64
    rows: Int64

    @property
    def row_lengths(self) -> Int64:
        """int64 [rows]: tokens in each row; what is missing to the row's capacity is padding."""
        sums = np.concatenate([[0], np.cumsum(self.segments[:, 1])])
        lengths: Int64 = sums[self.rows[1:]] - sums[self.rows[:-1]]
        return lengths


def chunk_documents(offsets: Int64, capacity: int) -> Int64:
    """Cut documents into chunks of at most `capacity` tokens.

    `offsets`, int64 [documents + 1], are the documents' borders in the stream. Returns int64 [chunks, 2]: (start,
    length), in the order of the stream; every chunk but a document's last is full.
    """
    lengths = np.diff(offsets)
    counts = -(-lengths // capacity)
    document = np.repeat(np.arange(len(lengths)), counts)
    nth = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = offsets[document] + nth * capacity
    end = np.minimum(start + capacity, offsets[document + 1])
    return np.stack([start, end - start], axis=1)


def best_fit_decreasing(lengths: Int64, capacity: int) -> tuple[Int64, int]:
    """Assign items to bins: longest first, each into the fullest bin with room for it, else into a new one.

    Equal items are placed together, so that the work grows with the number of distinct (item length, room left)
    pairs and not with the number of items. `lengths`, int64 [items], are between 1 and `capacity`. Returns each
    item's bin, int64 [items], and the number of bins.

    Raises:
        ValueError: an item is empty or longer than a bin.
    """
    if len(lengths) and (lengths.min() < 1 or lengths.max() > capacity):
        raise ValueError(f"item lengths must be between 1 and {capacity}")
    order = np.argsort(-lengths, kind="stable")
    bin_of = np.empty(len(lengths), dtype=np.int64)
    with_room: dict[int, list[Int64]] = {}  # room left → bins, in blocks
    room_counts = np.zeros(capacity + 1, dtype=np.int64)
    bins = at = 0

    def put_back(block: Int64, room: int) -> None:
        if room and len(block):
            with_room.setdefault(room, []).append(block)
            room_counts[room] += len(block)

    distinct, counts = np.unique(lengths, return_counts=True)
    for length, todo in zip(distinct[::-1].tolist(), counts[::-1].tolist(), strict=True):
        while todo:
            fitting = np.flatnonzero(room_counts[length:])
            if len(fitting):
                room = int(fitting[0]) + length
                block = with_room[room].pop()
                room_counts[room] -= len(block)
            else:
                room = capacity
                needed = -(-todo // (capacity // length))
                block = np.arange(bins, bins + needed)
                bins += needed
            # A bin that has taken one is the fullest with room, so it takes the next ones too, until it is full.
            fits = room // length
            needed = -(-todo // fits)
            used, rest = block[:needed], block[needed:]
            placed = min(todo, len(used) * fits)
            bin_of[order[at : at + placed]] = np.repeat(used, fits)[:placed]
            full, partly = divmod(placed, fits)
            put_back(rest, room)
            put_back(used[:full], room - fits * length)
            put_back(used[full:], room - partly * length)
            at += placed
            todo -= placed
    return bin_of, bins


def next_fit(lengths: Int64, capacity: int) -> tuple[Int64, int]:
    """Assign items to bins in their order: one that does not fit into the last bin begins a new one.

    `lengths`, int64 [items], are between 1 and `capacity`. Returns each item's bin, int64 [items], and the number of bins.
    """
    bin_of = np.empty(len(lengths), dtype=np.int64)
    used, current = capacity, -1
    for item, length in enumerate(lengths.tolist()):
        if used + length > capacity:
            used, current = 0, current + 1
        bin_of[item] = current
        used += length
    return bin_of, current + 1


def pack_rows(offsets: Int64, capacity: int, strategy: Strategy = "best_fit", crop: bool = False) -> PackedRows:
    """Pack a stream's documents (`offsets`: int64 [documents + 1]) into rows of `capacity` tokens.

    Each token is in exactly one row; with `crop`, those past a document's first `capacity` tokens are in none.
    """
    if strategy == "chunked":
        return _pack_chunked(offsets, capacity, crop)
    chunks = chunk_documents(offsets, capacity)
    if crop:
        chunks = chunks[np.isin(chunks[:, 0], offsets[:-1])]  # those that begin a document
    fit = best_fit_decreasing if strategy == "best_fit" else next_fit
    row_of, rows = fit(chunks[:, 1], capacity)
    order = np.argsort(row_of, kind="stable")
    borders = np.concatenate([[0], np.cumsum(np.bincount(row_of, minlength=rows))]).astype(np.int64)
    return PackedRows(chunks[order], borders)


def _pack_chunked(offsets: Int64, capacity: int, crop: bool) -> PackedRows:
    kept = np.minimum(np.diff(offsets), capacity if crop else np.iinfo(np.int64).max)
    ends = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)  # documents' borders in what is left of the stream
    row_starts = np.arange(0, ends[-1], capacity)
    starts = np.unique(np.concatenate([row_starts, ends[:-1]]))
    document = document_at(ends, starts)
    segments = np.stack([offsets[document] + starts - ends[document], np.diff(starts, append=ends[-1])], axis=1)
    return PackedRows(segments.astype(np.int64), np.append(np.searchsorted(starts, row_starts), len(starts)))


def document_at(offsets: Int64, positions: Int64) -> Int64:
    """The document, int64, of each token at `positions` (from 0 to `offsets[-1]`, exclusive) of the stream.

    It is the number of a row of `documents.parquet`, which holds the document's id. For a token in a packed row, the
    position is `segments[s, 0]` and how far the token is from the beginning of segment s.
    """
    found: Int64 = np.searchsorted(offsets, positions, side="right") - 1
    return found
