"""What a model has to come to before it is released, read from `release.yaml`: it decides nothing that a stage makes."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from tasks.core.params import read_yaml, validate

Bounds = dict[Annotated[str, Field(pattern=r"^[a-z_]+/.+")], float]


class Rules(BaseModel):
    """The rules of the gate, and what the model card is told beside them. Without the file, the defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_least: Bounds = Field(
        default_factory=dict, description="Metric → the least it may be, e.g. `prefer/held_out/after/ended: 0.9`."
    )
    at_most: Bounds = Field(default_factory=dict, description="Metric → the most it may be.")
    format_cost: float | None = Field(
        0.05, gt=0, description="Bits per byte that the format which is served may cost; null: any."
    )
    regression: float | None = Field(
        0.0,
        ge=0,
        description="Bits per byte that it may be worse than the champion on held-out text, beyond the interval; null: any.",
    )
    compared_bytes: int = Field(
        100_000, ge=1000, description="Held-out text on which it and the champion are compared, in bytes."
    )
    committed: bool = Field(
        True, description="Code, parameters and dvc.lock are committed, so that a version leads back to them."
    )
    intended_use: str = Field("", description="For the model card: what it is for, and what not.")
    licence: str = Field("", description="For the model card and the hub, e.g. `apache-2.0`.")
    watts: float | None = Field(
        None, gt=0, description="What the machine draws while it works, for energy; null: not told."
    )
    price_per_hour: float | None = Field(None, gt=0, description="Of the machine, for the cost; null: not told.")


def load_rules(root: Path) -> Rules:
    """Read `release.yaml` of `root`.

    Raises:
        UserError: an unknown key or a value that is not allowed.
    """
    path = root / "release.yaml"
    return validate(Rules, read_yaml(path), "release.yaml: ") if path.exists() else Rules.model_validate({})
