"""A release, step by step: the gate, the card, the folder, the version; nothing is registered that the gate refuses."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from flows.release import card, gate
from flows.release.bundle import Candidate, find_candidate, finish_bundle, write_bundle
from flows.release.rules import Rules, load_rules
from flows.summary import read_metrics
from tasks.core.errors import UserError
from tasks.core.graph import load_graph
from tasks.core.paths import state_folder
from tasks.core.provenance import git_output
from tasks.core.tracking.logged_models import find_models
from tasks.core.tracking.registry import CHAMPION, Registry, Version
from tasks.core.tracking.store import Store
from tasks.corrupted_text.restorer import objective_of
from tasks.model.released import MODEL, read_facts, release_folder

SAME = ("model_md5", "quantize_md5")
TRIES = 5
"""At the number that MLflow gives a version next, which it does not tell before."""


@dataclass(frozen=True)
class Proposal:
    """What came of it: the checks, and the version if all hold."""

    checks: list[gate.Check]
    version: Version | None
    folder: Path | None


def propose(root: Path, store: Store) -> Proposal:
    """Ask the gate, and where it lets the model pass, make a version of it with the alias `candidate`.

    Raises:
        UserError: the pipeline has not run to its end, or this model is a version already.
    """
    rules, registry, metrics = load_rules(root), Registry(store), read_metrics(root)
    if missing := [stage for stage in load_graph(root) if stage not in metrics]:
        raise UserError(f"there is nothing to release yet. Not made: {', '.join(missing)}: make run")
    with FileLock(state_folder(root) / "release.lock"):
        candidate = find_candidate(root, metrics)
        for version in registry.versions():
            if [version.tags.get(f"textmill.{name}") for name in SAME] == [candidate.model_md5, candidate.quantize_md5]:
                raise UserError(f"{registry.name}: {version.title}, of {version.date}, is this model already")
        checks = [*gate.workspace_checks(root, rules), *gate.metric_checks(rules, metrics)]
        comparison = None
        champion = registry.alias(CHAMPION)
        if champion and rules.regression is not None:
            comparison = _compare(root, rules, champion, candidate)
            checks.append(gate.champion_check(rules, champion.title, comparison))
        if not all(check.passed for check in checks):
            return Proposal(checks, None, None)
        model = _logged_model(store, candidate)
        facts = _facts(root, registry.name, candidate, model) | {"checks": [asdict(check) for check in checks]}
        written = card.render_card(root, metrics, rules, candidate, checks, comparison, facts)
        folder = write_bundle(root, candidate, facts, written, card.card_page(written))
        tags = {f"textmill.{name}": str(facts[name]) for name in ("commit", "dvc_lock_md5", "output", *SAME)}
        number = _register(root, registry, model, written, tags)
        try:
            folder = finish_bundle(root, folder, number)
        except BaseException:
            registry.remove(number)
            raise
        return Proposal(checks, registry.complete(number), folder)


def _register(root: Path, registry: Registry, model: Any, written: str, tags: dict[str, str]) -> int:
    """A version of the model in MLflow, or, where it was never tracked, of the folder that the release will have."""
    if model:
        return registry.add(model.model_uri, model.source_run_id, written, tags)
    expected = max((version.number for version in registry.versions()), default=0) + 1
    for _ in range(TRIES):
        number = registry.add((release_folder(root, str(expected)) / MODEL).absolute().as_uri(), None, written, tags)
        if number == expected:
            return number
        registry.remove(number)  # one that was interrupted or deleted had that number
        expected = number + 1
    raise UserError(f"{registry.name}: somebody else releases at the same time. Do it again")


def _compare(root: Path, rules: Rules, champion: Version, candidate: Candidate) -> Any:
    """None where they cannot be compared: nothing is held out, or one of them predicts no next token."""
    from flows.release.comparison import compare

    folder = release_folder(root, str(champion.number))
    read_facts(folder)
    if any(objective_of(model) != "causal" for model in (folder / MODEL, candidate.model)):
        return None
    data = root / "data"
    return compare(
        folder / MODEL,
        candidate.model,
        data / "instruct/held_out",
        data / "decontaminate/documents",
        rules.compared_bytes,
    )


def _logged_model(store: Store, candidate: Candidate) -> Any:
    """The model in MLflow that the candidate is, the newest of those with its content; None: it was never tracked."""
    found = find_models(store, dvc_output=candidate.output, dvc_output_md5=candidate.model_md5)
    return next((model for model in found if model.status == "READY"), None)


def _facts(root: Path, name: str, candidate: Candidate, model: Any) -> dict[str, Any]:
    return {
        "name": name,
        "date": card.today(),
        "commit": git_output(root, "rev-parse", "HEAD"),
        "dvc_lock_md5": hashlib.md5((root / "dvc.lock").read_bytes(), usedforsecurity=False).hexdigest(),
        "output": candidate.output,
        "model_md5": candidate.model_md5,
        "quantize_md5": candidate.quantize_md5,
        "format": candidate.format,
        "model_id": model.model_id if model else None,
        "run_id": model.source_run_id if model else None,
    }
