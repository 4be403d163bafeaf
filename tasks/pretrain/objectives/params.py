"""What `pretrain.masking` says: how much is hidden, and how; null for what the family's paper does."""

from typing import Self

from pydantic import Field, model_validator

from tasks.core.params import StageParams


class MaskingParams(StageParams):
    """Used by objectives that hide tokens: masked, replaced_token, span_corruption and denoising."""

    fraction: float | None = Field(
        None, gt=0, lt=1, description="Share of the tokens that is hidden; null: 0.15, ModernBERT and BART 0.3."
    )
    mask_share: float | None = Field(
        None, ge=0, le=1, description="Of the hidden tokens, the share that becomes the mask; null: 0.8, ELECTRA 0.85."
    )
    random_share: float | None = Field(
        None, ge=0, le=1, description="The share that becomes a random token; the rest stays. null: 0.1, ELECTRA 0."
    )
    whole_words: bool = Field(False, description="Whether words are hidden whole (masked, replaced_token).")
    mean_span: float | None = Field(
        None, ge=1, le=64, description="Mean length of hidden spans in tokens (span_corruption, denoising); null: 3."
    )
    generator_share: float = Field(
        0.25, gt=0, le=1, description="Size of ELECTRA's generator: its share of the heads, and so of the width."
    )

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if (self.mask_share or 0) + (self.random_share or 0) > 1:
            raise ValueError("mask_share and random_share add up to more than 1")
        return self
