"""Dedup's levels: what goes at each, for whom, and that what followed a removed document follows it on."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dedup import containment
from tasks.documents.shards import read_documents
from tasks.similarity import posting_lists
from tests.helpers.deduplicating import dedup, text, words

pytestmark = pytest.mark.usefixtures("one_worker")


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
    levels = {"levels": ["exact", "near", "contained"]}
    kept, removed, metrics = dedup(tmp_path, [rows[:2], rows[2:]], **levels)
    assert set(kept) == {"whole", "other"}
    assert {row["kept_id"] for row in removed.values()} == {"whole"}
    assert removed["part"]["reason"] == "contained"
    assert removed["part"]["similarity"] == 1.0
    assert removed["part again"]["reason"] == "exact_duplicate"
    assert removed["part again"]["similarity"] == 56 / 196
    assert removed["part again"]["detail"] == "same text as part, which stands in it"
    assert removed["nearly part"]["reason"] == "contained"  # as it stands in the one that stays, too
    assert removed["nearly part"]["similarity"] == 1.0
    assert metrics["removed"] == {"contained": 2, "exact_duplicate": 1, "near_duplicate": 0}
    removed = dedup(tmp_path, [rows], **levels, clusters="component")[1]
    assert removed["nearly part"]["reason"] == "near_duplicate"
    assert removed["nearly part"]["detail"] == "similar to part, which stands in it"


def test_a_document_that_others_went_for_goes_only_with_them(tmp_path: Path) -> None:
    """Of what went, as much as the threshold says stands in something that stays, also after two levels."""
    long, more = text(1, 200).split(), text(2, 10).split()
    rows = [
        {"id": "whole", "text": " ".join(long)},
        {"id": "part", "text": " ".join(long[20:100])},
        {"id": "like part", "text": " ".join([*long[20:88], *more[:8]])},
    ]
    both = {"levels": ["near", "contained"], "threshold": 0.7}
    assert set(dedup(tmp_path, [rows[:2]], **both)[0]) == {"whole"}
    kept, removed, _ = dedup(tmp_path, [rows], **both)
    assert set(kept) == {"whole", "part"}
    assert (removed["like part"]["kept_id"], removed["like part"]["similarity"]) == ("part", 64 / 84)
    assert set(dedup(tmp_path, [rows], **both, clusters="component")[0]) == {"whole"}


def test_a_document_that_others_went_for_keeps_its_paragraphs(tmp_path: Path) -> None:
    pieces = [text(n, 30) for n in range(4)]
    rows = [
        {"id": "a", "text": f"{pieces[0]}\n\n{text(7, 60)}"},
        {"id": "b", "text": f"{pieces[1]}\n\n{text(8, 60)}"},
        {"id": "both", "text": f"{pieces[0]}\n\n{pieces[1]}\n\nend"},
        {"id": "like both", "text": f"{pieces[0]}\n\n{pieces[1]}\n\nfin"},
    ]
    levels = {"levels": ["near", "paragraphs"], "threshold": 0.7}
    assert set(dedup(tmp_path, [rows[:3]], **levels)[0]) == {"a", "b"}
    kept, removed, _ = dedup(tmp_path, [rows], **levels)
    assert set(removed) == {"like both"}
    assert kept["both"] == rows[2]["text"]


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
    monkeypatch.setattr(containment, "MAX_POSTINGS", 10)
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
    monkeypatch.setattr(containment, "MAX_CANDIDATES", 2)
    monkeypatch.setattr(containment, "MAX_POSTINGS", 5)
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
    pairs, bounded = posting_lists.propose_containers(grams, borders, grams, where, sizes, longest, most)
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


def test_pages_begin_where_they_did_when_a_paragraph_goes(tmp_path: Path) -> None:
    notice = "All rights reserved. " * 5
    said = f"{text(1, 30)}\n\n{notice}\n\n{text(2, 30)}"
    pages = {"pages": [[0, "1"], [said.index(text(2, 30)), "2"]]}
    rows = [{"id": "a", "text": notice + "\n\n" + text(3, 60)}, {"id": "b", "text": said, "meta": json.dumps(pages)}]
    kept, _, _ = dedup(tmp_path, [rows], levels=["paragraphs"])
    [found] = [row for row in read_documents(next(tmp_path.glob("run*/out/documents"))).to_pylist() if row["id"] == "b"]
    assert kept["b"] == f"{text(1, 30)}\n\n{text(2, 30)}"
    assert kept["b"][json.loads(found["meta"])["pages"][1][0] :] == text(2, 30)


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
