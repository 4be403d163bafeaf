"""A crawl that is killed and continued is as one that was not."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.checkout import ROOT
from tests.helpers.scraping import crawl_log, pages, scrape, web
from tests.helpers.site_server import serve


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
            "import sys, json; from pathlib import Path; sys.path.insert(0, '.'); from tests.helpers.scraping import scrape;"
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


@pytest.mark.slow
def test_kills_at_random_moments_lose_and_double_nothing(tmp_path: Path) -> None:
    """Redirects, canonical links, variants, sitemaps and limits among the pages; as many kills as fit."""
    moments = random.Random(8)
    with serve() as site:
        site.delay_s = 0.01
        site.pages["/"] = site.link_to(*(f"/{n}" for n in range(12)), "/moved", "/noindex")
        site.pages["/noindex"] = "<meta name=robots content=noindex><a href='/hidden'>h</a>"
        site.pages["/hidden"] = "<p>hidden</p>"
        for n in range(12):
            variants = [f"/v?x={n}-{m}" for m in range(3)]
            site.pages[f"/{n}"] = site.link_to(*(f"/{n}/{m}" for m in range(6)), *variants, f"/{(n + 1) % 12}/0?again")
            for m in range(6):
                site.pages[f"/{n}/{m}"] = f"<head><link rel=canonical href='/{n}/{m}'></head><p>page {n} {m}</p>"
        site.pages["/v"] = "<p>variant</p>"
        mapped = "".join(f"<url><loc>{site.url}/{n}/{m}?from=map</loc></url>" for n in range(12) for m in range(3))
        site.replies["/sitemap.xml"] = lambda _: (200, {}, f"<urlset>{mapped}</urlset>".encode())
        source = web(site, max_pages=95, sitemaps=True, max_variants=20, depth=3)
        _, whole = scrape(tmp_path / "whole", source)
        script = (
            "import sys, json; from pathlib import Path; sys.path.insert(0, '.'); from tests.helpers.scraping import scrape;"
            "scrape(Path(sys.argv[1]), json.loads(sys.argv[2]))"
        )
        folder = tmp_path / "killed"
        kills = 0
        for _ in range(8):
            command = [sys.executable, "-c", script, str(folder), json.dumps(source)]
            process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
            before = site.asked.total()
            while process.poll() is None and site.asked.total() == before:
                time.sleep(0.005)
            try:
                process.wait(moments.uniform(0, 0.5))
            except subprocess.TimeoutExpired:
                kills += 1
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert kills >= 3
        time.sleep(0.5)  # the crawler dies with the stage
        _, continued = scrape(folder, source)
    assert {u: body for u, (_, body) in pages(continued).items()} == {u: body for u, (_, body) in pages(whole).items()}
    assert len(pages(continued)) == 95
    told = [
        {u: (entry["outcome"], entry.get("detail")) for u, entry in crawl_log(outputs).items()}
        for outputs in (whole, continued)
    ]
    assert told[0] == told[1]
    assert {outcome for outcome, _ in told[0].values()} >= {
        "saved",
        "canonical",
        "trap",
        "noindex",
        "redirect",
        "sitemap",
    }
