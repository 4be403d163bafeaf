"""Decontaminate: every planted leak goes and nothing else, whatever the thresholds, shards and workers."""

import json
import random
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.conversations.conversation import render_conversation
from tasks.core.errors import UserError
from tasks.core.paths import Inputs
from tasks.decontaminate import stage
from tasks.documents.shards import read_shard, shard_paths, write_shard
from tasks.held_out import ngram_index, ngram_overlap
from tasks.held_out.benchmark_items import read_benchmark_items
from tests.helpers.decontaminating import WORDS, decontaminate, prose


def altered(text: str, seed: int, share: float) -> str:
    """`text` with this share of its words replaced, its case and punctuation changed."""
    rng = random.Random(seed)
    words = [rng.choice(WORDS) if rng.random() < share else word for word in text.split()]
    return ", ".join(word.upper() if rng.random() < 0.3 else word for word in words)


def talk(seed: int, turns: int = 6):
    return [{"role": ("user", "assistant")[turn % 2], "content": prose(seed * 100 + turn, 12)} for turn in range(turns)]


pytestmark = pytest.mark.usefixtures("one_worker")


def test_every_planted_leak_goes_and_nothing_else(tmp_path):
    unrelated = [prose(1000 + n) for n in range(60)]
    conversations = [talk(n) for n in range(8)]
    answers = [prose(5000 + n, 11) for n in range(8)]
    validation = [prose(6000 + n, 200) for n in range(8)]
    leaks, matched = [], []
    for n in range(8):
        contents = " \n".join(turn["content"] for turn in conversations[n])
        leaks += [
            f"{prose(7000 + n)}\n{contents}\n{prose(7100 + n)}",  # wrapped in other text, without the speakers
            render_conversation(conversations[n]),
            altered(contents, n, 0.04),
            f"{prose(7200 + n)} {answers[n]}. {prose(7300 + n)}",
            altered(validation[n], n, 0.04),
            f"{prose(7400 + n)} {validation[n]}",
            " ".join(validation[n].split()[40:140]),  # a part of it
        ]
        matched += [f"c{n}"] * 3 + [f"q{n}"] + [f"v{n}"] * 3
    items = [(f"c{n}", "conversation", said) for n, said in enumerate(conversations)]
    items += [
        (f"q{n}", "question", [{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": answer}])
        for n, answer in enumerate(answers)
    ]
    kept, removed, metrics = decontaminate(tmp_path, [*unrelated, *leaks], validation, items)
    assert kept == {f"t{n}" for n in range(60)} | {f"v{n}" for n in range(8)}
    assert [removed[f"t{60 + n}"]["matched"] for n in range(len(leaks))] == matched
    assert metrics["removed"] == {"contaminated": len(leaks)}
    assert metrics["removed_for"] == {"conversation": 24, "document": 24, "question": 8}
    assert metrics["train"]["documents"] == 60


def test_overlap_is_the_share_by_definition(tmp_path):
    """Against sets of n-grams of plain Python, for texts that share parts of every size."""
    held, n = prose(1, 150), 8
    parts = [prose(50 + k, 100) + " " + " ".join(held.split()[: 15 * k]) for k in range(11)]
    _, removed, _ = decontaminate(tmp_path, parts, [held], ngram=n, max_overlap=0.3)

    def grams(text):
        words = text.split()
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    shares = {
        f"t{k}": len(grams(part) & grams(held)) / min(len(grams(part)), len(grams(held)))
        for k, part in enumerate(parts)
    }
    assert set(removed) == {name for name, share in shares.items() if share >= 0.3} != set(shares)
    for name, row in removed.items():
        assert row["similarity"] == pytest.approx(shares[name], abs=1e-6)


def test_boilerplate_is_no_leak_but_a_copy_in_many_documents_is(tmp_path):
    inherited = prose(1, 40)  # what every page says
    held = f"{prose(2, 60)} {inherited}"
    pages = [f"{prose(100 + n, 60)} {inherited}" for n in range(20)]
    copies = [f"{prose(200 + n, 60)} {held}" for n in range(20)]
    kept, removed, metrics = decontaminate(tmp_path, [*pages, *copies], [held])
    assert kept == {f"t{n}" for n in range(20)} | {"v0"}
    assert len(removed) == 20
    assert metrics["held_out"]["boilerplate_ngrams"] > 0


def test_short_answers_are_looked_for_as_a_whole(tmp_path):
    def question(number, answer):
        said = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": answer}]
        return (f"q{number}", "question", said)

    items = [question(0, "Closes the file for good."), question(1, "Yes, gladly."), question(2, "Reads one more line.")]
    train = [
        f"{prose(1)}\nfile.close()\nCloses the FILE, for good.\n{prose(2)}",
        "yes gladly",  # too short to tell anything
        f"Closes the file {prose(3)} for good.",
        "Reads one more line",
    ]
    _, removed, metrics = decontaminate(tmp_path, train, (), items)
    assert {name: row["matched"] for name, row in removed.items()} == {"t0": "q0", "t3": "q2"}
    assert metrics["held_out"]["too_short"] == 4  # three questions and an answer


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text("ab c", max_size=30), max_size=8), st.lists(st.text("ab c", max_size=30), max_size=6), st.data()
)
def test_best_is_what_counting_pair_by_pair_gives(texts, held, data):
    n = 4
    with tempfile.TemporaryDirectory() as folder:
        writer = ngram_index.NgramIndexWriter(Path(folder), n)
        for start in range(0, len(held), 3):  # as shard by shard
            some = held[start : start + 3]
            writer.add([str(start + k) for k in range(len(some))], some, [False] * len(some))
        writer.close()
        index = ngram_overlap.NgramIndex.load(Path(folder))
        hits = index.hits(texts)
        frequencies = [np.zeros(len(table.grams), np.int64) for table in index.tables]
        for frequency, (grams_found, count) in zip(
            frequencies, hits.document_frequency(np.ones(len(texts), bool)), strict=True
        ):
            frequency[grams_found] += count
        most = data.draw(st.integers(0, 3))
        item, share = index.best_match(hits, index.rare_ngrams(frequencies, most))

    def grams(text):
        words = text.split()
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    sets = [grams(text) for text in texts]
    known = set().union(*map(grams, held))
    common = {gram for gram in known if sum(gram in other for other in sets) > most}
    for row, mine in enumerate(sets):
        pairs = []
        for theirs in map(grams, held):
            a, b = mine - common, theirs - common
            pairs.append(len(a & b) / min(len(a), len(b)) if a and b else 0.0)
        best = max(pairs, default=0.0)
        assert share[row] == pytest.approx(best)
        assert item[row] == (pairs.index(best) if best else -1)


def test_the_gate_fails_the_pipeline(tmp_path, monkeypatch):
    """A stage that forgets to remove does not get past its own check."""
    monkeypatch.setattr(stage, "_write_split_shard", _keeps_everything)
    with pytest.raises(UserError, match="1 training documents still hold held-out items, such as t1"):
        decontaminate(tmp_path, [prose(1), prose(2)], [prose(2)])


def _keeps_everything(shard: Path, target: Path, split: Path, **_):
    table = read_shard(shard).append_column("split", read_shard(split / shard.name)["split"])
    write_shard(table, target / "documents" / shard.name)
    return {}


def test_nothing_held_out(tmp_path, caplog):
    kept, _, _ = decontaminate(tmp_path, [prose(1), ""])
    assert kept == {"t0", "t1"}
    assert "nothing is held out" in caplog.text


def test_a_split_of_other_documents(tmp_path):
    decontaminate(tmp_path, [prose(1)], [prose(2)])
    [shard] = shard_paths(tmp_path / "split")
    write_shard(pa.table({"id": ["x", "y"], "split": ["train", "train"]}), shard)
    with pytest.raises(UserError, match=r"names other documents .* dvc repro instruct"):
        decontaminate(tmp_path, [prose(1)], [prose(2)], name="again")


def test_same_bytes_for_any_number_of_workers(tmp_path):
    train = [prose(n) for n in range(30)] + [prose(100 + n) + prose(n) for n in range(200, 210)]
    contents = []
    for workers in (1, 2):
        (tmp_path / "execution.yaml").write_text(f"workers: {workers}\n")
        name = f"out{workers}"
        _, removed, metrics = decontaminate(tmp_path, train, [prose(n) for n in range(200, 205)], name=name)
        files = {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.parquet")}
        contents.append((files, removed, metrics))
    assert contents[0] == contents[1]
    assert len(contents[0][1]) == 5


def benchmark(folder: Path) -> dict[str, str]:
    """Reference files of each shape; returns what to look for, by the name that a match has."""
    texts = [prose(9000 + n, 40) for n in range(7)]
    said = [[{"role": ("user", "assistant")[n % 2], "content": prose(9100 + n, 20)} for n in range(k)] for k in (2, 4)]
    (folder / "sets").mkdir()
    lines = [
        {"text": texts[0], "label": 1},
        {"question": texts[1], "answer": texts[2], "choices": ["a", "b"]},
        {"question": texts[3], "answer": 2},
        {"messages": said[1]},
        {"instruction": texts[4], "output": texts[5]},
        {"question": "Who was it?", "answer": "nobody in particular then"},
    ]
    (folder / "sets/mixed.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pa.parquet.write_table(pa.table({"text": [texts[6]]}), folder / "sets/texts.parquet")
    names = ["mixed.jsonl#1", *["mixed.jsonl#2"] * 2, "mixed.jsonl#3", *["mixed.jsonl#5"] * 2, "texts.parquet#1"]
    found = {text: f"sets/{name}" for text, name in zip(texts, names, strict=True)}
    found["\n".join(turn["content"] for turn in said[1])] = "sets/mixed.jsonl#4"
    return found | {"nobody in particular then": "sets/mixed.jsonl#6"}


def test_a_reference_set_that_is_in_the_corpus_goes_and_is_told(tmp_path, caplog):
    items = benchmark(tmp_path)
    train = [*(prose(n) for n in range(20)), *items, *(f"{prose(300)} {text.upper()} {prose(301)}" for text in items)]
    files = ("sets/mixed.jsonl", "sets/texts.parquet")
    kept, removed, metrics = decontaminate(tmp_path, train, references=files)
    assert kept == {f"t{n}" for n in range(20)}
    assert [removed[f"t{20 + n}"]["matched"] for n in range(2 * len(items))] == [*items.values()] * 2
    assert removed["t20"]["detail"] == "overlap with a reference: 1.000"
    assert metrics["removed_for"] == {"reference": len(removed)}
    assert metrics["references"] == {
        "sets/mixed.jsonl": {"items": 6, "items_found": 6, "documents_removed": 16},
        "sets/texts.parquet": {"items": 1, "items_found": 1, "documents_removed": 2},
    }
    assert "sets/mixed.jsonl: 6 of its 6 items stand in the corpus; 16 training documents are removed" in caplog.text
    assert "nothing is held out" not in caplog.text
    kept, removed, metrics = decontaminate(tmp_path, train, name="without")
    assert not removed
    assert "references" not in metrics


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.jsonl", None, r"references: .*a\.jsonl: No such file"),
        ("a.jsonl", "", r"a\.jsonl: holds no item"),
        ("a.jsonl", '{"text": "x y"}\n{"te', r"a\.jsonl, record 2: no item: not JSON"),
        ("a.jsonl", '{"title": "x"}\n', r"a\.jsonl, record 1: no item: it needs text"),
        ("a.jsonl", '{"text": 5}\n', r"a\.jsonl, record 1: no item: it needs text"),
        ("a.jsonl", "[1]\n", r"a\.jsonl, record 1: no item: a record must be an object"),
        (
            "a.jsonl",
            '{"messages": [{"role": "user"}]}\n',
            r"a\.jsonl, record 1: no item: turn 1: content: must be text",
        ),
        ("a.parquet", "PAR", r"a\.parquet: cannot be read as Parquet"),
        ("a.csv", "x", r"a\.csv: cannot read \.csv"),
    ],
)
def test_a_reference_file_that_is_no_use_is_named(tmp_path, file, content, message):
    if content is not None:
        (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=message):
        decontaminate(tmp_path, [prose(1)], references=(file,))


def test_a_reference_file_must_be_a_dependency(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one/test.jsonl").write_text('{"text": "x"}')
    inputs = Inputs({"test.jsonl": tmp_path / "one/test.jsonl"})
    assert [item.name for item in read_benchmark_items("decontaminate", ["one/test.jsonl"], inputs)] == [
        "one/test.jsonl#1"
    ]
    with pytest.raises(UserError, match=r"two/test\.jsonl is no dependency of decontaminate in dvc\.yaml"):
        list(read_benchmark_items("decontaminate", ["two/test.jsonl"], inputs))
