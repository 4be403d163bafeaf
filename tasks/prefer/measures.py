"""What preference tuning has changed: replies to the same held-out contexts before and after, and how far the model has moved."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from tasks.conversations.conversation import ROLE_MARKER
from tasks.core.paths import write_lines
from tasks.core.progress import Progress
from tasks.documents.word_characters import words
from tasks.model.generation import Sampling, mixed_seed
from tasks.prefer.contexts import Context
from tasks.prefer.replies import Reply, draw_replies
from tasks.prefer.reply_checks import ReplyChecks
from tasks.tokens.chat_encoder import ChatEncoder

BATCH = 32
AS_SERVED = Sampling(temperature=0.7, top_k=50, top_p=0.95, seed=0)
"""How the replies that are measured are drawn: as `make chat` draws them."""
Measures = dict[str, float]


def compare(
    before: Any,
    after: Any,
    encoder: ChatEncoder,
    contexts: Sequence[Context],
    checks: ReplyChecks,
    longest: int,
    rows: Path,
) -> dict[str, Any]:
    """Measures of people's replies, of the tuned model's and of the preferred one's, the latter with its KL; replies to `rows`."""
    drawn = {
        name: held_out_replies(model.eval(), encoder, contexts, longest, f"prefer: replies {name}")
        for name, model in (("before", before), ("after", after))
    }
    people = [context.reply for context in contexts]
    found: dict[str, Any] = {
        "contexts": len(contexts),
        "people": measure(contexts, people, [True] * len(people), checks),
    }
    for name, replies in drawn.items():
        found[name] = measure(contexts, [r.text for r in replies], [r.ended for r in replies], checks)
    found["kl"] = divergence(after, before, prompt_ids(contexts, encoder), drawn["after"], encoder.pad)
    told = zip(contexts, drawn["before"], drawn["after"], strict=True)
    write_lines(
        rows,
        [{"messages": c.messages, "people": c.reply, "before": b.text, "after": a.text} for c, b, a in told],
    )
    return found


def prompt_ids(contexts: Sequence[Context], encoder: ChatEncoder) -> list[list[int]]:
    """The tokens after which the assistant speaks; contexts of `read_contexts` fit the model."""
    return [encoder.prompt(context.messages, 1 << 62) for context in contexts]


def held_out_replies(
    model: Any, encoder: ChatEncoder, contexts: Sequence[Context], longest: int, what: str
) -> list[Reply]:
    """A reply to each context, drawn as users have them drawn; contexts of like length are answered together."""
    prompts = prompt_ids(contexts, encoder)
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    replies: dict[int, Reply] = {}
    with Progress(what, total=len(order), unit="replies") as progress:
        for first in range(0, len(order), BATCH):
            chosen = order[first : first + BATCH]
            sampling = replace(AS_SERVED, seed=mixed_seed(AS_SERVED.seed, first))
            drawn = draw_replies(model, encoder, [prompts[number] for number in chosen], sampling, longest)
            replies.update(zip(chosen, drawn, strict=True))
            progress.advance(len(chosen))
    return [replies[number] for number in range(len(prompts))]


def measure(contexts: Sequence[Context], texts: Sequence[str], ended: Sequence[bool], checks: ReplyChecks) -> Measures:
    """Means over replies: each check of the reward and the reward, and what no reward is given for.

    The latter are `words`, `distinct_pairs` (share of all pairs of neighbouring words that differ), `distinct_replies`,
    `echoes` (replies of which at least eight in ten words stand in the message), `role_markers` (replies that write a speaker's name).
    """
    rows = [
        checks.passed(context.messages, text, end) for context, text, end in zip(contexts, texts, ended, strict=True)
    ]
    said = [words(text.casefold()) for text in texts]
    asked = [set(words(context.messages[-1]["content"].casefold())) for context in contexts]
    pairs = [pair for each in said for pair in pairwise(each)]
    echoes = [bool(s) and sum(word in a for word in s) >= 0.8 * len(s) for s, a in zip(said, asked, strict=True)]
    found = {name: _mean([row[name] for row in rows]) for name in rows[0]}
    return found | {
        "reward": _mean([checks.score(row) for row in rows]),
        "words": _mean([len(each) for each in said]),
        "distinct_pairs": round(len(set(pairs)) / max(1, len(pairs)), 6),
        "distinct_replies": round(len(set(texts)) / len(texts), 6),
        "echoes": _mean(echoes),
        "role_markers": _mean([bool(ROLE_MARKER.search(text)) for text in texts]),
    }


def divergence(model: Any, reference: Any, prompts: Sequence[list[int]], replies: Sequence[Reply], pad: int) -> float:
    """Mean over the tokens of the replies of KL(model || reference) of the next token, nats."""
    total, tokens = 0.0, 0
    for first in range(0, len(prompts), BATCH):
        rows = list(zip(prompts[first : first + BATCH], replies[first : first + BATCH], strict=True))
        longest = max(len(prompt) + len(reply.ids) for prompt, reply in rows)
        # Padding on the right of a causal model changes nothing to its left, so no mask is needed.
        ids = [[*prompt, *reply.ids, *[pad] * (longest - len(prompt) - len(reply.ids))] for prompt, reply in rows]
        batch = torch.tensor(ids, device=model.device)
        with torch.inference_mode():
            own, other = (
                torch.log_softmax(each(input_ids=batch, use_cache=False).logits.float(), -1)
                for each in (model, reference)
            )
            nats = (own.exp() * (own - other)).sum(-1)
        for row, (prompt, reply) in enumerate(rows):
            total += float(nats[row, len(prompt) - 1 : len(prompt) - 1 + len(reply.ids)].double().sum())
            tokens += len(reply.ids)
    return round(total / max(1, tokens), 6)


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 6)
