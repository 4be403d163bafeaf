"""Token streams and packed rows: documents become arrays that training reads without copying them.

A worker's memory is that of a shard. The main process holds what is known of documents and rows, not their tokens: about
150 bytes for each document and each row while they are packed.
"""

import functools
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from tasks.core.errors import UserError
from tasks.core.parallel.engine import map_shards
from tasks.core.params import StageParams
from tasks.core.paths import Inputs, Metrics, Outputs, write_json
from tasks.documents.shards import REMOVED_SCHEMA, read_shard, shard_paths, write_shard
from tasks.pack.mixture import Mixture, write_mixture
from tasks.pack.packing import PackedRows, Strategy, document_at, pack_rows
from tasks.tokens.special_tokens import read_special_tokens

log = logging.getLogger(__name__)
SPLITS = ("train", "validation")
DOCUMENTS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("tokens", pa.int64()),  # with the token that starts the document
        ("bytes", pa.int64()),  # of the text, in UTF-8
    ]
)


class PackParams(StageParams):
    """Rows for training, of a mixture of the sources; by default packed best-fit (Ding et al. 2024, arXiv:2404.10830)."""

    context_length: int = Field(256, ge=8, le=1 << 20, description="Tokens in a row: what the model sees at once.")
    strategy: Strategy = Field(
        "best_fit",
        description="best_fit: whole documents, fullest rows; greedy: whole documents in order; chunked: cut anywhere.",
    )
    crop: bool = Field(
        False, description="Leave out what of a document is longer than a row, instead of cutting it up."
    )
    mixture: Mixture = Field(
        default=Mixture(), description="What each source gives to training; nothing named: all of every source, once."
    )


def run(params: PackParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Encode the documents and pack each split into rows.

    Writes `pack.json` (context_length, vocabulary_size, dtype, document_start) and `token_bytes.npy` (int64
    [vocabulary]: UTF-8 bytes that a token stands for, 0 for control tokens), and for `train` and `validation`:

    - `tokens.bin`: the stream, flat uint16 (uint32 for a vocabulary above 65,536): each document's start token, then its
      text; one more start token ends the stream, so that the token after each token is always what comes next.
    - `offsets.npy`: int64 [documents + 1], the documents' borders in the stream.
    - `documents.parquet`: id, source, tokens and bytes of each, in the same order: a token's document by its position.
      What a mixture uses more than once stands there as often.
    - `removed/`: id, source and reason of what has no text (`empty`) or is not used by the mixture (`mixture_left_out`);
      the texts are those of the documents that were read, and are not copied.
    - `segments.npy`, `rows.npy`: the rows, see `PackedRows`. Each token of each document is in exactly one row, or
      counted as cropped.

    Shards that were encoded before a kill are not encoded again.

    Raises:
        UserError: no training documents, a tokenizer without the start token or one that does not give back the text,
            a mixture of sources that are not there.
    """
    tokenizer = inputs["tokenizer"]
    token_bytes, start = _token_bytes(tokenizer)
    dtype = np.dtype(np.uint16 if len(token_bytes) <= 1 << 16 else np.uint32)
    shards = shard_paths(inputs["documents"])
    encoded = outputs.work / "encoded"  # of these parameters and inputs: another start continues it
    encode = functools.partial(_encode_shard, tokenizer=tokenizer, folder=encoded, start=start, dtype=dtype.name)
    counts = list(map_shards(encode, shards, "encode"))
    documents_in = sum(count["documents"] for count in counts)

    splits: dict[str, Any] = {}
    mixed: dict[str, Any] = {}
    repeated = 0
    for split in SPLITS:
        parts = [encoded / split / shard.name for shard in shards]
        if split == "train" and params.mixture.is_set:
            before = sum(read_shard(part, ["id"]).num_rows for part in parts)
            shutil.rmtree(encoded / "mixed", ignore_errors=True)
            parts, mixed = write_mixture(parts, params.mixture, encoded / "mixed", dtype)
            for name, source in mixed["sources"].items():
                if source["wanted"] > params.mixture.max_epochs * source["available"]:
                    log.warning(
                        "mixture: %s has %d %s: %d times that (max_epochs) is less than the %d that are wanted of it",
                        *(name, source["available"], params.mixture.unit, params.mixture.max_epochs, source["wanted"]),
                    )
            left_out = sum(source["documents_left_out"] for source in mixed["sources"].values())
            repeated = sum(read_shard(part, ["id"]).num_rows for part in parts) - (before - left_out)
        splits[split] = _write_split(parts, outputs / split, start, dtype, params)
    lists = {"empty": encoded / "empty", **({"mixture_left_out": encoded / "mixed" / "left_out"} if mixed else {})}
    removed = _write_removed([shard.name for shard in shards], lists, outputs / "removed")
    shutil.rmtree(encoded)
    if not splits["train"]["documents"]:
        raise UserError(
            f"{inputs['documents']}: no training document has any text, so there is nothing to train on. "
            "Look at what clean, dedup and decontaminate removed, or add sources to scrape.sources"
        )
    if not splits["validation"]["documents"]:
        log.warning("no validation documents: models will be trained without being measured on held-out text")
    documents_out = sum(split["documents"] for split in splits.values()) - repeated
    if documents_in != documents_out + sum(removed.values()):
        raise AssertionError(f"{documents_in} documents in, but {documents_out} out; removed: {removed}")
    np.save(outputs / "token_bytes.npy", token_bytes)
    description = {
        "context_length": params.context_length,
        "vocabulary_size": len(token_bytes),
        "dtype": dtype.name,
        "document_start": start,
    }
    write_json(outputs / "pack.json", description)
    return {
        **description,
        **splits,
        "documents_in": documents_in,
        "documents_out": documents_out,
        "removed": removed,
        **({"mixture": mixed} if mixed else {}),
    }


def _token_bytes(folder: Path) -> tuple["np.typing.NDArray[np.int64]", int]:
    """UTF-8 bytes that each token stands for, and the id of the token that starts a document."""
    from tokenizers import pre_tokenizers

    from tasks.tokens.encode import load_tokenizer

    tokenizer = load_tokenizer(folder)
    special = read_special_tokens(folder)
    start = special.ids[special.start]
    vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    added = tokenizer.get_added_tokens_decoder()
    if stray := set("".join(token for token, number in vocabulary.items() if number not in added)) - set(
        pre_tokenizers.ByteLevel.alphabet()
    ):
        raise UserError(f"{folder / 'tokenizer.json'}: is not byte-level: its tokens contain {sorted(stray)[:5]}")
    token_bytes = np.zeros(max(vocabulary.values()) + 1, dtype=np.int64)
    for token, number in vocabulary.items():
        if number in added:  # of others' tokenizers some stand for themselves
            token_bytes[number] = 0 if added[number].special else len(token.encode())
        else:
            token_bytes[number] = len(token)  # one letter of the alphabet is one byte
    return token_bytes, int(start)


def _encode_shard(shard: Path, tokenizer: Path, folder: Path, start: int, dtype: str) -> dict[str, int]:
    """Write `<folder>/<split>/<shard>.tokens` and its documents beside it; returns the counts of documents."""
    from tasks.tokens.encode import encode_documents, load_tokenizer, round_trip_text

    done = folder / f"{shard.name}.json"  # written last, so what it counts is whole
    if done.exists():
        found: dict[str, int] = json.loads(done.read_text())
        return found
    table = read_shard(shard, ["id", "source", "text", "split"])
    if unknown := sorted({str(split) for split in table["split"].to_pylist()} - set(SPLITS)):
        raise UserError(f"{shard}: column split: holds {', '.join(unknown)}; allowed: {', '.join(SPLITS)}")
    (token_bytes, _), reader = _token_bytes(tokenizer), load_tokenizer(tokenizer)
    rows = [row for row in table.to_pylist() if row["text"]]
    texts = [row["text"] for row in rows]
    ids = encode_documents(tokenizer, texts)
    for row, tokens in zip(rows, ids, strict=True):
        row["bytes"] = len(row["text"].encode())
        row["tokens"] = len(tokens) + 1
        if token_bytes[tokens].sum() != len(round_trip_text(reader, row["text"]).encode()):
            raise UserError(
                f"{shard}: document {row['id']}: the tokenizer in {tokenizer} does not keep every byte of its text. "
                "Make it again: dvc repro tokenizer"
            )
    border = np.array([start], dtype=dtype)
    for split in SPLITS:
        target = folder / split / shard.name
        kept = [number for number, row in enumerate(rows) if row["split"] == split]
        write_shard(pa.Table.from_pylist([rows[number] for number in kept], schema=DOCUMENTS_SCHEMA), target)
        with target.with_suffix(".tokens").open("wb") as stream:
            for number in kept:
                border.tofile(stream)
                np.asarray(ids[number], dtype=dtype).tofile(stream)
    write_shard(
        table.filter(pc.equal(pc.fill_null(table["text"], ""), "")).drop_columns("text"), folder / "empty" / shard.name
    )
    counts = {"documents": table.num_rows}
    write_json(done, counts)
    return counts


def _write_removed(shards: list[str], lists: dict[str, Path], folder: Path) -> dict[str, int]:
    """Write what is listed by reason, shards with id and source; returns how many documents each reason removed."""
    removed = dict.fromkeys(lists, 0)
    for shard in shards:
        tables = []
        for reason, listed in lists.items():
            table = read_shard(listed / shard, ["id", "source"])
            removed[reason] += table.num_rows
            columns = {"id": table["id"], "source": table["source"], "reason": pa.repeat(reason, table.num_rows)}
            nothing = pa.nulls(table.num_rows)
            tables.append(pa.table([columns.get(name, nothing) for name in REMOVED_SCHEMA.names], REMOVED_SCHEMA.names))
        write_shard(pa.concat_tables([table.cast(REMOVED_SCHEMA) for table in tables]), folder / shard)
    return removed


def _write_split(
    parts: list[Path], folder: Path, start: int, dtype: "np.dtype[Any]", params: PackParams
) -> dict[str, Any]:
    """Join the shards of one split into a stream with packed rows; returns its measures."""
    documents = pa.concat_tables([read_shard(part) for part in parts])
    write_shard(documents, folder / "documents.parquet")
    lengths = documents["tokens"].to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    with (folder / "tokens.bin").open("wb") as stream:
        for part in parts:
            with part.with_suffix(".tokens").open("rb") as source:
                shutil.copyfileobj(source, stream, 1 << 20)
        np.array([start], dtype=dtype).tofile(stream)
    packed = pack_rows(offsets, params.context_length, params.strategy, params.crop)
    np.save(folder / "offsets.npy", offsets)
    np.save(folder / "segments.npy", packed.segments)
    np.save(folder / "rows.npy", packed.rows)
    return _split_metrics(packed, offsets, params) | {"bytes": int(documents["bytes"].to_numpy().sum())}


def _split_metrics(packed: PackedRows, offsets: "np.typing.NDArray[np.int64]", params: PackParams) -> dict[str, Any]:
    lengths, capacity = np.diff(offsets), params.context_length
    tokens, rows = int(lengths.sum()), len(packed.rows) - 1
    cropped = int(np.maximum(lengths - capacity, 0).sum()) if params.crop else 0
    in_rows = int(packed.segments[:, 1].sum())
    if in_rows + cropped != tokens:
        raise AssertionError(f"{tokens} tokens, but {in_rows} in rows and {cropped} cropped")
    segments = np.bincount(document_at(offsets, packed.segments[:, 0]), minlength=len(lengths))
    return {
        "documents": len(lengths),
        "documents_cut": int(np.count_nonzero((segments > 1) | (lengths > capacity))),
        "tokens": tokens,
        "cropped_tokens": cropped,
        "rows": rows,
        "padding_tokens": rows * capacity - in_rows,
        "utilisation": round(in_rows / (rows * capacity), 6) if rows else 0.0,
    }
