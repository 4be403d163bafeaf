"""Mixture: shares and budgets held to within a document, repeats capped, chosen by document ids alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.core.params import validate
from tasks.core.paths import Inputs, Outputs
from tasks.documents.shards import REMOVED_SCHEMA, SCHEMA, read_documents, write_documents
from tasks.pack.mixture import Mixture, document_copies, source_targets
from tasks.pack.stage import PackParams, run
from tests.helpers.packing import prose


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=60),
    st.integers(0, 5000),
    st.integers(1, 5),
    st.integers(-5, 5),
)
def test_copies_come_to_the_target(sizes: list[int], target: int, max_epochs: int, seed: int) -> None:
    identities = [f"{n:032x}" for n in range(len(sizes))]
    array = np.array(sizes, dtype=np.int64)
    times = document_copies(identities, array, target, max_epochs, seed)
    capped = min(target, max_epochs * sum(sizes))
    assert capped - max(sizes) < (times * array).sum() <= capped
    assert times.max() - times.min() <= 1
    more = document_copies(identities, array, target + 25, max_epochs, seed)
    assert (more >= times).all()
    turned = document_copies(identities[::-1], array[::-1], target, max_epochs, seed)
    assert (turned[::-1] == times).all()


def test_shares_by_hand() -> None:
    available = {"web": 1000, "books": 100}
    equal = Mixture(weights={"web": 1, "books": 1})
    assert source_targets(equal, available) == {"web": 400, "books": 400}  # four times the books, as much of the web
    assert source_targets(Mixture(weights={"web": 1, "books": 1}, max_epochs=1), available) == {
        "web": 100,
        "books": 100,
    }
    assert source_targets(Mixture(weights={"web": 3, "books": 1}, total=80), available) == {"web": 60, "books": 20}
    assert source_targets(Mixture(weights={"web": 1, "books": 0}, max_epochs=2), available) == {"web": 2000, "books": 0}
    assert source_targets(Mixture(budgets={"books": 250}), available) == {"web": 1000, "books": 250}
    assert source_targets(Mixture(replay={"web": 0.2}), available) == {"web": 25, "books": 100}  # all the books, once
    assert source_targets(Mixture(replay={"books": 0.5}), available) == {"web": 1000, "books": 1000}


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    rows = [
        {"id": f"{source}-{n}", "source": source, "text": text, "split": split}
        for split, count in (("train", 200), ("validation", 20))
        for source, share in (("web", 1.0), ("books", 0.1))
        for n, text in enumerate(prose(len(source), int(count * share)))
    ]
    schema = SCHEMA.append(pa.field("split", pa.string()))
    for shard in range(0, len(rows), 50):
        write_documents(rows[shard : shard + 50], tmp_path / "documents", f"{shard:03d}-", schema)
    return tmp_path / "documents"


def pack(folder: Path, documents: Path, tokenizer: Path, mixture: dict[str, Any]) -> tuple[Any, Path]:
    outputs = Outputs(folder / "out", folder / "work")
    for path in (outputs.root, outputs.work):
        path.mkdir(parents=True)
    params = validate(PackParams, {"context_length": 64, "mixture": mixture}, "params.yaml: pack")
    metrics = run(params, Inputs({"documents": documents, "tokenizer": tokenizer}), outputs)
    json.dumps(metrics, allow_nan=False)
    return metrics, outputs.root


def test_a_mixture_in_pack(tmp_path: Path, documents: Path, tokenizer: Path) -> None:
    plain, before = pack(tmp_path / "a", documents, tokenizer, {})
    mixed, after = pack(tmp_path / "b", documents, tokenizer, {"weights": {"web": 1, "books": 1}, "max_epochs": 3})
    assert "mixture" not in plain
    assert mixed["validation"] == plain["validation"]
    of = mixed["mixture"]["sources"]
    assert of["books"]["epochs"] == 3.0
    assert abs(of["web"]["given"] - of["books"]["given"]) < 400
    assert mixed["train"]["tokens"] == of["web"]["given"] + of["books"]["given"]
    assert mixed["documents_in"] == mixed["documents_out"] + sum(mixed["removed"].values())
    assert mixed["removed"]["mixture_left_out"] == of["web"]["documents_left_out"] > 0

    def texts(root: Path) -> dict[str, set[bytes]]:
        tokens, offsets = np.fromfile(root / "train/tokens.bin", np.uint16), np.load(root / "train/offsets.npy")
        names = pq.read_table(root / "train/documents.parquet")["id"].to_pylist()
        found: dict[str, set[bytes]] = {}
        for n, name in enumerate(names):
            found.setdefault(name, set()).add(tokens[offsets[n] : offsets[n + 1]].tobytes())
        return found

    whole = texts(before)
    gone = read_documents(after / "removed")
    assert gone.schema.equals(REMOVED_SCHEMA)
    assert set(gone["id"].to_pylist()) == whole.keys() - texts(after).keys()
    assert set(gone["source"].to_pylist()) == {"web"}
    assert set(gone["reason"].to_pylist()) == {"mixture_left_out"}
    assert len(read_documents(before / "removed")) == 0
    assert all(whole[name] == stream for name, stream in texts(after).items())
    again = pack(tmp_path / "c", documents, tokenizer, {"weights": {"books": 1, "web": 1}, "max_epochs": 3})[1]
    for path in sorted(after.rglob("*.*")):
        assert path.read_bytes() == (again / path.relative_to(after)).read_bytes()


def test_general_text_is_replayed_beside_the_new(tmp_path: Path, documents: Path, tokenizer: Path, caplog: Any) -> None:
    """About a twentieth of the tokens, of documents chosen by their ids; of the new text all, once."""
    metrics, _ = pack(tmp_path / "a", documents, tokenizer, {"replay": {"web": 0.05}})
    of = metrics["mixture"]["sources"]
    assert of["books"]["epochs"] == 1.0
    assert of["books"]["documents_left_out"] == 0
    assert of["web"]["wanted"] == pytest.approx(0.05 / 0.95 * of["books"]["given"], abs=1)
    assert 0 <= of["web"]["wanted"] - of["web"]["given"] < 60  # less than the longest document
    assert not caplog.messages
    short = pack(tmp_path / "b", documents, tokenizer, {"replay": {"books": 0.5}, "max_epochs": 2})[0]["mixture"]
    assert short["sources"]["books"]["epochs"] == 2.0
    assert "2 times that (max_epochs) is less than" in caplog.text


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ({"weights": {"web": 1}}, "books: has no weight"),
        ({"weights": {"web": 1, "books": 1, "wiki": 1}}, "wiki: no training text of that source"),
        ({"budgets": {"wiki": 5}}, "There is some of: books, web"),
        ({"budgets": {"web": 0, "books": 0}}, "leaves no training document"),
        ({"budgets": {"web": -1}}, "negative"),
        ({"weights": {"web": 0, "books": 0}}, "greater than 0"),
        ({"weights": {"web": 1}, "budgets": {"web": 1}}, "not two of them"),
        ({"weights": {"web": 1}, "replay": {"web": 0.1}}, "not two of them"),
        ({"replay": {"web": 0.5, "books": 0.5}}, "less than 1"),
        ({"replay": {"web": 0.1, "books": 0.1}}, "names every source"),
        ({"replay": {"wiki": 0.1}}, "wiki: no training text of that source"),
        ({"total": 5}, "total goes with weights"),
        ({"weight": {}}, "did you mean `weights`"),
    ],
)
def test_mixtures_that_cannot_be(
    tmp_path: Path, documents: Path, tokenizer: Path, mixture: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"(?i){message}"):
        pack(tmp_path / "x", documents, tokenizer, mixture)
