"""Filling in: the text of a question with gaps, and the same as the model fills them in, greedily."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch

from tasks.architectures.families.family import ObjectiveName
from tasks.corrupted_text.answers import answers
from tasks.corrupted_text.corruptions import Question
from tasks.corrupted_text.restorer import Restorer
from tasks.tokens.chat_encoder import ChatEncoder

GAP = "[…]"
Filling = Callable[[Restorer, ChatEncoder, Question], tuple[str, str]]


def _fill_masks(restorer: Restorer, encoder: ChatEncoder, question: Question) -> tuple[str, str]:
    (answer,) = answers(restorer.model, [question], restorer.pad, "fill in")
    return _shown(encoder, question, [[token] for token in answer.said.tolist()])


def _fill_sentinels(restorer: Restorer, encoder: ChatEncoder, question: Question) -> tuple[str, str]:
    written = _generate(restorer, question, 2 * len(question.decoder))
    known = [sentinel for sentinel in restorer.sentinels[: len(question.spans)] if sentinel in written]
    borders = sorted(written.index(sentinel) for sentinel in known)
    told = {written[first]: written[first + 1 : end] for first, end in pairwise([*borders, len(written)])}
    return _shown(encoder, question, [told.get(sentinel, []) for sentinel in restorer.sentinels[: len(question.spans)]])


def _write_anew(restorer: Restorer, encoder: ChatEncoder, question: Question) -> tuple[str, str]:
    """The model writes the whole text: what it put in the gaps is not told apart from what it copied."""
    written = _generate(restorer, question, restorer.context - 1)
    return _shown(encoder, question, [])[0], encoder.decode(written)


FILLINGS: Mapping[ObjectiveName, Filling] = {
    "masked": _fill_masks,
    "span_corruption": _fill_sentinels,
    "denoising": _write_anew,
}
"""By objective: (text with gaps, text filled in); ELECTRA's discriminator fills nothing in."""


def _generate(restorer: Restorer, question: Question, most: int) -> list[int]:
    device = next(restorer.model.parameters()).device
    given = torch.from_numpy(question.given)[None].to(device)
    with torch.inference_mode():
        written = restorer.model.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=most, do_sample=False
        )
    found: list[int] = written[0, 1:].tolist()  # behind what the decoder begins with
    return found[: found.index(restorer.start)] if restorer.start in found else found


def _shown(encoder: ChatEncoder, question: Question, fills: Sequence[Sequence[int]]) -> tuple[str, str]:
    """The text with gaps, and filled in; a character of which some bytes alone were hidden is shown as two broken ones."""
    tokens, at = question.tokens.tolist(), 0
    asked = filled = ""
    for number, (start, end) in enumerate(question.spans.tolist()):
        kept = encoder.decode(tokens[at:start])
        asked += kept + GAP
        filled += f"{kept}[{encoder.decode(fills[number])}]" if number < len(fills) else kept
        at = end
    rest = encoder.decode(tokens[at:])
    return asked + rest, filled + rest
