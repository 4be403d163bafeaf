"""Attention: which implementation a model computes it with. All of them give the same result but for rounding."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tasks.architectures.families.choices import AttentionName
from tasks.architectures.families.family import Family
from tasks.core.errors import UserError

VARLEN = "varlen"
"""The name by which transformers knows `_varlen`."""
MAX_HEAD_DIM = 256
IN_TRANSFORMERS = {"eager": "eager", "sdpa": "sdpa", "flash": VARLEN, "flex": "flex_attention"}


def set_attention(
    model: Any, family: Family, wanted: AttentionName | None, device: str, precision: str, dropout: float
) -> AttentionName | None:
    """Have `model` compute attention by `wanted`; returns it, or what was chosen for None.

    sdpa is PyTorch's own choice among its kernels, given a mask. flash is FlashAttention 2 (arXiv:2307.08691) over documents one
    after another, with no mask and nothing computed across them; flex is FlexAttention (arXiv:2412.05496), which skips the blocks
    of a mask that are empty. None takes flash where it can be had, else what transformers chooses.

    Raises:
        UserError: this model cannot have it, here.
    """
    if wanted is None:
        if flash_obstacle(model, family, device, precision, dropout):
            return None
        wanted = "flash"
    obstacle = None
    if wanted == "flash":
        obstacle = flash_obstacle(model, family, device, precision, dropout)
    elif wanted == "flex" and device != "cuda":
        obstacle = "PyTorch trains with it on a GPU alone"
    elif wanted == "flex" and family.isolation != "positions":
        obstacle = f"{family.name} is given its masks in a form that it does not take"
    if obstacle:
        raise UserError(f"params.yaml: pretrain.attention: {wanted}: {obstacle}. Set sdpa, or null for what can be had")
    if wanted == "flash":
        _register()
    name = IN_TRANSFORMERS[wanted]
    try:
        model.set_attn_implementation(name)
    except (ValueError, ImportError) as error:
        raise UserError(
            f"params.yaml: pretrain.attention: {wanted}: {family.name} has no such attention. Set null or eager"
        ) from error
    if model.config._attn_implementation != name:
        raise UserError(f"params.yaml: pretrain.attention: {wanted}: {family.name} has one attention alone. Set null")
    return wanted


def flash_obstacle(model: Any, family: Family, device: str, precision: str, dropout: float) -> str | None:
    """Why flash attention cannot be had; None where it can."""
    if device != "cuda" or precision == "fp32":
        return "it is for a GPU, in bf16 or fp16"
    if family.isolation != "positions":
        return f"{family.name} does not keep the documents of a row apart by their positions"
    config = model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if head_dim % 8 or head_dim > MAX_HEAD_DIM:
        return f"heads must be a multiple of 8 wide, at most {MAX_HEAD_DIM}; these are {head_dim} wide"
    if dropout:
        return "it has no dropout"
    return None


def document_starts(position_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64 [documents + 1]: where documents begin in rows put one after another, and where the last one ends."""
    return np.append(np.flatnonzero(position_ids == 0), position_ids.size)


def varlen_arguments(config: Any, starts: torch.Tensor | None) -> dict[str, Any]:
    """What the model's forward is given for flash attention; nothing where it computes by another."""
    if starts is None or config._attn_implementation != VARLEN:
        return {}
    starts = starts.int()
    torch._dynamo.maybe_mark_dynamic(starts, 0)  # type: ignore[no-untyped-call]
    return {"document_starts": starts}


def _register() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(VARLEN, _varlen)


def _varlen(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    document_starts: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within documents; query [rows, heads, tokens, head_dim], key and value of fewer heads.

    transformers makes no mask for an implementation that it does not know. Without `document_starts` each row is one document.
    """
    from torch.nn.attention.varlen import varlen_attn

    rows, heads, length, width = query.shape
    if document_starts is None:
        document_starts = torch.arange(0, rows * length + 1, length, dtype=torch.int32, device=query.device)
    flat = [part.transpose(1, 2).reshape(rows * length, part.shape[1], width) for part in (query, key, value)]
    options: dict[str, Any] = {"enable_gqa": True} if key.shape[1] != heads else {}
    options |= {"scale": scaling, "window_size": (-1 if sliding_window is None else sliding_window - 1, 0)}
    starts = document_starts
    attended: Any = varlen_attn(flat[0], flat[1], flat[2], starts, starts, length, length, **options)
    return attended.view(rows, length, heads, width), None
