"""The stage: Parquet in, Parquet out, every candidate pair compared exactly; imports and start-up included."""

import json
import shutil
import sys
from pathlib import Path

from texts import clock, report

STARTED = clock()

from tasks.core.execution import load_execution  # noqa: E402
from tasks.core.parallel.engine import kept_workers  # noqa: E402
from tasks.core.paths import Inputs, Outputs  # noqa: E402
from tasks.dedup.stage import DedupParams, run  # noqa: E402
from tasks.documents.shards import read_documents  # noqa: E402


def main() -> None:
    source, out = Path(sys.argv[1]) / "documents", Path(sys.argv[3])
    shutil.rmtree(out, ignore_errors=True)
    (out / "work").mkdir(parents=True)
    with kept_workers():
        metrics = run(DedupParams(), Inputs({"documents": source}), Outputs(out, out / "work"))
    size = sum(sizes["bytes_in"] for sizes in metrics["sources"].values())
    report(STARTED, size, kept=str(out / "kept.json"), workers=load_execution().worker_count())
    kept = read_documents(out / "documents", ["id"]).column("id").to_pylist()
    (out / "kept.json").write_text(json.dumps(kept))


if __name__ == "__main__":
    main()
