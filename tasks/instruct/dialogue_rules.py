"""Rules for dialogues: what a dialogue must be to be learnt from; checked, trimmed to end with a reply, cut into windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from tasks.conversations.conversation import Message, Role, trim_content
from tasks.conversations.turns import RejectedRecord
from tasks.similarity.canonical_text import canonical_text


@dataclass(frozen=True)
class DialogueRules:
    """What a dialogue is checked by; see `InstructParams`."""

    validation_fraction: float
    questions: bool
    max_turns: int
    max_turn_characters: int
    min_distinct: float


class Turn(BaseModel):
    """One message; its content is not blank."""

    model_config = ConfigDict(strict=True)

    role: Role
    content: str

    @field_validator("content")
    @classmethod
    def _says_something(cls, content: str) -> str:
        if not content.strip():
            raise PydanticCustomError("empty_turn", "has no text")
        if not content.isascii() and any("\ud800" <= character <= "\udfff" for character in content):
            raise PydanticCustomError("surrogate", "holds half of a surrogate pair")  # JSON can write it, UTF-8 cannot
        return content


class Dialogue(BaseModel):
    """An optional system message, then user and assistant in turn, the user first and the assistant last.

    A last turn of the user, which nobody answers, is left out.
    """

    model_config = ConfigDict(strict=True)

    messages: list[Turn] = Field(min_length=1)

    @model_validator(mode="after")
    def _alternates(self) -> "Dialogue":
        turns = self.messages[1:] if self.messages[0].role == "system" else self.messages
        if turns and turns[0].role != "user":
            raise PydanticCustomError("not_begun_by_user", "begins with {role}", {"role": turns[0].role})
        for number, turn in enumerate(turns):
            if turn.role != ("user", "assistant")[number % 2]:
                raise PydanticCustomError(
                    "roles_do_not_alternate",
                    "turn {number} is of {role} again or out of place",
                    {"number": number, "role": turn.role},
                )
        if len(turns) % 2:
            self.messages.pop()
        if len(turns) < 2:
            raise PydanticCustomError("no_reply", "the assistant never speaks")
        return self


REASONS = ("empty_turn", "not_begun_by_user", "roles_do_not_alternate", "no_reply")
"""What `Dialogue` rejects for; any other mistake is "malformed"."""


def check_dialogue(messages: Any, max_turn_characters: int, min_distinct: float) -> list[Message]:
    """The messages of a valid dialogue, trimmed.

    Raises:
        RejectedRecord: malformed, empty_turn, not_begun_by_user, roles_do_not_alternate, no_reply, turn_too_long (text pasted
            in rather than said) or repetitive (a smaller share than `min_distinct` of the turns differs: echoes, spam).
    """
    try:
        turns = Dialogue.model_validate({"messages": messages}).messages
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["type"] if first["type"] in REASONS else "malformed"
        raise RejectedRecord(reason, f"{where}: {first['msg']}") from None
    if (longest := max(len(turn.content) for turn in turns)) > max_turn_characters:
        raise RejectedRecord("turn_too_long", f"{longest} > {max_turn_characters} characters")
    distinct = len({canonical_text(turn.content) for turn in turns}) / len(turns)
    if len(turns) > 2 and distinct < min_distinct:
        raise RejectedRecord("repetitive", f"{distinct:.2f} < {min_distinct} of the turns differ")
    return [cast(Message, {"role": turn.role, "content": trim_content(turn.content)}) for turn in turns]


def check_rejected(rejected: str, chosen: str, max_turn_characters: int) -> str:
    """The reply that was liked less, trimmed.

    Raises:
        RejectedRecord: as `check_dialogue` does of a turn; equal_sides.
    """
    said = check_dialogue(
        [{"role": "user", "content": "-"}, {"role": "assistant", "content": rejected}], max_turn_characters, 0
    )[1]["content"]
    if said == chosen:
        raise RejectedRecord("equal_sides", "chosen and rejected say the same")
    return said


def split_dialogue(messages: Sequence[Message], max_turns: int) -> list[list[Message]]:
    """Cut a checked dialogue into parts of at most `max_turns` turns (rounded down to whole exchanges).

    The system message, which does not count, leads each part.
    """
    lead = [message for message in messages[:1] if message["role"] == "system"]
    turns = messages[len(lead) :]
    step = max(max_turns // 2 * 2, 2)
    return [[*lead, *turns[start : start + step]] for start in range(0, len(turns), step)]
