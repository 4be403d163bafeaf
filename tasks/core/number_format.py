"""How numbers are put into a sentence of the log."""

from collections.abc import Mapping
from typing import Any


def format_counts(counts: Mapping[str, Any]) -> str:
    """`documents 1,204, bytes 88,812, outcomes (saved 317, failed 2)`; `none` where there is nothing.

    Left out are counts of zero: they are in the metrics.
    """
    said = [f"{name.replace('_', ' ')} {_value(value)}" for name, value in counts.items() if value not in (0, None, {})]
    return ", ".join(said) or "none"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({format_counts(value)})"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
