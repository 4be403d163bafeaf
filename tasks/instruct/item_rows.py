"""Items as rows, before duplicates are looked for: what a checked dialogue becomes."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from tasks.conversations.conversation import SCHEMA, Message, render_conversation
from tasks.instruct.dialogue_rules import split_dialogue
from tasks.similarity.canonical_text import canonical_text, digest

ITEM_SCHEMA = pa.schema(
    [
        *SCHEMA,
        ("dialogue", pa.string()),  # the id without the number of the window
        ("split", pa.string()),
        ("url", pa.string()),
        ("digest", pa.binary(16)),  # of what must not repeat: a conversation's text, a question
        ("answer", pa.binary(16)),  # of a question's answer; null for conversations
    ]
)
ADVICE = "Leave it out and report it: it should not be."
"""On an item that ends the program."""


def item_text(messages: Sequence[Message], rejected: str | None) -> str:
    """A conversation as text, with the reply that was liked less than its last if there is one."""
    text = render_conversation(messages)
    return text if rejected is None else f"{text}\nRejected: {rejected}"


def dialogue_rows(
    name: str, messages: list[Message], common: dict[str, Any], max_turns: int, rejected: str | None = None
) -> Iterator[dict[str, Any]]:
    """The items of a checked dialogue: one, or its windows, of which the last has `rejected`."""
    parts = split_dialogue(messages, max_turns)
    unit = {"dialogue": name, "kind": "conversation", "digest": digest(canonical_text(item_text(messages, rejected)))}
    for number, part in enumerate(parts, 1):
        said = {"messages": part, "rejected": rejected if number == len(parts) else None}
        yield common | unit | said | {"id": f"{name}#{number - 1}" if len(parts) > 1 else name}
