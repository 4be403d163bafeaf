"""What a stage removed most of: told in one line, with the parameter that decides it, where most of a source went."""

import json
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from tasks.documents.shards import read_shard, shard_paths

log = logging.getLogger(__name__)
WARN_SHARE = 0.5
"""Share of a source's documents that has to go for one reason before it is told."""


class RemovalCount(NamedTuple):
    """Documents of a source that went for a reason, of how many."""

    source: str
    reason: str
    removed: int
    documents: int


def warn_of_removals(
    stage: str, sources: Mapping[str, Mapping[str, int]], removed: Path, keys: Mapping[str, str], params: BaseModel
) -> None:
    """Warn, in a line each, of the reasons for which more than WARN_SHARE of the documents of a source went.

    Args:
        sources: source → `documents_in`, as `tasks.documents.source_counts.funnel_metrics` gives them.
        removed: the shards of what the stage removed, with `source` and `reason`.
        keys: see `removal_hint`.
    """
    for large in large_removals(sources, count_removed(removed)):
        log.warning(
            "%s: %d of the %d documents of %s are removed as %s. %s",
            *(stage, large.removed, large.documents, large.source, large.reason),
            removal_hint(stage, large.reason, keys, params),
        )


def large_removals(
    sources: Mapping[str, Mapping[str, int]], removed: Mapping[tuple[str, str], int]
) -> list[RemovalCount]:
    """The largest removals first; `removed`: (source, reason) → documents."""
    removals = [RemovalCount(*pair, count, sources[pair[0]]["documents_in"]) for pair, count in removed.items()]
    large = [removal for removal in removals if removal.removed > WARN_SHARE * removal.documents]
    return sorted(large, key=lambda removal: -removal.removed)


def count_removed(folder: Path) -> Counter[tuple[str, str]]:
    """How many documents of each source went for each reason, from two columns of the shards."""
    total: Counter[tuple[str, str]] = Counter()
    for path in shard_paths(folder):
        found = read_shard(path, ["source", "reason"]).group_by(["source", "reason"]).aggregate([([], "count_all")])
        for row in found.to_pylist():
            total[row["source"] or "", row["reason"]] += row["count_all"]
    return total


def removal_hint(stage: str, reason: str, keys: Mapping[str, str], params: BaseModel) -> str:
    """What to do about documents that go for `reason`; `keys`: how a reason begins → the key of `params` that decides."""
    key = next((key for begin, key in keys.items() if reason.startswith(begin)), None)
    if key is None:
        return f"Look at data/{stage}/removed"
    value = json.dumps(params.model_dump(mode="json")[key], ensure_ascii=False)
    return f"If they should stay, change {stage}.{key} ({value}) in params.yaml"
