import gzip
import json
import random
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from site_server import Site, serve
from warcio.archiveiterator import ArchiveIterator

from tasks.core.errors import UserError
from tasks.core.params import validate
from tasks.core.paths import Inputs, Metrics, Outputs
from tasks.scrape import ScrapeParams, run
from tasks.text.conversation import messages_of
from tasks.text.documents import REMOVED_SCHEMA, SCHEMA, read_documents
from tasks.text.encoding import decode_file
from tasks.web import content
from tasks.web.frontier import Frontier, Link, Outcome
from tasks.web.links import Scope, links_of
from tasks.web.resolver import is_public
from tasks.web.sources import WebSource
from tasks.web.warc import response_record, write_warcs

ROOT = Path(__file__).resolve().parents[1]


def scrape(folder: Path, *sources: dict[str, Any]) -> tuple[Metrics, Outputs]:
    outputs = Outputs(folder / "out", folder / "work")
    for path in (outputs.root, outputs.work):
        path.mkdir(parents=True, exist_ok=True)
    params = validate(ScrapeParams, {"sources": list(sources)}, "params.yaml: scrape")
    return run(params, Inputs({}), outputs), outputs


def web(site: Site, **options: Any) -> dict[str, Any]:
    usual = {"allow_private": True, "delay": 0, "retry_delay": 0.01, "timeout": 10, "start": [site.url + "/"]}
    return {"name": "site", "kind": "web", **usual, **options}


def crawl_log(outputs: Outputs, source: str = "site") -> dict[str, dict[str, Any]]:
    lines = (outputs / "crawl" / f"{source}.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert len({entry["url"] for entry in entries}) == len(entries)
    return {entry["url"]: entry for entry in entries}


def pages(outputs: Outputs, source: str = "site") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted((outputs / "web" / source).glob("*.warc.gz")):
        with path.open("rb") as file:
            for number, record in enumerate(ArchiveIterator(file), 1):
                assert number <= 100
                url = record.rec_headers.get_header("WARC-Target-URI")
                assert url not in found
                found[url] = (record, record.content_stream().read())
    return found


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One crawl over a site on which everything goes wrong."""
    with serve() as site:
        bad = ["/loop1", "/hop1", "/moved", "/to-private", "/flaky", "/always-500", "/huge", "/huge-chunked", "/bomb"]
        bad += ["/gzip", "/broken-gzip", "/image", "/cut", "/bytes", "/slow", "/missing", "/secret/page", "/file.zip"]
        same = ["/same?a=1&b=2", "/same?b=2&a=1", "/same?b=2&a=1#part"]
        site.pages["/"] = site.link_to(*bad, *same, "/deep1", "/denied/x", "http://elsewhere.example/", "mailto:a@b.c")
        site.pages |= {"/same": "<p>one page</p>", "/from-gzip": "<p>found</p>", "/denied/x": "no"}
        site.pages |= {"/deep1": site.link_to("/deep2"), "/deep2": site.link_to("/deep3"), "/deep3": "<p>too deep</p>"}
        source = web(site, deny=["/denied/"], depth=2, max_bytes=1_500_000, timeout=0.5, retries=2, redirects=4)
        metrics, outputs = scrape(tmp_path_factory.mktemp("site"), source)
        yield site, metrics, outputs


def test_every_url_has_the_outcome_that_it_deserves(crawled: Any) -> None:
    site, metrics, outputs = crawled
    found = {url.removeprefix(site.url): entry["outcome"] for url, entry in crawl_log(outputs).items()}
    assert found == {
        **dict.fromkeys(["/", "/target", "/flaky", "/gzip", "/from-gzip", "/bytes", "/deep1", "/deep2"], "saved"),
        **dict.fromkeys(["/denied/x", "/file.zip", "http://elsewhere.example/"], "excluded"),
        **dict.fromkeys(["/huge", "/huge-chunked", "/bomb"], "too_large"),
        **dict.fromkeys(["/moved", "/to-private", "/loop1", "/hop1", "/hop2", "/hop3", "/hop4"], "redirect"),
        "/same?a=1&b=2": "saved",
        "/loop2": "redirect_loop",
        "/hop5": "too_many_redirects",
        "/deep3": "too_deep",
        "/broken-gzip": "decode_error",
        "/image": "no_text",
        "/cut": "truncated",
        "/slow": "timeout",
        "/missing": "http_404",
        "/always-500": "http_500",
        "/secret/page": "robots",
    }
    outcomes = metrics["sources"]["site"]["outcomes"]
    assert sum(outcomes.values()) == len(found)
    assert outcomes["saved"] == metrics["pages"] == 9


def test_what_the_site_was_asked(crawled: Any) -> None:
    site, _, outputs = crawled
    log = crawl_log(outputs)
    assert site.asked["/flaky"] == log[site.url + "/flaky"]["attempts"] == 3
    assert site.asked["/always-500"] == site.asked["/slow"] == site.asked["/cut"] == 3
    assert sum(site.asked[path] for path in site.asked if path.startswith("/same")) == 1
    assert site.asked["/missing"] == site.asked["/loop1"] == site.asked["/target"] == site.asked["/robots.txt"] == 1
    assert not {"/secret/page", "/denied/x", "/file.zip", "/deep3", "/hop6"} & set(site.asked)
    assert site.sent < 60_000_000  # of 100 MB; what the socket's buffers hold included


def test_warc_keeps_what_was_sent(crawled: Any) -> None:
    site, _, outputs = crawled
    found = pages(outputs)
    saved = {url for url, entry in crawl_log(outputs).items() if entry["outcome"] == "saved"}
    assert set(found) == saved
    record, body = found[site.url + "/gzip"]
    assert record.rec_type == "response"
    assert record.http_headers.statusline == "200 OK"
    assert record.http_headers.protocol == "HTTP/1.1"
    assert record.http_headers.get_header("Content-Encoding") == "gzip"
    assert body == b"<p>gzip, and <a href='/from-gzip'>a link</a></p>"
    assert found[site.url + "/bytes"][1] == b"<p>\x81\xfe\xff\x00\x9d</p>"
    assert record.rec_headers.get_header("WARC-Date") == crawl_log(outputs)[site.url + "/gzip"]["fetched_at"]


def test_clean_reads_the_pages(crawled: Any) -> None:
    from tasks.web.archive import read_pages

    _, metrics, outputs = crawled
    found = [page for path in (outputs / "web" / "site").iterdir() for page in read_pages(path, 10**7)]
    assert len(found) == metrics["pages"]
    assert not [page.problem for page in found if page.problem]


@pytest.mark.slow
def test_the_same_limited_pages_whatever_answers_first(tmp_path: Path) -> None:
    with serve() as site:
        site.pages["/"] = site.link_to(*(f"/{n}" for n in (3, 1, 404, 2)))
        site.pages |= {f"/{n}": site.link_to(f"/{n}/b", f"/{n}/a") for n in (1, 2, 3)}
        site.pages |= {f"/{n}/{letter}": "<p>leaf</p>" for n in (1, 2, 3) for letter in "ab"}
        for concurrency in (1, 4):
            _, outputs = scrape(tmp_path / str(concurrency), web(site, max_pages=6, concurrency=concurrency))
            assert {url.removeprefix(site.url) for url in pages(outputs)} == {"/", "/1", "/2", "/3", "/3/b", "/3/a"}


@pytest.mark.slow
def test_killed_and_continued_is_as_never_killed(tmp_path: Path) -> None:
    with serve() as site:
        site.delay_s = 0.02
        site.pages["/"] = site.link_to(*(f"/{n}" for n in range(12)))
        for n in range(12):
            site.pages[f"/{n}"] = site.link_to(*(f"/{n}/{m}" for m in range(6)), "/0/1")
            site.pages |= {f"/{n}/{m}": f"<p>page {n} {m}</p>" for m in range(6)}
        source = web(site, max_pages=70)
        _, whole = scrape(tmp_path / "whole", source)
        script = (
            "import sys, json; from pathlib import Path; sys.path.insert(0, 'tests'); from test_scrape import scrape;"
            "scrape(Path(sys.argv[1]), json.loads(sys.argv[2]))"
        )
        folder = tmp_path / "killed"
        for _ in range(2):
            process = subprocess.Popen(
                [sys.executable, "-c", script, str(folder), json.dumps(source)], cwd=ROOT, stderr=subprocess.DEVNULL
            )
            before = sum(site.asked.values())
            while process.poll() is None and sum(site.asked.values()) < before + 20:
                time.sleep(0.01)
            assert process.poll() is None, "it was to be killed in the midst of the crawl"
            process.send_signal(signal.SIGKILL)
            process.wait()
        time.sleep(0.5)
        quiet = sum(site.asked.values())
        time.sleep(0.5)
        assert sum(site.asked.values()) == quiet, "the crawler outlived the stage"
        site.asked.clear()
        _, continued = scrape(folder, source)
        assert 0 < sum(site.asked.values()) < 60, "it began anew"
    assert {url: body for url, (_, body) in pages(continued).items()} == {
        url: body for url, (_, body) in pages(whole).items()
    }
    assert len(pages(continued)) == 70


@pytest.mark.slow
def test_damaged_frontier_is_begun_anew(tmp_path: Path) -> None:
    with serve() as site:
        site.pages["/"] = "<p>here</p>"
        (tmp_path / "work").mkdir()
        (tmp_path / "work" / "site.sqlite").write_bytes(random.Random(1).randbytes(8192))
        metrics, _ = scrape(tmp_path, web(site))
    assert metrics["pages"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"robots": "User-agent: *\nDisallow: /"}, "robots.txt forbids"),
        pytest.param({"robots_status": 503}, "robots.txt: http_503, which forbids all", marks=pytest.mark.slow),
        pytest.param({"options": {"allow_private": False}}, "allow_private: true", marks=pytest.mark.slow),
        ({"options": {"allow_private": False}, "host": "localhost"}, "private_address"),
        pytest.param({"gone": True}, "connection_refused", marks=pytest.mark.slow),
        pytest.param({}, "http_404", marks=pytest.mark.slow),
    ],
)
def test_a_site_that_yields_nothing_says_why(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with serve() as site:
        site.robots = change.get("robots", site.robots)
        site.robots_status = change.get("robots_status", 200)
        source = web(site, retries=0, **change.get("options", {}))
        source["start"] = [source["start"][0].replace("127.0.0.1", change.get("host", "127.0.0.1"))]
        if not change.get("gone"):
            with pytest.raises(UserError, match=message):
                scrape(tmp_path, source)
            if "private" in message:
                assert not site.asked
            site.robots, site.robots_status, site.pages["/"] = None, 404, "<p>mended</p>"
            assert scrape(tmp_path, {**source, "allow_private": True})[0]["pages"] == 1
    if change.get("gone"):
        with pytest.raises(UserError, match=message):
            scrape(tmp_path, source)


@pytest.mark.slow
def test_pydoc_and_its_server_ends(tmp_path: Path) -> None:
    before = _processes()
    metrics, outputs = scrape(tmp_path, {"name": "docs", "kind": "pydoc", "max_pages": 40})
    found = pages(outputs, "docs")
    assert metrics["pages"] == len(found) == 40
    assert all(url.startswith("http://pydoc.localhost/") for url in found)
    assert not any(b"127.0.0.1:" in body for _, body in found.values())
    assert _processes() <= before


def _processes() -> set[int]:
    """Crawlers and documentation servers below this process, and those whose parent is gone."""
    ours = {process.pid for process in psutil.Process().children(recursive=True)}
    found = set()
    for process in psutil.process_iter(["pid", "ppid", "cmdline"]):
        words = process.info["cmdline"] or []
        mine = process.info["pid"] in ours or process.info["ppid"] == 1
        if mine and ("pydoc" in words or "tasks.web.crawl" in words):
            found.add(process.info["pid"])
    return found


def test_environment_of_the_user_stays_his_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.request import urlopen

    from tasks.web.pydoc_server import pydoc_server

    monkeypatch.setenv("SOME_TOKEN", "do-not-publish")
    with pydoc_server(tmp_path) as server, urlopen(f"{server}/os.html") as page:  # noqa: S310
        text = page.read()
    assert b"environ" in text
    assert b"do-not-publish" not in text


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    (folder / "corpus").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def files(*paths: str, **options: Any) -> dict[str, Any]:
    return {"name": "mine", "kind": "files", "paths": list(paths), "licence": "CC0-1.0", **options}


def rows(outputs: Outputs, folder: str = "documents") -> list[dict[str, Any]]:
    return list(read_documents(outputs / folder).to_pylist())


def test_files_of_each_format(project: Path, tmp_path: Path) -> None:
    corpus = project / "corpus"
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    lines = [
        {"text": "first", "url": "https://e.org/1", "id": 7},
        {"text": "second"},
        {"messages": turns},
    ]
    (corpus / "a.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    pq.write_table(pa.table({"text": ["p one", "p two"], "url": ["https://e.org/p", None]}), corpus / "b.parquet")
    (corpus / "c.txt").write_text("Grüße", "utf-8")
    (corpus / "d e.txt").write_bytes("Grüße aus dem alten Köln, wo die Bäume blühen".encode("latin-1"))
    (corpus / "f.txt").write_text("Grüße", "utf-16")
    (corpus / "g.html").write_text("<p>page</p>")
    outside = tmp_path / "outside.md"
    outside.write_text("outside")
    metrics, outputs = scrape(tmp_path, files("corpus/*", str(outside)))
    table = read_documents(outputs / "documents")
    assert table.schema.names == SCHEMA.names
    found = {row["url"]: row for row in table.to_pylist()}
    assert {url: row["text"] for url, row in found.items() if not messages_of(row["meta"])} == {
        "https://e.org/1": "first",
        "file:corpus/a.jsonl#L2": "second",
        "https://e.org/p": "p one",
        "file:corpus/b.parquet#R2": "p two",
        "file:corpus/c.txt": "Grüße",
        "file:corpus/f.txt": "Grüße",
        "file:corpus/d%20e.txt": "Grüße aus dem alten Köln, wo die Bäume blühen",
        outside.as_uri(): "outside",
    }
    conversations = [row for row in found.values() if messages_of(row["meta"])]
    assert [messages_of(row["meta"]) for row in conversations] == [turns]
    assert {row["text"] for row in conversations} == {"User: hi\nAssistant: hello"}
    assert all(row["licence"] == "CC0-1.0" and row["fetched_at"] is None for row in found.values())
    record, body = pages(outputs, "mine")["file:corpus/g.html"]
    assert record.rec_type == "resource"
    assert body == b"<p>page</p>"
    assert metrics["documents"] == 9
    assert metrics["pages"] == 1


def test_same_files_same_bytes_wherever_the_project_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        Path("a.jsonl").write_text("".join(json.dumps({"text": f"text {n}"}) + "\n" for n in range(50)))
        Path("b.html").write_text("<p>b</p>")
        _, outputs = scrape(tmp_path / name, files("a.jsonl", "*.html"))
        results.append({p.relative_to(outputs.root): p.read_bytes() for p in outputs.root.rglob("*.*")})
    assert results[0] == results[1]


def test_bad_rows_are_removed_with_their_reason(project: Path, tmp_path: Path) -> None:
    bad = {
        b'{"text": "cut': "broken_json",
        b'{"text": "\xff\xfe"}': "broken_json",
        b'{"text": "\\ud800"}': "broken_json",
        b"[1, 2]": "broken_json",
        b'{"body": "x"}': "no_text",
        b'{"text": 5}': "no_text",
        b'{"text": " "}': "empty",
        b'{"messages": [{"role": "bot", "content": "x"}]}': "malformed_messages",
        b'{"messages": []}': "malformed_messages",
        b'{"text": "good", "url": "u:1"}': "repeated",
    }
    good = b'{"text": "good", "url": "u:1"}\n'
    (project / "corpus" / "a.jsonl").write_bytes(good + b"\n" + b"\n".join(bad))
    (project / "corpus" / "noise.txt").write_bytes(random.Random(0).randbytes(5000))
    metrics, outputs = scrape(tmp_path, files("corpus/*"))
    removed = read_documents(outputs / "removed")
    assert removed.schema.names == REMOVED_SCHEMA.names
    assert removed.column("reason").to_pylist() == [*bad.values(), "unknown_encoding"]
    assert all(f"line {n}" in row["detail"] for n, row in enumerate(removed.to_pylist()[:-1], 3))
    assert metrics["sources"]["mine"]["outcomes"] == {
        "broken_json": 4,
        "no_text": 2,
        "empty": 1,
        "malformed_messages": 2,
        "repeated": 1,
        "unknown_encoding": 1,
        "saved": 1,
    }


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.txt", b"x", {"paths": ["nothing/*.txt"]}, "matches no file"),
        ("a.xyz", b"x", {}, "suffix '.xyz'"),
        ("a.parquet", b"PAR1 no", {}, "a.parquet: cannot be read as Parquet"),
        ("a.jsonl", b"", {}, "not one document"),
        ("a.jsonl", b"{", {}, "broken_json"),
    ],
)
def test_unusable_files_say_so(
    project: Path, tmp_path: Path, name: str, content: bytes, options: dict[str, Any], message: str
) -> None:
    (project / "corpus" / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        scrape(tmp_path, files("corpus/*") | options)


def test_parquet_without_the_column(project: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x"]}), project / "corpus" / "a.parquet")
    with pytest.raises(UserError, match="text_column"):
        scrape(tmp_path, files("corpus/*"))
    assert scrape(tmp_path / "named", files("corpus/*", text_column="body"))[0]["documents"] == 1


def test_chitchat_conversations(tmp_path: Path) -> None:
    from chitchat_dataset import Dataset

    source = {"name": "chitchat", "kind": "package", "package": "chitchat-dataset"}
    metrics, outputs = scrape(tmp_path, source)
    found = rows(outputs)
    assert len(found) == metrics["documents"] == 7168
    assert len({row["id"] for row in found}) == 7168
    raw = Dataset()
    for row in random.Random(3).sample(found, 200):
        messages = messages_of(row["meta"]) or []
        said = raw[row["url"].rpartition("/")[2]]["messages"]
        assert [m["role"] for m in messages] == ["user", "assistant"] * (len(messages) // 2) + ["user"] * (
            len(messages) % 2
        )
        spoken = [part["text"] for parts in said for part in parts if part["text"].strip()]
        assert "\n".join(m["content"] for m in messages) == "\n".join(spoken)
        assert row["licence"] == "MIT"


def test_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install chitchat-dataset"):
        scrape(tmp_path, {"name": "chitchat", "kind": "package", "package": "chitchat-dataset"})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"name": "a", "kind": "web", "start": ["http://e.org"], "max_page": 3}, "did you mean `max_pages`"),
        ({"name": "a", "kind": "web", "start": ["ftp://e.org"]}, "no http or https URL"),
        ({"name": "a", "kind": "web", "start": ["http://e.org"], "allow": ["("]}, "no regular expression"),
        ({"name": "a", "kind": "ftp"}, "kind"),
        ({"name": "A b", "kind": "pydoc"}, "name"),
    ],
)
def test_mistakes_in_parameters(source: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"(?i){message}"):
        validate(ScrapeParams, {"sources": [source]}, "params.yaml: scrape")


def test_names_of_sources_are_unique() -> None:
    source = {"name": "a", "kind": "pydoc"}
    with pytest.raises(UserError, match="more than once"):
        validate(ScrapeParams, {"sources": [source, source]}, "params.yaml: scrape")


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
        assert content.decode_content(body, coding, len(text)) == text
    with pytest.raises(content.TooLarge):
        content.decode_content(gzip.compress(text), "gzip", len(text) - 1)
    for broken in (gzip.compress(text)[:-1], b"no gzip", gzip.compress(text)[:30]):
        with pytest.raises(content.Undecodable):
            content.decode_content(broken, "gzip", 10**6)
    with pytest.raises(content.Undecodable, match="br"):
        content.decode_content(b"x", "br", 10)


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
            "shift_jis (content)",
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
    assert list(frontier.records()) == [b"A", b"B"]


def test_warc_files_hold_at_most_a_hundred_pages(tmp_path: Path) -> None:
    date = "2024-05-01T10:00:00Z"
    records = [response_record(f"http://e.org/{n}", date, 200, "HTTP/1.1", [], b"page") for n in range(201)]
    assert write_warcs(records, tmp_path) == 201
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["00000.warc.gz", "00001.warc.gz", "00002.warc.gz"]
    assert len(list(ArchiveIterator((tmp_path / names[1]).open("rb"), check_digests=True))) == 100
    assert records[0] == response_record("http://e.org/0", date, 200, "HTTP/1.1", [], b"page")
