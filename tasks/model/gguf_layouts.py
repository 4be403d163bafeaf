"""How llama.cpp knows the decoders of transformers (src/models of github.com/ggml-org/llama.cpp), as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCALED_ROPE = ("linear", "llama3")
"""Scalings of rotary positions that divide each frequency by a number of its own, whatever the length of the text."""


@dataclass(frozen=True)
class Layout:
    """A type of models (`model_type` in config.json) in GGUF.

    Attributes:
        architecture: llama.cpp's name for it.
        activations: those that llama.cpp computes in its feed-forward; others it would leave unused, without a word.
        norm_epsilon: the configuration's attribute.
        norm_key: the GGUF writer's method for it.
        interleaved: whether rotary angles pair dimension 2i with 2i + 1, where transformers pairs i with i + d/2.
        scaled_rope: whether it takes factors of the rotary frequencies.
        norm_offset: added to the weights of norms, which transformers multiplies by 1 + w.
        transposed: whether transformers keeps matrices as [inputs, outputs].
        untied: whether its head may be a matrix of its own.
    """

    architecture: str
    activations: tuple[str, ...]
    norm_epsilon: str = "rms_norm_eps"
    norm_key: str = "add_layer_norm_rms_eps"
    interleaved: bool = False
    scaled_rope: bool = False
    norm_offset: float = 0.0
    transposed: bool = False
    untied: bool = True


LLAMA = Layout("llama", ("silu",), interleaved=True, scaled_rope=True)
LAYOUTS: Mapping[str, Layout] = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "mixtral": LLAMA,
    "arcee": Layout("arcee", ("relu2",), interleaved=True, scaled_rope=True),
    "qwen2": Layout("qwen2", ("silu",)),
    "qwen3": Layout("qwen3", ("silu",)),
    "gemma": Layout("gemma", ("gelu_pytorch_tanh",), norm_offset=1.0, untied=False),
    "gpt2": Layout(
        "gpt2",
        ("gelu_new", "gelu_pytorch_tanh"),
        norm_epsilon="layer_norm_epsilon",
        norm_key="add_layer_norm_eps",
        transposed=True,
    ),
}


def why_no_gguf_model(config: Mapping[str, Any]) -> str | None:
    """Why a model of this configuration (config.json, or what is known of it) has no GGUF export; None: it has."""
    kind = config.get("model_type")
    layout = LAYOUTS.get(str(kind))
    if layout is None:
        return f"GGUF export knows {', '.join(LAYOUTS)}, this is {kind!r}"
    activation = config.get("hidden_act", config.get("activation_function"))
    if activation not in (None, *layout.activations):
        return f"its activation is {activation}, that of llama.cpp's {layout.architecture} is {layout.activations[0]}"
    if not layout.untied and config.get("tie_word_embeddings") is False:
        return f"its head is a matrix of its own, llama.cpp's {layout.architecture} has none"
    if kind != "qwen2" and (config.get("attention_bias") or config.get("mlp_bias")):
        return f"its layers have biases, which a plain {layout.architecture} has not"
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    scaling = rope.get("rope_type", rope.get("type", "default"))
    if scaling not in ("default", *(SCALED_ROPE if layout.scaled_rope else ())):
        return f"its rotary positions are scaled ({scaling}), which the export to {layout.architecture} does not write"
    window, context = config.get("sliding_window"), config.get("max_position_embeddings", 0)
    if window and window < context and config.get("use_sliding_window", True):
        return (
            f"its attention reaches {window} tokens back, that of llama.cpp's {layout.architecture} the whole context"
        )
    return None
