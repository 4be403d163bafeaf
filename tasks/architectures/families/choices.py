"""Choices inside a family: what `pretrain.architecture` says, each null for the family's own."""

from typing import Literal

from pydantic import Field

from tasks.architectures.families.family import Positions
from tasks.core.params import StageParams

Activation = Literal["silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "relu2", "gated-gelu", "gated-silu"]
AttentionName = Literal["eager", "sdpa", "flash", "flex"]
"""Implementations of attention: see tasks.architectures.building.attention, which loads PyTorch."""


class RopeScaling(StageParams):
    """Rotary positions stretched over a longer context than they were made for."""

    type: Literal["linear", "dynamic", "yarn"] = Field(
        "linear",
        description="linear: positions divided (arXiv:2306.15595); dynamic: NTK-aware; yarn: arXiv:2309.00071.",
    )
    factor: float = Field(2.0, gt=1, le=1024, description="How many times longer.")


class Architecture(StageParams):
    """What departs from the family's own architecture; a family that has no place for a choice refuses it."""

    head_dim: int | None = Field(None, ge=2, description="Width of a head; null: hidden / heads.")
    tie_embeddings: bool | None = Field(None, description="Whether the output head is the embedding's matrix.")
    positions: Positions | None = Field(
        None, description="Kind of positions, of those that the family has; sinusoidal: a table that does not learn."
    )
    rope_theta: float | None = Field(None, gt=0, description="Base of the rotary position angles (arXiv:2104.09864).")
    rope_scaling: RopeScaling | None = Field(None, description="Rotary positions stretched: {type, factor}.")
    activation: Activation | None = Field(None, description="Of the feed-forward block.")
    norm: Literal["pre", "post"] | None = Field(None, description="Norm before attention and feed-forward, or after.")
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Share of activations dropped in training; null: none. Its draws differ with ranks and micro-batches.",
    )
    sliding_window: int | None = Field(
        None, ge=2, description="Tokens back that attention reaches, in the family's windowed layers."
    )
    experts: int | None = Field(
        None, ge=2, le=256, description="Feed-forward blocks that a router chooses from (Mixtral)."
    )
    experts_per_token: int | None = Field(None, ge=1, description="How many of them a token goes through.")
    initialisation: Literal["normal", "xavier", "kaiming"] | None = Field(
        None,
        description="Of the matrices in the blocks: init_std, or by their sides (Glorot & Bengio 2010; arXiv:1502.01852).",
    )
    init_std: float | None = Field(None, gt=0, le=1, description="Standard deviation of the first weights.")
    scale_residual: bool = Field(
        False, description="Output projections start smaller by the root of 2 layers, as in GPT-2."
    )
    zero_init_outputs: bool = Field(
        False,
        description="Output projections of attention and feed-forward start at 0: each block begins as the identity.",
    )
    mup_base_width: int | None = Field(
        None, ge=1, description="muP (arXiv:2203.03466): rates and first weights scale from a model of this width."
    )
