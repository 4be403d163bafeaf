"""The GGUF file that is served, and what is known of it before it is loaded."""

import json
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.restore import recover
from tasks.model.served_format import SERVED_FORMATS
from tasks.model.tokenizer_files import has_chat_template

QUANTIZED_FOLDER = Path("data/quantize")


@dataclass(frozen=True)
class ServedModel:
    """What is known of a GGUF file.

    Attributes:
        context: tokens that it was trained to read at once.
        chats: whether it was tuned to answer; a base model, which has no chat template beside it, continues a text.
    """

    path: Path
    context: int
    has_chat_template: bool


def find_model() -> Path:
    """The GGUF that the stage quantize made.

    Raises:
        UserError: it made none.
    """
    if not QUANTIZED_FOLDER.exists():
        recover(Path.cwd())
    made = [path for name in SERVED_FORMATS if (path := QUANTIZED_FOLDER / name / "model.gguf").exists()]
    if made:
        return made[0]
    if QUANTIZED_FOLDER.exists():
        if reason := _why_none():
            raise UserError(f"{QUANTIZED_FOLDER}: holds no GGUF model: {reason}. It is neither chatted with nor served")
        raise UserError(
            f"{QUANTIZED_FOLDER}: holds no GGUF model. Name one in params.yaml, quantize.formats, and make run"
        )
    raise UserError(f"{QUANTIZED_FOLDER}: no model is there yet. Make it first: make run")


def _why_none() -> str | None:
    """Why quantize passed over the GGUF formats; None: it did not."""
    table = QUANTIZED_FOLDER / "table.json"
    passed_over = json.loads(table.read_text(encoding="utf-8")).get("passed_over") if table.exists() else None
    return next(iter(passed_over.values())) if passed_over else None


def read_model(path: Path) -> ServedModel:
    """Look at a GGUF file.

    Raises:
        UserError: there is no such file, or it is no GGUF.
    """
    from gguf import GGUFReader

    if not path.is_file():
        raise UserError(f"{path}: no such model. Make it first: make run")
    try:
        reader = GGUFReader(path)
        architecture = reader.get_field("general.architecture").contents()  # type: ignore[union-attr]
        context = reader.get_field(f"{architecture}.context_length").contents()  # type: ignore[union-attr]
        return ServedModel(path, int(context), has_chat_template(path.parent))
    except (ValueError, KeyError, AttributeError, IndexError) as error:
        raise UserError(f"{path}: no readable GGUF model ({error}). Restore it: dvc checkout --force {path}") from None
