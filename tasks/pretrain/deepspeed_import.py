"""DeepSpeed, loaded without what it only loads because it is installed."""

import sys
from types import ModuleType
from typing import Any


def load_deepspeed() -> Any:
    """The module `deepspeed`, loaded without MLflow.

    DeepSpeed's tuner, which is not used here, imports MLflow where it can, and that takes every rank longer than DeepSpeed
    itself. A name that stands for None in `sys.modules` cannot be imported, and the tuner does without.
    """
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    hidden = "mlflow" not in modules
    if hidden:
        modules["mlflow"] = None
    try:
        import deepspeed
    finally:
        if hidden:
            del modules["mlflow"]
    return deepspeed
