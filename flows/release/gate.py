"""The gate: every rule is asked, and each that fails is named with what was found and what to do."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import run_plan
from flows.release.rules import Rules
from tasks.core.graph import load_graph
from tasks.core.provenance import git_output
from tasks.core.tracking.store import flat_metrics
from tasks.model.served_format import served_format

if TYPE_CHECKING:
    from flows.release.comparison import Comparison


@dataclass(frozen=True)
class Check:
    """A rule, whether it holds, and what was found."""

    rule: str
    passed: bool
    found: str


def workspace_checks(root: Path, rules: Rules) -> Iterator[Check]:
    """Whether what would be released is what this code and these parameters make, and can be made again."""
    outdated = run_plan.outdated(root, list(load_graph(root)))
    stages = ", ".join(stage for stage in load_graph(root) if stage in outdated)
    yield Check(
        "up to date",
        not outdated,
        f"not of this code or these parameters: {stages}. make run" if outdated else "all stages",
    )
    if rules.committed:
        commit = git_output(root, "rev-parse", "--short", "HEAD")
        names = ", ".join(git_output(root, "diff", "--name-only", "HEAD").split("\n")) if commit else ""
        if not commit:
            yield Check(
                "committed", False, "this is no git repository with a commit, so the version would lead back to nothing"
            )
        else:
            yield Check("committed", not names, f"differs from the commit: {names}. Commit it" if names else commit)


def metric_checks(rules: Rules, metrics: dict[str, Any]) -> Iterator[Check]:
    """The bounds of metrics, and the cost of the format that is served."""
    flat = flat_metrics(metrics)
    for bounds, words, sign in ((rules.at_least, "at least", 1), (rules.at_most, "at most", -1)):
        for name, bound in bounds.items():
            value = flat.get(name)
            holds = value is not None and sign * value >= sign * bound
            yield Check(
                f"{name} {words} {bound:g}", holds, "not measured in this run" if value is None else f"{value:.5g}"
            )
    quantized = metrics.get("quantize", {})
    served = served_format(quantized.get("formats", {}))
    if rules.format_cost is not None and served:
        cost = quantized["formats"][served]["bits_per_byte"] - quantized["reference"]["bits_per_byte"]
        yield Check(
            f"{served} costs at most {rules.format_cost:g} bits per byte", cost <= rules.format_cost, f"{cost:+.5f}"
        )


def champion_check(rules: Rules, against: str, comparison: "Comparison | None") -> Check:
    """No worse than the champion, `against` by its title, beyond the interval; `comparison` None: there is no text to ask about."""
    rule = f"no worse than {against}"
    if comparison is None:
        return Check(
            rule,
            False,
            "not compared: nothing is held out, or one predicts no next token. To pass all the same, regression: null",
        )
    bits = comparison.bits_per_byte
    found = (
        f"{bits.after:.4f} against {bits.before:.4f} bits per byte on {bits.items:,} {comparison.text}: "
        f"{bits.difference:+.4f} (95%: {bits.low:+.4f} to {bits.high:+.4f})"
    )
    return Check(rule, bits.low <= (rules.regression or 0.0), found)
