"""Versions in MLflow's registry: who is candidate and champion, and the way back."""

from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.core.tracking.registry import CANDIDATE, CHAMPION, Registry
from tasks.core.tracking.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("project"))


@pytest.fixture
def registry(store: Store, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Registry:
    """A registered model of its own for each test: names are an experiment's."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", request.node.name)
    return Registry(store)


def released(registry: Registry, place: Path, count: int = 3) -> None:
    for number in range(1, count + 1):
        assert registry.add((place / str(number)).as_uri(), None, "a card", {"textmill.commit": f"c{number}"}) == number
        registry.complete(number)


def test_versions_are_asked_for_by_number_alias_and_latest(registry: Registry, tmp_path: Path) -> None:
    assert registry.versions() == []
    assert registry.alias(CHAMPION) is None
    with pytest.raises(UserError, match=r"no released model 'champion'\. Versions: none yet: make release"):
        registry.resolve("champion")
    released(registry, tmp_path)
    assert registry.complete(2) == registry.resolve(CANDIDATE)
    assert registry.resolve("latest").number == 3
    assert registry.resolve("2").title == "version 2 (candidate)"
    assert registry.resolve("1").tags["textmill.commit"] == "c1"
    with pytest.raises(
        UserError, match=r"no released model '9'. Versions: version 3, version 2 \(candidate\), version 1"
    ):
        registry.resolve("9")


def test_promotion_and_the_way_back(registry: Registry, tmp_path: Path) -> None:
    released(registry, tmp_path)
    with pytest.raises(UserError, match="no champion before"):
        registry.rollback()
    registry.complete(1)
    for number in (1, 2, 3):
        registry.promote(registry.resolve(str(number)))
    assert registry.resolve(CHAMPION).number == 3
    assert registry.alias(CANDIDATE) is None  # it became the champion
    was, now = registry.rollback()
    assert (was.number, now.title) == (3, "version 2 (champion)")
    registry.promote(registry.resolve("3"))
    registry.promote(registry.resolve("2"))
    assert [version.number for version in registry.rollback()] == [2, 3]
    assert [version.number for version in registry.rollback()] == [3, 1]


def test_a_champion_that_was_deleted_is_passed_over(registry: Registry, tmp_path: Path) -> None:
    released(registry, tmp_path)
    for number in (1, 2, 3):
        registry.promote(registry.resolve(str(number)))
    registry.remove(2)
    assert registry.rollback()[1].number == 1
    with pytest.raises(UserError, match="no champion before"):
        registry.rollback()


def test_one_that_was_interrupted_is_no_version(registry: Registry, tmp_path: Path) -> None:
    released(registry, tmp_path, 1)
    assert registry.add((tmp_path / "2").as_uri(), None, "", {}) == 2
    assert [version.number for version in registry.versions()] == [1]
    assert registry.resolve("latest").number == 1
    with pytest.raises(UserError, match="no released model '2'"):
        registry.resolve("2")


def test_a_model_that_was_never_tracked_leads_to_the_folder_it_will_have(registry: Registry, tmp_path: Path) -> None:
    """Also after one that was interrupted, and one that was deleted, whose numbers MLflow gives to no other."""
    from flows.release.propose import _register

    released(registry, tmp_path, 1)
    registry.add((tmp_path / "x").as_uri(), None, "", {})
    registry.remove(registry.add((tmp_path / "y").as_uri(), None, "", {}))
    number = _register(tmp_path, registry, None, "a card", {})
    registry.complete(number)
    source = registry._client.get_model_version(registry.name, str(number)).source
    assert source == (tmp_path / f"releases/{number}/model").as_uri()
