"""The rule sets that params.yaml names, applied to a text one after the other."""

from collections.abc import Callable, Sequence

from tasks.clean.dropped_lines import Dropped
from tasks.clean.rules import c4, fineweb, gopher_quality, gopher_repetition
from tasks.clean.rules.names import RuleSet
from tasks.clean.rules.rejection import Verdict
from tasks.clean.rules.words import Page

JUDGES: dict[str, Callable[[Page], Verdict]] = {
    "gopher_quality": gopher_quality.judge,
    "gopher_repetition": gopher_repetition.judge,
    "fineweb": fineweb.judge,
}


def apply_rules(text: str, names: Sequence[RuleSet]) -> tuple[str, Dropped, Verdict]:
    """The text (less the lines that C4 drops), lines dropped, and the first rule that it fails, if any."""
    dropped = Dropped()
    page = Page(text)
    for name in names:
        verdict: Verdict
        if name != "c4":
            verdict = JUDGES[name](page)
        else:
            text, dropped, verdict = c4.drop_lines(text)
            page = Page(text)
        if verdict:
            return text, dropped, verdict
    return text, dropped, None
