"""The role of each weight of a model, by what it does there and not by its name: an optimizer treats each role in its own way."""

from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["matrix", "embedding", "head", "vector"]
"""matrix: a linear map inside the model, or a stack of experts'; embedding: rows that are looked up, of tokens, positions or
kinds; head: the linear map to the vocabulary, unless it is the embedding; vector: biases (T5's of relative positions, a table
[buckets, heads], among them), norms, and what has one dimension."""

FUSED = {"c_attn": 3, "Wqkv": 3, "gate_up_proj": 2}
"""Linear maps that compute several in one, by the name of their module or parameter: of how many equal blocks of outputs."""


@dataclass(frozen=True)
class Weight:
    """What an optimizer has to know of a weight beyond its numbers.

    Attributes:
        role: what it does.
        output_last: a matrix [inputs, outputs], as GPT-2's Conv1D has it; else [outputs, inputs], behind any dimension of experts.
        blocks: sizes of the blocks of outputs that are maps of their own, e.g. of queries, keys and values; () where it is one map.
        repeats: how often the blocks come, one after the other; the first of each belong together, and so on.
    """

    role: Role
    output_last: bool = False
    blocks: tuple[int, ...] = ()
    repeats: int = 1


def weight_roles(model: Any) -> dict[str, Weight]:
    """The weights of a transformers model by their names, as `model.named_parameters()` has them: tied ones once."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    looked_up = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
    }  # before the head: a tied one is looked up too
    heads = {id(head.weight) for head in output_heads(model)}
    transposed = {id(module.weight) for module in model.modules() if isinstance(module, Conv1D)}
    positions = {
        id(parameter)
        for name, parameter in model.named_parameters()
        if any(part in ("wpe", "position_embeddings", "embed_positions") for part in name.split("."))
    }
    roles: dict[str, Weight] = {}
    for name, parameter in model.named_parameters():
        if "relative_attention_bias" in name.split("."):
            roles[name] = Weight("vector")
        elif id(parameter) in looked_up or id(parameter) in positions:
            roles[name] = Weight("embedding")
        elif id(parameter) in heads:
            roles[name] = Weight("head")
        elif parameter.ndim < 2:
            roles[name] = Weight("vector")
        else:
            last = id(parameter) in transposed
            outputs = parameter.shape[-1 if last else -2]
            roles[name] = Weight("matrix", last, *_blocks(name, outputs, model.config))
    return roles


def output_heads(model: Any) -> list[Any]:
    """The linear maps to the vocabulary, of a transformers model or of those that an objective has joined in one module."""
    parts = [part for part in model.modules() if hasattr(part, "get_output_embeddings")]
    return [head for part in parts if (head := part.get_output_embeddings()) is not None]


def _blocks(name: str, outputs: int, config: Any) -> tuple[tuple[int, ...], int]:
    parts = name.split(".")[-2:]
    if "query_key_value" in parts:  # Falcon's: each group of queries is followed by its keys and values
        head = config.hidden_size // config.num_attention_heads
        groups = 1 if config.multi_query and not config.new_decoder_architecture else config.num_kv_heads
        return (outputs // groups - 2 * head, head, head), groups
    count = next((FUSED[part] for part in parts if part in FUSED), 1)
    return ((outputs // count,) * count, 1) if count > 1 else ((), 1)
