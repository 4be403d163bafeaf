"""The locks: one version of each package, its hashes, and not a word of where it comes from; and what `make audit` says."""

import importlib
import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from infra import audit
from tests.helpers.checkout import ROOT

HASHED = ("requirements", "requirements-build", "requirements-models", "requirements-fuzz", "requirements-tools")
PIN = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>\S+)( ; (?P<marker>[^\n\\]+))?( \\\n    --hash=sha256:[0-9a-f]{64})+"
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTHONS = ("3.11", "3.12", "3.13")


def pins(lock: str) -> dict[str, str]:
    """Name to version. Nothing else may stand in a lock than pins with hashes, and the line that says who made it.

    A marker may say where a package is needed; no package stands there twice.
    """
    head, _, rest = (ROOT / f"{lock}.lock").read_text().partition("\n")
    assert head.startswith("# Made by `make lock`")
    found = [PIN.match(block) for block in re.split(r"^(?=\S)", rest, flags=re.MULTILINE) if block]
    assert all(found), lock
    assert "".join(f"{each.group()}\n" for each in found if each) == rest
    found_once = {canonicalize_name(each["name"]): each["version"] for each in found if each}
    assert len(found_once) == len(found)
    assert all(Marker(each["marker"]).evaluate() in (True, False) for each in found if each and each["marker"])
    return found_once


@pytest.mark.parametrize("lock", HASHED)
def test_each_package_has_one_version_and_hashes_and_no_address(lock: str) -> None:
    assert len(pins(lock)) >= 1


def test_torch_alone_goes_without_hashes() -> None:
    lines = [line for line in (ROOT / "requirements-torch.lock").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == 1
    assert re.fullmatch(r"torch==[0-9.]+", lines[0])


def test_what_pyproject_asks_for_is_locked() -> None:
    locked = pins("requirements") | {"torch": (ROOT / "requirements-torch.lock").read_text().split("==")[1].strip()}
    for line in [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(locked[canonicalize_name(wanted.name)]), line
    for group, lock in (
        ("models", "requirements-models"),
        ("fuzz", "requirements-fuzz"),
        ("tools", "requirements-tools"),
    ):
        assert {canonicalize_name(Requirement(line).name) for line in PROJECT["dependency-groups"][group]} <= set(
            pins(lock)
        )


def test_the_pythons_are_those_that_the_locks_are_resolved_for() -> None:
    named = SpecifierSet(PROJECT["project"]["requires-python"])
    supported = [Marker(line) for line in PROJECT["tool"]["uv"]["environments"]]
    for python in (*PYTHONS, "3.14"):
        here = {
            "python_full_version": f"{python}.0",
            "sys_platform": "linux",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }
        assert named.contains(python) == any(marker.evaluate(here) for marker in supported) == (python in PYTHONS)
    offered = re.search(r"for name in (.*?);", (ROOT / "Makefile").read_text())
    assert offered
    assert offered[1].split() == [f"python{python}" for python in reversed(PYTHONS)]


@pytest.mark.parametrize(
    ("marker", "left"),
    [
        ("{all}", ""),
        ("python_full_version < '3.13' and {all}", "python_full_version < '3.13'"),
        ("{first} and os_name == 'nt' and {rest}", "os_name == 'nt'"),
        (
            "{first} and ((platform_machine == 'a' and {rest}) or (platform_machine == 'b' and {rest}))",
            "(platform_machine == 'a' or platform_machine == 'b')",
        ),
    ],
)
def test_markers_say_no_more_than_they_must(marker: str, left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lock = importlib.import_module("infra.lock")
    words = {"all": " and ".join(lock.GIVEN), "first": lock.GIVEN[0], "rest": " and ".join(lock.GIVEN[1:])}
    assert lock.shorter(marker.format(**words)) == left


def test_what_is_installed_is_what_is_locked() -> None:
    assert {name: version(name) for name in ("dvc", "numpy", "pyarrow")} == {
        name: pins("requirements")[name] for name in ("dvc", "numpy", "pyarrow")
    }


def test_installing_checks_hashes_of_all_but_torch() -> None:
    recipe = subprocess.run(
        ["make", "-n", "-W", "requirements.lock", "install"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    installs = [line for line in recipe.splitlines() if " pip install " in line]
    assert [re.findall(r"-r (\S+)", line) for line in installs] == [
        ["requirements-build.lock"],
        ["requirements.lock"],
        ["requirements-torch.lock"],
    ]
    assert all("--require-hashes --no-deps" in line for line in installs[:2])
    assert "pip --disable-pip-version-check check" in recipe


@pytest.mark.parametrize(
    ("licence", "mark"),
    [
        ("MIT", ""),
        ("Apache-2.0 OR GPL-2.0-or-later", ""),
        ("EPL-2.0 OR GPL-2.0-or-later", "copyleft"),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", "copyleft"),
        ("GNU Lesser General Public License v2 or later (LGPLv2+)", "copyleft"),
        ("AGPL-3.0-only", "copyleft"),
        ("UNKNOWN", "unknown"),
        ("", "unknown"),
    ],
)
def test_licences_that_oblige_or_say_nothing_are_marked(licence: str, mark: str) -> None:
    assert audit.judge(licence)[1] == mark


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        ("raise SystemExit('no route to host')", 2, "NOT CHECKED, their data could not be had.\n  no route to host"),
        ('[{"name": "a", "version": "1", "vulns": []}]', 0, "Known weaknesses of 1 packages: 0"),
        (
            '[{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}]',
            1,
            "a 1: X-1; mended in 2",
        ),
    ],
)
def test_an_audit_without_data_does_not_pass(
    found: str,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write = f"""open(sys.argv[sys.argv.index('-o') + 1], 'w').write('{{"dependencies": {found}}}')"""
    (tmp_path / "pip_audit.py").write_text(f"import sys\n{found if found.startswith('raise') else write}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert audit.weaknesses() == code
    assert said in capsys.readouterr().out
