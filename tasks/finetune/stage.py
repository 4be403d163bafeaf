"""Supervised tuning: the pretrained model learns to answer in turns, from conversations, by TRL; all weights or LoRA."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.core.errors import UserError
from tasks.core.params import StageParams
from tasks.core.paths import Inputs, Metrics, Outputs

log = logging.getLogger(__name__)
MERGE_TOLERANCE = 1e-3
"""Largest change of a logit, relative to the largest logit, that merging LoRA weights may make in fp32."""


class LoraParams(StageParams):
    """Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685), used where `method` is lora."""

    rank: int = Field(16, ge=1, le=1024, description="Rank of the update of each weight matrix.")
    alpha: float = Field(32.0, gt=0, description="Scale of the update: alpha / rank times the product.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the update.")
    target_modules: Literal["all-linear", "attention"] = Field(
        "all-linear", description="Which matrices: every linear layer but the output, or q, k, v and o of attention."
    )


class FinetuneParams(StageParams):
    """Supervised tuning with loss on what the assistant says."""

    start_from: str | None = Field(
        None,
        min_length=1,
        description="A model to tune, in place of the pretrained one: a folder, a .gguf file, package:NAME or the hub's "
        "owner/name@revision. Its tokenizer is adopted, pretrain is passed over.",
    )
    method: Literal["full", "lora"] = Field("full", description="Train all weights, or LoRA merged at the end.")
    epochs: float = Field(1.0, gt=0, le=100, description="Passes over the conversations.")
    max_steps: int | None = Field(70, ge=1, description="Steps at most; null: no bound but `epochs`.")
    batch: int = Field(16, ge=1, description="Windows of conversations in a step.")
    micro_batch: int = Field(16, ge=1, description="Windows at a time, for memory; divides `batch`.")
    max_length: int = Field(
        256, ge=16, description="Tokens in a window, at most the model's context; longer conversations become several."
    )
    learning_rate: float = Field(5e-4, gt=0, lt=1, description="Peak learning rate of AdamW.")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="Its course after the warm-up.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps over which the learning rate rises.")
    weight_decay: float = Field(0.0, ge=0, lt=1, description="AdamW's decoupled weight decay.")
    gradient_clipping: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the arithmetic; bf16 needs units for it.")
    seed: int = Field(0, ge=0, lt=1 << 32, description="Of the order of the data, dropout and LoRA's start.")
    lora: LoraParams = Field(
        default_factory=lambda: LoraParams.model_validate({}), description="Used where `method` is lora."
    )

    @model_validator(mode="after")
    def _batches(self) -> "FinetuneParams":
        if self.batch % self.micro_batch:
            raise ValueError(f"micro_batch: {self.micro_batch} does not divide batch {self.batch}")
        return self

    def check_paths(self, root: Path) -> None:
        """Check that the model to start from is there, unless it is the hub's."""
        from tasks.model.start_from import require_local_model

        require_local_model(self.start_from, "finetune.start_from")


def run(params: FinetuneParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Tune `pretrain` on the conversations of `train`.

    Writes a Hugging Face folder (weights merged where LoRA made them, tokenizer and chat template byte for byte as
    they were) and `curves.csv` (step, tokens, loss, learning_rate, gradient_norm, token_accuracy; loss and accuracy are
    means since the row before). Checkpoints in `outputs.work` let a killed run continue to the same weights.

    Where `train` holds nothing, or the base model predicts no next token, it stays what it is: a pointer to `pretrain`
    (tasks.model.model_pointer) and a curve without rows are left.

    Raises:
        UserError: conversations of which none has an assistant's turn that fits, a chat template that the tokens do not
            follow, a model that cannot be read, a loss that is not finite.
    """
    from tasks.documents.shards import count_rows
    from tasks.finetune.untaught_tokens import expect_turn_ends
    from tasks.model.load import load_model, no_causal_class, prepare_torch
    from tasks.model.model_pointer import resolve_model
    from tasks.model.start_from import read_model_source
    from tasks.tokens.chat_encoder import ChatEncoder, require_template
    from tasks.tokens.dialogue_windows import training_order
    from tasks.tuning.save import save_tuned

    if not count_rows(inputs["train"]):
        return _point_to_base(inputs["pretrain"], outputs, "no conversation to tune on")
    base = resolve_model(inputs["pretrain"])
    if other := no_causal_class(base):
        return _point_to_base(inputs["pretrain"], outputs, f"{other} answers nothing", "quantized and evaluated")
    device = prepare_torch()
    require_template(base)
    model = load_model(base, device)
    context = model.config.max_position_embeddings
    longest = min(params.max_length, context)
    if longest < params.max_length:  # no reason to end after the model was trained
        log.warning(
            "finetune.max_length: %d is more than the model's context: windows have %d tokens",
            params.max_length,
            longest,
        )
    encoder = ChatEncoder(base)
    if read_model_source(inputs["tokenizer"]) is None:  # pretrained here, on text without control tokens
        expect_turn_ends(model, encoder)
    dialogues, metrics = _read_windows(inputs["train"], encoder, longest)
    lengths = [len(window.ids) for window in dialogues.windows]
    examples = max(1, round(params.epochs * len(lengths)))
    if params.max_steps is not None:
        examples = min(examples, params.max_steps * params.batch)
    order = training_order(lengths, examples, params.batch, params.seed).tolist()
    tokens = sum(lengths[i] for i in order)
    label_tokens = sum(sum(dialogues.windows[i].assistant_mask) for i in order)
    if label_tokens == 0:
        raise AssertionError("no token bears a label: the model would learn nothing")

    trained, recorded = _train(params, model, base, dialogues, order, outputs)
    save_tuned(trained, base, outputs.root)
    return (
        metrics
        | recorded
        | {
            "windows": len(lengths),
            "windows_split_from_long_conversations": dialogues.split,
            "windows_truncated": dialogues.truncated,
            "epochs": round(examples / len(lengths), 4),
            "tokens": tokens,
            "label_tokens": label_tokens,
            "label_share": round(label_tokens / tokens, 6),
        }
    )


def _point_to_base(base: Path, outputs: Outputs, reason: str, used: str = "quantized, evaluated and served") -> Metrics:
    """Nothing is tuned: say why, and leave a pointer to the base model, which is `used`."""
    from tasks.model.curves import TUNING_COLUMNS, CurveWriter
    from tasks.model.model_pointer import write_pointer

    log.info("finetune: %s: what is %s is the base model, data/%s", reason, used, base.name)
    write_pointer(outputs.root, base, reason)
    CurveWriter(outputs / "curves.csv", columns=TUNING_COLUMNS).close()
    return {"documents_in": 0, "documents_out": 0, "removed": {}, "steps": 0, "tokens": 0}


def _read_windows(folder: Path, encoder: Any, longest: int) -> tuple[Any, Metrics]:
    """Windows of all conversations, and the counts of what came in, stayed and went."""
    from tasks.documents.shards import read_shard, shard_paths
    from tasks.tokens.dialogue_windows import DialogueWindows

    dialogues = DialogueWindows()
    documents_in = 0
    for shard in shard_paths(folder):
        conversations = read_shard(shard, ["messages"])["messages"].to_pylist()
        documents_in += len(conversations)
        for messages, turns in zip(conversations, encoder.turns(conversations), strict=True):
            dialogues.add(messages, turns, longest, encoder)
    if not dialogues.windows:
        raise UserError(
            f"{folder}: holds {documents_in} conversations, none with something the assistant says within {longest} "
            "tokens. Raise finetune.max_length, or give scrape.sources conversations with shorter questions"
        )
    removed = dict(sorted(dialogues.removed.items()))
    counts = {
        "documents_in": documents_in,
        "documents_out": documents_in - sum(removed.values()),
        "removed": removed,
    }
    return dialogues, counts


def _train(
    params: FinetuneParams, model: Any, base: Path, dialogues: Any, order: list[int], outputs: Outputs
) -> tuple[Any, Metrics]:
    """Run the trainer to its end, from the last whole checkpoint if there is one; the tuned model and its measures."""
    import numpy as np
    from transformers import AutoTokenizer

    from tasks.finetune import sft
    from tasks.model.curves import TUNING_COLUMNS, read_curves
    from tasks.tuning.callback import CurveAndCheckpointCallback, last_complete_checkpoint

    steps = -(-len(order) // params.batch)
    log_every = max(1, min(10, steps // 40))  # about 40 points of the curve, more in long runs
    plan = sft.TrainingPlan(np.asarray(order), params.batch, params.micro_batch, log_every)
    lengths = np.array([len(dialogues.windows[i].ids) for i in order])
    seen = np.cumsum([lengths[i : i + plan.batch].sum() for i in range(0, len(order), plan.batch)])
    settings = {
        "learning_rate": params.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if params.schedule == "constant" else params.schedule,
        "warmup_steps": round(params.warmup * plan.steps),
        "weight_decay": params.weight_decay,
        "max_grad_norm": params.gradient_clipping,
        "bf16": params.precision == "bf16",
        "seed": params.seed,
    }
    rows = sft.sft_dataset(dialogues.windows, dialogues.messages, order)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    trainer = sft.make_trainer(model, tokenizer, rows, plan, settings, outputs.work, _lora(params))

    def row(step: int, logged: Mapping[str, float]) -> dict[str, float | int | None]:
        return {
            "step": step,
            "tokens": int(seen[step - 1]),
            "loss": float(logged["loss"]),
            "learning_rate": float(logged["learning_rate"]),
            "gradient_norm": float(logged["grad_norm"]),
            "token_accuracy": float(logged["mean_token_accuracy"]),
        }

    curves = outputs / "curves.csv"
    recorder = CurveAndCheckpointCallback("finetune", curves, outputs.work, plan.steps, TUNING_COLUMNS, row)
    trainer.add_callback(recorder)
    checkpoint = last_complete_checkpoint(outputs.work)
    if checkpoint:
        log.info("finetune: continuing after step %s", checkpoint.name.rpartition("-")[2])
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    new_tokens = int(seen[-1] - (seen[recorder.first_step - 1] if recorder.first_step else 0))
    outputs.timings["tokens_per_second"] = new_tokens / (time.monotonic() - started)
    trained = trainer.accelerator.unwrap_model(trainer.model)
    trainable = sum(parameter.numel() for parameter in trained.parameters() if parameter.requires_grad)
    if params.method == "lora":
        trained = _merge(trained, rows[0]["input_ids"])
    curve = read_curves(outputs / "curves.csv")
    losses = {"loss_first": round(float(curve[0]["loss"]), 5), "loss_last": round(float(curve[-1]["loss"]), 5)}
    return trained, {"steps": plan.steps, "trainable_parameters": trainable, **losses}


def _lora(params: FinetuneParams) -> Any | None:
    if params.method == "full":
        return None
    from peft import LoraConfig

    attention = ["q_proj", "k_proj", "v_proj", "o_proj"]
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=params.lora.rank,
        lora_alpha=params.lora.alpha,
        lora_dropout=params.lora.dropout,
        target_modules=attention if params.lora.target_modules == "attention" else "all-linear",
    )


def _merge(model: Any, ids: list[int]) -> Any:
    """Fold the low-rank updates into the weights; asserts that the model answers as before."""
    import torch

    from tasks.tuning.save import logits_of

    tokens = torch.tensor([ids])
    before = logits_of(model, tokens)
    merged = model.merge_and_unload()
    difference = float((logits_of(merged, tokens) - before).abs().max() / before.abs().max())
    if not difference <= MERGE_TOLERANCE:
        raise AssertionError(f"merging the LoRA weights changed a logit by {difference:.2g} of the largest")
    return merged
