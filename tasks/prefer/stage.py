"""Preference tuning: the tuned model learns from rewards of its own replies, or from pairs of replies that people compared."""

import logging
from pathlib import Path

from tasks.core.paths import Inputs, Metrics, Outputs, write_lines
from tasks.prefer.params import PreferParams

log = logging.getLogger(__name__)


def run(params: PreferParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Tune `finetune` by rewards of its replies to contexts of `train`, or by its pairs; measure on those of `held_out`.

    Writes a Hugging Face folder (tokenizer and chat template byte for byte as they were), `curves.csv`
    (tasks.prefer.training.COLUMNS, a row a step) and `replies.jsonl` (a held-out context a row: people's reply, the model's
    before and after). Checkpoints in `outputs.work` let a killed run continue to the same weights.

    Where `method` is null, nothing was tuned or nobody answers in `train`, the model stays what it is: a pointer to
    `finetune` (tasks.model.model_pointer).

    Raises:
        UserError: the model or the conversations cannot be read, training diverged, no reply was worth more than another, or
            there is no pair.
    """
    from tasks.documents.shards import count_rows
    from tasks.model.model_pointer import is_pointer, resolve_model

    if params.method is None:
        return _point(inputs["finetune"], outputs, "prefer.method is null")
    if is_pointer(inputs["finetune"]):
        return _point(inputs["finetune"], outputs, "nothing was tuned")
    if params.method != "dpo" and not count_rows(inputs["train"]):  # a tuned model was given, and no conversation
        return _point(inputs["finetune"], outputs, "no conversation to answer in")
    return _prefer(params, resolve_model(inputs["finetune"]), inputs, outputs)


def _point(tuned: Path, outputs: Outputs, reason: str) -> Metrics:
    from tasks.model.curves import CurveWriter
    from tasks.model.model_pointer import write_pointer
    from tasks.prefer.training import COLUMNS

    log.info("prefer: %s: the model stays as it is", reason)
    write_pointer(outputs.root, tuned, reason)
    CurveWriter(outputs / "curves.csv", columns=COLUMNS).close()
    return {"steps": 0}


def _prefer(params: PreferParams, base: Path, inputs: Inputs, outputs: Outputs) -> Metrics:
    from transformers import AutoTokenizer

    from tasks.model.load import load_model, prepare_torch
    from tasks.prefer.best_of_n import draw_pairs
    from tasks.prefer.contexts import choose_contexts, read_messages, reply_tokens
    from tasks.prefer.dpo import compare_on_pairs, train_on_pairs
    from tasks.prefer.grpo import make_trainer, train_on_rewards
    from tasks.prefer.measures import compare
    from tasks.prefer.pairs import read_pairs, training_pairs
    from tasks.prefer.reply_checks import ReplyChecks
    from tasks.tokens.chat_encoder import ChatEncoder, require_template
    from tasks.tuning.save import save_tuned

    device = prepare_torch()
    require_template(base)
    model, encoder = load_model(base, device), ChatEncoder(base)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    context = model.config.max_position_embeddings
    pairs = training_pairs(inputs["train"], encoder, context) if params.method == "dpo" else []
    conversations = read_messages(inputs["train"])
    longest = min(params.max_new_tokens or reply_tokens(conversations, encoder), context // 2)
    checks, room = ReplyChecks.of(params.reward, conversations), context - longest
    if pairs:
        trained, measured = train_on_pairs(params, model, tokenizer, pairs, outputs)
        measured["pairs"] = len(pairs)
    else:
        wanted = params.best_of_n.contexts if params.method == "best_of_n" else params.grpo.steps * params.grpo.prompts
        contexts = choose_contexts(conversations, encoder, room, wanted, params.seed)
        if not contexts:
            return _point(inputs["finetune"], outputs, "no message of a user that fits the context is answered")
        if params.method == "best_of_n":
            if len(contexts) < wanted:
                log.warning("prefer.best_of_n.contexts: there are %d", len(contexts))
            drawn = draw_pairs(params, model, encoder, contexts, checks, longest)
            trained, measured = train_on_pairs(params, model, tokenizer, drawn.pairs, outputs)
            measured |= drawn.metrics
        else:
            steps = max(1, len(contexts) // params.grpo.prompts)
            if steps < params.grpo.steps:
                log.warning("prefer.grpo.steps: %d contexts are enough for %d steps", len(contexts), steps)
            chosen = contexts[: steps * params.grpo.prompts]
            trainer = make_trainer(params, model, tokenizer, chosen, checks, longest, encoder, outputs.work)
            trained, measured = train_on_rewards(trainer, steps, outputs)
    save_tuned(trained, base, outputs.root)
    before = load_model(base, device)
    held_out: Metrics = {"held_out": None, "held_out_pairs": None}
    if pairs:
        held_pairs = read_pairs(inputs["held_out"], encoder, context)
        held_out["held_out_pairs"] = compare_on_pairs(before, trained, held_pairs, encoder.pad, params.dpo.beta)
    held = choose_contexts(read_messages(inputs["held_out"]), encoder, room, params.held_out, params.seed)
    if held:
        rows = outputs / "replies.jsonl"
        held_out["held_out"] = compare(before, trained, encoder, held, checks, longest, rows)
    else:
        log.warning("prefer: no context of a held-out conversation fits, so nothing says what has changed")
        write_lines(outputs / "replies.jsonl", [])
    return measured | held_out
