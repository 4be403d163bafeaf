"""Clean: damaged archives, encodings, mending, filters with known values, masks, conversations, and that nothing is lost."""

import gzip
import io
import json
import os
import random
import re
import signal
import string
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from tasks.clean import clean_text
from tasks.clean import stage as clean_module
from tasks.clean.normalize import normalize
from tasks.clean.stage import CleanParams
from tasks.clean.warc_reader import read_pages
from tasks.conversations.conversation import render_conversation
from tasks.core.errors import UserError
from tasks.core.parallel import item_guard
from tasks.core.params import validate
from tasks.documents.shards import document_id
from tests.helpers.cleaning import PROSE, clean, row

pytestmark = pytest.mark.usefixtures("one_worker")


def member(url: str, body: bytes, kind: str = "text/html; charset=utf-8", status: str = "200 OK") -> bytes:
    """A gzip member with one response record."""
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=True)
    headers = StatusAndHeaders(status, [("Content-Type", kind)] if kind else [], protocol="HTTP/1.1")
    date = {"WARC-Date": "2026-01-02T03:04:05Z"}
    writer.write_record(
        writer.create_warc_record(url, "response", io.BytesIO(body), http_headers=headers, warc_headers_dict=date)
    )
    return out.getvalue()


def page(text: str) -> bytes:
    return f"<html><head><title>A page</title></head><body><p>{text}</p></body></html>".encode()


def test_a_page_becomes_a_document(tmp_path: Path) -> None:
    body = page(PROSE)
    _, kept, _ = clean(tmp_path, member("http://a/1", body))
    document = kept["http://a/1"]
    assert document["text"] == PROSE
    assert document["id"] == document_id("site", "http://a/1", body)
    assert (document["lang"], document["licence"], document["source"]) == ("en", "CC0", "site")
    assert document["fetched_at"].isoformat() == "2026-01-02T03:04:05+00:00"
    assert json.loads(document["meta"])["title"] == "A page"


def test_damaged_archive_gives_up_only_what_is_damaged(tmp_path: Path) -> None:
    good = [member(f"http://a/{n}", page(f"{PROSE} Number {n} of them.")) for n in range(4)]
    flipped = bytearray(good[1])
    flipped[len(flipped) // 2] ^= 0xFF
    no_record = gzip.compress(b"this is no WARC record\r\n\r\n")
    metrics, kept, removed = clean(tmp_path, good[0] + bytes(flipped) + good[2] + no_record + good[3] + good[0][:-20])
    assert sorted(kept) == ["http://a/0", "http://a/2", "http://a/3"]
    assert metrics["removed"] == {"broken_record": 3}
    assert {r["reason"] for r in removed.values()} == {"broken_record"}
    assert sorted(int(url.rpartition("#")[2]) for url in removed)[0] == len(good[0])


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 10_000))
def test_no_damage_stops_the_reader(tmp_path_factory: pytest.TempPathFactory, noise: bytes, cut: int) -> None:
    path = tmp_path_factory.mktemp("warc") / "x.warc.gz"
    good = member("http://a/1", page(PROSE))
    cut %= len(good)
    path.write_bytes(good + good[:cut] + noise + good)
    urls = [p.url for p in read_pages(path, 10_000) if p.problem is None]
    assert urls == ["http://a/1"] * 2


def test_a_page_in_several_gzip_members_is_whole(tmp_path: Path) -> None:
    halves = page(PROSE)[:60], page(PROSE)[60:]
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=True)
    sent = [("Content-Type", "text/html"), ("Content-Encoding", "gzip")]
    body = io.BytesIO(b"".join(map(gzip.compress, halves)))
    headers = StatusAndHeaders("200 OK", sent, protocol="HTTP/1.1")
    writer.write_record(writer.create_warc_record("http://a/1", "response", body, http_headers=headers))
    _, kept, _ = clean(tmp_path, out.getvalue())
    assert kept["http://a/1"]["text"] == PROSE


def test_pages_that_are_refused(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(4000)
    words = [f"{word}{other.lower()}" for word in PROSE.split() for other in PROSE.split()]
    warc = b"".join(
        [
            member("http://a/large", page("x" * 60_000_000)),
            member("http://a/gone", page(PROSE), status="404 Not Found"),
            member("http://a/image", noise, "image/png"),
            member("http://a/noise", noise, "text/html"),
            member("http://a/deep", b"<div>" * 200_000 + PROSE.encode()),
            member("http://a/attributes", b"<p " + b" ".join(b"a%d=1" % n for n in range(100_000)) + b">x"),
            member("http://a/empty", b""),
            member("http://a/plain", PROSE.encode(), "text/plain"),
            member("http://a/untyped", page(PROSE), ""),
            member("http://a/line", page(" ".join(random.Random(1).choices(words, k=800_000)))),
        ]
    )
    _, kept, removed = clean(tmp_path, warc)
    assert {url[9:]: row["reason"] for url, row in removed.items()} == {
        "large": "page_too_large",
        "gone": "http_status",
        "image": "content_type",
        "noise": "unreadable",
        "deep": "page_too_complex",
        "attributes": "page_too_complex",
        "empty": "empty",
    }
    assert sorted(url[9:] for url in kept) == ["line", "plain", "untyped"]
    assert kept["http://a/plain"]["text"] == kept["http://a/untyped"]["text"] == PROSE


@pytest.mark.parametrize("extraction", ["fast", "precise"])
def test_pathological_pages_are_lost_alone(tmp_path: Path, extraction: Literal["fast", "precise"]) -> None:
    pages = {
        "deep": b"<div>" * 10_000 + PROSE.encode(),
        "line": b"<html><body><table>" + b"<tr><td>a <code>b</code><td>c" * 180_000,  # 5 MB
        "good": page(PROSE),
    }
    params = CleanParams(extraction=extraction, format="markdown", max_page_seconds=1.0)
    warc = b"".join(member(f"http://a/{name}", body) for name, body in pages.items())
    metrics, kept, removed = clean(tmp_path, warc, params=params)
    assert {url[9:]: row["reason"] for url, row in removed.items()} == {
        "deep": "page_too_complex",
        "line": "extraction_timeout",
    }
    assert metrics["removed"] == {"extraction_timeout": 1, "page_too_complex": 1}
    assert kept["http://a/good"]["text"] == PROSE


def test_each_filter_names_its_reason(tmp_path: Path) -> None:
    rng = random.Random(0)
    noise = "".join(rng.choices(string.ascii_letters + string.digits, k=3000))
    texts = {
        "too_short": "short",
        "too_long": PROSE + " And more of it." * 2,
        "symbol_ratio": "!?" * 30 + " what is this about",
        "duplicate_lines": "\n".join(["again and again it is one line"] * 9),
        "top_ngram": "well then " * 4 + "this is it",
        "character_entropy": "aaaaaaaaaaaaaaaaaaaaaaaaaab",
        "zlib_ratio_high": noise,
        "language": "Der schnelle braune Fuchs springt über den faulen Hund, während sieben Zauberer zusehen und schweigen.",
        "unreadable": "\x00\x01\ufffd" * 5 + PROSE,
        "empty": " \n\t",
        "kept": PROSE,
    }
    loose = CleanParams(max_characters=len(PROSE) if len(PROSE) > 3000 else 3000)
    rows = [row(name, text * (30 if name == "too_long" else 1)) for name, text in texts.items()]
    metrics, kept, removed = clean(tmp_path, rows=rows, params=loose)
    assert {url: row["reason"] for url, row in removed.items()} == {name: name for name in texts if name != "kept"}
    assert list(kept) == ["kept"]
    assert metrics["removed"] == dict.fromkeys(sorted(set(texts) - {"kept"}), 1)
    assert removed["too_short"]["detail"] == "5 characters < 20"
    assert removed["language"]["text"] == texts["language"]
    _, kept, _ = clean(tmp_path, rows=[row("de", texts["language"])], params=CleanParams(languages=None))
    assert kept["de"]["lang"] == "de"


def test_bad_words_are_a_reason_with_the_word(tmp_path: Path) -> None:
    chinese = "他们在城市里工作和学习，每天都有很多事情要做，晚上回家听音乐，跟朋友聊天，生活非常愉快。"
    chinese += "第二天早上他们又坐车去学校上课，老师讲历史和科学。"
    rows = [row("en", PROSE), row("en bad", f"{PROSE} Damn."), row("zh", chinese), row("zh bad", f"{chinese}有坏词。")]
    files = {"en": tmp_path / "en.txt", "zh": tmp_path / "zh.txt"}
    files["en"].write_text("damn\nquic\n")
    files["zh"].write_text("坏词\nfox\n")
    params = CleanParams(languages=None, bad_words={"en": "lists/en.txt", "zh": "lists/zh.txt"})
    declared = {path.name: path for path in files.values()}
    metrics, kept, removed = clean(tmp_path, rows=rows, params=params, declared=declared)
    assert sorted(kept) == ["en", "zh"]
    assert {url: (row["reason"], row["detail"], row["lang"]) for url, row in removed.items()} == {
        "en bad": ("c4_bad_word", "damn", "en"),
        "zh bad": ("c4_bad_word", "坏词", "zh"),
    }
    assert metrics["removed"] == {"c4_bad_word": 2}
    with pytest.raises(UserError, match=r"dvc\.yaml: .* needs a dependency named 'en\.txt'"):
        clean(tmp_path, rows=rows, params=params)
    with pytest.raises(UserError, match=r"params\.yaml: clean\.bad_words"):
        validate(CleanParams, {"bad_words": {"english": "en.txt"}}, "params.yaml: clean")


CLEAN_FILE = clean_module.clean_file


def die_on_pages(file: clean_module.InputFile, removed_for: Any = None, **others: Any) -> dict[str, Any]:
    """clean_file, killed by every archive unless that is set aside."""
    if file.source and not removed_for:
        os.kill(os.getpid(), signal.SIGKILL)
    return CLEAN_FILE(file, removed_for=removed_for, **others)


def test_a_file_that_kills_its_worker_can_be_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean_module, "clean_file", die_on_pages)
    (tmp_path / "execution.yaml").write_text("workers: 2\n")
    warc = member("http://site.test/", page(PROSE)) + member("http://site.test/2", page("x"))
    rows = [row("kept", PROSE)]
    with pytest.raises(UserError, match=r"00000\.warc\.gz was killed, twice"):
        clean(tmp_path, warc, rows)
    metrics, kept, removed = clean(tmp_path, warc, rows, CleanParams(quarantine=True))
    assert list(kept) == ["kept"]
    assert {url: row["reason"] for url, row in removed.items()} == dict.fromkeys(
        ("http://site.test/", "http://site.test/2"), "worker_lost"
    )
    assert metrics["removed"] == {"worker_lost": 2}


def fail_on(what: str) -> Any:
    """A mend that never ends on one text, and cannot bear another."""

    def one(text: str, unescape: bool) -> str:
        if "endless" in text:
            re.search(r"(.+?x)(?=y)", "x" * 10**6)
        if "unbearable" in text:
            raise RecursionError(what)
        return normalize(text, unescape)

    return one


def test_a_document_that_fails_is_named_or_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean_text, "normalize", fail_on("too deep"))
    monkeypatch.setattr(item_guard, "SECONDS", 0.2)
    endless, unbearable = row("e", f"{PROSE} endless"), row("u", f"{PROSE} unbearable")
    with pytest.raises(
        UserError, match=r"parquet: document \w+ \(e\): took more than 0 s of processor time .* clean.quarant"
    ):
        clean(tmp_path, rows=[endless])
    with pytest.raises(UserError, match=r"document \w+ \(u\): RecursionError\('too deep'\) \(at .*test_stage.py:"):
        clean(tmp_path, rows=[unbearable])
    warc = member("http://site.test/", page(f"{PROSE} unbearable"))
    documents = [row("kept", PROSE), endless, unbearable, row("too", PROSE)]
    metrics, kept, removed = clean(tmp_path, warc, documents, CleanParams(quarantine=True))
    assert list(kept) == ["kept", "too"]
    assert {url: each["reason"] for url, each in removed.items()} == {
        "http://site.test/": "failed",
        "e": "out_of_time",
        "u": "failed",
    }
    assert removed["e"]["text"] == endless["text"]
    assert metrics["removed"] == {"failed": 2, "out_of_time": 1}


def test_the_language_score_is_kept(tmp_path: Path) -> None:
    """Of documents that stay and that go; null where there are too few letters to tell or nobody looked."""
    german = "Der schnelle braune Fuchs springt über den faulen Hund, während sieben Zauberer zusehen und schweigen."
    texts = {
        "en": PROSE,
        "de": german,
        "few": "Twenty characters, 1 2 3 4.",
        "short": "x",
        "mixed": f"{german[:50]} {PROSE[:50]}",
    }
    params = CleanParams(min_language_score=0.8)
    metrics, kept, removed = clean(tmp_path, rows=[row(*each) for each in texts.items()], params=params)
    scores = {url: each["language_score"] for url, each in (kept | removed).items()}
    assert scores["few"] is scores["short"] is None
    assert scores["en"] >= 0.8
    assert 0 < scores["mixed"] < 0.8
    assert removed["de"]["detail"] == f"de with score {scores['de']}"
    assert kept["mixed"]["lang"] is None
    assert sum(metrics["scores"]["language_score"]["counts"]) == 3


def test_conversations_are_cleaned_by_message(tmp_path: Path) -> None:
    def turns(*contents: str) -> list[dict[str, str]]:
        return [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]

    said = turns("Hello there, cafÃ© at noon?", "Mail me: a.b@c.org", "\u200b ", "It is a deal, see you there")
    rows = [
        row("good", render_conversation(said), said),
        row("gone", "x", turns(" ", "\x00")),
        row("bad", "x", [{"role": "robot"}]),
    ]
    metrics, kept, removed = clean(tmp_path, rows=rows)
    messages = json.loads(kept["good"]["meta"])["messages"]
    assert messages == [
        {"role": "user", "content": "Hello there, café at noon?"},
        {"role": "assistant", "content": "Mail me: email@example.com\nIt is a deal, see you there"},
    ]
    assert kept["good"]["text"] == render_conversation(messages)
    assert {url: r["reason"] for url, r in removed.items()} == {"gone": "empty", "bad": "malformed_conversation"}
    assert metrics["messages"] == {"empty": 3, "in": 6, "joined": 1, "out": 2}
    assert metrics["masked"]["email"] == 1


def test_nothing_left_is_said_with_reasons(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"none of the 2 documents .* too_short 1.*change clean\.min_characters \(20\) in params\.yaml"
    ):
        clean(tmp_path, rows=[row("a", "x"), row("b", "!" * 50)])
    with pytest.raises(UserError, match=r"scrape\.sources"):
        clean(tmp_path)
    with pytest.raises(UserError, match=r"clean\.skip_elements: 'p\[\['"):
        clean(tmp_path, rows=[row("a", PROSE)], params=CleanParams(skip_elements=("p[[",)))
