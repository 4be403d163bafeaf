"""Too little memory is told before a weight is made, with what would fit, and in the middle of a step with what helps."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tasks.core.errors import UserError
from tasks.pretrain import rank
from tasks.pretrain.checks import memory as memory_check
from tasks.pretrain.checks.free_memory import free_host_bytes
from tasks.pretrain.checks.memory import MemoryForecast, check_memory
from tasks.pretrain.distributed import ProcessGroup
from tests.helpers.given import given_model, gpt2_split
from tests.helpers.pretraining import CONTEXT, VOCABULARY, params, pretrain

PACKED = {"context_length": CONTEXT, "vocabulary_size": VOCABULARY, "document_start": 0}


def limited(root: Path, version: int, path: str, limit: str, used: int, files: int) -> tuple[Path, Path]:
    """(/proc/self/cgroup, /sys/fs/cgroup) where the group `path` has a limit."""
    memory = root / "fs/memory" if version == 1 else root / "fs"
    folder = memory / path.lstrip("/")
    folder.mkdir(parents=True)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{'total_' if version == 1 else ''}inactive_file {files}\n")
    (root / "proc").write_text("5:cpu,cpuacct:/\n4:memory:/a/b\n" if version == 1 else "0::/a/b\n")
    return root / "proc", root / "fs"


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("path", ["/a/b", "/a", "/"])
def test_a_control_groups_limit_bounds_what_is_free(tmp_path: Path, version: int, path: str) -> None:
    """Its own, its parent's, and the one that a container sees as the root; pages of files are given back."""
    free, whose = free_host_bytes(*limited(tmp_path, version, path, "1000000", used=900_000, files=200_000))
    assert free == 300_000
    assert "control group" in whose


def test_without_a_limit_it_is_the_machines(tmp_path: Path) -> None:
    for number, limit in enumerate(("max", str((1 << 63) - 4096))):
        free, whose = free_host_bytes(*limited(tmp_path / str(number), 2 - number, "/a/b", limit, 10, 0))
        assert free > 1 << 20
        assert whose == "this machine"
    assert free_host_bytes(tmp_path / "nowhere", tmp_path)[1] == "this machine"


def check(
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    host: int = 1 << 40,
    device: str = "cuda",
    ranks: int = 4,
    **changes: Any,
) -> dict[str, Any]:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    monkeypatch.setattr(memory_check, "free_bytes", lambda _: (free, "GPU 0"))
    monkeypatch.setattr(memory_check, "free_host_bytes", lambda: (host, "this machine"))
    monkeypatch.setattr(ProcessGroup, "all_reduce_sum", lambda self, *values: list(values))
    config: dict[str, Any] = {}
    check_memory(params(**changes), config, ProcessGroup(0, ranks, torch.device(device)), PACKED)
    return config


WIDE = {"layers": 6, "hidden": 512, "heads": 8, "kv_heads": 8, "intermediate": 1536, "optimizer": "adamw"}
NUMBERS = 6 * (4 * 512**2 + 3 * 512 * 1536 + 2 * 512) + 512 + 64 * 512
"""Parameters of `WIDE`, tied: 16 bytes of each in all, for AdamW in fp32."""


def test_what_does_not_fit_is_refused_with_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as refused:
        check(monkeypatch, free=9 * NUMBERS, **WIDE)
    said = str(refused.value)
    assert f"{16 * NUMBERS / 2**20:.1f} MiB for a rank" in said or f"{16 * NUMBERS / 2**30:.2f} GiB for a rank" in said
    assert f"{NUMBERS:,} parameters in fp32 at ZeRO stage 0 of 4" in said
    fitting = said.partition("What fits by the same estimate: ")[2].split("; or ")
    assert [what.partition(" (")[0] for what in fitting] == [
        "pretrain.zero_stage: 2",  # 4 + 4 / 4 + 8 / 4 bytes; at stage 1 it is 10
        "pretrain.zero_stage: 3",
        "pretrain.offload: cpu, pretrain.zero_stage: 2",
        "pretrain.offload: cpu, pretrain.zero_stage: 3",
        "a smaller model",
    ]
    most = int(fitting[-1].split("about ")[1].split()[0].replace(",", ""))
    assert 0.9 < most / (9 / 16 * NUMBERS) <= 1
    with pytest.raises(UserError, match=r"estimate: pretrain\.zero_stage: 3 .*or a smaller model"):
        check(monkeypatch, free=6 * NUMBERS, host=10 * NUMBERS, **WIDE)  # the host has no room for what is offloaded


def test_ranks_of_a_processor_share_the_machines_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UserError, match=r"for 4 ranks on this machine .*estimate: pretrain\.zero_stage: 1 \(.*or a smaller"
    ) as refused:
        check(monkeypatch, free=50 * NUMBERS, device="cpu", **WIDE)
    assert "offload" not in str(refused.value)  # there is nowhere to
    check(monkeypatch, free=41 * NUMBERS + (1 << 24), device="cpu", zero_stage=1, **WIDE)


def test_activations_that_do_not_fit_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    batch = {"global_batch_tokens": 4 * 64 * CONTEXT, "micro_batch_rows": 64}
    enough = check(monkeypatch, free=1 << 40, **WIDE, **batch)
    assert "for the activations of 64 rows at a time" in enough["memory"]
    assert not caplog.messages
    check(monkeypatch, free=16 * NUMBERS + (1 << 24), **WIDE, **batch)
    assert "memory may not do" in caplog.text
    assert "lower pretrain.micro_batch_rows to" in caplog.text


def test_a_given_model_is_counted_as_it_is(tmp_path: Path) -> None:
    given = given_model(tmp_path / "given", "gpt2", gpt2_split())
    found = memory_check.outline_model(params(start_from="mine"), PACKED, tmp_path / "given")
    forecast = MemoryForecast(params(optimizer="muon"), found, CONTEXT, 1, 1, "cpu")
    counted = sum(weight.numel() for weight in AutoModelForCausalLM.from_pretrained(tmp_path / "given").parameters())
    assert forecast.parameters.total == counted == given.num_parameters()
    assert forecast.needed()[0] == 4 * (4 * counted - forecast.parameters.matrices)  # Muon has one moment
    assert forecast.activations(8) == 0.0


def test_a_model_larger_than_this_machine_is_refused_by_the_stage(tmp_path: Path, inputs, monkeypatch) -> None:
    """More than a hundred billion parameters, of which none is made."""
    sizes = {"layers": 60, "hidden": 12288, "heads": 96, "kv_heads": 96, "intermediate": 49152}
    with pytest.raises(UserError, match=r"too little memory: [\d.]+ GiB for a rank .* this machine|control group"):
        pretrain(tmp_path, inputs, monkeypatch, **sizes)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
        ),
        MemoryError(),
    ],
)
def test_memory_that_ends_in_a_step_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def train(params: Any, config: dict[str, Any]) -> None:
        config["memory"] = "The forecast: 3 GiB"
        raise error

    monkeypatch.setattr("tasks.pretrain.loop.train", train)
    code, outcome = rank._train({"params": params().model_dump(), "work": str(tmp_path)})
    assert (code, outcome["status"]) == (2, "mistake")
    assert "The forecast: 3 GiB. Lower pretrain.micro_batch_rows" in outcome["message"]
    monkeypatch.setattr("tasks.pretrain.loop.train", lambda *_: 1 / 0)
    assert rank._train({"params": params().model_dump(), "work": str(tmp_path)})[0] == 1
