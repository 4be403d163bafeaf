"""The bytes that each token of a byte-level tokenizer stands for."""

from pathlib import Path

from tasks.tokens.encode import load_tokenizer
from tasks.tokens.fast_bpe import unicode_to_bytes
from tasks.tokens.special_tokens import read_special_tokens


def read_token_texts(tokenizer: Path) -> list[bytes]:
    """Of each id its bytes, empty for control tokens.

    Raises:
        UserError: the tokenizer cannot be read.
    """
    vocabulary = load_tokenizer(tokenizer).get_vocab(with_added_tokens=True)
    special = set(read_special_tokens(tokenizer).ids)
    alphabet = unicode_to_bytes()
    texts = [b""] * (max(vocabulary.values()) + 1)
    for token, number in vocabulary.items():
        if token not in special:
            texts[number] = b"".join(
                bytes([alphabet[letter]]) if letter in alphabet else letter.encode() for letter in token
            )
    return texts
