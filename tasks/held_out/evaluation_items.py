"""What is asked of a model in an evaluation: a question, a choice, or a text to predict; told apart by a record's keys.

| keys | item |
| --- | --- |
| `question` (and `context`, which leads it), `answer` or `answers` | question; one of the answers is right (SQuAD's form too) |
| `messages`, `conversations` or `instruction` | question; the last turn is the answer |
| `question`, `choices` (or columns `A`, `B`, ...), `answer`, `answerKey` or `label` | multiple choice (ARC's and MMLU's forms) |
| `text` | text, for bits per byte |
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.conversations.conversation import Message
from tasks.conversations.instruction_formats import to_messages
from tasks.conversations.turns import RejectedRecord

RIGHT_KEYS = ("answer", "answerKey", "label")


@dataclass(frozen=True)
class ItemLocation:
    """Where an item stands: the file, and the number of its record there."""

    file: str
    number: int


@dataclass(frozen=True)
class Question(ItemLocation):
    """What is asked, and the answers of which each is right."""

    prompt: list[Message]
    answers: list[str]

    def texts(self) -> list[str]:
        """What to look for in training text: of one question it and its answers each by itself, else all as a whole."""
        asked = [message["content"] for message in self.prompt]
        return [*asked, *self.answers] if len(asked) == 1 else ["\n".join([*asked, self.answers[0]])]


@dataclass(frozen=True)
class Choice(ItemLocation):
    """A question, what there is to choose, and the number of the right choice, from 0."""

    question: str
    choices: list[str]
    right: int

    def texts(self) -> list[str]:
        """What to look for in training text: the question, and the right choice."""
        return [self.question, self.choices[self.right]]


@dataclass(frozen=True)
class TextItem(ItemLocation):
    """A text that a model is to predict."""

    text: str

    def texts(self) -> list[str]:
        """What to look for in training text."""
        return [self.text]


Item = Question | Choice | TextItem


def parse_item(record: Any, file: str, number: int) -> Item:
    """The item that a record is.

    Raises:
        RejectedRecord: none; says which key is wrong.
    """
    if isinstance(record, RejectedRecord):
        raise record
    if not isinstance(record, Mapping):
        raise _no_item(f"a record must be an object, found {type(record).__name__}")
    if {"messages", "conversations", "instruction"} & record.keys():
        messages = to_messages(record, "auto")
        if len(messages) < 2 or messages[-1]["role"] != "assistant":
            raise _no_item("the last message must be the assistant's answer, after a question")
        return Question(file, number, messages[:-1], [messages[-1]["content"]])
    if "question" in record:
        context = [_text(record, "context")] if record.get("context") else []
        question = "\n\n".join([*context, _text(record, "question")])
        if choices := _choices(record):
            return Choice(file, number, question, *choices)
        return Question(file, number, [{"role": "user", "content": question}], _answers(record))
    if "text" in record:
        return TextItem(file, number, _text(record, "text"))
    keys = ", ".join(sorted(map(str, record))) or "none"
    raise _no_item(
        f"keys of no known form: {keys}. Known: question with answer or answers; question with choices and answer; "
        "messages; text"
    )


def _no_item(detail: str) -> RejectedRecord:
    return RejectedRecord("malformed", detail)


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise _no_item(f"{key}: must be text, found {value!r:.100}")
    return value


def _answers(record: Mapping[str, Any]) -> list[str]:
    given = record.get("answers", record.get("answer"))
    if isinstance(given, Mapping):  # SQuAD: {"text": [...], "answer_start": [...]}
        given = given.get("text")
    answers = [
        str(answer) for answer in (given if isinstance(given, Sequence) and not isinstance(given, str) else [given])
    ]
    if given is None or not answers or not all(answer.strip() for answer in answers):
        raise _no_item("answer: must be text or a list of texts (answers), or else choices are missing")
    return answers


def _choices(record: Mapping[str, Any]) -> tuple[list[str], int] | None:
    """The choices and the number of the right one; None where the record has none."""
    given, labels = record.get("choices"), list(string.ascii_uppercase)
    if given is None:
        columns = [letter for letter in labels if letter in record]
        if len(columns) < 2:
            return None
        given = [record[letter] for letter in columns]
    if isinstance(given, Mapping):  # ARC: {"text": [...], "label": [...]}
        labels = [str(label) for label in given.get("label") or labels]
        given = given.get("text")
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) < 2:
        raise _no_item("choices: must be a list of at least two texts")
    choices = [str(choice) for choice in given]
    if len(set(choices)) < len(choices) or not all(choice.strip() for choice in choices):
        raise _no_item("choices: are empty or repeat")
    return choices, _right(record, choices, labels[: len(choices)])


def _right(record: Mapping[str, Any], choices: list[str], labels: list[str]) -> int:
    """The number of the right choice: named by its text, by its label (A, B, ...), or by its number from 0."""
    key = next((key for key in RIGHT_KEYS if record.get(key) is not None), "answer")
    named = record.get(key)
    said = "" if named is None or isinstance(named, bool) else str(named).strip()
    for names in (choices, labels, [str(number) for number in range(len(choices))]):
        if said in names and not (isinstance(named, int) and names is choices):
            return names.index(said)
    raise _no_item(
        f"{key}: must name one of the {len(choices)} choices, by its text, by {labels[0]} to {labels[-1]} or by its number "
        f"from 0, found {named!r:.100}"
    )
