"""Every architecture that is exported runs in llama.cpp as it does in transformers, and what would not is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.architectures.families.table import FAMILIES
from tasks.core.errors import UserError
from tasks.model.gguf_layouts import LAYOUTS, why_no_gguf_model
from tasks.model.llama_cpp import GgufModel
from tasks.quantize.comparison_text import ComparisonText
from tasks.quantize.export_check import ExportCheck
from tasks.quantize.gguf_export import export_gguf
from tasks.tokens.chat_encoder import ChatEncoder
from tests.helpers.tiny import conversation, tiny_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")
ROPE: dict[str, Any] = {"rope_theta": 10000.0}
LLAMA_3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"tie_word_embeddings": True, "head_dim": 32}),
    ("llama", {"rope_parameters": {**ROPE, "rope_type": "linear", "factor": 2.0}}),
    ("llama", {"rope_parameters": {**ROPE, "rope_type": "llama3", **LLAMA_3}}),
    ("mistral", {"sliding_window": 128}),
    ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    ("arcee", {}),
    ("qwen2", {}),
    ("qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    ("gemma", {}),
    ("gpt2", {}),
    ("gpt2", {"tie_word_embeddings": False, "n_inner": 96}),
]


def written(folder: Path, kind: str, **settings: Any) -> Any:
    """A model with weights far from their first ones, so that each has a say, in `folder`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    if kind != "gpt2":
        shape |= {"num_key_value_heads": 2, "intermediate_size": 96, "head_dim": 16}
    ids = {"vocab_size": 384, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    config = AutoConfig.for_model(kind, **{**shape, **ids, "max_position_embeddings": 128, **settings})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(3)
            else:
                weight.add_(0.2 * torch.randn_like(weight))
    tiny_tokenizer(folder)
    model.save_pretrained(folder)
    return model


def check_of(folder: Path, model: Any) -> ExportCheck:
    encoder = ChatEncoder(folder)
    texts = [" ".join(turn["content"] for turn in conversation(number)) for number in range(3)]
    prompts = [[encoder.start, *ids[:60]] for ids in encoder.texts(texts)]
    return ExportCheck(model, encoder, ComparisonText("some", prompts, texts))


@pytest.mark.parametrize(("kind", "settings"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_llama_cpp_says_what_transformers_says(kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
    model = written(tmp_path, kind, **settings)
    check = check_of(tmp_path, model)
    exported = export_gguf(tmp_path, tmp_path / "model.gguf", "f32")
    assert exported.types == {"F32": 1.0}
    with GgufModel(tmp_path / "model.gguf", 128, 1) as loaded:
        assert check.differences(loaded)["max_distance"] <= 1e-3
        scores, expected = check.scores(loaded), check.scores_of(model)
    assert scores["bits_per_byte"] == pytest.approx(expected["bits_per_byte"], abs=1e-3)
    assert expected["same_token"] == 1
    assert scores["same_token"] > 0.98


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("llama", {"interleaved": False}),
        ("arcee", {"interleaved": False}),
        ("qwen3", {"interleaved": True}),
        ("gemma", {"norm_offset": 0.0}),
    ],
)
def test_another_form_of_the_weights_is_seen(
    kind: str, wrong: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = written(tmp_path, kind)
    check = check_of(tmp_path, model)
    layouts = {**LAYOUTS, kind: replace(LAYOUTS[kind], **wrong)}
    monkeypatch.setattr("tasks.quantize.gguf_export.LAYOUTS", layouts)
    export_gguf(tmp_path, tmp_path / "model.gguf", "f32")
    with GgufModel(tmp_path / "model.gguf", 128, 1) as loaded:
        assert check.differences(loaded)["max_distance"] > 0.01


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "opt"}, "knows llama, mistral, .*, this is 'opt'"),
        ({"model_type": "llama", "hidden_act": "gelu"}, "activation is gelu, that of llama.cpp's llama is silu"),
        ({"model_type": "llama", "attention_bias": True}, "have biases"),
        ({"model_type": "llama", "rope_parameters": {"rope_type": "yarn"}}, r"positions are scaled \(yarn\)"),
        ({"model_type": "qwen3", "rope_parameters": {"rope_type": "linear"}}, r"positions are scaled \(linear\)"),
        ({"model_type": "gemma", "tie_word_embeddings": False}, "head is a matrix of its own"),
        ({"model_type": "mistral", "sliding_window": 64, "max_position_embeddings": 128}, "reaches 64 tokens back"),
    ],
)
def test_what_llama_cpp_would_run_wrongly_is_refused(config: dict[str, Any], reason: str) -> None:
    import re

    assert re.search(reason, why_no_gguf_model(config) or "")


def test_a_window_that_is_not_used_is_none() -> None:
    config = {"model_type": "qwen3", "sliding_window": 64, "use_sliding_window": False, "max_position_embeddings": 128}
    assert why_no_gguf_model(config) is None


def test_decoders_that_are_trained_here_are_known_or_named() -> None:
    """Those that are not exported are the three that llama.cpp has not, or has with another activation."""
    unknown = {name for name, family in FAMILIES.items() if family.is_causal and family.model_type not in LAYOUTS}
    assert unknown == {"opt", "falcon", "mpt"}


def test_a_tensor_without_a_place_is_named(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    written(tmp_path, "llama")
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.layers.0.mlp.extra.weight"] = weights["model.norm.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        UserError, match=r"tensor model\.layers\.0\.mlp\.extra\.weight has no place in llama\.cpp's llama"
    ):
        export_gguf(tmp_path, tmp_path / "x.gguf", "f16")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "opt"}))
    with pytest.raises(UserError, match=r"this is 'opt'\. In params\.yaml, set quantize\.formats"):
        export_gguf(tmp_path, tmp_path / "x.gguf", "f16")


def test_a_weight_that_no_type_holds_is_named(tmp_path: Path) -> None:
    """One above f16's largest, and one that is no number: ggml would end the process."""
    import torch

    model = written(tmp_path, "llama")
    for value, format_ in ((1e6, "f16"), (float("nan"), "q4_k_m"), (float("inf"), "f32")):
        with torch.no_grad():
            model.model.layers[1].mlp.up_proj.weight[0, 0] = value
        model.save_pretrained(tmp_path)
        with pytest.raises(
            UserError, match=r"layers\.1\.mlp\.up_proj\.weight: holds a weight that is no finite number"
        ):
            export_gguf(tmp_path, tmp_path / "x.gguf", format_)
