"""Keep what models are measured on out of what they are trained on.

A training document that overlaps too much with a held-out item (question, answer, conversation), a validation document
or an item of a reference file (a benchmark) is removed, with the item's id. The overlap is that of tasks.text.ngrams.
Afterwards the documents that were written are read again and held against the items once more: one that still breaks
the rule fails the pipeline.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from tasks.core.engine import map_shards
from tasks.core.errors import UserError
from tasks.core.params import StageParams
from tasks.core.paths import Inputs, Metrics, Outputs
from tasks.core.stage import stage_main
from tasks.text.documents import REMOVED_SCHEMA, SCHEMA, as_documents, read_shard, shard_paths, write_shard
from tasks.text.references import Reference, read_references
from tasks.text.sizes import by_source, funnel
from tasks.text.split import TRAIN, VALIDATION

if TYPE_CHECKING:
    from tasks.text.ngrams import Rule

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


def run(params: DecontaminateParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Read `documents`, `split`, `held_out` and the references; write `documents` (with the column `split`) and `removed`.

    Raises:
        UserError: a reference file is no dependency in dvc.yaml, is missing, empty or broken, the split names other
            documents than there are, or the gate finds a document that should be gone.
    """
    from tasks.text import kernels
    from tasks.text.ngrams import Rule

    kernels.prepare()
    shards = shard_paths(inputs["documents"])
    index, found = outputs.work / "index", outputs.work / "hits"
    for old in (index, found):
        shutil.rmtree(old, ignore_errors=True)
        old.mkdir()
    references = list(read_references("decontaminate", params.references, inputs))
    items = _index(shards, inputs["split"], inputs["held_out"], references, params.ngram, index)
    look = partial(_look, split=inputs["split"], index=index, found=found)
    frequencies = list(map_shards(look, shards, "decontaminate: n-grams"))
    totals = [np.sum(group, axis=0) for group in zip(*frequencies, strict=True)]
    np.savez(index / "frequencies.npz", *totals)
    rule = Rule(params.max_overlap, params.max_documents)
    divide = partial(_divide, index=index, found=found, split=inputs["split"], rule=rule, target=outputs.root)
    counts = list(map_shards(divide, shards, "decontaminate: writing"))
    written = [outputs / "documents" / shard.name for shard in shards]
    left = [name for names in map_shards(partial(_gate, index=index, rule=rule), written, "gate") for name in names]
    if left:
        raise UserError(
            f"decontaminate: {len(left)} training documents still hold held-out items, such as {left[0]}. "
            "Nothing may train on them: please report this as a defect"
        )
    removed = _sum(shard["removed"] for shard in counts)
    metrics = funnel(
        [shard["before"] for shard in counts],
        [shard["after"] for shard in counts],
        {"contaminated": sum(removed.values())},
    )
    if params.references:
        metrics["references"] = _by_file(references, _sum(shard["matched"] for shard in counts))
    return metrics | {
        "removed_by_source": removed,
        "removed_for": _sum(shard["kinds"] for shard in counts),
        "train": _sum(shard[TRAIN] for shard in counts),
        "validation": _sum(shard[VALIDATION] for shard in counts),
        "held_out": items
        | {
            "ngrams": sum(len(group) for group in totals),
            "boilerplate_ngrams": sum(int((group > params.max_documents).sum()) for group in totals),
        },
    }


def _sum(counts: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))


def _by_file(references: Sequence[Reference], matched: dict[str, int]) -> dict[str, dict[str, int]]:
    """For each reference file its items, those found, and the training documents removed for them; says so."""
    files: dict[str, dict[str, int]] = {}
    for item in references:
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


def _index(
    shards: Sequence[Path], split: Path, held_out: Path, references: Sequence[Reference], ngram: int, folder: Path
) -> dict[str, int]:
    """Write the index of held-out items, validation documents and references; returns how many there are of each kind."""
    from tasks.text import ngrams

    names, kinds, texts = [], [], []
    for path in shard_paths(held_out):
        for row in read_shard(path).to_pylist():
            for text in ngrams.texts_of(row["kind"], row["messages"]):
                names.append(row["id"])
                kinds.append(row["kind"])
                texts.append(text)
    for shard in shards:
        held = pa.array([name == VALIDATION for name in _splits(shard, split)], pa.bool_())
        for row in read_shard(shard, ["id", "text"]).filter(held).to_pylist():
            names.append(row["id"])
            kinds.append("document")
            texts.append(row["text"] or "")
    for item in references:
        for text in item.texts:
            names.append(item.name)
            kinds.append("reference")
            texts.append(text)
    if not names:
        log.warning(
            "decontaminate: nothing is held out, so nothing can be contaminated. Raise instruct.validation_fraction"
        )
    built = ngrams.Index.of(names, texts, ngram, [kind in ("question", "reference") for kind in kinds])
    built.save(folder)
    np.save(folder / "kinds.npy", np.array(kinds, dtype=np.str_))
    reached = np.unique(np.concatenate([*built.items, np.zeros(0, np.int64)]))
    return {
        **{f"{kind}s": kinds.count(kind) for kind in ("conversation", "document", "question", "reference")},
        "too_short": len(names) - len(reached),
    }


def _look(shard: Path, split: Path, index: Path, found: Path) -> list[Any]:
    """Keep the n-grams of the index that a shard's documents have; returns in how many training documents each is."""
    from tasks.text import ngrams

    items = ngrams.Index.load(index)
    hits = items.hits([text or "" for text in read_shard(shard, ["text"]).column("text").to_pylist()])
    np.savez(found / f"{shard.stem}.npz", hits.sizes, *hits.rows, *hits.grams)
    training = np.array([name == TRAIN for name in _splits(shard, split)], bool)
    return items.frequencies(hits, training)


def _divide(shard: Path, index: Path, found: Path, split: Path, rule: "Rule", target: Path) -> dict[str, Any]:
    """Write a shard's documents that stay, and those that go; returns counts."""
    from tasks.text import ngrams

    items = ngrams.Index.load(index)
    with np.load(found / f"{shard.stem}.npz") as kept:
        sizes, *arrays = kept.values()
    groups = len(items.lengths)
    hits = ngrams.Hits(arrays[:groups], arrays[groups:], sizes)
    item, share = items.contaminated(hits, _frequencies(index), rule)
    splits = _splits(shard, split)
    table = as_documents(read_shard(shard))
    gone = np.array([name == TRAIN for name in splits], bool) & (item >= 0)
    mask = pa.array(gone)
    stay = table.append_column("split", pa.array(splits, pa.string())).filter(pc.invert(mask))
    removed = table.filter(mask)
    kinds = np.load(index / "kinds.npy")[item[gone]]
    columns = {
        "reason": ["contaminated"] * len(removed),
        "detail": [
            f"overlap with a {'' if kind == 'reference' else 'held-out '}{kind}: {value:.3f}"
            for kind, value in zip(kinds, share[gone], strict=True)
        ],
        "kept_id": [None] * len(removed),
        "similarity": share[gone].round(6),
        "matched": [items.names[number] for number in item[gone]],
    }
    for name, values in columns.items():
        removed = removed.append_column(name, pa.array(values, REMOVED_SCHEMA.field(name).type))
    write_shard(stay.cast(SPLIT_SCHEMA), target / "documents" / shard.name)
    write_shard(removed.cast(REMOVED_SCHEMA), target / "removed" / shard.name)
    sizes_of = {name: stay.filter(pc.equal(stay.column("split"), name)) for name in (TRAIN, VALIDATION)}
    return {
        "before": by_source(table),
        "after": by_source(stay),
        "removed": {source: size["documents"] for source, size in by_source(removed).items()},
        "kinds": dict(Counter(kinds.tolist())),
        "matched": dict(Counter(items.names[number] for number in item[gone])),
        **{
            name: {"documents": len(part), "bytes": sum(size["bytes"] for size in by_source(part).values())}
            for name, part in sizes_of.items()
        },
    }


def _frequencies(index: Path) -> list[Any]:
    with np.load(index / "frequencies.npz") as groups:
        return list(groups.values())


def _gate(shard: Path, index: Path, rule: "Rule") -> list[str]:
    """Ids of the training documents in a written shard that break the rule."""
    from tasks.text import ngrams

    items = ngrams.Index.load(index)
    table = read_shard(shard, ["id", "text", "split"])
    training = table.filter(pc.not_equal(table.column("split"), VALIDATION))
    hits = items.hits([text or "" for text in training.column("text").to_pylist()])
    item, _ = items.contaminated(hits, _frequencies(index), rule)
    return list(training.filter(pa.array(item >= 0)).column("id").to_pylist())


if __name__ == "__main__":
    stage_main(run)
