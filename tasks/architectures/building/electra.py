"""ELECTRA's pair: a small generator that proposes tokens, and the discriminator, the model that is kept.

Clark et al. 2020 (arXiv:2003.10555), 3.2 and 3.3: they share their embeddings of tokens and positions; the generator's layers
are a quarter to a half as wide as the discriminator's.
"""

from typing import Any

import torch
from torch import nn

from tasks.architectures.building.initialisation import initialise
from tasks.architectures.families.choices import Architecture
from tasks.architectures.families.family import Family
from tasks.architectures.shape import Shape


def generator_shape(shape: Shape, share: float) -> Shape:
    """The generator's sizes: `share` of the heads, at least one, and with them of hidden and intermediate; all layers."""
    heads = max(1, round(shape.heads * share))
    hidden = shape.hidden // shape.heads * heads
    intermediate = max(1, round(shape.intermediate * heads / shape.heads))
    return Shape(shape.layers, hidden, heads, heads, intermediate, shape.vocabulary_size, shape.context_length)


class ReplacedTokenModel(nn.Module):
    """Generator and discriminator with shared embeddings; `config` is the discriminator's.

    Both are called by name, through `forward`, so that an engine around this module sees every pass.
    """

    def __init__(self, family: Family, config: Any, share: float, choices: Architecture, seed: int) -> None:
        from transformers import ElectraForMaskedLM, ElectraForPreTraining

        super().__init__()
        torch.manual_seed(seed)
        shape = Shape(
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            config.num_attention_heads,
            config.intermediate_size,
            config.vocab_size,
            config.max_position_embeddings,
        )
        small = generator_shape(shape, share)
        settings = {
            **config.to_dict(),
            "hidden_size": small.hidden,
            "num_attention_heads": small.heads,
            "intermediate_size": small.intermediate,
        }
        self.config = config
        self.discriminator = ElectraForPreTraining(config)
        self.generator = ElectraForMaskedLM(type(config)(**settings))
        for model in (self.discriminator, self.generator):
            initialise(model, family, choices, seed)
        # The modules of embeddings are shared whole: token types and their norm with them.
        self.generator.electra.embeddings = self.discriminator.electra.embeddings
        self.generator.tie_weights()

    def forward(self, generate: bool, **inputs: Any) -> Any:
        """The generator's output where `generate`, else the discriminator's."""
        return (self.generator if generate else self.discriminator)(**inputs)

    def get_input_embeddings(self) -> Any:
        return self.discriminator.get_input_embeddings()

    def get_output_embeddings(self) -> Any:
        """The generator's, which predicts tokens."""
        return self.generator.get_output_embeddings()

    def save_pretrained(self, folder: Any) -> None:
        """The discriminator into `folder`, the generator into `folder/generator`."""
        self.discriminator.save_pretrained(folder)
        self.generator.save_pretrained(f"{folder}/generator")
