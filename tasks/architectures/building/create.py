"""Creating a model: its transformers configuration from a family, a shape and choices, and the model with its first weights."""

from typing import Any

from tasks.architectures.building.initialisation import initialise
from tasks.architectures.building.special_ids import SpecialIds
from tasks.architectures.families.choices import Architecture
from tasks.architectures.families.family import Attributes, Family, ObjectiveName
from tasks.architectures.shape import Shape

OWN_ROPE_THETA = 10000.0


def create_config(family: Family, shape: Shape, choices: Architecture, ids: SpecialIds) -> Any:
    """The transformers configuration of `shape`; its vocabulary has rows for the tokens that `ids` adds.

    Every special token's id is set: the defaults lie outside a small vocabulary or name other tokens. What does not fit is
    refused before, by `tasks.architectures.shape_checks`.
    """
    import transformers

    settings: dict[str, Any] = {**family.constants}
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
        _set(settings, attributes, terms[term])
    for key, value in choices:
        if value is not None and key in family.choices and family.choices[key] != "rope_parameters":
            _set(settings, family.choices[key], value != "post" if key == "norm" else value)
            settings |= family.with_choice.get(key, {})
    if "rope_theta" in family.choices:
        settings["rope_parameters"] = _rope(family, choices, shape.context_length)
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


def _set(settings: dict[str, Any], attributes: Attributes, value: Any) -> None:
    for name in (attributes,) if isinstance(attributes, str) else attributes:
        settings[name] = value


def _rope(family: Family, choices: Architecture, context_length: int) -> dict[str, Any]:
    rope: dict[str, Any] = {"rope_type": "default"}
    if choices.rope_scaling:
        rope = {"rope_type": choices.rope_scaling.type, "factor": choices.rope_scaling.factor}
        if choices.rope_scaling.type == "yarn":
            rope["original_max_position_embeddings"] = max(1, int(context_length / choices.rope_scaling.factor))
    if family.name != "modernbert":
        return {**rope, "rope_theta": choices.rope_theta or OWN_ROPE_THETA}
    return {  # of its own base where attention is global
        "full_attention": {**rope, "rope_theta": choices.rope_theta or 160000.0},
        "sliding_attention": {**rope, "rope_theta": OWN_ROPE_THETA},
    }
