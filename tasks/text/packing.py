"""Rows of equal length from documents of any length: best-fit-decreasing bin packing, so that few documents are cut.

Ding et al. 2024, "Fewer Truncations Improve Language Modeling" (arXiv:2404.10830): a document longer than a row is cut
into row-sized chunks, of which only the last is shorter; then chunks are packed, longest first, each into the fullest
row that still has room for it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


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


def chunk(offsets: Int64, capacity: int) -> Int64:
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


def pack_rows(offsets: Int64, capacity: int) -> PackedRows:
    """Pack a stream's documents (`offsets`: int64 [documents + 1]) into rows of `capacity` tokens."""
    chunks = chunk(offsets, capacity)
    row_of, rows = best_fit_decreasing(chunks[:, 1], capacity)
    order = np.argsort(row_of, kind="stable")
    borders = np.concatenate([[0], np.cumsum(np.bincount(row_of, minlength=rows))]).astype(np.int64)
    return PackedRows(chunks[order], borders)
