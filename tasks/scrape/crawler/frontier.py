"""The frontier: a crawl's memory; every URL that was seen and what became of it, in one SQLite file that survives a kill.

A page, its outcome and its links enter in one transaction, so that a crawl that is killed continues without losing
or repeating a page. Levels of equal distance from the start are visited one after the other, and within a level in the
order of the pages that link there: which pages a limited crawl takes does not depend on what answers first.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tasks.scrape.crawler.canonical_links import canonical_duplicates
from tasks.scrape.crawler.frontier_sql import ADD, SCHEMA, TOO_MANY, VARIANTS

WEAK = ("nofollow", "trap")  # outcomes that a link elsewhere overrides
LAST = 1 << 40  # the rank of a parent that comes after every page


class Link(NamedTuple):
    """A link of a page. `excluded` says why it is not followed, or is None; `outcome` is then what becomes of it.

    `excluded` URLs are so wherever they are linked; `trap` and `nofollow` lie in the page: another page's link counts.
    """

    key: str
    url: str
    excluded: str | None = None
    outcome: str = "excluded"
    family: str | None = None


class Visit(NamedTuple):
    """A URL to be visited, and its place in the order of the crawl."""

    key: str
    url: str
    depth: int
    rank: int


@dataclass(frozen=True)
class Outcome:
    """What became of a URL.

    `name` is `saved` or says why not; `bytes` counts the body as it came over the network; `fetched_at` is ISO 8601 in UTC.
    """

    name: str
    detail: str | None = None
    status: int | None = None
    bytes: int | None = None
    attempts: int = 0
    fetched_at: str | None = None


class Frontier:
    """The crawl's state in the file at `path`; created if it is not there.

    Raises:
        sqlite3.DatabaseError: the file is damaged, or the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        # A killed process loses nothing with these; only a machine that loses its power could.
        self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + SCHEMA)

    def close(self) -> None:
        self._db.close()

    def start(self, links: Sequence[Link]) -> None:
        """Enter the start URLs; those known from before stay as they are."""
        with self._transaction():
            self._add(links, depth=0, parent=0)

    def enter_sitemaps(self, files: Sequence[tuple[Link, Outcome]], links: Sequence[Link]) -> None:
        """Enter sitemaps with what became of them, and the pages that they name: one link from the start, after others."""
        with self._transaction():
            for file, outcome in files:
                new = self._db.execute(
                    "INSERT OR IGNORE INTO urls (key, url, depth, parent, position) VALUES (?, ?, 0, 0, 0)", file[:2]
                )
                if new.rowcount:  # else it is a start URL as well
                    self._set(file.key, outcome)
            self._add(links, depth=1, parent=LAST)
            self._db.execute("INSERT OR IGNORE INTO done VALUES ('sitemaps')")

    def is_done(self, what: str) -> bool:
        """Whether a step of the crawl, such as `sitemaps`, was entered before."""
        return self._db.execute("SELECT 1 FROM done WHERE what = ?", (what,)).fetchone() is not None

    def level(self, depth: int, max_variants: int | None = None) -> list[Visit]:
        """What is still to be visited at `depth`, in order. The level before must be done.

        Of URLs that differ only in their query or a date, the first `max_variants` are; the others are traps.
        """
        with self._transaction():
            self._db.execute(
                "UPDATE urls SET rank = ranked.rank FROM (SELECT key, row_number() OVER (ORDER BY parent, position, key) AS rank"
                " FROM urls WHERE depth = ? AND via IS NULL) AS ranked WHERE urls.key = ranked.key",
                (depth,),
            )
            if max_variants is not None:
                self._db.execute(
                    VARIANTS, {"depth": depth, "most": max_variants, "detail": f"{TOO_MANY}: {max_variants}"}
                )
        query = "SELECT key, url, depth, rank FROM urls WHERE depth = ? AND outcome IS NULL ORDER BY rank, key"
        return [Visit(*row) for row in self._db.execute(query, (depth,))]

    def deepest(self) -> int:
        """The greatest depth with a URL still to be visited; -1 if there is none."""
        deepest: int | None = self._db.execute("SELECT max(depth) FROM urls WHERE outcome IS NULL").fetchone()[0]
        return -1 if deepest is None else deepest

    def saved(self) -> int:
        """Pages saved so far."""
        count: int = self._db.execute("SELECT count(*) FROM pages").fetchone()[0]
        return count

    def visited(self) -> int:
        """URLs that were asked for so far, whatever came of it."""
        count: int = self._db.execute("SELECT count(*) FROM urls WHERE attempts > 0").fetchone()[0]
        return count

    def finish(
        self,
        visit: Visit,
        outcome: Outcome,
        record: bytes | None = None,
        links: Sequence[Link] = (),
        canonical: str | None = None,
    ) -> None:
        """Enter what became of a URL; with `record`, its WARC record, and the links that the page holds.

        `canonical` is the key of the URL that the page names as its canonical one.
        """
        with self._transaction():
            self._set(visit.key, outcome)
            if record is not None:
                self._db.execute("INSERT INTO pages VALUES (?, ?)", (visit.key, record))
            if canonical is not None:
                self._db.execute("UPDATE urls SET canonical = ? WHERE key = ?", (canonical, visit.key))
            self._add(links, visit.depth + 1, visit.rank)

    def fold_canonicals(self) -> int:
        """Of saved pages that name the same canonical URL keep one (tasks.scrape.crawler.canonical_links); returns how many fell away."""
        with self._transaction():
            pointers = dict(self._db.execute("SELECT key, canonical FROM urls WHERE canonical IS NOT NULL"))
            if not pointers:
                return 0
            self._db.execute("CREATE TEMP TABLE IF NOT EXISTS named (key TEXT PRIMARY KEY)")
            self._db.execute("DELETE FROM named")
            self._db.executemany(
                "INSERT OR IGNORE INTO named VALUES (?)", [(k,) for pair in pointers.items() for k in pair]
            )
            saved = self._db.execute(
                "SELECT key FROM urls WHERE outcome = 'saved' AND key IN named ORDER BY depth, rank, key"
            ).fetchall()
            folded = canonical_duplicates(pointers, [key for (key,) in saved])
            for key in folded:
                self._db.execute(
                    "UPDATE urls SET outcome = 'canonical', detail = 'the same page as ' || canonical WHERE key = ?",
                    (key,),
                )
                self._db.execute("DELETE FROM pages WHERE key = ?", (key,))
        return len(folded)

    def redirect(self, visit: Visit, outcome: Outcome, target: Link) -> Visit | None:
        """Enter a redirect; returns the target if it is to be visited in the place of `visit`, None if it is seen to."""
        with self._transaction():
            self._set(visit.key, outcome)
            row = self._db.execute("SELECT outcome, depth FROM urls WHERE key = ?", (target.key,)).fetchone()
            linked_weakly = row is not None and row[0] in WEAK
            if row is not None and not linked_weakly and (row[0] is not None or row[1] <= visit.depth):
                return None
            self._db.execute(
                "INSERT OR REPLACE INTO urls (key, url, depth, parent, position, rank, via) VALUES (?, ?, ?, 0, 0, ?, ?)",
                (target.key, target.url, visit.depth, visit.rank, visit.key),
            )
        return Visit(target.key, target.url, visit.depth, visit.rank)

    def redirect_chain(self, key: str) -> list[str]:
        """The URLs (keys) that redirected one to the next, ending with `key`."""
        chain = [key]
        while (row := self._db.execute("SELECT via FROM urls WHERE key = ?", (chain[0],)).fetchone()) and row[0]:
            chain.insert(0, row[0])
        return chain

    def close_level(self, depth: int, outcome: Outcome) -> None:
        """A level is done: what was not visited there never will be."""
        with self._transaction():
            self._db.execute(
                "UPDATE urls SET outcome = ?, detail = ? WHERE depth = ? AND outcome IS NULL",
                (outcome.name, outcome.detail, depth),
            )

    def saved_urls(self) -> Iterator[str]:
        """The URLs of the saved pages."""
        for (url,) in self._db.execute("SELECT url FROM urls WHERE outcome = 'saved'"):
            yield url

    def close_open(self, depth: int, limit: str = "page_limit") -> None:
        """The crawl is done: what was not visited lies deeper than `depth`, or beyond the limit named."""
        with self._transaction():
            self._db.execute(
                "UPDATE urls SET outcome = CASE WHEN depth > ? THEN 'too_deep' ELSE ? END WHERE outcome IS NULL",
                (depth, limit),
            )

    def outcomes(self) -> dict[str, int]:
        """Outcome → URLs."""
        return dict(
            Counter(dict(self._db.execute("SELECT outcome, count(*) FROM urls GROUP BY outcome ORDER BY outcome")))
        )

    def log(self) -> Iterator[dict[str, object]]:
        """Every URL with what became of it, in the order of canonical URLs."""
        columns = ("url", "outcome", "detail", "status", "bytes", "depth", "attempts", "fetched_at")
        for row in self._db.execute(f"SELECT {', '.join(columns)} FROM urls ORDER BY key"):  # noqa: S608
            yield {name: value for name, value in zip(columns, row, strict=True) if value is not None}

    def warc_records(self) -> Iterator[bytes]:
        """The pages' WARC records (gzip members), in the order of canonical URLs."""
        for (record,) in self._db.execute("SELECT record FROM pages ORDER BY key"):
            yield record

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)

    def _set(self, key: str, outcome: Outcome) -> None:
        self._db.execute(
            "UPDATE urls SET outcome = ?, detail = ?, status = ?, bytes = ?, attempts = ?, fetched_at = ? WHERE key = ?",
            (
                *(outcome.name, outcome.detail, outcome.status, outcome.bytes, outcome.attempts, outcome.fetched_at),
                key,
            ),
        )

    def _add(self, links: Sequence[Link], depth: int, parent: int) -> None:
        self._db.executemany(
            ADD,
            [
                (
                    *(link.key, link.url, depth, parent, position),
                    *((link.outcome, link.excluded, None) if link.excluded else (None, None, link.family)),
                )
                for position, link in enumerate(links)
            ],
        )


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._db.execute("ROLLBACK" if kind else "COMMIT")
