"""Corruptions: a piece of text as a model is given it, and what it is asked, by the objective that it was trained by.

15% of the tokens are hidden, as in BERT (arXiv:1810.04805, 3.1), ELECTRA (arXiv:2003.10555, 3.1) and T5 (arXiv:1910.10683, 3.1.4),
in spans of a mean of 3 tokens where spans are hidden, whatever a model was trained with: so models of one objective compare. All of the
hidden tokens are hidden (training leaves some as they are), and which ones follows from the piece's own tokens alone: they are the
same for every model over one tokenizer, whatever else is measured.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from tasks.architectures.families.family import ObjectiveName
from tasks.corrupted_text.restorer import Restorer
from tasks.tokens.noise_spans import noise_spans

Int64 = npt.NDArray[np.int64]
FRACTION = 0.15
MEAN_SPAN = 3.0
NO_TOKENS: Int64 = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Question:
    """A piece of a document, corrupted; arrays are int64.

    Attributes:
        tokens: the piece as it was, the document's start among them.
        given: what the encoder reads.
        places: [answers] of the logits, the decoder's where there is one, that are asked.
        answers: [answers] the right ones: tokens, or 1 where a token was replaced and 0 where not.
        size_bytes: of the text that the answers stand for.
        spans: [spans, 2], start and end in `tokens` of what was hidden.
        decoder: what the decoder is given; empty without one.
        document: number of the document.
    """

    tokens: Int64
    given: Int64
    places: Int64
    answers: Int64
    size_bytes: int
    spans: Int64
    decoder: Int64 = field(default_factory=lambda: NO_TOKENS)
    document: int = 0


def ask(restorer: Restorer, documents: Sequence[Sequence[int]], most: int | None = None) -> list[Question]:
    """The questions about documents (token ids, without a start), piece by piece as long as the context, the first `most` of them."""
    corrupt = CORRUPTIONS[restorer.objective]
    questions: list[Question] = []
    for number, document in enumerate(documents):
        stream = np.array([restorer.start, *document], dtype=np.int64)
        for first in range(0, len(stream), restorer.context):
            if len(questions) == most:
                return questions
            piece = stream[first : first + restorer.context]
            if len(piece) > 1:
                draws = np.random.default_rng(zlib.crc32(piece.tobytes()))
                questions.append(corrupt(restorer, piece, number, draws))
    return questions


def _masked(restorer: Restorer, tokens: Int64, document: int, draws: np.random.Generator) -> Question:
    places = _hidden(restorer, tokens, draws)
    given = tokens.copy()
    given[places] = restorer.mask
    size = int(restorer.token_bytes[tokens[places]].sum())
    spans = np.stack([places, places + 1], 1)
    return Question(tokens, given, places, tokens[places], size, spans, document=document)


def _replaced(restorer: Restorer, tokens: Int64, document: int, draws: np.random.Generator) -> Question:
    """The generator's draws stand in the place of hidden tokens; every token of the text is asked about."""
    places = _hidden(restorer, tokens, draws)
    given = tokens.copy()
    given[places] = restorer.mask
    device = next(restorer.generator.parameters()).device
    with torch.inference_mode():
        logits = restorer.generator(input_ids=torch.from_numpy(given)[None].to(device)).logits[0, places]
    cumulated = logits.double().softmax(-1).cumsum(-1).cpu().numpy()
    chances = draws.random(len(places)) * cumulated[:, -1]
    given[places] = [np.searchsorted(row, chance, "right") for row, chance in zip(cumulated, chances, strict=True)]
    text = np.flatnonzero(tokens != restorer.start)
    size = int(restorer.token_bytes[tokens].sum())
    spans = np.stack([places, places + 1], 1)
    return Question(tokens, given, text, (given != tokens)[text].astype(np.int64), size, spans, document=document)


def _spans_behind_sentinels(restorer: Restorer, tokens: Int64, document: int, draws: np.random.Generator) -> Question:
    """The decoder tells each span behind its sentinel; sentinels and the end are not asked about: they are no text."""
    spans = noise_spans(len(tokens), FRACTION, MEAN_SPAN, draws)[: len(restorer.sentinels)]
    source: list[Int64] = []
    target: list[Int64] = []
    text: list[Int64] = []
    at = written = 0
    for sentinel, (start, end) in zip(restorer.sentinels, spans.tolist(), strict=False):
        source += [tokens[at:start], np.array([sentinel])]
        target += [np.array([sentinel]), tokens[start:end]]
        text.append(written + 1 + np.arange(end - start))
        written += 1 + end - start
        at = end
    told, places = np.concatenate(target), np.concatenate(text)
    return Question(
        tokens,
        np.concatenate([*source, tokens[at:], np.array([restorer.start])]),
        places,
        told[places],
        int(restorer.token_bytes[told].sum()),
        spans,
        np.concatenate([np.array([restorer.pad]), told]),
        document,
    )


def _spans_in_place(restorer: Restorer, tokens: Int64, document: int, draws: np.random.Generator) -> Question:
    """The decoder writes the whole piece anew; what it copies is not asked about."""
    spans = noise_spans(len(tokens), FRACTION, MEAN_SPAN, draws)
    hidden = np.concatenate([np.arange(start, end) for start, end in spans.tolist()])
    parts, at = [], 0
    for start, end in spans.tolist():
        parts += [tokens[at:start], np.array([restorer.mask])]
        at = end
    size = int(restorer.token_bytes[tokens[hidden]].sum())
    given = np.concatenate([*parts, tokens[at:]])
    return Question(tokens, given, hidden - 1, tokens[hidden], size, spans, tokens, document)


def _hidden(restorer: Restorer, tokens: Int64, draws: np.random.Generator) -> Int64:
    text = np.flatnonzero(tokens != restorer.start)
    return np.sort(draws.choice(text, max(1, round(FRACTION * len(text))), replace=False))


CORRUPTIONS: Mapping[ObjectiveName, Callable[[Restorer, Int64, int, np.random.Generator], Question]] = {
    "masked": _masked,
    "replaced_token": _replaced,
    "span_corruption": _spans_behind_sentinels,
    "denoising": _spans_in_place,
}
"""By objective: a piece of text (int64 [tokens]) of the document of a number, as a question."""
