"""BPE, unigram and WordPiece over bytes: lossless, repeatable, as their papers define them, and loadable downstream."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer

from tasks.architectures.families.choices import Architecture, RopeScaling
from tasks.core.errors import UserError
from tasks.model.gguf_support import read_tokenizer_json, why_no_gguf_tokenizer
from tasks.pack.stage import _token_bytes
from tasks.tokenizer.trainers import MAX_WORD_BYTES
from tasks.tokens.chat_encoder import require_template
from tasks.tokens.encode import encode_documents, engine_name
from tests.helpers.checkout import ROOT
from tests.helpers.packing import documents as documents_of
from tests.helpers.packing import pack, prose
from tests.helpers.training_tokenizers import HOSTILE, corpus, train

MODELS = ("bpe", "unigram", "wordpiece")
WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False)


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("corpus") / "documents", count=120)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, documents):
    return {model: train(tmp_path_factory.mktemp(model), documents, model=model)[0] for model in MODELS}


@pytest.fixture(params=MODELS)
def folder(request, folders):
    return folders[request.param]


def vocabulary_of(folder):
    return json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]


@settings(deadline=None, max_examples=150)
@given(text=st.one_of(st.text(), st.text("<|>endoftxuspad \n'é", max_size=60), st.sampled_from(HOSTILE)))
@pytest.mark.parametrize("model", MODELS)
def test_every_text_comes_back_and_is_never_a_control_token(folders, model, text):
    [ids] = encode_documents(folders[model], [text])
    assert not set(ids.tolist()) & set(range(6))
    tokenizer = Tokenizer.from_file(str(folders[model] / "tokenizer.json"))
    assert tokenizer.decode(ids.tolist(), skip_special_tokens=False) == text
    token_bytes, start = _token_bytes(folders[model])
    assert token_bytes[ids].sum() == len(text.encode())
    assert (start, len(token_bytes)) == (0, 500)


def test_transformers_gives_the_same(folder):
    auto = AutoTokenizer.from_pretrained(folder)
    for text in HOSTILE:
        [ids] = encode_documents(folder, [text])
        assert auto(text, add_special_tokens=False, split_special_tokens=True).input_ids == ids.tolist()
        assert auto.decode(ids) == text
    assert (len(auto), auto.bos_token_id, auto.pad_token_id) == (500, 0, 1)
    require_template(folder)


def test_packs(tmp_path, folder):
    _, metrics = pack(tmp_path, documents_of(tmp_path / "d", {"train": [*prose(1, 9), *HOSTILE]}), folder)
    assert metrics["train"]["documents"] == 8 + len(HOSTILE)


@settings(deadline=None, max_examples=100)
@given(text=st.text("abcdefghijklmnopqrstuvwxyz  .é\n", max_size=40))
def test_unigram_is_the_likeliest_segmentation(folders, text):
    """Kudo 2018, eq. 5, by the textbook's dynamic programme over each word."""
    scores = dict(vocabulary_of(folders["unigram"]))
    names = [piece for piece, _ in vocabulary_of(folders["unigram"])]
    [ids] = encode_documents(folders["unigram"], [text])
    likeliest = 0.0
    for word, _ in WORDS.pre_tokenize_str(text):
        best = [0.0, *[-math.inf] * len(word)]
        for end in range(1, len(word) + 1):
            best[end] = max(best[begin] + scores.get(word[begin:end], -math.inf) for begin in range(end))
        likeliest += best[-1]
    assert sum(scores[names[number]] for number in ids) == pytest.approx(likeliest)


@settings(deadline=None, max_examples=100)
@given(text=st.text("abcdefghijklmnopqrstuvwxyz  .é\n", max_size=40))
def test_wordpiece_takes_the_longest_match(folders, text):
    vocabulary = vocabulary_of(folders["wordpiece"])
    expected = []
    for word, _ in WORDS.pre_tokenize_str(text):
        while word:
            piece = next(word[:n] for n in range(len(word), 0, -1) if word[:n] in vocabulary)
            expected.append(vocabulary[piece])
            word = word[len(piece) :]
    assert encode_documents(folders["wordpiece"], [text])[0].tolist() == expected


def test_long_words_are_cut_not_unknown(folders):
    text = "x" * (3 * MAX_WORD_BYTES + 1) + "é" * MAX_WORD_BYTES
    [ids] = encode_documents(folders["wordpiece"], [text])
    assert Tokenizer.from_file(str(folders["wordpiece"] / "tokenizer.json")).decode(ids.tolist()) == text


TRAIN_AGAIN = """
import sys
from pathlib import Path
from tests.helpers.training_tokenizers import train
for model in sys.argv[3:]:
    train(Path(sys.argv[1]) / model, Path(sys.argv[2]), model=model)
"""


def test_same_bytes_again(folders, documents, tmp_path):
    """In another process, with other hashes and another number of threads."""
    (tmp_path / "execution.yaml").write_text("workers: 1\n")
    environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "3", "PATH": "/usr/bin"}
    command = [sys.executable, "-c", TRAIN_AGAIN, str(tmp_path), str(documents), *MODELS]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    for model, folder in folders.items():
        for path in folder.iterdir():
            assert (tmp_path / model / "out" / path.name).read_bytes() == path.read_bytes(), f"{model}: {path.name}"


def test_engines(folders):
    assert [engine_name(folders[model]) for model in MODELS] == ["tiktoken", "tokenizers", "tokenizers"]


def test_gguf_takes_bpe_only(folders):
    assert why_no_gguf_tokenizer(read_tokenizer_json(folders["bpe"])) is None
    for model in MODELS[1:]:
        assert "GGUF export takes byte-level BPE only" in (
            why_no_gguf_tokenizer(read_tokenizer_json(folders[model])) or ""
        )


def test_what_gguf_cannot_hold_is_told_before_anything_is_trained(tmp_path, folders):
    rows = corpus(tmp_path / "documents", count=6)
    settings = {"quantize.formats": ("torchao-int8", "q8_0")}
    with pytest.raises(UserError, match=r"tokenizer\.model: unigram: .*quantize\.formats to \[torchao-int8\]"):
        train(tmp_path / "refused", rows, settings=settings, vocab_size=300, model="unigram")


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ({"pretrain.family": "opt"}, "this is 'opt'"),
        ({"pretrain.architecture": Architecture(activation="gelu")}, "activation is gelu"),
        ({"pretrain.architecture": Architecture(rope_scaling=RopeScaling(type="yarn"))}, r"are scaled \(yarn\)"),
        ({"pretrain.family": "gemma", "pretrain.architecture": Architecture(tie_embeddings=False)}, "head is a matrix"),
        ({"pretrain.family": "mistral", "pack.context_length": 8192}, "reaches 4096 tokens back"),
    ],
)
def test_a_model_that_gguf_cannot_hold_is_told_before_it_is_trained(tmp_path, chosen, reason):
    rows = corpus(tmp_path / "documents", count=6)
    with pytest.raises(UserError, match=rf"quantize\.formats: .*{reason}.*to \[torchao-int8\]"):
        train(tmp_path / "refused", rows, settings={"quantize.formats": ("q8_0",), **chosen}, vocab_size=300)
    train(tmp_path / "out", rows, settings={"quantize.formats": ("torchao-int8",), **chosen}, vocab_size=300)


def test_formats_that_an_encoder_will_not_have_are_told_and_stop_nothing(tmp_path, caplog):
    """llama.cpp runs no encoder, so neither its family nor its tokenizer is held to GGUF."""
    rows, settings = corpus(tmp_path / "documents", count=6), {"quantize.formats": ("q8_0", "f16", "torchao-int8")}
    train(tmp_path / "out", rows, settings={**settings, "pretrain.family": "t5"}, vocab_size=300, model="unigram")
    assert "quantize will pass over q8_0, f16: GGUF export knows llama, mistral," in caplog.text


@pytest.mark.parametrize("model", MODELS)
def test_vocabulary_larger_than_the_corpus_allows(tmp_path, model):
    rows = corpus(tmp_path / "documents", count=6)
    with pytest.raises(UserError, match=r"tokenizer.vocab_size: 20000 is larger than the corpus allows"):
        train(tmp_path / model, rows, vocab_size=20_000, model=model)


def test_smallest_vocabulary_is_the_bytes(tmp_path, documents):
    for model in MODELS:
        folder, _ = train(tmp_path / model, documents, vocab_size=262, model=model)
        assert len(encode_documents(folder, ["né\x00"])[0]) == 4
        assert np.array_equal(_token_bytes(folder)[0], [0] * 6 + [1] * 256), model
