"""How much text there is by source, before and after a stage."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SourceCounts = Mapping[str, Mapping[str, int]]
"""Source → {"documents", "characters", "bytes"} of text (UTF-8)."""


def count_by_source(table: pa.Table) -> dict[str, dict[str, int]]:
    """Documents, characters and bytes of text for each source."""
    text = table.column("text")
    encoded = (
        pa.chunked_array([table.column("source").fill_null("").combine_chunks()]).combine_chunks().dictionary_encode()
    )
    place, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    of_text = {"documents": None, "characters": pc.utf8_length(text), "bytes": pc.binary_length(text)}
    sums = {
        name: np.bincount(place, sizes if sizes is None else sizes.fill_null(0).to_numpy(), len(names))
        for name, sizes in of_text.items()
    }
    return {
        names[at]: {name: int(sums[name][at]) for name in sums}
        for at in sorted(range(len(names)), key=names.__getitem__)
    }


def funnel_metrics(
    before: Iterable[SourceCounts], after: Iterable[SourceCounts], removed: Mapping[str, int]
) -> dict[str, Any]:
    """Metrics of a stage that removes documents, from its shards' counts; asserts that none is unaccounted for.

    Returns documents_in, documents_out, removed (by reason), and for each source documents, characters and bytes,
    each `_in` and `_out`.
    """
    sources: dict[str, dict[str, int]] = {}
    for ending, shards in (("in", before), ("out", after)):
        for shard in shards:
            for source, sizes in shard.items():
                total = sources.setdefault(source, {f"{name}_{end}": 0 for name in sizes for end in ("in", "out")})
                for name, value in sizes.items():
                    total[f"{name}_{ending}"] += value
    total_in, total_out = (sum(sizes[f"documents_{end}"] for sizes in sources.values()) for end in ("in", "out"))
    if total_in != total_out + sum(removed.values()):
        raise AssertionError(f"{total_in} documents in, {total_out} out, but removed {dict(removed)}")
    return {
        "documents_in": total_in,
        "documents_out": total_out,
        "removed": dict(sorted(removed.items())),
        "sources": dict(sorted(sources.items())),
    }
