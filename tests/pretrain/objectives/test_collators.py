"""What is hidden: the papers' rates over many draws, whole words, and draws that no split of the batch changes."""

import math
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tasks.architectures.families.table import FAMILIES
from tasks.pretrain.data_loader import IGNORE_INDEX, Batch
from tasks.pretrain.objectives.denoising import infill
from tasks.pretrain.objectives.objective import row_generators
from tasks.pretrain.objectives.span_corruption import most_spans
from tasks.pretrain.objectives.words import Words
from tasks.tokens.noise_spans import noise_spans
from tasks.tokens.token_texts import read_token_texts
from tests.helpers.architectures import FIRST, PAD, START, VOCABULARY, ids_of, packed, trained_pair


def is_share(count: int, of: int, share: float) -> bool:
    """Whether `count` of `of` draws is what a chance of `share` gives, to five standard deviations."""
    return abs(count - of * share) <= 5 * math.sqrt(of * share * (1 - share)) + 1e-9


@pytest.mark.parametrize(
    ("name", "fraction", "masks", "random"),
    [
        ("bert", 0.15, 0.8, 0.1),
        ("roberta", 0.15, 0.8, 0.1),
        ("deberta", 0.15, 0.8, 0.1),
        ("modernbert", 0.30, 0.8, 0.1),
        ("electra", 0.15, 0.85, 0.0),
    ],
)
def test_rates_of_masking(name: str, fraction: float, masks: float, random: float) -> None:
    """BERT's 15% with 80/10/10, ModernBERT's 30%, ELECTRA's 85% replaced and 15% kept; no control token is hidden or drawn."""
    _, objective = trained_pair(name)
    batch = packed([32], np.random.default_rng(0), rows=1500)
    inputs = objective.collate(batch, row_generators(7, 0, range(1500)))
    labels, given, original = inputs["labels"], inputs["input_ids"], batch.input_ids
    hidden = labels != IGNORE_INDEX
    assert (labels[hidden] == original[hidden]).all()
    assert (given[~hidden] == original[~hidden]).all()
    assert not hidden[original < FIRST].any()
    count = int(hidden.sum())
    assert is_share(count, int((original >= FIRST).sum()), fraction)
    mask = ids_of(FAMILIES[name]).mask
    assert is_share(int((given[hidden] == mask).sum()), count, masks)
    changed = (given[hidden] != mask) & (given[hidden] != original[hidden])
    letters = VOCABULARY - FIRST
    assert is_share(int(changed.sum()), count, random * (letters - 1) / letters)
    drawn = given[hidden][changed]
    assert ((drawn >= FIRST) & (drawn < VOCABULARY)).all()
    if random:  # all letters alike
        assert all(
            is_share(int((drawn == letter).sum()), len(drawn), 1 / letters) for letter in range(FIRST, VOCABULARY)
        )


def test_rows_are_hidden_anew_each_time_and_alike_however_they_are_split() -> None:
    for name in ("bert", "electra", "deberta", "t5", "bart"):
        _, objective = trained_pair(name)
        batch = packed([20, 12], np.random.default_rng(0), rows=4)
        whole = objective.collate(batch, row_generators(3, 5, range(4)))
        halves = [
            objective.collate(
                Batch(batch.input_ids[rows], batch.position_ids[rows], batch.labels[rows]), row_generators(3, 5, rows)
            )
            for rows in (np.array([0, 1]), np.array([2, 3]))
        ]
        for key, array in whole.items():
            if key == "origins":
                continue
            at = 0
            for half in halves:
                part = array[at : at + len(half[key])]
                width = half[key].shape[1]
                assert (part[:, :width] == half[key]).all(), (name, key)
                assert np.isin(part[:, width:], [PAD, IGNORE_INDEX, 0]).all()
                at += len(half[key])
            assert at == len(array)
        again = objective.collate(batch, row_generators(3, 6, range(4)))
        assert any(
            again[key].shape != whole[key].shape or (again[key] != whole[key]).any()
            for key in whole
            if key != "origins"
        )


TEXTS = [
    " unbelievable stories, don't you think? counter-revolutionaries 1234567 x_y",
    "Электрификация всей страны — наше общее дело.",
    " हिन्दी में लिखा हुआ वाक्य।",
    "東京は日本の首都です。 안녕하세요 세계",
    "สวัสดีชาวโลก 🙂🙂 café naïve",
]
WORDS = {
    TEXTS[0]: [
        *(" unbelievable", " stories", ",", " don", "'t", " you", " think", "?"),
        *(" counter", "-", "revolutionaries", " 1234567", " x_y"),
    ],
    TEXTS[1]: ["Электрификация", " всей", " страны", " —", " наше", " общее", " дело", "."],
    TEXTS[2]: [" हिन्दी", " में", " लिखा", " हुआ", " वाक्य", "।"],
    TEXTS[3]: [*"東京は日本の首都です。", " 안녕하세요", " 세계"],
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    """Byte-level BPE with few merges: words are several tokens, characters of other scripts too."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(TEXTS[:3] * 3, trainer)
    folder = tmp_path_factory.mktemp("tokenizer")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=special[0], eos_token=special[0], pad_token=special[1]
    )
    fast.save_pretrained(folder)
    fast.folder = folder
    return fast


@pytest.mark.parametrize("text", WORDS)
def test_words_over_byte_level_tokens(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    """Tokens that make a word share its number, in Latin, Cyrillic, Devanagari with its vowel marks, ideographs and Hangul."""
    texts = read_token_texts(Path(tokenizer.folder))
    tokens = np.array([START, *tokenizer.encode(text), START, *tokenizer.encode(" end"), PAD])
    numbers = Words(texts).of(tokens)
    assert (np.diff(numbers) >= 0).all()
    found = [b"".join(texts[token] for token in tokens[numbers == number]).decode() for number in np.unique(numbers)]
    assert [word for word in found if word] == [*WORDS[text], " end"]
    assert len(tokens) > 1.5 * len(found)  # several tokens a word


def test_a_token_over_two_characters_makes_them_one_word() -> None:
    """As merges of Chinese text do: the second character would else be hidden by half."""
    characters = "東京都".encode()
    words = Words([b"", characters[:2], characters[2:5], characters[5:6], characters[6:]])
    assert words.of(np.array([0, 1, 2, 3, 4, 0])).tolist() == [0, 1, 1, 1, 2, 3]


def test_a_row_cut_inside_a_character_has_words(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = read_token_texts(Path(tokenizer.folder))
    for text in TEXTS:
        tokens = np.array(tokenizer.encode(text))
        for start in range(1, min(len(tokens), 12)):
            cut = tokens[start : len(tokens) - start % 3]
            numbers = Words(texts).of(cut)
            assert len(numbers) == len(cut)
            assert numbers[0] == 0


def test_whole_words_are_hidden_whole_and_at_the_same_rate(tokenizer: PreTrainedTokenizerFast) -> None:
    from tasks.pretrain.objectives.hiding import Hiding

    texts = read_token_texts(Path(tokenizer.folder))
    hiding = Hiding(0.3, 0.8, 0.1, 300, np.array([bool(text) for text in texts]), Words(texts))
    tokens = np.array([START, *tokenizer.encode("".join(TEXTS))])
    numbers = hiding.words.of(tokens)
    words = len(np.unique(numbers)) - 1  # the start is none
    hidden_words = 0
    for draws in row_generators(0, 0, range(300)):
        _, labels = hiding.hide(tokens, draws)
        hidden = labels != IGNORE_INDEX
        by_word = [set(hidden[numbers == number]) for number in np.unique(numbers)]
        assert all(len(kinds) == 1 for kinds in by_word)
        hidden_words += sum(True in kinds for kinds in by_word)
    assert is_share(hidden_words, 300 * words, 0.3)


def test_spans_of_t5() -> None:
    """15% of the tokens in spans of 3 on average, never empty, never beside each other; the first token is kept."""
    dropped = spans = 0
    starts = np.zeros(200, dtype=np.int64)
    for draws in row_generators(0, 0, range(2000)):
        found = noise_spans(200, 0.15, 3.0, draws)
        assert (found[:, 1] > found[:, 0]).all()
        assert (found[1:, 0] > found[:-1, 1]).all()
        assert found[0, 0] > 0
        assert found[-1, 1] <= 200
        lengths = found[:, 1] - found[:, 0]
        dropped += int(lengths.sum())
        spans += len(found)
        starts[found[:, 0]] += 1
    assert dropped == 2000 * 30
    assert spans == 2000 * 10
    assert starts[5:-5].min() > 0
    short = {int(noise_spans(10, 0.15, 3.0, draws)[0, 0]) for draws in row_generators(0, 0, range(200))}
    assert short == set(range(1, 9))  # of two tokens: anywhere behind the first
    assert most_spans(200, 0.15, 3.0) == 10
    assert noise_spans(1, 0.15, 3.0, np.random.default_rng(0)).shape == (0, 2)
    for length in range(2, 40):
        assert len(noise_spans(length, 0.5, 1.0, np.random.default_rng(length))) <= most_spans(40, 0.5, 1.0)


def test_span_corruption_loses_nothing() -> None:
    """What is left, with each sentinel replaced by what the labels say of it, is the document; sentinels count from 0."""
    _, objective = trained_pair("t5")
    ids = ids_of(FAMILIES["t5"])
    batch = packed([20, 9, 1, 2], np.random.default_rng(0), rows=50)
    inputs = objective.collate(batch, row_generators(0, 0, range(50)))
    documents = [
        batch.input_ids[row, start:end] for row in range(50) for start, end in ((0, 20), (20, 29), (29, 30), (30, 32))
    ]
    assert len(documents) == len(inputs["labels"])
    for number, document in enumerate(documents):
        source = inputs["input_ids"][number][inputs["attention_mask"][number] == 1]
        target = inputs["labels"][number][inputs["labels"][number] != IGNORE_INDEX]
        assert source[-1] == START
        spans: dict[int, list[int]] = {}
        for token in target[:-1].tolist():
            if token in ids.sentinels:
                spans[token] = []
            else:
                spans[list(spans)[-1]].append(token)
        assert list(spans) == list(ids.sentinels)[: len(spans)]
        assert len(document) == 1 or target[-1] == START
        restored = [token for left in source[:-1].tolist() for token in spans.get(left, [left])]
        assert restored == document.tolist()
        given = inputs["decoder_input_ids"][number]
        assert given[0] == PAD
        assert given[1 : len(target)].tolist() == target[:-1].tolist()


def test_infilling_of_bart() -> None:
    """30% of the tokens, in spans of Poisson lengths of mean 3, 0 among them, each one mask; what stays, stays in order."""
    tokens = np.arange(400) + 10
    masked = masks = empty = 0
    for draws in row_generators(0, 0, range(1000)):
        given = infill(tokens, 0.3, 3.0, 5, draws)
        kept = given[given != 5]
        assert given[0] == 10
        assert (np.diff(kept) > 0).all()
        masked += 400 - len(kept)
        masks += int((given == 5).sum())
        places = np.flatnonzero(given[1:-1] == 5) + 1
        empty += int((given[places + 1] - given[places - 1] == 1).sum())
    assert masked == 1000 * 120
    # As many spans as it takes to fill the budget: by Wald's equation a mean of (120 + overshoot) / 3, that of Poisson(3) below 3.
    assert 120 / 3 < masks / 1000 < 123 / 3
    # Lengths of 0 have a chance of e^-3; some of them stand beside other masks.
    assert 0.5 * math.exp(-3) < empty / masks < math.exp(-3)
    # A document as long as the context has no room for a row that grows, as one of short spans would, every second time.
    assert max(len(infill(tokens, 0.3, 1.0, 5, draws)) for draws in row_generators(0, 0, range(100))) <= len(tokens)
    assert infill(np.array([10]), 0.3, 3.0, 5, np.random.default_rng(0)).tolist() == [10]
