"""The fast engine gives the ids of Hugging Face's tokenizers, which are the ones that count."""

import json

import numpy as np
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tasks.core.errors import UserError
from tasks.tokens import fast_bpe
from tasks.tokens.encode import encode_documents, encode_with_tokenizers, engine_name, load_tokenizer
from tasks.tokens.fast_bpe import GPT2_SPLIT, MAX_WHITE_SPACE, merges_are_complete, tiktoken_encoding, unicode_to_bytes
from tests.helpers.tiny import tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(folder, 700)
    return folder


def both(folder, texts):
    ours, theirs = encode_documents(folder, texts), encode_with_tokenizers(load_tokenizer(folder), texts)
    assert [ids.tolist() for ids in ours] == [ids.tolist() for ids in theirs]
    assert all(ids.dtype == np.uint32 for ids in ours)


def changed(folder, target, change):
    """A copy of the tokenizer whose JSON `change` has edited."""
    content = json.loads((folder / "tokenizer.json").read_text())
    change(content)
    target.mkdir()
    (target / "tokenizer.json").write_text(json.dumps(content))
    return target


def test_alphabet():
    assert set(unicode_to_bytes()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(unicode_to_bytes().values()) == list(range(256))


@settings(deadline=None, max_examples=500)
@given(
    st.one_of(
        st.text(max_size=200),
        st.text(" \t\n\r\u00a0\u2003\u0085\x0b\x1ca1'!.é日", max_size=60),
        st.lists(st.sampled_from(["the", " cat", "'s", "<|end|>", "\n", "  ", "12", "!", "\u0301"])).map("".join),
    )
)
def test_same_ids(folder, text):
    assert engine_name(folder) == "tiktoken"
    both(folder, [text])


def test_same_classes_of_every_character():
    """Both splitters agree on all of Unicode what is a letter, a number, white space or none: their tables are one version."""
    letters = {byte: letter for letter, byte in unicode_to_bytes().items()}
    merges = [(letters[first], letters[byte]) for first in b"a1! " for byte in range(256)]
    vocabulary = {letter: number for number, letter in enumerate(letters.values())}
    vocabulary |= {"".join(merge): 256 + number for number, merge in enumerate(merges)}
    theirs = Tokenizer(models.BPE(vocabulary, merges))
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = decoders.ByteLevel()
    codes = unicode_to_bytes()
    ranks = {bytes(codes[letter] for letter in token): number for token, number in vocabulary.items()}
    ours = tiktoken.Encoding("classes", pat_str=GPT2_SPLIT, mergeable_ranks=ranks, special_tokens={})
    # A token of two bytes forms only where the splitter keeps the character with what stands before it.
    # What lies beyond is unassigned or for private use, but for a few marks and tags.
    characters = [chr(code) for code in (*range(0xD800), *range(0xE000, 0x34000), *range(0xE0000, 0xE0200))]
    for start in range(0, len(characters), 4096):
        text = "".join(f"a{c}1{c}!{c} {c}" for c in characters[start : start + 4096])
        assert ours.encode_ordinary(text) == theirs.encode(text).ids


def letters_bpe(pairs):
    """A tokenizer of single letters and of as many of the merges (pairs of earlier tokens' numbers) as give new tokens."""
    tokens, merges = ["a", "b", "c"], []
    for first, second in pairs:
        merge = tokens[first % len(tokens)], tokens[second % len(tokens)]
        if "".join(merge) not in tokens and len("".join(merge)) <= 8:
            tokens.append("".join(merge))
            merges.append(merge)
    return tokens, Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))


def by_tiktoken(tokens, text):
    rest = (bytes([byte]) for byte in range(256) if chr(byte) not in "abc")
    ranks = {token.encode(): number for number, token in enumerate(tokens)}
    ranks |= {byte: len(ranks) + number for number, byte in enumerate(rest)}
    return tiktoken.Encoding("letters", pat_str=r".+", mergeable_ranks=ranks, special_tokens={}).encode_ordinary(text)


@settings(deadline=None, max_examples=500)
@given(
    st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=12), st.text("abc", min_size=1, max_size=14)
)
def test_whole_merges_mean_the_same_to_both(pairs, text):
    tokens, theirs = letters_bpe(pairs)
    if merges_are_complete(theirs, {"added_tokens": [], "model": {"vocab": tokens}}):
        assert by_tiktoken(tokens, text) == theirs.encode(text).ids


def test_merges_no_trainer_makes_are_told_apart():
    """b+c is merged before a+b, so (ab)+c never happens: only tiktoken joins a and bc to abc."""
    tokens, theirs = letters_bpe([(1, 2), (0, 1), (4, 2)])
    assert tokens[3:] == ["bc", "ab", "abc"]
    assert by_tiktoken(tokens, "abc") == [5] != theirs.encode("abc").ids
    assert not merges_are_complete(theirs, {"added_tokens": [], "model": {"vocab": tokens}})


@pytest.mark.parametrize("run", ["x", " ", "\n", "ab", "!?", "é", "\u3000"])
def test_long_runs(folder, run):
    both(folder, [run * 60_000, "a" + run * 60_000 + "b"])


def test_white_space_too_long_for_tiktoken(folder):
    both(folder, ["a" + " " * n + "b" for n in (MAX_WHITE_SPACE - 1, MAX_WHITE_SPACE, 1_100_000)])
    both(folder, [(" " * (MAX_WHITE_SPACE - 9) + "x") * 3])  # in time that grows with the text alone


def test_control_tokens_are_text(folder):
    [ids] = encode_documents(folder, ["<|endoftext|><|end|>"])
    assert not set(ids.tolist()) & set(range(6))


def without_regex(content):
    content["pre_tokenizer"]["use_regex"] = False


def with_normalizer(content):
    content["normalizer"] = {"type": "NFC"}


def with_words(content):
    content["added_tokens"].append({**content["added_tokens"][0], "id": 999, "content": "cat", "special": False})


def with_two_merges_of_one_token(content):
    """`abc` from a+bc too, as a list merged from several sources may have it."""
    token = next(t for t in content["model"]["vocab"] if len(t) == 3 and "<" not in t)
    content["model"]["merges"].append([token[0], token[1:]])


def with_merges_in_another_order(content):
    content["model"]["merges"].reverse()


@pytest.mark.parametrize(
    "change",
    [without_regex, with_normalizer, with_words, with_two_merges_of_one_token, with_merges_in_another_order],
)
def test_other_tokenizers_are_left_to_hugging_face(folder, tmp_path, change):
    other = changed(folder, tmp_path / "other", change)
    assert engine_name(other) == "tokenizers"
    both(other, ["the cat sees the sea. cat", "e\u0301"])


def test_the_ids_are_compared_when_it_is_built(folder, monkeypatch, caplog):
    monkeypatch.setattr(fast_bpe, "GPT2_SPLIT", r"\S+|\s+")
    assert tiktoken_encoding(folder / "tokenizer.json", load_tokenizer(folder)) is None
    assert "tiktoken gives other ids" in caplog.text


def test_a_tokenizer_made_again_is_read_again(tmp_path):
    tiny_tokenizer(tmp_path, 300)
    before = encode_documents(tmp_path, ["the cat"])[0]
    tiny_tokenizer(tmp_path, 700)
    assert len(encode_documents(tmp_path, ["the cat"])[0]) < len(before)


def test_no_tokenizer(tmp_path):
    with pytest.raises(UserError, match="dvc repro tokenizer"):
        encode_documents(tmp_path, ["x"])
