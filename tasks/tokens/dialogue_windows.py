"""Context windows: conversations cut to the model's context, and the order in which tuning meets them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tasks.conversations.conversation import Message
from tasks.tokens.chat_encoder import ChatEncoder, EncodedConversation, EncodedTurn

BUCKET_STEPS = 32
"""Batches that are sorted by length together: padding nearly vanishes, while what meets what stays random."""


@dataclass
class DialogueWindows:
    """Windows of conversations: whole turns, at most `longest` tokens, each with something that the assistant says."""

    windows: list[EncodedConversation] = field(default_factory=list)
    messages: list[list[Message]] = field(default_factory=list)
    split: int = 0  # conversations that fill several windows
    truncated: int = 0  # exchanges longer than a window, whose end was cut off
    removed: Counter[str] = field(default_factory=Counter)  # conversations, by reason

    def add(
        self, messages: Sequence[Message], turns: Sequence[EncodedTurn], longest: int, encoder: ChatEncoder
    ) -> None:
        """Cut one conversation into windows of at most `longest` tokens."""
        messages = encoder.fold_system(messages)
        if not any(message["role"] == "assistant" for message in messages):
            self.removed["no_assistant_turn"] += 1
            return
        before = len(self.windows)
        for first, last in _spans(messages, [len(turn.ids) for turn in turns], longest):
            lead = 1 if messages[0]["role"] == "system" and first else 0
            window = encoder.join([*turns[:lead], *turns[first:last]])
            if len(window.ids) > longest:
                self.truncated += 1
                window = EncodedConversation(window.ids[:longest], window.assistant_mask[:longest])
            if any(window.assistant_mask):
                self.windows.append(window)
                self.messages.append([*messages[:lead], *messages[first:last]])
        if len(self.windows) == before:
            self.removed["assistant_beyond_max_length"] += 1
        self.split += len(self.windows) > before + 1


def _spans(messages: Sequence[Message], lengths: Sequence[int], longest: int) -> Iterator[tuple[int, int]]:
    """Ranges of messages that fit a window (a single exchange may not); a range never begins with the assistant.

    The system message leads every window.
    """
    lead = lengths[0] if messages[0]["role"] == "system" else 0
    starts = [i for i, message in enumerate(messages) if i == 0 or message["role"] == "user"]
    if lead and len(starts) > 1 and starts[1] == 1:
        starts.pop(1)  # the system message and the first exchange belong together
    ends = [*starts[1:], len(messages)]
    first, size = starts[0], 1
    for start, end in zip(starts, ends, strict=True):
        exchange = sum(lengths[start:end])
        if start > first and size + exchange > longest:
            yield first, start
            first, size = start, 1 + lead
        size += exchange
    yield first, len(messages)


def training_order(lengths: Sequence[int], examples: int, batch: int, seed: int) -> "np.typing.NDArray[np.int64]":
    """int64 [examples]: which window comes when, a function of the seed alone; `batch` in a row are one step.

    Every pass over the data is a new permutation; within `BUCKET_STEPS` steps, windows of like length share a step.
    """
    passes = -(-examples // len(lengths))
    stream = np.concatenate([np.random.default_rng([seed, k]).permutation(len(lengths)) for k in range(passes)])
    stream = stream[:examples]
    sizes = np.asarray(lengths, dtype=np.int64)
    bucket = BUCKET_STEPS * batch
    for number, start in enumerate(range(0, examples, bucket)):
        part = stream[start : start + bucket]
        part = part[np.argsort(sizes[part], kind="stable")]
        whole = len(part) // batch * batch  # a last, smaller step stays last
        steps = np.random.default_rng([seed, number, bucket]).permutation(whole // batch)
        stream[start : start + bucket] = np.concatenate([part[:whole].reshape(-1, batch)[steps].ravel(), part[whole:]])
    return stream
