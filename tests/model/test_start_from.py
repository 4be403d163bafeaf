"""A model of somebody else as the start: named, adopted, trained on or tuned, and told before training what cannot be."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from flows import run_plan
from tasks.core.errors import UserError
from tasks.core.params import params_model, validate
from tasks.finetune import stage as finetune
from tasks.model.llama_cpp import GgufModel
from tasks.model.model_pointer import resolve_model
from tasks.model.start_from import entry_stage, locate_model, read_model_source
from tasks.pack import stage as pack
from tasks.pretrain import stage as pretrain
from tasks.pretrain.document_isolation import isolating_family
from tasks.quantize.gguf_export import export_gguf
from tasks.tokenizer import stage as tokenizer_stage
from tasks.tokens.chat_encoder import ChatEncoder
from tasks.tokens.encode import load_tokenizer
from tests.helpers import hub_server
from tests.helpers.architectures import tiny
from tests.helpers.checkout import ROOT
from tests.helpers.given import CHATML, digits_split, given_model, gpt2_split, qwen_split, stage
from tests.helpers.tiny import conversation, conversations
from tests.helpers.training_tokenizers import corpus

pytestmark = pytest.mark.usefixtures("one_worker")
GGUF = {"quantize.formats": ("q8_0",)}
PROBES = ["the cat sees 1234 seas", "don't  'LL\n\n x\t12a3 ", "né 日本 हिन्दी \U0001f469‍\U0001f4bb", "a\r\n\r\nb !? #1"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """data/ with documents to train on, and conversations."""
    corpus(tmp_path / "data/decontaminate/documents", count=40)
    made = conversations(tmp_path / "made", [conversation(seed) for seed in range(12)])
    (tmp_path / "data/instruct").mkdir()
    shutil.copytree(made, tmp_path / "data/instruct/train")
    return tmp_path / "data"


def adopt(data: Path, key: str, model: Path, **settings: Any) -> dict[str, Any]:
    return stage(tokenizer_stage, data, ["decontaminate/documents"], {key: str(model), **settings})


def test_a_given_model_is_tuned_in_its_own_form(data: Path, tmp_path: Path) -> None:
    given = given_model(tmp_path / "given", "llama", digits_split())
    metrics = adopt(data, "finetune.start_from", tmp_path / "given", **GGUF)
    assert metrics["adopted_from"] == str(tmp_path / "given")
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (data / "tokenizer" / name).read_bytes() == (tmp_path / "given" / name).read_bytes()
    stage(pack, data, ["decontaminate/documents", "tokenizer"], context_length=64)
    passed = stage(pretrain, data, ["pack", "tokenizer"])
    assert (passed["steps"], passed["parameters"]) == (0, sum(weights.numel() for weights in given.parameters()))
    assert sorted(path.name for path in (data / "pretrain").iterdir()) == ["curves.csv", "model.json"]  # no copy
    base = resolve_model(data / "pretrain")
    ids = torch.arange(30)[None]
    assert torch.equal(AutoModelForCausalLM.from_pretrained(base)(ids).logits, given(ids).logits)

    lora = {"rank": 4, "alpha": 8.0}
    tuned = stage(
        finetune, data, ["instruct/train", "pretrain", "tokenizer"], max_steps=6, batch=4, micro_batch=4, max_length=64, method="lora",
        start_from=str(tmp_path / "given"), learning_rate=0.01, lora=lora,
    )  # fmt: skip
    assert tuned["loss_last"] < tuned["loss_first"]
    model = AutoModelForCausalLM.from_pretrained(data / "finetune")
    assert not torch.equal(model(ids).logits, given(ids).logits)
    fast, encoder = AutoTokenizer.from_pretrained(data / "finetune"), ChatEncoder(data / "finetune")
    assert fast.chat_template == CHATML
    messages = [{"role": "user", "content": "Hello"}]
    asked = fast.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert encoder.prompt(messages, 99) == asked
    assert set(model.generation_config.eos_token_id) == {0, 2}


def test_a_given_model_is_trained_on(data: Path, tmp_path: Path) -> None:
    """Its loss begins where its own is, and it keeps its kind, its context and its tokenizer."""
    given_model(tmp_path / "given", "qwen2", qwen_split())
    adopt(data, "pretrain.start_from", tmp_path / "given")
    stage(pack, data, ["decontaminate/documents", "tokenizer"], context_length=64)
    params: dict[str, Any] = {"steps": 3, "global_batch_tokens": 256, "warmup_steps": 0, "learning_rate": 1e-9}
    metrics = stage(
        pretrain, data, ["pack", "tokenizer"], **params, optimizer="adamw", start_from=str(tmp_path / "given")
    )
    trained = AutoModelForCausalLM.from_pretrained(data / "pretrain")
    given = AutoModelForCausalLM.from_pretrained(tmp_path / "given")
    assert (trained.config.model_type, trained.config.max_position_embeddings) == ("qwen2", 128)
    ids = torch.arange(1, 60)[None]  # 0 pads: its row is 0, and norms make much of nothing
    assert torch.allclose(trained(ids).logits, given(ids).logits, atol=1e-4)
    assert metrics["training_loss"] == pytest.approx(5.8, abs=0.5)  # ln 340
    assert (data / "pretrain/tokenizer.json").read_bytes() == (tmp_path / "given/tokenizer.json").read_bytes()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_model_without_a_chat_template_gets_ours_and_learns_its_tokens(
    data: Path, tmp_path: Path, method: str
) -> None:
    given = given_model(tmp_path / "given", "llama", gpt2_split(), template=None)
    metrics = adopt(data, "finetune.start_from", tmp_path / "given", **GGUF)
    assert metrics["added_tokens"] == 5
    old = given.config.vocab_size
    assert Tokenizer.from_file(str(data / "tokenizer/tokenizer.json")).token_to_id("<|user|>") >= old
    stage(pack, data, ["decontaminate/documents", "tokenizer"], context_length=64)
    stage(pretrain, data, ["pack", "tokenizer"])
    base = AutoModelForCausalLM.from_pretrained(resolve_model(data / "pretrain"))
    ids = torch.arange(30)[None]
    assert torch.allclose(base(ids).logits[..., :old], given(ids).logits, atol=1e-5)
    stage(
        finetune, data, ["instruct/train", "pretrain", "tokenizer"], max_steps=4, batch=4, micro_batch=4, max_length=64, method=method,
        learning_rate=0.01, start_from=str(tmp_path / "given"),
    )  # fmt: skip
    tuned = AutoModelForCausalLM.from_pretrained(data / "finetune")
    rows = tuned.get_input_embeddings().weight[old:]
    assert float(torch.pdist(rows).min()) > float(given.get_input_embeddings().weight.std())  # the roles differ
    assert torch.equal(rows, base.get_input_embeddings().weight[old:]) == (method == "lora")
    export_gguf(data / "finetune", tmp_path / "m.gguf", "f32")


@pytest.mark.parametrize("splitter", [gpt2_split, digits_split, qwen_split])
def test_llama_cpp_encodes_as_the_adopted_tokenizer_does(tmp_path: Path, splitter: Any) -> None:
    given_model(tmp_path / "given", "llama", splitter())
    export_gguf(tmp_path / "given", tmp_path / "m.gguf", "f32")
    theirs = load_tokenizer(tmp_path / "given")
    with GgufModel(tmp_path / "m.gguf", 128, 1) as exported:
        for text in PROBES:
            assert exported.tokens(text) == theirs.encode(text, add_special_tokens=False).ids, text


def test_a_gguf_file_is_a_start(data: Path, tmp_path: Path) -> None:
    """The way it splits text stands in the file; transformers alone would take GPT-2's for it."""
    given = given_model(tmp_path / "given", "llama", digits_split())
    (tmp_path / "files").mkdir()
    export_gguf(tmp_path / "given", tmp_path / "files/m.gguf", "f32")
    adopt(data, "finetune.start_from", tmp_path / "files", **GGUF)
    adopted, theirs = load_tokenizer(data / "tokenizer"), load_tokenizer(tmp_path / "given")
    for text in PROBES:
        assert adopted.encode(text).ids == theirs.encode(text, add_special_tokens=False).ids
    stage(pack, data, ["decontaminate/documents", "tokenizer"], context_length=64)
    stage(pretrain, data, ["pack", "tokenizer"])
    base = AutoModelForCausalLM.from_pretrained(resolve_model(data / "pretrain"))
    ids = torch.arange(30)[None]
    assert torch.allclose(base(ids).logits, given(ids).logits, atol=1e-4)


def test_what_cannot_be_exported_is_told_before_anything_is_trained(data: Path, tmp_path: Path) -> None:
    given_model(tmp_path / "opt", "opt", gpt2_split())
    with pytest.raises(UserError, match=r"finetune\.start_from: .*knows llama, .*this is 'opt'.*torchao-int8"):
        adopt(data, "finetune.start_from", tmp_path / "opt", **GGUF)
    shutil.rmtree(data / "tokenizer")
    shutil.rmtree(data.parent / "work")
    adopt(data, "finetune.start_from", tmp_path / "opt", **{"quantize.formats": ("torchao-int8",)})


def test_documents_that_would_see_each_other_are_refused(tmp_path: Path) -> None:
    """Known families are kept apart as they want it (OPT by a mask); of unknown ones, those that positions keep apart."""
    found = {
        kind: isolating_family(given_model(tmp_path / kind, kind, gpt2_split()), kind)
        for kind in ("llama", "opt", "qwen2")
    }
    assert {kind: family.isolation for kind, family in found.items()} == {
        "llama": "positions",
        "opt": "mask",
        "qwen2": "positions",
    }
    with pytest.raises(UserError, match=r"bloom.*finetune\.start_from instead, or start from one of: llama, mistral"):
        isolating_family(given_model(tmp_path / "bloom", "bloom", gpt2_split()), "bloom")
    with pytest.raises(UserError, match=r"bert is no decoder.*pretrain\.family: bert"):
        isolating_family(tiny("bert"), "mine")


def test_files_that_changed_since_the_tokenizer_was_adopted(data: Path, tmp_path: Path) -> None:
    model = given_model(tmp_path / "given", "llama", gpt2_split())
    adopt(data, "finetune.start_from", tmp_path / "given")
    stage(pack, data, ["decontaminate/documents", "tokenizer"], context_length=64)
    stage(pretrain, data, ["pack", "tokenizer"])
    model.model.norm.weight.data += 1
    model.save_pretrained(tmp_path / "given")
    with pytest.raises(UserError, match="files are others than those whose tokenizer was adopted"):
        resolve_model(data / "pretrain")


def test_mistakes(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name a model in one of them"):
        entry_stage("a/b", "c/d")
    assert entry_stage(None, None) is None
    given = tmp_path / "given"
    given_model(given, "llama", gpt2_split())
    for name, said in (
        ("package:not-there", "package is not installed"),
        ("./nowhere", "no such file or folder"),
        (str(given / "config.json"), "no folder and no .gguf file"),
        (str(data), "neither a Hugging Face model"),
    ):
        with pytest.raises(UserError, match=said) as raised:
            locate_model(name, "finetune.start_from")
        assert str(raised.value).startswith(f"params.yaml: finetune.start_from: {name}")
    (given / "model.safetensors").rename(given / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickle only"):
        locate_model(str(given), "finetune.start_from")


def test_what_is_named_is_looked_for_before_the_flow_starts(tmp_path: Path) -> None:
    for name in ("pretrain", "finetune"):
        with pytest.raises(UserError, match=rf"params\.yaml: {name}\.start_from: \./nowhere: there is no such file"):
            validate(params_model(name), {"start_from": "./nowhere"}, name).check_paths(tmp_path)
        validate(params_model(name), {"start_from": "owner/name@v1"}, name).check_paths(
            tmp_path
        )  # the hub is not asked
    with pytest.raises(UserError, match="name a model in one of them"):
        run_plan.check_project(ROOT, {"pretrain.start_from": "a/b", "finetune.start_from": "c/d"})


def test_rows_longer_than_the_given_model_reads(data: Path, tmp_path: Path) -> None:
    given_model(tmp_path / "given", "llama", gpt2_split())
    adopt(data, "pretrain.start_from", tmp_path / "given")
    stage(pack, data, ["decontaminate/documents", "tokenizer"], context_length=256)
    numbers = {"steps": 1, "global_batch_tokens": 256, "warmup_steps": 0, "learning_rate": 1e-4}
    with pytest.raises(UserError, match=r"pack\.context_length: 256 is more than the 128 tokens"):
        stage(pretrain, data, ["pack", "tokenizer"], start_from=str(tmp_path / "given"), **numbers)


def test_code_that_a_model_brings_is_never_run(data: Path, tmp_path: Path) -> None:
    given_model(tmp_path / "given", "llama", gpt2_split())
    path = tmp_path / "given/config.json"
    config = json.loads(path.read_text()) | {
        "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    }
    path.write_text(json.dumps(config | {"model_type": "evil"}))
    (tmp_path / "given/evil.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: ...\nclass Model: ...\n"
    )
    with pytest.raises(UserError, match="configuration cannot be read"):
        adopt(data, "finetune.start_from", tmp_path / "given")
    assert not (tmp_path / "ran").exists()


def test_source_of_a_tokenizer_that_was_trained_here(tmp_path: Path) -> None:
    assert read_model_source(tmp_path) is None


LOCATE = """
import sys
from tasks.core.errors import UserError
from tasks.model.start_from import fingerprint, locate_model
try:
    found = locate_model(sys.argv[1], "finetune.start_from")
    print(found.revision, *fingerprint(found), found.folder)
except UserError as error:
    print(error)
"""


def ask_hub(home: Path, address: str, name: str, **more: str) -> str:
    environment = {
        **os.environ,
        "HF_ENDPOINT": address,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(home),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", LOCATE, name], env=environment | more, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_model_of_the_hub(tmp_path: Path) -> None:
    given_model(tmp_path / "given", "llama", gpt2_split())
    files = {path.name: path.read_bytes() for path in (tmp_path / "given").iterdir()}
    files |= {"pytorch_model.bin": b"pickle", "evil.py": b"print()"}
    with hub_server.serve(files, token="t") as address:
        found = ask_hub(tmp_path / "home", address, "o/m@main", HF_TOKEN="t")
        commit, *named, folder = found.split(" ")
        assert (commit, named) == (hub_server.COMMIT, ["model.safetensors", "config.json"])
        assert {path.name for path in Path(folder).iterdir()} == files.keys() - {"pytorch_model.bin", "evil.py"}
        assert (Path(folder) / "model.safetensors").read_bytes() == files["model.safetensors"]
        refused = ask_hub(tmp_path / "other", address, "o/m")
        assert re.fullmatch(r"params\.yaml: finetune\.start_from: o/m: .*restricted.*needs HF_TOKEN", refused)
    gone = address  # nobody listens there now
    assert ask_hub(tmp_path / "home", gone, f"o/m@{hub_server.COMMIT}") == found  # out of the cache
    said = ask_hub(tmp_path / "empty", gone, "o/m", HF_HUB_ETAG_TIMEOUT="1")
    assert "the Hugging Face hub is out of reach" in said
    assert len(said.splitlines()) == 1
