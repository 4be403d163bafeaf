"""Paragraphs that stand in several documents, or twice in one: each stays once, in the best document that has it.

Lee et al. 2022 (arXiv:2107.06499) and CCNet (Wenzek et al. 2020, arXiv:1911.00359, section 3.1) remove repeated parts of
documents, and so boilerplate that whole-document comparison leaves.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.core.engine import map_shards
from tasks.text.comparable import comparable, digest
from tasks.text.conversation import messages_of
from tasks.text.documents import read_shard, write_shard
from tasks.text.shingles import Int64
from tasks.text.sketches import Corpus
from tasks.text.survivor import by_rank

SEPARATORS = {"line": re.compile(r"(\n+)"), "blank_line": re.compile(r"(\n(?:[^\S\n]*\n)+)")}


@dataclass(frozen=True)
class Cut:
    """What a paragraph is: how they are separated, how long one is at least, and what has to be left of a document."""

    separator: str
    characters: int
    left: int

    def paragraphs(self, text: str) -> list[str]:
        """Paragraphs and what separates them, in turn."""
        return SEPARATORS[self.separator].split(text)


@dataclass(frozen=True)
class Decided:
    """What the level did.

    Attributes:
        whole: document → (document that keeps most of its repeated text, that share of its characters, what is left).
        metrics: counts.
    """

    whole: dict[int, tuple[int, float, int]]
    metrics: dict[str, int]


def find(shards: list[Path], corpus: Corpus, removed: Int64, cut: Cut, verdicts: Path, work: Path) -> Decided:
    """Decide which paragraphs go, among the documents that other levels left.

    Documents are looked at from the best one on (`survivor.by_rank`): what an earlier one that stays has said is
    removed from a later one. Of whom too little is left goes as a whole, and what only it said may stay elsewhere.
    Writes `<shard>.text.parquet` (row, text) for the documents that got shorter. Conversations are left alone, for their
    text has to agree with their messages. Returns counts.
    """
    gone = np.zeros(len(corpus.ids), np.bool_)
    gone[removed] = True
    first = np.searchsorted(corpus.shard, np.arange(len(shards) + 1))
    jobs = []
    for number, shard in enumerate(shards):
        skip = work / f"{shard.stem}.skip.npy"
        np.save(skip, gone[first[number] : first[number + 1]])
        jobs.append((shard, skip))
    files = list(map_shards(partial(list_paragraphs, cut=cut), jobs, "dedup: paragraphs"))
    tables = [read_shard(path) for path in files]
    everything = pa.concat_tables(tables).combine_chunks()
    encoded = everything.column("digest").combine_chunks().dictionary_encode()
    numbers: Int64 = encoded.indices.to_numpy().astype(np.int64)
    owners = everything.column("row").to_numpy() + np.repeat(first[:-1], [len(table) for table in tables])
    characters, positions = (everything.column(name).to_numpy() for name in ("characters", "position"))
    repeated = np.flatnonzero(np.bincount(numbers, minlength=1)[numbers] > 1)
    rank = np.empty(len(corpus.ids), np.int64)
    rank[by_rank(corpus.priority, corpus.characters, corpus.ids)] = np.arange(len(corpus.ids))
    repeated = repeated[np.lexsort((repeated, rank[owners[repeated]]))]
    borders = np.flatnonzero(np.diff(owners[repeated], prepend=-1, append=-1))
    said: dict[int, int] = {}  # paragraph → the document that keeps it
    cut_out = np.zeros(len(numbers), np.bool_)
    whole: dict[int, tuple[int, float, int]] = {}
    total = np.bincount(owners, characters, minlength=len(corpus.ids)).astype(np.int64)
    for begin, end in pairwise(borders.tolist()):
        entries = repeated[begin:end].tolist()
        owner = int(owners[entries[0]])
        own: set[int] = set()
        out = []
        for entry in entries:
            number = int(numbers[entry])
            if number in said or number in own:
                out.append(entry)
            own.add(number)
        lost = int(characters[out].sum()) if out else 0
        if out and total[owner] - lost < cut.left:
            by: dict[int, int] = {}
            for entry in out:
                keeper = said.get(int(numbers[entry]))
                if keeper is not None:
                    by[keeper] = by.get(keeper, 0) + int(characters[entry])
            if by:  # a document that only repeats itself is shortened, not removed
                keeper = min(by, key=lambda each: (-by[each], rank[each]))
                whole[owner] = (keeper, by[keeper] / int(total[owner]), int(total[owner]) - lost)
                continue
        cut_out[out] = True
        for number in own:
            said.setdefault(number, owner)
    for number, shard in enumerate(shards):
        here = slice(first[number], first[number + 1])
        mine = np.flatnonzero(cut_out & (owners >= here.start) & (owners < here.stop))
        np.save(work / f"{shard.stem}.cut.npy", np.stack([owners[mine] - here.start, positions[mine]]))
    edits = [(shard, work / f"{shard.stem}.cut.npy") for shard in shards]
    for _ in map_shards(partial(shorten, cut=cut, verdicts=verdicts), edits, "dedup: shortening"):
        pass
    metrics = {
        "paragraphs": len(numbers),
        "removed_paragraphs": int(cut_out.sum()),
        "removed_characters": int(characters[cut_out].sum()),
        "shortened_documents": len(np.unique(owners[cut_out])),
    }
    return Decided(whole, metrics)


def list_paragraphs(job: tuple[Path, Path], cut: Cut) -> Path:
    """Write the paragraphs of a shard: row, position among the parts, characters, digest of the comparable text."""
    shard, skip = job
    table, gone = read_shard(shard, ["text", "meta"]), np.load(skip)
    found: dict[str, list[object]] = {"row": [], "position": [], "characters": [], "digest": []}
    for row, (text, meta) in enumerate(zip(*(column.to_pylist() for column in table.columns), strict=True)):
        if gone[row] or not text or messages_of(meta) is not None:
            continue
        for position, part in enumerate(cut.paragraphs(text)):
            visible = part.strip()
            if position % 2 or not visible:
                continue
            long_enough = len(visible) >= cut.characters
            # One that may repeat gets a digest of its own, from its place, so that it only counts as text that is left.
            own = hashlib.blake2b(f"{shard.stem} {row} {position}".encode(), digest_size=16, key=b"place").digest()
            found["row"].append(row)
            found["position"].append(position)
            found["characters"].append(len(visible))
            found["digest"].append(digest(comparable(part)) if long_enough else own)
    kinds = [pa.int64(), pa.int64(), pa.int64(), pa.binary(16)]
    out = skip.with_suffix(".paragraphs.parquet")
    write_shard(pa.table({key: pa.array(found[key], kind) for key, kind in zip(found, kinds, strict=True)}), out)
    return out


def shorten(job: tuple[Path, Path], cut: Cut, verdicts: Path) -> None:
    """Write the new text of a shard's documents that lose paragraphs."""
    shard, places = job
    rows, positions = np.load(places)
    texts = read_shard(shard, ["text"]).column("text")
    new, borders = [], np.flatnonzero(np.diff(rows, prepend=-1, append=-1))  # rows ascend
    for begin, end in pairwise(borders.tolist()):
        row = int(rows[begin])
        parts = cut.paragraphs(texts[row].as_py())
        for position in positions[begin:end].tolist():
            parts[position : position + 2] = [""] * len(parts[position : position + 2])  # with the separator after it
        new.append({"row": row, "text": "".join(parts).strip()})
    schema = pa.schema([("row", pa.int64()), ("text", pa.string())])
    write_shard(pa.Table.from_pylist(new, schema=schema), verdicts / f"{shard.stem}.text.parquet")
