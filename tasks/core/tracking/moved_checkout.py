"""A checkout that was moved or copied: what its databases say of places is pointed to where it lies."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from filelock import FileLock

PLACE_FILE = "place"
"""File of the state folder: where the checkout lay when its databases were last opened."""
MLFLOW_URIS = {
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["source", "storage_location"],
}
"""Columns of MLflow's database that hold absolute addresses of artifacts: MLflow knows no relative ones."""
PREFECT_PATHS = {"deployment": ["path", "pull_steps"]}
"""Columns of Prefect's database that say in which folder a deployment works."""


def rewrite_moved_paths(state: Path) -> None:
    """Point the databases in the state folder `state` to the checkout that it belongs to.

    Without it a copy of a checkout would write its artifacts, and run its deployments, in the original.
    """
    marker, here = state / PLACE_FILE, str(state.resolve().parent)
    if _read(marker) == here:
        return
    with FileLock(state / "place.lock"):
        before = _read(marker)
        if before not in (None, here):
            # Only what lies in these folders: the old place may be the beginning of the new one.
            moved = [
                (f"{base(before)}/{folder}/", f"{base(here)}/{folder}/")
                for folder in (state.name, "mlruns")  # the latter for MLflow's experiment Default
                for base in (str, lambda path: Path(path).as_uri())
            ]
            _rewrite(state / "mlflow.db", MLFLOW_URIS, lambda text: _moved(text, moved))
            _rewrite(state / "prefect" / "prefect.db", PREFECT_PATHS, lambda text: _moved_json(text, before, here))
        beside = marker.with_name(f".{PLACE_FILE}.partial")
        beside.write_text(here, encoding="utf-8")
        beside.replace(marker)


def _read(marker: Path) -> str | None:
    return marker.read_text(encoding="utf-8") if marker.exists() else None


def _moved(text: str, prefixes: list[tuple[str, str]]) -> str:
    for old, new in prefixes:
        if text.startswith(old):
            return new + text.removeprefix(old)
    return text


def _moved_json(text: str, old: str, new: str) -> str:
    """`text`, a path or JSON that holds paths, with each string that is `old` become `new`."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner) for inner in value]
        return new if value == old else value

    try:
        return json.dumps(walk(json.loads(text)))
    except ValueError:  # a plain path
        return str(walk(text))


def _rewrite(database: Path, columns: dict[str, list[str]], change: Callable[[str], str]) -> None:
    """Change the columns of a sqlite database in one transaction; what it lacks of them is passed over."""
    if not database.exists():
        return
    with closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        for table, names in columns.items():
            known = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            for name in known.intersection(names):
                values = f"SELECT DISTINCT {name} FROM {table} WHERE {name} IS NOT NULL"  # noqa: S608 - names of this file
                changed = [(new, old) for (old,) in connection.execute(values) if (new := change(old)) != old]
                connection.executemany(f"UPDATE {table} SET {name} = ? WHERE {name} = ?", changed)  # noqa: S608
