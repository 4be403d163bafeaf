"""What a family and choices set in transformers' configuration, whatever the sizes; it needs neither PyTorch nor transformers."""

from typing import Any

from tasks.architectures.families.choices import Architecture
from tasks.architectures.families.family import Attributes, Family

OWN_ROPE_THETA = 10000.0


def family_settings(family: Family, choices: Architecture, context_length: int) -> dict[str, Any]:
    """Attributes of the configuration that do not depend on the shape; of `context_length` the scaling of positions does."""
    settings: dict[str, Any] = {**family.constants}
    for key, value in choices:
        if value is not None and key in family.choices and family.choices[key] != "rope_parameters":
            set_attributes(settings, family.choices[key], value != "post" if key == "norm" else value)
            settings |= family.with_choice.get(key, {})
    if "rope_theta" in family.choices:
        settings["rope_parameters"] = _rope(family, choices, context_length)
    return settings


def set_attributes(settings: dict[str, Any], attributes: Attributes, value: Any) -> None:
    """Give `value` to one attribute, or to several."""
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
