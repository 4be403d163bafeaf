"""What can be done with a family's model after training: told before it."""

from tasks.architectures.choices import Architecture
from tasks.architectures.family import Family

GGUF_ACTIVATION = "silu"


def why_no_gguf_family(
    family: Family, choices: Architecture, hidden: int | None = None, heads: int | None = None
) -> str | None:
    """Why quantize has no GGUF export of such a model; None: it has. Sizes that are not known yet are not looked at."""
    if not family.gguf:
        return f"GGUF export knows llama, not {family.name}"
    if choices.activation not in (None, GGUF_ACTIVATION):
        return f"GGUF export knows llama with {GGUF_ACTIVATION}, not with architecture.activation {choices.activation}"
    if choices.rope_scaling:
        return "GGUF export knows rotary positions as they are, not with architecture.rope_scaling"
    if choices.head_dim and hidden and heads and choices.head_dim * heads != hidden:
        return f"GGUF export wants heads that are together as wide as the model, not architecture.head_dim {choices.head_dim}"
    return None
