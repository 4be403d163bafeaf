"""`dvc plots` offline: a page that asks nobody for a script and draws a line for each revision."""

import html
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.scrape.crawler.browser import find_browser
from tests.helpers.checkout import ROOT

DVC = [sys.executable, "-m", "dvc"]


def curve(steps: int, start: float) -> str:
    rows = (
        f"{step},{start / (step + 1):.4f},{'' if step % 10 else 3 - step / 100},{step / 100}\n" for step in range(steps)
    )
    return "step,loss,validation_bits_per_byte,reward\n" + "".join(rows)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `dvc plots diff` writes of two curves with this project's plots and its page."""
    project = tmp_path_factory.mktemp("plots")
    for command in (["git", "init", "-q"], [*DVC, "init", "-q"]):
        subprocess.run(command, cwd=project, check=True, capture_output=True)
    shutil.copytree(ROOT / ".dvc/plots", project / ".dvc/plots")
    shutil.copy(ROOT / ".dvc/config", project / ".dvc/config")
    declared = (ROOT / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(declared[declared.index("\nplots:") :])
    for stage in ("pretrain", "finetune", "prefer"):
        (project / "data" / stage).mkdir(parents=True)
        (project / f"data/{stage}/curves.csv").write_text(curve(80, 8.0))
    commit = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "one"]
    for command in (["git", "add", "-A"], commit):
        subprocess.run(command, cwd=project, check=True)
    (project / "data/pretrain/curves.csv").write_text(curve(100, 9.0))
    subprocess.run([*DVC, "plots", "diff", "HEAD"], cwd=project, check=True, capture_output=True)
    return project / "dvc_plots/index.html"


def test_the_page_loads_nothing(page: Path) -> None:
    text = page.read_text()
    assert text.count("vegaEmbed('#") == 5  # the plots of dvc.yaml
    assert not re.search(r"<script[^>]+src|<link|@import|url\(", text)
    assert not re.search(r"\{(plot_divs|scripts|refresh_tag)\}", text)


@pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")
def test_each_revision_is_a_line(page: Path, tmp_path: Path) -> None:
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    command = [str(find_browser()), *options, page.as_uri()]
    drawn = html.unescape(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)
    charts = drawn.split('role="img"')[1:]
    lines = [[len(points.split()) for points in re.findall(r'points="([^"]+)"', chart)] for chart in charts]
    assert lines == [[100, 80], [10, 8], [80, 80], [80, 80]]
    assert all("workspace" in chart and "HEAD" in chart for chart in charts)


def test_what_dvc_plots_writes_is_no_part_of_the_project() -> None:
    ignored = subprocess.run(
        ["git", "check-ignore", "dvc_plots/index.html"], cwd=ROOT, check=False, capture_output=True
    )
    assert ignored.returncode == 0
