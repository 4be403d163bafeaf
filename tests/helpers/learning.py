"""A small language and a copy task, which every family learns in a few hundred steps, and the training."""

import random
from collections import Counter
from typing import Any

import numpy as np
import torch

from tasks.architectures.families.family import Family
from tasks.pretrain.data_loader import IGNORE_INDEX, Batch, Int64
from tasks.pretrain.learner import Learner
from tasks.pretrain.objectives.objective import Objective, row_generators
from tasks.pretrain.params import PretrainParams
from tests.helpers.architectures import CONTEXT, FIRST, START, batch_of, ids_of, loss_of, tensors
from tests.helpers.tiny import OBJECTS, SUBJECTS, VERBS, sentence

LETTERS = sorted(set("".join([*SUBJECTS, *VERBS, *OBJECTS, " "])))
SYMBOLS = range(FIRST + len(LETTERS), FIRST + len(LETTERS) + 12)
HALF = 4
ROWS = 24
COPY = 2 * HALF + 1


def text_row(rng: random.Random) -> list[Int64]:
    """The beginning of a sentence, letter by letter, and two documents that say the same twice: 32 tokens."""
    text = [START, *(FIRST + LETTERS.index(letter) for letter in sentence(rng)[: 31 - 2 * COPY])]
    copies = [rng.sample(SYMBOLS, HALF) for _ in range(2)]
    return [np.array(text), *(np.array([START, *symbols, *symbols]) for symbols in copies)]


def batch(seed: int, rows: int = ROWS) -> Batch:
    rng = random.Random(seed)
    return batch_of([text_row(rng) for _ in range(rows)])


def unigram_entropy(batch: Batch) -> float:
    """Of the letters of the sentences, nats a token."""
    letters = Counter(token for token in batch.input_ids.flatten().tolist() if FIRST <= token < SYMBOLS[0])
    shares = np.array(list(letters.values())) / letters.total()
    return float(-(shares * np.log(shares)).sum())


def train(model: Any, objective: Objective, family: Family, steps: int, rate: float = 3e-3) -> None:
    """AdamW, linear warm-up and decay, with the family's own multiples of the rate."""
    learner = Learner(model, family, objective, ids_of(family), CONTEXT)
    times = learner.rate_multipliers(PretrainParams.model_validate({"family": family.name}))
    groups = [{"params": [weight], "times": times.get(name, 1.0)} for name, weight in model.named_parameters()]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = group["times"] * rate * min(1, (step + 1) / 30, 2 * (steps - step) / steps)
        loss = loss_of(model, objective, batch(step), step=step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()


def score(model: Any, objective: Objective, held_out: Batch) -> tuple[Int64, Int64, dict[str, float], dict[str, Int64]]:
    """(labels, nats, extras a row, collated inputs) of held-out rows."""
    rows = len(held_out.input_ids)
    inputs = objective.collate(held_out, row_generators(1, 1, range(rows)))
    with torch.no_grad():
        nats, extras = objective.nats(model, tensors(inputs))
    labels = inputs["labels"]
    return (
        labels,
        nats.view(labels.shape).numpy(),
        {name: value.item() / rows for name, value in extras.items()},
        inputs,
    )


def is_letter(labels: Int64) -> Any:
    return (labels >= FIRST) & (labels < SYMBOLS[0]) & (labels != IGNORE_INDEX)


def is_symbol(labels: Int64) -> Any:
    return np.isin(labels, list(SYMBOLS))
