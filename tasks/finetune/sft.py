"""Supervised tuning by TRL: one trainer, resumable to the same weights, its curve kept over restarts."""

import logging
import math
import shutil
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from tasks.conversations.conversation import Message
from tasks.core.errors import UserError
from tasks.core.progress import Progress
from tasks.model.curves import TUNING_COLUMNS, CurveWriter
from tasks.tokens.chat_encoder import EncodedConversation

log = logging.getLogger(__name__)
SECONDS_BETWEEN_CHECKPOINTS = 20.0
COMPLETE_MARKER = "whole"
"""Name of the file that marks a checkpoint as completely written; the trainer itself leaves half ones after a kill."""


@dataclass(frozen=True)
class TrainingPlan:
    """What tuning does, step by step: `order` int64 [examples] says which window comes when, `batch` of them a step."""

    order: "np.typing.NDArray[np.int64]"
    batch: int
    micro_batch: int
    log_every: int

    @property
    def steps(self) -> int:
        return math.ceil(len(self.order) / self.batch)


def sft_dataset(
    windows: Sequence[EncodedConversation], messages: Sequence[list[Message]], order: Sequence[int]
) -> Dataset:
    """The windows in the order of training: input_ids, labels (-100 on all that the assistant does not say), messages."""
    labels = [
        [token if says else -100 for token, says in zip(window.ids, window.assistant_mask, strict=True)]
        for window in windows
    ]
    used = sorted(set(order))
    rows = Dataset.from_dict(
        {
            "input_ids": [windows[i].ids for i in used],
            "labels": [labels[i] for i in used],
            "messages": [messages[i] for i in used],
        }
    )
    return rows.select(np.searchsorted(used, order))


def make_trainer(
    model: Any,
    tokenizer: Any,
    rows: Dataset,
    plan: TrainingPlan,
    settings: dict[str, Any],
    work: Path,
    lora: Any | None,
) -> SFTTrainer:
    """An SFTTrainer that walks `rows` once, in their order, and writes nothing but checkpoints under `work`.

    `settings` are the further arguments of `SFTConfig` (learning_rate, warmup_steps, ...).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TRL itself passes arguments that transformers renamed
        config = SFTConfig(
            output_dir=str(work / "checkpoints"),
            num_train_epochs=1,
            train_sampling_strategy="sequential",
            per_device_train_batch_size=plan.micro_batch,
            gradient_accumulation_steps=plan.batch // plan.micro_batch,
            assistant_only_loss=False,  # the labels mark it already; so asked, TRL would want marks in the template
            max_length=None,  # the windows are cut already, at turns
            packing=False,  # rows of one conversation each: no token ever attends to another conversation
            optim="adamw_torch_fused",
            gradient_checkpointing=False,
            logging_steps=plan.log_every,
            logging_nan_inf_filter=False,
            save_strategy="no",  # the recorder asks for checkpoints by the clock
            save_total_limit=2,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            use_cpu=model.device.type == "cpu",
            fp16=False,
            **settings,
        )
    config._n_gpu = min(config.n_gpu, 1)  # without a launcher, several visible GPUs would mean nn.DataParallel
    trainer = SFTTrainer(model, config, train_dataset=rows, processing_class=tokenizer, peft_config=lora)
    trainer.remove_callback(PrinterCallback)
    return trainer


class CurveAndCheckpointCallback(TrainerCallback):  # type: ignore[misc]
    """Writes the curve, shows progress, and has checkpoints written every 20 s and at the end.

    Checkpoints fall on logging steps: the trainer forgets a half-finished average of the loss.
    """

    def __init__(self, curves: Path, work: Path, tokens: "np.typing.NDArray[np.int64]", steps: int) -> None:
        self._path, self._kept, self._tokens, self._steps = curves, work / "curves.csv", tokens, steps
        self._curves: CurveWriter | None = None
        self._progress = Progress("finetune", total=steps, unit="steps")
        self._saved = time.monotonic()
        self._loss = ""
        self.first_step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.first_step = state.global_step
        self._curves = CurveWriter(
            self._path, self._kept if self._kept.exists() else None, self.first_step, TUNING_COLUMNS
        )
        self._progress.advance(self.first_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" not in logs or self._curves is None:
            return
        if not math.isfinite(logs["loss"]) or not math.isfinite(logs["grad_norm"]):
            raise UserError(
                f"finetune: the loss is {logs['loss']} and the gradient's norm {logs['grad_norm']} at step "
                f"{state.global_step}: training diverged. Lower finetune.learning_rate in params.yaml"
            )
        self._loss = f"{logs['loss']:.3f}"
        row = {
            "step": state.global_step,
            "tokens": int(self._tokens[state.global_step - 1]),
            "loss": float(logs["loss"]),
            "learning_rate": float(logs["learning_rate"]),
            "gradient_norm": float(logs["grad_norm"]),
            "token_accuracy": float(logs["mean_token_accuracy"]),
        }
        self._curves.write(row)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._progress.advance(1, **({"loss": self._loss} if self._loss else {}))
        last = state.global_step == self._steps
        control.should_log |= last
        due = time.monotonic() - self._saved >= SECONDS_BETWEEN_CHECKPOINTS
        control.should_save = last or (due and control.should_log)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        beside = self._kept.with_suffix(".partial")
        shutil.copyfile(self._path, beside)
        beside.replace(self._kept)
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE_MARKER).touch()
        self._saved = time.monotonic()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._curves is not None:
            self._curves.close()
        self._progress.__exit__(None, None, None)


def last_complete_checkpoint(work: Path) -> Path | None:
    """The newest checkpoint that was written to its end; half ones are deleted."""
    whole: dict[int, Path] = {}
    for folder in (work / "checkpoints").glob("checkpoint-*"):
        if (folder / COMPLETE_MARKER).exists():
            whole[int(folder.name.rpartition("-")[2])] = folder
        else:
            shutil.rmtree(folder)
    return whole[max(whole)] if whole else None


def logits_of(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """fp32 [rows, length, vocabulary] logits, in evaluation mode."""
    model.eval()
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=tokens.to(model.device)).logits.float().cpu()
    return logits
