"""A checkout of the project with real text of its own and small parameters."""

import inspect
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tasks.scrape.package_conversations import read as read_package
from tests.helpers.checkout import ROOT

SMALL: dict[str, dict[str, Any]] = {
    "scrape": {"sources": [{"name": "texts", "kind": "files", "paths": ["texts/*"]}]},
    "instruct": {"validation_fraction": 0.1},
    "tokenizer": {"vocab_size": 512},
    "pack": {"context_length": 128},
    "pretrain": {
        "layers": 2,
        "hidden": 64,
        "heads": 2,
        "intermediate": 128,
        "steps": 60,
        "global_batch_tokens": 1024,
        "warmup_steps": 5,
        "validation_every": 20,
        "checkpoint_every": 10,
    },
    "finetune": {"max_steps": 6, "batch": 4, "micro_batch": 4, "max_length": 128},
    "prefer": {
        "method": "grpo",
        "grpo": {"steps": 2, "prompts": 2, "samples": 4},
        "held_out": 8,
        "max_new_tokens": 16,
    },
    "quantize": {"prompts": 4, "max_bytes": 2000, "formats": ["f16", "q8_0", "torchao-int8"]},
    "evaluate": {"max_bytes": 4000, "max_questions": 2, "max_new_tokens": 8, "prompts": ["Hello!"], "samples": 1},
}


def write_texts(folder: Path) -> None:
    """300 conversations, the documentation of standard modules as text and HTML, a duplicate, an address, mojibake."""
    folder.mkdir()
    conversations = [
        item.meta["messages"] for item, _ in zip(read_package("chitchat-dataset"), range(300), strict=False)
    ]
    rows = [json.dumps({"messages": messages}) for messages in conversations]
    (folder / "conversations.jsonl").write_text("\n".join([*rows, rows[0]]) + "\n")
    for name in ("argparse", "email", "heapq", "random", "statistics", "threading", "decimal", "string"):
        module = __import__(name)
        members = [
            value for _, value in inspect.getmembers(module) if inspect.isclass(value) or inspect.isroutine(value)
        ]
        text = "\n\n".join(filter(None, (inspect.getdoc(value) for value in [module, *members])))
        (folder / f"{name}.txt").write_text(f"{text}\n\nAsk ada@example.org about it: itâ€™s all thereâ€¦\n")
        (folder / f"{name}.html").write_text(
            f"<html><body><nav>Home</nav><pre>{name}: {text[:3000]}</pre></body></html>"
        )


def small_project(folder: Path) -> Path:
    """A checkout of the project with its own text and small parameters."""
    folder.mkdir()
    for name in (
        "tasks",
        "flows",
        ".dvc",
        "dvc.yaml",
        "params.yaml",
        "execution.yaml",
        ".gitignore",
        ".dvcignore",
        "evaluation",
    ):
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "cache", "tmp"))
        else:
            shutil.copy(source, target)
    yaml = YAML()
    params = yaml.load((folder / "params.yaml").read_text())
    for stage, changes in SMALL.items():
        params[stage].update(changes)
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    write_texts(folder / "texts")
    run = lambda *command: subprocess.run(command, cwd=folder, check=True, capture_output=True)  # noqa: E731
    run("git", "init", "-q")
    run("git", "config", "user.name", "t")
    run("git", "config", "user.email", "t@example.org")
    run("git", "add", "-A")
    run("git", "commit", "-qm", "small")
    return folder


def make(template: Path, folder: Path, workers: int) -> Path:
    shutil.copytree(template, folder)
    (folder / "execution.yaml").write_text(f"workers: {workers}\nranks: 1\nthreads: 1\ndevice: cpu\n")
    return folder
