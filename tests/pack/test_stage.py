"""Pack: documents become rows as the textbook packs them, the same bytes whatever the workers."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tasks.core.errors import UserError
from tasks.documents.shards import read_documents
from tasks.pack.packing import best_fit_decreasing, chunk_documents, pack_rows
from tasks.tokens.chat_template import SPECIAL_TOKENS
from tests.helpers.packing import documents, pack, prose


def naive_best_fit(lengths: list[int], capacity: int) -> list[int]:
    """The textbook's loop; returns the sorted room left in each bin."""
    room: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [number for number, left in enumerate(room) if left >= length]
        if fitting:
            room[min(fitting, key=lambda number: room[number])] -= length
        else:
            room.append(capacity - length)
    return sorted(room)


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 40).flatmap(lambda c: st.tuples(st.just(c), st.lists(st.integers(1, c), max_size=60))))
def test_best_fit_is_the_textbooks(case):
    capacity, lengths = case
    bin_of, bins = best_fit_decreasing(np.array(lengths, dtype=np.int64), capacity)
    filled = np.bincount(bin_of, weights=lengths, minlength=bins) if lengths else np.zeros(bins)
    assert sorted(int(capacity - used) for used in filled) == naive_best_fit(lengths, capacity)


def test_chunks_but_the_last_are_full():
    assert chunk_documents(np.array([0, 3, 10, 14]), 4).tolist() == [[0, 3], [3, 4], [7, 3], [10, 4]]


def test_stream_gives_back_every_document(tmp_path, tokenizer):
    texts = {"train": [*prose(1, 30), "spells <|endoftext|> out", "x" * 5000], "validation": prose(2, 9)}
    folder, metrics = pack(tmp_path, documents(tmp_path / "documents", texts), tokenizer)
    bpe = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    token_bytes = np.load(folder / "token_bytes.npy")
    for split, group in texts.items():
        stream = np.fromfile(folder / split / "tokens.bin", dtype=metrics["dtype"])
        offsets = np.load(folder / split / "offsets.npy")
        listed = pa.parquet.read_table(folder / split / "documents.parquet").to_pylist()
        assert [row["id"] for row in listed] == [f"{split}{number}" for number in range(len(group))]
        assert stream[-1] == 0
        assert len(stream) == offsets[-1] + 1
        for number, text in enumerate(group):
            start, *tokens = stream[offsets[number] : offsets[number + 1]].tolist()
            assert start == 0
            assert not set(tokens) & set(range(6))  # text never becomes a control token
            assert bpe.decode(tokens) == text
            assert token_bytes[tokens].sum() == listed[number]["bytes"] == len(text.encode())
    assert metrics["documents_in"] == metrics["documents_out"] == 41
    assert metrics["train"]["documents_cut"] >= 1  # the one longer than every row


@pytest.mark.parametrize("capacity", [128, 256, 1024])
def test_utilisation(capacity):
    """Document lengths of web text are about log-normal; Ding et al. report more than 99% for such."""
    lengths = np.random.default_rng(0).lognormal(5.5, 1.2, 5000).astype(np.int64) + 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    packed = pack_rows(offsets, capacity)
    assert lengths.sum() / ((len(packed.rows) - 1) * capacity) >= 0.99


def test_same_bytes_for_any_number_of_workers(tmp_path, tokenizer, monkeypatch):
    folder = documents(tmp_path / "documents", {"train": prose(5, 20), "validation": prose(6, 4)})
    contents = []
    for workers in (1, 2):
        root = tmp_path / f"project{workers}"
        root.mkdir()
        (root / "execution.yaml").write_text(f"workers: {workers}\n")
        monkeypatch.chdir(root)
        out, metrics = pack(root, folder, tokenizer)
        files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        contents.append((files, metrics))
    assert contents[0] == contents[1]


def test_single_document_and_empty_validation(tmp_path, tokenizer):
    folder, metrics = pack(tmp_path, documents(tmp_path / "documents", {"train": ["one", ""]}), tokenizer)
    assert metrics["train"]["documents"] == 1
    assert metrics["removed"] == {"empty": 1}
    listed = read_documents(folder / "removed").to_pylist()
    assert [(row["id"], row["source"], row["reason"]) for row in listed] == [("train1", "s", "empty")]
    assert metrics["validation"]["rows"] == 0
    assert np.load(folder / "validation" / "segments.npy").shape == (0, 2)


def test_nothing_to_train_on(tmp_path, tokenizer):
    with pytest.raises(UserError, match="no training document"):
        pack(tmp_path, documents(tmp_path / "documents", {"validation": ["held out"]}), tokenizer)


def test_unknown_split(tmp_path, tokenizer):
    with pytest.raises(UserError, match="holds test; allowed: train, validation"):
        pack(tmp_path, documents(tmp_path / "documents", {"test": ["x"]}), tokenizer)


def test_lossy_tokenizer_is_refused(tmp_path, tokenizer):
    lossy = json.loads((tokenizer / "tokenizer.json").read_text())
    lossy["normalizer"] = {"type": "Replace", "pattern": {"String": "o"}, "content": ""}
    folder = tmp_path / "lossy"
    folder.mkdir()
    for path in tokenizer.iterdir():
        (folder / path.name).write_text(path.read_text())
    (folder / "tokenizer.json").write_text(json.dumps(lossy))
    with pytest.raises(UserError, match=r"document train0: the tokenizer .* does not keep every byte"):
        pack(tmp_path, documents(tmp_path / "documents", {"train": ["fox"]}), folder)


@pytest.mark.parametrize(("merges", "dtype"), [(65_536 - 256 - 6, "uint16"), (65_536 - 256 - 6 + 1, "uint32")])
def test_wide_vocabularies_take_wide_numbers(tmp_path, merges, dtype):
    """A vocabulary of 65,536 still fits 16 bits, one token more does not."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(first, second) for first in letters for second in letters][:merges]
    names = [*SPECIAL_TOKENS, *letters, *("".join(pair) for pair in pairs)]
    wide = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, pairs))
    wide.pre_tokenizer, wide.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    wide.add_special_tokens(list(SPECIAL_TOKENS))
    wide.save(str(tmp_path / "tokenizer.json"))
    text = "zz zoo \xad\xad " + names[-1]
    folder, metrics = pack(tmp_path, documents(tmp_path / "documents", {"train": [text]}), tmp_path)
    assert metrics["dtype"] == dtype
    stream = np.fromfile(folder / "train" / "tokens.bin", dtype=dtype)
    assert wide.decode(stream.tolist()) == text
