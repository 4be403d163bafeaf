"""Formats of encoders and encoder-decoders: torchao's int8 weights. llama.cpp does not run them, so GGUF formats are passed over."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.core.number_format import format_counts
from tasks.core.paths import Metrics, Outputs
from tasks.corrupted_text.answers import Answer, answers, log_probabilities, measures
from tasks.corrupted_text.corruptions import Question, ask
from tasks.corrupted_text.restorer import Restorer, load_restorer
from tasks.model.gguf_support import why_no_gguf
from tasks.quantize.comparison_text import choose_text
from tasks.quantize.export_check import DECIMALS, TOP_TOKENS
from tasks.quantize.int8 import save_int8
from tasks.tokens.chat_encoder import ChatEncoder

log = logging.getLogger(__name__)
INT8 = "torchao-int8"


def quantize_restorer(
    formats: Sequence[str], prompts: int, max_bytes: int, source: Path, documents: Path, outputs: Outputs
) -> Metrics:
    """Write the model in `source` as int8 where it is among `formats`, and compare it with the one in fp32.

    Both are asked about the same corrupted documents (`tasks.corrupted_text`), at most `max_bytes` of them: bits per byte of the text
    asked about (of ELECTRA: what telling replaced tokens takes), and, on the first `prompts` pieces, the largest and mean difference
    of log-probabilities (nats) over the export's likeliest answers at each place asked about. In the timings, tokens read a second.
    `passed_over` says of each other format why it was not made.
    """
    restorer, encoder = load_restorer(source, "cpu"), ChatEncoder(source)
    reason = why_no_gguf(restorer.model.config.to_dict(), source)
    passed_over = {name: reason for name in formats if name != INT8}
    if passed_over:
        log.warning("quantize: passed over: %s (%s)", ", ".join(passed_over), reason)
    text = choose_text(encoder, False, documents, documents, prompts, max_bytes, restorer.context)
    questions = ask(restorer, encoder.texts(text.texts))
    said = answers(restorer.model, questions, restorer.pad, "score the model")
    made: dict[str, Any] = {}
    if INT8 in formats:
        folder = outputs / INT8
        folder.mkdir()
        exported, started = save_int8(source, folder, chat=False), time.perf_counter()
        bits = _bits_per_byte(answers(exported, questions, restorer.pad, f"score {INT8}"))
        outputs.timings[f"{INT8}_tokens_per_second"] = sum(len(question.given) for question in questions) / (
            time.perf_counter() - started
        )
        largest, mean = distance(restorer, exported, questions[:prompts])
        made[INT8] = {
            "bytes": (folder / "model.safetensors").stat().st_size,
            "bits_per_byte": bits,
            "max_distance": largest,
            "mean_distance": mean,
        }
        log.info("quantize: %s: %s", INT8, format_counts(made[INT8]))
    return {
        "model": "base",
        "objective": restorer.objective,
        "formats": made,
        "passed_over": passed_over,
        "gate": {"prompts": 0},
        "reference": {
            "bytes": (source / "model.safetensors").stat().st_size,
            "bits_per_byte": _bits_per_byte(said),
        },
        "scored_bytes": text.bytes,
        "scored_text": text.name,
    }


def distance(restorer: Restorer, exported: Any, questions: Sequence[Question]) -> tuple[float, float]:
    """Largest and mean difference of log-probabilities (nats) over the `TOP_TOKENS` answers likeliest to the export, at each place."""
    largest = total = 0.0
    count = 0
    models = (restorer.model, exported)
    for (_, expected), (_, found) in zip(
        *(log_probabilities(model, questions, restorer.pad, "compare") for model in models), strict=True
    ):
        best = found.topk(min(TOP_TOKENS, found.shape[1]), -1)
        differences = (best.values - expected.gather(1, best.indices)).abs().double()
        largest, total, count = (
            max(largest, float(differences.max())),
            total + float(differences.sum()),
            count + differences.numel(),
        )
    return round(largest, DECIMALS), round(total / max(count, 1), DECIMALS)


def _bits_per_byte(said: Sequence[Answer]) -> float:
    return round(float(measures(said)["bits_per_byte"] or 0.0), DECIMALS)
