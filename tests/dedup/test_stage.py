"""Dedup against its oracles: datasketch for signatures, Python sets for similarity, planted truth for the clusters."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.paths import Inputs, Outputs
from tasks.dedup.stage import DedupParams, run
from tasks.documents.shards import REMOVED_SCHEMA, SCHEMA, read_documents, write_shard
from tasks.similarity import lsh, shingles
from tasks.similarity.canonical_text import canonical_text
from tests.helpers.checkout import ROOT
from tests.helpers.deduplicating import words

MASK = 2**64 - 1

pytestmark = pytest.mark.usefixtures("one_worker")


def shingles_of(text: str, n: int) -> set[int]:
    """The documented shingle hash in plain Python, words by `str` methods."""
    words, word = [], ""
    for character in text + " ":
        kind = shingles.character_classes()[ord(character)] if ord(character) < shingles.LAST_CODE_POINT else 0
        if kind != 1 and word:
            words.append(word)
            word = ""
        if kind == 2:
            words.append(character)
        elif kind == 1:
            word += character
    hashes = []
    for each in words:
        value = 14695981039346656037
        for byte in each.encode():
            value = (value ^ byte) * 1099511628211 & MASK
        hashes.append(value)
    found = set()
    for first in range(len(hashes) - n + 1):
        s = 0
        for value in hashes[first : first + n]:
            s = (s * 0x9E3779B97F4A7C15 & MASK) ^ value
            s ^= s >> 29
        s = s * 0xBF58476D1CE4E5B9 & MASK
        found.add(s ^ s >> 32)
    return found


def bytes_of(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    encoded = [text.encode() for text in texts]
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in encoded])]).astype(np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def dedup(tmp_path: Path, shards: list[list[tuple[str, str]]], params: DedupParams | None = None) -> Path:
    """Run the stage over shards of (id, text); returns the folder of its output, with metrics.json in it."""
    folder = Path(tmp_path) / f"run{len(list(Path(tmp_path).iterdir()))}"
    for name in ("documents", "out", "work"):
        (folder / name).mkdir(parents=True)
    for number, rows in enumerate(shards):
        table = pa.Table.from_pylist([{"id": i, "text": t, "source": "s"} for i, t in rows], schema=SCHEMA)
        write_shard(table, folder / "documents" / f"{number:05d}.parquet")
    outputs = Outputs(folder / "out", folder / "work")
    metrics = run(params or DedupParams(), Inputs({"documents": folder / "documents"}), outputs)
    (folder / "out" / "metrics.json").write_text(json.dumps(metrics, sort_keys=True))
    return folder / "out"


def removed_rows(out: Path) -> dict[str, dict]:
    return {row["id"]: row for row in read_documents(out / "removed").to_pylist()}


TEXTS = st.text(st.sampled_from("ab_ .,\n09éßÉ日本語กा𝒳😀"), max_size=120)


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, max_size=5), st.integers(1, 6))
def test_shingle_sets_are_those_of_the_documented_scheme(texts: list[str], n: int) -> None:
    hashes, offsets = shingles.shingle_sets(*bytes_of(texts), n)
    for number, text in enumerate(texts):
        got = hashes[offsets[number] : offsets[number + 1]].tolist()
        assert got == sorted(shingles_of(text, n))


@pytest.mark.parametrize("seed", [1, 42])
def test_signatures_are_datasketchs(seed: int) -> None:
    rng = random.Random(seed)
    texts = [" ".join(words(rng, size)) for size in (0, 4, 5, 6, 80, 700)]
    hashes, offsets = shingles.shingle_sets(*bytes_of(texts), 5)
    mine = shingles.minhash_signatures(hashes, offsets, 125, seed)
    for number, row in enumerate(mine):
        oracle = MinHash(num_perm=125, seed=seed, scheme="affine32", hashfunc=int)
        oracle.update_batch([int(h) & 0xFFFFFFFF for h in hashes[offsets[number] : offsets[number + 1]]])
        assert row.dtype == oracle.hashvalues.dtype
        assert row.tolist() == oracle.hashvalues.tolist()


def test_words_are_unicode_words() -> None:
    same = ["Die GROSSE Straße führt nach Müncheṅ", "die große STRASSE, führt — nach »münchen\u0307«!"]
    one, two = (shingles_of(canonical_text(text), 3) for text in same)
    assert one == two
    assert one
    assert len(shingles_of("日本語のテキスト", 5)) == 4  # eight characters, each a word


def test_planted_truth(tmp_path: Path) -> None:
    """Pairs of known Jaccard similarity: those from 0.8 on are found, those below are left alone."""
    rng = random.Random(5)
    documents: list[tuple[str, str]] = []
    truth: dict[str, bool] = {}
    for number in range(600):
        base = words(rng, rng.randint(60, 400))
        copy = list(base)
        for at in rng.sample(range(len(copy)), k=int(len(copy) * rng.choice([0.005, 0.01, 0.02, 0.03, 0.06, 0.2]))):
            copy[at] = "changed" + str(at)
        one, two = shingles_of(" ".join(base), 5), shingles_of(" ".join(copy), 5)
        if one != two:
            truth[f"{number:04d}"] = len(one & two) / len(one | two) >= 0.8
            documents += [(f"{number:04d}a", " ".join(base)), (f"{number:04d}b", " ".join(copy))]
    assert 100 < sum(truth.values()) < len(truth) - 100
    rng.shuffle(documents)
    out = dedup(tmp_path, [documents[:500], documents[500:]])
    found = {row["id"][:4]: row for row in removed_rows(out).values()}
    right = sum(truth[pair] for pair in found)
    assert right / sum(truth.values()) >= 0.99
    assert right / len(found) >= 0.99
    texts = dict(documents)
    for pair, row in found.items():
        assert row["reason"] == "near_duplicate"
        assert {row["id"], row["kept_id"]} == {pair + "a", pair + "b"}
        one, two = (shingles_of(texts[i], 5) for i in (row["id"], row["kept_id"]))
        assert row["similarity"] == pytest.approx(len(one & two) / len(one | two), abs=1e-12)


@settings(max_examples=8, deadline=None)
@given(st.randoms(use_true_random=False))
def test_result_does_not_depend_on_the_order(tmp_path_factory: pytest.TempPathFactory, rng: random.Random) -> None:
    tmp_path = tmp_path_factory.mktemp("order")
    bases = [words(random.Random(n), 40) for n in range(4)]
    documents = []
    for number in range(40):
        text = list(bases[number % 4])
        text[number % 37] = "other"
        documents.append((f"{number:04d}", " ".join(text) + "." * (number % 3)))
    results = []
    for _ in range(2):
        rng.shuffle(documents)
        cut = rng.randint(0, len(documents))
        out = dedup(tmp_path, [documents[:cut], documents[cut:]])
        kept = sorted(read_documents(out / "documents").column("id").to_pylist())
        gone = {i: (r["reason"], r["kept_id"], r["similarity"], r["detail"]) for i, r in removed_rows(out).items()}
        results.append((kept, gone, (out / "metrics.json").read_text()))
    assert results[0] == results[1]


def test_exact_duplicates_and_short_documents(tmp_path: Path) -> None:
    rows = [
        ("b", "Hello  world"),
        ("a", "hello world"),
        ("c", "bye"),
        ("d", "yes no"),
        ("e", ""),
        ("f", "  "),
        ("g", "?"),
    ]
    out = dedup(tmp_path, [rows])
    assert sorted(read_documents(out / "documents").column("id").to_pylist()) == ["b", "c", "d", "f", "g"]
    gone = removed_rows(out)
    assert {i: (r["reason"], r["kept_id"], r["similarity"]) for i, r in gone.items()} == {
        "a": ("exact_duplicate", "b", 1.0),  # the longer text stays
        "e": ("exact_duplicate", "f", 1.0),
    }
    assert read_documents(out / "removed").schema.names == REMOVED_SCHEMA.names


def test_kept_id_names_a_document_that_was_kept(tmp_path: Path) -> None:
    base = words(random.Random(1), 100)
    near = [*base, "and", "more"]
    rows = [("1", " ".join(base)), ("2", " ".join(base).upper()), ("3", " ".join(near)), ("4", "unrelated")]
    out = dedup(tmp_path, [rows[:2], rows[2:]])
    kept = read_documents(out / "documents").column("id").to_pylist()
    gone = removed_rows(out)
    assert kept == ["3", "4"]
    assert gone["1"]["reason"] == "near_duplicate"
    assert gone["2"]["reason"] == "exact_duplicate"
    assert {gone["1"]["kept_id"], gone["2"]["kept_id"]} == {"3"}
    assert gone["2"]["similarity"] == gone["1"]["similarity"] == 96 / 98
    assert "same text as 1" in gone["2"]["detail"]


def test_ten_thousand_near_copies_cost_ten_thousand_comparisons(tmp_path: Path) -> None:
    base = words(random.Random(3), 120)
    copies = [(f"{n:05d}", " ".join([*base, f"visitor{n}"])) for n in range(10_000)]
    out = dedup(tmp_path, [copies + [(f"x{n:05d}", copies[0][1]) for n in range(10_000)]])
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["documents_out"] == 1
    assert metrics["removed"] == {"exact_duplicate": 10_000, "near_duplicate": 9_999}
    assert metrics["clusters"]["pairs_compared"] < 20_000
    assert metrics["clusters"]["largest"] == 20_000


def test_components_are_those_of_all_similar_pairs() -> None:
    """With every document in one bucket: the components of the complete graph of pairs at or above the threshold."""
    rng = np.random.default_rng(0)
    sets = [np.unique(rng.integers(0, 40, 25).astype(np.uint64)) for _ in range(lsh.BUCKET_COMPARISONS)]
    starts = np.concatenate([[0], np.cumsum([len(s) for s in sets])[:-1]]).astype(np.int64)
    sizes = np.array([len(s) for s in sets], np.int64)
    one_bucket = [np.zeros(len(sets), np.uint64)]
    labels, _ = lsh.clusters(one_bucket, np.concatenate(sets), starts, sizes, 0.45)
    expected = list(range(len(sets)))
    for i, one in enumerate(sets):
        for j, two in enumerate(sets[:i]):
            shared = len(set(one.tolist()) & set(two.tolist()))
            if shared / (len(one) + len(two) - shared) >= 0.45:
                expected = [expected[i] if label == expected[j] else label for label in expected]
    assert 1 < len(set(expected)) < len(sets)
    assert [labels[i] == labels[0] for i in range(len(sets))] == [e == expected[0] for e in expected]
    assert len(set(labels.tolist())) == len(set(expected))


def test_one_document_and_none(tmp_path: Path) -> None:
    assert len(read_documents(dedup(tmp_path, [[("1", "alone")]]) / "documents")) == 1
    assert len(read_documents(dedup(tmp_path, [[], []]) / "documents")) == 0


def test_recipe_is_recorded(tmp_path: Path) -> None:
    out = dedup(tmp_path, [[("1", "alone")]], DedupParams(seed=7))
    recipe = json.loads((out / "minhash.json").read_text())
    assert (recipe["scheme"], recipe["seed"], recipe["permutations"]) == ("affine32", 7, 125)
    assert all(recipe[key] for key in ("normaliser", "shingler", "word_hash", "shingle_hash"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nbc", "nbi"])
def test_damaged_numba_cache_is_survived(tmp_path: Path, kind: str) -> None:
    """In a cache folder of its own, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", "from tasks.similarity.kernels import compile_kernels; compile_kernels()"]
    subprocess.run(command, env=environment, check=True, cwd=tmp_path)
    damaged = list(tmp_path.rglob(f"*.{kind}"))
    for path in damaged:
        path.write_bytes(b"\0garbage")
    assert len(damaged) > 5
    subprocess.run(command, env=environment, check=True, cwd=tmp_path)
    assert all(path.read_bytes() != b"\0garbage" for path in tmp_path.rglob(f"*.{kind}"))


@pytest.mark.slow
def test_same_bytes_for_any_workers_and_hash_seed(tmp_path: Path) -> None:
    rng = random.Random(0)
    documents = tmp_path / "documents"
    for shard in range(3):
        rows = [{"id": f"{shard}{n}", "text": " ".join(words(random.Random(n // 2), 50)) + f" {n}"} for n in range(60)]
        rng.shuffle(rows)
        write_shard(pa.Table.from_pylist(rows, schema=SCHEMA), documents / f"{shard}.parquet")
    results = []
    for workers, hash_seed in ((1, "0"), (2, "1")):
        folder = tmp_path / str(workers)
        for name in ("out", "work"):
            (folder / name).mkdir(parents=True)
        (folder / "execution.yaml").write_text(f"workers: {workers}\n")
        code = (
            "from pathlib import Path; from tasks.dedup.stage import *; from tasks.core.paths import *; import json\n"
            "if __name__ == '__main__': print(json.dumps(run(DedupParams(), "
            f"Inputs({{'documents': Path({str(documents)!r})}}), Outputs(Path('out'), Path('work')))))"
        )
        (folder / "go.py").write_text(code)
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "go.py"], cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        files = {p.relative_to(folder): p.read_bytes() for p in sorted((folder / "out").rglob("*")) if p.is_file()}
        results.append((json.loads(done.stdout), files))
    assert results[0] == results[1]
    assert results[0][0]["removed"]["near_duplicate"] > 20
