"""Scores on a user's own evaluation set: answers by exact match and F1, choices by likelihood, texts by bits per byte."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.evaluate.answer_metrics import exact_match, f1, max_over_answers, means
from tasks.evaluate.generate import Generator
from tasks.held_out.evaluation_items import Choice, Item, Question, TextItem
from tasks.held_out.evaluation_set import FOLDER, read_file
from tasks.model import bits_per_byte
from tasks.model.bits_per_byte import ScoringWindow

Row = dict[str, Any]


def score_evaluation_files(
    files: Sequence[Path], folder: Path, generator: Generator, models: Mapping[str, Any], batch: int
) -> tuple[dict[str, Any], list[Row]]:
    """For each file what its items come to, by kind, and a row for each item.

    Questions and choices are asked of `generator`'s model, texts scored under each of `models`.

    Raises:
        UserError: a file cannot be read.
    """
    results: dict[str, Any] = {}
    rows: list[Row] = []
    for path in files:
        items = list(read_file(path, folder))
        name = path.relative_to(folder).as_posix()
        measured: dict[str, Any] = {}
        for kind, scored in (
            ("questions", _questions([item for item in items if isinstance(item, Question)], generator, batch)),
            ("choices", _choices([item for item in items if isinstance(item, Choice)], generator)),
            ("texts", _texts([item for item in items if isinstance(item, TextItem)], generator, models)),
        ):
            if scored is not None:
                measured[kind], found = scored
                rows += [{"file": f"{FOLDER}/{name}", "kind": kind, **row} for row in found]
        results[name] = measured
    return results, rows


def _questions(items: Sequence[Question], generator: Generator, batch: int) -> tuple[Row, list[Row]] | None:
    """Mean exact match and F1 (SQuAD's: of several right answers the nearest counts)."""
    if not items:
        return None
    prompts = [generator.prompts.question(item.prompt, generator.max_prompt_tokens) for item in items]
    replies = generator.greedy(prompts, batch, "answer the evaluation set")
    rows = []
    for item, reply in zip(items, map(generator.prompts.answer, replies), strict=True):
        scores = {
            name: max_over_answers(score, reply, item.answers) for name, score in (("em", exact_match), ("f1", f1))
        }
        rows.append({**_about(item), "question": item.prompt[-1]["content"], "answer": reply} | scores)
    return {"asked": len(rows), **means(rows, ("em", "f1"))}, rows


def _choices(items: Sequence[Choice], generator: Generator) -> tuple[Row, list[Row]] | None:
    """Share of items whose right choice is the likeliest: by its log-likelihood, and by that over its characters.

    These are lm-eval's acc and acc_norm. `chance` is what guessing would come to.
    """
    if not items:
        return None
    context = generator.model.config.max_position_embeddings
    offered = [(item, choice) for item in items for choice in item.choices]
    windows = []
    for number, (item, choice) in enumerate(offered):
        before, tokens = generator.prompts.choice(item.question, choice)
        sequence = [*before, *tokens][-(context + 1) :]
        windows.append(ScoringWindow(number, sequence[:-1], sequence[-min(len(tokens), len(sequence) - 1) :]))
    nats = iter(bits_per_byte.window_nats(generator.model, windows, len(offered), generator.encoder.pad, "choose"))
    rows = []
    for item in items:
        likelihoods = [-next(nats) for _ in item.choices]
        normalised = [value / len(choice) for value, choice in zip(likelihoods, item.choices, strict=True)]
        taken, taken_normalised = (values.index(max(values)) for values in (likelihoods, normalised))
        rows.append(
            {
                **_about(item),
                "question": item.question,
                "right": item.choices[item.right],
                "chosen": item.choices[taken_normalised],
                "accuracy": float(taken == item.right),
                "accuracy_normalised": float(taken_normalised == item.right),
                "chance": 1 / len(item.choices),
            }
        )
    chance = means(rows, ("chance",))["chance"]
    return {"asked": len(rows), **means(rows, ("accuracy", "accuracy_normalised")), "chance": chance}, rows


def _texts(items: Sequence[TextItem], generator: Generator, models: Mapping[str, Any]) -> tuple[Row, list[Row]] | None:
    """Bits per byte and perplexities under each model, and bits per byte of `xz -9e`."""
    if not items:
        return None
    texts, encoder = [item.text for item in items], generator.encoder
    tokens = encoder.texts(texts)
    measured: Row = {"xz": bits_per_byte.xz_bits_per_byte(texts)}
    rows = [_about(item) | {"bytes": len(item.text.encode())} for item in items]
    for name, model in models.items():
        nats = bits_per_byte.document_nats(
            model, tokens, encoder.start, encoder.pad, f"score the evaluation set, {name}"
        )
        measured[name] = bits_per_byte.likelihood_metrics(sum(nats), sum(map(len, tokens)), texts)
        for row, value, ids, text in zip(rows, nats, tokens, texts, strict=True):
            row[f"{name}_bits_per_byte"] = bits_per_byte.likelihood_metrics(value, len(ids), [text])["bits_per_byte"]
    return measured, rows


def _about(item: Item) -> Row:
    return {"number": item.number}
