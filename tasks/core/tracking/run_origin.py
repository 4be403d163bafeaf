"""Who started a run, how, and from which commit: the tags by which MLflow's pages tell it."""

import getpass
from pathlib import Path

from tasks.core.provenance import provenance


def origin(root: Path, command: str) -> dict[str, str]:
    """MLflow's tags of a run that `command` started in the checkout `root`."""
    facts = provenance(root)
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return {
        "mlflow.user": user,
        "mlflow.source.name": command,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": facts["commit"],
        "mlflow.source.git.branch": facts["branch"],
        "mlflow.source.git.dirty": facts["dirty"],
    }
