"""Memory of the data stages when the input grows tenfold: `make bench-memory`.

Each stage from scrape to pack is run on N and on 10 N MB of text (documents and conversations in one JSONL file each,
HTML pages in WARC files) by two workers, in a process of its own, and looked at a hundred times a second. What counts is
anonymous memory (RssAnon in /proc/PID/status, so Linux only): what a process allocated and the system cannot take back.
Pages of mapped files are left out, since the system drops and reads them again as it likes. A worker's memory is its own
and that of the processes it started, such as the extractor of pages.
"""

import argparse
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tasks.core import graph
from tasks.core.params import read_yaml
from tasks.core.paths import write_json
from tasks.core.provenance import processor
from tasks.scrape.warc.warc_writer import response_record
from tasks.similarity import kernels

ROOT = Path(__file__).parents[1]
STAGES = ("scrape", "clean", "dedup", "instruct", "decontaminate", "tokenizer", "pack")
EVERY_S = 0.01
PAGES_A_WARC = 1000
RECENT = 1000
"""Documents among which those are chosen that others repeat."""
SOURCES = [
    {"name": "texts", "kind": "files", "paths": ["input/texts.jsonl"]},
    {"name": "chats", "kind": "files", "paths": ["input/chats.jsonl"]},
    {"name": "pages", "kind": "warc", "paths": ["input/*.warc.gz"]},
]
RUN = """
import json, sys
from pathlib import Path
from tasks.core import paths
from tasks.core.publish import publish, staging_folder
from tasks.core.params import params_model, read_yaml, validate
from tasks.{stage} import run
root = Path.cwd()
params = validate(params_model("{stage}"), read_yaml(root / "params.yaml")["{stage}"], "{stage}")
inputs = paths.Inputs({{name: root / path for name, path in json.loads(sys.argv[1]).items()}})
with paths.work_folder(root, "{stage}", None) as work:
    outputs = paths.Outputs(staging_folder(root, "{stage}"), work)
    publish(root, "{stage}", outputs, run(params, inputs, outputs))
"""
"""A stage without DVC and MLflow, whose own memory would hide that of the work."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=8, help="N; it is measured with this and ten times as much")
    parser.add_argument(
        "--keep", type=Path, help="folder for the two projects, which then stay; default: a temporary one"
    )
    parser.add_argument("--start", choices=STAGES, default=STAGES[0], help="first stage, in projects that were kept")
    options = parser.parse_args()
    stages = STAGES[STAGES.index(options.start) :]
    kernels.compile_kernels()  # compiled once and kept on disk: not a stage's memory
    with tempfile.TemporaryDirectory() as scratch:
        peaks = []
        for factor in (1, 10):
            project = (options.keep or Path(scratch)) / f"x{factor}"
            if options.start == STAGES[0]:
                make(project, options.megabytes * factor)
            peaks.append({stage: measure(stage, project) for stage in stages})
    print(table(options.megabytes, *peaks))
    print(f"\n{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, two workers")


def make(project: Path, megabytes: float) -> None:
    """Write `input/` (a half of it texts, a quarter chats, a quarter pages), parameters and execution.yaml."""
    shutil.rmtree(project, ignore_errors=True)
    (project / "input").mkdir(parents=True)
    (project / "execution.yaml").write_text("workers: 2\n")
    params = read_yaml(ROOT / "params.yaml")
    params["scrape"] = {"sources": SOURCES}
    write_json(project / "params.yaml", params)  # JSON is YAML
    rng, text = random.Random(0), prose()
    before = [text(rng, 300) for _ in range(RECENT)]
    with (project / "input/texts.jsonl").open("w", encoding="utf-8") as file:
        for document in _up_to(megabytes / 2, lambda: text(rng, rng.randint(100, 700))):
            document = repeat(document, before, rng)
            file.write(json.dumps({"text": document}) + "\n")
    with (project / "input/chats.jsonl").open("w", encoding="utf-8") as file:
        for chat in _up_to(megabytes / 4, lambda: "\n".join(text(rng, rng.randint(5, 40)) for _ in range(10))):
            roles = ("user", "assistant") * 5
            said = [{"role": role, "content": turn} for role, turn in zip(roles, chat.split("\n"), strict=True)]
            file.write(json.dumps({"messages": said}) + "\n")
    for number, page in enumerate(_up_to(megabytes / 4, lambda: text(rng, rng.randint(100, 700)))):
        paragraphs = "".join(f"<p>{part}.</p>\n" for part in page.split(". "))
        html = f"<html><head><title>Page {number}</title></head><body><main>{paragraphs}</main></body></html>".encode()
        header = [("Content-Type", "text/html; charset=utf-8")]
        url = f"http://example.org/{number}"
        with (project / "input" / f"{number // PAGES_A_WARC:05d}.warc.gz").open("ab") as file:
            file.write(response_record(url, "2026-01-01T00:00:00Z", 200, "HTTP/1.1", header, html))


def repeat(text: str, before: list[str], rng: random.Random) -> str:
    """`text`, or in a tenth of the cases one of those `before` it, as it was or changed a little, or quoted in it."""
    other = rng.choice(before)
    before[rng.randrange(RECENT)] = text
    chance = rng.random()
    if chance < 0.03:
        return other
    if chance < 0.06:
        return f"{other} Thus it was said."
    return f"{text}\n\n{other}" if chance < 0.1 else text


def prose() -> Callable[[random.Random, int], str]:
    """A maker of sentences out of the words of Python's manual, as frequent as there: alike in words, not in order."""
    from pydoc_data.topics import topics

    words = re.findall(r"\b[a-z]+\b", " ".join(topics.values()))

    def text(rng: random.Random, length: int) -> str:
        drawn = rng.choices(words, k=length)
        return ". ".join(" ".join(drawn[at : at + 15]).capitalize() for at in range(0, length, 15))

    return text


def _up_to(megabytes: float, text: Callable[[], str]) -> Iterator[str]:
    size = 0
    while size < megabytes * 1e6:
        size += len(made := text())
        yield made


def measure(stage: str, project: Path) -> tuple[int, int]:
    """Run a stage; returns the largest anonymous memory, in bytes, of its main process and of a worker."""
    node = graph.load_stage(ROOT, stage)
    inputs = {name: str(path.relative_to(ROOT)) for name, path in node.inputs.items()}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RUN.format(stage=stage), json.dumps(inputs)]
    largest = {"main": 0, "worker": 0}
    started = time.monotonic()
    with subprocess.Popen(command, cwd=project, env=environment) as running:
        process = psutil.Process(running.pid)
        while running.poll() is None:
            largest["main"] = max(largest["main"], anonymous(running.pid))
            try:
                workers = [
                    each for server in process.children() for each in server.children()
                ]  # what they are forked from
                trees = [[worker, *worker.children(recursive=True)] for worker in workers]
            except psutil.NoSuchProcess:
                trees = []
            for tree in trees:
                largest["worker"] = max(largest["worker"], sum(anonymous(each.pid) for each in tree))
            time.sleep(EVERY_S)
    if running.returncode:
        raise SystemExit(f"{stage} failed")
    print(f"{project.name}: {stage}: {time.monotonic() - started:.0f} s, {largest}", file=sys.stderr)
    return largest["main"], largest["worker"]


def anonymous(pid: int) -> int:
    """Bytes of anonymous memory that a process holds now; 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def table(megabytes: float, small: dict[str, tuple[int, int]], large: dict[str, tuple[int, int]]) -> str:
    """Markdown: peak of a worker and of the main process, MB at N and 10 N, and their ratio."""
    sizes = f"{megabytes:g} MB | {10 * megabytes:g} MB | ×"
    lines = [f"| stage | worker: {sizes} | main process: {sizes} |", "| --- |" + " ---: |" * 6]
    for stage, (main_small, worker_small) in small.items():
        main_large, worker_large = large[stage]
        cells = [
            f"{one / 1e6:.0f} | {ten / 1e6:.0f} | {ten / one:.2f}" if one else "none | none | "
            for one, ten in ((worker_small, worker_large), (main_small, main_large))
        ]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
