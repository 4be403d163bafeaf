"""Filters of the clean documents by what only the whole corpus tells: repeated lines, trained scores.

Off unless params.yaml asks for it. Documents are read and written shard by shard; each score is a column of them.
"""

import heapq
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.clean import histogram
from tasks.clean.dropped_lines import DroppedLines
from tasks.clean.scores import quality_classifier, repeated_lines
from tasks.clean.scores.labels import read_labelled_texts
from tasks.clean.scores.perplexity import TrigramModel
from tasks.clean.scores.score_params import ScoreParams, thresholds
from tasks.conversations.conversation import messages_of
from tasks.core.errors import UserError
from tasks.core.parallel.engine import map_shards
from tasks.documents.sections import meta_without_lines
from tasks.documents.shards import REMOVED_SCHEMA, SCHEMA, read_shard, shard_paths, write_shard
from tasks.documents.source_counts import count_by_source

Row = dict[str, Any]


def filter_by_corpus_scores(
    params: ScoreParams, min_characters: int, labels: Sequence[Path], root: Path, work: Path
) -> dict[str, Any] | None:
    """Filter `root`/documents in place, adding to `root`/removed; None where `params` ask for nothing.

    Shards are read there and written beside them, and both folders change place when all are through: one whose worker is
    lost is read again as it was. `labels` are the files that `quality.labels` names.
    Returns `out` (sizes by source, a shard each), `removed` (by reason), `lines` (dropped), `languages` and `scores`: for each score
    a histogram over all that were scored, its `threshold`, and what training measured.

    Raises:
        UserError: a source that is named has no documents, or there are too few examples.
    """
    chosen = (params.max_line_page_share, params.max_profanity, params.quality, params.perplexity)
    if all(part is None for part in chosen):
        return None
    paths = shard_paths(root / "documents")
    common = _common_lines(paths, params.max_line_page_share, work) if params.max_line_page_share else {}
    trained = _train(params, paths, labels, root / "models")
    refined = root / "refined"
    refine = partial(_refine, params=params, min_characters=min_characters, root=root, common=common, target=refined)
    results = list(map_shards(refine, paths, "clean: scores"))
    for name in ("documents", "removed"):
        shutil.rmtree(root / name)
        (refined / name).replace(root / name)
    refined.rmdir()
    counts = {name: Counter[str]() for name in ("removed", "languages")}
    lines = DroppedLines()
    scores = histogram.merge_histograms(result["histograms"] for result in results)
    for result in results:
        lines.update(result["lines"], result["samples"])
        for name, counter in counts.items():
            counter.update(result[name])
    for name, threshold in thresholds(params).items():
        scores.setdefault(name, {}).update({"threshold": threshold, **trained.get(name, {})})
    return {"out": [result["out"] for result in results], **counts, "lines": lines, "scores": scores}


def _common_lines(paths: Sequence[Path], share: float, work: Path) -> dict[str, Path]:
    """For each source a file of the hashes of its repeated lines. Conversations are no pages and have none."""
    folder = work / "lines"
    folder.mkdir(parents=True, exist_ok=True)
    by_name: dict[str, list[Path]] = {}
    for found in map_shards(partial(_count_lines, folder=folder), paths, "clean: lines"):
        for source, path in found.items():
            by_name.setdefault(source, []).append(path)
    common = {}
    for number, (source, files) in enumerate(sorted(by_name.items())):
        common[source] = folder / f"common{number}.npy"
        np.save(common[source], repeated_lines.common_line_hashes(files, share))
    return common


def _count_lines(path: Path, folder: Path) -> dict[str, Path]:
    pages: dict[str, list[Any]] = {}
    for row in read_shard(path, ["text", "source", "meta"]).to_pylist():
        if messages_of(row["meta"]) is None:
            pages.setdefault(row["source"] or "", []).append(repeated_lines.page_line_hashes(row["text"]))
    written = {}
    for number, (source, hashes) in enumerate(sorted(pages.items())):
        written[source] = folder / f"{path.stem}-{number}.npz"
        np.savez(written[source], hashes=np.concatenate(hashes), pages=len(hashes))
    return written


def sample_texts(paths: Sequence[Path], sources: Sequence[str], most: int) -> list[str]:
    """Texts of the `most` documents of the sources with the smallest ids: ids are hashes, so that is a random sample.

    Raises:
        UserError: a source has no documents.
    """
    chosen: list[tuple[int, str]] = []
    missing = set(sources)
    for path in paths:
        for row in read_shard(path, ["id", "text", "source"]).to_pylist():
            if row["source"] in sources:
                missing.discard(row["source"])
                key = -int(row["id"], 16)  # heapq keeps the largest
                if len(chosen) < most:
                    heapq.heappush(chosen, (key, row["text"]))
                else:
                    heapq.heappushpop(chosen, (key, row["text"]))
    if missing:
        raise UserError(f"params.yaml: clean: no clean document has the source {', '.join(sorted(missing))}.")
    return [text for _, text in sorted(chosen, reverse=True)]


def _train(
    params: ScoreParams, paths: Sequence[Path], labels: Sequence[Path], folder: Path
) -> dict[str, dict[str, Any]]:
    measured: dict[str, dict[str, Any]] = {}
    if params.quality:
        most = params.quality.max_examples
        texts = read_labelled_texts(labels)
        positive = [
            *texts["keep"],
            *(sample_texts(paths, params.quality.positive, most) if params.quality.positive else ()),
        ]
        negative = [
            *texts["remove"],
            *(sample_texts(paths, params.quality.negative, most) if params.quality.negative else ()),
        ]
        try:
            measured["quality"] = quality_classifier.train(positive, negative, folder)
        except ValueError as error:
            raise UserError(f"params.yaml: clean.quality: {error}. Name more sources or labels.") from None
    if params.perplexity:
        reference = sample_texts(paths, params.perplexity.reference, params.perplexity.max_documents)
        model = TrigramModel.train(reference)
        model.save(folder)
        measured["perplexity"] = {"reference_documents": len(reference), "vocabulary": model.vocabulary_size}
    return measured


def _scorers(params: ScoreParams, folder: Path) -> Iterator[tuple[str, Callable[[list[str]], Any]]]:
    """(name, texts → scores) of each score that is asked for."""
    if params.max_profanity is not None:
        from profanity_check import predict_prob

        yield "profanity", predict_prob
    if params.quality:
        yield "quality", quality_classifier.QualityClassifier(folder).scores
    if params.perplexity:
        trigrams = TrigramModel.load(folder)
        yield "perplexity", lambda texts: [trigrams.perplexity(text) for text in texts]


def _refine(
    path: Path, params: ScoreParams, min_characters: int, root: Path, common: dict[str, Path], target: Path
) -> dict[str, Any]:
    """Drop lines of one shard, score what is left, and part what does not pass; written to `target`."""
    rows: list[Row] = read_shard(path).to_pylist()
    removed: list[Row] = []
    left: list[Row] = []
    lines = DroppedLines()
    known = {source: np.load(file) for source, file in common.items()}
    for row in rows:
        if (row["source"] or "") in known and messages_of(row["meta"]) is None:
            text, dropped = repeated_lines.drop_common_lines(row["text"], known[row["source"] or ""])
            for line in dropped:
                lines.add("boilerplate", line)
            if dropped and len(text) < min_characters:
                detail = f"{len(text)} characters < {min_characters} left"
                removed.append({**row, "reason": "boilerplate", "detail": detail})
                continue
            row["meta"], row["text"] = meta_without_lines(row["meta"], row["text"], text), text
        left.append(row)
    rows = left
    histograms = {}
    texts = [row["text"] for row in rows]
    failed: dict[int, tuple[str, str]] = {}
    limits = thresholds(params)
    for name, scorer in _scorers(params, root / "models") if rows else ():
        least, most = limits[name].get("min", 0.0), limits[name].get("max", np.inf)
        values = [round(float(value), 4) for value in scorer(texts)]
        histograms[name] = histogram.count_bins(name, values)
        for index, value in enumerate(values):
            rows[index][name] = value
            if not least <= value <= most:
                limit = f"< {least:g}" if value < least else f"> {most:g}"
                failed.setdefault(index, (name, f"{value:g} {limit}"))
    removed += [{**rows[index], "reason": reason, "detail": detail} for index, (reason, detail) in failed.items()]
    table = pa.Table.from_pylist([row for index, row in enumerate(rows) if index not in failed], schema=SCHEMA)
    write_shard(table, target / "documents" / path.name)
    both = [read_shard(root / "removed" / path.name), pa.Table.from_pylist(removed, schema=REMOVED_SCHEMA)]
    write_shard(pa.concat_tables(both), target / "removed" / path.name)
    return {
        "out": count_by_source(table),
        "removed": Counter(row["reason"] for row in removed),
        "lines": lines.counts,
        "samples": lines.samples,
        "languages": Counter(lang or "unknown" for lang in table.column("lang").to_pylist()),
        "histograms": histograms,
    }
