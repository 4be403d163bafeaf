"""Export: a trained model as a Hugging Face folder that everything downstream loads."""

import json
from pathlib import Path
from typing import Any

import torch

from tasks.architectures.building.initialisation import set_sinusoids
from tasks.architectures.building.special_ids import MASK
from tasks.model.tokenizer_files import copy_tokenizer
from tasks.pretrain.learner import Learner
from tasks.tokens.special_tokens import read_special_tokens


def full_weights(engine: Any, zero_stage: int) -> dict[str, torch.Tensor]:
    """The fp32 weights that learn, on the CPU, by name, gathered from the ranks under ZeRO. Collective; tied weights once."""
    from deepspeed.utils import safe_get_full_fp32_param

    weights: dict[str, torch.Tensor] = {}
    for name, parameter in engine.module.named_parameters():
        if not parameter.requires_grad:  # a table that does not learn
            continue
        full = safe_get_full_fp32_param(parameter) if zero_stage else parameter
        weights[name] = full.detach().float().cpu().clone()
    return weights


def save_model(weights: dict[str, torch.Tensor], learner: Learner, tokenizer: Path, folder: Path) -> None:
    """Write config.json, model.safetensors, generation_config.json and the tokenizer's files to `folder`.

    Of ELECTRA's pair the discriminator, and the generator in `folder/generator`. Asserts that each folder loads again and gives
    the same logits, bit for bit.
    """
    for part, place in _parts(learner.model, folder).items():
        place.mkdir(exist_ok=True)
        model = learner.model.get_submodule(part)
        own = {name.removeprefix(f"{part}."): weight for name, weight in weights.items() if name.startswith(part)}
        if part == "generator":  # whose embeddings are the discriminator's
            own |= {name.split(".", 1)[1]: weight for name, weight in weights.items() if SHARED in name}
        _save_part(type(model), model.config, own, learner, place)
        _save_tokenizer(learner, tokenizer, place)
        for path in place.iterdir():
            if path.is_file():
                path.chmod(0o644)  # safetensors writes its files for the owner alone


SHARED = "discriminator.electra.embeddings."


def _parts(model: Any, folder: Path) -> dict[str, Path]:
    """Of each model inside `model` the place where it is saved; "" is the model itself."""
    if hasattr(model, "discriminator"):
        return {"discriminator": folder, "generator": folder / "generator"}
    return {"": folder}


def _save_part(kind: Any, config: Any, weights: dict[str, torch.Tensor], learner: Learner, folder: Path) -> None:
    from transformers import GenerationConfig

    model = kind(config)
    if learner.sinusoidal:
        set_sinusoids(model, learner.family)
    own = {name for name, parameter in model.named_parameters() if parameter.requires_grad}  # tied ones once
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if unexpected or own & set(missing):
        raise AssertionError(f"weights do not fit the configuration: {missing=} {unexpected=}")
    model.tie_weights()
    if model.can_generate():
        start = getattr(config, "decoder_start_token_id", None)
        model.generation_config = GenerationConfig(
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            pad_token_id=learner.ids.pad,
            **({} if start is None else {"decoder_start_token_id": start}),
        )
    model.save_pretrained(folder)
    reloaded = kind.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
    length = min(16, learner.context_length, config.vocab_size)
    tokens = torch.linspace(0, config.vocab_size - 1, length).long().unsqueeze(0)
    inputs = {"input_ids": tokens, **({"decoder_input_ids": tokens} if config.is_encoder_decoder else {})}
    with torch.no_grad():
        if not torch.equal(model.eval()(**inputs).logits, reloaded.eval()(**inputs).logits):
            raise AssertionError(f"{folder}: the saved model does not give the logits of the trained one")


def _save_tokenizer(learner: Learner, tokenizer: Path, folder: Path) -> None:
    """The tokenizer's files, with how long a text the model reads, and the tokens that its objective adds."""
    copy_tokenizer(tokenizer, folder)
    settings = folder / "tokenizer_config.json"
    described = json.loads(settings.read_text(encoding="utf-8")) | {"model_max_length": learner.context_length}
    if learner.ids.added:
        from tokenizers import Tokenizer

        encoder = Tokenizer.from_file(str(folder / "tokenizer.json"))
        encoder.add_special_tokens(list(learner.ids.added))
        found = [encoder.token_to_id(name) for name in learner.ids.added]
        if found != list(range(learner.ids.vocabulary, learner.ids.embedding_rows)):
            raise AssertionError(
                f"{folder}: the tokens {learner.ids.added} have the ids {found}, not those of the model"
            )
        encoder.save(str(folder / "tokenizer.json"))
        if MASK in learner.ids.added:
            described["mask_token"] = MASK
        else:
            described["extra_special_tokens"] = list(learner.ids.added)
    settings.write_text(json.dumps(described, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def pad_token(tokenizer: Path) -> int:
    """The id of the token that fills short rows.

    Raises:
        UserError: the tokenizer cannot be read.
    """
    special = read_special_tokens(tokenizer)
    return special.ids[special.pad]
