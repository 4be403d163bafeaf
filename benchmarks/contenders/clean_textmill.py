"""The stage on web pages with every published rule set: extraction, mending, language, filters, masks; WARC in, Parquet out."""

import shutil
import sys
from pathlib import Path

from texts import clock, report

STARTED = clock()

from tasks.clean.extraction_process import extractor  # noqa: E402
from tasks.clean.stage import CleanParams, run  # noqa: E402
from tasks.core.execution import load_execution  # noqa: E402
from tasks.core.parallel.engine import kept_workers  # noqa: E402
from tasks.core.paths import Inputs, Outputs  # noqa: E402

RULES = ("gopher_repetition", "gopher_quality", "c4", "fineweb")


def main() -> None:
    out = Path(sys.argv[3])
    shutil.rmtree(out, ignore_errors=True)
    (out / "work").mkdir(parents=True)
    params = CleanParams.model_validate({"rules": RULES, "languages": ["en"]})
    with kept_workers():
        metrics = run(params, Inputs({"scrape": Path(sys.argv[1]) / "pages"}), Outputs(out, out / "work"))
    extractor().close()  # only the processor time of processes that have ended is counted
    size = sum(sizes["bytes_in"] for sizes in metrics["sources"].values())
    report(STARTED, size, kept=metrics["documents_out"], workers=load_execution().worker_count())


if __name__ == "__main__":
    main()
