"""What a run of a stage depends on, as one hash: two runs with the same signature have the same result."""

import hashlib
import json
from typing import Any


def signature(cmd: str, dependencies: dict[str, str], params: Any) -> str:
    """The SHA-256 of a stage's command, the hashes of its dependencies by path, and its parameters."""
    return hashlib.sha256(json.dumps([cmd, dependencies, params], sort_keys=True, default=str).encode()).hexdigest()
