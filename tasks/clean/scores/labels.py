"""Human labels: what people said of documents that they looked at; files as review's sample.jsonl, with `keep` or `remove` in `label`.

Labels of clean's sample are examples for its classifier. Of every stage's they say how often its reasons were right:
`python -m tasks.clean.scores.labels labels/*.jsonl` prints it, and clean has it in its metrics.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from tasks.core.errors import EXIT_USER_ERROR, UserError

Row = dict[str, Any]
LABELS: tuple[Literal["keep", "remove"], ...] = ("keep", "remove")


def _labelled(paths: Iterable[Path]) -> Iterator[Row]:
    for path in paths:
        try:
            lines = path.read_text("utf-8").splitlines()
        except OSError as error:
            raise UserError(f"{path}: {error.strerror} (a file of labels)") from None
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if row.get("label") is None:
                    continue
                if row["label"] not in LABELS or not isinstance(row["text"], str):
                    raise ValueError("label must be keep or remove, text a string")
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                raise UserError(f"{path}, line {number}: no labelled text ({error})") from None
            yield row


def read_labelled_texts(paths: Iterable[Path]) -> dict[str, list[str]]:
    """Texts by label out of JSONL files. Lines without a label are passed over, and those of other stages than clean:
    a good text may be a duplicate.

    Raises:
        UserError: a file is missing, or a line is no JSON object with `text` and such a label.
    """
    texts: dict[str, list[str]] = {label: [] for label in LABELS}
    for row in _labelled(paths):
        if row.get("stage", "clean") == "clean":
            texts[row["label"]].append(row["text"])
    return texts


def measured_precision(paths: Iterable[Path]) -> dict[str, dict[str, float]]:
    """For each reason of removal: labelled documents, and the share of them that people would remove as well.

    Raises:
        UserError: as `read_labelled_texts`.
    """
    found: dict[str, list[bool]] = {}
    for row in _labelled(paths):
        if row.get("reason"):
            found.setdefault(row["reason"], []).append(row["label"] == "remove")
    return {
        reason: {"labelled": len(right), "precision": round(sum(right) / len(right), 4)}
        for reason, right in sorted(found.items())
    }


def main(arguments: list[str] | None = None) -> int:
    """Print how often the labels agree with each reason; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tasks.clean.scores.labels", description=main.__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="labelled JSONL, as review saves it")
    try:
        measured = measured_precision(parser.parse_args(arguments).files)
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    for reason, of in measured.items():
        print(f"{reason:<28} {of['precision']:7.1%} of {of['labelled']:,} removals were right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
