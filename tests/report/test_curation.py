"""The report draws what curation found: every number is the metrics', nothing is made up, nothing escapes, the same bytes twice."""

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flows import local_report, run_plan, summary
from tasks.core.errors import UserError
from tasks.core.graph import load_graph, load_stage
from tasks.core.paths import Inputs, Outputs, write_json
from tasks.core.provenance import merged
from tasks.documents.shards import REMOVED_SCHEMA, SCHEMA, write_documents
from tasks.report import curation
from tasks.report.stage import ReportParams, run
from tests.helpers.checkout import ROOT
from tests.helpers.reporting import LARGEST, PLAIN, SPLITS, WORDS, curated, page


class Tables(HTMLParser):
    """The cells of each row of every table before the list of all metrics, under the heading they stand below."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self.heading = self.open = ""
        self.feed(html.partition("<summary>All metrics")[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("h2", "h3"):
            self.heading, self.open = "", "heading"
        elif tag == "tr":
            self.rows.setdefault(self.heading, []).append([])
        elif tag in ("td", "th"):
            self.rows[self.heading][-1].append("")
            self.open = "cell"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("h2", "h3", "td", "th"):
            self.open = ""

    def handle_data(self, data: str) -> None:
        if self.open == "heading":
            self.heading += data
        elif self.open == "cell":
            self.rows[self.heading][-1][-1] += data


def test_every_finding_is_shown_with_its_number() -> None:
    html = page(curated())
    tables = Tables(html).rows
    assert "4,321 clusters of duplicates, the largest of 1,717 documents" in html
    assert tables["Largest clusters"][1:] == [
        ["1,717", "Firstbooks · http://e.org/a · 1111"],
        ["919", "Secondweb · 2222"],
    ]
    drawn = {(row[0], row[2]) for row in tables["Similarity to the document that is kept"][1:] if row[2] != "0"}
    assert drawn == {("0.7", "313"), ("0.95", "717")}
    assert tables["Who repeats whom"] == [
        ["removed from", "kept in", "all removed", "of its documents"],
        ["books", "web"],
        ["web", "67", "2,345", "2,412", "25.0%"],
        ["books", "891", "0", "891", "50.0%"],
    ]
    assert {(row[0], row[2]) for row in tables["quality"][1:] if row[2] != "0"} == {
        ("0.05", "6,161"),
        ("0.95", "7,373"),
    }
    assert tables["perplexity"][1:] == [["2", "4", "8,585"], ["4", "8", "0"]]
    assert "13,534 documents scored, 5,151 removed: at least 0.5 is kept. Trained: roc auc 0.98." in html
    assert "8,585 documents scored, 0 removed: at most 5 is kept." in html
    assert tables["Measured precision"][1:] == [["symbol_ratio", "77", "48", "0.7292"]]
    assert tables["Mixture"] == [
        ["source", "share of training", "bytes given", "wanted", "there are", "epochs", "documents", "left out"],
        ["web", "75.0%", "9,090", "9,292", "3,131", "2.9", "606", "11"],
        ["books", "25.0%", "3,030", "9,292", "3,131", "0.9678", "606", "11"],
    ]
    assert "40,404" in html.partition("Lines dropped from documents that stay")[2].partition("<h")[0]


def test_what_was_not_found_is_not_shown() -> None:
    html = page(PLAIN, [])
    text = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL).partition("<summary>All metrics")[0]
    for word in (
        "uplicates",
        "Scores",
        "precision",
        "Mixture",
        "imilarity",
        "Who repeats",
        "Lines dropped",
        "threshold",
    ):
        assert word not in text
    for metrics, least in ((curated(), {"duplicates", "scores"}), (PLAIN, set())):
        html = page(metrics)
        assert set(re.findall(r'href="#(\w+)"', html)) == set(re.findall(r'<h2 id="(\w+)"', html)) >= least


@pytest.mark.parametrize("missing", ["similarity_histogram", "thresholds", "overlap", "largest_clusters"])
def test_each_finding_stands_alone(missing: str) -> None:
    metrics = curated()
    del metrics["dedup"][missing]
    assert page(metrics).endswith("</html>")
    assert page(metrics, []).endswith("</html>")


def test_hostile_names_stay_text() -> None:
    hostile = "\"><script>alert(1)</script><img src=x onerror=alert(1)>&'"
    metrics = curated()
    about = [{"id": hostile, "url": f"javascript:{hostile}", "title": hostile}]
    metrics["dedup"]["largest_clusters"] = {hostile: {"documents": 3, "source": hostile}}
    metrics["dedup"]["overlap"] = {hostile: {hostile: 3}}
    metrics["dedup"]["sources"] = {hostile: {"documents_in": 6, "documents_out": 3}}
    metrics["dedup"]["thresholds"] = {hostile: 0.8}
    metrics["clean"]["scores"][hostile] = metrics["clean"]["scores"]["quality"]
    metrics["clean"]["removed"][hostile] = metrics["clean"]["lines"][hostile] = 5
    metrics["clean"]["review"][hostile] = {"labelled": 1, "precision": 1.0}
    metrics["pack"]["mixture"]["sources"][hostile] = metrics["pack"]["mixture"]["sources"]["web"]
    html = page(metrics, about)
    assert html.count("alert(1)") > 10
    assert re.findall("<script[^>]*>", html) == ['<script src="../../.textmill/run.js">']
    assert "<img" not in html
    assert not re.search(r'\bsrc="(?!\.\./\.\./\.textmill/run\.js")|@import|url\(|href="(?!#)', html)
    assert all(re.fullmatch("[01]\\.\\d\\d", heat) for heat in re.findall(r'style="--heat: ([^"]*)"', html))


def test_the_same_results_give_the_same_bytes_whatever_their_order() -> None:
    metrics = curated()
    turned = copy.deepcopy(metrics)
    turned["dedup"]["largest_clusters"] = dict(reversed(metrics["dedup"]["largest_clusters"].items()))
    turned["clean"]["removed"] = dict(reversed(metrics["clean"]["removed"].items()))
    cut = "<summary>All metrics"  # which lists the files as they are
    assert page(metrics) == page(copy.deepcopy(metrics))
    assert page(metrics).partition(cut)[0] == page(turned, LARGEST[::-1]).partition(cut)[0]


def test_reasons_beyond_the_most_frequent_are_summed() -> None:
    metrics = curated()
    metrics["clean"]["removed"] = {f"rule{n}": n for n in range(1, 6)}
    bars = page(metrics, reasons=2).partition("Why clean removed")[2].partition("<h3>")[0]
    assert re.findall(r'"name">([^<]*)<', bars) == ["rule5", "rule4", "3 more"]
    assert re.findall(r'"tick">([^<]*)<', bars) == ["5", "4", "6"]


def test_reasons_for_which_nothing_went_are_not_shown() -> None:
    metrics = curated()
    metrics["clean"]["removed"] = {"rule1": 0, "rule2": 3}
    metrics["dedup"]["removed"] = {"exact_duplicate": 0}
    html = page(metrics)
    assert re.findall(r'"name">([^<]*)<', html.partition("Why clean removed")[2].partition("<h3>")[0]) == ["rule2"]
    assert "Why dedup removed" not in html


def test_examples_stand_beside_their_reason() -> None:
    metrics = curated()
    metrics["dedup"]["removed"] = {"near_duplicate": 7}
    gone = {"id": "d1", "source": "web", "url": "http://e.org/x", "detail": "0.91", "text": "<b>twice</b> told"}
    examples = {"dedup": {"near_duplicate": [gone, gone | {"for_id": "k1", "for_text": "twice told"}]}}
    html = page(metrics, examples=examples).partition("Why dedup removed")[2].partition("<h3>")[0]
    assert "&lt;b&gt;twice&lt;/b&gt; told" in html
    for part in ("near_duplicate", ">7<", "http://e.org/x", "0.91", "d1", "in whose place stays", "k1", "twice told"):
        assert part in html


def test_a_colour_is_darker_where_more_is() -> None:
    found = curation.overlap(curated()["dedup"])
    assert found is not None
    cells = sorted((cell["count"], float(cell["heat"])) for row in found["rows"] for cell in row["cells"])
    assert cells == sorted(cells, key=lambda cell: cell[1])
    assert (cells[0], cells[-1]) == ((0, 0.0), (2345, 1.0))


def test_the_stage_writes_the_page_from_what_dvc_yaml_names(tmp_path: Path) -> None:
    content = {f"{stage}.json": json.dumps(found) for stage, found in curated().items()} | {
        "finetune.json": "{}",
        "prefer.json": "{}",
    }
    content["report.json"] = json.dumps({"longest_splits": SPLITS, "unused": []})
    content["largest.json"] = json.dumps(LARGEST)
    content["plan.json"] = "{}"
    inputs = {name: tmp_path / "in" / name for name in load_stage(ROOT, "report").inputs}
    document = {"id": "kept", "text": "The one that stays.", "source": "web"}
    for name, path in inputs.items():
        if name == "documents":
            write_documents([document], path, schema=SCHEMA)
            continue
        if name.endswith("/removed"):
            gone = {**document, "id": f"gone {name}", "text": f"Gone from {name}.", "reason": "because"}
            write_documents([gone | {"kept_id": "kept"}], path, schema=REMOVED_SCHEMA)
            continue
        target = path / "samples.jsonl" if name == "evaluate" else path
        target.parent.mkdir(parents=True, exist_ok=True)
        curve = "step,loss,validation_bits_per_byte\n1,2,2\n" if name.endswith(".csv") else ""
        target.write_text(content.get(name, curve))
    metrics = json.loads(content["dedup.json"]) | {"removed": {"because": 1}}
    inputs["dedup.json"].write_text(json.dumps(metrics))
    assert run(ReportParams(), Inputs(inputs, "report"), Outputs(tmp_path, tmp_path))["parameters"] == 7
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "1,717" in html
    assert "http://e.org/a" in html
    assert ["floccinaucinihilipilification", "1,234"] in Tables(html).rows["Longest splits"]
    assert "Gone from dedup/removed." in html
    assert "The one that stays." in html


def test_the_funnel_counts_documents_text_and_tokens() -> None:
    metrics = curated()
    metrics["clean"] |= {
        "documents_in": 40,
        "documents_out": 30,
        "sources": {"web": {"bytes_in": 9000, "bytes_out": 6000}, "books": {"bytes_in": 1000, "bytes_out": 700}},
    }
    metrics["tokenizer"]["sources"] = {"web": {**WORDS, "bytes_per_token": 3.0}}  # books: as all training text, 3.5
    row = next(row for row in Tables(page(metrics)).rows["Documents and tokens"] if row[0] == "clean")
    assert row == ["clean", "40", "30", "10", "75.0%", "10 kB", "6.7 kB", "2,200"]


def test_the_page_knows_no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another processor, commit or lock file gives the same bytes of the stage; `run.js` beside it tells them."""
    before = page(PLAIN)
    monkeypatch.setattr("tasks.core.provenance.processor", lambda: "abacus")
    monkeypatch.setattr("platform.python_version", lambda: "9.9")
    assert page(PLAIN) == before
    assert "Provenance" not in Tables(before).rows


def test_provenance_of_stages_that_differ_names_them() -> None:
    facts = {
        "clean": {"commit": "a", "host": "h"},
        "dedup": {"commit": "b", "host": "h"},
        "pack": {"commit": "a", "host": "h", "torch": "2"},
    }
    assert merged(facts) == {
        "commit": "a (clean, pack); b (dedup)",
        "host": "h",
        "torch": "not recorded (clean, dedup); 2 (pack)",
    }


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a report, timings and provenance of two stages."""
    nodes = load_graph(ROOT)
    monkeypatch.setattr(summary, "load_graph", lambda _: nodes)
    monkeypatch.setattr(local_report, "load_graph", lambda _: nodes)
    monkeypatch.setattr(run_plan, "outdated", lambda root, stages: set())
    files = {
        "metrics/report.json": {"documents": 5, "validation_bits_per_byte": 1.5},
        ".textmill/timings/pretrain.json": {"seconds": 286.4, "mfu": 0.5},
        ".textmill/provenance/clean.json": {"commit": "c0ffee", "host": "here"},
        ".textmill/provenance/pretrain.json": {"commit": "c0ffee", "host": "<there>"},
    }
    for name, found in files.items():
        write_json(tmp_path / name, found)
    (tmp_path / local_report.PAGE).parent.mkdir(parents=True)
    (tmp_path / local_report.PAGE).write_text(page(PLAIN))
    (tmp_path / "params.yaml").write_text("dedup: {threshold: 0.7}\n")
    return tmp_path


def section(root: Path) -> str:
    """The HTML that `run.js` puts into the page."""
    local_report.write_local_report(root)
    script = (root / ".textmill/run.js").read_text(encoding="utf-8")
    opening = 'document.getElementById("of-this-machine").innerHTML = '
    assert script.startswith(opening)
    assert 'id="of-this-machine"' in page(PLAIN)
    html: str = json.loads(script.removeprefix(opening).rstrip().removesuffix(";"))
    return html


def test_where_it_was_made_the_page_tells_of_time_settings_and_provenance(made: Path) -> None:
    html = section(made)
    rows = Tables(html).rows
    assert "286.4 s" in html
    assert rows["Provenance"] == [["commit", "c0ffee"], ["host", "here (clean); <there> (pretrain)"]]
    assert "<there>" not in html
    assert rows["Settings that are not the defaults"][1:] == [["dedup.threshold", "0.8", "0.7"]]


def test_what_changed_since_the_run_before(made: Path) -> None:
    assert "No earlier run" in section(made)
    assert "No earlier run" in section(made)  # looked at again, it is the same run
    write_json(made / "metrics/report.json", {"documents": 5, "validation_bits_per_byte": 1.4, "tokens": 9})
    (made / "params.yaml").write_text("dedup: {threshold: 0.6}\n")
    for _ in range(2):
        rows = Tables(section(made)).rows["What changed since the run before"]
        found = [row for row in rows if row[0] not in ("parameter", "figure")]
        assert found == [
            ["dedup.threshold", "0.7", "0.6"],
            ["tokens", "–", "9"],
            ["validation_bits_per_byte", "1.5", "1.4"],
        ]


def test_a_report_of_half_a_run_says_what_is_missing(made: Path) -> None:
    (made / local_report.PAGE).unlink()
    for stage in load_graph(ROOT):
        if stage != "scrape":
            write_json(made / "metrics" / f"{stage}.json", {})
    with pytest.raises(UserError, match="Not made yet: scrape: make run"):
        local_report.write_local_report(made)
