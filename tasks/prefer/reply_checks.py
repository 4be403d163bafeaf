"""Checks of a reply that need no judge: it ends, has a person's length, repeats nothing, takes up a word, closes its sentence.

Weighted, they are the reward; they tell form from formlessness, and nothing on whether a reply is right or to the point.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field, model_validator

from tasks.conversations.conversation import ROLE_MARKER, Message
from tasks.core.params import StageParams
from tasks.documents.word_characters import words

COMMON_SHARE = 0.02
"""Words in more than this share of the messages say nothing of what a message is about ..."""
FEWEST_TIMES = 5
"""... but for those in fewer messages than this."""
WINDOW, FEWEST_DISTINCT = 10, 0.6
"""A reply repeats itself where of so many words in a row a smaller share than this differ ..."""
FEWEST_DISTINCT_TRIPLES = 0.9
"""... or a smaller share of all its runs of three words: long texts have some twice."""
NO_CLOSE = ",;:\u3001\uff0c\uff1a\uff1b"
"""Punctuation after which something is to follow."""


class RewardParams(StageParams):
    """What each check is worth, and the length of a reply; the reward is the share of the worth that a reply earns."""

    ended: float = Field(0.3, ge=0, description="That it ends by itself, in no more than `max_new_tokens`.")
    length: float = Field(0.2, ge=0, description="That it has as many words as people's: `min_words` to `max_words`.")
    fresh: float = Field(0.2, ge=0, description="That it does not say the same words over and over.")
    related: float = Field(
        0.15, ge=0, description="That it takes up a word of the message, not one of the most common."
    )
    closed: float = Field(0.15, ge=0, description="That its last character closes a sentence.")
    min_words: int | None = Field(
        None,
        ge=1,
        description="Words (in scripts without spaces, characters). null: all but a tenth of the replies have more.",
    )
    max_words: int | None = Field(
        None, ge=1, description="null: all but a tenth of the replies to train on have fewer."
    )

    @model_validator(mode="after")
    def _something_to_earn(self) -> "RewardParams":
        if not sum(self.worth.values()):
            raise ValueError("every check is worth 0, so no reply is better than another")
        if self.min_words and self.max_words and self.min_words > self.max_words:
            raise ValueError(f"min_words: {self.min_words} is more than max_words, {self.max_words}")
        return self

    @property
    def worth(self) -> dict[str, float]:
        return {
            "ended": self.ended,
            "length": self.length,
            "fresh": self.fresh,
            "related": self.related,
            "closed": self.closed,
        }


@dataclass(frozen=True)
class ReplyChecks:
    """The checks, with what the conversations at hand have it that replies are: of `shortest` to `longest` words.

    Their `common` words say nothing of what a message is about.
    """

    params: RewardParams
    shortest: int
    longest: int
    common: frozenset[str]

    @classmethod
    def of(cls, params: RewardParams, conversations: Sequence[Sequence[Message]]) -> "ReplyChecks":
        """The checks for replies as those in `conversations`, of which one reply at least is there."""
        said = [(message["role"], words(message["content"].casefold())) for each in conversations for message in each]
        lengths = sorted(len(found) for role, found in said if role == "assistant")
        tenth = len(lengths) // 10
        count: Counter[str] = Counter()
        for _, found in said:
            count.update(set(found))
        common = frozenset(w for w, times in count.items() if times > max(FEWEST_TIMES, COMMON_SHARE * len(said)))
        longest = params.max_words or max(1, lengths[-1 - tenth])
        return cls(params, min(params.min_words or max(1, lengths[tenth]), longest), longest, common)

    def passed(self, messages: Sequence[Message], reply: str, ended: bool) -> dict[str, bool]:
        """Which checks the reply to the last message passes. One that writes a speaker's name for itself passes none."""
        if ROLE_MARKER.search(reply):
            return dict.fromkeys(self.params.worth, False)
        said = words(reply.casefold())
        asked = set(words(messages[-1]["content"].casefold()))
        return {
            "ended": ended,
            "length": self.shortest <= len(said) <= self.longest,
            "fresh": bool(said) and not repeats(said),
            "related": bool(asked.intersection(said) - self.common),
            "closed": closes(reply),
        }

    def score(self, passed: Mapping[str, bool]) -> float:
        """0 to 1: the share of what the checks are worth that a reply earns."""
        worth = self.params.worth
        return sum(worth[name] for name, passes in passed.items() if passes) / sum(worth.values())


def repeats(said: Sequence[str]) -> bool:
    """Whether the words come again and again."""
    windows = [said[at : at + WINDOW] for at in range(max(1, len(said) - WINDOW + 1))]
    triples = list(zip(said, said[1:], said[2:], strict=False))
    few = any(len(set(window)) < FEWEST_DISTINCT * len(window) for window in windows)
    return few or len(set(triples)) < FEWEST_DISTINCT_TRIPLES * len(triples)


def closes(reply: str) -> bool:
    """Whether the last character closes a sentence: a mark, a quotation or bracket, or a symbol as an emoji is one."""
    last = reply.rstrip()[-1:]
    return bool(last) and last not in NO_CLOSE and unicodedata.category(last) in {"Po", "Pe", "Pf", "So", "Mn"}
