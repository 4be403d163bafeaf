"""What the report page shows where it was made: when, with which settings, how long, and what changed since the run before.

The page itself, data/report/index.html, is a stage's output, the same bytes from the same results. It loads `run.js` from
this checkout's state, if it is there.
"""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import run_plan, summary
from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.core.graph import load_graph
from tasks.core.params import load_params, params_model, read_yaml, validate
from tasks.core.paths import STATE, write_json
from tasks.core.provenance import merged
from tasks.core.publish import made_at
from tasks.core.restore import recover

TEMPLATE = Path(__file__).parent / "local_report.html.j2"
PAGE = Path("data/report/index.html")
Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """A figure or a parameter in two runs; None where it was absent."""

    name: str
    before: Any
    after: Any


def write_local_report(root: Path) -> Path:
    """Write `run.js` for the report page of `root`; returns the page's path.

    Raises:
        UserError: there is no page yet; names the stages that have not run.
    """
    stages = list(load_graph(root))
    page = root / PAGE
    if not page.exists():
        lacking = [stage for stage in stages if not (root / "metrics" / f"{stage}.json").exists()]
        raise UserError(f"there is no report yet. Not made yet: {', '.join(lacking) or 'report'}: make run")
    section = render_section(root, stages, time.time())
    script = f'document.getElementById("of-this-machine").innerHTML = {json.dumps(section)};\n'
    (root / STATE).mkdir(exist_ok=True)
    (root / STATE / "run.js").write_text(script, encoding="utf-8")
    return page


def render_section(root: Path, stages: list[str], now: float) -> str:
    """The section as HTML, in which all text is escaped."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from tasks.report.charts import bar_chart
    from tasks.report.units import number

    timings = summary.timings(root)
    bars = [
        (stage, taken["seconds"], f"{taken['seconds']:.1f} s") for stage, taken in timings.items() if "seconds" in taken
    ]
    speeds = [
        (stage, name.replace("_", " "), number(value))
        for stage, taken in timings.items()
        for name, value in taken.items()
        if name != "seconds"
    ]
    since, figures, parameters = _since_last_run(root, now)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = number
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        made=[(stage, _when(at)) for stage in stages if (at := made_at(root, stage)) is not None],
        earlier=_earlier(root, stages),
        differing=non_default_params(root, stages),
        since=since and _when(since),
        figures=figures,
        parameters=parameters,
        chart=Markup(bar_chart(bars)),  # noqa: S704
        speeds=speeds,
        provenance=list(merged(summary.recorded(root, "provenance")).items()),
    )


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _earlier(root: Path, stages: list[str]) -> str:
    """The stages whose parameters, code or inputs have changed since they ran, by the time at which they did."""
    try:
        outdated = run_plan.outdated(root, stages)
    except UserError as error:  # DVC works here at the moment: the page tells of what is there
        return f"not known: {error}"
    return summary.of_earlier_runs(root, [stage for stage in stages if stage in outdated])


def non_default_params(root: Path, stages: list[str]) -> list[Change]:
    """The parameters of params.yaml that are not the defaults: `before` is the default."""
    given = load_params(root, stages)
    found = []
    for stage in stages:
        default = _flat(validate(params_model(stage), {}, stage).model_dump(mode="json"), stage)
        own = _flat(given[stage].model_dump(mode="json"), stage)
        found += differences(default, own)
    return found


def _flat(values: Any, name: str) -> dict[str, Any]:
    if isinstance(values, dict) and values:
        return {key: value for part, inner in values.items() for key, value in _flat(inner, f"{name}.{part}").items()}
    return {name: values}


def differences(before: Figures, after: Figures) -> list[Change]:
    """What differs, in the order of names."""
    names = sorted({*before, *after})
    return [Change(n, before.get(n), after.get(n)) for n in names if before.get(n) != after.get(n)]


def _since_last_run(root: Path, now: float) -> tuple[float | None, list[Change], list[Change]]:
    """When the run before was seen, and what of the headline figures and parameters differs since; remembers this one.

    Results that are the same are the same run, however often they are looked at.
    """
    path = root / STATE / "seen.json"
    headline = root / "metrics" / "report.json"
    figures = json.loads(headline.read_text(encoding="utf-8")) if headline.exists() else {}
    blocks = read_yaml(root / "params.yaml")
    parameters = {key: value for name, block in blocks.items() for key, value in _flat(block, name).items()}
    seen: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    current = {"figures": figures, "parameters": json.loads(json.dumps(parameters, default=str))}
    if not seen or {name: seen[-1][name] for name in current} != current:
        seen = [*seen[-1:], {"at": now, **current}]
        write_json(path, seen)
    if len(seen) < 2:
        return None, [], []
    last = seen[-2]
    return last["at"], differences(last["figures"], figures), differences(last["parameters"], current["parameters"])


if __name__ == "__main__":
    try:
        recover(Path.cwd())
        print(f"The report: file://{write_local_report(Path.cwd())}")
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
