"""Creating a model: its transformers configuration from a family, a shape and choices, and the model with its first weights."""

from typing import Any

from tasks.architectures.building.initialisation import initialise
from tasks.architectures.building.special_ids import SpecialIds
from tasks.architectures.families.choices import Architecture
from tasks.architectures.families.family import Family, ObjectiveName
from tasks.architectures.families.settings import family_settings, set_attributes
from tasks.architectures.shape import Shape


def create_config(family: Family, shape: Shape, choices: Architecture, ids: SpecialIds) -> Any:
    """The transformers configuration of `shape`; its vocabulary has rows for the tokens that `ids` adds.

    Every special token's id is set: the defaults lie outside a small vocabulary or name other tokens. What does not fit is
    refused before, by `tasks.architectures.shape_checks`.
    """
    import transformers

    settings = family_settings(family, choices, shape.context_length)
    terms: dict[str, Any] = {
        "layers": shape.layers,
        "hidden": shape.hidden,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_dim": choices.head_dim or shape.hidden // shape.heads,
        "intermediate": shape.intermediate,
        "context": shape.context_length + (ids.pad + 1 if family.first_position == "pad" else 0),
    }
    for term, attributes in family.shape.items():
        set_attributes(settings, attributes, terms[term])
    settings |= {name: getattr(ids, of) for name, of in family.special_tokens.items()}
    return getattr(transformers, family.config)(
        vocab_size=ids.embedding_rows,
        bos_token_id=ids.document_start,
        eos_token_id=ids.document_start,
        pad_token_id=ids.pad,
        dtype="float32",
        **settings,
    )


def create_model(family: Family, objective: ObjectiveName, config: Any, choices: Architecture, seed: int) -> Any:
    """The model of `config` in fp32 on the CPU; its weights depend on the arguments alone."""
    import torch

    torch.manual_seed(seed)
    model = model_class(family, objective)(config)
    initialise(model, family, choices, seed)
    return model


def model_class(family: Family, objective: ObjectiveName) -> Any:
    """The class in transformers of the family's model for an objective."""
    import transformers

    return getattr(transformers, family.classes[objective])
