"""The model registry in MLflow: versions of what was released, the candidate among them, and the champion that users have.

The registered model has the experiment's name. Aliases say which version is which; a tag keeps who was champion before, so
that a rollback knows where to go back to.
"""

import os
import time
from dataclasses import dataclass
from typing import Any

from tasks.core.errors import UserError
from tasks.core.tracking.store import EXPERIMENT, Store

CANDIDATE, CHAMPION = "candidate", "champion"
CHAMPIONS_TAG = "textmill.champions"
"""Of the registered model: the versions that were champion, in order, the last one is."""
COMPLETE_TAG = "textmill.complete"
"""Of a version whose files are where they belong; others were interrupted, and are nobody's."""
LATEST = "latest"


@dataclass(frozen=True)
class Version:
    """A released version. `aliases` are those it has now; `tags` lead back to where it came from."""

    number: int
    aliases: tuple[str, ...]
    created: float
    tags: dict[str, str]

    @property
    def date(self) -> str:
        """When it was released, in this machine's time."""
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(self.created))

    @property
    def title(self) -> str:
        """E.g. `version 3 (champion)`."""
        return f"version {self.number}" + (f" ({', '.join(self.aliases)})" if self.aliases else "")


class Registry:
    """The registered model of a store's experiment."""

    def __init__(self, store: Store) -> None:
        self._client: Any = store.client
        self.name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)

    def versions(self) -> list[Version]:
        """All versions that are complete, the newest first."""
        aliases: dict[int, list[str]] = {}
        for alias, number in self._model_aliases().items():
            aliases.setdefault(int(number), []).append(alias)
        found = self._client.search_model_versions(f"name = '{self.name}'", max_results=1000)
        versions = [
            Version(
                int(each.version),
                tuple(sorted(aliases.get(int(each.version), ()))),
                each.creation_timestamp / 1000,
                each.tags,
            )
            for each in found
            if COMPLETE_TAG in each.tags
        ]
        return sorted(versions, key=lambda version: -version.number)

    def resolve(self, asked: str) -> Version:
        """The version that is asked for: `latest`, an alias, or a number.

        Raises:
            UserError: there is none; says which there are.
        """
        versions = self.versions()
        for version in versions:
            if asked == LATEST or asked == str(version.number) or asked in version.aliases:
                return version
        there = ", ".join(version.title for version in versions) or "none yet: make release"
        raise UserError(f"{self.name}: there is no released model {asked!r}. Versions: {there}")

    def alias(self, name: str) -> Version | None:
        """The version with an alias; None: none has it."""
        return next((version for version in self.versions() if name in version.aliases), None)

    def add(self, source: str, run_id: str | None, description: str, tags: dict[str, str]) -> int:
        """Register a version of the model at `source` (MLflow's address of it); returns its number. It is none of `versions` until
        `complete`.
        """
        if self._model() is None:
            self._client.create_registered_model(self.name)
        made = self._client.create_model_version(self.name, source, run_id, tags, description=description)
        return int(made.version)

    def remove(self, number: int) -> None:
        """Take back a version that was never anybody's."""
        self._client.delete_model_version(self.name, str(number))

    def complete(self, number: int) -> Version:
        """Say that a version's files are where they belong, and make it the candidate."""
        self._client.set_model_version_tag(self.name, str(number), COMPLETE_TAG, "yes")
        self._client.set_registered_model_alias(self.name, CANDIDATE, str(number))
        return self.resolve(str(number))

    def promote(self, version: Version) -> None:
        """Make a version the champion; the candidate's alias goes with it."""
        before = [number for number in self._champions() if number != version.number]
        self._set_champions([*before, version.number])
        self._client.set_registered_model_alias(self.name, CHAMPION, str(version.number))
        if CANDIDATE in version.aliases:
            self._client.delete_registered_model_alias(self.name, CANDIDATE)

    def rollback(self) -> tuple[Version, Version]:
        """Make the champion before the present one the champion again; returns the one that was and the one that is.

        Raises:
            UserError: there is no champion, or was none before it.
        """
        champions = self._champions()
        if len(champions) < 2:
            raise UserError(f"{self.name}: there is no champion before the present one to go back to")
        was, now = self.resolve(str(champions[-1])), self.resolve(str(champions[-2]))
        self._client.set_registered_model_alias(self.name, CHAMPION, str(now.number))
        self._set_champions(champions[:-1])
        return was, self.resolve(str(now.number))

    def _champions(self) -> list[int]:
        model = self._model()
        there = {version.number for version in self.versions()}
        said = [int(number) for number in model.tags.get(CHAMPIONS_TAG, "").split()] if model else []
        return [number for number in said if number in there]  # somebody may have deleted one in the pages

    def _set_champions(self, numbers: list[int]) -> None:
        self._client.set_registered_model_tag(self.name, CHAMPIONS_TAG, " ".join(map(str, numbers)))

    def _model(self) -> Any:
        found = self._client.search_registered_models(f"name = '{self.name}'")
        return found[0] if found else None

    def _model_aliases(self) -> dict[str, str]:
        from mlflow.exceptions import MlflowException

        try:
            aliases: dict[str, str] = self._client.get_registered_model(self.name).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return {}
        return aliases
