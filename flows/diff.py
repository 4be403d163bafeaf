"""What changed between two versions: `python -m flows.diff REV1 [REV2]`, e.g. HEAD~1, a tag, an experiment's name.

Documents that came and went with their reasons, tokens by source, metrics; as tables, and as one page with `--html`.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from flows.corpus_versions import WORKSPACE, Difference, by_reason, compare_versions, read_version
from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.core.restore import recover

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}"
    "table{border-collapse:collapse;margin:.5rem 0 2rem}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:left}"
    "td.n{text-align:right;font-variant-numeric:tabular-nums}details{margin-bottom:2rem}"
    "@media (prefers-color-scheme:dark){body{background:#111;color:#ddd}td,th{border-color:#333}}"
)
Table = tuple[str, list[str], list[list[Any]]]
"""Heading, names of the columns, rows."""


def tables(difference: Difference) -> list[Table]:
    """What there is to show, the documents themselves aside."""
    shown: list[Table] = []
    sources = [
        [source, f"{d0:,}", f"{d1:,}", f"{d1 - d0:+,}", f"{t0:,}", f"{t1:,}", f"{t1 - t0:+,}"]
        for source, (d0, d1, t0, t1) in difference.sources.items()
    ]
    heads = ["source", "documents before", "after", "change", "tokens before", "after", "change"]
    shown.append(("Sources", heads, sources))
    for title, documents in (("Removed", difference.left), ("Added", difference.joined)):
        because = "because" if title == "Removed" else "before"
        rows = [[reason, source, f"{count:,}", f"{tokens:,}"] for reason, source, count, tokens in by_reason(documents)]
        shown.append((f"{title}: {len(documents):,} documents", [because, "source", "documents", "tokens"], rows))
    metrics = [[name, *map(_number, pair), _change(*pair)] for name, pair in difference.metrics.items()]
    shown.append((f"Metrics: {len(metrics)} differ", ["metric", "before", "after", "change"], metrics))
    return shown


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.6g}"


def _change(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{after - before:+,.4g}"


def as_text(difference: Difference, documents: int) -> None:
    """Print the tables, and the first `documents` of those that left and joined."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(highlight=False)
    console.print(f"From [bold]{difference.before.name}[/] to [bold]{difference.after.name}[/]\n")
    for title, heads, rows in tables(difference):
        console.print(f"[bold]{title}[/]")
        if rows:
            table = RichTable(*heads, box=box.SIMPLE_HEAD, pad_edge=False)
            for row in rows:
                table.add_row(*row)
            console.print(table)
    for title, some in (("Removed", difference.left), ("Added", difference.joined)):
        for row in some.slice(0, documents).to_pylist():
            console.print(
                f"{title}  {row['id']}  {row['source']}  {row['tokens']:,} tokens  {row['reason']}", markup=False
            )
        if len(some) > documents:
            console.print(f"{title}  … and {len(some) - documents:,} more (--documents N, --html FILE)")


def as_html(difference: Difference) -> str:
    """One self-contained page, every document listed."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ before }} → {{ after }}</title><style>{{ style }}</style>
<h1>{{ before }} → {{ after }}</h1>
{% for title, heads, rows in tables %}
<h2>{{ title }}</h2>
{% if rows %}<table><tr>{% for head in heads %}<th>{{ head }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for cell in row %}<td{% if not loop.first %} class="n"{% endif %}>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endif %}
{% endfor %}
{% for title, documents in lists %}
<details><summary>{{ title }}: {{ documents|length }} documents</summary><table>
<tr><th>id</th><th>source</th><th>tokens</th><th>reason</th></tr>
{% for d in documents %}
<tr><td><code>{{ d.id }}</code></td><td>{{ d.source }}</td><td class="n">{{ d.tokens }}</td><td>{{ d.reason }}</td></tr>
{% endfor %}</table></details>
{% endfor %}</html>
"""
    )
    return template.render(
        before=difference.before.name,
        after=difference.after.name,
        style=STYLE,
        tables=tables(difference),
        lists=[("Removed", difference.left.to_pylist()), ("Added", difference.joined.to_pylist())],
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the difference; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.diff", description=__doc__)
    parser.add_argument("before", metavar="REV1")
    parser.add_argument("after", metavar="REV2", nargs="?", default=WORKSPACE, help=f"default: {WORKSPACE}")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the page there too, every document listed")
    parser.add_argument("--documents", type=int, default=10, help="documents to list of each kind (default 10)")
    options = parser.parse_args(arguments)
    try:
        root = Path.cwd()
        recover(root)
        difference = compare_versions(read_version(root, options.before), read_version(root, options.after))
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    as_text(difference, options.documents)
    if options.html:
        options.html.write_text(as_html(difference), encoding="utf-8")
        print(f"The page: {options.html}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
