"""A stage that leaves the model as it is points to the one before it: what must hold for such pointers."""

import json
import shutil
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.model.model_pointer import POINTER, is_pointer, pointer_reason, resolve_model, tuned_stages, write_pointer


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """data/pretrain with a model, and data/finetune that points to it."""
    data = tmp_path / "project/data"
    for name in ("pretrain", "finetune"):
        (data / name).mkdir(parents=True)
    (data / "pretrain/config.json").write_text("{}")
    write_pointer(data / "finetune", data / "pretrain", "nothing to tune on")
    return data


def test_a_folder_with_a_model_is_itself_and_a_pointer_leads_to_it(data: Path) -> None:
    assert resolve_model(data / "pretrain") == data / "pretrain"
    assert not is_pointer(data / "pretrain")
    assert resolve_model(data / "finetune") == data / "pretrain"
    assert is_pointer(data / "finetune")
    assert pointer_reason(data / "finetune") == "nothing to tune on"


def test_nothing_is_copied(data: Path) -> None:
    assert [path.name for path in (data / "finetune").iterdir()] == [POINTER]


def test_a_project_that_is_moved_or_copied_keeps_its_models(data: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "elsewhere/deeper/data"))
    shutil.rmtree(data)
    assert resolve_model(copy / "finetune") == copy / "pretrain"


def test_a_relative_path_gives_a_relative_path(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    assert resolve_model(Path("data/finetune")) == Path("data/pretrain")


def test_the_pointer_s_bytes_are_the_same_wherever_the_project_lies(data: Path, tmp_path: Path) -> None:
    (tmp_path / "b/data/finetune").mkdir(parents=True)
    write_pointer(tmp_path / "b/data/finetune", tmp_path / "b/data/pretrain", "nothing to tune on")
    assert (tmp_path / "b/data/finetune" / POINTER).read_bytes() == (data / "finetune" / POINTER).read_bytes()


def test_it_holds_after_the_rename_that_publishes_a_stage(data: Path) -> None:
    """Stages write to `data/.<stage>.partial` first."""
    (data / ".prefer.partial").mkdir()
    write_pointer(data / ".prefer.partial", data / "finetune", "no preferences")
    (data / ".prefer.partial").rename(data / "prefer")
    assert resolve_model(data / "prefer") == data / "pretrain"


def test_a_model_of_its_own_outranks_a_file_of_that_name(data: Path) -> None:
    """Some exporters write a model.json of another kind beside a model."""
    (data / "pretrain" / POINTER).write_text('{"format": "layers-model"}')
    assert resolve_model(data / "pretrain") == data / "pretrain"


def test_a_folder_without_model_or_pointer_is_left_to_the_loader(tmp_path: Path) -> None:
    assert resolve_model(tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no valid JSON"),
        ('["../pretrain"]', "names no relative folder"),
        ('{"model": ""}', "names no relative folder"),
        ('{"model": "/somewhere"}', "names no relative folder"),
        ('{"model": "../nowhere"}', "which is no folder. Restore it: dvc checkout"),
        ('{"model": "."}', "leads back to itself"),
    ],
)
def test_a_broken_pointer_says_what_and_where(data: Path, content: str, said: str) -> None:
    (data / "finetune" / POINTER).write_text(content)
    with pytest.raises(UserError, match=r"finetune/model\.json") as raised:
        resolve_model(data / "finetune")
    assert said in str(raised.value)


def test_two_that_lead_to_each_other_end(data: Path) -> None:
    (data / "prefer").mkdir()
    (data / "prefer" / POINTER).write_text(json.dumps({"model": "../finetune"}))
    (data / "finetune" / POINTER).write_text(json.dumps({"model": "../prefer"}))
    with pytest.raises(UserError, match="leads back to itself"):
        resolve_model(data / "prefer")


def test_the_stages_that_tuned_are_those_with_a_model_of_their_own(data: Path) -> None:
    folders = {stage: data / stage for stage in ("finetune", "prefer")}
    folders["prefer"].mkdir(exist_ok=True)
    write_pointer(folders["prefer"], folders["finetune"], "nothing was tuned")
    assert tuned_stages(folders) == []
    (folders["finetune"] / POINTER).unlink()
    (folders["finetune"] / "config.json").write_text("{}")
    assert tuned_stages(folders) == ["finetune"]
    (folders["prefer"] / POINTER).unlink()
    assert tuned_stages(folders) == ["finetune", "prefer"]
