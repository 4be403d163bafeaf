"""The files of a tokenizer, as they stand in a Hugging Face folder."""

import json
import shutil
from pathlib import Path

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
CHAT_TEMPLATE_FILE = "chat_template.jinja"


def copy_tokenizer(source: Path, target: Path, chat: bool = True) -> None:
    """Copy the tokenizer in `source` into the folder `target`, byte for byte, and with `chat` its chat template."""
    for name in TOKENIZER_FILES:
        if (source / name).exists() and (chat or name != CHAT_TEMPLATE_FILE):
            shutil.copyfile(source / name, target / name)


def has_chat_template(folder: Path) -> bool:
    """Whether the tokenizer in `folder` says how a chat is written; that of a base model does not."""
    if (folder / CHAT_TEMPLATE_FILE).exists():
        return True
    settings = folder / "tokenizer_config.json"
    return settings.exists() and "chat_template" in json.loads(settings.read_text(encoding="utf-8"))
