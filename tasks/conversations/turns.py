"""One turn of a conversation, in the forms that it has in files: OpenAI's, ShareGPT's, and those of the tools that took them up.

Nothing that changes what a turn means is passed over: what the chat template has no place for is refused, with the reason.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tasks.conversations.conversation import Message, Role

ROLE_OF_SPEAKER: dict[str, Role] = {
    "system": "system",
    "developer": "system",  # OpenAI's later name
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    **dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "model"), "assistant"),
}
"""A speaker's name → the role (FastChat's names in dumps of ShareGPT, OpenAssistant's, Gemini's)."""
TOOL_ROLES = frozenset(
    ("tool", "function", "tool_call", "tool_response", "function_call", "function_response", "observation", "ipython")
)
TOOL_KEYS = ("tool_calls", "function_call")
LOSS_WEIGHT_KEYS = ("weight", "train", "loss_weight")
"""Whether a turn is to be learnt (OpenAI's and Mistral's; axolotl's; LLaMA-Factory's)."""
TURN_KEYS = frozenset(("role", "content", "from", "value", "tool_call_id", *TOOL_KEYS, *LOSS_WEIGHT_KEYS))
PROVENANCE_KEYS = frozenset(
    ("id", "idx", "index", "source", "dataset", "url", "lang", "language", "licence", "license", "timestamp")
)
"""Keys that say where a record is from: of those nobody expects that they are learnt."""


class RejectedRecord(Exception):
    """A record that is no use, as dialogue or item: `reason`, a short snake_case name, and `detail`, what was measured and where."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def message_of(turn: Any, number: int, ignored: Counter[str]) -> Message | None:
    """The turn as a message, None for a system message without text. Keys that say more are counted in `ignored`.

    Raises:
        RejectedRecord: malformed; tools (the chat template has no turns of them); not_text (a picture, a sound); weight (a turn of
            the assistant that is not to be learnt, or not wholly: all that it says would be).
    """
    if not isinstance(turn, Mapping):
        raise RejectedRecord("malformed", f"turn {number}: must be an object, found {type(turn).__name__}")
    name = turn.get("role", turn.get("from"))
    used = [key for key in TOOL_KEYS if turn.get(key)]
    if used or name in TOOL_ROLES:
        raise RejectedRecord(
            "tools", f"turn {number}: {used[0] if used else name!r}: the chat template has no place for tools"
        )
    if not isinstance(name, str) or (role := ROLE_OF_SPEAKER.get(name.lower())) is None:
        raise RejectedRecord(
            "malformed", f"turn {number}: role: must be one of {', '.join(ROLE_OF_SPEAKER)}, found {name!r}"
        )
    content = content_text(turn.get("content", turn.get("value")), f"turn {number}: content")
    for key in LOSS_WEIGHT_KEYS:
        if role == "assistant" and (said := turn.get(key)) is not None and said not in (1, True):
            raise RejectedRecord(
                "weight", f"turn {number}: {key} {said!r}: a turn that is not to be learnt, or in part only"
            )
    ignored.update(f"messages.{key}" for key, value in turn.items() if key not in TURN_KEYS | PROVENANCE_KEYS and value)
    return None if role == "system" and not content.strip() else {"role": role, "content": content}


def content_text(content: Any, where: str) -> str:
    """A content as text: as it is, or OpenAI's list of parts, a line each.

    Raises:
        RejectedRecord: malformed, not_text.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RejectedRecord("malformed", f"{where}: must be text, found {type(content).__name__}")
    texts: list[str] = []
    for part in content:
        said = part.get("text", part.get("value")) if isinstance(part, Mapping) else part
        if isinstance(part, Mapping) and part.get("type", "text") not in ("text", "input_text", "output_text"):
            raise RejectedRecord("not_text", f"{where}: holds a part of type {part.get('type')!r}")
        if not isinstance(said, str):
            raise RejectedRecord("malformed", f"{where}: holds a part without text")
        texts.append(said)
    return "\n".join(texts)


def refuse_unlearnable(record: Mapping[str, Any]) -> None:
    """Refuse a record that says beside its turns what they cannot be understood without, or that they were no good.

    Raises:
        RejectedRecord: tools (definitions of them), not_text (pictures, sounds, films), disliked (`label` false, as in data for KTO).
    """
    if record.get("label") is False:
        raise RejectedRecord("disliked", "label: false: a reply that was rated bad, which is not to be learnt from")
    for key in ("tools", "functions"):
        if record.get(key) not in (None, "", "[]", [], {}):
            raise RejectedRecord("tools", f"{key}: the chat template has no place for tools")
    for key in ("image", "images", "audio", "audios", "video", "videos"):
        if record.get(key):
            raise RejectedRecord("not_text", f"{key}: what the turns speak of is no text")


def with_system(system: Any, messages: list[Message]) -> list[Message]:
    """The messages with a record's `system` before them; a system message of their own follows in it.

    Raises:
        RejectedRecord: malformed: it is no text.
    """
    if not isinstance(system, str | None):
        raise RejectedRecord("malformed", f"system: must be text, found {type(system).__name__}")
    if not system or not system.strip():
        return messages
    inner = [message["content"] for message in messages[:1] if message["role"] == "system"]
    lead: Message = {"role": "system", "content": "\n\n".join([system, *inner])}
    return [lead, *messages[len(inner) :]]
