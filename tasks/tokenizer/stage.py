"""A byte-level tokenizer, trained on the corpus: BPE (Sennrich et al. 2016, arXiv:1508.07909; bytes as in GPT-2) or others.

Where training starts from a model of somebody else (pretrain.start_from, finetune.start_from), its tokenizer is adopted.

Every text is encodable and comes back byte for byte: the 256 bytes are always in the vocabulary. The main process holds
the distinct words of the sample, which `max_bytes` bounds, and 17 bytes a document; a worker a shard.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from pydantic import Field, field_validator

from tasks.core.errors import UserError
from tasks.core.parallel.engine import map_shards
from tasks.core.params import StageParams
from tasks.core.paths import Inputs, Metrics, Outputs, write_json
from tasks.documents.shards import read_shard, shard_paths
from tasks.held_out.split import TRAIN, VALIDATION, fraction_of
from tasks.model.gguf_layouts import why_no_gguf_model
from tasks.tokenizer import vocabulary_sizes
from tasks.tokenizer.trainers import ModelType, train_tokenizer, truncate_vocabulary
from tasks.tokenizer.vocabulary_sizes import CostModel
from tasks.tokens.chat_template import CHAT_TEMPLATE, PAD, SPECIAL_TOKENS, START

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tasks.model.start_from import Stage

log = logging.getLogger(__name__)
MIN_VOCABULARY = 256 + len(SPECIAL_TOKENS)
MEASURED_BYTES = 4 << 20
"""UTF-8 bytes of each split that the report measures, at most."""
Bools = npt.NDArray[np.bool_]


class TokenizerParams(StageParams):
    """A byte-level tokenizer trained on a sample of the training documents; nothing of it is used where one is adopted."""

    model: ModelType = Field(
        "bpe", description="bpe, unigram (as in SentencePiece) or wordpiece, over bytes; GGUF export takes bpe only."
    )
    vocab_size: int = Field(
        4096,
        le=1 << 20,
        description="Tokens in the vocabulary, the 256 bytes and the control tokens among them.",
    )
    min_frequency: int = Field(
        2, ge=1, description="How often a pair must occur to be merged into a token (not in unigram)."
    )
    max_bytes: int = Field(
        16 << 20,
        ge=1,
        lt=1 << 31,  # the trainer counts pairs in 32 bits (huggingface/tokenizers#1170)
        description="UTF-8 bytes of text to train on; of a larger corpus, a random sample of whole documents.",
    )
    seed: int = Field(1, ge=0, description="Which documents the sample takes.")
    compare: tuple[int, ...] = Field(
        (), description="Vocabulary sizes to compare in the metrics, which propose one; vocab_size stays what is used."
    )
    compare_for: CostModel = Field(
        default_factory=lambda: CostModel.model_validate({}),
        description="The model whose cost is compared: pretrain's sizes.",
    )
    rare: int = Field(
        100, ge=1, description="Compared: a token with fewer occurrences in the training documents is under-trained."
    )

    @field_validator("vocab_size", "compare")
    @classmethod
    def _holds_the_alphabet(cls, value: int | tuple[int, ...]) -> int | tuple[int, ...]:
        sizes = (value,) if isinstance(value, int) else value
        if any(size < MIN_VOCABULARY for size in sizes):
            raise ValueError(f"must be at least {MIN_VOCABULARY}: 256 bytes and {len(SPECIAL_TOKENS)} control tokens")
        if len(set(sizes)) < len(sizes) or any(size > 1 << 20 for size in sizes):
            raise ValueError(f"must be different sizes of at most {1 << 20}")
        return value


def run(params: TokenizerParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Train on the training documents; write a folder that `AutoTokenizer.from_pretrained` loads, and `report.json`.

    With `compare`, the metrics hold a `comparison` of vocabulary sizes (see `tasks.tokenizer.vocabulary_sizes`). Where a tokenizer
    is adopted, `source.json` says of which model (`tasks.model.start_from.ModelSource`).

    Raises:
        UserError: no training text, a vocabulary larger than the corpus allows, a model that cannot be adopted, or
            one that cannot be exported to the formats that quantize wants.
    """
    from tasks.model.start_from import entry_stage

    given = entry_stage(inputs.settings.get("pretrain.start_from"), inputs.settings.get("finetune.start_from"))
    gguf = [name for name in inputs.settings.get("quantize.formats", ()) if name != "torchao-int8"]
    wants_gguf = bool(gguf) and (bool(given) or _is_decoder(inputs, gguf))
    shards = shard_paths(inputs["documents"])
    documents = _read_documents(
        list(map_shards(partial(_read_shard_sizes, seed=params.seed), shards, "tokenizer: sample"))
    )
    chosen = documents.sample(TRAIN, params.max_bytes)
    if not chosen.any() and not given:
        raise UserError(
            f"{inputs['documents']}: no training document has any text, so no tokenizer can be trained. "
            "Look at what clean, dedup and decontaminate removed, or add sources to scrape.sources"
        )
    if given:
        return _adopt(*given, wants_gguf, shards, documents, outputs)
    if wants_gguf:
        _require_gguf(inputs)
    if wants_gguf and params.model != "bpe":
        raise UserError(
            f"params.yaml: tokenizer.model: {params.model}: GGUF export takes byte-level BPE only. Set bpe, or "
            "quantize.formats to [torchao-int8]"
        )
    trained_bytes = int(documents.sizes[chosen].sum())

    def trained(size: int, key: str) -> "Tokenizer":
        texts = _texts(shards, documents.by_shard(chosen))
        return train_tokenizer(params.model, size, params.min_frequency, texts, trained_bytes, key)

    tokenizer = trained(params.vocab_size, "tokenizer.vocab_size")
    _save(tokenizer, outputs.root)
    if params.model != "bpe":
        log.warning(
            "tokenizer.model: %s: text is encoded at about a tenth of the speed of bpe",
            params.model,
        )

    work = _rows_to_measure(shards, documents)
    report = _write_report(work, outputs)
    metrics: Metrics = {
        "vocabulary_size": tokenizer.get_vocab_size(),
        "documents_trained_on": int(chosen.sum()),
        "bytes_trained_on": trained_bytes,
        "documents_not_sampled": int((documents.training & (documents.sizes > 0) & ~chosen).sum()),
        **{name: report[name] for name in REPORTED_METRICS},
    }
    if params.compare:
        sizes = sorted(params.compare)
        folders = [outputs.work / "candidates" / str(size) for size in sizes]
        largest = trained(sizes[-1], "tokenizer.compare")
        for folder, size in zip(folders, sizes, strict=True):
            folder.mkdir(parents=True, exist_ok=True)
            candidate = (
                largest
                if size == sizes[-1]
                else truncate_vocabulary(largest, size) or trained(size, "tokenizer.compare")
            )
            candidate.save(str(folder / "tokenizer.json"))
        compared = map_shards(
            partial(vocabulary_sizes.measure_shard, tokenizer_folders=folders), work, "tokenizer: compare"
        )
        train_bytes = int(documents.sizes[documents.training].sum())
        metrics["comparison"] = vocabulary_sizes.compare_sizes(
            compared, folders, params.compare_for, params.rare, train_bytes
        )
        log.info("tokenizer: of the sizes compared, %d is proposed", metrics["comparison"]["proposed"])
    _log_fertility(metrics)
    return metrics


def _is_decoder(inputs: Inputs, gguf: Sequence[str]) -> bool:
    """Whether the model to be trained is a decoder; of others, which llama.cpp does not run, quantize passes over GGUF formats."""
    from tasks.architectures.families.table import FAMILIES

    family = FAMILIES[inputs.settings.get("pretrain.family", "llama")]
    if not family.is_causal:
        reason = why_no_gguf_model({"model_type": family.model_type})
        log.warning("tokenizer: quantize will pass over %s: %s", ", ".join(gguf), reason)
    return family.is_causal


def _require_gguf(inputs: Inputs) -> None:
    """Check that the model to be trained can be exported to GGUF: told before it is trained, not after."""
    from tasks.architectures.families.choices import Architecture
    from tasks.architectures.families.settings import family_settings
    from tasks.architectures.families.table import FAMILIES

    family = FAMILIES[inputs.settings.get("pretrain.family", "llama")]
    choices = inputs.settings.get("pretrain.architecture") or Architecture.model_validate({})
    context = inputs.settings.get("pack.context_length", 0)
    known = {"model_type": family.model_type, "max_position_embeddings": context}
    if reason := why_no_gguf_model(known | family_settings(family, choices, context)):
        raise UserError(
            f"params.yaml: quantize.formats: pretrain.family {family.name}: {reason}. Set quantize.formats to [torchao-int8], or "
            "another family or pretrain.architecture"
        )


def _adopt(
    stage: "Stage", name: str, wants_gguf: bool, shards: Sequence[Path], documents: "DocumentSizes", outputs: Outputs
) -> Metrics:
    """Take the tokenizer of the model `name`, and measure how it fits the text."""
    from tasks.tokenizer.adopted_tokenizer import adopt_tokenizer
    from tasks.tokens.encode import load_tokenizer

    source = adopt_tokenizer(stage, name, outputs.root, wants_gguf)
    report = _write_report(_rows_to_measure(shards, documents), outputs)
    metrics: Metrics = {
        "adopted_from": name,
        "vocabulary_size": load_tokenizer(outputs.root).get_vocab_size(),
        "added_tokens": len(source.added_tokens),
        **{measure: report[measure] for measure in REPORTED_METRICS},
    }
    log.info("tokenizer: adopted from %s, which comes in at %s; nothing of the block tokenizer is used", name, stage)
    _log_fertility(metrics)
    return metrics


Work = list[tuple[Path, Bools]]
REPORTED_METRICS = (TRAIN, VALIDATION, "sources", "unused_tokens", "longest_token_bytes")


def _rows_to_measure(shards: Sequence[Path], documents: "DocumentSizes") -> Work:
    measured = documents.sample(TRAIN, MEASURED_BYTES) | documents.sample(VALIDATION, MEASURED_BYTES)
    return [(shard, rows) for shard, rows in zip(shards, documents.by_shard(measured), strict=True) if rows.any()]


def _write_report(work: Work, outputs: Outputs) -> Metrics:
    """How the tokenizer in `outputs` fits the text, written to report.json."""
    from tasks.tokenizer import fertility

    measure = partial(fertility.measure_shard, tokenizer_folder=outputs.root)
    report = fertility.fertility_report(map_shards(measure, work, "tokenizer: round trip"), outputs.root)
    write_json(outputs / "report.json", report)
    return report


def _log_fertility(metrics: Metrics) -> None:
    held_out = metrics[VALIDATION]["bytes_per_token"]
    log.info(
        "tokenizer: %d tokens; bytes a token: %s on training text%s",
        *(metrics["vocabulary_size"], metrics[TRAIN]["bytes_per_token"]),
        f", {held_out} on held-out text" if held_out else "",
    )


@dataclass(frozen=True)
class DocumentSizes:
    """All documents in the order of the shards: random keys, float64; whether for training; UTF-8 bytes of text, int64.

    17 bytes a document. `ends`, int64 [shards], are where each shard's documents end.
    """

    keys: npt.NDArray[np.float64]
    training: Bools
    sizes: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    def sample(self, split: str, most_bytes: int) -> Bools:
        """Documents of `split` in the order of their keys, as many as fit `most_bytes` (at least one), bool [documents]."""
        eligible = np.flatnonzero((self.training == (split == TRAIN)) & (self.sizes > 0))
        eligible = eligible[np.argsort(self.keys[eligible], kind="stable")]
        fit = int(np.searchsorted(np.cumsum(self.sizes[eligible]), most_bytes, side="right"))
        chosen = np.zeros(len(self.keys), bool)
        chosen[eligible[: max(fit, 1)]] = True
        return chosen

    def by_shard(self, chosen: Bools) -> list[Bools]:
        """`chosen` for each shard."""
        return np.split(chosen, self.ends[:-1])


def _read_shard_sizes(shard: Path, seed: int) -> tuple[npt.NDArray[np.float64], Bools, npt.NDArray[np.int64]]:
    table = read_shard(shard, ["id", "text", "split"])
    keys = np.array([fraction_of(name, f"tokenizer {seed}") for name in table.column("id").to_pylist()], np.float64)
    training = pc.equal(table.column("split"), TRAIN).fill_null(False).to_numpy()
    return keys, training, pc.fill_null(pc.binary_length(table.column("text")), 0).to_numpy().astype(np.int64)


def _read_documents(shards: Sequence[tuple[npt.NDArray[np.float64], Bools, npt.NDArray[np.int64]]]) -> DocumentSizes:
    keys, training, sizes = (np.concatenate(parts) for parts in zip(*shards, strict=True))
    return DocumentSizes(keys, training, sizes, np.cumsum([len(sizes) for *_, sizes in shards]))


def _texts(shards: Sequence[Path], chosen: Sequence[Bools]) -> Iterator[str]:
    for shard, rows in zip(shards, chosen, strict=True):
        if rows.any():
            yield from read_shard(shard, ["text"]).column("text").filter(rows).to_pylist()


def _save(tokenizer: "Tokenizer", folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=START,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
