"""Floating point operations of training, by the convention of PaLM."""

from typing import Any


def training_flops_per_token(config: Any, parameters: int, context_length: int) -> int:
    """6N + 12·L·H·Q·T floating point operations (PaLM, arXiv:2204.02311, appendix B).

    N are the parameters that multiply: an embedding that only looks up costs nothing, a tied one is the output head's.
    L layers, H heads of Q dimensions, T tokens of context; attention counts as if it were not causal.
    """
    head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads: int = config.num_attention_heads * head_dim
    flops: int = 6 * parameters + 12 * config.num_hidden_layers * heads * context_length
    return flops
