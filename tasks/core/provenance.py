"""Where a result came from: commit, lock file, machine, versions. Recorded with the run, never in an output."""

import hashlib
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "deepspeed",
    "trl",
    "dvc",
    "prefect",
    "mlflow",
    "datasketch",
    "pyarrow",
)


def provenance(root: Path) -> dict[str, str]:
    """Commit, whether code or parameters differ from it, hash of the lock file, host, processor and versions."""
    facts = {
        "commit": git_output(root, "rev-parse", "HEAD") or "not a git repository",
        "branch": git_output(root, "rev-parse", "--abbrev-ref", "HEAD"),
        # Results (metrics, dvc.lock) change with every run: what counts is whether what makes them changed.
        "dirty": str(
            bool(git_output(root, "status", "--porcelain", "--", "tasks", "flows", "params.yaml", "dvc.yaml"))
        ),
        "lock_sha256": _sha256(root / "requirements.lock"),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "processor": processor(),
        "python": platform.python_version(),
    }
    return facts | package_versions()


def merged(facts: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The provenance of several stages as one: what all share stands alone, what differs names its stages."""
    names = dict.fromkeys(name for of_stage in facts.values() for name in of_stage)
    together = {}
    for name in names:
        stages: dict[str, list[str]] = {}
        for stage, of_stage in facts.items():
            stages.setdefault(of_stage.get(name, "not recorded"), []).append(stage)
        values = [value if len(stages) == 1 else f"{value} ({', '.join(where)})" for value, where in stages.items()]
        together[name] = "; ".join(values)
    return together


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that decide results."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def processor() -> str:
    """The processor's model name: training is repeatable to the bit on one kind of it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def git_output(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False, timeout=30)
    except OSError:  # git is not installed
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "no lock file"
