"""The ids of special tokens that a model needs, and the tokens that an objective adds after the tokenizer's vocabulary."""

from dataclasses import dataclass

from tasks.architectures.families.family import ObjectiveName

MASK = "<|mask|>"


def sentinel(number: int) -> str:
    """The name of the sentinel that stands for span `number` (from 0), as T5's tokenizers have it."""
    return f"<extra_id_{number}>"


@dataclass(frozen=True)
class SpecialIds:
    """Ids of special tokens; `added` are the names of those after the tokenizer's `vocabulary` tokens, in the order of their ids."""

    vocabulary: int
    document_start: int
    pad: int
    added: tuple[str, ...] = ()

    @property
    def embedding_rows(self) -> int:
        return self.vocabulary + len(self.added)

    @property
    def mask(self) -> int:
        """The id that stands for a masked token.

        Raises:
            ValueError: the objective masks nothing.
        """
        return self.vocabulary + self.added.index(MASK)

    @property
    def sentinels(self) -> range:
        """The ids of the sentinels, that of the first span first."""
        return range(self.vocabulary, self.vocabulary + sum(name != MASK for name in self.added))


def special_ids(objective: ObjectiveName, vocabulary: int, document_start: int, pad: int, spans: int = 0) -> SpecialIds:
    """The special ids of an objective over a tokenizer of `vocabulary` tokens; `spans`: how many a document can have at most."""
    added: tuple[str, ...] = ()
    if objective == "span_corruption":
        added = tuple(sentinel(number) for number in range(spans))
    elif objective != "causal":
        added = (MASK,)
    return SpecialIds(vocabulary, document_start, pad, added)
