"""What a family of models is: data that say how transformers' configuration and classes are made of our terms."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ObjectiveName = Literal["causal", "masked", "replaced_token", "span_corruption", "denoising"]
FamilyName = Literal[
    "llama",
    "mistral",
    "qwen3",
    "gemma",
    "arcee",
    "mixtral",
    "gpt2",
    "opt",
    "falcon",
    "mpt",
    "bert",
    "roberta",
    "modernbert",
    "deberta",
    "electra",
    "t5",
    "bart",
]
Isolation = Literal["positions", "mask", "rows"]
Positions = Literal["learned", "sinusoidal", "rope", "alibi", "relative"]
Attributes = str | tuple[str, ...]
"""One attribute of a configuration, or several that take the same value."""


@dataclass(frozen=True)
class Family:
    """A family of models in transformers.

    Attributes:
        name: as `pretrain.family` says it.
        model_type: as config.json says it.
        config: the configuration's class in transformers.
        shape: of our terms (layers, hidden, heads, kv_heads, head_dim, intermediate, context) those that the configuration has.
        choices: of the keys of `pretrain.architecture` those that the configuration has.
        classes: the model's class for each objective; the first is the family's own.
        isolation: how the documents of a packed row are kept apart: `positions` that restart, from which transformers makes
            the mask; a block `mask`, given to the model; or `rows` of one document each.
        positions: kinds of positions it can have, its own first.
        position_tables: how the names of the modules end that hold learned positions.
        constants: attributes that are always set.
        with_choice: attributes that are set beside a choice.
        residual_outputs: how the names of the modules or weights end that write into the residual stream.
        final_norm: the norm before the output head, in families that muP covers.
        intermediate_factor: the feed-forward's width in multiples of hidden, where it cannot be chosen.
        first_position: `pad` where positions are counted from the padding's id on (RoBERTa); None where none are given.
        special_tokens: attributes for ids of special tokens, beside bos, eos and pad, by what they are here.
        rates: multiples of the learning rate of weights that start far from where they end, by how the names of their modules end.
        masked_fraction: share of the tokens that its objective hides, in its paper.
    """

    name: str
    model_type: str
    config: str
    shape: Mapping[str, Attributes]
    choices: Mapping[str, Attributes]
    classes: Mapping[ObjectiveName, str]
    isolation: Isolation
    positions: tuple[Positions, ...]
    residual_outputs: tuple[str, ...]
    position_tables: tuple[str, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)
    with_choice: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    final_norm: str | None = None
    intermediate_factor: int | None = None
    first_position: Literal["zero", "pad"] | None = "zero"
    special_tokens: Mapping[str, Literal["document_start", "pad"]] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    masked_fraction: float = 0.15

    @property
    def objective(self) -> ObjectiveName:
        """The objective it was made for."""
        return next(iter(self.classes))

    @property
    def is_causal(self) -> bool:
        return self.objective == "causal"

    @property
    def is_encoder_decoder(self) -> bool:
        return self.objective in ("span_corruption", "denoising")
