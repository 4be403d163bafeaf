"""Encoders and encoder-decoders as pretrain exports them, untrained, with the tiny tokenizer: made in a moment."""

from pathlib import Path

from tasks.pretrain.export import save_model
from tasks.pretrain.learner import make_learner
from tests.helpers.pretraining import params
from tests.helpers.tiny import SPECIAL, tiny_tokenizer

CONTEXT = 64
OBJECTIVES = {"bert": "masked", "electra": "replaced_token", "t5": "span_corruption", "bart": "denoising"}
"""A family of each objective."""


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
