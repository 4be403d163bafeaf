"""What the GGUF export can write, decided from a model's configuration and tokenizer, before anything is trained."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.model.gguf_layouts import why_no_gguf_model

GPT2 = {"type": "ByteLevel", "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}
BYTES_ONLY = {"type": "ByteLevel", "use_regex": False}
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [GPT2],
    "smollm": [DIGITS, GPT2],
    "qwen2": [{"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False}, BYTES_ONLY],
    "llama-bpe": [
        {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False},
        BYTES_ONLY,
    ],
}
"""llama.cpp's names of ways to split text before merging (`tokenizer.ggml.pre`; src/llama-vocab.cpp), and the same as
pre-tokenizers of Hugging Face's tokenizers."""


def pre_tokenizer(name: str) -> dict[str, Any] | None:
    """The pre-tokenizer, as in tokenizer.json, of one of llama.cpp's names; None for one that is not known here."""
    steps = PRE_TOKENIZERS.get({"default": "gpt-2", "llama3": "llama-bpe", "llama-v3": "llama-bpe"}.get(name, name))
    if steps is None:
        return None
    whole = [{"add_prefix_space": False, "trim_offsets": True, **s} if s["type"] == "ByteLevel" else s for s in steps]
    return whole[0] if len(whole) == 1 else {"type": "Sequence", "pretokenizers": whole}


def pre_tokenizer_name(tokenizer: Mapping[str, Any]) -> str | None:
    """llama.cpp's name for how a tokenizer.json splits text; None: it has none that is known here."""
    found = tokenizer.get("pre_tokenizer") or {}
    steps = found.get("pretokenizers", []) if found.get("type") == "Sequence" else [found]
    plain = [{k: v for k, v in step.items() if k not in ("add_prefix_space", "trim_offsets")} for step in steps]
    if any(step.get("add_prefix_space") for step in steps):
        return None
    return next((name for name, wanted in PRE_TOKENIZERS.items() if plain == wanted), None)


def why_no_gguf(config: Mapping[str, Any], tokenizer: Path) -> str | None:
    """Why a model of this configuration (config.json) with the tokenizer in a folder cannot be exported; None: it can."""
    return why_no_gguf_model(config) or why_no_gguf_tokenizer(read_tokenizer_json(tokenizer))


def why_no_gguf_tokenizer(tokenizer: Mapping[str, Any]) -> str | None:
    """Why llama.cpp cannot encode as this tokenizer.json does; None: it can."""
    kind = tokenizer["model"]["type"]
    if kind != "BPE" or tokenizer["model"].get("byte_fallback"):
        return f"its tokenizer is {kind}, but GGUF export takes byte-level BPE only"
    if tokenizer.get("normalizer"):
        return f"its tokenizer changes text first ({tokenizer['normalizer'].get('type')}), which llama.cpp does not"
    splitter = pre_tokenizer_name(tokenizer)
    if splitter is None:
        return f"its tokenizer splits text in a way that is none of {', '.join(PRE_TOKENIZERS)}"
    if bool(tokenizer["model"].get("ignore_merges")) != (splitter == "llama-bpe"):
        return "its tokenizer takes whole words before it merges, or should, where llama.cpp does the other"
    return None


def read_tokenizer_json(folder: Path) -> dict[str, Any]:
    """The content of tokenizer.json."""
    content: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return content
