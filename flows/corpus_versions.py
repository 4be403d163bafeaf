"""Versions of the corpus out of git and DVC, and what differs between two: documents with reasons, tokens, metrics."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import UserError
from tasks.core.tracking.store import flat_metrics
from tasks.documents import parquet

WORKSPACE = "workspace"
REMOVING_STAGES = ("scrape", "clean", "dedup", "decontaminate", "pack")
"""Stages that write `removed`, in the order in which a document meets them."""
NOT_SEEN = "not in the sources"
COLUMNS = ["id", "source", "tokens"]


@dataclass(frozen=True)
class Version:
    """One version of the corpus.

    Attributes:
        documents: id, source, tokens of what training and validation read; one row a document, however often a mixture
            uses it, with the tokens of all its copies.
        removed: id, reason (`<stage>: <reason>`) of what was taken out.
        metrics: `<stage>/<name>` → number.
    """

    name: str
    documents: pa.Table
    removed: pa.Table
    metrics: dict[str, float]


@dataclass(frozen=True)
class Difference:
    """From `before` to `after`.

    Attributes:
        left, joined: id, source, tokens, reason of documents that are only in `before`, only in `after`; the reason
            is why the other version does not have them.
        sources: source → (documents before, after, tokens before, after).
        metrics: name → (before, after) where they differ; None where a version has no such number.
    """

    before: Version
    after: Version
    left: pa.Table
    joined: pa.Table
    sources: dict[str, tuple[int, int, int, int]]
    metrics: dict[str, tuple[float | None, float | None]]


def read_version(root: Path, rev: str) -> Version:
    """Read a version out of git and DVC's cache, nothing is checked out; `workspace` is what lies in the folders.

    Raises:
        UserError: no such revision, or its data are not in the cache.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc_data.index.index import DataIndexDirError
    from scmrepo.exceptions import SCMError

    try:
        files = DVCFileSystem(str(root), rev=None if rev == WORKSPACE else rev)
        documents = [
            _table(files, f"data/pack/{split}/documents.parquet", COLUMNS) for split in ("train", "validation")
        ]
        removed = [
            _reasons(_table(files, path, ["id", "reason", "kept_id"]), stage)
            for stage in REMOVING_STAGES
            if files.isdir(f"data/{stage}/removed")
            for path in sorted(files.find(f"data/{stage}/removed"))
        ]
        metrics: dict[str, float] = {}
        for path in sorted(path for path in files.find("metrics") if path.endswith(".json")):
            content = json.loads(files.read_text(path))
            metrics |= {f"{Path(path).stem}/{name}": value for name, value in flat_metrics(content).items()}
    except (DvcException, SCMError) as error:
        raise UserError(
            f"{rev}: {error}. Known: commits, branches, tags, names of `dvc exp show`, {WORKSPACE}"
        ) from None
    except (FileNotFoundError, DataIndexDirError) as error:
        where = "data/pack" if isinstance(error, DataIndexDirError) else error.filename or error
        raise UserError(
            f"{rev}: {where} is in neither the folders nor DVC's cache. Fetch it with `dvc pull`, or make it: "
            f"{'' if rev == WORKSPACE else f'check {rev} out and '}`dvc repro pack`"
        ) from None
    nothing = pa.table({"id": pa.array([], pa.string()), "reason": pa.array([], pa.string())})
    return Version(rev, _once(pa.concat_tables(documents)), pa.concat_tables([nothing, *removed]), metrics)


def _table(files: Any, path: str, columns: list[str]) -> pa.Table:
    with files.open(path, "rb") as file:
        try:
            return parquet.read_table(file, columns)
        except (pa.ArrowException, OSError) as error:
            raise UserError(
                f"{path}: cannot be read as Parquet ({error}). `dvc repro` says where it is damaged."
            ) from None


def _once(documents: pa.Table) -> pa.Table:
    summed = documents.group_by(["id", "source"], use_threads=False).aggregate([("tokens", "sum")])
    return summed.rename_columns({"tokens_sum": "tokens"}).select(COLUMNS)


def _reasons(table: pa.Table, stage: str) -> pa.Table:
    """Ids with their reasons; not of the rows that say that a document came twice, for it went on to the next stage."""
    table = table.filter(pc.not_equal(table["id"], pc.fill_null(table["kept_id"], "")))
    reasons = pc.binary_join_element_wise(pa.scalar(f"{stage}:"), table["reason"].cast(pa.string()), " ")
    return pa.table({"id": table["id"], "reason": reasons})


def compare_versions(before: Version, after: Version) -> Difference:
    """The difference of two versions of one project."""
    sources = {}
    for source in sorted(set(before.documents["source"].to_pylist()) | set(after.documents["source"].to_pylist())):
        sizes = [_sizes(version.documents, source) for version in (before, after)]
        sources[source] = (sizes[0][0], sizes[1][0], sizes[0][1], sizes[1][1])
    names = sorted(before.metrics.keys() | after.metrics.keys())
    metrics = {name: (before.metrics.get(name), after.metrics.get(name)) for name in names}
    return Difference(
        before,
        after,
        left=_missing(before.documents, after),
        joined=_missing(after.documents, before),
        sources=sources,
        metrics={name: pair for name, pair in metrics.items() if pair[0] != pair[1]},
    )


def _sizes(documents: pa.Table, source: str) -> tuple[int, int]:
    of_source = documents.filter(pc.equal(documents["source"], source))
    return len(of_source), pc.sum(of_source["tokens"]).as_py() or 0


def _missing(documents: pa.Table, version: Version) -> pa.Table:
    """Those of `documents` that `version` lacks, with the reason, in the order of their ids."""
    lacking = documents.filter(pc.invert(pc.is_in(documents["id"], value_set=version.documents["id"].combine_chunks())))
    at = pc.index_in(lacking["id"], value_set=version.removed["id"].combine_chunks())
    reasons = pc.fill_null(pc.take(version.removed["reason"], at), NOT_SEEN)
    return lacking.append_column("reason", reasons).sort_by("id")


def by_reason(documents: pa.Table) -> list[tuple[str, str, int, int]]:
    """(reason, source, documents, tokens), the most documents first."""
    grouped = documents.group_by(["reason", "source"]).aggregate([("id", "count"), ("tokens", "sum")])
    rows = [(r["reason"], r["source"], r["id_count"], r["tokens_sum"] or 0) for r in grouped.to_pylist()]
    return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))
