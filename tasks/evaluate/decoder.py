"""Evaluation of decoders: bits per byte beside xz, answers beside the expected ones, replies to read."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.errors import UserError
from tasks.core.execution import load_execution
from tasks.core.paths import Inputs, Metrics, Outputs, write_lines
from tasks.evaluate.answer_metrics import RougeL, exact_match, f1, means
from tasks.evaluate.evaluation_set_scores import score_evaluation_files
from tasks.evaluate.generate import Generator
from tasks.evaluate.params import EvaluateParams
from tasks.evaluate.prompts import PromptBuilder
from tasks.evaluate.reply_loss import held_out_replies, reply_score, window_scores
from tasks.held_out import held_out_items
from tasks.held_out.evaluation_set import chosen_files
from tasks.model import bits_per_byte
from tasks.model.generation import Sampling, mixed_seed
from tasks.model.load import load_model
from tasks.model.model_pointer import resolve_model, tuned_stages
from tasks.model.paired_difference import paired_difference
from tasks.tokens.chat_encoder import ChatEncoder

log = logging.getLogger(__name__)
OPENINGS = 3
"""How many documents a base model is given the first words of, for samples."""


def evaluate_decoder(params: EvaluateParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Measure `pretrain`, `finetune` and `prefer` on held-out text, and the last that was tuned on held-out questions.

    Where nothing was tuned (tasks.model.model_pointer), the base model takes the place of the tuned one: `model` is "base", and it
    continues texts instead of answering in a chat.

    `validation_bits_per_byte` is the pretrained model's on the held-out conversations, as documents (on all held-out
    documents where none is a conversation: `validation_text` says which), and `xz_bits_per_byte` that of `xz -9e` on
    the same text. `replies` is what each expects of the assistant in held-out conversations, in chat form. `gains` is what tuning
    changed of both, paired by document and conversation, with its interval. What cannot be measured for want of held-out data is
    null, with a reason in `not_measured`.

    `files` of the user's own set are scored by tasks.evaluate.evaluation_set_scores: `own_set` has the measures by file.

    Writes `questions.jsonl` (question, expected, answer, em, f1, rougeL), `own_set.jsonl` (an item of the user's files a row)
    and `samples.jsonl` (prompt, mode, reply; a base model's begin with openings of held-out documents).

    Raises:
        UserError: a model, a tokenizer or a file cannot be read, or the models differ in their tokenizer.
    """
    tuning = tuned_stages(inputs)
    folders = {name: resolve_model(inputs[name]) for name in ["pretrain", *tuning]}
    tuned, last = bool(tuning), [*folders][-1]
    encoder = ChatEncoder(folders[last])
    tokenizers = {path.read_bytes() for folder in folders.values() if (path := folder / "tokenizer.json").exists()}
    if len(tokenizers) > 1:
        raise UserError(
            f"{', '.join(map(str, folders.values()))} have different tokenizers. Run: dvc repro {' '.join(tuning)}"
        )
    results: dict[str, Any] = {
        "model": "tuned" if tuned else "base",
        "objective": "causal",
        "not_measured": {},
    }
    models = {name: load_model(folder, load_execution().device_name()) for name, folder in folders.items()}
    context = models[last].config.max_position_embeddings
    longest = min(params.max_new_tokens, context // 2)
    if longest < params.max_new_tokens:  # no reason to end after the model was trained
        log.warning(
            "evaluate.max_new_tokens: %d is more than half of the model's context: replies have %d",
            params.max_new_tokens,
            longest,
        )
    results |= _held_out_text(params, inputs["documents"], models, encoder, results["not_measured"], outputs)
    if tuned:
        results["replies"], gain = _replies(params, inputs["held_out"], models, encoder, results["not_measured"])
        results["gains"] |= {"replies": gain} if gain else {}
    started, generator = time.monotonic(), Generator(models[last], PromptBuilder(encoder, tuned), longest)
    results["questions"] = _questions(params, inputs["held_out"], generator, results["not_measured"], outputs)
    own = chosen_files(inputs["evaluation"].parent, params.files)
    results["own_set"], rows = score_evaluation_files(own, inputs["evaluation"], generator, models, params.batch)
    write_lines(outputs / "own_set.jsonl", rows)
    openings = [] if tuned else held_out_items.document_openings(inputs["documents"], OPENINGS)
    _samples(params, [*openings, *params.prompts], generator, outputs)
    outputs.timings["generated_tokens_per_second"] = generator.tokens / (time.monotonic() - started)
    return results


def _held_out_text(
    params: EvaluateParams,
    folder: Path,
    models: dict[str, Any],
    encoder: ChatEncoder,
    missing: dict[str, str],
    outputs: Outputs,
) -> Metrics:
    """Bits per byte and perplexity of each model, and of xz, on all held-out text, its conversations and each source."""
    available = held_out_items.validation_documents(folder)
    documents = held_out_items.within_bytes(available, params.max_bytes)
    count: Metrics = {
        "documents_available": len(available),
        "documents_scored": len(documents),
        "gains": {},
        "validation_text": None,
        "validation_bits_per_byte": None,
        "xz_bits_per_byte": None,
    }
    if not documents:
        missing["validation_bits_per_byte"] = missing["xz_bits_per_byte"] = "no document is held out"
        log.warning("no validation documents in %s: bits per byte are not measured", folder)
        return count
    tokens = encoder.texts([document.text for document in documents])
    groups: dict[str, Callable[[held_out_items.HeldOutDocument], bool]] = {"all": lambda _: True}
    if any(document.conversation for document in documents):
        groups["conversations"] = lambda document: document.conversation
    by_source = {source: [d.source == source for d in documents] for source in sorted({d.source for d in documents})}
    chosen = {name: [belongs(document) for document in documents] for name, belongs in groups.items()}
    started = time.monotonic()

    def measure(nats: list[float], mask: Iterable[bool]) -> Metrics:
        numbers = [number for number, inside in enumerate(mask) if inside]
        total, size = sum(nats[n] for n in numbers), sum(len(tokens[n]) for n in numbers)
        return bits_per_byte.likelihood_metrics(total, size, [documents[n].text for n in numbers])

    def xz(mask: Iterable[bool]) -> float:
        return bits_per_byte.xz_bits_per_byte([d.text for d, inside in zip(documents, mask, strict=True) if inside])

    every: dict[str, list[float]] = {}
    for name, model in models.items():
        every[name] = nats = bits_per_byte.document_nats(model, tokens, encoder.start, encoder.pad, f"score {name}")
        count[name] = {group: measure(nats, mask) for group, mask in chosen.items()}
        count[name]["by_source"] = {source: measure(nats, mask) for source, mask in by_source.items()}
    seconds = time.monotonic() - started
    outputs.timings["scored_tokens_per_second"] = len(models) * sum(map(len, tokens)) / seconds
    count["xz"] = {group: xz(mask) for group, mask in chosen.items()}
    count["xz"]["by_source"] = {source: xz(mask) for source, mask in by_source.items()}
    yardstick = "conversations" if "conversations" in chosen else "all"
    sizes = [len(document.text.encode()) for document in documents]
    first, *_, last = [
        np.array([nats, sizes], float).T[chosen[yardstick]] for nats in (every["pretrain"], *every.values())
    ]
    return count | {
        "gains": {"documents": asdict(paired_difference(first, last))} if len(models) > 1 else {},
        "validation_text": yardstick,
        "validation_bits_per_byte": count["pretrain"][yardstick]["bits_per_byte"],
        "xz_bits_per_byte": count["xz"][yardstick],
    }


def _replies(
    params: EvaluateParams, folder: Path, models: dict[str, Any], encoder: ChatEncoder, missing: dict[str, str]
) -> tuple[Metrics | None, Metrics | None]:
    """What each model expects the assistant to say in held-out conversations, and what tuning has improved of it."""
    context = models[next(iter(models))].config.max_position_embeddings
    replies = held_out_replies(folder, encoder, context, params.max_reply_bytes)
    if not replies.windows:
        missing["replies"] = "no conversation is held out"
        return None, None
    scores = {name: window_scores(model, replies.windows, encoder, f"replies {name}") for name, model in models.items()}
    first, *_, last = [table[table[:, 1] > 0] for table in map(replies.by_conversation, scores.values())]
    gain = asdict(paired_difference(first, last)) if len(first) else None
    return {name: reply_score(found) for name, found in scores.items()}, gain


def _questions(
    params: EvaluateParams, folder: Path, generator: Generator, missing: dict[str, str], outputs: Outputs
) -> Metrics | None:
    """Ask the held-out questions, greedily, and compare with the expected answers."""
    asked, available = held_out_items.held_out_questions(folder, params.max_questions)
    rows: list[dict[str, Any]] = []
    if not asked:
        missing["questions"] = "evaluate.max_questions is 0" if available else "no question is held out"
        log.warning("no questions are asked: %s (%s)", missing["questions"], folder)
        write_lines(outputs / "questions.jsonl", rows)
        return None
    rouge = RougeL(params.rouge_stemmer)
    prompts = [generator.prompts.question(question.prompt, generator.max_prompt_tokens) for question in asked]
    answers = generator.greedy(prompts, params.batch, "answer questions")
    for question, answer in zip(asked, map(generator.prompts.answer, answers), strict=True):
        scores = {
            "em": exact_match(answer, question.expected),
            "f1": round(f1(answer, question.expected), 6),
            "rougeL": round(rouge(answer, question.expected), 6),
        }
        text = question.prompt[-1]["content"] if question.prompt else ""
        rows.append({"id": question.id, "question": text, "expected": question.expected, "answer": answer, **scores})
    write_lines(outputs / "questions.jsonl", rows)
    return {
        **means(rows, ("em", "f1", "rougeL")),
        "asked": len(rows),
        "available": available,
        "rouge_stemmer": int(params.rouge_stemmer),
    }


def _samples(params: EvaluateParams, prompts: list[str], generator: Generator, outputs: Outputs) -> None:
    """Reply to the prompts: once greedily, then `samples` times drawn, whatever the other prompts are."""
    asked = [generator.prompts.sample(prompt, generator.max_prompt_tokens) for prompt in prompts]
    rows: list[dict[str, Any]] = []
    greedy = generator.greedy(asked, params.batch, "reply to prompts")
    drawn = []
    for prompt, ids in zip(prompts, asked, strict=True):
        # A seed of its own: with one for all, prompts of like distributions would draw the same words.
        sampling = Sampling(params.temperature, params.top_k, params.top_p, mixed_seed(params.seed, prompt))
        drawn.append(generator.sample(ids, params.samples, sampling) if params.samples else [])
    for prompt, first, others in zip(prompts, greedy, drawn, strict=True):
        rows.append({"prompt": prompt, "mode": "greedy", "reply": first})
        rows += [{"prompt": prompt, "mode": "sampled", "reply": reply} for reply in others]
    write_lines(outputs / "samples.jsonl", rows)
