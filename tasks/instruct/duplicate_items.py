"""Duplicate chat items: which dialogues and questions of a corpus repeat others, or give an answer that many give.

What is held of each item: its name, two digests and a few numbers, about 300 bytes while they are compared.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.documents.shards import read_shard, write_shard
from tasks.held_out.split import VALIDATION
from tasks.similarity.shingles import Int64

REMOVAL_SCHEMA = pa.schema([("dialogue", pa.string()), ("reason", pa.string()), ("kept_id", pa.string())])
KEPT, DUPLICATE, IN_HELD_OUT, BOILERPLATE = range(4)
REASONS = np.array([None, "duplicate", "in_held_out", "boilerplate_answer"], object)


def find_duplicate_items(folder: Path, stems: Sequence[str], max_same_answer: int) -> None:
    """Write `verdicts/<stem>.parquet`: which dialogues and questions go because they, or their answers, repeat.

    One of several alike stays: a held-out one if there is one, then the one of the smallest id.
    """
    shards = [_read(folder / f"{stem}.parquet") for stem in stems]
    borders = np.cumsum([0, *(len(names) for names, *_ in shards)])
    names, held_out, texts, answers, asks = (np.concatenate(parts) for parts in zip(*shards, strict=True))
    del shards
    names, first, unit_of = np.unique(names, return_index=True, return_inverse=True)  # a dialogue's windows are one
    held_out, asks, texts, answers = held_out[first], asks[first], _numbers(texts[first]), _numbers(answers[first])
    reason, kept = np.zeros(len(names), np.int8), np.full(len(names), -1)
    ordered = np.argsort(~held_out, kind="stable")  # the names are sorted already
    stays = _first(texts, ordered)
    gone = stays != np.arange(len(names))
    reason[gone] = np.where(held_out[stays] & ~held_out, IN_HELD_OUT, DUPLICATE)[gone]
    kept[gone] = stays[gone]

    asked = ordered[asks[ordered] & ~gone[ordered]]
    often = np.bincount(answers[asked], minlength=len(names))[answers] > max_same_answer
    best = _first(answers, asked)
    boilerplate = asked[often[asked]]
    leaks = asked[~often[asked] & ~held_out[asked] & held_out[best[asked]]]
    reason[boilerplate], reason[leaks] = BOILERPLATE, IN_HELD_OUT
    kept[leaks] = best[leaks]
    for stem, start, end in zip(stems, borders[:-1], borders[1:], strict=True):
        here = np.unique(unit_of[start:end])
        here = here[reason[here] != KEPT]
        columns = [_text(names[here]), REASONS[reason[here]], _text(names[kept[here]], kept[here] < 0)]
        arrays = [pa.array(column, pa.string()) for column in columns]
        write_shard(pa.table(arrays, schema=REMOVAL_SCHEMA), folder / "verdicts" / f"{stem}.parquet")


def _read(path: Path) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.bool_], Int64, Int64, npt.NDArray[np.bool_]]:
    """Names, whether held out, digests of text and answer (int64 [items, 2]), and whether there is an answer."""
    table = read_shard(path, ["dialogue", "split", "digest", "answer"]).combine_chunks()
    names = np.array(table["dialogue"].cast(pa.binary()).to_pylist(), np.bytes_)
    held_out = pc.equal(table["split"], VALIDATION).to_numpy()
    asks = table["answer"].is_valid().to_numpy()
    return names, held_out, _halves(table["digest"]), _halves(table["answer"]), asks


def _halves(digests: pa.ChunkedArray) -> Int64:
    """16-byte digests as int64 [digests, 2]; zeros for none."""
    array = digests.fill_null(bytes(16)).combine_chunks()
    halves: Int64 = np.frombuffer(array.buffers()[1] or b"", np.int64).reshape(-1, 2)
    return halves[array.offset : array.offset + len(array)]


def _numbers(digests: Int64) -> Int64:
    """For each digest, int64 [items, 2], a number below `items` that equal ones share."""
    return np.unique(digests.view(np.dtype((np.void, 16))).ravel(), return_inverse=True)[1]


def _first(groups: Int64, ordered: Int64) -> Int64:
    """For each item the first one in `ordered` of the same group; itself where the group has none there, int64 [items]."""
    first = np.full(len(groups), -1)
    first[groups[ordered[::-1]]] = ordered[::-1]  # the last write, which is the first in the order, counts
    found = first[groups]
    return np.where(found < 0, np.arange(len(groups)), found)


def _text(names: npt.NDArray[np.bytes_], absent: npt.NDArray[np.bool_] | None = None) -> list[str | None]:
    none = np.zeros(len(names), bool) if absent is None else absent
    return [None if empty else name.decode() for name, empty in zip(names.tolist(), none.tolist(), strict=True)]
