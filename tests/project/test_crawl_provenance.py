"""What robots.txt said of a crawled page, and when, from where and under which licence it came, stays with its text."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.helpers.chain import training_text
from tests.helpers.scraping import files, web
from tests.helpers.site_server import serve
from tests.helpers.tiny import conversation


@pytest.mark.slow
def test_the_robots_decision_of_crawled_pages_reaches_the_training_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("execution.yaml").write_text("workers: 1\n")
    rows = [{"messages": conversation(n, 8)} for n in range(60)]
    Path("a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    prose = (
        "People who live near the sea often say that the weather is a matter of taste, and number {} of them agrees."
    )
    started = datetime.now(UTC).replace(microsecond=0)
    with serve() as site:
        site.pages["/"] = site.link_to("/secret/page", *(f"/{n}" for n in range(9)))
        site.pages |= {f"/{n}": f"<html><body><p>{n} {prose.format(n)}</p></body></html>" for n in range(9)}
        text = training_text(tmp_path, [web(site, licence="CC-BY-4.0"), files("a.jsonl")])
        assert not site.asked["/secret/page"]
        wanted = {f"{site.url}/{n}" for n in range(9)}
    crawled = {row["url"]: row for row in text if row["source"] == "site"}
    assert crawled.keys() >= wanted
    for url in wanted:
        row = crawled[url]
        assert json.loads(row["meta"])["robots"] == "allowed"
        assert row["licence"] == "CC-BY-4.0"
        assert started <= row["fetched_at"] <= datetime.now(UTC)
    assert all("robots" not in json.loads(row["meta"]) for row in text if row["source"] != "site")
