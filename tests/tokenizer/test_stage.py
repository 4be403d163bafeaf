"""Tokenizer: its ids, its special tokens, how it splits, and the same bytes from the same documents."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tasks.core.errors import UserError
from tasks.core.params import validate
from tasks.documents.shards import SCHEMA, write_documents
from tasks.tokenizer.stage import TokenizerParams
from tasks.tokens.chat_template import SPECIAL_TOKENS
from tasks.tokens.encode import encode_documents
from tests.helpers.training_tokenizers import HOSTILE, corpus, train

GPT2_SPLIT = (
    r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""  # openai/gpt-2, encoder.py
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    return train(folder, corpus(folder / "documents"))


@pytest.fixture(scope="module")
def auto(trained):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(trained[0])


def test_special_tokens_come_first(trained, auto):
    bpe = Tokenizer.from_file(str(trained[0] / "tokenizer.json"))
    assert [bpe.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(6))
    assert bpe.get_vocab_size() == len(auto) == trained[1]["vocabulary_size"] == 500
    assert (auto.bos_token_id, auto.eos_token_id, auto.pad_token_id) == (0, 0, 1)


@settings(deadline=None, max_examples=300)
@given(text=st.one_of(st.text(), st.text("<|>endoftxuspad \n'", max_size=60), st.sampled_from(HOSTILE)))
def test_every_text_comes_back_and_is_never_a_control_token(trained, text):
    [ids] = encode_documents(trained[0], [text])
    assert not (set(ids.tolist()) & set(range(6)))
    bpe = Tokenizer.from_file(str(trained[0] / "tokenizer.json"))
    assert bpe.decode(ids.tolist(), skip_special_tokens=False) == text


def test_transformers_gives_the_same_ids_and_text(trained, auto):
    for text in HOSTILE:
        [ids] = encode_documents(trained[0], [text])
        assert auto(text, add_special_tokens=False, split_special_tokens=True).input_ids == ids.tolist()
        assert auto.decode(ids) == text
        assert auto.decode(auto(text).input_ids, skip_special_tokens=False) == text  # no prefix space, nothing added
    assert auto("plain text").input_ids == encode_documents(trained[0], ["plain text"])[0].tolist()


def test_same_ids_as_tiktoken_with_the_same_merges(trained):
    import tiktoken
    from tokenizers import pre_tokenizers

    model = json.loads((trained[0] / "tokenizer.json").read_text())
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]  # GPT-2's bytes_to_unicode
    letters = {chr(byte): byte for byte in printable}
    letters |= {chr(256 + n): byte for n, byte in enumerate(b for b in range(256) if b not in printable)}
    assert set(letters) == set(pre_tokenizers.ByteLevel.alphabet())
    ranks = {
        bytes(letters[letter] for letter in token): number
        for token, number in model["model"]["vocab"].items()
        if token not in SPECIAL_TOKENS
    }
    oracle = tiktoken.Encoding("oracle", pat_str=GPT2_SPLIT, mergeable_ranks=ranks, special_tokens={})
    texts = [*HOSTILE, "The quick brown fox jumps over 13 lazy dogs, isn't it?\n\n   Yes!"]
    for text, ids in zip(texts, encode_documents(trained[0], texts), strict=True):
        assert ids.tolist() == oracle.encode_ordinary(text)


def test_chat_template(auto):
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": " Hi \n"},
        {"role": "assistant", "content": "Hello"},
    ]
    text = "<|endoftext|><|system|>Be kind.<|end|><|user|> Hi \n<|end|><|assistant|>Hello<|end|>"
    assert auto.apply_chat_template(messages, tokenize=False) == text
    asked = auto.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    assert asked == text.removesuffix("Hello<|end|>")
    encoded = auto.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    said = [id_ for id_, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mask]
    assert auto.decode(said) == "Hello<|end|>"
    with pytest.raises(Exception, match="unknown role: tool"):
        auto.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


def test_saving_again_changes_nothing(trained, auto, tmp_path):
    auto.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert json_or_text(tmp_path / name) == json_or_text(trained[0] / name)


def json_or_text(path: Path):
    text = path.read_text()
    return (json.loads(text) | {"is_local": None, "local_files_only": None}) if path.suffix == ".json" else text


def test_same_bytes_for_any_number_of_workers_and_threads(trained, tmp_path, monkeypatch):
    documents = corpus(tmp_path / "documents")
    contents = []
    for workers, parallelism in ((1, "false"), (2, "true")):
        root = tmp_path / f"project{workers}"
        root.mkdir()
        (root / "execution.yaml").write_text(f"workers: {workers}\n")
        monkeypatch.chdir(root)
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", parallelism)
        out, metrics = train(root, documents)
        contents.append(({path.name: path.read_bytes() for path in out.iterdir()}, metrics))
    assert contents[0] == contents[1]


def test_report_counts_what_is_there(trained, tmp_path):
    folder, metrics = trained
    report = json.loads((folder / "report.json").read_text())
    documents = corpus(tmp_path / "documents")
    rows = [row for path in sorted(documents.glob("*.parquet")) for row in pa.parquet.read_table(path).to_pylist()]
    for split in ("train", "validation"):
        texts = [row["text"] for row in rows if row["split"] == split]
        tokens = sum(map(len, encode_documents(folder, texts)))
        assert metrics[split]["tokens"] == report[split]["tokens"] == tokens
        assert metrics[split]["bytes_per_token"] == round(sum(len(t.encode()) for t in texts) / tokens, 4)
    assert sum(source["documents"] for source in report["sources"].values()) == len(rows)
    assert report["longest_splits"][0]["tokens"] == max(split["tokens"] for split in report["longest_splits"]) > 1


def test_validation_documents_are_not_trained_on(tmp_path):
    rows = [{"id": str(n), "text": "apple " * 50, "source": "s", "split": "train"} for n in range(9)]
    rows += [{"id": f"v{n}", "text": "zebra " * 500, "source": "s", "split": "validation"} for n in range(9)]
    write_documents(rows, tmp_path / "documents", schema=SCHEMA.append(pa.field("split", pa.string())))
    folder, _ = train(tmp_path, tmp_path / "documents", vocab_size=266)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert "apple" in vocabulary
    assert not any("z" in token and len(token) > 1 for token in vocabulary if token not in SPECIAL_TOKENS)


def test_sample_is_seeded_and_capped(trained, tmp_path):
    documents = corpus(tmp_path / "documents")
    found = [train(tmp_path / str(n), documents, max_bytes=60_000, seed=seed) for n, seed in enumerate((1, 1, 2))]
    vocabularies = [(folder / "tokenizer.json").read_bytes() for folder, _ in found]
    assert vocabularies[0] == vocabularies[1] != vocabularies[2]
    for _, metrics in found:
        assert 50_000 < metrics["bytes_trained_on"] <= 60_000
        assert metrics["documents_trained_on"] + metrics["documents_not_sampled"] == 216


def test_vocabulary_larger_than_the_corpus_allows(tmp_path):
    documents = corpus(tmp_path / "documents", count=12)
    with pytest.raises(
        UserError, match=r"vocab_size: 20000 is larger than the corpus allows.* give \d+ tokens"
    ) as error:
        train(tmp_path / "first", documents, vocab_size=20_000)
    allowed = int(str(error.value).split(" give ")[1].split(" ")[0])
    _, metrics = train(tmp_path / "second", documents, vocab_size=allowed)
    assert metrics["vocabulary_size"] == allowed


def test_too_small_a_vocabulary():
    with pytest.raises(UserError, match=r"tokenizer.vocab_size: must be at least 262"):
        validate(TokenizerParams, {"vocab_size": 261}, "params.yaml: tokenizer")


def test_no_training_text(tmp_path):
    rows = [{"id": "1", "text": "held out", "split": "validation"}, {"id": "2", "text": None, "split": "train"}]
    write_documents(rows, tmp_path / "documents", schema=SCHEMA.append(pa.field("split", pa.string())))
    with pytest.raises(UserError, match="no training document has any text"):
        train(tmp_path, tmp_path / "documents")


def test_damaged_tokenizer(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "mod')
    with pytest.raises(UserError, match=r"no readable tokenizer .* dvc repro tokenizer"):
        encode_documents(tmp_path, ["x"])
