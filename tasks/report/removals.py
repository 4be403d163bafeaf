"""Examples of what each stage removed, beside each reason: three documents, and the one kept in a document's place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.documents import review

Examples = dict[str, dict[str, list[dict[str, Any]]]]
"""Stage → reason → documents: id, source, url, detail, text, and for_id and for_text where it went for another's sake."""


def removal_examples(removed: Mapping[str, Path], kept: Mapping[str, Path]) -> Examples:
    """At most three removed documents of each reason, those with the smallest ids, of each stage.

    `removed` are the folders of what stages removed, by stage; `kept` those of the documents that some of them left.
    """
    found: Examples = {}
    for stage, folder in removed.items():
        drawn = review.sample_documents(stage, [folder], review.EXAMPLES)
        if stage in kept:
            review.add_kept_texts(drawn, kept[stage])
        found[stage] = review.removal_examples(drawn)
    return found
