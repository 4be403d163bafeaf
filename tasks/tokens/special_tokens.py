"""Special tokens: the tokens of a tokenizer that stand for no text; which they are, which one begins a document, which one fills rows."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.tokens.chat_template import PAD, START


@dataclass(frozen=True)
class SpecialTokens:
    """Control tokens of a tokenizer, by their text.

    Attributes:
        ids: of each control token its id.
        named: bos_token, eos_token, ... as the tokenizer's settings name them, without those that are not in `ids`.
        start: what stands between documents: `<|endoftext|>` where there is one, else the token that begins a text
            (bos_token), else the one that ends it (eos_token).
        pad: what fills short rows: `<|pad|>`, else pad_token, else `start`.
    """

    ids: dict[str, int]
    named: dict[str, str]
    start: str
    pad: str


def read_special_tokens(folder: Path) -> SpecialTokens:
    """The control tokens of the tokenizer in `folder` (tokenizer.json, tokenizer_config.json).

    Raises:
        UserError: the files cannot be read, or no token begins or ends a text.
    """
    path = folder / "tokenizer.json"
    try:
        added = json.loads(path.read_text(encoding="utf-8"))["added_tokens"]
        settings = folder / "tokenizer_config.json"
        configured = json.loads(settings.read_text(encoding="utf-8")) if settings.exists() else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: holds no readable tokenizer ({error!r}). Make it: dvc repro tokenizer") from None
    ids = {token["content"]: token["id"] for token in added if token["special"]}
    named = {
        name: text
        for name in ("bos_token", "eos_token", "pad_token", "unk_token")
        if (text := _text(configured.get(name))) in ids
    }
    candidates = [START, named.get("bos_token"), named.get("eos_token")]
    start = next((token for token in candidates if token in ids), None)
    if start is None:
        raise UserError(
            f"{folder}: has no token {START}, and tokenizer_config.json names neither bos_token nor eos_token: nothing "
            "can tell documents apart"
        )
    pad = PAD if PAD in ids else named.get("pad_token", start)
    return SpecialTokens(ids, named, start, pad)


def _text(token: Any) -> str:
    """A token in tokenizer_config.json is its text, or a mapping with it."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")
