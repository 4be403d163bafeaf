"""text-dedup's command, Parquet in, Arrow out, with as many bands and rows as the stage and its faster hash."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
from texts import bytes_of, clock, report


def main() -> None:
    source, out = Path(sys.argv[1]) / "documents", Path(sys.argv[3])
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    command = [sys.executable, "-m", "text_dedup.minhash", "--path", "parquet", "--split", "train"]
    command += [
        "--data_files",
        str(source / "*.parquet"),
        "--cache_dir",
        str(out / "cache"),
        "--output",
        str(out / "o"),
    ]
    command += ["--column", "text", "--num_proc", "1", "--ngram", "5", "--threshold", "0.8", "--num_perm", "125"]
    command += ["--b", "25", "--r", "5", "--hash_func", "xxh3"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(out / "cache")}
    files = sorted(source.glob("*.parquet"))
    size = sum(bytes_of(pq.read_table(path, columns=["text"]).column("text").to_pylist()) for path in files)
    started = clock()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    report(started, size, kept=str(out / "kept.json"))
    import datasets

    (out / "kept.json").write_text(json.dumps(list(datasets.load_from_disk(str(out / "o"))["id"])))


if __name__ == "__main__":
    main()
