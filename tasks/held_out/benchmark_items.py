"""Benchmark items: files of benchmark items that training text is held against; records with `text`, with `question`, or with messages."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.conversations.instruction_formats import read_records, to_messages
from tasks.conversations.turns import RejectedRecord
from tasks.core.errors import UserError


@dataclass(frozen=True)
class BenchmarkItem:
    """An item: the file as params.yaml names it, its number there (JSON Lines: the line), and what to look for."""

    file: str
    number: int
    texts: list[str]

    @property
    def name(self) -> str:
        """What a removed document names as `matched`."""
        return f"{self.file}#{self.number}"


def read_benchmark_items(stage: str, files: Sequence[str], paths: Mapping[str, Path]) -> Iterator[BenchmarkItem]:
    """The items of `files`, as `<stage>.references` names them; they must be among `paths`, the stage's dependencies.

    A question and its answer, and the two turns of one exchange, are looked for each by itself; a longer conversation, and
    a text, as a whole.

    Raises:
        UserError: a file is no dependency of the stage, is missing, holds no item, or a record that is none.
    """
    for file in files:
        wanted, items = Path(file).parts, 0
        path = next((path for path in paths.values() if path.parts[-len(wanted) :] == wanted), None)
        if path is None:
            raise UserError(
                f"params.yaml: {stage}.references: {file} is no dependency of {stage} in dvc.yaml. Add it to "
                "the deps there, so that the stage runs again when the file changes"
            )
        try:
            for number, record in read_records(path):
                yield BenchmarkItem(file, number, _texts(record, f"{path}, record {number}"))
                items += 1
        except OSError as error:
            raise UserError(f"params.yaml: {stage}.references: {path}: {error.strerror}") from None
        if not items:
            raise UserError(f"params.yaml: {stage}.references: {path}: holds no item")


def _texts(record: Any, where: str) -> list[str]:
    if isinstance(record, Mapping) and not {"messages", "conversations", "instruction"} & record.keys():
        asked = "text" if "text" in record else "question"
        texts = [record.get(key) for key in ([asked] if asked == "text" else ["question", "answer"])]
        if not isinstance(texts[0], str) or not texts[0].strip():
            raise UserError(f"{where}: no item: it needs text in `text`, in `question` (with `answer`), or messages")
        return [text for text in texts if isinstance(text, str)]  # an answer may be the number of a choice
    try:
        said = [str(message["content"]) for message in to_messages(record, "auto") if message["content"]]
    except RejectedRecord as rejected:
        if rejected.reason == "malformed":
            raise UserError(f"{where}: no item: {rejected.detail}") from None
        # What nobody may learn from, such as a call of a tool, is held out all the same.
        turns = record.get("messages") or record.get("conversations") or []
        contents = [turn.get("content", turn.get("value")) for turn in turns if isinstance(turn, Mapping)]
        said = [content for content in contents if isinstance(content, str) and content]
    if not said:
        raise UserError(f"{where}: no item: its messages have no content")
    return said if len(said) <= 2 else ["\n".join(said)]
