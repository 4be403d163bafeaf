"""Contexts: where in a conversation the assistant is to speak, and what was said there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.conversations.conversation import Message
from tasks.documents.shards import read_shard, shard_paths
from tasks.tokens.chat_encoder import ChatEncoder

TURNS = 3
"""Messages of a context at most: what was said long before says little of the reply."""
PER_CONVERSATION = 3


@dataclass(frozen=True)
class Context:
    """Messages, the user's last, and the reply that followed."""

    messages: list[Message]
    reply: str


def read_messages(folder: Path) -> list[list[Message]]:
    """The messages of each conversation in `folder` by the order of their ids; of questions where there is none."""
    rows = [row for shard in shard_paths(folder) for row in read_shard(shard, ["id", "kind", "messages"]).to_pylist()]
    chosen = "conversation" if any(row["kind"] == "conversation" for row in rows) else "question"
    return [row["messages"] for row in sorted(rows, key=lambda row: row["id"]) if row["kind"] == chosen]


def reply_tokens(conversations: Sequence[Sequence[Message]], encoder: ChatEncoder) -> int:
    """The number of tokens, its end included, that all but a twentieth of the replies have at most."""
    replies = [
        message["content"] for messages in conversations for message in messages if message["role"] == "assistant"
    ]
    lengths = sorted(len(ids) + 1 for ids in encoder.texts(replies))
    return lengths[len(lengths) * 19 // 20] if lengths else 1


def choose_contexts(
    conversations: Sequence[Sequence[Message]], encoder: ChatEncoder, longest: int, count: int, seed: int
) -> list[Context]:
    """`count` contexts, or all there are, in an order of the seed; up to three a conversation.

    Each has at most `longest` tokens as a prompt, however long people's reply to it was.
    """
    random = np.random.default_rng(seed)
    found: list[Context] = []
    for number in random.permutation(len(conversations)).tolist():
        messages = conversations[number]
        replies = [at for at, message in enumerate(messages) if at and message["role"] == "assistant"]
        contexts = [_context(messages, at) for at in random.permutation(replies)[:PER_CONVERSATION].tolist()]
        found += [context for context in contexts if context and _fits(context.messages, encoder, longest)]
        if len(found) >= count:
            break
    order = random.permutation(len(found[:count]))
    return [found[number] for number in order.tolist()]


def _context(messages: Sequence[Message], at: int) -> Context | None:
    """What was said before message `at`: the last turns, from a message of the user on, after the system's if there is one."""
    lead = [messages[0]] if messages[0]["role"] == "system" else []
    before = list(messages[max(len(lead), at - TURNS) : at])
    while before and before[0]["role"] != "user":
        before.pop(0)
    if not before or before[-1]["role"] != "user":
        return None
    return Context([*lead, *before], messages[at]["content"])


def _fits(messages: list[Message], encoder: ChatEncoder, longest: int) -> bool:
    return len(encoder.prompt(messages, longest + 1)) <= longest
