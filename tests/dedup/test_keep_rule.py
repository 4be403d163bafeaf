"""Who survives: the rules, the scores that clean writes, and that nothing depends on the order."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.conversations.conversation import SCHEMA as CONVERSATIONS
from tasks.core.errors import UserError
from tasks.core.paths import Inputs, Outputs
from tasks.decontaminate.stage import DecontaminateParams
from tasks.decontaminate.stage import run as decontaminate
from tasks.dedup.stage import DedupParams, run
from tasks.documents.shards import (
    SCHEMA,
    SCORE_COLUMNS,
    cast_to_schema,
    read_documents,
    shard_paths,
    write_shard,
)
from tests.helpers.cleaning import GOOD, POOR, clean_documents, document, sentence
from tests.helpers.deduplicating import Rows, dedup, text, words

pytestmark = pytest.mark.usefixtures("one_worker")


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
    for each in rows:
        each["meta"] = (each["meta"] or "").replace("score", "perplexity") or None
    assert set(dedup(tmp_path, [rows], keep="quality", quality="perplexity")[0]) == {"a"}  # the lowest is the best
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
    clean_documents(tmp_path, rows, quality=quality, languages=None, max_top_ngram_ratio=1.0)
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
    inputs["evaluation"] = tmp_path / "evaluation"
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
    old = pa.Table.from_pylist(base, schema=SCHEMA).drop_columns(list(SCORE_COLUMNS))
    assert cast_to_schema(old).schema == SCHEMA
    assert cast_to_schema(old).select(old.column_names) == old
    with pytest.raises(KeyError):
        cast_to_schema(old.drop_columns(["text"]))
    for number, table in enumerate((old, cast_to_schema(old))):
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
def test_nobody_goes_by_a_chain(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """From the best down, one stays unless a better one that stays is similar; in plain Python over all pairs."""
    rows, similar = windows(random.Random(seed))
    best_first = sorted(rows, key=lambda row: (-len(row["text"]), row["id"]))
    stays: list[str] = []
    nearest: dict[str, tuple[str, float]] = {}
    for own in (row["id"] for row in best_first):
        like = [other for other in stays if similar[own, other] >= 0.7]
        if like:
            other = max(like, key=lambda other: similar[own, other])  # of equals the first
            nearest[own] = other, similar[own, other]
        else:
            stays.append(own)
    results = [
        dedup(tmp_path_factory.mktemp("chain"), shards, threshold=0.7, bands=200, rows=2)
        for shards in ([rows], [rows[5:], rows[:5][::-1]])
    ]
    for kept, removed, metrics in results:
        assert set(kept) == set(stays)
        assert {i: (row["kept_id"], row["similarity"]) for i, row in removed.items()} == nearest
        assert metrics["clusters"]["near_duplicate_clusters"] == len({other for other, _ in nearest.values()})


def windows(rng: random.Random) -> tuple[Rows, dict[tuple[str, str], float]]:
    """Rows of texts each of which goes on where the last one ends, and the similarity of every two."""
    chain = [words(rng, 60)]
    for _ in range(11):
        changed = rng.choice([2, 3, 4, 8, 20])
        chain.append([*chain[-1][changed:], *words(rng, changed)])
    sets = [{tuple(each[i : i + 5]) for i in range(len(each) - 4)} for each in chain]
    similar = {
        (f"{i}", f"{j}"): len(one & two) / len(one | two) for i, one in enumerate(sets) for j, two in enumerate(sets)
    }
    return [{"id": f"{n}", "text": " ".join(each)} for n, each in enumerate(chain)], similar


def test_of_windows_along_a_text_none_is_lost(tmp_path: Path) -> None:
    """Each tells nearly what its neighbours tell, and the ends share nothing; simhash proposes the same pairs."""
    text = words(random.Random(5), 600)
    rows = [{"id": f"{n:02d}", "text": " ".join(text[at : at + 100])} for n, at in enumerate(range(0, 500, 8))]
    for sketch in ("minhash", "simhash"):
        kept, removed, _ = dedup(tmp_path, [rows], sketch=sketch)
        assert len(kept) > len(rows) / 3
        assert removed
        assert all(row["similarity"] >= 0.8 for row in removed.values())
    assert len(dedup(tmp_path, [rows], clusters="component")[0]) == 1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_a_component_is_what_a_chain_joins(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rows, similar = windows(random.Random(seed))
    cluster = list(range(len(rows)))
    for i in range(len(rows)):
        for j in range(i):
            if similar[f"{i}", f"{j}"] >= 0.7:
                cluster = [cluster[i] if each == cluster[j] else each for each in cluster]
    params = {"threshold": 0.7, "bands": 200, "rows": 2, "clusters": "component"}
    kept, removed, _ = dedup(tmp_path_factory.mktemp("chain"), [rows], **params)
    assert len(kept) == len(set(cluster))
    assert all(cluster[int(row["id"])] == cluster[int(row["kept_id"])] for row in removed.values())
