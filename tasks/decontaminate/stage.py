"""Keep what models are measured on out of what they are trained on.

A training document that overlaps too much with a held-out item (question, answer, conversation), a validation document
or an item of a benchmark file is removed, with the item's id. The overlap is that of tasks.held_out.ngram_overlap.
Afterwards the documents that were written are read again and held against the items once more: one that still breaks
the rule fails the pipeline.

A worker's memory is that of a shard. The main process holds about 200 bytes for each held-out item (a question and its
answer are two); the n-grams are in files (tasks.held_out.ngram_index), with 8 bytes each for their frequencies.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from tasks.core.errors import UserError
from tasks.core.parallel.engine import map_shards
from tasks.core.parallel.worker_pool import preload_workers
from tasks.core.params import StageParams, require_files
from tasks.core.paths import Inputs, Metrics, Outputs
from tasks.documents.removal_warnings import warn_of_removals
from tasks.documents.shards import REMOVED_SCHEMA, SCHEMA, cast_to_schema, read_shard, shard_paths, write_shard
from tasks.documents.source_counts import count_by_source, funnel_metrics
from tasks.held_out import evaluation_set
from tasks.held_out.benchmark_items import BenchmarkItem, read_benchmark_items
from tasks.held_out.split import TRAIN, VALIDATION

log = logging.getLogger(__name__)
SPLIT_SCHEMA = SCHEMA.append(pa.field("split", pa.string()))


class DecontaminateParams(StageParams):
    """Training documents that hold what is held out go."""

    ngram: int = Field(8, ge=4, le=50, description="Words in an n-gram; shorter items are looked for as a whole.")
    max_overlap: float = Field(
        0.5,
        gt=0,
        le=1,
        description="A training document that shares this much of its n-grams with a held-out item is removed.",
    )
    max_documents: int = Field(
        10,
        ge=1,
        description="N-grams in more training documents than this are boilerplate and do not count (GPT-3's limit).",
    )
    references: tuple[str, ...] = Field(
        (),
        description="Files of benchmark items to keep out as well, declared in dvc.yaml: text, question or messages.",
    )

    def check_paths(self, root: Path) -> None:
        """Files of benchmark items."""
        require_files(self.references, root, "decontaminate.references")


def run(params: DecontaminateParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Read `documents`, `split`, `held_out` and the benchmark files; write `documents` (with the column `split`) and `removed`.

    Raises:
        UserError: a benchmark file is no dependency in dvc.yaml, is missing, empty or broken, the split names other
            documents than there are, or the last check finds a document that should be gone.
    """
    preload_workers(
        "tasks.decontaminate.document_frequency", "tasks.held_out.ngram_overlap", "tasks.similarity.warm_kernels"
    )
    from tasks.decontaminate import document_frequency
    from tasks.similarity import kernels

    kernels.compile_kernels()
    shards = shard_paths(inputs["documents"])
    index, found = outputs.work / "index", outputs.work / "hits"
    for old in (index, found):
        shutil.rmtree(old, ignore_errors=True)
        old.mkdir()
    benchmark_items = list(read_benchmark_items("decontaminate", params.references, inputs))
    benchmark_items += evaluation_set.benchmark_items(inputs["evaluation"])
    items = _write_index(shards, inputs["split"], inputs["held_out"], benchmark_items, params.ngram, index)
    look = partial(_find_ngrams, split=inputs["split"], index=index, found=found)
    ngrams = document_frequency.count_document_frequency(
        map_shards(look, shards, "decontaminate: n-grams"), index, params.max_documents
    )
    divide = partial(
        _write_split_shard, index=index, found=found, split=inputs["split"], params=params, target=outputs.root
    )
    counts = list(map_shards(divide, shards, "decontaminate: writing"))
    written = [outputs / "documents" / shard.name for shard in shards]
    left = [
        name
        for names in map_shards(partial(_still_contaminated, index=index, params=params), written, "gate")
        for name in names
    ]
    if left:
        raise UserError(
            f"decontaminate: {len(left)} training documents still hold held-out items, such as {left[0]}. "
            "Nothing may train on them: please report this as a defect"
        )
    removed = _sum(shard["removed"] for shard in counts)
    metrics = funnel_metrics(
        [shard["before"] for shard in counts],
        [shard["after"] for shard in counts],
        {"contaminated": sum(removed.values())},
    )
    if benchmark_items:
        metrics["references"] = _counts_by_file(benchmark_items, _sum(shard["matched"] for shard in counts))
    warn_of_removals("decontaminate", metrics["sources"], outputs / "removed", {"contaminated": "max_overlap"}, params)
    return metrics | {
        "removed_by_source": removed,
        "removed_for": _sum(shard["kinds"] for shard in counts),
        "train": _sum(shard[TRAIN] for shard in counts),
        "validation": _sum(shard[VALIDATION] for shard in counts),
        "held_out": items | ngrams,
    }


def _sum(counts: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))


def _counts_by_file(benchmark_items: Sequence[BenchmarkItem], matched: dict[str, int]) -> dict[str, dict[str, int]]:
    """For each benchmark file its items, those found, and the training documents removed for them; says so."""
    files: dict[str, dict[str, int]] = {}
    for item in benchmark_items:
        counts = files.setdefault(item.file, {"items": 0, "items_found": 0, "documents_removed": 0})
        counts["items"] += 1
        counts["items_found"] += item.name in matched
        counts["documents_removed"] += matched.get(item.name, 0)
    for file, counts in files.items():
        log.log(
            logging.WARNING if counts["documents_removed"] else logging.INFO,
            "decontaminate: %s: %d of its %d items stand in the corpus; %d training documents are removed for them",
            *(file, counts["items_found"], counts["items"], counts["documents_removed"]),
        )
    return files


def _splits(shard: Path, split: Path) -> list[str]:
    """The split of each document of a shard, in its order."""
    table = read_shard(split / shard.name, ["id", "split"])
    if table.column("id").to_pylist() != read_shard(shard, ["id"]).column("id").to_pylist():
        raise UserError(f"{split / shard.name}: names other documents than {shard}. Make it again: dvc repro instruct")
    splits: list[str] = table.column("split").to_pylist()
    return splits


def _write_index(
    shards: Sequence[Path],
    split: Path,
    held_out: Path,
    benchmark_items: Sequence[BenchmarkItem],
    ngram: int,
    folder: Path,
) -> dict[str, int]:
    """Write the index of held-out items, validation documents and benchmark items; returns how many there are of each kind."""
    from tasks.held_out import ngram_index, ngram_overlap

    kinds: list[str] = []
    writer = ngram_index.NgramIndexWriter(folder, ngram)

    def add(items: list[tuple[str, str, str]]) -> None:
        kinds.extend(kind for _, kind, _ in items)
        short = [kind in ("question", "reference") for _, kind, _ in items]
        writer.add([name for name, _, _ in items], [text for *_, text in items], short)

    for path in shard_paths(held_out):
        rows = read_shard(path).to_pylist()
        add([(r["id"], r["kind"], text) for r in rows for text in ngram_overlap.item_texts(r["kind"], r["messages"])])
    for shard in shards:
        held = pa.array([name == VALIDATION for name in _splits(shard, split)], pa.bool_())
        rows = read_shard(shard, ["id", "text"]).filter(held).to_pylist()
        add([(row["id"], "document", row["text"] or "") for row in rows])
    add([(item.name, "reference", text) for item in benchmark_items for text in item.texts])
    writer.close()
    if not kinds:
        log.warning(
            "decontaminate: nothing is held out, so nothing can be contaminated. Raise instruct.validation_fraction"
        )
    np.save(folder / "kinds.npy", np.array(kinds, dtype=np.str_))
    reached = ngram_overlap.NgramIndex.load(folder).rare_ngrams().per_item.any(axis=0)
    return {
        **{f"{kind}s": kinds.count(kind) for kind in ("conversation", "document", "question", "reference")},
        "too_short": int((~reached).sum()),
    }


def _find_ngrams(shard: Path, split: Path, index: Path, found: Path) -> Path:
    """Keep the n-grams of the index that a shard's documents have, and in how many training documents each is."""
    from tasks.held_out import ngram_overlap

    hits = ngram_overlap.NgramIndex.load(index).hits(
        [text or "" for text in read_shard(shard, ["text"])["text"].to_pylist()]
    )
    np.savez(found / f"{shard.stem}.npz", hits.sizes, *hits.rows, *hits.grams)
    training = np.array([name == TRAIN for name in _splits(shard, split)], bool)
    counts = found / f"{shard.stem}.counts.npz"
    np.savez(counts, *(array for table in hits.document_frequency(training) for array in table))
    return counts


def _write_split_shard(
    shard: Path, index: Path, found: Path, split: Path, params: DecontaminateParams, target: Path
) -> dict[str, Any]:
    """Write a shard's documents that stay, and those that go; returns counts."""
    from tasks.decontaminate import document_frequency
    from tasks.held_out import ngram_overlap

    items = ngram_overlap.NgramIndex.load(index)
    with np.load(found / f"{shard.stem}.npz") as kept:
        sizes, *arrays = kept.values()
    tables = len(items.tables)
    hits = ngram_overlap.NgramHits(arrays[:tables], arrays[tables:], sizes)
    item, share = items.contaminated(
        hits, *document_frequency.rare_ngrams(items, index, params.max_documents), params.max_overlap
    )
    splits = _splits(shard, split)
    table = cast_to_schema(read_shard(shard))
    gone = np.array([name == TRAIN for name in splits], bool) & (item >= 0)
    mask = pa.array(gone)
    stay = table.append_column("split", pa.array(splits, pa.string())).filter(pc.invert(mask))
    removed = table.filter(mask)
    kinds = np.load(index / "kinds.npy", mmap_mode="r")[item[gone]]
    matched = [items.name(number) for number in item[gone]]
    columns = {
        "reason": ["contaminated"] * len(removed),
        "detail": [
            f"overlap with a {'' if kind == 'reference' else 'held-out '}{kind}: {value:.3f}"
            for kind, value in zip(kinds, share[gone], strict=True)
        ],
        "kept_id": [None] * len(removed),
        "similarity": share[gone].round(6),
        "matched": matched,
    }
    for name, values in columns.items():
        removed = removed.append_column(name, pa.array(values, REMOVED_SCHEMA.field(name).type))
    write_shard(stay.cast(SPLIT_SCHEMA), target / "documents" / shard.name)
    write_shard(removed.cast(REMOVED_SCHEMA), target / "removed" / shard.name)
    sizes_of = {name: stay.filter(pc.equal(stay.column("split"), name)) for name in (TRAIN, VALIDATION)}
    return {
        "before": count_by_source(table),
        "after": count_by_source(stay),
        "removed": {source: size["documents"] for source, size in count_by_source(removed).items()},
        "kinds": dict(Counter(kinds.tolist())),
        "matched": dict(Counter(matched)),
        **{
            name: {"documents": len(part), "bytes": sum(size["bytes"] for size in count_by_source(part).values())}
            for name, part in sizes_of.items()
        },
    }


def _still_contaminated(shard: Path, index: Path, params: DecontaminateParams) -> list[str]:
    """Ids of the training documents in a written shard that break the rule."""
    from tasks.decontaminate import document_frequency
    from tasks.held_out import ngram_overlap

    items = ngram_overlap.NgramIndex.load(index)
    table = read_shard(shard, ["id", "text", "split"])
    training = table.filter(pc.not_equal(table.column("split"), VALIDATION))
    hits = items.hits([text or "" for text in training.column("text").to_pylist()])
    item, _ = items.contaminated(
        hits, *document_frequency.rare_ngrams(items, index, params.max_documents), params.max_overlap
    )
    return list(training.filter(pa.array(item >= 0)).column("id").to_pylist())
