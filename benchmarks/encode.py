"""Encoding documents: the project's `encode_documents` against Hugging Face's `encode_batch`, one core each.

    python -m benchmarks.encode [--documents data/decontaminate/documents] [--tokenizer data/tokenizer]

Both encode the same documents with the same tokenizer, in turn and in one process; medians of several rounds. Loading
the tokenizer (and, for the fast engine, checking it) is timed by itself. The ids are compared before anything is timed.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def read_texts(folder: Path, most_bytes: int) -> list[str]:
    from tasks.documents.shards import read_shard, shard_paths

    texts: list[str] = []
    size = 0
    for shard in shard_paths(folder):
        for text in read_shard(shard, ["text"])["text"].to_pylist():
            if size >= most_bytes:
                return texts
            texts.append(text or "")
            size += len(texts[-1].encode())
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, default=Path("data/decontaminate/documents"))
    parser.add_argument("--tokenizer", type=Path, default=Path("data/tokenizer"))
    parser.add_argument("--megabytes", type=float, default=8.0, help="of text, at most")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    from tasks.core.provenance import processor
    from tasks.tokens.encode import encode_documents, engine_name, load_tokenizer

    texts = read_texts(given.documents, int(given.megabytes * 1e6))
    size = sum(len(text.encode()) for text in texts) / 1e6
    tokenizer = load_tokenizer(given.tokenizer)
    load = seconds(lambda: load_tokenizer(given.tokenizer))
    load_ours = seconds(lambda: engine_name(given.tokenizer))
    theirs = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    assert [ids.tolist() for ids in encode_documents(given.tokenizer, texts)] == theirs
    del theirs
    runs: dict[str, Callable[[], Any]] = {
        f"encode_documents ({engine_name(given.tokenizer)})": lambda: encode_documents(given.tokenizer, texts),
        "tokenizers encode_batch": lambda: tokenizer.encode_batch(texts, add_special_tokens=False),
        "tokenizers encode_batch_fast": lambda: tokenizer.encode_batch_fast(texts, add_special_tokens=False),
    }
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(given.rounds):
        for name, work in runs.items():
            taken[name].append(seconds(work))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    ours = next(iter(medians.values()))
    print(
        f"{processor()}, {platform.python_version()}, tokenizers {version('tokenizers')}, tiktoken {version('tiktoken')}"
    )
    print(f"{len(texts):,} documents, {size:.2f} MB, one core; ids identical; medians of {given.rounds}")
    print(f"{'':34}{'MB/s':>8}{'slowest':>9}{'ours is':>10}")
    for name, median in medians.items():
        print(f"{name:34}{size / median:8.2f}{size / max(taken[name]):9.2f}{median / ours:9.2f}x")
    print(f"loading: {1000 * load_ours:.0f} ms with the fast engine and its check, {1000 * load:.0f} ms without")


if __name__ == "__main__":
    main()
