"""Paragraph deduplication: paragraphs that stand in several documents, or twice in one; each stays once, in the best document that has it.

Lee et al. 2022 (arXiv:2107.06499) and CCNet (Wenzek et al. 2020, arXiv:1911.00359, section 3.1) remove repeated parts of
documents, and so boilerplate that whole-document comparison leaves.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.conversations.conversation import messages_of
from tasks.core.parallel.engine import map_shards
from tasks.dedup.keep_rule import rank_documents
from tasks.dedup.sketched_corpus import SketchedCorpus, as_uint64, corpus_array, group_numbers
from tasks.documents import parquet
from tasks.documents.sections import meta_without_lines
from tasks.documents.shards import read_shard, write_shard
from tasks.similarity import lsh
from tasks.similarity.canonical_text import canonical_text, digest
from tasks.similarity.shingles import Int64

SEPARATORS = {"line": re.compile(r"(\n+)"), "blank_line": re.compile(r"(\n(?:[^\S\n]*\n)+)")}


@dataclass(frozen=True)
class ParagraphRules:
    """What a paragraph is: how they are separated, how long one is at least, and what has to be left of a document."""

    separator: str
    characters: int
    left: int

    def paragraphs(self, text: str) -> list[str]:
        """Paragraphs and what separates them, in turn."""
        return SEPARATORS[self.separator].split(text)


@dataclass(frozen=True)
class ParagraphRemovals:
    """What the level did.

    Attributes:
        whole: document → (document that keeps most of its repeated text, that share of its characters, what is left).
        metrics: counts.
    """

    documents: dict[int, tuple[int, float, int]]
    metrics: dict[str, int]


def find_repeated_paragraphs(
    shards: list[Path],
    corpus: SketchedCorpus,
    removed: Int64,
    needed: Collection[int],
    rules: ParagraphRules,
    removals: Path,
    work: Path,
) -> ParagraphRemovals:
    """Decide which paragraphs go, among the documents that other levels left.

    Documents are looked at from the best one on (`keep_rule.rank_documents`): what an earlier one that stays has said is
    removed from a later one. Of whom too little is left goes as a whole, and what only it said may stay elsewhere; if it is
    `needed`, for others went that are like it, it stays as it is.
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
    listed = list(map_shards(partial(list_paragraphs, rules=rules), jobs, "dedup: paragraphs"))
    owners, positions, characters, numbers = _repeated_paragraphs([path for path, _ in listed], first, work)
    rank = np.empty(len(corpus.ids), np.int64)
    rank[rank_documents(corpus.priority, corpus.characters, corpus.ids)] = np.arange(len(corpus.ids))
    order = np.lexsort((positions, rank[owners]))
    owners, positions, characters, numbers = (each[order] for each in (owners, positions, characters, numbers))
    borders = np.flatnonzero(np.diff(owners, prepend=-1, append=-1))
    said = np.full(int(numbers.max(initial=-1)) + 1, -1)  # paragraph → the document that keeps it
    cut_out = np.zeros(len(numbers), np.bool_)
    whole: dict[int, tuple[int, float, int]] = {}
    total = np.concatenate([np.load(path.with_suffix(".total.npy")) for path, _ in listed])
    for begin, end in pairwise(borders.tolist()):
        owner = int(owners[begin])
        own: set[int] = set()
        out = []
        for entry, number in enumerate(numbers[begin:end].tolist(), begin):
            if said[number] >= 0 or number in own:
                out.append(entry)
            own.add(number)
        lost = int(characters[out].sum()) if out else 0
        if out and total[owner] - lost < rules.left:
            by: dict[int, int] = {}
            for entry in out:
                keeper = int(said[numbers[entry]])
                if keeper >= 0:
                    by[keeper] = by.get(keeper, 0) + int(characters[entry])
            if owner in needed:
                out = []
            elif by:  # a document that only repeats itself is shortened, not removed
                keeper = min(by, key=lambda each: (-by[each], rank[each]))
                whole[owner] = (keeper, by[keeper] / int(total[owner]), int(total[owner]) - lost)
                continue
        cut_out[out] = True
        for number in own:
            said[number] = owner if said[number] < 0 else said[number]
    chosen = np.flatnonzero(cut_out)
    chosen = chosen[np.lexsort((positions[chosen], owners[chosen]))]
    for number, shard in enumerate(shards):
        here = slice(first[number], first[number + 1])
        mine = chosen[np.searchsorted(owners[chosen], here.start) : np.searchsorted(owners[chosen], here.stop)]
        np.save(work / f"{shard.stem}.cut.npy", np.stack([owners[mine] - here.start, positions[mine]]))
    edits = [(shard, work / f"{shard.stem}.cut.npy") for shard in shards]
    for _ in map_shards(partial(remove_paragraphs, rules=rules, removals=removals), edits, "dedup: shortening"):
        pass
    metrics = {
        "paragraphs": sum(paragraphs for _, paragraphs in listed),
        "removed_paragraphs": int(cut_out.sum()),
        "removed_characters": int(characters[cut_out].sum()),
        "shortened_documents": len(np.unique(owners[cut_out])),
    }
    return ParagraphRemovals(whole, metrics)


def _repeated_paragraphs(files: list[Path], first: Int64, work: Path) -> tuple[Int64, Int64, Int64, Int64]:
    """The long paragraphs that stand in the corpus more than once: document, position, characters, number of the text.

    Half of each digest finds those that may, the whole ones decide. Beside the repeated ones a paragraph costs 8 bytes and
    the place in the order; of a corpus of more than MAX_IN_MEMORY paragraphs the halves lie in a file of `work`.
    """
    lengths = [parquet.count_rows(path) for path in files]
    ends = np.cumsum(lengths, dtype=np.int64)
    halves = corpus_array(work, "paragraphs", "u8", int(ends[-1]))
    for path, end, length in zip(files, ends, lengths, strict=True):
        halves[end - length : end] = as_uint64(read_shard(path, ["digest"]).column("digest"), 2)[:, 0]
    may = np.zeros(len(halves), np.bool_)
    may[lsh.candidate_documents([halves], np.arange(len(halves)))] = True
    parts = []
    for number, (path, end, length) in enumerate(zip(files, ends, lengths, strict=True)):
        table = read_shard(path).filter(pa.array(may[end - length : end]))
        owner = table.column("row").to_numpy() + first[number]
        numbers = (table.column(name).to_numpy() for name in ("position", "characters"))
        parts.append((owner, *numbers, as_uint64(table.column("digest"), 2)))
    owners, positions, characters, digests = (np.concatenate(part) for part in zip(*parts, strict=True))
    texts = group_numbers(digests)
    again = np.bincount(texts, minlength=1)[texts] > 1
    return owners[again], positions[again], characters[again], texts[again]


def list_paragraphs(job: tuple[Path, Path], rules: ParagraphRules) -> tuple[Path, int]:
    """Write the long paragraphs of a shard: row, position among the parts, characters, digest of the canonical text.

    Beside them, int64 [documents], the visible characters of all paragraphs. Returns the file and how many these are.
    """
    shard, skip = job
    table, gone = read_shard(shard, ["text", "meta"]), np.load(skip)
    found: dict[str, list[object]] = {"row": [], "position": [], "characters": [], "digest": []}
    total, count = np.zeros(len(table), np.int64), 0
    for row, (text, meta) in enumerate(zip(*(column.to_pylist() for column in table.columns), strict=True)):
        if gone[row] or not text or messages_of(meta) is not None:
            continue
        for position, part in enumerate(rules.paragraphs(text)):
            visible = part.strip()
            if position % 2 or not visible:
                continue
            count += 1
            total[row] += len(visible)
            if len(visible) >= rules.characters:
                found["row"].append(row)
                found["position"].append(position)
                found["characters"].append(len(visible))
                found["digest"].append(digest(canonical_text(part)))
    kinds = [pa.int64(), pa.int64(), pa.int64(), pa.binary(16)]
    out = skip.with_suffix(".paragraphs.parquet")
    write_shard(pa.table({key: pa.array(found[key], kind) for key, kind in zip(found, kinds, strict=True)}), out)
    np.save(out.with_suffix(".total.npy"), total)
    return out, count


def remove_paragraphs(job: tuple[Path, Path], rules: ParagraphRules, removals: Path) -> None:
    """Write the new text and `meta` of a shard's documents that lose paragraphs."""
    shard, places = job
    rows, positions = np.load(places)
    table = read_shard(shard, ["text", "meta"])
    new, borders = [], np.flatnonzero(np.diff(rows, prepend=-1, append=-1))  # rows ascend
    for begin, end in pairwise(borders.tolist()):
        row = int(rows[begin])
        before, meta = (table.column(name)[row].as_py() for name in ("text", "meta"))
        parts = rules.paragraphs(before)
        for position in positions[begin:end].tolist():
            parts[position : position + 2] = [""] * len(parts[position : position + 2])  # with the separator after it
        text = "".join(parts).strip()
        new.append({"row": row, "text": text, "meta": meta_without_lines(meta, before, text)})
    schema = pa.schema([("row", pa.int64()), ("text", pa.string()), ("meta", pa.string())])
    write_shard(pa.Table.from_pylist(new, schema=schema), removals / f"{shard.stem}.text.parquet")
