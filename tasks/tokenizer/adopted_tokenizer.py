"""Adopting the tokenizer of somebody else's model: its files, its chat template or ours, and what says whose it is."""

import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.paths import write_json
from tasks.model.gguf_support import pre_tokenizer, why_no_gguf
from tasks.model.start_from import SOURCE_FILE, ModelFiles, ModelSource, Stage, fingerprint, locate_model
from tasks.tokens.chat_encoder import require_template
from tasks.tokens.chat_format import read_template
from tasks.tokens.chat_template import END, PAD, ROLE_TOKENS, chat_template
from tasks.tokens.special_tokens import read_special_tokens

log = logging.getLogger(__name__)
SETTINGS_FILES = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def adopt_tokenizer(stage: Stage, name: str, folder: Path, wants_gguf: bool) -> ModelSource:
    """Write the tokenizer of the model `name` to `folder`, with a chat template that messages can be encoded by.

    That is its own, or where it has none, or one without a form (`tasks.tokens.chat_format`), Textmill's: the control tokens
    that this needs are added after all others.

    Raises:
        UserError: the model or tokenizer cannot be read, the tokenizer is not over bytes, or `wants_gguf` and there is
            no such export of it.
    """
    key = f"{stage}.start_from"
    located = locate_model(name, key)
    config = located.config()
    _write_tokenizer(located, folder)
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    _require_bytes(content, f"params.yaml: {key}: {name}")
    if wants_gguf and (reason := why_no_gguf(config.to_dict(), folder)):
        raise UserError(
            f"params.yaml: {key}: {name}: {reason}, so it cannot be exported to GGUF. Set quantize.formats to [torchao-int8], "
            "or start from another model"
        )
    added = _ensure_template(folder)
    text_config = config.get_text_config()
    source = ModelSource(
        name,
        stage,
        located.revision,
        fingerprint(located),
        str(config.model_type),
        int(text_config.max_position_embeddings),
        int(text_config.vocab_size),
        located.parameters(),
        added,
    )
    write_json(folder / SOURCE_FILE, asdict(source))
    return source


def _write_tokenizer(located: ModelFiles, folder: Path) -> None:
    """The tokenizer's files as they are; where there is no tokenizer.json, as transformers makes one of what there is."""
    if located.gguf is None and (located.folder / "tokenizer.json").is_file():
        for name in ("tokenizer.json", *SETTINGS_FILES):
            if (located.folder / name).is_file():
                shutil.copyfile(located.folder / name, folder / name)
        return
    from transformers import AutoTokenizer

    try:
        AutoTokenizer.from_pretrained(located.folder, **located.from_pretrained_options()).save_pretrained(folder)
        if not (folder / "tokenizer.json").is_file():
            raise ValueError("it has no fast form")
    except Exception as error:  # transformers, tokenizers and gguf raise all kinds
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{located.folder}: its tokenizer cannot be read ({reason})") from None
    if located.gguf:
        _split_as_gguf_says(located, folder / "tokenizer.json")


def _split_as_gguf_says(located: ModelFiles, path: Path) -> None:
    """Transformers splits text as GPT-2 does for every GGUF file; the file itself names the way."""
    from gguf import GGUFReader

    assert located.gguf  # noqa: S101
    field = GGUFReader(located.folder / located.gguf).get_field("tokenizer.ggml.pre")
    name = str(field.contents()) if field else "default"
    splitter = pre_tokenizer(name)
    if splitter is None:
        raise UserError(f"{located.folder / located.gguf}: splits text as {name!r}, which is not known here")
    content = json.loads(path.read_text(encoding="utf-8"))
    content["pre_tokenizer"] = splitter
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _require_bytes(content: dict[str, Any], where: str) -> None:
    from tokenizers import pre_tokenizers

    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    special = {token["content"] for token in content["added_tokens"]}
    vocabulary = content["model"].get("vocab", {})
    pieces = vocabulary if isinstance(vocabulary, dict) else [piece for piece, _ in vocabulary]
    if stray := set("".join(piece for piece in pieces if piece not in special)) - alphabet:
        raise UserError(
            f"{where}: its tokenizer is not over bytes (it has tokens with {''.join(sorted(stray)[:5])!r}), so text would not "
            "come back from its tokens. Start from a model with byte-level BPE: GPT-2's, Llama 3's, Qwen's, SmolLM2's kind"
        )


def _ensure_template(folder: Path) -> list[str]:
    """Keep the chat template if messages can be encoded by it, else put Textmill's in its place; the tokens added for it."""
    if read_template(folder) is not None:
        try:
            require_template(folder)
            return []
        except UserError as error:
            log.warning("tokenizer: Textmill's chat template takes the place of the model's own. %s", error)
    from tokenizers import Tokenizer

    tokens = read_special_tokens(folder)
    wanted = [PAD, *ROLE_TOKENS.values(), END]
    added = [token for token in wanted if token not in tokens.ids]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(added)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(chat_template(tokens.start), encoding="utf-8")
    settings = folder / "tokenizer_config.json"
    configured = json.loads(settings.read_text(encoding="utf-8")) if settings.exists() else {}
    configured.pop("chat_template", None)
    configured.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
    write_json(settings, {**configured, "pad_token": PAD})
    require_template(folder)
    return added
