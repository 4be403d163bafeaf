"""The second look: repeated lines, trained scores, the sample for people, blocked addresses; nothing is lost on the way."""

import json
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.clean.scores import corpus_scores, repeated_lines
from tasks.clean.scores.labels import measured_precision, read_labelled_texts
from tasks.clean.scores.perplexity import TrigramModel
from tasks.clean.scores.quality_classifier import QualityClassifier, train
from tasks.clean.scores.score_params import PerplexityParams, ScoreParams
from tasks.clean.url_blocklist import blocking_entry
from tasks.core.errors import UserError
from tests.helpers.cleaning import GOOD, POOR, clean_documents, document, sentence

pytestmark = pytest.mark.usefixtures("one_worker")


def test_lines_of_a_whole_site_go(tmp_path: Path) -> None:
    rng = random.Random(0)
    menu, banner = "Home | About | Contact us", "We use cookies, accept them all"
    rows = [document("site", n, f"{menu}\n\n{sentence(GOOD, rng)}\n{banner}\nonly here {n}") for n in range(19)]
    rows.append(document("site", 19, f"{menu}\n{banner}"))
    rows += [document("other", n, f"{menu}\n{sentence(GOOD, rng)}") for n in range(3)]
    talk = [{"role": "user", "content": menu}, {"role": "assistant", "content": sentence(GOOD, rng)}]
    rows.append(document("site", 99, "x", messages=talk))
    metrics, kept, removed = clean_documents(tmp_path, rows, max_line_page_share=0.5)
    assert [(row["url"], row["reason"]) for row in removed] == [("http://site.org/19", "boilerplate")]
    assert metrics["lines"] == {"boilerplate": 40}
    for row in kept:
        own = row["source"] == "site" and row["url"] != "http://site.org/99"
        assert (menu in row["text"]) != own
        assert banner not in row["text"]
        assert row["text"] == row["text"].strip("\n")
    assert not (tmp_path / "out/models").exists()


def test_only_conversations_pass_for_conversations(tmp_path: Path) -> None:
    """A page may be titled with the word, and not even the whole key makes a conversation of it."""
    menu = "Home | About | Contact us"
    titles = ["Error messages", "messages", "The other page"] * 6
    rng = random.Random(0)
    rows = [document("site", n, f"{menu}\n{sentence(GOOD, rng)}", title=title) for n, title in enumerate(titles)]
    metrics, kept, _ = clean_documents(tmp_path, rows, max_line_page_share=0.5)
    assert metrics["lines"] == {"boilerplate": len(rows)}
    assert not any(menu in row["text"] for row in kept)


REFINE = corpus_scores._refine


def refine_and_die_once(path: Path, root: Path, **arguments: Any) -> dict[str, Any]:
    """The second look at a shard, whose worker is killed once after as many files as the name of `root` says."""
    left = int(root.name)
    write = corpus_scores.write_shard

    def write_and_die(*table_and_path: Any) -> None:
        nonlocal left
        write(*table_and_path)
        left -= 1
        if not left and not (died := root.parent / f"died-{root.name}").exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    corpus_scores.write_shard = write_and_die  # type: ignore[assignment]
    try:
        return REFINE(path, root=root, **arguments)
    finally:
        corpus_scores.write_shard = write


def test_a_lost_worker_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker, two, and two of which one is killed after a shard's first or second file: the same bytes and counts."""
    rng = random.Random(5)
    rows = [
        document(name, n, sentence(POOR if name == "web" and n % 2 else GOOD, rng))
        for n in range(16)
        for name in ("good", "web")
    ]
    folder = tmp_path / "documents"
    rows.append(document("web", 99, "!"))
    clean_documents(tmp_path / "first", rows, languages=None, max_top_ngram_ratio=1.0)
    for name in ("documents", "removed"):
        shutil.copytree(tmp_path / "first/out" / name, folder / name)
    params = ScoreParams(perplexity=PerplexityParams(reference=("good",), max_perplexity=16))
    results = {}
    for name, workers in (("0", 1), ("00", 2), ("1", 2), ("2", 2)):
        (tmp_path / "execution.yaml").write_text(f"workers: {workers}\n")
        monkeypatch.setattr(corpus_scores, "_refine", refine_and_die_once if int(name) else REFINE)
        shutil.copytree(folder, tmp_path / name)
        result = corpus_scores.filter_by_corpus_scores(params, 1, [], tmp_path / name, tmp_path / "work")
        assert result is not None
        assert (tmp_path / f"died-{name}").exists() == bool(int(name))
        lines = result.pop("lines").table()
        files = {path.relative_to(tmp_path / name): path for path in (tmp_path / name).rglob("*") if path.is_file()}
        results[name] = result, lines, {str(path): file.read_bytes() for path, file in files.items()}
    assert sum(results["0"][0]["removed"].values()) > 0
    for name in ("00", "1", "2"):
        assert results[name] == results["0"], name


def test_a_line_is_common_above_the_share_only(tmp_path: Path) -> None:
    pages = [
        repeated_lines.page_line_hashes(f"page {n}\n" + ("common\n" if n < 12 else "") + "12\n") for n in range(40)
    ]
    np.savez(tmp_path / "x.npz", hashes=np.concatenate(pages), pages=len(pages))
    for share, gone in ((0.29, 1), (0.30, 0)):
        common = repeated_lines.common_line_hashes([tmp_path / "x.npz"], share)
        assert repeated_lines.drop_common_lines("common\npage 1\n12", common) == (
            ("page 1\n12", ["common"]) if gone else ("common\npage 1\n12", [])
        )


def test_scores_are_trained_kept_and_counted(tmp_path: Path) -> None:
    rng = random.Random(1)
    rows = [document("good", n, sentence(GOOD, rng)) for n in range(60)]
    rows += [document("spam", n, sentence(POOR, rng)) for n in range(60)]
    rows += [document("web", n, sentence(GOOD if n % 2 else POOR, rng)) for n in range(40)]
    quality = {"positive": ["good"], "negative": ["spam"]}
    perplexity = {"reference": ["good"], "max_perplexity": 1e6}
    loose = {"max_top_ngram_ratio": 1.0, "languages": None}
    metrics, kept, removed = clean_documents(
        tmp_path / "1", rows, quality=quality, perplexity=perplexity, max_profanity=1.0, review=3, **loose
    )
    assert {row["reason"] for row in removed} == {"quality"}
    assert {row["source"] for row in kept} == {"good", "web"}
    assert len(kept) == 80
    for row in kept:
        assert None not in (row["profanity"], row["quality"], row["perplexity"])
        assert "scores" not in json.loads(row["meta"])
    assert all(row["quality"] < 0.5 for row in removed)
    scores = metrics["scores"]
    assert scores["quality"]["roc_auc"] == 1.0
    assert {name: score["threshold"] for name, score in scores.items() if name != "language_score"} == {
        "profanity": {"max": 1.0},
        "quality": {"min": 0.5},
        "perplexity": {"max": 1e6},
    }
    for name in ("profanity", "quality", "perplexity"):
        assert sum(scores[name]["counts"]) == 160
        assert len(scores[name]["edges"]) == len(scores[name]["counts"]) + 1
    files = sorted(path.name for path in (tmp_path / "1/out/models").iterdir())
    assert files == ["perplexity.json", "perplexity.safetensors", "quality.json", "quality.safetensors"]
    sample = [json.loads(line) for line in (tmp_path / "1/out/review/sample.jsonl").read_text().splitlines()]
    assert [(row["reason"], row["source"]) for row in sample] == (
        [("", "good")] * 3 + [("", "web")] * 3 + [("quality", "spam")] * 3 + [("quality", "web")] * 3
    )
    again, same, _ = clean_documents(
        tmp_path / "2", rows, quality=quality, perplexity=perplexity, max_profanity=1.0, **loose
    )
    assert (again, same) == (metrics, kept)
    _, kept, removed = clean_documents(
        tmp_path / "3", rows, perplexity={"reference": ["good"], "max_perplexity": 60.0}, **loose
    )
    assert {row["reason"] for row in removed} == {"perplexity"}
    assert {row["source"] for row in removed} == {"spam", "web"}
    assert removed[0]["detail"].endswith("> 60")


def test_labels_train_and_measure(tmp_path: Path) -> None:
    rng = random.Random(2)
    lines = [{"text": sentence(GOOD, rng), "label": "keep", "reason": "symbol_ratio"} for _ in range(12)]
    lines += [{"text": sentence(POOR, rng), "label": "remove", "reason": "symbol_ratio"} for _ in range(36)]
    lines += [{"text": "unseen", "label": None, "reason": "empty"}]
    labels = tmp_path / "labels.jsonl"
    labels.write_text("".join(json.dumps(line) + "\n" for line in lines) + "\n")
    assert measured_precision([labels]) == {"symbol_ratio": {"labelled": 48, "precision": 0.75}}
    assert {label: len(texts) for label, texts in read_labelled_texts([labels]).items()} == {"keep": 12, "remove": 36}
    rows = [document("web", n, sentence(GOOD if n % 2 else POOR, rng)) for n in range(20)]
    metrics, kept, _ = clean_documents(
        tmp_path / "1", rows, quality={"labels": ["labels.jsonl"]}, languages=None, max_top_ngram_ratio=1.0
    )
    assert len(kept) == 10
    assert metrics["review"]["symbol_ratio"]["precision"] == 0.75


def test_mistakes_in_examples_are_said(tmp_path: Path) -> None:
    rows = [document("web", n, sentence(GOOD, random.Random(n))) for n in range(20)]
    (tmp_path / "bad.jsonl").write_text('{"text": "x", "label": "good"}\n')
    for number, (quality, said) in enumerate(
        (
            ({"positive": ["web"], "negative": ["nowhere"]}, "no clean document has the source nowhere"),
            ({"positive": ["web"]}, "20 positive and 0 negative examples"),
            ({"labels": ["none.jsonl"]}, "none.jsonl: No such file"),
            ({"labels": ["bad.jsonl"]}, "bad.jsonl, line 1"),
            ({"labels": ["new.jsonl"]}, "dvc.yaml: clean: needs a dependency named 'new.jsonl'"),
        )
    ):
        with pytest.raises(UserError, match=said):
            clean_documents(tmp_path / str(number), rows, quality=quality, languages=None, max_top_ngram_ratio=1.0)


def test_the_classifier_reads_back_what_it_wrote(tmp_path: Path) -> None:
    rng = random.Random(3)
    good, poor = ([sentence(words, rng) for _ in range(30)] for words in (GOOD, POOR))
    train(good, poor, tmp_path)
    model = QualityClassifier(tmp_path)
    assert model.scores(good).min() > 0.5 > model.scores(poor).max()
    assert np.isfinite(model.scores([""])).all()


def test_probabilities_of_the_trigram_model_sum_to_one(tmp_path: Path) -> None:
    model = TrigramModel.train(["a b a c. a b b", "b a c a b", "c"])
    model.save(tmp_path)
    read = TrigramModel.load(tmp_path)
    everything = range(model.vocabulary_size)
    for before in ([1, 2], [2, 1], [3, 3], [0, 0], [1, 0]):
        last = [float(read.probabilities(np.array([*before, word]))[-1]) for word in everything]
        assert sum(last) == pytest.approx(1)
        assert min(last) > 0
    assert model.perplexity("a b a c") < model.perplexity("c c a a") < model.perplexity("x y z w")
    assert model.perplexity("") == 1.0
    # By hand: N = 13 words of 5 kinds and the unknown one; c comes 3 times and is a text of its own.
    unigrams = TrigramModel.train(["a a b"])
    assert unigrams.perplexity("b") == pytest.approx((3 + 3) / (1 + 1))


def test_rule_sets_in_the_stage(tmp_path: Path) -> None:
    rng = random.Random(4)
    page = "\n".join(sentence(GOOD, rng, 14) for _ in range(6))
    rows = [document("a", 1, page + "\nNo end of it\nRead the privacy policy."), document("a", 2, page + "\nA { here.")]
    rows += [document("a", 3, "Too few words for it, and that is all."), document("a", 4, page)]
    metrics, kept, removed = clean_documents(tmp_path, rows, rules=["gopher_quality", "c4"], max_top_ngram_ratio=1.0)
    assert [row["text"] for row in kept] == [page, page]
    assert metrics["lines"] == {"c4_no_terminal_punc": 1, "c4_policy": 1}
    assert json.loads((tmp_path / "out/lines.json").read_text()) == {
        "c4_no_terminal_punc": {"lines": 1, "samples": ["No end of it"]},
        "c4_policy": {"lines": 1, "samples": ["Read the privacy policy."]},
    }
    assert {row["url"][-1]: (row["reason"], row["detail"]) for row in removed} == {
        "2": ("c4_curly_bracket", "A { here."),
        "3": ("gopher_quality_short_doc", "9 words < 50"),
    }
    assert metrics["removed"] == {"c4_curly_bracket": 1, "gopher_quality_short_doc": 1}


def test_blocked_addresses(tmp_path: Path) -> None:
    entries = ("bad.org", "news.com/ads", "WWW.Big.net")
    for url, entry in (
        ("https://bad.org/x", "bad.org"),
        ("http://a.b.bad.org", "bad.org"),
        ("http://notbad.org/", None),
        ("http://news.com/ads/1", "news.com/ads"),
        ("http://news.com/", None),
        ("http://big.net:80/x", "WWW.Big.net"),
        ("file:data/bad.org", None),
        ("", None),
    ):
        assert blocking_entry(url, entries) == entry
    rows = [document(name, 1, sentence(GOOD, random.Random(1))) for name in ("bad", "fine")]
    _, kept, removed = clean_documents(tmp_path / "1", rows, url_blocklist=["bad.org"], max_top_ngram_ratio=1.0)
    assert [(row["url"], row["reason"], row["detail"]) for row in removed] == [
        ("http://bad.org/1", "url_blocked", "bad.org")
    ]
    assert len(kept) == 1
