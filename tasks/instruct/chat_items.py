"""Chat items of a corpus: collected shard by shard, and written without the repeated ones (tasks.instruct.duplicate_items).

A worker holds a shard at a time, a `.json` file of records as a whole; what is held out is looked up in files.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.conversations.conversation import SCHEMA, Message, messages_of
from tasks.conversations.turns import RejectedRecord
from tasks.core.parallel.item_guard import guard_item
from tasks.documents.shards import REMOVED_SCHEMA, SHARD_BYTES, SHARD_ROWS, read_shard, write_shard
from tasks.held_out import ngram_index, ngram_overlap
from tasks.held_out.benchmark_items import BenchmarkItem
from tasks.held_out.split import TRAIN, VALIDATION, split_of
from tasks.instruct.dialogue_rules import DialogueRules, check_dialogue
from tasks.instruct.item_rows import ADVICE, ITEM_SCHEMA, dialogue_rows, item_text
from tasks.instruct.pydoc_questions import pydoc_questions
from tasks.instruct.record_items import InstructionFile, record_rows
from tasks.similarity.canonical_text import canonical_text, digest


def collect_items(
    shard: Path | InstructionFile, folder: Path, rules: DialogueRules
) -> tuple[list[str], dict[str, int], Counter[str]]:
    """Write the valid dialogues and the questions of a shard to `<folder>/<stem>.parquet`, the others beside it.

    A file of records may become several shards. Returns their stems, how many conversations (the rejected ones with them)
    and questions there are, and how often which keys of records were left out.
    """
    ignored: Counter[str] = Counter()
    counts = {"conversations": 0, "questions": 0}
    stems: list[str] = []
    entries = record_rows(shard, rules, ignored) if isinstance(shard, InstructionFile) else _document_rows(shard, rules)
    for number, part in enumerate(_parts(entries) if isinstance(shard, InstructionFile) else [list(entries)]):
        stem = (
            f"{shard.stem}_{number:05d}" if number else shard.stem
        )  # sorts behind the first, whose name goes on with .
        removed = [entry for entry in part if "reason" in entry]
        items = [entry for entry in part if "reason" not in entry]
        write_shard(pa.Table.from_pylist(items, schema=ITEM_SCHEMA), folder / f"{stem}.parquet")
        write_shard(pa.Table.from_pylist(removed, schema=REMOVED_SCHEMA), folder / "rejected" / f"{stem}.parquet")
        dialogues = {item["dialogue"] for item in items if item["kind"] == "conversation"}
        counts["conversations"] += len(dialogues) + len(removed)
        counts["questions"] += sum(item["kind"] == "question" for item in items)
        stems.append(stem)
    return stems, counts, ignored


def _parts(entries: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Entries in lists of about SHARD_BYTES of text, at least one; the windows of a dialogue stay together."""
    part: list[dict[str, Any]] = []
    size = 0
    for entry in entries:
        full = size >= SHARD_BYTES or len(part) >= SHARD_ROWS
        if full and entry.get("dialogue") != part[-1].get("dialogue", part[-1]["id"]):
            yield part
            part, size = [], 0
        part.append(entry)
        size += len(entry.get("text") or "") + sum(len(message["content"]) for message in entry.get("messages", ()))
    yield part


def _document_rows(shard: Path, rules: DialogueRules) -> Iterator[dict[str, Any]]:
    table = read_shard(shard)
    splits = split_of(table.column("id").to_pylist(), rules.validation_fraction)
    for row, split in zip(table.to_pylist(), splits, strict=True):
        with guard_item(f"{shard}: document {row['id']} ({row['url']})", len(row["text"] or ""), ADVICE):
            entries = list(_of_document(row, split, rules))
        yield from entries


def _of_document(row: dict[str, Any], split: str, rules: DialogueRules) -> Iterator[dict[str, Any]]:
    common = {"source": row["source"], "split": split, "url": row["url"]}
    if (messages := messages_of(row["meta"])) is not None:
        try:
            checked = check_dialogue(messages, rules.max_turn_characters, rules.min_distinct)
        except RejectedRecord as rejected:
            yield row | {"reason": rejected.reason, "detail": rejected.detail}
        else:
            yield from dialogue_rows(row["id"], checked, common, rules.max_turns)
    elif rules.questions:
        for number, question in enumerate(pydoc_questions(row["url"], row["text"] or "")):
            name = f"{row['id']}#{number}"
            said: list[Message] = [
                {"role": "user", "content": question.text},
                {"role": "assistant", "content": question.answer},
            ]
            digests = {
                "digest": digest(canonical_text(question.text)),
                "answer": digest(canonical_text(question.answer)),
            }
            yield common | digests | {"id": name, "dialogue": name, "kind": "question", "messages": said}


def write_held_out_index(
    folder: Path, stems: Sequence[str], benchmark_items: Iterable[BenchmarkItem], ngram: int, index: Path
) -> None:
    """Write the n-gram index of the held-out items that stay, and of the benchmark items, which are held out as well."""
    writer = ngram_index.NgramIndexWriter(index, ngram)
    for stem in stems:
        verdicts = _removals(folder, stem)
        table = read_shard(folder / f"{stem}.parquet")
        rows = table.filter(pc.equal(table["split"], VALIDATION)).to_pylist()
        held_out = [row for row in rows if row["dialogue"] not in verdicts]
        parts = [(row, text) for row in held_out for text in ngram_overlap.item_texts(row["kind"], row["messages"])]
        names, texts = [row["id"] for row, _ in parts], [text for _, text in parts]
        writer.add(names, texts, [row["kind"] == "question" for row, _ in parts])
    for item in benchmark_items:
        writer.add([item.name] * len(item.texts), item.texts, [True] * len(item.texts))
    writer.close()
    np.save(index / "of_item.npy", ngram_overlap.NgramIndex.load(index).rare_ngrams().per_item)


def _removals(folder: Path, stem: str) -> dict[str, dict[str, Any]]:
    return {row["dialogue"]: row for row in read_shard(folder / "verdicts" / f"{stem}.parquet").to_pylist()}


def write_items(stem: str, folder: Path, index: Path, max_overlap: float, target: Path) -> dict[str, Any]:
    """Write a shard's items to `train`, `held_out` and `removed` under `target`; returns counts."""
    verdicts, held_out = _removals(folder, stem), ngram_overlap.NgramIndex.load(index)
    rows = read_shard(folder / f"{stem}.parquet").to_pylist()
    training = [row for row in rows if row["split"] == TRAIN and row["dialogue"] not in verdicts]
    hits = held_out.hits(["\n".join(message["content"] for message in row["messages"]) for row in training])
    best, share = held_out.best_match(hits, ngram_overlap.RareNgrams(np.load(index / "of_item.npy", mmap_mode="r")))
    for row, item, overlap in zip(training, best.tolist(), share.tolist(), strict=True):
        if overlap >= max_overlap:
            found = {"reason": "in_held_out", "matched": held_out.name(item), "similarity": round(overlap, 4)}
            verdicts[row["dialogue"]] = found
    units: dict[str, Counter[str]] = {name: Counter() for name in ("train", "held_out", "removed", "removed_questions")}
    items: dict[str, list[dict[str, Any]]] = {"train": [], "held_out": []}
    sizes, pairs = Counter[str](), Counter[str]()
    removed = read_shard(folder / "rejected" / f"{stem}.parquet").to_pylist()
    units["removed"].update(row["reason"] for row in removed)
    seen: set[str] = set()
    for row in rows:
        new = row["dialogue"] not in seen
        seen.add(row["dialogue"])
        kind = f"{row['kind']}s"
        if verdict := verdicts.get(row["dialogue"]):
            units["removed_questions" if kind == "questions" else "removed"][verdict["reason"]] += new
            text = item_text(row["messages"], row["rejected"])
            removed.append(row | {"text": text, "meta": None} | verdict)
        else:
            split = "train" if row["split"] == TRAIN else "held_out"
            items[split].append(row)
            units[split][kind] += new
            sizes[split] += sum(len(message["content"].encode()) for message in row["messages"])
            pairs[split] += row["rejected"] is not None
    for split, kept in items.items():
        table = pa.Table.from_pylist([{name: row[name] for name in SCHEMA.names} for row in kept], schema=SCHEMA)
        write_shard(table, target / split / f"{stem}.parquet")
    write_shard(pa.Table.from_pylist(removed, schema=REMOVED_SCHEMA), target / "removed" / f"{stem}.parquet")
    return {
        **{name: dict(counts) for name, counts in units.items()},
        **{
            f"{split}_size": {"items": len(items[split]), "pairs": pairs[split], "bytes": sizes[split]}
            for split in items
        },
    }
