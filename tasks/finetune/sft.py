"""Supervised tuning by TRL: rows in their order, and the trainer that walks them."""

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from tasks.conversations.conversation import Message
from tasks.tokens.chat_encoder import EncodedConversation
from tasks.tuning.arguments import shared_arguments, use_one_device, without_printing

log = logging.getLogger(__name__)


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
            **shared_arguments(model, work),
            train_sampling_strategy="sequential",
            per_device_train_batch_size=plan.micro_batch,
            gradient_accumulation_steps=plan.batch // plan.micro_batch,
            assistant_only_loss=False,  # the labels mark it already; so asked, TRL would want marks in the template
            max_length=None,  # the windows are cut already, at turns
            packing=False,  # rows of one conversation each: no token ever attends to another conversation
            logging_steps=plan.log_every,
            **settings,
        )
    use_one_device(config)
    return without_printing(SFTTrainer(model, config, train_dataset=rows, processing_class=tokenizer, peft_config=lora))
