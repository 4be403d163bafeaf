"""A checkout that was moved or copied: its runs' artifacts are its own, and it never writes into the original."""

import hashlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tasks.core.tracking.moved_checkout import PREFECT_PATHS, rewrite_moved_paths
from tests.helpers.running import runs, stage

WRITES_A_PAGE = '(outputs / "page.html").write_text(params.text)\n    (outputs / "half.txt")'


@pytest.fixture(scope="module")
def original(toy_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy project, whose first stage has run and left a page in MLflow."""
    project = Path(shutil.copytree(toy_template, tmp_path_factory.mktemp("place") / "original", symlinks=True))
    code = project / "tasks/words/stage.py"
    code.write_text(code.read_text().replace('(outputs / "half.txt")', WRITES_A_PAGE))
    assert stage(project).returncode == 0
    return project


def content(project: Path) -> dict[str, str]:
    files = (path for path in project.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def mentions(project: Path, place: Path) -> list[str]:
    """Columns of MLflow's database that hold an address in `place`; not what a person or a stage wrote there."""
    found = []
    with sqlite3.connect(project / ".textmill/mlflow.db") as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall():
                looks = f"SELECT count(*) FROM {table} WHERE instr({column}, ?) > 0"  # noqa: S608
                if connection.execute(looks, (f"{place}/",)).fetchone()[0]:
                    found.append(f"{table}.{column}")
    return found


def pages(project: Path, target: Path) -> list[str]:
    """The page of each run of the first stage, as MLflow gives it."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{project / '.textmill/mlflow.db'}")
    of_words = [run.info.run_id for run in runs(project) if run.data.tags.get("textmill.stage") == "words"]
    target.mkdir()
    return [Path(client.download_artifacts(run_id, "page.html", str(target))).read_text() for run_id in of_words]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["copy", "original-2", "mit Leerzeichen und ü"])
def test_a_copy_never_writes_into_the_original(original: Path, tmp_path: Path, name: str) -> None:
    before = content(original)
    copy = Path(shutil.copytree(original, tmp_path / name, symlinks=True))
    done = stage(copy)
    assert done.returncode == 0, done.stderr
    assert content(original) == before
    assert mentions(copy, original) == []
    original.rename(original.with_name("away"))
    try:
        assert pages(copy, tmp_path / "pages") == ["w", "w"]  # that of the original's run, and its own
    finally:
        original.with_name("away").rename(original)


@pytest.mark.slow
def test_a_checkout_that_was_moved_twice_still_has_its_artifacts(original: Path, tmp_path: Path) -> None:
    """Also to a place whose name begins with the old one, and into its own old folder."""
    here = Path(shutil.copytree(original, tmp_path / "a", symlinks=True))
    rewrite_moved_paths(here / ".textmill")
    for place in (tmp_path / "aa", tmp_path / "a" / "b"):
        place.parent.mkdir(exist_ok=True)
        here = here.rename(place)
        rewrite_moved_paths(here / ".textmill")
        rewrite_moved_paths(here / ".textmill")
        assert mentions(here, original) == []
    assert pages(here, tmp_path / "pages") == ["w"]


def test_a_copys_deployments_work_in_the_copy(tmp_path: Path) -> None:
    def steps(project: Path) -> list[Any]:
        return [{"prefect.deployments.steps.set_working_directory": {"directory": str(project)}}]

    original, copy = tmp_path / "á original", tmp_path / "copy"
    (original / ".textmill/prefect").mkdir(parents=True)
    rewrite_moved_paths(original / ".textmill")
    with sqlite3.connect(original / ".textmill/prefect/prefect.db") as database:
        database.execute("CREATE TABLE deployment (name, path, pull_steps)")
        rows = [("nightly", str(original), json.dumps(steps(original), ensure_ascii=False))]
        rows += [("elsewhere", "/srv/other", json.dumps(steps(tmp_path / "other"))), ("none", None, None)]
        database.executemany("INSERT INTO deployment VALUES (?, ?, ?)", rows)
    shutil.copytree(original, copy)
    rewrite_moved_paths(copy / ".textmill")
    with sqlite3.connect(copy / ".textmill/prefect/prefect.db") as database:
        found = {
            name: (path, json.loads(pull) if pull else None)
            for name, path, pull in database.execute("SELECT * FROM deployment")
        }
    assert found == {
        "nightly": (str(copy), steps(copy)),
        "elsewhere": ("/srv/other", steps(tmp_path / "other")),
        "none": (None, None),
    }


def test_prefects_own_table_has_these_columns() -> None:
    from prefect.server.database.orm_models import Deployment

    assert set(PREFECT_PATHS[Deployment.__tablename__]) <= set(Deployment.__table__.columns.keys())
