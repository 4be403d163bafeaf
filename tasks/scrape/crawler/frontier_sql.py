"""The frontier's SQL (SQLite)."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS urls (
    key TEXT PRIMARY KEY,       -- the canonical URL: what makes two URLs the same page
    url TEXT NOT NULL,          -- the URL to ask for
    depth INTEGER NOT NULL,     -- links from the start
    parent INTEGER NOT NULL,    -- rank of the page that links here
    position INTEGER NOT NULL,  -- number of the link in that page
    rank INTEGER,               -- place in its level, known once the level before it is done
    via TEXT,                   -- key of the URL that redirected here
    family TEXT,                -- tasks.scrape.crawler.traps.family: what it has in common with URLs that differ in their query
    canonical TEXT,             -- key of the URL that the page names as its canonical one, if that is another
    outcome TEXT,               -- null: still to be visited
    detail TEXT, status INTEGER, bytes INTEGER, attempts INTEGER, fetched_at TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_depth ON urls (depth, outcome);
CREATE INDEX IF NOT EXISTS by_family ON urls (family, depth) WHERE family IS NOT NULL;
CREATE TABLE IF NOT EXISTS pages (key TEXT PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS done (what TEXT PRIMARY KEY);
"""

TOO_MANY = "variants: more URLs than max_variants differ only in the query or a date"
# Counted by place, not by what was visited already: the same URLs are left out however often a level is begun.
VARIANTS = """
WITH here AS (
    SELECT key, family, row_number() OVER (PARTITION BY family ORDER BY rank) AS place FROM urls
    WHERE depth = :depth AND family IS NOT NULL AND via IS NULL
), before AS (
    SELECT family, count(*) AS places FROM urls WHERE depth < :depth AND family IN (SELECT family FROM here)
    AND via IS NULL AND outcome IS NOT 'trap' GROUP BY family
)
UPDATE urls SET outcome = 'trap', detail = :detail WHERE outcome IS NULL AND key IN (
    SELECT key FROM here LEFT JOIN before USING (family) WHERE place + coalesce(places, 0) > :most
)
"""

# Of several links to one page, the one nearest to the start gives it its place and its spelling; a link that may be
# followed counts more than those that may not, unless it is one too many of its family.
ADD = """
INSERT INTO urls (key, url, depth, parent, position, outcome, detail, family) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET url = excluded.url, depth = excluded.depth, parent = excluded.parent,
position = excluded.position, outcome = excluded.outcome, detail = excluded.detail, family = excluded.family,
rank = NULL
WHERE (urls.outcome IS excluded.outcome AND urls.rank IS NULL AND urls.depth = excluded.depth
AND (excluded.parent, excluded.position) < (urls.parent, urls.position))
OR (urls.outcome IN ('nofollow', 'trap') AND urls.family IS NULL AND (excluded.outcome IS NULL
OR (excluded.outcome = 'nofollow' AND urls.outcome = 'trap')))
"""
