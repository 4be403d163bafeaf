"""Print requirements.lock: install what pyproject.toml asks for into the environment this runs in, and freeze it.

`make lock` runs it in an environment of its own. Names and versions only: where packages come from is the machine's matter.
"""

import subprocess
import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Install, then print the pins, one a line."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "install", "--progress-bar", "off", *wanted], check=True, stdout=sys.stderr)
    subprocess.run([*pip, "check"], check=True, stdout=sys.stderr)
    frozen = subprocess.run([*pip, "freeze"], check=True, capture_output=True, text=True).stdout.splitlines()
    print("# Made by `make lock` from pyproject.toml. Install with: pip install -r requirements.lock")
    print("\n".join(sorted((line.split("+")[0] for line in frozen if "==" in line), key=str.lower)))


if __name__ == "__main__":
    main()
