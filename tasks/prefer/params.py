"""Parameters of preference tuning: which method, what each needs, and what its replies are worth."""

from typing import Literal

from pydantic import Field, model_validator

from tasks.core.params import StageParams
from tasks.prefer.reply_checks import RewardParams


class GrpoParams(StageParams):
    """Replies that the model draws are rewarded by checks (Shao et al. 2024, arXiv:2402.03300); used where `method` is grpo."""

    steps: int = Field(24, ge=1, description="Steps of the optimizer.")
    prompts: int = Field(4, ge=1, description="Contexts in a step, of the conversations to train on.")
    samples: int = Field(8, ge=2, le=256, description="Replies drawn to each, which are rewarded against each other.")
    temperature: float = Field(1.0, gt=0, le=10, description="Divides the logits before a token of a reply is drawn.")
    top_k: int = Field(50, ge=0, description="Tokens that may be drawn; 0: all.")
    learning_rate: float = Field(1.5e-4, gt=0, lt=1, description="Of AdamW, reached after two steps and then constant.")
    beta: float = Field(0.1, ge=0, description="Weight of the KL divergence from the tuned model; 0: no bound.")


class DpoParams(StageParams):
    """Pairs of replies are told apart (Rafailov et al. 2023, arXiv:2305.18290); used where `method` is dpo or best_of_n."""

    loss: Literal["sigmoid", "ipo"] = Field(
        "sigmoid", description="sigmoid: DPO's own; ipo (arXiv:2310.12036) by length, for pairs that are always right."
    )
    epochs: float = Field(1.0, gt=0, le=100, description="Passes over the pairs.")
    batch: int = Field(16, ge=1, description="Pairs in a step.")
    learning_rate: float = Field(
        2e-4,
        gt=0,
        lt=1,
        description="Peak of AdamW, falling to 0; large models want far less (at 7e9 parameters 5e-7 is usual).",
    )
    beta: float = Field(0.1, gt=0, description="How firmly the tuned model is held to: a smaller one lets go.")
    chosen_weight: float = Field(
        0.5, ge=0, description="Weight of the chosen replies' own loss, without which they may become unlikely too."
    )


class BestOfNParams(StageParams):
    """Replies are drawn once, and the best are learned from by the block `dpo`; used where `method` is best_of_n."""

    contexts: int = Field(
        192, ge=1, description="Contexts that replies are drawn to, of the conversations to train on."
    )
    samples: int = Field(4, ge=2, le=256, description="Replies drawn to each.")
    temperature: float = Field(1.0, gt=0, le=10, description="Divides the logits before a token of a reply is drawn.")
    top_k: int = Field(50, ge=0, description="Tokens that may be drawn; 0: all.")
    learn_from: Literal["pairs", "best"] = Field(
        "pairs",
        description="pairs: the best reply against the worst, by dpo.loss; best: the best alone (rejection sampling).",
    )


class PreferParams(StageParams):
    """Preference tuning, by rewards that are checked or by pairs that people compared."""

    method: Literal["grpo", "dpo", "best_of_n"] | None = Field(
        None,
        description="grpo: rewards of replies that the model draws; best_of_n: the best of replies drawn once; dpo: pairs of "
        "instruct.files; null: the tuned model stays.",
    )
    grpo: GrpoParams = Field(
        default_factory=lambda: GrpoParams.model_validate({}), description="Used where `method` is grpo."
    )
    dpo: DpoParams = Field(
        default_factory=lambda: DpoParams.model_validate({}), description="Used where `method` is dpo or best_of_n."
    )
    best_of_n: BestOfNParams = Field(
        default_factory=lambda: BestOfNParams.model_validate({}), description="Used where `method` is best_of_n."
    )
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="Replies (grpo) or pairs (dpo, best_of_n) at a time, for memory; divides a step. null: all of it.",
    )
    max_new_tokens: int | None = Field(
        None,
        ge=1,
        description="Longest reply, at most half of the context. null: all but 5% of the replies are shorter.",
    )
    gradient_clipping: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the arithmetic; bf16 needs units for it.")
    held_out: int = Field(
        250, ge=1, description="Contexts of held-out conversations that are answered before and after."
    )
    seed: int = Field(0, ge=0, lt=1 << 32, description="Of the contexts, of the pairs' order and of what is drawn.")
    reward: RewardParams = Field(
        default_factory=lambda: RewardParams.model_validate({}), description="What the checks of a reply are worth."
    )

    @property
    def together(self) -> int:
        """Replies or pairs in a step."""
        return self.grpo.prompts * self.grpo.samples if self.method in ("grpo", None) else self.dpo.batch

    @model_validator(mode="after")
    def _whole_batches(self) -> "PreferParams":
        if self.micro_batch and self.together % self.micro_batch:
            what = "replies" if self.method in ("grpo", None) else "pairs"
            raise ValueError(f"micro_batch: {self.micro_batch} does not divide the {self.together} {what} of a step")
        return self
