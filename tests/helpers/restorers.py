"""Encoders and encoder-decoders as pretrain exports them, untrained, with the tiny tokenizer: made in a moment."""

from pathlib import Path

from tasks.architectures.families.table import FAMILIES
from tasks.pretrain.export import save_model
from tasks.pretrain.learner import make_learner
from tests.helpers.pretraining import params
from tests.helpers.tiny import SPECIAL, tiny_tokenizer

CONTEXT = 64
OBJECTIVES = {family.name: family.objective for family in FAMILIES.values() if not family.is_causal}
"""Families that are no decoders, and what they are trained to do."""


def untrained(folder: Path, family: str, **changes) -> Path:
    """The folder `pretrain` in `folder`: the family's model with its first weights."""
    tokenizer, target = folder / "tokenizer", folder / "pretrain"
    vocabulary = len(tiny_tokenizer(tokenizer))
    sizes = {"family": family, "kv_heads": 4, "intermediate": 128, **changes}
    start, pad = (SPECIAL.index(name) for name in ("<|endoftext|>", "<|pad|>"))
    learner = make_learner(params(**sizes), vocabulary, start, pad, CONTEXT, tokenizer)
    weights = {
        name: weight.detach().clone() for name, weight in learner.model.named_parameters() if weight.requires_grad
    }
    target.mkdir()
    save_model(weights, learner, tokenizer, target)
    return target
