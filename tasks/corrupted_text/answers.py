"""Answers: what a model says to questions about corrupted text, and how right that is."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tasks.core.progress import Progress
from tasks.corrupted_text.corruptions import Int64, Question
from tasks.model.batches import longest_first

Measures = dict[str, float | int | None]


@dataclass(frozen=True)
class Answer:
    """What was said to one question: `nats`, the negative log-likelihood of the right answers; `said`, [answers] the likeliest."""

    question: Question
    nats: float
    said: Int64


def log_probabilities(
    model: Any, questions: Sequence[Question], pad: int, what: str
) -> Iterator[tuple[Question, torch.Tensor]]:
    """Each question with natural log-probabilities of all answers, fp32 [answers, tokens] on the CPU; longest first.

    A model that says one number a token says the log-odds that it was replaced: [answers, 2].
    """
    with Progress(what, total=sum(len(question.given) for question in questions), unit="tokens") as progress:
        for batch in longest_first(questions, lambda question: len(question.given)):
            with torch.inference_mode():
                logits = model(**_inputs(model, batch, pad)).logits
            for row, question in zip(logits, batch, strict=True):
                asked = row[torch.from_numpy(question.places).to(row.device)].float().cpu()
                if asked.ndim == 1:
                    asked = torch.stack([torch.zeros_like(asked), asked], -1)
                yield question, asked.log_softmax(-1)
            progress.advance(sum(len(question.given) for question in batch))


def answers(model: Any, questions: Sequence[Question], pad: int, what: str) -> list[Answer]:
    """What the model says to the questions."""
    said = []
    for question, known in log_probabilities(model, questions, pad, what):
        right = known.gather(1, torch.from_numpy(question.answers)[:, None])
        said.append(Answer(question, -float(right.double().sum()), known.argmax(-1).numpy()))
    return said


def measures(said: Sequence[Answer]) -> Measures:
    """How right answers are: `accuracy`, `loss` (nats an answer), and `bits_per_byte`, over the text that the answers stand for.

    Beside them what frequencies alone come to: `majority`, the share of the most frequent right answer, and
    `frequencies_bits_per_byte`, the entropy of the right answers: no guess that ignores the context is better.
    """
    wanted = np.concatenate([answer.question.answers for answer in said])
    given = np.concatenate([answer.said for answer in said])
    size, nats = sum(answer.question.size_bytes for answer in said), math.fsum(answer.nats for answer in said)
    counts = np.array(sorted(Counter(wanted.tolist()).values()))
    frequencies = -math.fsum((counts * np.log(counts / len(wanted))).tolist())
    return {
        "answers": len(wanted),
        "bytes": size,
        "accuracy": round(float((wanted == given).mean()), 6),
        "majority": round(float(counts[-1] / len(wanted)), 6),
        "loss": round(nats / len(wanted), 6),
        "bits_per_byte": round(nats / math.log(2) / size, 6) if size else None,
        "frequencies_bits_per_byte": round(frequencies / math.log(2) / size, 6) if size else None,
    }


def detection(said: Sequence[Answer]) -> Measures:
    """Of answers that are 0 or 1: `precision`, `recall` and `f1` of the ones, `replaced`, how many there are."""
    wanted = np.concatenate([answer.question.answers for answer in said])
    given = np.concatenate([answer.said for answer in said])
    right, found, there = int((wanted & given).sum()), int(given.sum()), int(wanted.sum())
    return {
        "replaced": there,
        "precision": round(right / found, 6) if found else None,
        "recall": round(right / there, 6) if there else None,
        "f1": round(2 * right / (found + there), 6) if found + there else None,
    }


def _inputs(model: Any, batch: Sequence[Question], pad: int) -> dict[str, torch.Tensor]:
    device = next(model.parameters()).device
    given = [question.given for question in batch]
    inputs = {"input_ids": _padded(given, pad), "attention_mask": _padded([np.ones_like(row) for row in given], 0)}
    if model.config.is_encoder_decoder:  # its own padding lies behind all that is asked
        inputs["decoder_input_ids"] = _padded([question.decoder for question in batch], pad)
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def _padded(rows: Sequence[Int64], fill: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.from_numpy(np.stack([np.pad(row, (0, longest - len(row)), constant_values=fill) for row in rows]))
