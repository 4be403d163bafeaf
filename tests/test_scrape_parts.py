"""What crawling is made of: addresses, encodings, links, the frontier, WARC files."""

import gzip
import zlib
from pathlib import Path

import pytest
from warcio.archiveiterator import ArchiveIterator

from tasks.formats.encodings.decode import decode_file
from tasks.http import content_encoding
from tasks.scrape.crawler.frontier import Frontier, Link, Outcome
from tasks.scrape.crawler.links import Scope, links_of
from tasks.scrape.crawler.resolver import is_public
from tasks.scrape.sources import WebSource
from tasks.scrape.warc.warc_writer import response_record, write_warcs


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:7f00:1::", False),
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_content_encodings() -> None:
    text = b"some text " * 1000
    raw_deflate = zlib.compress(text)[2:-4]
    for coding, body in [
        ("gzip", gzip.compress(text)),
        ("deflate", zlib.compress(text)),
        ("deflate", raw_deflate),
        ("identity", text),
        ("", text),
        ("deflate, gzip", gzip.compress(zlib.compress(text))),
        ("gzip", gzip.compress(text[:5000]) + gzip.compress(text[5000:])),
    ]:
        assert content_encoding.decode_content(body, coding, len(text)) == text
    with pytest.raises(content_encoding.TooLarge):
        content_encoding.decode_content(gzip.compress(text), "gzip", len(text) - 1)
    for broken in (gzip.compress(text)[:-1], b"no gzip", gzip.compress(text)[:30]):
        with pytest.raises(content_encoding.Undecodable):
            content_encoding.decode_content(broken, "gzip", 10**6)
    with pytest.raises(content_encoding.Undecodable, match="br"):
        content_encoding.decode_content(b"x", "br", 10)


@pytest.mark.parametrize(
    ("content", "declared", "text", "label"),
    [
        (b"", None, "", "utf-8 (valid)"),
        ("\ufeffä".encode(), None, "ä", "utf-8 (mark)"),
        ("\ufeffä".encode(), "latin-1", "ä", "utf-8 (mark)"),
        ("äöü".encode("utf-16"), None, "äöü", "utf-16 (mark)"),
        ("äöü".encode("utf-32"), None, "äöü", "utf-32 (mark)"),
        ("naïve café".encode("latin-1"), "iso8859-15", "naïve café", "iso8859-15 (declared)"),
        (
            "これは日本語の文章です。よろしくお願いします。".encode("shift_jis"),
            None,
            "これは日本語の文章です。よろしくお願いします。",
            "cp932 (content)",
        ),
    ],
)
def test_an_encoding_is_found_and_named(content: bytes, declared: str | None, text: str, label: str) -> None:
    decoded = decode_file(content, declared)
    assert decoded is not None
    assert (decoded.text, decoded.label) == (text, label)


def test_bytes_that_are_no_text() -> None:
    assert decode_file(bytes(range(256)) * 4) is None
    assert decode_file(b"\0\1\2\3") is None
    assert decode_file("日本".encode("shift_jis"), "utf-8") is None  # a declaration is not replaced by a guess


def test_links_in_the_order_of_the_page() -> None:
    source = WebSource(name="s", start=("http://www.e.org/",), deny=("/private",))
    html = b"""<base href="/docs/"><a href="b#x">b</a> <a href=" a ">a</a><a href="b#y">b</a><a href="javascript:x()">j</a>
    <a href="/private/1">p</a><a href="http://e.org/c">c</a><a href="http://[bad">x</a><a href="//other.org/">o</a>"""
    found = list(links_of("http://www.e.org/x", {"Content-Type": "text/html"}, html, Scope(source)))
    followed = list(dict.fromkeys(link.url for link in found if not link.excluded))
    assert followed == ["http://www.e.org/docs/b", "http://www.e.org/docs/a", "http://e.org/c"]


def test_frontier_keeps_what_it_was_told(tmp_path: Path) -> None:
    frontier = Frontier(tmp_path / "f.sqlite")
    frontier.start([Link("a", "a"), Link("b", "b")])
    first, second = frontier.level(0)
    # The answer that comes first does not decide the order of the next level, nor which spelling of a URL is used.
    frontier.finish(second, Outcome("saved"), b"B", [Link("x", "x-from-b"), Link("y", "y")])
    frontier.finish(first, Outcome("saved"), b"A", [Link("z", "z"), Link("x", "x-from-a"), Link("no", "no", "denied")])
    frontier.close()
    frontier = Frontier(tmp_path / "f.sqlite")
    assert [visit.url for visit in frontier.level(1)] == ["z", "x-from-a", "y"]
    assert frontier.saved() == 2
    frontier.close_open(0)
    assert frontier.outcomes() == {"excluded": 1, "saved": 2, "too_deep": 3}
    assert list(frontier.warc_records()) == [b"A", b"B"]


def test_warc_files_hold_at_most_a_hundred_pages(tmp_path: Path) -> None:
    date = "2024-05-01T10:00:00Z"
    records = [response_record(f"http://e.org/{n}", date, 200, "HTTP/1.1", [], b"page") for n in range(201)]
    assert write_warcs(records, tmp_path) == 201
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["00000.warc.gz", "00001.warc.gz", "00002.warc.gz"]
    assert len(list(ArchiveIterator((tmp_path / names[1]).open("rb"), check_digests=True))) == 100
    assert records[0] == response_record("http://e.org/0", date, 200, "HTTP/1.1", [], b"page")
