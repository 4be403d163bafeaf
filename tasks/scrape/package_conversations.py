"""Conversations out of installed Python packages."""

import importlib.util
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tasks.conversations.conversation import Message, render_conversation
from tasks.core.errors import UserError
from tasks.scrape.files.row_documents import ScrapedDocument


def _chitchat(folder: Path) -> Iterator[ScrapedDocument]:
    """The Chit-Chat Challenge: pairs of people who talk for a while. Who spoke first is the user, the other the assistant.

    What one person writes in a row is one message, a line for each of its parts.
    """
    conversations: dict[str, dict[str, Any]] = json.loads((folder / "dataset.json").read_bytes())
    for name, conversation in sorted(conversations.items()):
        said = [part for parts in conversation["messages"] for part in parts if part["text"].strip()]
        messages: list[Message] = []
        for sender, parts in itertools.groupby(said, key=lambda part: str(part["sender"])):
            role = "user" if sender == said[0]["sender"] else "assistant"
            messages.append({"role": role, "content": "\n".join(part["text"] for part in parts)})  # type: ignore[typeddict-item]
        where = f"conversation {name}"
        url = f"package:chitchat-dataset/{name}"
        content = json.dumps(conversation["messages"], ensure_ascii=False, sort_keys=True).encode()
        if not messages:
            yield ScrapedDocument(where, url, content, "", reason="empty", detail=where)
            continue
        meta: dict[str, Any] = {"messages": messages}
        if conversation.get("prompt"):
            meta["prompt"] = conversation["prompt"]
        yield ScrapedDocument(where, url, content, render_conversation(messages), meta)


PACKAGES: dict[str, tuple[str, str, Callable[[Path], Iterator[ScrapedDocument]]]] = {
    "chitchat-dataset": ("chitchat_dataset", "MIT", _chitchat),
}
"""Name for pip → module, licence, reader of the module's folder."""


def licence(package: str) -> str:
    return PACKAGES[package][1]


def package_folder(package: str) -> Path:
    """The folder of an installed package.

    Raises:
        UserError: it is not installed.
    """
    found = importlib.util.find_spec(PACKAGES[package][0])
    if found is None or not found.submodule_search_locations:
        raise UserError(f"scrape: the package {package} is not installed. Install it: pip install {package}")
    return Path(next(iter(found.submodule_search_locations)))


def read(package: str) -> Iterator[ScrapedDocument]:
    """The conversations of a package, sorted by their names.

    Raises:
        UserError: the package is not installed, or its data are damaged.
    """
    folder, reader = package_folder(package), PACKAGES[package][2]
    try:
        yield from reader(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"scrape: the data of the package {package} in {folder} cannot be read ({error!r}). "
            f"Install it anew: pip install --force-reinstall {package}"
        ) from None
