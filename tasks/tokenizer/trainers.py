"""Tokenizer models, all over bytes: the 256 bytes are in each vocabulary, so every text comes back byte for byte.

`bpe`: pairs merged by frequency (Sennrich et al. 2016, arXiv:1508.07909), on bytes as in GPT-2. The only one that GGUF
export takes and that tiktoken can encode.
`unigram`: the likeliest segmentation under a unigram language model (Kudo 2018, arXiv:1804.10959), as in SentencePiece.
`wordpiece`: longest match first (Schuster and Nakajima 2012, Devlin et al. 2019). As Hugging Face's trainer does it, the
vocabulary is BPE's; without BERT's `##`, since a word's first token carries its space; and a word longer than
`MAX_WORD_BYTES` bytes is cut, where BERT makes it unknown.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from tasks.core.errors import UserError
from tasks.core.progress import Progress
from tasks.tokens.chat_template import PAD, SPECIAL_TOKENS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ModelType = Literal["bpe", "unigram", "wordpiece"]
MAX_WORD_BYTES = 100
"""Bytes, BERT's `max_input_chars_per_word`: the work of WordPiece grows with the square of a word's length."""
SCORE_DECIMALS = 4
"""Of unigram log-probabilities: the trainer adds them up in random order, so that their last digits differ from run to run."""


def train_tokenizer(
    model: ModelType, vocabulary_size: int, min_frequency: int, texts: Iterator[str], total_bytes: int, key: str
) -> "Tokenizer":
    """Train on `texts`, of `total_bytes` in UTF-8; the same texts give the same tokenizer. Control tokens have the first ids.

    `min_frequency` is how often a pair must occur to be merged; unigram does not use it. `key` is the parameter that
    gives `vocabulary_size`, for messages.

    Raises:
        UserError: the texts do not give so large a vocabulary.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    # GPT-2's splitting and no prefix space: what llama.cpp calls the pre-tokenizer "gpt-2".
    splitter: Any = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    common: dict[str, Any] = {
        "vocab_size": vocabulary_size,
        "special_tokens": list(SPECIAL_TOKENS),
        "initial_alphabet": sorted(pre_tokenizers.ByteLevel.alphabet()),
        "show_progress": False,
    }
    empty: Any
    trainer: Any
    if model == "bpe":
        empty, trainer = models.BPE(), trainers.BpeTrainer(min_frequency=min_frequency, **common)
    elif model == "unigram":
        empty, trainer = models.Unigram(), trainers.UnigramTrainer(**common)
    else:
        # Nothing is unknown to a vocabulary with every byte. Were it, pack would miss the bytes of the padding token.
        empty = models.WordPiece(unk_token=PAD, continuing_subword_prefix="", max_input_chars_per_word=MAX_WORD_BYTES)
        trainer = trainers.WordPieceTrainer(min_frequency=min_frequency, continuing_subword_prefix="", **common)
        splitter = pre_tokenizers.Sequence([splitter, pre_tokenizers.FixedLength(MAX_WORD_BYTES)])
    tokenizer = Tokenizer(empty)
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    with Progress("tokenizer: reading", total=total_bytes, unit="bytes") as progress:

        def counted() -> Iterator[str]:
            for text in texts:
                yield text
                progress.advance(len(text.encode()))

        tokenizer.train_from_iterator(counted(), trainer)
    if model == "unigram":
        _canonicalize_unigram(tokenizer, vocabulary_size)
    if (size := tokenizer.get_vocab_size()) < vocabulary_size:
        what, hint = f"tokens in which a pair occurs at least {min_frequency} times", "lower tokenizer.min_frequency, "
        if model == "unigram":
            what, hint = "pieces that it holds", ""
        raise UserError(
            f"params.yaml: {key}: {vocabulary_size} is larger than the corpus allows: its {total_bytes:,} bytes give "
            f"{size} {what}. Set it to {size} or less, {hint}or add text"
        )
    return tokenizer


def truncate_vocabulary(tokenizer: "Tokenizer", vocabulary_size: int) -> "Tokenizer | None":
    """What training with a smaller `vocabulary_size` gives, without training: merges are found one after the other.

    None for a unigram model, which is pruned from above.
    """
    from tokenizers import Tokenizer

    content = json.loads(tokenizer.to_str())
    model = content["model"]
    if model["type"] == "Unigram":
        return None
    model["vocab"] = {token: number for token, number in model["vocab"].items() if number < vocabulary_size}
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if "".join(merge) in model["vocab"]]
    return Tokenizer.from_str(json.dumps(content))


def _canonicalize_unigram(tokenizer: "Tokenizer", vocabulary_size: int) -> None:
    """Take out of a trained unigram model what the trainer's random order of words put into it.

    That is the last digits of the scores, and with them the order of the ids; and which of the bytes without an estimate
    (rare or unseen: a ladder of scores in steps of 0.0001 below the lowest) has which score.
    """
    from tokenizers import models

    pieces: list[tuple[str, float]] = json.loads(tokenizer.to_str())["model"]["vocab"]
    plain = {piece: score for piece, score in pieces if piece not in SPECIAL_TOKENS}
    lowest = min((score for piece, score in plain.items() if len(piece) > 1), default=0.0)
    rare = sorted(piece for piece, score in plain.items() if len(piece) == 1 and score <= lowest)
    plain |= zip(rare, sorted((plain[piece] for piece in rare), reverse=True), strict=True)
    rounded = {piece: round(score, SCORE_DECIMALS) for piece, score in plain.items()}
    ordered = sorted(rounded.items(), key=lambda entry: (-entry[1], entry[0]))
    # Asked for the bytes alone, the trainer forgets to stop.
    surplus = len(SPECIAL_TOKENS) + len(ordered) - vocabulary_size
    longer = [piece for piece, _ in ordered if len(piece) > 1]
    dropped = set(longer[len(longer) - surplus :]) if surplus > 0 else set()
    ordered = [entry for entry in ordered if entry[0] not in dropped]
    tokenizer.model = models.Unigram([*((token, 0.0) for token in SPECIAL_TOKENS), *ordered])
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
