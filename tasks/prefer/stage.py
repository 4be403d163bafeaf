"""Preference tuning: the tuned model answers, its replies are rewarded by checks that need no judge, and it learns from that."""

import logging
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.core.errors import UserError
from tasks.core.params import StageParams
from tasks.core.paths import Inputs, Metrics, Outputs, write_lines
from tasks.prefer.reply_checks import RewardParams

log = logging.getLogger(__name__)
COLUMNS = (
    *("step", "tokens", "loss", "learning_rate", "gradient_norm", "reward", "reward_spread", "kl"),
    *("reply_tokens", "groups_without_spread"),
)


class PreferParams(StageParams):
    """Preference tuning by rewards that are checked, not judged."""

    method: Literal["grpo"] | None = Field(
        "grpo",
        description="grpo (arXiv:2402.03300), on replies that the model draws; null: the tuned model stays as it is.",
    )
    steps: int = Field(24, ge=1, description="Steps of the optimizer.")
    prompts: int = Field(4, ge=1, description="Contexts in a step, of the conversations to train on.")
    samples: int = Field(8, ge=2, le=256, description="Replies drawn to each, which are rewarded against each other.")
    micro_batch: int | None = Field(
        None, ge=1, description="Replies at a time, for memory; divides prompts times samples. null: all of a step."
    )
    max_new_tokens: int | None = Field(
        None,
        ge=1,
        description="Longest reply, at most half of the context. null: all but 5% of the replies are shorter.",
    )
    temperature: float = Field(1.0, gt=0, le=10, description="Divides the logits before a token of a reply is drawn.")
    top_k: int = Field(50, ge=0, description="Tokens that may be drawn; 0: all.")
    learning_rate: float = Field(1.5e-4, gt=0, lt=1, description="Of AdamW, reached after two steps and then constant.")
    beta: float = Field(0.1, ge=0, description="Weight of the KL divergence from the tuned model; 0: no bound.")
    gradient_clipping: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the arithmetic; bf16 needs units for it.")
    held_out: int = Field(
        250, ge=1, description="Contexts of held-out conversations that are answered before and after."
    )
    seed: int = Field(0, ge=0, lt=1 << 32, description="Of the contexts and of what is drawn.")
    reward: RewardParams = Field(
        default_factory=lambda: RewardParams.model_validate({}), description="What the checks of a reply are worth."
    )

    @model_validator(mode="after")
    def _whole_batches(self) -> "PreferParams":
        if self.micro_batch and self.prompts * self.samples % self.micro_batch:
            raise ValueError(
                f"micro_batch: {self.micro_batch} does not divide the {self.prompts * self.samples} replies of a step"
            )
        return self


def run(params: PreferParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Tune `finetune` by rewards of its own replies to contexts of `train`; measure on contexts of `held_out`.

    Writes a Hugging Face folder (tokenizer and chat template byte for byte as they were), `curves.csv` (COLUMNS, a row a
    step) and `replies.jsonl` (a held-out context a row: people's reply, the model's before and after). Checkpoints in
    `outputs.work` let a killed run continue to the same weights.

    Where `method` is null, nothing was tuned or nobody answers in `train`, the model stays what it is: a pointer to
    `finetune` (tasks.model.model_pointer).

    Raises:
        UserError: the model or the conversations cannot be read, training diverged, no reply was worth more than another.
    """
    from tasks.documents.shards import count_rows
    from tasks.model.model_pointer import is_pointer, resolve_model

    if params.method is None:
        return _point(inputs["finetune"], outputs, "prefer.method is null")
    if is_pointer(inputs["finetune"]):
        return _point(inputs["finetune"], outputs, "nothing was tuned")
    if not count_rows(inputs["train"]):  # a tuned model was given, and no conversation
        return _point(inputs["finetune"], outputs, "no conversation to answer in")
    return _prefer(params, resolve_model(inputs["finetune"]), inputs, outputs)


def _point(tuned: Path, outputs: Outputs, reason: str) -> Metrics:
    from tasks.model.curves import CurveWriter
    from tasks.model.model_pointer import write_pointer

    log.info("prefer: %s: the model stays as it is", reason)
    write_pointer(outputs.root, tuned, reason)
    CurveWriter(outputs / "curves.csv", columns=COLUMNS).close()
    return {"steps": 0}


def _prefer(params: PreferParams, base: Path, inputs: Inputs, outputs: Outputs) -> Metrics:
    from tasks.model.load import load_model, prepare_torch
    from tasks.prefer.contexts import choose_contexts, read_messages, reply_tokens
    from tasks.prefer.measures import compare
    from tasks.prefer.reply_checks import ReplyChecks
    from tasks.tokens.chat_encoder import ChatEncoder, require_template
    from tasks.tuning.save import save_tuned

    device = prepare_torch()
    require_template(base)
    model, encoder = load_model(base, device), ChatEncoder(base)
    room = model.config.max_position_embeddings
    conversations = read_messages(inputs["train"])
    longest = min(params.max_new_tokens or reply_tokens(conversations, encoder), room // 2)
    contexts = choose_contexts(conversations, encoder, room - longest, params.steps * params.prompts, params.seed)
    if not contexts:
        return _point(inputs["finetune"], outputs, "no message of a user that fits the context is answered")
    checks = ReplyChecks.of(params.reward, conversations)
    steps = max(1, len(contexts) // params.prompts)
    if steps < params.steps:
        log.warning("prefer.steps: %d contexts are enough for %d steps", len(contexts), steps)
    trained, recorded = _train(params, model, base, contexts[: steps * params.prompts], checks, longest, outputs)
    save_tuned(trained, base, outputs.root)
    held = choose_contexts(read_messages(inputs["held_out"]), encoder, room - longest, params.held_out, params.seed)
    if not held:
        log.warning("prefer: no context of a held-out conversation fits, so nothing says what has changed")
        write_lines(outputs / "replies.jsonl", [])
        return recorded | {"held_out": None}
    before = load_model(base, device)
    return recorded | {"held_out": compare(before, trained, encoder, held, checks, longest, outputs / "replies.jsonl")}


def _train(
    params: PreferParams, model: Any, base: Path, contexts: list[Any], checks: Any, longest: int, outputs: Outputs
) -> tuple[Any, Metrics]:
    """Run the trainer to its end, from the last whole checkpoint if there is one; the model and what the curve says."""
    from transformers import AutoTokenizer

    from tasks.model.curves import read_curves
    from tasks.model.generation import Sampling
    from tasks.prefer.grpo import make_trainer
    from tasks.tokens.chat_encoder import ChatEncoder
    from tasks.tuning.callback import CurveAndCheckpointCallback, last_complete_checkpoint

    together = params.micro_batch or params.prompts * params.samples
    settings = {
        "num_generations": params.samples,
        "per_device_train_batch_size": together,
        "gradient_accumulation_steps": params.prompts * params.samples // together,
        "learning_rate": params.learning_rate,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 2,
        "beta": params.beta,
        "max_grad_norm": params.gradient_clipping,
        "bf16": params.precision == "bf16",
        "seed": params.seed,
    }
    sampling = Sampling(params.temperature, params.top_k, 1.0, params.seed)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    trainer = make_trainer(
        model, tokenizer, contexts, checks, sampling, longest, settings, outputs.work, ChatEncoder(base)
    )
    steps = len(contexts) // params.prompts

    def row(step: int, logged: Mapping[str, float]) -> dict[str, float | int | None]:
        return {
            "step": step,
            "tokens": int(logged["num_tokens"]),
            "loss": float(logged["loss"]),
            "learning_rate": float(logged["learning_rate"]),
            "gradient_norm": float(logged["grad_norm"]),
            "reward": float(logged["reward"]),
            "reward_spread": float(logged["reward_std"]),
            "kl": float(logged["kl"]) if "kl" in logged else None,
            "reply_tokens": float(logged["completions/mean_length"]),
            "groups_without_spread": float(logged["frac_reward_zero_std"]),
        }

    curves = outputs / "curves.csv"
    trainer.add_callback(CurveAndCheckpointCallback("prefer", curves, outputs.work, steps, COLUMNS, row, "reward"))
    checkpoint = last_complete_checkpoint(outputs.work)
    if checkpoint:
        log.info("prefer: continuing after step %s", checkpoint.name.rpartition("-")[2])
    started = time.monotonic()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # which TRL asks each step
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    outputs.timings["train_seconds"] = time.monotonic() - started
    curve = read_curves(curves)
    if all(float(each["groups_without_spread"]) == 1 for each in curve):
        raise UserError(
            "prefer: of no prompt was one reply worth more than another, so there was nothing to learn. Draw more of them "
            "(prefer.samples), hotter (prefer.temperature), or weigh the checks otherwise (prefer.reward)"
        )
    rewards = {"reward_first": float(curve[0]["reward"]), "reward_last": float(curve[-1]["reward"])}
    return trainer.accelerator.unwrap_model(trainer.model), {
        "steps": steps,
        "tokens": int(curve[-1]["tokens"]),
        **rewards,
    }
