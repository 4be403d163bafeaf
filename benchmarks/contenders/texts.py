"""What the contenders of a step share, without any package: the documents, the clock, words and shingles."""

import json
import resource
import sys
import time
from pathlib import Path


def documents() -> list[str]:
    """The texts of FOLDER/documents.jsonl, up to MEGABYTES."""
    limit, size, texts = float(sys.argv[2]) * 1e6, 0, []
    with (Path(sys.argv[1]) / "documents.jsonl").open(encoding="utf-8") as file:
        for line in file:
            texts.append(json.loads(line)["text"])
            size += len(texts[-1].encode())
            if size >= limit:
                break
    return texts


def clock() -> tuple[float, float]:
    """Seconds on the wall, and seconds of the processor that this process and its children had."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(each.ru_utime + each.ru_stime for each in used)


def report(started: tuple[float, float], size: int, **more: object) -> None:
    """Print what passed since `started`, a `clock()`, and the bytes of text that were worked on."""
    wall, processor = (now - then for now, then in zip(clock(), started, strict=True))
    print(json.dumps({"seconds": wall, "cpu_seconds": processor, "bytes": size, **more}))


def bytes_of(texts: list[str]) -> int:
    """UTF-8 bytes of all texts."""
    return sum(len(text.encode()) for text in texts)


def shingles(text: str, n: int = 5) -> list[bytes]:
    """Word n-grams the way Python code makes them; documents are lower case, words stand between spaces."""
    words = text.split()
    return [" ".join(words[i : i + n]).encode() for i in range(len(words) - n + 1)]
