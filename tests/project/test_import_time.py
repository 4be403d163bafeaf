"""What loads for seconds is loaded by those that compute with it, and by no other process."""

import subprocess
import sys

from tests.helpers.checkout import ROOT

HEAVY = {"torch", "transformers", "deepspeed", "mlflow", "prefect", "datasets", "pandas", "scipy", "numba"}


def loaded(code: str) -> set[str]:
    """The modules of HEAVY that a new process has loaded after `code`."""
    code += f"\nimport sys\nprint(*({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_checking_the_parameters_of_all_stages_loads_no_library_that_computes() -> None:
    """Each stage does so first, and so does the flow."""
    code = (
        "from pathlib import Path\nfrom tasks.core.graph import load_graph\nfrom tasks.core.params import load_params\n"
    )
    assert loaded(code + "load_params(Path(), [*load_graph(Path())])") == set()


def test_a_rank_loads_deepspeed_without_mlflow() -> None:
    found = loaded("from tasks.pretrain.deepspeed_import import load_deepspeed\nload_deepspeed().initialize")
    assert "deepspeed" in found
    assert "mlflow" not in found
