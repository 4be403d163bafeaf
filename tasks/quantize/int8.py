"""torchao's int8 weight-only quantization of a Hugging Face model, as safetensors."""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.model.load import load_own_class
from tasks.model.tokenizer_files import copy_tokenizer

PROBE_TOKENS = 16


def save_int8(source: Path, folder: Path, chat: bool = True) -> Any:
    """Quantize the linear layers of the model in `source` to int8 by row and save it, by its own class, to `folder`, the chat
    template beside it with `chat`; returns it as loaded from there.

    Raises:
        UserError: the saved model does not give the logits of the one in memory.
    """
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they list the GPU kernels that this machine cannot load
    import torch
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    quantized = load_own_class(source, "cpu", quantization_config=TorchAoConfig(quant_type=Int8WeightOnlyConfig()))
    for name, buffer in list(quantized.named_buffers(recurse=False)):
        # BART's final_logits_bias, always 0: torchao cannot read back what lies outside of any module.
        delattr(quantized, name)
        quantized.register_buffer(name, buffer, persistent=False)
    quantized.save_pretrained(folder)
    copy_tokenizer(source, folder, chat)
    if list(folder.glob("*.bin")):
        raise UserError(
            f"{folder}: torchao saved a pickle, which is never loaded here. Leave torchao-int8 out of quantize.formats"
        )
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes its files for the owner alone
    sort_header(folder / "model.safetensors")
    loaded = load_own_class(folder, "cpu")
    probe = torch.arange(PROBE_TOKENS)[None] % quantized.config.vocab_size
    given = {"input_ids": probe, **({"decoder_input_ids": probe} if quantized.config.is_encoder_decoder else {})}
    with torch.inference_mode():
        if not torch.equal(quantized(**given).logits, loaded(**given).logits):
            raise UserError(f"{folder}: the saved int8 model gives other logits than the one in memory")
    return loaded


def sort_header(path: Path) -> None:
    """Put the names in a safetensors file's header in order: the library writes its metadata in a random one.

    The header is its length, uint64 little-endian, and JSON padded with spaces (github.com/huggingface/safetensors).
    """
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])


def generation_speed(model: Any, prompt: Sequence[int], tokens: int) -> float:
    """Tokens a second when `tokens` are generated after `prompt`, greedily."""
    import torch

    ids = torch.tensor([list(prompt)])
    started = time.perf_counter()
    with torch.inference_mode():
        model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False
        )
    return tokens / (time.perf_counter() - started)
