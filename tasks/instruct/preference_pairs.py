"""Preference pairs in files: what was asked, a reply that people liked more, and one that they liked less."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.conversations.conversation import Message, trim_content
from tasks.conversations.instruction_formats import instruction_turns
from tasks.conversations.turns import PROVENANCE_KEYS, RejectedRecord, message_of, refuse_unlearnable, with_system

SIDES = ("chosen", "rejected")
SIDE_KEYS = {side: (side, f"{side}_messages") for side in SIDES}
"""A side and the names of its key: of TRL and most, and of LLaMA-Factory's later form."""
ASKED_KEYS = ("prompt", "question", "instruction", "input", "history", "conversations", "messages", "system")
PAIR_KEYS = frozenset((*ASKED_KEYS, "prompt_id", *(key for keys in SIDE_KEYS.values() for key in keys)))
"""What a pair is read from; `messages` beside a whole `chosen` says that once more (UltraFeedback)."""
TRANSCRIPT_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):[ \t]?")
"""What begins a turn in Anthropic's transcripts ("\\n\\nHuman: ...\\n\\nAssistant: ...")."""


@dataclass(frozen=True)
class PreferencePair:
    """A conversation that ends with the reply that was liked more, and the one that was liked less."""

    messages: list[Message]
    rejected: str


def is_pair(record: Any) -> bool:
    """Whether a record has two sides."""
    return isinstance(record, Mapping) and all(any(key in record for key in keys) for keys in SIDE_KEYS.values())


def to_pair(record: Any, ignored: Counter[str]) -> PreferencePair:
    """The record as a pair, its turns not yet checked. Keys that say more than is learnt are counted in `ignored`.

    A side is a reply (text, a message or a list of one), after what was asked: `prompt`, `conversations`, `messages`,
    `instruction` with `input` and `history`, or `question`; or it is a whole conversation, as messages or as a transcript.

    Raises:
        RejectedRecord: malformed; no_reply (a side does not end with the assistant); not_one_reply (the sides differ before
            their last message); equal_sides; tools, not_text, weight.
    """
    if isinstance(record, RejectedRecord):
        raise record
    if not isinstance(record, Mapping):
        raise RejectedRecord("malformed", f"a record must be an object, found {type(record).__name__}")
    refuse_unlearnable(record)
    (chosen, rejected) = (_whole(record, side, ignored) for side in SIDES)
    for side, said in zip(SIDES, (chosen, rejected), strict=True):
        if said[-1]["role"] != "assistant":
            raise RejectedRecord("no_reply", f"{side}: ends with what the {said[-1]['role']} says")
    if _trimmed(chosen[:-1]) != _trimmed(rejected[:-1]):
        raise RejectedRecord("not_one_reply", "chosen and rejected differ before their last message")
    if _trimmed(chosen) == _trimmed(rejected):
        raise RejectedRecord("equal_sides", "chosen and rejected say the same")
    ignored.update(
        key for key, value in record.items() if key not in PAIR_KEYS | PROVENANCE_KEYS and value not in (None, "", [])
    )
    return PreferencePair(with_system(record.get("system"), chosen), trim_content(rejected[-1]["content"]))


def _whole(record: Mapping[str, Any], side: str, ignored: Counter[str]) -> list[Message]:
    """The conversation that ends with a side's reply."""
    said = _side(next((record[key] for key in SIDE_KEYS[side] if key in record), None), side, ignored)
    return said if said[0]["role"] != "assistant" else [*_asked(record, ignored), *said]


def _side(value: Any, side: str, ignored: Counter[str]) -> list[Message]:
    if isinstance(value, str):
        return _transcript(value) or [{"role": "assistant", "content": value}]
    turns = [value] if isinstance(value, Mapping) else value
    if not isinstance(turns, list) or not turns:
        raise RejectedRecord("malformed", f"{side}: must be text, a message or a list of messages")
    messages = _messages(turns, ignored)
    if not messages:
        raise RejectedRecord("malformed", f"{side}: holds no message")
    return messages


def _asked(record: Mapping[str, Any], ignored: Counter[str]) -> list[Message]:
    """What both sides reply to."""
    for key in ("prompt", "conversations", "messages"):
        value = record.get(key)
        if isinstance(value, str):
            return _transcript(value) or [{"role": "user", "content": value}]
        if isinstance(value, list):
            return _messages(value, ignored)
        if value is not None:
            raise RejectedRecord("malformed", f"{key}: must be text or a list of messages")
    if "instruction" in record:
        return _messages(instruction_turns(record), ignored)
    if not isinstance(asked := record.get("question"), str):
        raise RejectedRecord("malformed", "what was asked is missing: prompt, conversations, instruction or question")
    return [{"role": "user", "content": asked}]


def _messages(turns: list[Any], ignored: Counter[str]) -> list[Message]:
    return [said for number, turn in enumerate(turns, 1) if (said := message_of(turn, number, ignored))]


def _transcript(text: str) -> list[Message]:
    """The turns of one of Anthropic's transcripts; none where the text is no transcript. A last turn without text goes."""
    begins = list(TRANSCRIPT_TURN.finditer(text))
    if not begins or text[: begins[0].start()].strip() or begins[0][1] != "Human":
        return []
    ends = [*(found.start() for found in begins[1:]), len(text)]
    turns: list[Message] = [
        {"role": "user" if found[1] == "Human" else "assistant", "content": text[found.end() : end].strip()}
        for found, end in zip(begins, ends, strict=True)
    ]
    return turns if turns[-1]["content"] else turns[:-1]


def _trimmed(messages: list[Message]) -> list[tuple[str, str]]:
    return [(message["role"], trim_content(message["content"])) for message in messages]
