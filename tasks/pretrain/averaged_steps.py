"""Which checkpoints are averaged: those that are due, so that it does not matter where a run was stopped between."""


def due_steps(checkpoint_every: int, steps: int) -> list[int]:
    """The steps of a run that a checkpoint is due after, the last one among them."""
    return [*range(checkpoint_every, steps, checkpoint_every), steps]


def check_average(average: int, checkpoint_every: int, steps: int | None, ema_decay: float, export: str) -> None:
    """Check that `average_checkpoints` alone says which weights are exported, and that a run of `steps` has so many.

    Raises:
        ValueError: another key says so too, or it has fewer.
    """
    if not average:
        return
    for other, value, off in (("ema_decay", ema_decay, 0), ("export", export, "last")):
        if value != off:
            raise ValueError(
                f"average_checkpoints and {other} both say which weights are exported: set average_checkpoints to 0, or {other} "
                f"to {off}"
            )
    there = len(due_steps(checkpoint_every, steps)) if steps else None
    if there and there < average:
        raise ValueError(
            f"average_checkpoints ({average}): a run of {steps} steps with one every {checkpoint_every} has {there}. Lower "
            "checkpoint_every, or average_checkpoints"
        )
