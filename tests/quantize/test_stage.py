"""Exports run as the model they were made from: llama.cpp's log-probabilities decide, and a wrong permutation is caught."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.architectures.families.table import FAMILIES
from tasks.conversations.conversation import SCHEMA, render_conversation
from tasks.core.errors import UserError
from tasks.core.paths import Inputs, Outputs
from tasks.corrupted_text.corruptions import ask
from tasks.corrupted_text.restorer import load_restorer
from tasks.documents.shards import SCHEMA as DOCUMENTS
from tasks.documents.shards import write_documents, write_shard
from tasks.model.gguf_layouts import LAYOUTS
from tasks.model.llama_cpp import GgufModel
from tasks.model.model_pointer import write_pointer
from tasks.quantize import gguf_export as export
from tasks.quantize.comparison_text import choose_text
from tasks.quantize.export_check import ExportCheck
from tasks.quantize.gguf_weights import permute_heads
from tasks.quantize.restorer_formats import distance
from tasks.quantize.stage import QuantizeParams, run
from tasks.tokenizer.trainers import train_tokenizer
from tasks.tokens.chat_encoder import ChatEncoder
from tests.helpers.evaluating import nothing_preferred
from tests.helpers.restorers import OBJECTIVES, untrained
from tests.helpers.tiny import conversation, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that has learnt something, so that its log-probabilities differ from token to token."""
    folder: Path = tmp_path_factory.mktemp("model") / "finetune"
    folder.mkdir()
    tiny_model(folder, train_steps=60)
    return folder


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("held") / "held_out"
    rows = [
        {"id": f"{n:03}", "source": "toy", "kind": "conversation", "messages": conversation(n)}
        for n in range(1000, 1012)
    ]
    write_shard(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "00000.parquet")
    return folder


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of which every fourth is held out."""
    rows = [
        {
            "id": f"{n:03}",
            "source": "toy",
            "text": render_conversation(conversation(n)),
            "split": "train" if n % 4 else "validation",
        }
        for n in range(2000, 2016)
    ]
    return documents_in(tmp_path_factory.mktemp("documents") / "documents", rows)


def documents_in(folder: Path, rows: list[dict[str, Any]]) -> Path:
    write_documents(rows, folder, schema=DOCUMENTS.append(pa.field("split", pa.string())))
    return folder


def quantize(
    model: Path, held_out: Path, folder: Path, documents: Path | None = None, **params: Any
) -> tuple[dict[str, Any], Outputs]:
    outputs = Outputs(folder / "out", folder / "work")
    outputs.root.mkdir(parents=True)
    outputs.work.mkdir()
    settings = QuantizeParams(**{"prompts": 6, "max_bytes": 600} | params)
    inputs = {"finetune": model, "prefer": nothing_preferred(folder, model), "held_out": held_out, "train": held_out}
    inputs["documents"] = documents or folder
    return run(settings, Inputs(inputs), outputs), outputs


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.slow
def test_every_format_keeps_the_model(model: Path, held_out: Path, tmp_path: Path) -> None:
    metrics, outputs = quantize(model, held_out, tmp_path / "a")
    assert metrics["gate"]["max_distance"] <= 1e-3
    assert metrics["gate"]["prompts"] == 6
    whole = metrics["reference"]["bits_per_byte"]
    formats = metrics["formats"]
    assert list(formats) == ["f16", "q8_0", "q4_0", "torchao-int8"]
    for measured in formats.values():
        assert measured["bits_per_byte"] == pytest.approx(whole, abs=0.15)
        assert measured["bytes"] < metrics["reference"]["bytes"]
    assert formats["f16"]["bits_per_byte"] == pytest.approx(whole, abs=2e-3)
    assert formats["f16"]["max_distance"] < formats["q8_0"]["max_distance"] < formats["q4_0"]["max_distance"]
    assert formats["q4_0"]["bytes"] < formats["q8_0"]["bytes"] < formats["f16"]["bytes"]
    assert json.loads((outputs / "table.json").read_text()) == metrics
    assert set(outputs.timings) == {f"{name}_tokens_per_second" for name in formats}
    assert not list(outputs.root.rglob("*.bin"))
    again, second = quantize(model, held_out, tmp_path / "b")
    assert again == metrics
    assert bytes_of(second.root) == bytes_of(outputs.root)


@pytest.mark.parametrize("family", OBJECTIVES)
def test_encoders_have_int8_by_their_own_class(family: str, documents: Path, tmp_path: Path) -> None:
    """It loads again, answers much as the model does, and takes less room; GGUF is passed over, and says why."""
    source = untrained(tmp_path, family, hidden=64, heads=4)
    metrics, outputs = quantize(source, tmp_path, tmp_path / "a", documents, formats=("f16", "torchao-int8"))
    reason = f"GGUF export knows {', '.join(LAYOUTS)}, this is '{FAMILIES[family].model_type}'"
    assert metrics["passed_over"] == {"f16": reason}
    assert [path.name for path in outputs.root.iterdir() if path.is_dir()] == ["torchao-int8"]
    made = metrics["formats"]["torchao-int8"]
    assert 0 < made["mean_distance"] < made["max_distance"] < 0.1
    assert made["bits_per_byte"] == pytest.approx(metrics["reference"]["bits_per_byte"], abs=0.01)
    assert made["bytes"] < 0.7 * metrics["reference"]["bytes"]
    assert json.loads((outputs / "table.json").read_text()) == metrics
    again, second = quantize(source, tmp_path, tmp_path / "b", documents, formats=("torchao-int8",))
    assert again["formats"] == metrics["formats"]
    assert bytes_of(second / "torchao-int8") == bytes_of(outputs / "torchao-int8")
    restorer = load_restorer(source, "cpu")
    questions = ask(restorer, ChatEncoder(source).texts(["the cat likes the sea and green tea"]))
    assert distance(restorer, restorer.model, questions) == (0.0, 0.0)
    nothing, third = quantize(source, tmp_path, tmp_path / "c", documents, formats=("q8_0",))
    assert nothing["formats"] == {}
    assert [path.name for path in third.root.iterdir()] == ["table.json"]


def test_a_tokenizer_that_is_no_bpe(model: Path, held_out: Path, tmp_path: Path) -> None:
    """GGUF is refused with the parameter's name before anything is exported; torchao's weights do not need it."""
    folder = tmp_path / "finetune"
    shutil.copytree(model, folder)
    texts = [turn["content"] for number in range(100) for turn in conversation(number)]
    train_tokenizer("unigram", 270, 2, iter(texts), sum(map(len, texts)), "x").save(str(folder / "tokenizer.json"))
    with pytest.raises(UserError, match=r"is Unigram, but GGUF export .* quantize\.formats to \[torchao-int8\]"):
        quantize(folder, held_out, tmp_path / "a", formats=("q8_0", "torchao-int8"))
    metrics, _ = quantize(folder, held_out, tmp_path / "b", formats=("torchao-int8",))
    assert list(metrics["formats"]) == ["torchao-int8"]
    assert metrics["gate"] == {"prompts": 0}


def test_an_unpermuted_export_fails_the_gate(
    model: Path, held_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpermuted(weight: Any, heads: int) -> Any:
        return weight

    monkeypatch.setattr("tasks.quantize.gguf_weights.permute_heads", unpermuted)
    with pytest.raises(UserError, match=r"differ from the model's by up to \S+, more than .* the export is wrong"):
        quantize(model, held_out, tmp_path / "a", max_distance=0.1)
    assert not list((tmp_path / "a/out").iterdir())


def test_bits_per_byte_of_llama_cpp_is_that_of_transformers(model: Path, held_out: Path, tmp_path: Path) -> None:
    from tasks.model.load import load_model, prepare_torch

    prepare_torch()
    whole = load_model(model, "cpu")
    encoder = ChatEncoder(model)
    check = ExportCheck(whole, encoder, choose_text(encoder, True, held_out, tmp_path, 3, 900, 128))
    export.export_gguf(model, tmp_path / "model.gguf", "f32")
    with GgufModel(tmp_path / "model.gguf", check.context, 1) as exported:
        said, expected = check.scores(exported), check.scores_of(whole)
        assert said["bits_per_byte"] == pytest.approx(expected["bits_per_byte"], abs=1e-4)
        assert said["same_token"] > 0.99
        assert check.differences(exported)["kl_divergence"] < 1e-5
        prompt = check.prompts[0]
        every = exported.next_token_log_probabilities(prompt, 384)
        assert math.fsum(math.exp(value) for value in every.values()) == pytest.approx(1, abs=1e-4)
        token, value = max(every.items(), key=lambda item: item[1])
        (forced,) = exported.forced(prompt, [token])
        assert forced.log_probability == pytest.approx(value, abs=1e-4)
        assert forced.likeliest == token


def test_characters_of_several_tokens_are_scored_too(model: Path, tmp_path: Path) -> None:
    """llama.cpp knows no grammar for a part of a character, and gives no probability of it; the sum is exact all the same."""
    import torch

    from tasks.model.load import load_model

    encoder = ChatEncoder(model)
    tokens = encoder.texts(["tea 🍵🍵 süß 早安 ok"])[0]
    assert len(tokens) > 20
    with torch.inference_mode():
        logits = load_model(model, "cpu")(torch.tensor([[encoder.start, *tokens]])).logits[0, :-1]
    expected = torch.log_softmax(logits.double(), -1).gather(1, torch.tensor(tokens)[:, None]).squeeze(1)
    likeliest = logits.argmax(-1)
    export.export_gguf(model, tmp_path / "model.gguf", "f32")
    with GgufModel(tmp_path / "model.gguf", 128, 1) as exported:
        for first in (0, 6):  # 6 is amid a character
            said = exported.forced([encoder.start, *tokens[:first]], tokens[first:])
            assert [token.log_probability for token in said] == pytest.approx(expected[first:].tolist(), abs=1e-3)
            assert [token.likeliest for token in said] == likeliest[first:].tolist()


def test_permutation_pairs_the_halves() -> None:
    """Row i and row i + d/2 of a head become rows 2i and 2i + 1 (llama.cpp's convert_hf_to_gguf.py does the same)."""
    rows = np.arange(2 * 8, dtype=np.float32)[:, None]
    assert permute_heads(rows, 2)[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]


def test_a_mixture_is_what_its_table_says(
    model: Path, held_out: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A width of 64 fits no K-quant: what took its place is told and written down, and the file holds just that."""
    from gguf import GGUFReader

    metrics, outputs = quantize(model, held_out, tmp_path / "a", formats=("q4_k_m", "q4_0"))
    mixed, plain = metrics["formats"]["q4_k_m"], metrics["formats"]["q4_0"]
    assert 0.9 < mixed["replaced"] < 1
    assert list(mixed["types"]) == ["Q5_0", "Q8_0", "F32"]
    assert list(plain["types"]) == ["Q4_0", "Q8_0", "F32"]  # the head, which is the embedding too, has 8 bits
    assert "q4_k_m: 100% of the weights are in rows that do not fit its types" in caplog.text
    kinds = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(outputs / "q4_0/model.gguf").tensors}
    assert kinds["token_embd.weight"] == "Q8_0"
    assert kinds["blk.1.ffn_down.weight"] == "Q4_0"
    assert mixed["kl_divergence"] < plain["kl_divergence"]


def test_columns_that_matter_are_kept_closer(model: Path, held_out: Path, tmp_path: Path) -> None:
    alike, _ = quantize(model, held_out, tmp_path / "a", formats=("q4_0",), calibration_tokens=0)
    weighed, outputs = quantize(model, held_out, tmp_path / "b", formats=("q4_0",))
    assert weighed["formats"]["q4_0"]["kl_divergence"] < alike["formats"]["q4_0"]["kl_divergence"]
    again, second = quantize(model, held_out, tmp_path / "c", formats=("q4_0",))
    assert again == weighed
    assert bytes_of(second.root) == bytes_of(outputs.root)


def test_a_format_that_costs_too_much_ends_the_stage(model: Path, held_out: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"q8_0: costs 0\.\d+ bits per byte, more than quantize\.max_added \(1e-05\)"):
        quantize(model, held_out, tmp_path / "a", formats=("q8_0",), max_added=1e-5)


def test_prompts_in_the_server_are_the_template_s_tokens(model: Path, tmp_path: Path) -> None:
    """llama.cpp renders and tokenizes a chat to the ids that the model was tuned on."""
    import http.client
    from urllib.parse import urlparse

    import xllamacpp

    from tasks.model.llama_cpp import server_parameters

    target = tmp_path / "model.gguf"
    export.export_gguf(model, target, "f16")
    settings = server_parameters(target, 128, 1)
    settings.hostnames, settings.port, settings.use_jinja = ["127.0.0.1"], 0, True
    server = xllamacpp.Server(settings)
    address = urlparse(server.listening_address)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)

    def post(path: str, body: Any) -> Any:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())

    messages: Any = [*conversation(7, 2), {"role": "user", "content": "the café, naïve 123  x"}]
    prompt = post("/apply-template", {"messages": messages})["prompt"]
    ids = post("/tokenize", {"content": prompt, "add_special": False, "parse_special": True})["tokens"]
    assert ids == ChatEncoder(model).prompt(messages, 128)
    connection.close()
    del server


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("nothing") / "held_out"
    write_shard(pa.Table.from_pylist([], schema=SCHEMA), folder / "00000.parquet")
    return folder


def test_a_base_model_is_compared_on_held_out_documents(
    model: Path, held_out: Path, documents: Path, tmp_path: Path
) -> None:
    """Also where chat is held out, which it has not learnt; and it has no chat template, in whatever format."""
    from gguf import GGUFReader
    from transformers import AutoTokenizer

    pointer = tmp_path / "finetune"
    pointer.mkdir()
    write_pointer(pointer, model, "no conversation to tune on")
    formats = ("q8_0", "torchao-int8")
    metrics, outputs = quantize(pointer, held_out, tmp_path / "a", documents, formats=formats, max_bytes=300)
    assert (metrics["model"], metrics["scored_text"], metrics["scored_bytes"]) == ("base", "held-out documents", 300)
    assert metrics["gate"]["prompts"] == 3  # the texts that 300 bytes are of
    assert metrics["gate"]["max_distance"] <= 1e-3
    assert GGUFReader(outputs / "q8_0/model.gguf").get_field("tokenizer.chat_template") is None
    for name in formats:
        assert AutoTokenizer.from_pretrained(outputs / name).chat_template is None
    tuned, _ = quantize(model, held_out, tmp_path / "b", documents, formats=("torchao-int8",))
    assert (tuned["model"], tuned["scored_text"]) == ("tuned", "held-out conversations")
    assert AutoTokenizer.from_pretrained(tmp_path / "b/out/torchao-int8").chat_template


def test_where_no_chat_is_held_out_documents_are_and_else_training_text_which_is_said(
    model: Path, nothing: Path, documents: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`instruct.validation_fraction: 0`, and a few conversations that all went into training."""
    metrics, _ = quantize(model, nothing, tmp_path / "a", documents, formats=("torchao-int8",))
    assert (metrics["model"], metrics["scored_text"]) == ("tuned", "held-out documents")
    assert "nothing is held out" not in caplog.text
    one = documents_in(tmp_path / "one", [{"id": "1", "source": "s", "text": "äöü and so on. " * 99, "split": "train"}])
    metrics, _ = quantize(model, nothing, tmp_path / "b", one, formats=("q8_0",), max_bytes=1)
    assert metrics["scored_text"] == "training documents"
    assert metrics["scored_bytes"] == 2  # a character
    assert "nothing is held out: the formats are compared and scored on training documents" in caplog.text


def test_one_long_document_gives_many_prompts(model: Path, nothing: Path, tmp_path: Path) -> None:
    text = "the cat likes the sea. " * 200
    one = documents_in(tmp_path / "one", [{"id": "1", "source": "s", "text": text, "split": "train"}])
    encoder = ChatEncoder(model)
    chosen = choose_text(encoder, False, nothing, one, prompts=6, max_bytes=4000, context=128)
    assert len(chosen.prompts) == 6
    assert all(len(prompt) == 127 and prompt[0] == encoder.start for prompt in chosen.prompts)
    assert text.startswith("".join(encoder.decode(prompt) for prompt in chosen.prompts))
