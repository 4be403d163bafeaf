"""Decoders as GGUF, the format llama.cpp runs (specification: github.com/ggml-org/ggml, docs/gguf.md).

Hugging Face keeps the rows of Q and K so that rotary angles pair dimension i with i + d/2; of some architectures llama.cpp
pairs 2i with 2i + 1. Their rows are permuted on the way out, as llama.cpp's own converter does.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tasks.core.errors import UserError
from tasks.model.gguf_layouts import LAYOUTS, Layout
from tasks.model.gguf_support import pre_tokenizer_name, why_no_gguf
from tasks.quantize.ggml import quantize_rows
from tasks.quantize.gguf_types import GgufFormat, Mixture, shares
from tasks.quantize.gguf_weights import read_weights
from tasks.quantize.importance import Importance
from tasks.tokens.chat_encoder import ChatEncoder
from tasks.tokens.chat_format import GENERATION_MARKS

Format = Literal["f32"] | GgufFormat
FILE_TYPES = {"f32": "ALL_F32"}
"""Of the formats whose name in gguf's `LlamaFileType` is not MOSTLY_ and their own."""


@dataclass(frozen=True)
class Exported:
    """What a file holds: the share of weights in each type of ggml, and of those whose rows did not fit the type that the
    format has for them.
    """

    types: dict[str, float]
    replaced: float


def export_gguf(
    folder: Path,
    target: Path,
    format_: Format,
    chat: bool = True,
    importance: Importance | None = None,
    threads: int = 1,
) -> Exported:
    """Write the model and byte-level BPE tokenizer in `folder` to `target`; the same input gives the same bytes.

    Matrices take the types of the format, vectors stay f32. `chat=False` leaves the chat template out, by which programs
    know a model that continues texts and has never seen a chat. `importance`: see `tasks.quantize.importance`.

    Raises:
        UserError: a model or tokenizer that `why_no_gguf` refuses, a tensor that llama.cpp has no place for, or a weight that
            is no finite number in its type.
    """
    import gguf
    from transformers import AutoConfig

    logging.getLogger("gguf").setLevel(logging.WARNING)  # it reports every file it writes
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if reason := why_no_gguf(config.to_dict(), folder):
        raise UserError(f"{folder}: {reason}. In params.yaml, set quantize.formats to [torchao-int8]")
    layout = LAYOUTS[config.model_type]
    writer = gguf.GGUFWriter(target, layout.architecture)
    _write_config(writer, layout, config, folder.name)
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES.get(format_, f"MOSTLY_{format_.upper()}")])
    if importance:
        writer.add_string("quantize.imatrix.dataset", "training text")
        writer.add_uint32("quantize.imatrix.entries_count", len(importance))
    _write_tokenizer(writer, folder, config.vocab_size, chat)
    exported = _write_tensors(writer, read_weights(folder, config, layout), format_, config, importance or {}, threads)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return exported


def _write_tensors(
    writer: Any,
    weights: Iterator[tuple[str, str, npt.NDArray[np.float32]]],
    format_: Format,
    config: Any,
    importance: Importance,
    threads: int,
) -> Exported:
    from gguf import GGMLQuantizationType

    tied = bool(config.tie_word_embeddings)
    kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    mixture = Mixture(
        format_,
        config.num_hidden_layers,
        config.num_attention_heads / kv_heads,
        getattr(config, "num_local_experts", 0),
        tied,
        bool(importance),
    )
    written: dict[str, int] = {}
    replaced = 0
    for source, name, values in weights:
        stored: npt.NDArray[Any]
        kind = "F32" if values.ndim == 1 else mixture.chosen(name, values.shape[-1])
        if kind in ("F32", "F16"):
            with np.errstate(over="ignore"):  # an infinity, which is told below
                stored = values.astype(np.float16) if kind == "F16" else values
            finite = bool(np.isfinite(stored).all())
        elif finite := bool(np.isfinite(values).all()):
            head = tied and name == "token_embd.weight"
            weight = importance.get("lm_head.weight" if head else source)
            flat = quantize_rows(values.reshape(-1, values.shape[-1]), kind, weight, threads)
            stored = flat.reshape(*values.shape[:-1], -1)
        if not finite:
            raise UserError(
                f"{source}: holds a weight that is no finite number as {kind}. Train it again, or leave {format_} out"
            )
        writer.add_tensor(name, stored, raw_dtype=GGMLQuantizationType[kind])
        written[kind] = written.get(kind, 0) + values.size
        replaced += values.size if values.ndim > 1 and kind != mixture.wanted(name) else 0
    return Exported(shares(written), round(replaced / max(sum(written.values()), 1), 4))


def _write_config(writer: Any, layout: Layout, config: Any, name: str) -> None:
    writer.add_name(name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(
        getattr(config, "intermediate_size", None) or config.n_inner or 4 * config.hidden_size
    )
    writer.add_head_count(config.num_attention_heads)
    getattr(writer, layout.norm_key)(getattr(config, layout.norm_epsilon))
    writer.add_vocab_size(config.vocab_size)
    if rope := getattr(config, "rope_parameters", None):
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_key_length(width)
        writer.add_value_length(width)
        writer.add_rope_dimension_count(width)
        writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    if experts := getattr(config, "num_local_experts", None):
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config.num_experts_per_tok)


def _write_tokenizer(writer: Any, folder: Path, vocabulary: int, chat: bool) -> None:
    from gguf import TokenType
    from transformers import AutoTokenizer

    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    added = {token["id"]: token for token in content["added_tokens"]}
    text = {number: token for token, number in content["model"]["vocab"].items()}
    text |= {number: token["content"] for number, token in added.items()}
    kinds = [
        TokenType.CONTROL
        if number in added and added[number]["special"]
        else TokenType.NORMAL
        if number in text
        else TokenType.UNUSED
        for number in range(vocabulary)
    ]
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer_name(content) or "")
    writer.add_token_list([text.get(number, f"[UNUSED{number}]") for number in range(vocabulary)])
    writer.add_token_types(kinds)
    merges = content["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    encoder = ChatEncoder(folder)
    for add, number in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, encoder.pad),
    ):
        add(encoder.start if number is None else number)
    writer.add_add_bos_token(False)  # the chat template writes it
    if tokenizer.chat_template:
        writer.add_eot_token_id(encoder.turn_end)
    if chat and tokenizer.chat_template:
        # llama.cpp's Jinja does not know the marks that tell transformers what to train on.
        writer.add_chat_template(GENERATION_MARKS.sub("", tokenizer.chat_template))
