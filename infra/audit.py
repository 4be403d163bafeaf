"""Print what is known against the locked packages, and their licences: `python -m infra.audit PYTHON`.

PYTHON is the interpreter of the environment that `make install` made. Exit codes: 0 nothing is known against them;
1 something is; 2 it could not be told. Licences are for a person to judge and change no exit code.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-torch.lock", "requirements-models.lock")
COPYLEFT = re.compile(
    r"\b(A|L)?GPL|General Public|\bMPL|Mozilla|\bEPL|Eclipse|\bEUPL|\bCDDL|\bOSL|\bCC-BY-SA", re.IGNORECASE
)
UNKNOWN = {"", "UNKNOWN", "OTHER/PROPRIETARY LICENSE"}


def main() -> None:
    """Print both parts."""
    code = weaknesses()
    _licences(sys.argv[1])
    sys.exit(code)


def weaknesses() -> int:
    """Print what is known against the packages of the locks; returns the exit code."""
    locks = [part for lock in LOCKS if Path(lock).exists() for part in ("-r", lock)]
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        command = [
            "-m",
            "pip_audit",
            "-s",
            "osv",
            "--disable-pip",
            "--no-deps",
            "--progress-spinner",
            "off",
            "-f",
            "json",
        ]
        done = subprocess.run(
            [sys.executable, *command, "-o", found, *locks], capture_output=True, text=True, check=False
        )
        if not found.exists():
            why = (done.stderr.strip().splitlines() or [f"pip-audit ended with {done.returncode}"])[-1]
            print(f"Known weaknesses: NOT CHECKED, their data could not be had.\n  {why}\n")
            return 2
        packages: list[dict[str, Any]] = json.loads(found.read_text(encoding="utf-8"))["dependencies"]
    lines = [
        f"  {package['name']} {package['version']}: {weakness['id']}; mended in {', '.join(weakness['fix_versions']) or 'none'}"
        for package in packages
        for weakness in package.get("vulns", [])
    ]
    skipped = [
        f"  {package['name']}: not checked, {package['skip_reason']}"
        for package in packages
        if "skip_reason" in package
    ]
    print(f"Known weaknesses of {len(packages)} packages: {len(lines)}", *lines, *skipped, "", sep="\n")
    return 1 if lines else 2 if skipped else 0


def _licences(python: str) -> None:
    command = [sys.executable, "-m", "piplicenses", "--python", python, "--from", "mixed", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [(row["Name"], row["Version"], *judge(row["License"])) for row in json.loads(done.stdout)]
    marked = [row for row in rows if row[3]]
    print(f"Licences of the {len(rows)} installed packages, {len(marked)} of them marked: look at these first.")
    for name, version, licence, mark in [*marked, *(row for row in rows if not row[3])]:
        print(f"  {mark:9} {name} {version}: {licence}")


def judge(licence: str) -> tuple[str, str]:
    """A licence in a line, and what to look at: `copyleft` (without another choice), `unknown`, or nothing."""
    line = next(iter(licence.strip().splitlines()), "")[:100]
    if line.upper() in UNKNOWN:
        return line or "UNKNOWN", "unknown"
    parts = re.split(r"\bAND\b(?![^(]*\))", line)
    bound = any(all(COPYLEFT.search(choice) for choice in re.split(r"\bOR\b", part)) for part in parts)
    return line, "copyleft" if bound else ""


if __name__ == "__main__":
    main()
