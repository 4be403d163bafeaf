"""Evaluation of encoders and encoder-decoders: what they say of corrupted held-out text, what a linear probe reads in their
embeddings, and texts that they fill in.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.core.execution import load_execution
from tasks.core.paths import Inputs, Metrics, Outputs, write_lines
from tasks.corrupted_text.answers import Answer, Measures, answers, detection, measures
from tasks.corrupted_text.corruptions import Question, ask
from tasks.corrupted_text.restorer import Restorer, load_restorer
from tasks.evaluate.filling import FILLINGS
from tasks.evaluate.params import EvaluateParams
from tasks.held_out.held_out_items import HeldOutDocument, validation_documents, within_bytes
from tasks.model.embedding import embed, linear_probe
from tasks.model.model_pointer import resolve_model
from tasks.tokens.chat_encoder import ChatEncoder

log = logging.getLogger(__name__)
SAMPLES = 3
"""Held-out documents of which the beginning is filled in."""
SAMPLE_TOKENS = 48
"""How long that beginning is at most."""
LEAST_TEXTS = 8
"""Texts of each class that a linear probe takes at least: of them a quarter are held out of it."""
NEEDS_TEXT = "no document is held out"


def evaluate_restorer(params: EvaluateParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Measure the encoder or encoder-decoder that `pretrain` left, on held-out documents.

    Under the objective's name (masked, replaced_token, span_corruption, denoising) stands, of `all` held-out text and `by_source`,
    what `tasks.corrupted_text.answers.measures` gives, of replaced_token `detection` too; under `probe` the accuracy of a linear
    probe (`tasks.model.embedding`) that tells the `source` of a document, and the `order` of a piece: half of the pieces have half of
    their neighbouring tokens swapped, as in BShift (Conneau et al. 2018, arXiv:1805.01070). What decoders are asked is null,
    with a reason in `not_measured`. Writes the files that a decoder's evaluation writes: `samples.jsonl`, `questions.jsonl` and
    `own_set.jsonl`, the latter two empty.
    """
    folder = resolve_model(inputs["prefer"])
    restorer, encoder = load_restorer(folder, load_execution().device_name()), ChatEncoder(folder)
    available = validation_documents(inputs["documents"])
    chosen = within_bytes(available, params.max_bytes)
    asked_nothing = f"{type(restorer.model).__name__} answers nothing and continues no text"
    results: dict[str, Any] = {
        "model": "base",
        "objective": restorer.objective,
        "documents_available": len(available),
        "documents_scored": len(chosen),
        "validation_text": None,
        "validation_bits_per_byte": None,
        "xz_bits_per_byte": None,
        "questions": None,
        "own_set": {},
        restorer.objective: None,
        "probe": None,
        "not_measured": dict.fromkeys(("validation_bits_per_byte", "questions", "own_set"), asked_nothing),
    }
    rows: list[dict[str, Any]] = []
    if chosen:
        tokens = encoder.texts([document.text for document in chosen])
        questions = ask(restorer, tokens)
        results[restorer.objective] = _restored(restorer, questions, [document.source for document in chosen], outputs)
        results["probe"] = _probes(restorer, chosen, tokens, questions, results["not_measured"])
        rows = _samples(restorer, encoder, tokens[:SAMPLES])
    else:
        results["not_measured"] |= {restorer.objective: NEEDS_TEXT, "probe": NEEDS_TEXT}
        log.warning("no validation documents in %s: nothing is measured", inputs["documents"])
    for name, lines in (("samples", rows), ("questions", []), ("own_set", [])):
        write_lines(outputs / f"{name}.jsonl", lines)
    return results


def _restored(
    restorer: Restorer, questions: Sequence[Question], sources: Sequence[str], outputs: Outputs
) -> dict[str, Any]:
    """What was said to the questions, in all and by the source of each document."""
    started = time.monotonic()
    said = answers(restorer.model, questions, restorer.pad, f"score {restorer.objective}")
    read = sum(len(question.tokens) for question in questions)
    outputs.timings["scored_tokens_per_second"] = read / (time.monotonic() - started)
    by_source: dict[str, list[Answer]] = {source: [] for source in sorted(set(sources))}
    for answer in said:
        by_source[sources[answer.question.document]].append(answer)
    return {
        "all": _measured(restorer, said),
        "by_source": {source: _measured(restorer, found) for source, found in by_source.items() if found},
    }


def _measured(restorer: Restorer, said: Sequence[Answer]) -> Measures:
    return measures(said) | (detection(said) if restorer.objective == "replaced_token" else {})


def _probes(
    restorer: Restorer,
    documents: Sequence[HeldOutDocument],
    tokens: Sequence[Sequence[int]],
    questions: Sequence[Question],
    missing: dict[str, str],
) -> dict[str, Any]:
    """Of the source by the beginning of each document, as long as the context; of the order by each piece."""
    beginnings = [[restorer.start, *ids][: restorer.context] for ids in tokens]
    pieces = [question.tokens.tolist() for question in questions]
    swapped = [_swapped(piece, number) if number % 2 else piece for number, piece in enumerate(pieces)]
    order = [("kept", "swapped")[number % 2] for number in range(len(pieces))]
    return {
        "source": _probe(restorer, beginnings, [document.source for document in documents], missing, "source"),
        "order": _probe(restorer, swapped, order, missing, "order"),
    }


def _probe(
    restorer: Restorer, texts: Sequence[Sequence[int]], classes: Sequence[str], missing: dict[str, str], name: str
) -> Mapping[str, float | int] | None:
    taken = [number for number, own in enumerate(classes) if classes.count(own) >= LEAST_TEXTS]
    known = [classes[number] for number in taken]
    if len(set(known)) < 2:
        missing[f"probe of {name}"] = f"it takes two classes of {LEAST_TEXTS} held-out texts each"
        return None
    found = linear_probe(embed(restorer.model, [texts[number] for number in taken], restorer.pad), known)
    return {
        **{measure: round(value, 6) for measure, value in found.items()},
        "classes": len(set(known)),
        "texts": len(known),
    }


def _swapped(text: Sequence[int], seed: int) -> list[int]:
    """`text` behind its start with half of its pairs of neighbours swapped."""
    tokens, draws = list(text), np.random.default_rng(seed)
    for at in range(1, len(tokens) - 1, 2):
        if draws.random() < 0.5:
            tokens[at], tokens[at + 1] = tokens[at + 1], tokens[at]
    return tokens


def _samples(restorer: Restorer, encoder: ChatEncoder, tokens: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    filling = FILLINGS.get(restorer.objective)
    if filling is None:
        return []
    rows = []
    for ids in tokens:
        for question in ask(restorer, [ids[:SAMPLE_TOKENS]], most=1):
            prompt, reply = filling(restorer, encoder, question)
            rows.append({"prompt": prompt, "mode": "filled in", "reply": reply})
    return rows
