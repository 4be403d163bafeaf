"""Data mixture: how much of the training text each source gives; shares or budgets, smaller sources repeated up to a cap.

Replay is for a model that is trained on: about 5% of general text keeps most of what it knew (Ibrahim et al. 2024, "Simple
and Scalable Strategies to Continually Pre-train Large Language Models", arXiv:2403.08763).
Repeating is cheap up to about four times (Muennighoff et al. 2023, "Scaling Data-Constrained Language Models",
arXiv:2305.16264): that many epochs of the same text are worth nearly as much as new text, and beyond it pays little.
Which documents a source gives follows from their ids and the seed alone, so a larger budget keeps what a smaller took.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.core.errors import UserError
from tasks.documents.shards import read_shard, write_shard

Int64 = npt.NDArray[np.int64]


class Mixture(BaseModel):
    """What each source gives to the training split. Nothing named: all of every source, once."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weights: dict[str, float] = Field(
        default={}, description="Source: its share of the whole, relative to the others'. Every source must be named."
    )
    budgets: dict[str, int] = Field(default={}, description="Source: what it gives; those not named give all, once.")
    replay: dict[str, float] = Field(
        default={},
        description="Source: its share of the whole, beside all of the others, once: what a given model is not to forget.",
    )
    unit: Literal["tokens", "bytes"] = Field(default="tokens", description="Of shares, budgets and total.")
    total: int | None = Field(
        default=None, ge=1, description="With weights: the whole. null: as much as the shares allow within max_epochs."
    )
    max_epochs: float = Field(default=4.0, ge=1, le=1000, description="How often a source is used at most.")
    seed: int = Field(default=0, description="Of which documents are used, or used once more.")

    @model_validator(mode="after")
    def _one_way(self) -> "Mixture":
        if sum(map(bool, (self.weights, self.budgets, self.replay))) > 1:
            raise ValueError("name weights, budgets or replay, not two of them")
        if self.total is not None and not self.weights:
            raise ValueError("total goes with weights")
        for name, value in self.named.items():
            if value < 0:
                raise ValueError(f"{name}: must not be negative")
        if self.weights and not sum(self.weights.values()):
            raise ValueError("at least one weight must be greater than 0")
        if sum(self.replay.values()) >= 1:
            raise ValueError("replay: the shares must together be less than 1: the rest is new text")
        return self

    @property
    def named(self) -> dict[str, float]:
        """What is said of each source that is named."""
        return {**self.weights, **self.budgets, **self.replay}

    @property
    def is_set(self) -> bool:
        """Whether anything is to be mixed."""
        return bool(self.named)


def source_targets(mixture: Mixture, available: dict[str, int]) -> dict[str, int]:
    """What each source is to give, in the mixture's unit, of what it has; not yet capped.

    Raises:
        UserError: a source is named that has no training text, weights leave one out, or replay leaves nothing beside it.
    """
    named = mixture.named
    if unknown := sorted(name for name, value in named.items() if value and not available.get(name)):
        raise UserError(
            f"params.yaml: pack.mixture: {', '.join(unknown)}: no training text of that source. "
            f"There is some of: {', '.join(sorted(available))}."
        )
    if mixture.replay:
        new = sum(size for name, size in available.items() if name not in mixture.replay)
        if not new:
            raise UserError(
                "params.yaml: pack.mixture.replay: names every source there is: no new text is left beside them"
            )
        whole = new / (1 - sum(mixture.replay.values()))
        return {name: round(mixture.replay.get(name, size / whole) * whole) for name, size in available.items()}
    if not mixture.weights:
        return {name: mixture.budgets.get(name, size) for name, size in available.items()}
    if missing := sorted(set(available) - set(named)):
        raise UserError(
            f"params.yaml: pack.mixture.weights: {', '.join(missing)}: has no weight. Give it one, or 0 to leave it out."
        )
    weighed = sum(mixture.weights.values())
    shares = {name: mixture.weights[name] / weighed for name in available}
    total = mixture.total or min(
        int(mixture.max_epochs * size / shares[name]) for name, size in available.items() if shares[name]
    )
    return {name: round(share * total) for name, share in shares.items()}


def document_copies(identities: list[str], sizes: Int64, target: int, max_epochs: float, seed: int) -> Int64:
    """How often each document of one source is used, int64 [documents], so that about `target` of `sizes` come.

    Whole passes first, then documents in the order of a hash of seed and id, as long as they fit; the sum is the target
    less at most one document, and never more than `max_epochs` times what there is.
    """
    size = int(sizes.sum())
    target = min(target, int(max_epochs * size))
    passes, rest = divmod(target, size) if size else (0, 0)
    times = np.full(len(identities), passes, dtype=np.int64)
    key = seed.to_bytes(8, "little", signed=True)
    order = sorted(range(len(identities)), key=lambda n: hashlib.blake2b(identities[n].encode(), key=key).digest())
    times[np.array(order, dtype=np.int64)[np.cumsum(sizes[order]) <= rest]] += 1
    return times


def write_mixture(
    parts: list[Path], mixture: Mixture, folder: Path, dtype: "np.dtype[Any]"
) -> tuple[list[Path], dict[str, Any]]:
    """Write the training split anew, each document as often as the mixture wants.

    `parts` are shards of documents (id, source, tokens, bytes) with their tokens (`dtype`) beside them, `x.tokens`. The
    copies of a document stand a whole pass apart. What no copy is made of is listed under `left_out`, a shard a part.
    Returns the new parts and the metrics: by source what there was, was wanted and came, in the mixture's unit, documents,
    those left out, and epochs.

    Raises:
        UserError: a source is named that has no training text, weights leave one out, or nothing is left.
    """
    tables = [read_shard(part) for part in parts]
    documents = pa.concat_tables(tables)
    sources = np.array([name or "" for name in documents["source"].to_pylist()], dtype=object)
    identities = documents["id"].to_pylist()
    sizes: Int64 = documents[mixture.unit].to_numpy().astype(np.int64)
    available = {name: int(sizes[sources == name].sum()) for name in sorted(set(sources))}
    wanted = source_targets(mixture, available)
    times = np.zeros(len(sizes), dtype=np.int64)
    metrics: dict[str, Any] = {}
    for name, target in wanted.items():
        own = np.flatnonzero(sources == name)
        times[own] = document_copies([identities[n] for n in own], sizes[own], target, mixture.max_epochs, mixture.seed)
        given = int((times[own] * sizes[own]).sum())
        metrics[name] = {
            "available": available[name],
            "wanted": target,
            "given": given,
            "documents": int(np.count_nonzero(times[own])),
            "documents_left_out": int(np.count_nonzero(times[own] == 0)),
            "epochs": round(given / available[name], 6) if available[name] else 0.0,
        }
    if not times.any():
        raise UserError("params.yaml: pack.mixture: leaves no training document. Raise the weights, budgets or total.")
    mixed: list[Path] = []
    at = 0
    for part, table in zip(parts, tables, strict=True):
        write_shard(table.filter(pa.array(times[at : at + len(table)] == 0)), folder / "left_out" / part.name)
        at += len(table)
    for number in range(int(times.max())):
        at = 0
        for part, table in zip(parts, tables, strict=True):
            keep = np.flatnonzero(times[at : at + len(table)] > number)
            at += len(table)
            mixed.append(folder / f"{number:04d}-{part.name}")
            _write_part(part, table, keep, mixed[-1], dtype)
    return mixed, {"unit": mixture.unit, "sources": metrics}


def _write_part(part: Path, table: pa.Table, keep: Int64, target: Path, dtype: "np.dtype[Any]") -> None:
    write_shard(table.take(pa.array(keep)), target)
    offsets = np.concatenate([[0], np.cumsum(table["tokens"].to_numpy())])
    with target.with_suffix(".tokens").open("wb") as stream:
        if len(keep) == len(table):
            with part.with_suffix(".tokens").open("rb") as source:
                shutil.copyfileobj(source, stream, 1 << 20)
            return
        tokens = np.fromfile(part.with_suffix(".tokens"), dtype=dtype)
        for document in keep.tolist():
            tokens[offsets[document] : offsets[document + 1]].tofile(stream)
