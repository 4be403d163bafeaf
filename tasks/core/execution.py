"""How the pipeline is run, read from `execution.yaml`: never what it produces, so DVC does not look at this file."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.core.params import read_yaml, validate

Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1)]


class Execution(BaseModel):
    """Workers, ranks, threads, device, uploads. `auto` takes what the machine has."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    workers: Count | Auto = Field(
        default="auto", description="Worker processes of a data stage; auto: one a usable core."
    )
    engine: Literal["local", "ray"] = Field(
        default="local", description="Where shards are processed: `local` processes, or a `ray` cluster."
    )
    cluster: str | None = Field(
        default=None, description="Ray: the cluster's address, `auto` for one on this machine; null starts a local one."
    )
    ranks: Count | Auto = Field(
        default="auto", description="Training processes; auto: one a GPU, or a single one that uses every core."
    )
    threads: Count | Auto = Field(default="auto", description="Threads of one training process; auto: cores / ranks.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where models run.")
    nodes: str | None = Field(
        default=None,
        min_length=1,
        description="Several machines for training: the path of a hostfile (`host slots=N` a line), `slurm` inside a job of "
        "Slurm, `kubernetes` inside a Job; null: this machine. `ranks` then are those of one machine; a hostfile's slots say them.",
    )
    remote_shell: str = Field(
        default="ssh -o BatchMode=yes",
        min_length=1,
        description="Hostfile: what a host's name and a shell command are put behind, to start the other machines.",
    )
    port: Annotated[int, Field(ge=1, le=65535)] | Auto = Field(
        default="auto",
        description="Several machines: where they meet on the first; auto: a free one (Kubernetes: 29500).",
    )
    hang_timeout_s: float = Field(
        default=1800,
        gt=0,
        description="Seconds without a finished step, validation batch or checkpoint after which training is taken to hang: "
        "the stacks of all ranks are written and the run ends.",
    )
    upload_models: bool = Field(
        default=False,
        description="Send models to an MLflow server that keeps artifacts of its own; false: where they are.",
    )

    def worker_count(self) -> int:
        return self.workers if self.workers != "auto" else usable_cores()

    def thread_count(self, ranks: int) -> int:
        return self.threads if self.threads != "auto" else max(1, usable_cores() // ranks)

    def device_name(self) -> Literal["cpu", "cuda"]:
        """`cuda` where a GPU is visible and not refused, else `cpu`."""
        if self.device != "auto":
            return self.device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def rank_count(self) -> int:
        if self.ranks != "auto":
            return self.ranks
        if self.device_name() == "cpu":
            return 1
        import torch

        return max(1, torch.cuda.device_count())


def usable_cores() -> int:
    """Cores this process may use: the affinity mask on Linux, which containers and `taskset` set."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


def load_execution(root: Path | None = None) -> Execution:
    """Read `execution.yaml` of `root` (default: the working directory); without one, everything is `auto`.

    Raises:
        UserError: an unknown key or a value that is not allowed.
    """
    path = (root or Path.cwd()) / "execution.yaml"
    return validate(Execution, read_yaml(path), "execution.yaml: ") if path.exists() else Execution()
