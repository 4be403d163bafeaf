"""Items of the files of records that `instruct.files` names."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.conversations.conversation import render_conversation
from tasks.conversations.instruction_formats import Format, read_records, to_messages
from tasks.conversations.turns import RejectedRecord
from tasks.core.errors import UserError
from tasks.core.parallel.item_guard import guard_item
from tasks.core.paths import matching_files
from tasks.documents.shards import document_id
from tasks.formats.symlinks import contained_matches
from tasks.held_out.split import split_of
from tasks.instruct.dialogue_rules import DialogueRules, check_dialogue, check_rejected
from tasks.instruct.item_rows import ADVICE, dialogue_rows
from tasks.instruct.preference_pairs import is_pair, to_pair
from tasks.similarity.canonical_text import canonical_text, digest


@dataclass(frozen=True)
class InstructionFile:
    """One file of instruction data and the name of its shard."""

    path: Path
    format: Format
    source: str
    stem: str


def instruction_files(files: Sequence[tuple[str, Format, str]]) -> list[InstructionFile]:
    """The files (path or glob, format, source) that `instruct.files` names, in the order of the list, globs sorted.

    Raises:
        UserError: nothing matches a path.
    """
    found: list[InstructionFile] = []
    for number, (pattern, format_, source) in enumerate(files):
        paths = contained_matches(matching_files(pattern), pattern)
        if not paths:
            raise UserError(f"params.yaml: instruct.files.{number}.path: no file matches {pattern}")
        found += [InstructionFile(path, format_, source, f"file-{number:03d}-{k:05d}") for k, path in enumerate(paths)]
    return found


def record_rows(file: InstructionFile, rules: DialogueRules, ignored: Counter[str]) -> Iterator[dict[str, Any]]:
    """A row an item or a record that is no use, which has a `reason`; keys that nothing is learnt from are counted in `ignored`."""
    for number, record in read_records(file.path):
        content = json.dumps(record, sort_keys=True, ensure_ascii=False, default=str)
        url = f"{file.path.as_posix()}#{number}"
        name = document_id(file.source, url, content.encode("utf-8", "surrogatepass"))
        with guard_item(f"{file.path}: record {number}", len(content), ADVICE):
            entries = list(_of_record(record, content, url, name, number, file, rules, ignored))
        yield from entries


def _of_record(
    record: Any,
    content: str,
    url: str,
    name: str,
    number: int,
    file: InstructionFile,
    rules: DialogueRules,
    ignored: Counter[str],
) -> Iterator[dict[str, Any]]:
    less: str | None = None
    try:
        if file.format == "preference" or (file.format == "auto" and is_pair(record)):
            pair = to_pair(record, ignored)
            checked = check_dialogue(pair.messages, rules.max_turn_characters, rules.min_distinct)
            less = check_rejected(pair.rejected, checked[-1]["content"], rules.max_turn_characters)
        else:
            messages = to_messages(record, file.format, ignored)
            checked = check_dialogue(messages, rules.max_turn_characters, rules.min_distinct)
    except RejectedRecord as rejected:
        shown, detail = (
            text.encode("utf-8", "replace").decode() for text in (content, f"record {number}: {rejected.detail}")
        )
        removed = {"id": name, "source": file.source, "url": url, "text": shown, "reason": rejected.reason}
        yield removed | {"detail": detail}
        return
    # Pairs of one prompt, as rankings give them, are on one side of the split.
    divided = name if less is None else digest(canonical_text(render_conversation(checked[:-1]))).hex()
    split = split_of([divided], rules.validation_fraction)[0]
    yield from dialogue_rows(name, checked, {"source": file.source, "split": split, "url": url}, rules.max_turns, less)
