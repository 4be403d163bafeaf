"""What holds of packed rows whatever the strategy: nothing lost, nothing twice, documents kept apart."""

import json
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.pack.packing import Strategy, document_at, next_fit, pack_rows
from tasks.pack.stage import PackParams
from tasks.pretrain.data_loader import IGNORE_INDEX, PackedDataset
from tasks.tokens.encode import encode_documents
from tests.helpers.packing import documents, pack, prose

STRATEGIES = get_args(Strategy)
PAD = 60_000
cases = st.tuples(
    st.lists(st.integers(1, 100), max_size=40), st.integers(1, 30), st.sampled_from(STRATEGIES), st.booleans()
)


def borders(lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


@settings(deadline=None, max_examples=300)
@given(cases)
def test_each_token_is_in_one_row_or_cropped(case):
    lengths, capacity, strategy, crop = case
    offsets = borders(lengths)
    packed = pack_rows(offsets, capacity, strategy, crop)
    assert packed.segments.dtype == packed.rows.dtype == np.int64
    placed = [place for start, length in packed.segments.tolist() for place in range(start, start + length)]
    longest = capacity if crop else max(lengths, default=0)
    wanted = [place for begin, end in pairwise(offsets.tolist()) for place in range(begin, min(end, begin + longest))]
    assert sorted(placed) == wanted
    assert (packed.row_lengths <= capacity).all()
    assert (packed.row_lengths > 0).all()
    assert (packed.segments[:, 1] > 0).all()


@settings(deadline=None, max_examples=300)
@given(cases)
def test_no_segment_leaves_its_document(case):
    lengths, capacity, strategy, crop = case
    offsets = borders(lengths)
    packed = pack_rows(offsets, capacity, strategy, crop)
    owner = np.repeat(
        np.arange(len(lengths)), lengths
    )  # the definition: a document's number, once for each of its tokens
    for start, length in packed.segments.tolist():
        [document] = set(owner[start : start + length].tolist())
        assert document_at(offsets, np.arange(start, start + length)).tolist() == [document] * length


@settings(deadline=None, max_examples=100)
@given(case=cases)
def test_rows_as_the_model_sees_them(tmp_path_factory, case):
    """Positions restart with each segment, each token predicts the next of its own document, padding predicts nothing."""
    lengths, capacity, strategy, crop = case
    offsets = borders(lengths)
    packed = pack_rows(offsets, capacity, strategy, crop)
    folder = tmp_path_factory.mktemp("pack")
    (folder / "train").mkdir()
    stream = np.arange(offsets[-1] + 1, dtype=np.uint16)  # a token is its own place in the stream
    stream.tofile(folder / "train" / "tokens.bin")
    (folder / "pack.json").write_text(json.dumps({"context_length": capacity, "dtype": "uint16"}))
    for name, content in (("offsets", offsets), ("segments", packed.segments), ("rows", packed.rows)):
        np.save(folder / "train" / f"{name}.npy", content)
    split = PackedDataset(folder, "train", PAD)
    batch = split.batch(np.arange(len(split)))
    for inputs, positions, labels in zip(batch.input_ids, batch.position_ids, batch.labels, strict=True):
        real = inputs != PAD
        assert (labels[real] == inputs[real] + 1).all()
        assert (labels[~real] == IGNORE_INDEX).all()
        begins = np.flatnonzero(positions == 0)
        for begin, end in pairwise([*begins.tolist(), len(inputs)]):
            assert positions[begin:end].tolist() == list(range(end - begin))
            seen = inputs[begin:end]
            if (seen != PAD).all():  # one piece of one document, in order
                assert (np.diff(seen) == 1).all()
                assert len(set(document_at(offsets, seen).tolist())) == 1
            else:
                assert (seen == PAD).all()


@settings(deadline=None)
@given(st.lists(st.integers(1, 20), max_size=60))
def test_greedy_begins_a_row_only_where_it_must(lengths):
    bin_of, bins = next_fit(np.array(lengths, dtype=np.int64), 20)
    filled = [[length for length, own in zip(lengths, bin_of, strict=True) if own == number] for number in range(bins)]
    assert [length for row in filled for length in row] == lengths
    assert all(sum(row) + following[0] > 20 for row, following in pairwise(filled))


@settings(deadline=None)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=40), st.integers(1, 30))
def test_chunked_is_the_stream_in_pieces(lengths, capacity):
    packed = pack_rows(borders(lengths), capacity, "chunked")
    assert (packed.row_lengths[:-1] == capacity).all()
    assert packed.segments[:, 0].tolist() == [0, *np.cumsum(packed.segments[:, 1]).tolist()[:-1]]


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_tokens_document_is_known(tmp_path: Path, tokenizer, monkeypatch, strategy, crop):
    """From a row back to the id of the document that each of its tokens came from, and from those tokens to its text."""
    (tmp_path / "execution.yaml").write_text("workers: 1\n")
    monkeypatch.chdir(tmp_path)
    texts = {f"train{number}": text for number, text in enumerate([*prose(1, 30), "fox " * 200])}
    folder, metrics = pack(
        tmp_path, documents(tmp_path / "d", {"train": [*texts.values()]}), tokenizer, strategy=strategy, crop=crop
    )
    stream = np.fromfile(folder / "train" / "tokens.bin", dtype=metrics["dtype"])
    offsets, segments = (np.load(folder / "train" / f"{name}.npy") for name in ("offsets", "segments"))
    names = pq.read_table(folder / "train" / "documents.parquet")["id"].to_numpy()
    places = np.concatenate([np.arange(start, start + length) for start, length in segments])
    found: dict[str, dict[int, int]] = {}
    for place, name in zip(places.tolist(), names[document_at(offsets, places)], strict=True):
        found.setdefault(name, {})[place] = int(stream[place])
    for name, text in texts.items():
        tokens = [0, *encode_documents(tokenizer, [text])[0].tolist()]
        assert [found[name][place] for place in sorted(found[name])] == (tokens[:32] if crop else tokens)
    measured = metrics["train"]
    assert measured["tokens"] == len(places) + measured["cropped_tokens"]
    assert (measured["cropped_tokens"] > 0) == crop
    assert measured["rows"] * 32 == len(places) + measured["padding_tokens"]


def test_parameters():
    assert PackParams() == PackParams(strategy="best_fit", crop=False)
