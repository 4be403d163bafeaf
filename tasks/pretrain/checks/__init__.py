"""Checks: what is refused, or warned of, before the first step: rows, the machine, memory, a given model."""
