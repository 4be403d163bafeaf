"""The site is whole and asks the network for nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.checkout import ROOT
from tests.helpers.documentation import PAGES

LOADED = re.compile(r"<(?:script|img|iframe)[^>]*\ssrc=\"([^\"]*)\"|<link[^>]*\shref=\"([^\"]*)\"")
OF_CSS = re.compile(r"url\(\s*[\"']?(?:https?:)?//|@import")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    names = {Path(page.name).name.replace(".md", ".html") for page in PAGES} - {"README.html"}
    assert names <= {path.name for path in site.glob("*.html")}


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for path in site.glob("*.html"):
        for found in LOADED.finditer(path.read_text(encoding="utf-8")):
            address = found[1] or found[2]
            assert not re.match(r"(https?:)?//", address), f"{path.name}: {address}"
            if path.name != "404.html":
                assert (site / address.partition("?")[0].partition("#")[0]).exists(), f"{path.name}: {address}"
    for path in site.rglob("*.css"):
        assert not OF_CSS.search(path.read_text(encoding="utf-8")), path


def test_links_lead_to_pages_of_the_site(site: Path) -> None:
    for path in site.glob("*.html"):
        if path.name != "404.html":
            for link in re.findall(r"<a[^>]*\shref=\"([^\"#:]+)[^\":]*\"", path.read_text(encoding="utf-8")):
                assert (site / link).exists(), f"{path.name}: {link}"


def test_the_search_needs_no_server(site: Path) -> None:
    index = (site / "search/search_index.js").read_text(encoding="utf-8")
    assert index.startswith("var __index = ")
    assert "near-duplicates" in index or "duplicates" in index
