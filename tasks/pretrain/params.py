"""Parameters of pretraining: the model's shape, the steps, the optimizer, and what fits together."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from tasks.architectures.families.choices import Architecture, AttentionName
from tasks.architectures.families.family import Family, FamilyName, ObjectiveName
from tasks.architectures.families.table import FAMILIES
from tasks.architectures.shape import Shape
from tasks.architectures.shape_checks import check_shape, require_objective
from tasks.architectures.step_schedule import BatchPhase, ContextPhase, StepSchedule, batch_schedule, check_phases
from tasks.core.params import StageParams, validate
from tasks.model.start_from import require_local_model
from tasks.pretrain.averaged_steps import check_average, due_steps
from tasks.pretrain.objectives.params import MaskingParams


class RoleRates(StageParams):
    """Multiples of the learning rate for what AdamW trains beside the matrices."""

    embedding: float = Field(1.0, gt=0, description="Of embeddings, a tied head included.")
    head: float = Field(1.0, gt=0, description="Of an untied head.")
    vector: float = Field(1.0, gt=0, description="Of norms and biases.")


class PretrainParams(StageParams):
    """A model of one of the families, by default a Llama (arXiv:2307.09288), trained by Muon or AdamW."""

    same_work: ClassVar[frozenset[str]] = frozenset(
        {"micro_batch_rows", "zero_stage", "offload", "compile", "attention", "activation_checkpointing"}
        | {"on_not_finite", "checkpoint_every", "keep_stable"}
    )

    start_from: str | None = Field(
        None,
        min_length=1,
        description="A model to train on, in place of one of the sizes below: a folder, a .gguf file, package:NAME or the "
        "hub's owner/name@revision. Its tokenizer is adopted.",
    )
    family: FamilyName = Field("llama", description="Family of models: its blocks, positions and classes.")
    objective: ObjectiveName | None = Field(
        None, description="What it is trained to do; null: what the family was made for."
    )
    layers: int | None = Field(
        None,
        ge=1,
        description="Blocks, in t5 and bart of the encoder, and as many of the decoder; null: as planned, like all numbers that are null.",
    )
    hidden: int | None = Field(None, ge=8, description="Width of the residual stream; a multiple of heads.")
    heads: int | None = Field(None, ge=1, description="Attention heads.")
    kv_heads: int | None = Field(
        None, ge=1, description="Heads of keys and values, shared by groups of heads (GQA); divides heads."
    )
    intermediate: int | None = Field(None, ge=8, description="Width inside the feed-forward block.")
    architecture: Architecture = Field(
        default_factory=lambda: Architecture.model_validate({}),
        description="What departs from the family's own architecture; null: nothing does.",
    )
    masking: MaskingParams = Field(
        default_factory=lambda: MaskingParams.model_validate({}),
        description="Used by objectives that hide tokens; null: as in the family's paper.",
    )
    steps: int | None = Field(None, ge=1, description="Optimizer steps.")
    continue_steps: int = Field(
        0,
        description="Steps beyond `steps`, or fewer: the run goes on from where the decay of the one before it began, if that is kept.",
    )
    global_batch_tokens: int | None = Field(
        None, ge=8, description="Tokens of one step, over all ranks; a multiple of context_length."
    )
    batch_schedule: list[BatchPhase] | None = Field(
        None,
        min_length=1,
        description="Other batches at first, e.g. [{until_step: 200, global_batch_tokens: 1024}] (arXiv:2407.21783); null: none.",
    )
    context_schedule: list[ContextPhase] | None = Field(
        None,
        min_length=1,
        description="Shorter rows at first, of the same tokens, e.g. [{until_step: 200, context_length: 64}] (arXiv:2108.06084); "
        "null: none.",
    )
    micro_batch_rows: int = Field(
        8, ge=1, description="At most this many rows of pack's length go through the model at once on a rank."
    )
    optimizer: Literal["adamw", "muon", "normuon"] = Field(
        "muon", description="muon, normuon: matrices by Muon or NorMuon, the rest by AdamW."
    )
    learning_rate: float | None = Field(None, gt=0, description="Peak learning rate.")
    rates: RoleRates = Field(
        default_factory=lambda: RoleRates.model_validate({}),
        description="Multiples of the learning rate for what AdamW trains beside the matrices.",
    )
    warmup_steps: int | None = Field(
        None, ge=0, description="Steps in which the learning rate rises linearly to its peak."
    )
    schedule: Literal["wsd", "cosine", "linear"] = Field(
        "wsd", description="After the warm-up: constant, then a linear decay (wsd); a cosine; a linear decay at once."
    )
    decay_fraction: float = Field(0.5, ge=0, le=1, description="Share of the steps in which wsd decays, at the end.")
    final_rate: float = Field(0.0, ge=0, le=1, description="Share of the peak that the learning rate ends at.")
    weight_decay: float = Field(
        0.1, ge=0, description="Decoupled weight decay of the matrices (norms and embedding have none)."
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW: decay of the gradient's running mean.")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW: decay of the squared gradient's running mean.")
    momentum: float = Field(0.95, ge=0, lt=1, description="Muon, NorMuon: decay of the momentum.")
    cautious_decay: bool = Field(
        False, description="Muon, NorMuon: decay a weight only where its update goes the same way (arXiv:2510.12402)."
    )
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay of an exponential moving average of the weights, which is exported then; 0: none.",
    )
    z_loss: float = Field(
        0.0,
        ge=0,
        description="Weight of log(Z)^2, Z the softmax's normaliser, which keeps logits small (PaLM, arXiv:2204.02311: 1e-4).",
    )
    clip: float = Field(1.0, ge=0, description="Largest norm of the whole gradient; 0 switches clipping off.")
    zero_stage: int = Field(
        0, ge=0, le=3, description="DeepSpeed ZeRO: what is split over the ranks; 0 nothing, 3 everything."
    )
    offload: Literal["cpu", "nvme"] | None = Field(
        None,
        description="Where ZeRO 1 to 3 keep optimizer state and fp32 weights instead of the device: cpu, or nvme (stage 3): files.",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="Arithmetic of forward and backward; weights are kept in fp32. fp16 scales the loss as needed.",
    )
    attention: AttentionName | None = Field(
        None,
        description="How attention is computed; null: flash on a GPU in bf16 or fp16 where the family can have it, else sdpa.",
    )
    activation_checkpointing: bool = Field(
        False, description="Keep of each block its input alone and compute it again on the way back: memory for time."
    )
    compile: bool = Field(False, description="torch.compile: pays on long runs, costs about half a minute to start.")
    seed: int = Field(0, ge=0, lt=1 << 32, description="Of the initial weights and of the order of the rows.")
    export: Literal["last", "best"] = Field(
        "last",
        description="The weights that are exported: the last, or those of the best validation among the checkpoints.",
    )
    average_checkpoints: int = Field(
        0,
        ge=0,
        description="So many checkpoints, the last step's among them, whose mean weights are exported (arXiv:2306.03241); 0: none.",
    )
    keep_stable: int = Field(
        1, ge=0, description="Checkpoints from before the decay to keep in .textmill/stable, for `continue_steps`."
    )
    validation_every: int = Field(100, ge=1, description="Steps between measurements of validation bits per byte.")
    validation_tokens: int = Field(
        32768, ge=1, description="Tokens of one such measurement, spread evenly over the split."
    )
    on_spike: Literal["count", "skip"] = Field(
        "count",
        description="A step whose loss or gradient lies 6 sigma above the last 128: count it, or leave the weights alone.",
    )
    on_not_finite: Literal["stop", "skip"] = Field(
        "stop", description="A loss or gradient that is inf or nan: stop, or leave the weights alone and go on."
    )
    sample_every: int = Field(
        0, ge=0, description="Steps between looks at how the model continues `sample_prompts` (samples.json); 0: never."
    )
    sample_prompts: list[str] = Field(default=["The", "How are you"], description="Beginnings of text to be continued.")
    checkpoint_every: int = Field(100, ge=1, description="Steps between checkpoints.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.start_from is None:
            require_objective(self.model_family, self.objective)
            if all(self.sizes):  # of those that are planned, the plan is checked
                check_shape(self.model_family, self.shape(1, 1), self.architecture)
            if self.sample_every and not self.model_family.is_causal:
                raise ValueError(f"sample_every: {self.family} continues no text; set 0")
        if self.warmup_steps and self.steps and self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps ({self.warmup_steps}) must be at most steps ({self.steps})")
        if (
            self.schedule == "wsd"
            and self.steps
            and self.warmup_steps
            and self.warmup_steps + self.steps * self.decay_fraction > self.steps
        ):
            raise ValueError(
                f"warmup_steps ({self.warmup_steps}) and a decay of {self.decay_fraction:g} of the steps must together be at most "
                f"steps ({self.steps})"
            )
        steps = self.steps and self.steps + self.continue_steps
        check_phases("batch_schedule", [phase.until_step for phase in self.batch_schedule or ()], steps)
        check_phases("context_schedule", [phase.until_step for phase in self.context_schedule or ()], steps)
        check_average(self.average_checkpoints, self.checkpoint_every, steps, self.ema_decay, self.export)
        if self.precision != "fp32" and self.zero_stage == 0:
            raise ValueError(
                f"precision {self.precision} needs zero_stage 1 or more: stage 0 keeps no fp32 weights and drifts"
            )
        if self.offload and self.zero_stage == 0:
            raise ValueError("offload needs zero_stage 1 or more")
        if self.offload == "nvme" and self.zero_stage != 3:
            raise ValueError("offload to nvme needs zero_stage 3")
        return self

    @property
    def model_family(self) -> Family:
        return FAMILIES[self.family]

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """Layers, hidden, heads, kv_heads and intermediate; None where they are planned."""
        return self.layers, self.hidden, self.heads, self.kv_heads, self.intermediate

    def shape(self, vocabulary_size: int, context_length: int) -> Shape:
        """The model's shape over the given vocabulary and context."""
        layers, hidden, heads, kv_heads, intermediate = (size or 0 for size in self.sizes)
        return Shape(layers, hidden, heads, kv_heads, intermediate, vocabulary_size, context_length)

    def check_paths(self, root: Path) -> None:
        """Check that the model to start from is there, unless it is the hub's."""
        require_local_model(self.start_from, "pretrain.start_from")


class PlannedParams(PretrainParams):
    """Parameters of which none that training needs is null: what the loop takes. Of a given model the shape is its own."""

    steps: int = Field(ge=1)
    global_batch_tokens: int = Field(ge=8)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)

    def at_length(self) -> Self:
        """The same with `continue_steps` in `steps`."""
        changed = {"steps": self.steps + self.continue_steps, "continue_steps": 0}
        where = "params.yaml: pretrain, with continue_steps" if self.continue_steps else "params.yaml: pretrain"
        return validate(type(self), self.model_dump() | changed, where)

    @property
    def batch_tokens(self) -> StepSchedule:
        """Tokens of each step."""
        return batch_schedule(self.global_batch_tokens, self.batch_schedule)

    def context_lengths(self, full: int) -> StepSchedule:
        """Tokens in the rows of each step, `full` at last."""
        phases = self.context_schedule or ()
        return StepSchedule(full, tuple((phase.until_step, phase.context_length) for phase in phases))

    @property
    def averaged_steps(self) -> tuple[int, ...]:
        """The steps whose checkpoints are averaged."""
        due = due_steps(self.checkpoint_every, self.steps)
        return tuple(due[len(due) - self.average_checkpoints :])

    @property
    def decay_steps(self) -> float:
        """Steps in which wsd decays."""
        return self.steps * self.decay_fraction

    @property
    def stable_steps(self) -> int | None:
        """Steps before wsd's decay begins; None where nothing decays after them."""
        return int(self.steps - self.decay_steps) if self.schedule == "wsd" and self.decay_fraction else None
