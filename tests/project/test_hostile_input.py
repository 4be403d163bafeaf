"""What somebody who means harm puts into lists, rows, headers and names: it is told, and reaches nothing."""

import asyncio
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tasks.conversations.instruction_formats import read_records
from tasks.core.errors import UserError, printable
from tasks.core.logs import Printable
from tasks.core.paths import work_folder
from tasks.http.public_addresses import is_public
from tasks.scrape.crawler.links import Scope
from tasks.scrape.crawler.resolver import GuardedResolver, private_behind_proxy
from tasks.scrape.sources import WebSource
from tasks.scrape.warc.remote_files import NetworkLimits, expand_paths
from tests.helpers.scraping import files, rows, scrape

NETWORK = NetworkLimits(5, 0, 0, 1 << 20)
PREFIX = "https://data.example.org/"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("crawl/a.warc.gz", PREFIX + "crawl/a.warc.gz"),
        ("/crawl/a.warc.gz", PREFIX + "crawl/a.warc.gz"),
        ("https://data.example.org/b.warc.gz", PREFIX + "b.warc.gz"),
        ("https://elsewhere.example.org/b.warc.gz", "https://elsewhere.example.org/b.warc.gz"),
        ("s3://bucket/b.warc.gz", "s3://bucket/b.warc.gz"),
        ("http://169.254.169.254/latest/meta-data", None),
        ("http://user@localhost:8080/x", None),
        ("http://127.1/x", None),
        ("http://2130706433/x", None),
        ("http://[::1]/x", None),
        ("http://[x/x", None),
        ("file:///etc/passwd", None),
        ("FILE:///etc/passwd", None),
        ("memory://x", None),
        ("../../secret.warc.gz", None),
        ("https://data.example.org/../x", None),
    ],
)
def test_a_list_names_archives_and_no_files_of_this_machine(tmp_path: Path, line: str, named: str | None) -> None:
    (tmp_path / "x.paths").write_text(line + "\n")
    listed = expand_paths((str(tmp_path / "x.paths"),), PREFIX, NETWORK, "here")
    if named is None:
        with pytest.raises(UserError, match="lies elsewhere than the list"):
            list(listed)
    else:
        assert list(listed) == [named]


def test_a_list_from_the_network_names_its_own_host_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.scrape.warc import remote_files

    def names(*lines: str) -> list[str]:
        monkeypatch.setattr(remote_files, "_lines", lambda *_: list(lines))
        return list(expand_paths(("http://a.example/d/x.paths",), "", NETWORK, "here"))

    assert names("y.warc", "http://a.example/z.warc") == ["http://a.example/d/y.warc", "http://a.example/z.warc"]
    assert names("file:scratch") == ["http://a.example/d/file:scratch"]  # a name like any other
    for line in ("http://169.254.169.254/latest", "https://a.example/z", "http://a.example.org/z", "../z"):
        with pytest.raises(UserError, match="lies elsewhere"):
            names(line)


DEEP = "[" * 100_000 + "]" * 100_000


def test_rows_that_are_nested_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    row = json.dumps({"text": "A row like any other.", "instruction": "a", "output": "b"})
    (tmp_path / "a.jsonl").write_text(f'{row}\n{DEEP}\n{row[:-1]}, "more": {DEEP}}}\n{row}\n')
    (tmp_path / "b.json").write_text(DEEP)
    assert [number for number, _ in read_records(tmp_path / "a.jsonl")] == [1, 2, 3, 4]
    with pytest.raises(UserError, match=r"b\.json: not valid JSON \(nested too deeply\)"):
        list(read_records(tmp_path / "b.json"))
    _, outputs = scrape(tmp_path / "run", files("a.jsonl", "b.json"))
    assert len(rows(outputs)) == 2
    assert [row["reason"] for row in rows(outputs, "removed")] == ["broken_json"] * 3


def test_work_is_not_forgotten_where_it_is_resumed(tmp_path: Path) -> None:
    for resumed in (False, True):
        with work_folder(tmp_path, "pretrain", ["this"]) as folder:
            assert (folder / "step-1").exists() == resumed
            (folder / "step-1").write_text("weights")
        for path in (folder, folder / "step-1"):  # a month passed, or the clock was set
            os.utime(path, (old := time.time() - 31 * 86400, old))
    with work_folder(tmp_path, "pretrain", ["other"]):
        assert not folder.exists()


def test_names_that_no_proxy_is_asked_for_are_checked_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reactor:
        nameResolver = None  # noqa: N815  Twisted's name

    monkeypatch.setenv("NO_PROXY", "localhost,10.0.0.1")
    monkeypatch.setenv("http_proxy", "http://user:pass@proxy.example:3128")
    assert GuardedResolver(Reactor(), ())._proxies == {"proxy.example"}


@pytest.mark.parametrize("without", ["", "localhost", "*"])
def test_the_name_of_a_proxy_is_no_way_past_the_check(monkeypatch: pytest.MonkeyPatch, without: str) -> None:
    """A page can name the proxy's own host, which the resolver lets pass: the proxy is the user's, the link is not."""
    monkeypatch.setenv("http_proxy", "http://localhost:3128")
    monkeypatch.setenv("NO_PROXY", without)
    assert asyncio.run(private_behind_proxy("http://localhost:8080/")) in ("127.0.0.1", "::1")


@pytest.mark.parametrize(
    "address", ["fec0::1", "fe80::1%eth0", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "0.0.0.0", "224.0.0.1"]
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_nothing_that_was_read_steers_a_terminal() -> None:
    steering = "\x1b[2J\x1b[31mYour key has expired\x1b[0m \x9b1A \u202egnp.exe\r"
    shown = "\\x1b[2J\\x1b[31mYour key has expired\\x1b[0m \\x9b1A \\u202egnp.exe\\r"
    assert printable(steering) == str(UserError(steering)) == shown
    assert printable("Größe\n\t日本") == "Größe\n\t日本"
    said: dict[str, Any] = {
        "name": "x",
        "level": logging.INFO,
        "pathname": "",
        "lineno": 1,
        "msg": "%s",
        "exc_info": None,
    }
    assert Printable("%(message)s").format(logging.LogRecord(**said, args=(steering,))) == shown


@pytest.mark.parametrize(
    ("named", "asked"),
    [
        ("http://alice:hunter2@h.example/x?a=1#b", "http://h.example/x?a=1"),
        ("http://alice@h.example:8080/", "http://h.example:8080/"),
        ("http://a:b@c@h.example/@x", "http://h.example/@x"),
        ("http://h.example/a@b", "http://h.example/a@b"),
    ],
)
def test_a_login_in_a_link_is_not_kept(named: str, asked: str) -> None:
    link = Scope(WebSource(name="s", start=("http://h.example/",))).link(named)
    assert link.url == asked
    assert "hunter2" not in link.key
    assert "@h" not in link.key
