"""Byte-level BPE by tiktoken from the merges that Hugging Face's trainer found, where both must give the same ids.

tiktoken joins the neighbours whose joined bytes have the lowest rank, Hugging Face the pair that comes first in the list
of merges. These differ where two neighbours spell a token but are not the pair it was merged from. In a list that a trainer
made they never do: each token has one merge, in the order of the ids, and its own bytes are merged to it. That is
checked here (tests/tokens/test_encode.py looks for counterexamples among random lists), and then the ids on a probe.
"""

import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiktoken import Encoding
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)
GPT2_SPLIT = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
"""How GPT-2 splits text, in the form without needless backtracking (tiktoken_ext/openai_public.py, r50k_pat_str)."""
MAX_WHITE_SPACE = 250_000
"""White space in a row on which tiktoken's regular expression still works: it steps back from it, up to 1,000,000 deep."""
_SPACE = re.compile(r"\s+")
PROBES = (
    "<|endoftext|><|end|>",
    "don't we'LL I'd 'twas '",
    "  two\t\ttabs \r\n\r\n end  ",
    "   \u00a0\u2003\u3000x\u0085y\u2028 \u200b\x1c \x0b\x0c",
    "١٢٣ Ⅻ ½x² 12a3 a\u0301e \u0419\u0306 日本語の文章。 हिन्दी",
    "\U0001f469\u200d\U0001f4bb \U0010ffff \x00\x01\x7f\ufeff",
    "Ġ Ċ Ã¢ " + "ab" * 300 + "!?" * 300 + "\n" * 300 + "0" * 300,
)
"""Texts on which splitters differ first: contractions, kinds of white space, marks, numbers, long runs."""


def tiktoken_encoding(path: Path, tokenizer: "Tokenizer") -> "Encoding | None":
    """The encoder of tiktoken for `tokenizer`, which is the file `path`; None where it would not give the same ids."""
    import tiktoken

    content = json.loads(path.read_text(encoding="utf-8"))
    ranks = _mergeable_ranks(content)
    if ranks is None or not merges_are_complete(tokenizer, content):
        return None
    special = {token["content"]: token["id"] for token in content["added_tokens"]}
    encoding = tiktoken.Encoding(
        str(path), pat_str=GPT2_SPLIT, mergeable_ranks=ranks, special_tokens=special or {"<|endoftext|>": len(ranks)}
    )
    # Of the vocabulary itself: every token, among neighbours that it was not trained with.
    by_ending: list[bytes] = sorted(ranks, key=lambda token: token[::-1])
    written = b"".join(by_ending).decode(errors="replace")
    for probe in (*PROBES, written[:200_000]):
        theirs = tokenizer.encode(probe, add_special_tokens=False).ids
        if encoding.encode_to_numpy(probe, disallowed_special=()).tolist() != theirs:
            log.warning("%s: tiktoken gives other ids for %r, so the slower engine encodes", path, probe[:60])
            return None
    return encoding


def merges_are_complete(tokenizer: "Tokenizer", content: dict[str, Any]) -> bool:
    """Whether the merges join each token's own letters to that token, and not to others first."""
    special = {token["content"] for token in content["added_tokens"]}
    return all(len(tokenizer.model.tokenize(token)) == 1 for token in content["model"]["vocab"] if token not in special)


def is_safe_for_tiktoken(text: str) -> bool:
    """Whether tiktoken can split the text: it panics on very long runs of white space."""
    return len(text) < MAX_WHITE_SPACE or all(
        found.end() - found.start() < MAX_WHITE_SPACE for found in _SPACE.finditer(text)
    )


def unicode_to_bytes() -> dict[str, int]:
    """GPT-2's alphabet, in which byte-level tokens are written: printable bytes as themselves, others from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in set(printable))
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


def _mergeable_ranks(content: dict[str, Any]) -> dict[bytes, int] | None:
    """Bytes and id of each token; None unless splitting and merging are those that tiktoken does."""
    model, split = content["model"], content.get("pre_tokenizer") or {}
    if model.get("type") != "BPE" or any(
        model.get(name)
        for name in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    ):
        return None
    if any(content.get(name) for name in ("normalizer", "truncation", "padding")):
        return None
    if (split.get("type"), split.get("add_prefix_space"), split.get("use_regex", True)) != ("ByteLevel", False, True):
        return None
    if not all(token["special"] for token in content["added_tokens"]):
        return None  # these would be found in text
    special = {token["content"] for token in content["added_tokens"]}
    plain = {token: number for token, number in model["vocab"].items() if token not in special}
    alphabet = unicode_to_bytes()
    if not alphabet.keys() <= plain.keys() or not set("".join(plain)) <= alphabet.keys():
        return None
    merged = ["".join(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    if merged != sorted((token for token in plain if len(token) > 1), key=plain.__getitem__):
        return None  # a token with two merges or with none, or merges in another order than the ids
    return {bytes(alphabet[letter] for letter in token): number for token, number in plain.items()}
