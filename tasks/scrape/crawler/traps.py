"""Traps: places where a site makes up URLs without end (calendars, faceted searches, relative links gone wrong).

Limits that others use: at most two repetitions in a row of a piece of the path and at most 20 segments
(Heritrix: PathologicalPathDecideRule, TooManyPathSegmentsDecideRule); no segment three times with one other in between
(Nutch: regex-urlfilter). Where a rule cannot know, counting does: `family` names what differs only in a query or a date,
and the frontier takes `max_variants` of a family.
"""

import re
from collections import Counter
from datetime import UTC, datetime
from urllib.parse import parse_qsl, unquote, urlsplit

MAX_SEGMENTS = 20
MAX_SAME_PARAMETER = 3
GROWN_PARAMETERS = 8
FUTURE_YEARS = 2
LAST_YEAR = 2199  # a larger number is no year
UNQUOTE_TIMES = 5

RUN = re.compile(r"((?:/[^/]+){1,8})\1{2,}(?=/|$)")
ALTERNATING = re.compile(r"(/[^/]+)/[^/]+\1/[^/]+\1(?=/|$)")
DATE = re.compile(r"(?<!\d)((?:19|20|21)\d\d)([-/_.]?)(0?[1-9]|1[0-2])(?:\2(0?[1-9]|[12]\d|3[01]))?(?!\d)")
YEAR = re.compile(
    r"(?:^|[?&])(?:y|yr|year|date|day|month|week|from|to|start|end|tribe-bar-date)=((?:19|20|21)\d\d)(?!\d)", re.I
)
CALENDAR = re.compile(r"calend|event|agenda|schedule|booking|month|week|/day|date|year", re.I)


def trap_reason(url: str) -> str | None:
    """The rule by which `url` alone is a trap, with what it saw; or None."""
    parts = urlsplit(url)
    segments = parts.path.count("/")
    if segments > MAX_SEGMENTS:
        return f"path_segments: more than {MAX_SEGMENTS}"
    repeated = RUN.search(parts.path) or ALTERNATING.search(parts.path)
    if repeated:
        return f"repeating_path: {repeated.group(1)} three times"
    year = _far_year(parts.path, parts.query)
    if year:
        return f"calendar: the year {year}"
    if parts.query:
        name, times = _commonest_parameter(parts.query)
        if times > MAX_SAME_PARAMETER:
            return f"growing_query: {name} {times} times"
    return None


def growing_query(page: str, link: str) -> str | None:
    """The rule by which `link` is a trap because of the page that it stands in: the page's own query and one more."""
    here, there = urlsplit(page), urlsplit(link)
    if (here.netloc, here.path) != (there.netloc, there.path) or there.query.count("&") < GROWN_PARAMETERS - 1:
        return None
    before, after = Counter(parse_qsl(here.query, True)), Counter(parse_qsl(there.query, True))
    if before < after and after.total() >= GROWN_PARAMETERS:
        return f"growing_query: {after.total()} parameters"
    return None


def family(url: str) -> str | None:
    """What stays of a URL when its query and dates in its path are taken away; None if it has neither."""
    parts = urlsplit(url)
    path = DATE.sub("<date>", parts.path)
    if not parts.query and path == parts.path:
        return None
    return f"{parts.netloc.lower()}{path}{'?' if parts.query else ''}"


def _far_year(path: str, query: str) -> int | None:
    """A year that lies too far ahead, where it is a date: written in full, or with a word of calendars around it."""
    latest = datetime.now(UTC).year + FUTURE_YEARS
    named = [int(year) for year in YEAR.findall(query)]
    dated = [
        int(year)
        for text in (path, query)
        for year, between, _, day in DATE.findall(text)
        if (day and between) or CALENDAR.search(f"{path}?{query}")
    ]
    return next((year for year in named + dated if latest < year <= LAST_YEAR), None)


def _commonest_parameter(query: str) -> tuple[str, int]:
    """The name that occurs most often in a query, counted also in addresses that are values (`next=%2F%3Fnext%3D...`)."""
    for _ in range(UNQUOTE_TIMES):
        unquoted = unquote(query)
        if unquoted == query:
            break
        query = unquoted
    names = Counter(part.partition("=")[0] for part in re.split("[?&;]", query) if "=" in part)
    return names.most_common(1)[0] if names else ("", 0)
