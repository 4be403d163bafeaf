"""Chat data: conversations and documentation questions as validated messages, and the split that is held out from all training.

Which documents are held out is decided here, by a hash of the document's id, before anything trains. A worker's memory is
that of a shard; the main process holds about 300 bytes an item (tasks.instruct.duplicate_items) and 100 a held-out one.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field

from tasks.conversations.instruction_formats import Format
from tasks.core.errors import UserError
from tasks.core.number_format import format_counts
from tasks.core.parallel.engine import map_shards
from tasks.core.parallel.worker_pool import preload_workers
from tasks.core.params import StageParams, require_files
from tasks.core.paths import Inputs, Metrics, Outputs
from tasks.documents.shards import read_shard, shard_paths, write_shard
from tasks.held_out import evaluation_set
from tasks.held_out.benchmark_items import read_benchmark_items
from tasks.held_out.split import split_of

log = logging.getLogger(__name__)


class InstructionFiles(StageParams):
    """Instruction data in files of the project."""

    path: str = Field(min_length=1, description="A file or glob, from the root of the project.")
    format: Format = Field(
        "auto", description="alpaca, sharegpt, messages or preference (pairs); auto: by each record's keys."
    )
    source: str = Field("files", min_length=1, description="The source that its items carry.")


class InstructParams(StageParams):
    """Conversations, questions and files into messages."""

    validation_fraction: float = Field(
        0.03, ge=0, lt=1, description="Share of the documents that is held out from every training."
    )
    files: tuple[InstructionFiles, ...] = Field(
        (), description="Alpaca, ShareGPT or messages records to add, or preference pairs."
    )
    questions: bool = Field(True, description="Ask what the documentation of a name says, where a page is Python's.")
    max_turns: int = Field(64, ge=2, description="Turns of a conversation; longer ones are cut into several.")
    max_turn_characters: int = Field(4000, ge=1, description="A dialogue with a longer turn is removed: pasted text.")
    min_distinct: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Dialogues in which a smaller share of the turns differs are removed: spam, echoes.",
    )
    max_same_answer: int = Field(
        3, ge=1, description="An answer that more questions than this share says nothing about any: they are removed."
    )
    ngram: int = Field(
        8, ge=4, le=50, description="Words in an n-gram when training items are held against held-out ones."
    )
    max_overlap: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Training items that share this much of their n-grams with a held-out one are removed.",
    )
    references: tuple[str, ...] = Field(
        (), description="Files of benchmark items that count as held out, declared in dvc.yaml; see decontaminate."
    )

    def check_paths(self, root: Path) -> None:
        """Files of records and of benchmark items."""
        require_files((file.path for file in self.files), root, "instruct.files", globs=True)
        require_files(self.references, root, "instruct.references")


def run(params: InstructParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Read `documents`; write `train`, `held_out` (tasks.conversations.conversation.SCHEMA), `removed` and `split`.

    `split` has a row (id, split) for every document. An item is in `held_out` exactly if its document's split is
    validation; records of files are split by their own id.

    Raises:
        UserError: a file of `files` or `references` is missing or unreadable, nothing of `files` is left to train on, or
            every document is held out.
    """
    preload_workers("tasks.instruct.chat_items", "tasks.similarity.warm_kernels")
    from tasks.instruct import chat_items, dialogue_rules, duplicate_items, record_items
    from tasks.similarity import kernels

    benchmark_items = list(read_benchmark_items("instruct", params.references, inputs))
    benchmark_items += evaluation_set.benchmark_items(inputs["evaluation"])
    shards = shard_paths(inputs["documents"])
    documents = _sum(_split(shard, outputs / "split", params.validation_fraction) for shard in shards)
    kernels.compile_kernels()
    units: list[Path | record_items.InstructionFile] = [
        *shards,
        *record_items.instruction_files([(file.path, file.format, file.source) for file in params.files]),
    ]
    folder, index = outputs.work / "items", outputs.work / "index"
    for old in (folder, index):
        shutil.rmtree(old, ignore_errors=True)
    rules = dialogue_rules.DialogueRules(
        validation_fraction=params.validation_fraction,
        questions=params.questions,
        max_turns=params.max_turns,
        max_turn_characters=params.max_turn_characters,
        min_distinct=params.min_distinct,
    )
    collected = list(
        map_shards(partial(chat_items.collect_items, folder=folder, rules=rules), units, "instruct: dialogues")
    )
    stems = [stem for stems_of, _, _ in collected for stem in stems_of]
    duplicate_items.find_duplicate_items(folder, stems, params.max_same_answer)
    chat_items.write_held_out_index(folder, stems, benchmark_items, params.ngram, index)
    divide = partial(
        chat_items.write_items, folder=folder, index=index, max_overlap=params.max_overlap, target=outputs.root
    )
    counts = [count for _, count, _ in collected]
    metrics = _metrics(counts, list(map_shards(divide, stems, "instruct: writing")))
    metrics["documents"] = documents
    if ignored := _sum(ignored for _, _, ignored in collected):
        metrics["keys_left_out"] = ignored
        log.warning("instruct: keys of records that nothing is learnt from (with how often): %s", ignored)
    _check_split(documents, params.validation_fraction)
    if metrics["train"]["items"]:
        told = (format_counts(metrics[key]) for key in ("train", "held_out", "removed"))
        log.info("instruct: to train on: %s; held out: %s; removed: %s", *told)
    else:
        _say_that_none_is_left(metrics, bool(params.files))
    return metrics


def _check_split(documents: dict[str, int], fraction: float) -> None:
    """Say before anything trains what the split leaves out: no text to train on, or none to measure on."""
    count = sum(documents.values())
    if count and not documents["train"]:
        raise UserError(
            f"params.yaml: instruct.validation_fraction: {fraction:g} holds out all of the {count} documents, so none is "
            "left to train on. Lower it (0 holds out nothing), or add text to scrape.sources"
        )
    if not documents["validation"]:
        log.warning(
            "instruct: none of the %d documents is held out (instruct.validation_fraction: %g), so no model is measured on "
            "text that it was not trained on. Raise it, say to 0.1",
            *(count, fraction),
        )


def _say_that_none_is_left(metrics: Metrics, asked: bool) -> None:
    """No item is left to train on: a base model comes of it. One line, or an error where files of items were named."""
    if asked:
        raise UserError(
            f"instruct: no conversation or question is left to train on; removed: {metrics['removed']}. Look at "
            "data/instruct/removed, mend instruct.files, or lower instruct.validation_fraction"
        )
    came = {kind: metrics[f"{kind}_in"] for kind in ("dialogues", "questions")}
    if not any(came.values()):
        log.info("instruct: no conversation among the documents: the model is not tuned, a base model comes of them")
        return
    log.warning(
        "instruct: of %d conversations and %d questions none is left to train on (held out: %d; removed: %s), so the "
        "model is not tuned, and a base model comes of the text",
        *came.values(),
        metrics["held_out"]["items"],
        {**metrics["removed"], **metrics["removed_questions"]},
    )


def _metrics(collected: list[dict[str, int]], written: list[dict[str, Any]]) -> Metrics:
    """Counts over all shards; asserts that no dialogue and no question is unaccounted for.

    A dialogue that was cut into several items is one dialogue.
    """
    total = {name: _sum(shard[name] for shard in written) for name in written[0]}
    brought = _sum(collected)
    for kind, removed in (("conversations", total["removed"]), ("questions", total["removed_questions"])):
        out = sum(total[split].get(kind, 0) for split in ("train", "held_out"))
        if brought[kind] != out + sum(removed.values()):
            raise AssertionError(f"{brought[kind]} {kind} in, {out} out, but removed {removed}")
    splits = {
        split: {kind: total[split].get(kind, 0) for kind in ("conversations", "questions")} | total[f"{split}_size"]
        for split in ("train", "held_out")
    }
    return {
        "dialogues_in": brought["conversations"],
        "dialogues_out": sum(split["conversations"] for split in splits.values()),
        "removed": total["removed"],
        "questions_in": brought["questions"],
        "questions_out": sum(split["questions"] for split in splits.values()),
        "removed_questions": total["removed_questions"],
        **splits,
    }


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))


def _split(shard: Path, folder: Path, fraction: float) -> dict[str, int]:
    ids = read_shard(shard, ["id"]).column("id").to_pylist()
    splits = split_of(ids, fraction)
    write_shard(
        pa.table({"id": pa.array(ids, pa.string()), "split": pa.array(splits, pa.string())}), folder / shard.name
    )
    return {split: splits.count(split) for split in ("train", "validation")}
