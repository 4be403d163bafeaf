"""The rule sets that params.yaml names, applied to a text one after the other."""

from collections.abc import Callable, Sequence

from tasks.clean.dropped_lines import DroppedLines
from tasks.clean.removal_reason import RemovalReason
from tasks.clean.rules import c4, fineweb, gopher_quality, gopher_repetition
from tasks.clean.rules.rule_set_names import RuleSet
from tasks.clean.rules.tokenized_text import TokenizedText

RULE_SETS: dict[str, Callable[[TokenizedText], RemovalReason]] = {
    "gopher_quality": gopher_quality.check,
    "gopher_repetition": gopher_repetition.check,
    "fineweb": fineweb.check,
}


def apply_rules(text: str, names: Sequence[RuleSet]) -> tuple[str, DroppedLines, RemovalReason]:
    """The text (less the lines that C4 drops), lines dropped, and the first rule that it fails, if any."""
    dropped = DroppedLines()
    page = TokenizedText(text)
    for name in names:
        reason: RemovalReason
        if name != "c4":
            reason = RULE_SETS[name](page)
        else:
            text, dropped, reason = c4.drop_lines(text)
            page = TokenizedText(text)
        if reason:
            return text, dropped, reason
    return text, dropped, None
