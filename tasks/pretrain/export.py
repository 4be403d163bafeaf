"""Export: a trained model as a Hugging Face folder that everything downstream loads."""

import json
from pathlib import Path
from typing import Any

import torch

from tasks.model.tokenizer_files import copy_tokenizer
from tasks.tokens.special_tokens import read_special_tokens


def full_weights(engine: Any, zero_stage: int) -> dict[str, torch.Tensor]:
    """The model's fp32 weights on the CPU, by name, gathered from the ranks under ZeRO. Collective; tied weights once."""
    from deepspeed.utils import safe_get_full_fp32_param

    weights: dict[str, torch.Tensor] = {}
    for name, parameter in engine.module.named_parameters():
        full = safe_get_full_fp32_param(parameter) if zero_stage else parameter
        weights[name] = full.detach().float().cpu().clone()
    return weights


def save_model(weights: dict[str, torch.Tensor], config: Any, tokenizer: Path, folder: Path, pad: int) -> None:
    """Write config.json, model.safetensors, generation_config.json and the tokenizer's files to `folder`.

    Asserts that the folder loads again and gives the same logits, bit for bit.
    """
    from transformers import AutoModelForCausalLM, GenerationConfig

    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise AssertionError(f"weights do not fit the configuration: {missing=} {unexpected=}")
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=pad
    )
    model.save_pretrained(folder)
    copy_tokenizer(tokenizer, folder)
    # The tokenizer's own stage does not know how long a text the model will read.
    settings = folder / "tokenizer_config.json"
    described = json.loads(settings.read_text(encoding="utf-8")) | {"model_max_length": config.max_position_embeddings}
    settings.write_text(json.dumps(described, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes its files for the owner alone
    reloaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
    length = min(16, config.max_position_embeddings, config.vocab_size)
    tokens = torch.linspace(0, config.vocab_size - 1, length).long().unsqueeze(0)
    with torch.no_grad():
        if not torch.equal(model.eval()(tokens).logits, reloaded.eval()(tokens).logits):
            raise AssertionError(f"{folder}: the saved model does not give the logits of the trained one")


def pad_token(tokenizer: Path) -> int:
    """The id of the token that fills short rows.

    Raises:
        UserError: the tokenizer cannot be read.
    """
    special = read_special_tokens(tokenizer)
    return special.ids[special.pad]
