"""Dedup's levels, survivor rules and index: what goes, for whom, and that nothing depends on order or on a cache."""

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dedup import words
from test_scoring import GOOD, POOR, clean, document, sentence

from tasks.core.errors import UserError
from tasks.core.paths import Inputs, Outputs
from tasks.decontaminate import DecontaminateParams
from tasks.decontaminate import run as decontaminate
from tasks.dedup import DedupParams, run
from tasks.text import containment, lsh, postings, sketches
from tasks.text.comparable import comparable
from tasks.text.comparable_columns import comparable_column, digests
from tasks.text.conversation import SCHEMA as CONVERSATIONS
from tasks.text.documents import SCHEMA, SCORES, as_documents, read_documents, shard_paths, write_shard
from tasks.text.urls import canonical_url, url_keys

Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def _one_worker(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("settings")
    (folder / "execution.yaml").write_text("workers: 1\n")
    monkeypatch.chdir(folder)


def dedup(tmp_path: Path, shards: list[Rows], **params: Any) -> tuple[dict[str, str], dict[str, dict[str, Any]], Any]:
    """Run the stage; returns id → text of the kept, id → row of the removed, and the metrics."""
    folder = Path(tmp_path) / f"run{len(list(Path(tmp_path).iterdir()))}"
    for name in ("documents", "out", "work"):
        (folder / name).mkdir(parents=True)
    for number, rows in enumerate(shards):
        table = pa.Table.from_pylist([{"source": "s", **row} for row in rows], schema=SCHEMA)
        write_shard(table, folder / "documents" / f"{number:05d}.parquet")
    outputs = Outputs(folder / "out", folder / "work")
    metrics = run(DedupParams(**params), Inputs({"documents": folder / "documents"}), outputs)
    kept = {row["id"]: row["text"] for row in read_documents(folder / "out/documents").to_pylist()}
    removed = {row["id"]: row for row in read_documents(folder / "out/removed").to_pylist()}
    assert len(kept) + len(removed) == sum(map(len, shards))
    assert all(row["kept_id"] in kept and 0 <= row["similarity"] <= 1 for row in removed.values())
    return kept, removed, metrics


def text(seed: int, count: int = 80) -> str:
    return " ".join(words(random.Random(seed), count))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8")) | st.text("aA ß\u0130\u0307é\n\u1100\u1161\u2003Ωﬁ\u09c7\u09be😀"),
        max_size=4,
    )
)
def test_the_column_is_folded_as_the_function_folds(texts: list[str]) -> None:
    data, offsets = comparable_column(pa.array(texts, pa.string()))
    folded = [data[offsets[i] : offsets[i + 1]].tobytes().decode() for i in range(len(texts))]
    assert folded == [comparable(each) for each in texts]
    again = comparable_column(pa.array(folded, pa.string()))
    assert digests(data, offsets) == digests(*again) or any(comparable(f) != f for f in folded)


@pytest.mark.slow
def test_every_character_is_folded_as_the_function_folds() -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for around in ("{}", "a{}", "{}\u0301", "\u1100{}"):
        texts = ["".join(around.format(c) for c in characters[at : at + 7]) for at in range(0, len(characters), 7)]
        data, offsets = comparable_column(pa.array(texts, pa.string()))
        borders, raw = offsets.tolist(), data.tobytes()
        for number, each in enumerate(texts):
            assert raw[borders[number] : borders[number + 1]].decode() == comparable(each)


def test_a_text_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    for broken in (b"abc\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe0\x80\x80", b"a\xe2\x28\xa1"):
        array = pa.StringArray.from_buffers(
            1, pa.array([0, len(broken)], pa.int32()).buffers()[1], pa.py_buffer(broken)
        )
        with pytest.raises(UserError, match="row 0"):
            comparable_column(array)
    assert comparable_column(pa.array([None, "A"], pa.string()))[1].tolist() == [0, 0, 1]


def test_a_column_of_another_type_is_named(tmp_path: Path) -> None:
    write_shard(pa.table({"id": ["a"], "text": [7], "source": ["s"]}), tmp_path / "documents/0.parquet")
    with pytest.raises(UserError, match="column text is of type int64"):
        run(DedupParams(), Inputs({"documents": tmp_path / "documents"}), Outputs(tmp_path / "out", tmp_path / "work"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://www.Example.com:80/a/./b/../c/?utm_source=x#top", "https://example.com/a/c", True),
        ("http://e.com/?b=2&a=1", "http://e.com/?a=1&b=2&fbclid=7", True),
        ("http://e.com/%7euser", "http://e.com/~user", True),
        ("http://e.com/a;jsessionid=1F", "http://e.com/a", True),
        ("http://e.com:8080/a", "http://e.com/a", False),
        ("http://e.com/a?page=1", "http://e.com/a?page=2", False),
        ("http://e.com/A", "http://e.com/a", False),
        ("http://e.com/a%2Fb", "http://e.com/a/b", False),
        ("http://e.com/s?wd=%C4%E3", "http://e.com/s?wd=%BA%C3", False),  # GBK
        ("http://e.com/s?wd=%c4%e3", "http://e.com/s?utm_source=x&wd=%C4%E3", True),
        ("http://e.com/s?%C4=1", "http://e.com/s?%BA=1", False),
        ("http://e.com/s?q=%C3%A9", "http://e.com/s?q=é", True),
    ],
)
def test_canonical_addresses(one: str, other: str, same: bool) -> None:
    assert (canonical_url(one) == canonical_url(other)) is same


@given(st.text(st.characters(codec="utf-8"), max_size=30) | st.text("?&=;%CE4+/a\udce4", max_size=30))
def test_canonical_address_is_idempotent(path: str) -> None:
    once = canonical_url("http://example.org/" + path)
    assert once is None or canonical_url("http://" + once) == once


@pytest.mark.parametrize(
    "url", ["package:x#1", None, "", "http://[::", "http://[bad", "http://[bad]/", "http://h:99999/", "http://h:x/"]
)
def test_what_is_no_address_has_no_key(url: str | None) -> None:
    assert canonical_url(url) is None
    assert url_keys(pa.chunked_array([[url, "http://e.com/?q=%ff"]], pa.string())).is_null().to_pylist() == [
        True,
        False,
    ]


def test_of_an_address_the_newest_stays(tmp_path: Path) -> None:
    rows = [
        {"id": "old", "text": text(1, 90), "url": "http://e.com/p", "fetched_at": 1000},
        {"id": "new", "text": text(2), "url": "https://www.e.com/p/", "fetched_at": 2000},
        {"id": "undated", "text": text(3), "url": "http://e.com/p#x", "fetched_at": None},
        {"id": "other", "text": text(4), "url": "http://e.com/q", "fetched_at": 1000},
        {"id": "copy of old", "text": text(1, 90).upper(), "url": None, "fetched_at": None},
        {"id": "record", "text": text(5), "url": None, "fetched_at": None},
    ]
    kept, removed, _ = dedup(tmp_path, [rows], levels=["url", "exact", "near"])
    assert set(kept) == {"new", "other", "copy of old", "record"}
    assert {i: (r["reason"], r["kept_id"], r["similarity"]) for i, r in removed.items()} == {
        "old": ("same_url", "new", 0.0),
        "undated": ("same_url", "new", 0.0),
    }
    kept, _, _ = dedup(tmp_path, [rows], levels=["url"], url_keep="longest")
    assert set(kept) == {"old", "other", "copy of old", "record"}


def test_what_followed_a_removed_document_follows_it_on(tmp_path: Path) -> None:
    long = text(1, 200)
    rows = [
        {"id": "whole", "text": long},
        {"id": "part", "text": " ".join(long.split()[20:80])},
        {"id": "part again", "text": " ".join(long.split()[20:80]).upper()},
        {"id": "nearly part", "text": " ".join(long.split()[20:79])},
        {"id": "other", "text": text(9)},
    ]
    kept, removed, metrics = dedup(tmp_path, [rows[:2], rows[2:]], levels=["exact", "near", "contained"])
    assert set(kept) == {"whole", "other"}
    assert {row["kept_id"] for row in removed.values()} == {"whole"}
    assert removed["part"]["reason"] == "contained"
    assert removed["part"]["similarity"] == 1.0
    assert removed["part again"]["reason"] == "exact_duplicate"
    assert removed["part again"]["similarity"] == 56 / 196
    assert removed["part again"]["detail"] == "same text as part, which stands in it"
    assert removed["nearly part"]["reason"] == "near_duplicate"
    assert metrics["removed"] == {"contained": 1, "exact_duplicate": 1, "near_duplicate": 1}


def test_contained_documents_are_those_of_the_definition(tmp_path: Path) -> None:
    rng, rows, truth = random.Random(3), [], set()
    for number in range(60):
        long = words(rng, 300)
        begin, size = rng.randint(0, 200), rng.randint(30, 90)
        part = long[begin : begin + size]
        for at in rng.sample(range(size), k=rng.choice([0, 0, 1, 3])):
            part[at] = f"changed{at}"
        sets = [{tuple(each[i : i + 5]) for i in range(len(each) - 4)} for each in (part, long)]
        if len(sets[0] & sets[1]) / len(sets[0]) >= 0.9:
            truth.add(f"part{number}")
        rows += [{"id": f"part{number}", "text": " ".join(part)}, {"id": f"long{number}", "text": " ".join(long)}]
    assert 20 < len(truth) < 50
    _, removed, _ = dedup(tmp_path, [rows], levels=["contained"])
    assert set(removed) == truth
    assert all(row["kept_id"] == row["id"].replace("part", "long") for row in removed.values())


@pytest.mark.parametrize("longer", [900, 1100])
def test_a_page_that_stands_in_very_many_longer_ones_goes(tmp_path: Path, longer: int) -> None:
    rng, page = random.Random(4), text(1, 60)
    rows = [{"id": f"long{n:04d}", "text": f"{' '.join(words(rng, 40))} {page}"} for n in range(longer)]
    kept, removed, _ = dedup(tmp_path, [rows[:500], [*rows[500:], {"id": "page", "text": page}]], levels=["contained"])
    assert len(kept) == longer
    assert {i: row["similarity"] for i, row in removed.items()} == {"page": 1.0}


def test_boilerplate_does_not_hide_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the short page stands in many larger ones, but all of it only in one that is smaller than these."""
    rng, notice, own = random.Random(4), text(1, 60), text(2, 30)
    rows = [{"id": f"{n}", "text": f"{' '.join(words(rng, 90))} {notice}"} for n in range(40)]
    rows += [{"id": "part", "text": f"{notice} {own}"}, {"id": "whole", "text": f"{notice} {own} {text(3, 20)}"}]
    monkeypatch.setattr(containment, "EVERYWHERE", 10)
    for shards in ([rows], [rows[::-1]]):
        _, removed, _ = dedup(tmp_path, shards, levels=["contained"])
        assert {i: row["kept_id"] for i, row in removed.items()} == {"part": "whole"}


def test_what_a_bound_kept_from_being_compared_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rng, parts = random.Random(4), [text(n, 30) for n in range(3)]
    rows = [{"id": f"{n}", "text": " ".join([parts[n % 3], parts[(n + 1) % 3], *words(rng, 90)])} for n in range(60)]
    rows += [{"id": "all", "text": " ".join(parts)}, {"id": "whole", "text": " ".join([*parts, *words(rng, 20)])}]
    assert set(dedup(tmp_path, [rows], levels=["contained"])[1]) == {"all"}
    assert "larger ones" not in caplog.text
    monkeypatch.setattr(containment, "CANDIDATES", 2)
    monkeypatch.setattr(containment, "EVERYWHERE", 5)
    _, removed, metrics = dedup(tmp_path, [rows], levels=["contained"])
    assert not removed
    unsure = metrics["clusters"]["contained_not_fully_compared"]
    assert unsure > 0
    assert f"{unsure} documents share half of their sampled n-grams with more than 2 larger ones" in caplog.text


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sets(st.integers(0, 12), max_size=5), max_size=12), st.integers(1, 6), st.integers(1, 5))
def test_proposals_are_those_of_counting(samples: list[set[int]], longest: int, most: int) -> None:
    """In plain Python: documents hold their samples, and are numbered from the largest down."""
    sizes = np.array([20 - n // 2 for n in range(len(samples))], np.int64)
    grams = np.array([gram for sample in samples for gram in sorted(sample)], np.int64)
    borders = np.concatenate([[0], np.cumsum([len(sample) for sample in samples])]).astype(np.int64)
    where = np.repeat(np.arange(len(samples)), np.diff(borders))
    pairs, bounded = postings.propose(grams, borders, grams, where, sizes, longest, most)
    lists = {gram: [n for n, sample in enumerate(samples) if gram in sample] for gram in grams.tolist()}
    expected = []
    for own, sample in enumerate(samples):
        cut = sum(len(lists[gram]) > longest for gram in sample)
        shared = {
            n: sum(n in lists[gram][:longest] for gram in sample) for n in range(len(samples)) if sizes[n] > sizes[own]
        }
        passed = sorted((-count, n) for n, count in shared.items() if count and 2 * (count + cut) >= len(sample))
        expected += [[own, n] for _, n in passed[:most]]
        assert bounded[own] == (len(passed) > most or bool(sample and 2 * cut >= len(sample)))
    assert pairs.tolist() == expected


def test_a_paragraph_stays_once(tmp_path: Path) -> None:
    notice, rare = "All rights reserved. " * 5, text(7, 30)
    rows = [
        {"id": "a", "text": f"{text(1, 60)}\n\n{notice}\n\n{text(2, 60)}"},
        {"id": "b", "text": f"{notice.upper()}\n\n{text(3, 30)}\n\nshort\n\n{text(4, 30)}"},
        {"id": "c", "text": f"short\n\n{notice}\n\n{rare}\n\n{rare}"},
        {"id": "d", "text": f"{notice}\n\nbut little else"},
        {"id": "chat", "text": f"{notice}\n\n{rare}", "meta": '{"messages": []}'},
    ]
    kept, removed, metrics = dedup(tmp_path, [rows[:3], rows[3:]], levels=["exact", "paragraphs"])
    assert kept["a"] == rows[0]["text"]
    assert kept["b"] == f"{text(3, 30)}\n\nshort\n\n{text(4, 30)}"
    assert kept["c"] == f"short\n\n{rare}"
    assert kept["chat"] == rows[4]["text"]
    assert list(removed) == ["d"]
    assert (removed["d"]["reason"], removed["d"]["kept_id"]) == ("repeated_paragraphs", "a")
    assert removed["d"]["text"] == rows[3]["text"]
    assert removed["d"]["similarity"] == len(notice.strip()) / len(notice.strip() + "but little else")
    assert metrics["paragraphs"]["removed_paragraphs"] == 3
    assert metrics["paragraphs"]["shortened_documents"] == 2


def test_no_paragraph_is_lost_from_the_corpus(tmp_path: Path) -> None:
    """Whatever goes, each long paragraph of the input is still there once, unless only in documents removed whole."""
    rng = random.Random(0)
    pool = [text(n, 15) for n in range(40)]
    rows = [{"id": f"{n:03d}", "text": "\n".join(rng.choices(pool, k=rng.randint(1, 6)))} for n in range(80)]
    kept, removed, _ = dedup(tmp_path, [rows], levels=["paragraphs"], paragraph_separator="line", paragraph_left=150)
    left = [line for each in kept.values() for line in each.split("\n")]
    assert len(left) == len(set(left))
    assert removed
    for row in rows:
        missing = set(row["text"].split("\n")) - set(left)
        assert not missing or row["id"] in removed


def test_the_survivor_is_the_one_that_the_rule_names(tmp_path: Path) -> None:
    base = words(random.Random(1), 100)
    rows = [
        {"id": "a", "text": " ".join([*base, "longest", "of", "all"]), "source": "blog", "meta": '{"score": 0.2}'},
        {"id": "b", "text": " ".join(base), "source": "manual", "meta": '{"score": 0.9}'},
        {"id": "c", "text": " ".join([*base, "x"]), "source": "forum", "meta": None},
    ]
    assert set(dedup(tmp_path, [rows])[0]) == {"a"}
    by_source = {"keep": "source_priority", "source_order": ["manual", "forum"]}
    kept, removed, metrics = dedup(tmp_path, [rows], **by_source)
    assert set(kept) == {"b"}
    assert {row["kept_id"] for row in removed.values()} == {"b"}
    assert metrics["overlap"] == {"blog": {"manual": 1}, "forum": {"manual": 1}}
    assert metrics["largest_clusters"] == {"b": {"documents": 3, "source": "manual"}}
    assert set(dedup(tmp_path, [rows], keep="quality", quality="score")[0]) == {"b"}
    with pytest.raises(UserError, match=r"dedup\.quality"):
        dedup(tmp_path, [rows], keep="quality", quality="stars")
    with pytest.raises(UserError, match=r"dedup\.source_order"):
        dedup(tmp_path, [rows], keep="source_priority", source_order=["nobody"])
    for wrong in ({"keep": "source_priority"}, {"source_order": ["a"]}, {"levels": ["url", "url"]}, {"levels": []}):
        with pytest.raises(ValueError, match=r"levels|keep|source_order"):
            DedupParams(**wrong)


def test_the_score_that_clean_writes_decides_and_reaches_the_end(tmp_path: Path) -> None:
    rng = random.Random(1)
    rows = [document("good", n, sentence(GOOD, rng)) for n in range(30)]
    rows += [document("spam", n, sentence(POOR, rng)) for n in range(30)]
    same = [sentence(GOOD, rng, 700) for _ in range(4)]
    rows += [document("fine", n, text) for n, text in enumerate(same)]
    rows += [document("longer", n, f"{text} {sentence(POOR, rng)}") for n, text in enumerate(same)]
    quality = {"positive": ["good"], "negative": ["spam"], "min_score": 0.0}
    clean(tmp_path, rows, quality=quality, languages=None, max_top_ngram_ratio=1.0)
    stages = {name: Outputs(tmp_path / name, tmp_path / f"{name}.work") for name in ("longest", "quality", "end")}
    for each in stages.values():
        each.root.mkdir()
        each.work.mkdir()
    documents = tmp_path / "out/documents"
    for keep, stays in (("longest", "longer"), ("quality", "fine")):
        run(DedupParams(keep=keep), Inputs({"documents": documents}), stages[keep])
        kept = read_documents(stages[keep].root / "documents").to_pylist()
        assert {row["source"] for row in kept} - {"good", "spam"} == {stays}
    deduplicated = stages["quality"].root / "documents"
    for shard in shard_paths(deduplicated):
        ids = pa.parquet.read_table(shard)["id"]
        split = pa.table({"id": ids, "split": ["train"] * len(ids)})
        write_shard(split, tmp_path / "split" / shard.name)
    write_shard(CONVERSATIONS.empty_table(), tmp_path / "held_out/0.parquet")
    inputs = {"documents": deduplicated, "split": tmp_path / "split", "held_out": tmp_path / "held_out"}
    decontaminate(DecontaminateParams(), Inputs(inputs), stages["end"])
    scores = {row["id"]: row["quality"] for row in read_documents(documents).to_pylist()}
    assert None not in scores.values()
    for folder in (stages["quality"].root / "removed", stages["end"].root / "documents"):
        found = read_documents(folder).to_pylist()
        assert found
        assert all(row["quality"] == scores[row["id"]] for row in found)


def test_shards_without_scores_are_documents_too(tmp_path: Path) -> None:
    """And a score in `meta` counts where the column says nothing."""
    base = [{"id": i, "text": text(1), "source": "s", "meta": json.dumps({"quality": n})} for n, i in enumerate("ab")]
    old = pa.Table.from_pylist(base, schema=SCHEMA).drop_columns(list(SCORES))
    assert as_documents(old).schema == SCHEMA
    assert as_documents(old).select(old.column_names) == old
    with pytest.raises(KeyError):
        as_documents(old.drop_columns(["text"]))
    for number, table in enumerate((old, as_documents(old))):
        folder = tmp_path / str(number)
        for name in ("out", "work"):
            (folder / name).mkdir(parents=True)
        write_shard(table, folder / "documents/0.parquet")
        outputs = Outputs(folder / "out", folder / "work")
        run(DedupParams(keep="quality"), Inputs({"documents": folder / "documents"}), outputs)
        assert read_documents(folder / "out/documents")["id"].to_pylist() == ["b"]


@settings(max_examples=12, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_level_depends_on_the_order(tmp_path_factory: pytest.TempPathFactory, rng: random.Random) -> None:
    tmp_path = tmp_path_factory.mktemp("order")
    bases = [words(random.Random(n), 60) for n in range(4)]
    rows: Rows = []
    for number in range(40):
        changed = list(bases[number % 4])
        changed[number % 37] = "other"
        begin = 0 if number % 3 else 10
        body = " ".join(changed[begin : begin + 40]) + "\n\n" + " ".join(changed[40:])
        rows.append({"id": f"{number:03d}", "text": body, "url": f"http://e.com/{number % 17}", "fetched_at": number})
    results = []
    for _ in range(2):
        rng.shuffle(rows)
        cut = rng.randint(0, len(rows))
        every = ["url", "exact", "near", "contained", "paragraphs"]
        results.append(dedup(tmp_path, [rows[:cut], rows[cut:]], levels=every))
    assert results[0] == results[1]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_similar_is_transitive(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """The stated policy: clusters are the connected components of the pairs at or above the threshold."""
    rng = random.Random(seed)
    chain = [words(rng, 60)]
    for _ in range(8):
        changed = rng.choice([2, 4, 8, 20])
        chain.append([*chain[-1][changed:], *words(rng, changed)])
    sets = [{tuple(each[i : i + 5]) for i in range(len(each) - 4)} for each in chain]
    cluster = list(range(len(chain)))
    for i in range(len(chain)):
        for j in range(i):
            if len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= 0.7:
                cluster = [cluster[i] if each == cluster[j] else each for each in cluster]
    rows = [{"id": f"{n}", "text": " ".join(each)} for n, each in enumerate(chain)]
    params = {"threshold": 0.7, "bands": 200, "rows": 2}
    kept, removed, _ = dedup(tmp_path_factory.mktemp("chain"), [rows], **params)
    assert len(kept) == len(set(cluster))
    assert all(cluster[int(row["id"])] == cluster[int(row["kept_id"])] for row in removed.values())


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
    assert len(list(Path(index).glob("*.json"))) == 4
    assert again == dedup(tmp_path, shards)
    assert dedup(tmp_path, shards, index=index, ngram=4) == dedup(tmp_path, shards, ngram=4)


@pytest.mark.parametrize("part", ["json", "keys.npy", "u64", "parquet"])
@pytest.mark.parametrize("damage", ["gone", "cut", "empty"])
def test_a_damaged_sketch_is_made_anew(tmp_path: Path, part: str, damage: str) -> None:
    shards = [[{"id": f"{shard}-{n}", "text": text(n % 7) + f" {n % 2}"} for n in range(20)] for shard in range(2)]
    index = tmp_path.parent / f"{tmp_path.name}-index"
    whole = dedup(tmp_path, shards, index=str(index), levels=["exact", "near", "contained"])
    before = {path.name: path.read_bytes() for path in index.iterdir()}
    assert len(before) == 8
    path = sorted(index.glob(f"*.{part}"))[0]
    path.unlink() if damage == "gone" else path.write_bytes(before[path.name][:-9] if damage == "cut" else b"")
    assert dedup(tmp_path, shards, index=str(index), levels=["exact", "near", "contained"]) == whole
    assert {path.name: path.read_bytes() for path in index.iterdir()} == before


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
    monkeypatch.setattr(lsh, "SORTED_AT_ONCE", 7)
    monkeypatch.setattr(sketches, "IN_MEMORY", 10)
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
    variants = [(1, sketches.IN_MEMORY, cut), (2, 10, cut), (1, 10, [shuffled[:20], shuffled[20:70], shuffled[70:]])]
    said, written = [], []
    for workers, in_memory, shards in variants:
        Path("execution.yaml").write_text(f"workers: {workers}\n")
        monkeypatch.setattr(sketches, "IN_MEMORY", in_memory)
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
    listed = pa.parquet.read_table(tmp_path / "run0/out/clusters.parquet").to_pylist()
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
    written = (tmp_path / "run0/out/largest.jsonl").read_text(encoding="utf-8")
    largest = [json.loads(line) for line in written.split("\n") if line]
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
    assert (tmp_path / "run1/out/largest.jsonl").read_text(encoding="utf-8") == written
