"""The files of a tokenizer, as they stand in a Hugging Face folder."""

import shutil
from pathlib import Path

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer and chat template in `source` into the folder `target`, byte for byte."""
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
