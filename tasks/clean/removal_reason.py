"""Why a text is removed: a reason and a detail, or nothing where it stays."""

RemovalReason = tuple[str, str] | None
"""None to keep a text; else the reason (snake_case, of a rule set its name first) and a detail, such as the measured value with
its threshold."""


def too_high(reason: str, value: float, limit: float) -> RemovalReason:
    return (reason, f"{value:.4g} > {limit:g}") if value > limit else None


def too_low(reason: str, value: float, limit: float) -> RemovalReason:
    return (reason, f"{value:.4g} < {limit:g}") if value < limit else None
