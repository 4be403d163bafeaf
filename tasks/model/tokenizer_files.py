"""The files of a tokenizer, as they stand in a Hugging Face folder."""

import json
import shutil
from pathlib import Path

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer and chat template in `source` into the folder `target`, byte for byte."""
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def has_chat_template(folder: Path) -> bool:
    """Whether the tokenizer in `folder` says how a chat is written; that of a base model does not."""
    if (folder / "chat_template.jinja").exists():
        return True
    settings = folder / "tokenizer_config.json"
    return settings.exists() and "chat_template" in json.loads(settings.read_text(encoding="utf-8"))
