"""Whether another machine sees the same checkout and data: two that do not would train two models and average them."""

import hashlib
import platform
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.provenance import package_versions

PROJECT = Path(__file__).parents[3]
END_BYTES = 1 << 20
"""Of a large file its size and this much of its beginning and its end count: a second copy of it is rarely off by less."""


def fingerprint(config: dict[str, Any]) -> dict[str, str]:
    """What must be equal on every node: the code, the versions of Python and of packages, and each input of `config`."""
    packages = {name: found.partition("+")[0] for name, found in package_versions().items()}
    parts = {
        "code": _digest((PROJECT / "tasks").rglob("*.py"), PROJECT / "tasks"),
        "packages": ", ".join(f"{name} {found}" for name, found in packages.items()),
        "python": ".".join(platform.python_version_tuple()[:2]),
    }
    for name in ("pack", "tokenizer", "start"):
        if config.get(name):
            folder = Path(config[name])
            parts[f"{name} ({folder})"] = _digest(folder.rglob("*"), folder) if folder.exists() else "missing"
    return parts


def require_same(ours: dict[str, str], expected: dict[str, str], host: str) -> None:
    """Compare what `fingerprint` gave here with what it gave on node 0.

    Raises:
        UserError: something differs; says what.
    """
    other = [name for name, value in expected.items() if ours.get(name) != value]
    if not other:
        return
    shown = [
        f"{name}: here {ours.get(name, 'missing')}, there {expected[name]}" if name in ("packages", "python") else name
        for name in other
    ]
    raise UserError(
        f"{host}: is not what the first machine has: {'; '.join(shown)}. Every machine needs the same checkout, environment and "
        "data under the same path: put them on a file system that all share"
    )


def _digest(paths: Any, root: Path) -> str:
    total = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in paths if path.is_file() and "__pycache__" not in path.parts):
        size = path.stat().st_size
        total.update(f"{path.relative_to(root)}\0{size}\0".encode())
        with path.open("rb") as stream:
            total.update(stream.read(END_BYTES))
            stream.seek(max(0, size - END_BYTES))
            total.update(stream.read())
    return total.hexdigest()
