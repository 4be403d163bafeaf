"""One crawl in a process of its own, for Twisted's reactor starts only once: `python -m tasks.scrape.crawler.crawl --config FILE`."""

import argparse
import errno
import logging
import sqlite3
import sys
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel

from tasks.core.logs import start_log
from tasks.core.progress import Progress
from tasks.scrape.crawler.frontier import Frontier
from tasks.scrape.crawler.previous_crawl import HostsUnreachable, PreviousCrawl
from tasks.scrape.sources import WebSource

EXIT_NO_SPACE = errno.ENOSPC
EXIT_DAMAGED = errno.EBADMSG
EXIT_UNREACHABLE = errno.EHOSTUNREACH
"""Of a refresh: no host of the start answers, nothing was done."""


class CrawlConfig(BaseModel):
    """What the process is told. Where URLs begin with `site`, `server` is asked in its place. `previous`: the last crawl."""

    source: WebSource
    frontier: Path
    previous: Path | None = None
    site: str = ""
    server: str = ""


def scrapy_settings(source: WebSource, server: str = "") -> dict[str, object]:
    """Scrapy's settings; what the spider does itself (robots.txt, redirects, retries, delays, decompression) is off.

    `server` is what takes a site's place: it may be private, and no proxy lies before it.
    """
    return {
        "BOT_NAME": "textmill",
        "TELNETCONSOLE_ENABLED": False,
        "ROBOTSTXT_OBEY": False,  # tasks.scrape.crawler.robots_txt: also when it answers 5xx, which Scrapy takes as a permission
        "REDIRECT_ENABLED": False,
        "METAREFRESH_ENABLED": False,
        "RETRY_ENABLED": False,
        "COMPRESSION_ENABLED": False,
        "COOKIES_ENABLED": False,
        "REFERER_ENABLED": False,
        "HTTPPROXY_ENABLED": not server,
        "AUTOTHROTTLE_ENABLED": False,
        "DOWNLOAD_DELAY": 0,
        "CONCURRENT_REQUESTS": source.concurrency + 1,
        "CONCURRENT_REQUESTS_PER_DOMAIN": source.host_concurrency or source.concurrency + 1,
        "DOWNLOAD_WARNSIZE": 0,
        "TWISTED_DNS_RESOLVER": "tasks.scrape.crawler.resolver.GuardedResolver",
        "CRAWL_PRIVATE_HOSTS": sorted(source.private_hosts | {urlsplit(server).hostname or ""}),
        "DOWNLOAD_HANDLERS": {
            **dict.fromkeys(("http", "https"), "tasks.scrape.crawler.download_handler.Handler"),
            **dict.fromkeys(("file", "ftp", "s3", "data")),
        },
        "LOG_ENABLED": False,
        "EXTENSIONS": {
            "scrapy.extensions.corestats.CoreStats": None,
            "scrapy.extensions.logstats.LogStats": None,
            "scrapy.extensions.memusage.MemoryUsage": None,
        },
    }


def main() -> int:
    """Crawl until the frontier holds nothing to be visited; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON, see CrawlConfig")
    config = CrawlConfig.model_validate_json(parser.parse_args().config.read_bytes())
    start_log(logging.INFO)
    try:
        frontier = Frontier(config.frontier)
        _crawl(config, frontier)
    except HostsUnreachable:
        return EXIT_UNREACHABLE
    except sqlite3.DatabaseError as error:
        full = "full" in str(error)
        print(f"{config.frontier}: {error}", file=sys.stderr)
        return EXIT_NO_SPACE if full else EXIT_DAMAGED
    return 0


def _crawl(config: CrawlConfig, frontier: Frontier) -> None:
    from scrapy.crawler import AsyncCrawlerProcess

    from tasks.scrape.crawler.spider import SiteSpider

    def request_url(url: str) -> str:
        stands_in = config.site and url.startswith(config.site)
        return config.server + url.removeprefix(config.site) if stands_in else url

    errors: list[BaseException] = []

    class Watched(SiteSpider):
        # Scrapy logs what a spider's start raises and goes on to the end; a crawl that failed must not look finished.
        async def start(self):  # type: ignore[no-untyped-def]
            try:
                async for nothing in super().start():
                    yield nothing
            except BaseException as error:
                errors.append(error)
                raise

    logging.disable(logging.WARNING)  # while Scrapy introduces itself
    process = AsyncCrawlerProcess(scrapy_settings(config.source, config.server))
    logging.disable(logging.NOTSET)
    for chatty in ("scrapy", "twisted", "protego", "charset_normalizer"):  # each URL's outcome is in the crawl log
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    total = config.source.max_pages if not config.server else None
    with Progress(f"scrape: {config.source.name}", total=total, unit="pages") as progress:
        progress.advance(frontier.saved())
        last = PreviousCrawl(config.previous) if config.previous else None
        saved = progress.advance
        process.crawl(
            Watched, source=config.source, frontier=frontier, request_url=request_url, saved=saved, previous=last
        )
        process.start(install_signal_handlers=False)
    if errors:
        raise errors[0]
    frontier.close()


if __name__ == "__main__":
    sys.exit(main())
