"""Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290) by TRL, on pairs of token ids.

TRL would render a chat template and encode the text, which lets a message that spells a control token forge a turn, and cut a
side that is too long; so the pairs come as ids of `ChatEncoder`, whole, and TRL has loss, reference and implicit rewards.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from tasks.core.paths import Metrics, Outputs
from tasks.prefer.pairs import Pair, log_probabilities
from tasks.prefer.params import PreferParams
from tasks.prefer.training import batch_settings, train
from tasks.tuning.arguments import shared_arguments, use_one_device, without_printing


class _EncodedPairsTrainer(DPOTrainer):  # type: ignore[misc]
    """A DPOTrainer whose rows are token ids already."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def train_on_pairs(
    params: PreferParams, model: Any, tokenizer: Any, pairs: Sequence[Pair], outputs: Outputs
) -> tuple[Any, Metrics]:
    """The model, trained on the pairs in an order of the seed, with what its curve says."""
    steps = max(1, math.ceil(params.dpo.epochs * len(pairs) / params.dpo.batch))
    ordered = _ordered(params, pairs, steps)
    trainer = make_trainer(params, model, tokenizer, ordered, steps, outputs.work)
    # TRL begins to count anew where an interrupted run goes on.
    sizes = np.cumsum([2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in ordered])
    tokens = [int(sizes[min(step * params.dpo.batch, len(ordered)) - 1]) for step in range(1, steps + 1)]
    trained, curve = train(trainer, steps, outputs, "margin", tokens)
    last = curve[-1]
    return trained, {
        "steps": steps,
        "tokens": int(last["tokens"]),
        "margin_last": float(last["margin"]),
        "accuracy_last": float(last["accuracy"]),
    }


def _ordered(params: PreferParams, pairs: Sequence[Pair], steps: int) -> list[Pair]:
    """Pairs for all steps, pass after pass, each in an order of its own; the last batch may be smaller."""
    random = np.random.default_rng(params.seed)
    passes = math.ceil(params.dpo.epochs)
    order = [number for _ in range(passes) for number in random.permutation(len(pairs)).tolist()]
    return [pairs[number] for number in order[: steps * params.dpo.batch]]


def make_trainer(
    params: PreferParams, model: Any, tokenizer: Any, pairs: Sequence[Pair], steps: int, work: Path
) -> DPOTrainer:
    """A DPOTrainer that walks `pairs` once, in their order; its reference is the model as it is in `model.name_or_path`."""
    losses = {params.dpo.loss: 1.0} | ({"sft": params.dpo.chosen_weight} if params.dpo.chosen_weight else {})
    if params.method == "best_of_n" and params.best_of_n.learn_from == "best":
        losses = {"sft": 1.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TRL itself passes arguments that transformers renamed
        config = DPOConfig(
            **shared_arguments(model, work),
            **batch_settings(params),
            train_sampling_strategy="sequential",
            max_length=None,  # the pairs fit already
            loss_type=[*losses],
            loss_weights=[*losses.values()],
            beta=params.dpo.beta,
            learning_rate=params.dpo.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=max(1, steps // 10),
            logging_steps=1,
        )
    use_one_device(config)
    rows = Dataset.from_list(
        [{"prompt_ids": pair.prompt, "chosen_ids": pair.chosen, "rejected_ids": pair.rejected} for pair in pairs]
    )
    trainer = _EncodedPairsTrainer(model, args=config, train_dataset=rows, processing_class=tokenizer)
    return without_printing(trainer)


def compare_on_pairs(before: Any, after: Any, pairs: Sequence[Pair], pad: int, beta: float) -> Metrics | None:
    """What training changed on held-out pairs, None where there are none.

    The implicit reward of a side is beta times the logarithm of how much likelier `after` finds it than `before`. `accuracy`:
    share of the pairs whose chosen side has the larger one (of ties, half); `margin`: their mean difference. `chosen` and
    `rejected`: what the sides cost before and after, nats a token.
    """
    if not pairs:
        return None
    logps = [
        log_probabilities(model.eval(), pairs, pad, f"prefer: pairs {name}")
        for name, model in (("before", before), ("after", after))
    ]
    rewards = beta * (logps[1] - logps[0])
    margins = rewards[:, 0] - rewards[:, 1]
    lengths = torch.tensor([[len(pair.chosen), len(pair.rejected)] for pair in pairs], dtype=torch.float64)
    nats = [(-each.sum(0) / lengths.sum(0)).tolist() for each in logps]
    return {
        "pairs": len(pairs),
        "accuracy": round(float(((margins > 0).double() + (margins == 0).double() / 2).mean()), 6),
        "margin": round(float(margins.mean()), 6),
        "chosen": {"before": round(nats[0][0], 6), "after": round(nats[1][0], 6)},
        "rejected": {"before": round(nats[0][1], 6), "after": round(nats[1][1], 6)},
    }
