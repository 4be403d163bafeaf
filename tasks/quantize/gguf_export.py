"""Llama models as GGUF, the format llama.cpp runs (specification: github.com/ggml-org/ggml, docs/gguf.md).

Hugging Face keeps the rows of Q and K so that rotary angles pair dimension i with i + d/2; llama.cpp pairs 2i with
2i + 1. The rows are permuted on the way out, as llama.cpp's own converter does.
"""

import json
import logging
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tasks.core.errors import UserError
from tasks.model.gguf_support import pre_tokenizer_name, why_no_gguf
from tasks.tokens.chat_encoder import ChatEncoder
from tasks.tokens.chat_format import GENERATION_MARKS

Format = Literal["f32", "f16", "q8_0", "q4_0"]
QUANTIZATION_BLOCK = 32
"""q8_0 and q4_0 share a scale over this many values of a row."""
BLOCK_TENSOR_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
TENSOR_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def export_gguf(folder: Path, target: Path, format_: Format, permute: bool = True, chat: bool = True) -> list[str]:
    """Write the Llama model and byte-level BPE tokenizer in `folder` to `target`; the same input gives the same bytes.

    Matrices take the form asked for, vectors stay f32. `permute=False` makes the wrong export that the gate must
    catch. `chat=False` leaves the chat template out, by which programs know a model that continues texts and has never
    seen a chat. Returns the names of matrices that stay f16, since their rows are no multiple of 32.

    Raises:
        UserError: a model or tokenizer that `why_no_gguf` refuses, or one with a tensor that is none of a plain Llama's.
    """
    import gguf
    from safetensors.numpy import load_file
    from transformers import AutoConfig

    logging.getLogger("gguf").setLevel(logging.WARNING)  # it reports every file it writes
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if reason := why_no_gguf(config.to_dict(), folder):
        raise UserError(f"{folder}: {reason}. In params.yaml, set quantize.formats to [torchao-int8]")
    writer = gguf.GGUFWriter(target, "llama")
    _write_config(writer, config, folder.name)
    writer.add_file_type(
        {
            "f32": gguf.LlamaFileType.ALL_F32,
            "f16": gguf.LlamaFileType.MOSTLY_F16,
            "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
            "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
        }[format_]
    )
    _write_tokenizer(writer, folder, config.vocab_size, chat)
    kept: list[str] = []
    for name, tensor in sorted(load_file(folder / "model.safetensors").items()):
        values = tensor.astype(np.float32)
        if permute and name.endswith("q_proj.weight"):
            values = permute_heads(values, config.num_attention_heads)
        elif permute and name.endswith("k_proj.weight"):
            values = permute_heads(values, config.num_key_value_heads)
        _write_tensor(writer, gguf_tensor_name(name, folder), np.ascontiguousarray(values), format_, kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kept


def permute_heads(weight: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Rows [heads x (first half, second half)] to rows [heads x interleaved halves]; `weight` is [heads * d, hidden]."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def gguf_tensor_name(name: str, folder: Path) -> str:
    """llama.cpp's name of a tensor.

    Raises:
        UserError: the tensor is none of a plain Llama's.
    """
    if name in TENSOR_NAMES:
        return TENSOR_NAMES[name]
    inner = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
    if inner is None or inner[2] not in BLOCK_TENSOR_NAMES:
        raise UserError(f"{folder / 'model.safetensors'}: tensor {name} is none of a plain Llama's")
    return f"blk.{inner[1]}.{BLOCK_TENSOR_NAMES[inner[2]]}.weight"


def _write_tensor(writer: Any, name: str, values: npt.NDArray[np.float32], format_: Format, kept: list[str]) -> None:
    from gguf import GGMLQuantizationType, quants

    if values.ndim == 1 or format_ == "f32":
        writer.add_tensor(name, values)
    elif format_ == "f16" or values.shape[1] % QUANTIZATION_BLOCK:
        if format_ != "f16":
            kept.append(name)
        writer.add_tensor(name, values.astype(np.float16))
    else:
        kind = GGMLQuantizationType[format_.upper()]
        writer.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)


def _write_config(writer: Any, config: Any, name: str) -> None:
    writer.add_name(name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    rope = getattr(config, "rope_parameters", None) or {}
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    writer.add_vocab_size(config.vocab_size)


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
