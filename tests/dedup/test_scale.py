"""Dedup at scale: sketches that are kept, memory that spills, many copies, and what the report is told."""

import json
import random
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks.core.errors import UserError
from tasks.dedup import sketched_corpus
from tasks.dedup.shingle_sets import ShingleJob, write_shingle_sets
from tasks.documents.shards import SCHEMA, write_shard
from tasks.similarity import lsh
from tests.helpers.deduplicating import Rows, dedup, text, words

pytestmark = pytest.mark.usefixtures("one_worker")


def test_simhash_proposes_and_the_exact_similarity_decides(tmp_path: Path) -> None:
    rng, rows, truth = random.Random(2), [], {}
    for number in range(200):
        base = words(rng, 150)
        copy = list(base)
        for at in rng.sample(range(150), k=rng.choice([1, 2, 12])):
            copy[at] = "changed"
        sets = [{tuple(each[i : i + 5]) for i in range(146)} for each in (base, copy)]
        truth[f"{number:03d}"] = len(sets[0] & sets[1]) / len(sets[0] | sets[1]) >= 0.8
        rows += [{"id": f"{number:03d}{end}", "text": " ".join(t)} for end, t in (("a", base), ("b", copy))]
    _, removed, metrics = dedup(tmp_path, [rows], sketch="simhash")
    found = {i[:3] for i in removed}
    assert all(truth[each] for each in found)
    assert len(found) >= 0.98 * sum(truth.values())
    assert metrics["candidate_probability_at_threshold"] == round(lsh.simhash_probability(0.8, 25, 11), 6)


def test_simhash_bits_differ_as_often_as_the_angle_says() -> None:
    """Charikar 2002: a bit differs with probability angle / pi."""
    rng = np.random.default_rng(0)
    shared, own = rng.integers(0, 2**63, 800).astype(np.uint64), rng.integers(0, 2**63, (2, 200)).astype(np.uint64)
    sets = [np.sort(np.concatenate([shared, each])) for each in own]
    bits = lsh.simhash(np.concatenate(sets), np.array([0, 1000, 2000]), 200, 16)
    differing = sum(int(x).bit_count() for x in bits[0] ^ bits[1]) / 3200
    assert differing == pytest.approx(np.arccos(0.8) / np.pi, abs=0.03)


def test_a_new_shard_is_compared_with_what_is_there(tmp_path: Path) -> None:
    """With an index, only new shards are sketched, and the result is that of a run from scratch."""
    rng = random.Random(1)
    shards: list[Rows] = []
    for shard in range(4):
        rows = [{"id": f"{shard}-{n}", "text": text(rng.randint(0, 40)) + f" {n % 3}"} for n in range(30)]
        shards.append(rows)
    index = str(tmp_path.parent / f"{tmp_path.name}-index")
    dedup(tmp_path, shards[:3], index=index)
    before = {path: path.stat().st_mtime_ns for path in Path(index).iterdir()}
    again = dedup(tmp_path, shards, index=index)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(Path(index).iterdir())) == 4
    assert again == dedup(tmp_path, shards)
    assert dedup(tmp_path, shards, index=index, ngram=4) == dedup(tmp_path, shards, ngram=4)


@pytest.mark.parametrize("part", ["u64", "arrow"])
@pytest.mark.parametrize("damage", ["gone", "cut", "empty"])
def test_a_damaged_sketch_is_made_anew(tmp_path: Path, part: str, damage: str) -> None:
    shards = [[{"id": f"{shard}-{n}", "text": text(n % 7) + f" {n % 2}"} for n in range(20)] for shard in range(2)]
    index = tmp_path.parent / f"{tmp_path.name}-index"
    whole = dedup(tmp_path, shards, index=str(index), levels=["exact", "near", "contained"])
    before = {path.name: path.read_bytes() for path in index.iterdir()}
    assert len(before) == 4
    path = sorted(index.glob(f"*.{part}"))[0]
    path.unlink() if damage == "gone" else path.write_bytes(before[path.name][:-9] if damage == "cut" else b"")
    assert dedup(tmp_path, shards, index=str(index), levels=["exact", "near", "contained"]) == whole
    assert {path.name: path.read_bytes() for path in index.iterdir()} == before


def test_a_shard_that_changes_meanwhile_is_told(tmp_path: Path) -> None:
    rows = [{"id": f"{n}", "text": text(n)} for n in range(3)]
    write_shard(pa.Table.from_pylist(rows, SCHEMA), tmp_path / "s.parquet")
    wanted = ShingleJob([tmp_path / "s.parquet"], [np.array([0, 2])], 152, tmp_path / "sets")
    hashes = np.fromfile(write_shingle_sets(wanted, 5), np.uint64)
    assert [len(set(each)) for each in np.split(hashes, 2)] == [76, 76]
    for changed in (rows[:2], [*rows[:2], {"id": "2", "text": text(2) + " more"}]):
        write_shard(pa.Table.from_pylist(changed, SCHEMA), tmp_path / "s.parquet")
        with pytest.raises(UserError, match=r"s\.parquet changed while dedup worked on it"):
            write_shingle_sets(wanted, 5)


def test_another_survivor_needs_no_new_sketch(tmp_path: Path) -> None:
    base = text(1)
    rows = [
        {"id": "a", "text": f"{base} longest of all", "source": "blog", "meta": '{"score": 0.2}'},
        {"id": "b", "text": base, "source": "manual", "meta": '{"score": 0.9}'},
    ]
    index = tmp_path.parent / f"{tmp_path.name}-index"
    assert set(dedup(tmp_path, [rows], index=str(index))[0]) == {"a"}
    before = {path: path.stat().st_mtime_ns for path in index.iterdir()}
    for rule in ({"keep": "quality", "quality": "score"}, {"keep": "source_priority", "source_order": ["manual"]}):
        assert set(dedup(tmp_path, [rows], index=str(index), **rule)[0]) == {"b"}
    assert {path: path.stat().st_mtime_ns for path in index.iterdir()} == before


def test_a_corpus_that_spills_to_disk_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"id": f"{n:03d}", "text": text(n % 40) + f" {n % 3}"} for n in range(150)]
    every = ["url", "exact", "near", "contained", "paragraphs"]
    whole = dedup(tmp_path, [rows[:100], rows[100:]], levels=every)
    monkeypatch.setattr(lsh, "SORT_BATCH", 7)
    monkeypatch.setattr(sketched_corpus, "MAX_IN_MEMORY", 10)
    assert dedup(tmp_path, [rows[:100], rows[100:]], levels=every) == whole
    assert list(tmp_path.rglob("search/ids.npy"))


@pytest.mark.slow
def test_same_bytes_for_any_workers_order_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is the same; of a shuffled corpus, cut elsewhere, so is what the files say."""
    rng, rows = random.Random(5), []
    pool = [text(n, 25) for n in range(30)]
    for number in range(120):
        body = "\n\n".join(rng.choices(pool, k=rng.randint(1, 6)))
        rows.append({"id": f"{number:03d}", "text": body, "url": f"http://e.com/{number % 90}", "fetched_at": number})
    cut, shuffled = [rows[:50], rows[50:]], rng.sample(rows, len(rows))
    every = ["url", "exact", "near", "contained", "paragraphs"]
    variants = [
        (1, sketched_corpus.MAX_IN_MEMORY, cut),
        (2, 10, cut),
        (1, 10, [shuffled[:20], shuffled[20:70], shuffled[70:]]),
    ]
    said, written = [], []
    for workers, in_memory, shards in variants:
        Path("execution.yaml").write_text(f"workers: {workers}\n")
        monkeypatch.setattr(sketched_corpus, "MAX_IN_MEMORY", in_memory)
        folder = tmp_path / f"{len(said)}"
        folder.mkdir()
        said.append(dedup(folder, shards, levels=every))
        out = folder / "run0/out"
        written.append({path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert said[0] == said[1] == said[2]
    assert written[0] == written[1]
    assert min(said[0][2]["removed"][reason] for reason in ("same_url", "contained", "repeated_paragraphs")) > 0


@pytest.mark.slow
def test_a_hundred_thousand_copies_of_one_page(tmp_path: Path) -> None:
    """Linear: ten times the copies take at most about ten times as long, exact and near."""
    base = text(3, 60)
    took = {}
    for count in (1000, 10_000, 100_000):
        copies = [{"id": f"{n:06d}", "text": base if n % 2 else f"{base} visitor{n}"} for n in range(count)]
        started = time.process_time()
        kept, removed, metrics = dedup(tmp_path, [copies])
        took[count] = time.process_time() - started
        assert len(kept) == 1
        assert metrics["clusters"]["pairs_compared"] < count
    assert len(removed) == 99_999
    assert took[100_000] < 15 * max(took[10_000], 0.5)


def test_clusters_are_listed_for_the_report(tmp_path: Path) -> None:
    rows = [{"id": f"{n}", "text": text(n // 3) + f" {n}"} for n in range(7)]
    _, removed, metrics = dedup(tmp_path, [rows])
    listed = pa.parquet.read_table(next(tmp_path.glob("run*")) / "out/clusters.parquet").to_pylist()
    assert {row["id"]: row["similarity"] for row in listed} == {i: row["similarity"] for i, row in removed.items()}
    assert [row["cluster_size"] for row in listed] == [3, 3, 3, 3]
    assert sum(metrics["similarity_histogram"].values()) == 4
    assert json.dumps(metrics)


def test_the_largest_clusters_say_what_they_are_about(tmp_path: Path) -> None:
    """By the address, and by the title or else the first words, in one line of what can be seen; in data, not in metrics."""
    rows = [
        {"id": f"a{n}", "text": f"first\n words {text(1)}" + "." * (9 - n), "url": "http://e.org/a"} for n in range(4)
    ]
    titled = {"url": "http://e.org/b", "meta": json.dumps({"title": " A <b>\u202e\ntitle\ud800 \x00"})}
    rows += [{"id": f"b{n}", "text": text(2) + "." * (9 - n), **titled} for n in range(3)]
    rows += [{"id": f"c{n}", "text": text(3) + "." * (9 - n), "meta": '["title"]'} for n in range(2)]
    rows += [{"id": "d", "text": text(4)}]
    _, _, metrics = dedup(tmp_path, [rows[::2], rows[1::2]])
    written = (next(tmp_path.glob("run*")) / "out/largest.json").read_text(encoding="utf-8")
    largest = json.loads(written)
    assert [(row["id"], row["url"]) for row in largest] == [
        ("a0", "http://e.org/a"),
        ("b0", "http://e.org/b"),
        ("c0", None),
    ]
    assert {row["id"] for row in largest} == metrics["largest_clusters"].keys()
    assert largest[0]["title"].startswith("first words ")
    assert largest[1]["title"] == "A <b> title"
    assert text(3).startswith(largest[2]["title"])
    assert all(0 < len(row["title"]) <= 100 for row in largest)
    assert "title" not in json.dumps(metrics)
    assert metrics["thresholds"] == {"near_duplicate": 0.8}
    dedup(tmp_path, [rows[::-1], []])
    assert (tmp_path / "run1/out/largest.json").read_text(encoding="utf-8") == written
