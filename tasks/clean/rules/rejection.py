"""What a rule says of a text: nothing, or why it goes."""

from collections.abc import Sequence

Verdict = tuple[str, str] | None
"""None to keep a text; else the reason (snake_case, the rule set's name first) and the measured value with its threshold."""


def too_high(reason: str, value: float, limit: float) -> Verdict:
    return (reason, f"{value:.4g} > {limit:g}") if value > limit else None


def too_low(reason: str, value: float, limit: float) -> Verdict:
    return (reason, f"{value:.4g} < {limit:g}") if value < limit else None


def repeated(parts: Sequence[str]) -> tuple[int, int]:
    """How many of the parts came before, and their characters."""
    distinct = set(parts)
    return len(parts) - len(distinct), sum(map(len, parts)) - sum(map(len, distinct))
