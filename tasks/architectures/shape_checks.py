"""Whether a shape and choices fit a family: asked before anything runs, answered by the key of params.yaml that does not fit."""

from collections.abc import Iterator

from tasks.architectures.families.choices import Architecture
from tasks.architectures.families.family import Family, ObjectiveName
from tasks.architectures.families.table import FAMILIES
from tasks.architectures.shape import Shape
from tasks.core.errors import UserError

CHOICES_OF_ANY = frozenset({"positions", "initialisation", "scale_residual", "zero_init_outputs", "mup_base_width"})
"""Choices that are checked by rules of their own, or need no place in a configuration."""
MUP_FAMILIES = ", ".join(family.name for family in FAMILIES.values() if family.final_norm)


def require_objective(family: Family, objective: ObjectiveName | None) -> ObjectiveName:
    """The objective to train with: the given one, else the family's own.

    Raises:
        UserError: the family has no class for it.
    """
    if objective is None or objective in family.classes:
        return objective or family.objective
    able = ", ".join(other.name for other in FAMILIES.values() if objective in other.classes)
    raise UserError(
        f"params.yaml: pretrain.objective: {family.name} is trained by {', '.join(family.classes)}, not {objective}. "
        f"Set null, or pretrain.family to one of: {able}"
    )


def check_shape(family: Family, shape: Shape, choices: Architecture) -> None:
    """Check that `family` can have this shape with these choices.

    Raises:
        UserError: it cannot; a line for each mistake.
    """
    mistakes = [
        f"params.yaml: pretrain.{key}: {message}"
        for key, message in (*_choices(family, choices), *_sizes(family, shape, choices))
    ]
    if mistakes:
        raise UserError("\n".join(mistakes))


def _choices(family: Family, choices: Architecture) -> Iterator[tuple[str, str]]:
    for key, value in choices:
        if value is None or key in CHOICES_OF_ANY:
            continue
        if key not in family.choices and key not in family.shape:
            places = ", ".join(other.name for other in FAMILIES.values() if key in {*other.choices, *other.shape})
            yield f"architecture.{key}", f"{family.name} has no place for it. Set null, or a family that has: {places}"
    if choices.positions and choices.positions not in family.positions:
        yield "architecture.positions", f"{family.name} has {' or '.join(family.positions)}, not {choices.positions}"
    gated = (choices.activation or "").startswith("gated-")
    if gated and family.name != "t5":
        yield "architecture.activation", f"{choices.activation} is t5's; {family.name} takes it without the gate's name"
    if choices.zero_init_outputs and choices.scale_residual:
        yield (
            "architecture.scale_residual",
            "changes nothing beside zero_init_outputs: the projections start at 0. Set one",
        )
    if choices.mup_base_width and not family.final_norm:
        yield "architecture.mup_base_width", f"muP is made for {MUP_FAMILIES}, not for {family.name}"
    if choices.mup_base_width and choices.initialisation not in (None, "normal"):
        yield "architecture.initialisation", f"muP scales normal first weights, not {choices.initialisation}"
    if choices.mup_base_width and choices.norm == "post":
        yield "architecture.norm", "muP is made for norms before attention and feed-forward (pre)"
    if choices.experts_per_token and choices.experts_per_token > (choices.experts or 8):
        yield (
            "architecture.experts_per_token",
            f"{choices.experts_per_token} is more than the {choices.experts or 8} experts",
        )


def _sizes(family: Family, shape: Shape, choices: Architecture) -> Iterator[tuple[str, str]]:
    even = "rope" in family.positions and not choices.head_dim  # rotary positions turn pairs
    if shape.hidden % (shape.heads * (2 if even else 1)):
        yield "hidden", f"must be {'an even' if even else 'a'} multiple of heads ({shape.heads}), got {shape.hidden}"
    if choices.head_dim and choices.head_dim % 2 and "rope" in family.positions:
        yield "architecture.head_dim", f"rotary positions turn pairs, so it is even, got {choices.head_dim}"
    if shape.heads % shape.kv_heads:
        yield "kv_heads", f"must divide heads ({shape.heads}), got {shape.kv_heads}"
    elif "kv_heads" not in family.shape and shape.kv_heads != shape.heads:
        yield (
            "kv_heads",
            f"{family.name} has keys and values for every head: set {shape.heads} (heads), got {shape.kv_heads}",
        )
    wide = (family.intermediate_factor or 0) * shape.hidden
    if wide and shape.intermediate != wide:
        times = f"{family.intermediate_factor} times hidden"
        yield "intermediate", f"{family.name}'s feed-forward is {times}: set {wide}, got {shape.intermediate}"
    if choices.sliding_window and choices.sliding_window % 2 and family.name == "modernbert":
        yield "architecture.sliding_window", f"reaches half to each side, so it is even, got {choices.sliding_window}"
    if choices.mup_base_width and choices.mup_base_width > shape.hidden:
        yield "architecture.mup_base_width", f"is the width of a smaller model than this one of hidden {shape.hidden}"
