"""Crawling a source from a stage: the crawler's process started, watched and ended, its pages and log written."""

import errno
import json
import logging
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tasks.core.errors import UserError
from tasks.core.parallel.subprocesses import child_process
from tasks.formats.file_kinds import require_package
from tasks.http.public_addresses import is_ip_address, is_public
from tasks.scrape.crawler.browser import require_browser
from tasks.scrape.crawler.crawl import EXIT_DAMAGED, EXIT_NO_SPACE, EXIT_UNREACHABLE, CrawlConfig
from tasks.scrape.crawler.frontier import Frontier
from tasks.scrape.crawler.previous_crawl import store_previous_crawl, with_unchanged_entries
from tasks.scrape.sources import WebSource
from tasks.scrape.warc.warc_writer import write_warcs

log = logging.getLogger(__name__)
# Names that never are public (RFC 6761, RFC 6762, RFC 8375, ICANN's .internal), and those without a dot.
LOCAL_NAME = re.compile(r"^[^.]*$|\.(localhost|local|test|example|invalid|home\.arpa|internal)$")
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class CrawlResult:
    """What a crawl brought. `bytes` are those of the saved pages' bodies as they came over the network."""

    pages: int
    bytes: int
    outcomes: dict[str, int]


def crawl(
    source: WebSource,
    work: Path,
    pages: Path,
    crawl_log: Path,
    site: str = "",
    server: str = "",
    before: Path | None = None,
) -> CrawlResult:
    """Crawl `source`; write WARC files to the folder `pages` and every URL's outcome to `crawl_log` (JSONL).

    The frontier in `work` lets a crawl that was killed continue. URLs that begin with `site` are asked of `server`.
    `before`: an earlier output of scrape, of which unchanged pages keep their records and entries in the log.

    Raises:
        UserError: not one page was saved, says why, from the crawl log; or what `render` or `pdf` needs is missing.
    """
    if source.render:
        require_browser(source.name)
    if source.pdf:
        require_package("pdf", f"scrape: source {source.name}: pdf: true")
    state = work / f"{source.name}.sqlite"
    config = work / f"{source.name}.json"
    last = _last_crawl(source, before, work)
    told = CrawlConfig(
        source=source, frontier=state.resolve(), previous=last and last.resolve(), site=site, server=server
    )
    config.write_text(told.model_dump_json(), encoding="utf-8")
    if not (source.contact or "@" in source.user_agent or "//" in source.user_agent) and _public(source):
        log.warning(
            "scrape: %s: crawls public hosts and tells their owners no way to reach you; set `contact`, an address or URL",
            source.name,
        )
    code = _run(config)
    if code == EXIT_DAMAGED:
        log.warning("scrape: %s is damaged; the crawl of %s begins anew", state, source.name)
        _forget(state)
        code = _run(config)
    if code == EXIT_UNREACHABLE and before is not None:
        log.warning("scrape: %s: no host answers at the moment; its pages stay as they were", source.name)
        _forget(state)
        return _as_it_was(source, before, pages, crawl_log)
    if code == EXIT_NO_SPACE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(state))
    if code:
        raise RuntimeError(
            f"scrape: the crawler of {source.name} ended with exit code {code}; its messages stand above"
        )
    with _opened(state) as frontier:
        outcomes = frontier.outcomes()
        entries = list(frontier.log()) if not outcomes.get("saved") else []
        if entries:
            _forget(state)  # else the next start would take the failures for results
            raise UserError(_nothing_saved(source, entries, outcomes))
        crawl_log.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        with crawl_log.open("w", encoding="utf-8") as file:
            for entry in with_unchanged_entries(frontier.log(), last):
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
                size += int(str(entry.get("bytes", 0))) if entry["outcome"] == "saved" else 0
        written = write_warcs(frontier.warc_records(), pages)
        if written != outcomes["saved"]:
            raise AssertionError(f"{source.name}: {outcomes['saved']} pages saved, {written} written")
    return CrawlResult(written, size, outcomes)


def _last_crawl(source: WebSource, before: Path | None, work: Path) -> Path | None:
    if before is None or not (before / "crawl" / f"{source.name}.jsonl").exists():
        return None
    path = work / f"{source.name}.before.sqlite"
    store_previous_crawl(before / "web" / source.name, before / "crawl" / f"{source.name}.jsonl", path)
    return path


def _as_it_was(source: WebSource, before: Path, pages: Path, crawl_log: Path) -> CrawlResult:
    """The earlier crawl, taken over whole."""
    shutil.copytree(before / "web" / source.name, pages)
    crawl_log.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(before / "crawl" / f"{source.name}.jsonl", crawl_log)
    with crawl_log.open(encoding="utf-8") as lines:
        entries = [json.loads(line) for line in lines]
    saved = [entry for entry in entries if entry["outcome"] == "saved"]
    outcomes = dict(sorted(Counter(entry["outcome"] for entry in entries).items()))
    return CrawlResult(len(saved), sum(entry.get("bytes", 0) for entry in saved), outcomes)


def _public(source: WebSource) -> bool:
    """Whether a start URL names a host of the public Internet, as far as names tell."""
    hosts = [urlsplit(url).hostname or "" for url in source.start]
    return any(
        is_public(host) if is_ip_address(host) else host not in source.private_hosts and not LOCAL_NAME.search(host)
        for host in hosts
    )


def _run(config: Path) -> int:
    command = [sys.executable, "-m", "tasks.scrape.crawler.crawl", "--config", str(config.resolve())]
    with child_process(command, folder=ROOT) as process:
        return process.wait()


@contextmanager
def _opened(state: Path) -> Iterator[Frontier]:
    frontier = Frontier(state)
    try:
        yield frontier
    finally:
        frontier.close()


def _forget(state: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        state.with_name(state.name + suffix).unlink(missing_ok=True)


def _nothing_saved(source: WebSource, entries: list[dict[str, object]], outcomes: dict[str, int]) -> str:
    tried = [entry for entry in entries if entry["outcome"] not in ("excluded", "trap", "too_deep", "page_limit")]
    shown = "; ".join(
        f"{entry['url']}: {entry['outcome']}" + (f" ({entry['detail']})" if entry.get("detail") else "")
        for entry in tried[:3]
    )
    hints = {
        "robots": "robots.txt forbids what was asked for: choose other pages, or ask the site's owner.",
        "private_address": "For a site of your own network set allow_private: true, or name its host there.",
        "noindex": "The site asks that the pages are not used: choose others, or ask its owner.",
        "retry_later": "The host has too much to do: come back later, or raise `max_wait`.",
        "redirect": "Start at the address that it redirects to, or let `allow` match it.",
        "unresolved": "Check the address and the network.",
        "connection_refused": "Check that the server runs, and the network.",
        "timeout": "Check the network, or raise `timeout`.",
    }
    hint = next((text for name, text in hints.items() if outcomes.get(name)), "Check `start`, `allow` and `deny`.")
    return f"scrape: source {source.name}: not one page could be saved. {shown}. {hint}"
