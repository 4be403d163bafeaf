"""Parameters of the plan: the budget, the law, and the proportions of the shapes."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from tasks.core.params import StageParams, require_files
from tasks.plan.devices import DEVICES
from tasks.plan.fits import FITS_FOLDER

LawName = Literal["own", "kaplan", "chinchilla", "chinchilla_rounded", "besiroglu", "muennighoff"]


class PlanParams(StageParams):
    """What to train for a budget (exactly one of flops, hours and money): the sizes, steps and rates that pretrain leaves null."""

    flops: float | None = Field(3e13, gt=0, description="Budget: floating point operations, 6ND and attention.")
    hours: float | None = Field(None, gt=0, description="Budget: hours that all devices are at work.")
    money: float | None = Field(None, gt=0, description="Budget: what `price` is paid from.")
    device: str = Field("cpu-core-avx512", description="A device of docs/planning.md, for hours, time and memory.")
    devices: int = Field(2, ge=1, description="How many there are.")
    mfu: float = Field(0.4, gt=0, le=1, description="Share of the devices' arithmetic that training is taken to reach.")
    price: float | None = Field(None, gt=0, description="Of one device for an hour, in the unit of `money`.")
    law: LawName = Field(
        "own",
        description="What predicts the loss: own fits, or kaplan, chinchilla, chinchilla_rounded, besiroglu, muennighoff.",
    )
    fits: str | None = Field(
        f"{FITS_FOLDER}/default.json", description="Own fits (python -m tasks.plan.fit), in that folder."
    )
    recipe: Literal["own", "step_law", "porian"] = Field(
        "own",
        description="Batch and rate: Step Law scaled to own runs, Step Law (arXiv:2503.04715), Porian (arXiv:2406.19146).",
    )
    max_epochs: float = Field(4.0, gt=0, description="How often the text is passed over at most (arXiv:2305.16264).")
    aspect: float = Field(48.0, gt=0, description="Width over depth.")
    head_dim: int = Field(64, ge=2, multiple_of=2, description="Width of a head.")
    queries_per_kv_head: int = Field(
        1, ge=1, description="Heads of queries that share one of keys and values, at least."
    )
    mlp_ratio: float = Field(2.6667, gt=0, description="Width inside the feed-forward block over the model's.")
    rewarm: float = Field(
        0.1,
        gt=0,
        le=1,
        description="pretrain.start_from: the peak that the rate rises to again, over a new model's (arXiv:2403.08763).",
    )
    warmup_fraction: float = Field(0.045, ge=0, lt=1, description="Share of the steps in which the rate rises.")

    @field_validator("device")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in DEVICES:
            raise ValueError(f"no device of that name. There are: {', '.join(DEVICES)}")
        return name

    @field_validator("fits")
    @classmethod
    def _is_watched(cls, path: str | None) -> str | None:
        if path is not None and Path(path).parent != FITS_FOLDER:
            raise ValueError(f"must be a file in {FITS_FOLDER}/, where DVC sees that it changes")
        return path

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        named = [name for name in ("flops", "hours", "money") if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError(
                f"exactly one of flops, hours and money is the budget, the others are null; got {named or 'none'}"
            )
        if self.money is not None and self.price is None:
            raise ValueError("money needs price: what one device costs for an hour")
        if "own" in (self.law, self.recipe) and self.fits is None:
            raise ValueError("law and recipe own need fits: a file of own fits, or name a published law and recipe")
        return self

    def check_paths(self, root: Path) -> None:
        """Check that the file of own fits is there."""
        if "own" in (self.law, self.recipe):
            require_files([str(self.fits)], root, "plan.fits")
