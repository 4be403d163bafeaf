"""Best of n: several replies to each context are drawn once, and the model learns from the best one, or from it against the worst.

The best alone is rejection sampling (RAFT, Dong et al. 2023, arXiv:2304.06767; Llama 2 did so too); best against worst is
DPO on pairs of the model's own. Unlike GRPO, all is drawn before the first step: cheaper, and never of the newest weights.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.errors import UserError
from tasks.core.progress import Progress
from tasks.model.generation import Sampling, mixed_seed
from tasks.prefer.contexts import Context
from tasks.prefer.pairs import Pair
from tasks.prefer.params import PreferParams
from tasks.prefer.replies import draw_replies
from tasks.prefer.reply_checks import ReplyChecks
from tasks.tokens.chat_encoder import ChatEncoder

log = logging.getLogger(__name__)
TOGETHER = 32
"""Replies drawn at a time."""


@dataclass(frozen=True)
class Drawn:
    """Pairs of the best and the worst reply to a context, and what all replies earned in the mean, the best ones, the worst."""

    pairs: list[Pair]
    replies: int
    mean: float
    best: float
    worst: float

    @property
    def metrics(self) -> dict[str, Any]:
        """As the stage's metrics have it."""
        earned = {"reward_mean": self.mean, "reward_best": self.best, "reward_worst": self.worst}
        return {"replies": self.replies, "contexts_that_differ": len(self.pairs)} | {
            name: round(value, 6) for name, value in earned.items()
        }


def draw_pairs(
    params: PreferParams,
    model: Any,
    encoder: ChatEncoder,
    contexts: Sequence[Context],
    checks: ReplyChecks,
    longest: int,
) -> Drawn:
    """Draw `params.best_of_n.samples` replies to each context; the first of those that earn most and least make a pair. Contexts
    whose replies all earn the same are left out.

    Raises:
        UserError: that is every one of them.
    """
    settings, room = params.best_of_n, model.config.max_position_embeddings - longest
    prompts = [encoder.prompt(context.messages, room) for context in contexts]
    at_once = max(1, TOGETHER // settings.samples)
    earned: list[list[float]] = []
    pairs: list[Pair] = []
    model.eval()
    with Progress("prefer: draw replies", len(prompts) * settings.samples, "replies") as progress:
        for first in range(0, len(prompts), at_once):
            asked = [prompt for prompt in prompts[first : first + at_once] for _ in range(settings.samples)]
            sampling = Sampling(settings.temperature, settings.top_k, 1.0, mixed_seed(params.seed, first))
            replies = draw_replies(model, encoder, asked, sampling, longest)
            for number, context in enumerate(contexts[first : first + at_once]):
                own = replies[number * settings.samples : (number + 1) * settings.samples]
                scores = [checks.score(checks.passed(context.messages, reply.text, reply.ended)) for reply in own]
                earned.append(scores)
                if max(scores) > min(scores):
                    chosen, rejected = (own[scores.index(of(scores))].ids for of in (max, min))
                    pairs.append(Pair(prompts[first + number], chosen, rejected))
            progress.advance(len(asked))
    if not pairs:
        raise UserError(
            "prefer: of no prompt was one reply worth more than another, so there was nothing to learn. Draw more of them "
            "(prefer.best_of_n.samples), hotter (prefer.best_of_n.temperature), or weigh the checks otherwise (prefer.reward)"
        )
    count = len(earned)
    mean, best, worst = (sum(of(scores) for scores in earned) / count for of in (_mean, max, min))
    log.info("prefer: replies earn %.2f, the best of %d %.2f, the worst %.2f", mean, settings.samples, best, worst)
    return Drawn(pairs, count * settings.samples, mean, best, worst)


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)
