"""Floating point operations of training, by the convention of PaLM."""

from typing import Any

from tasks.architectures.roles import output_heads, weight_roles


def multiplying_parameters(model: Any) -> int:
    """The parameters of a model that a token is multiplied by.

    Not the rows of an embedding, which are looked up, unless it is the output head as well; of experts those that a token goes
    through.
    """
    heads = {id(head.weight) for head in output_heads(model)}
    roles = weight_roles(model)
    number = 0.0
    for name, parameter in model.named_parameters():
        if roles[name].role == "embedding" and id(parameter) not in heads:
            continue
        experts = getattr(model.config, "num_local_experts", None) if ".experts." in name else None
        number += parameter.numel() * (model.config.num_experts_per_tok / experts if experts else 1.0)
    return round(number)


def training_flops_per_token(config: Any, parameters: int, context_length: int) -> int:
    """6N + 12·L·H·Q·T floating point operations (PaLM, arXiv:2204.02311, appendix B).

    N are the parameters that multiply: an embedding that only looks up costs nothing, a tied one is the output head's.
    L layers, H heads of Q dimensions, T tokens of context; attention counts as if it were not causal.
    """
    head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads: int = config.num_attention_heads * head_dim
    flops: int = 6 * parameters + 12 * config.num_hidden_layers * heads * context_length
    return flops
