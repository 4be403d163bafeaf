"""What a plan needs of devices: time, memory by ZeRO stage, and which devices of the table hold what."""

from typing import Any, Literal

from tasks.architectures.memory import (
    GIB,
    Memory,
    Parameters,
    Precision,
    cache_bytes,
    inference_bytes,
    training_memory,
    tuning_memory,
    weight_bytes,
)
from tasks.architectures.shape import Shape
from tasks.plan.devices import DEVICES, USABLE, Device

STAGES = (0, 1, 2, 3)
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
FORMS = ("fp32", "bf16", "int8", "int4")
METHODS: tuple[Literal["full", "lora", "qlora"], ...] = ("full", "lora", "qlora")


def seconds(flops: float, device: str, devices: int, mfu: float) -> float:
    """How long `flops` take."""
    return flops / (DEVICES[device].tflops * 1e12 * devices * mfu)


def by_stage(
    shape: Shape,
    parameters: Parameters,
    rows: int,
    ranks: int,
    optimizer: Literal["adamw", "muon"],
    precision: Precision,
) -> list[dict[str, Any]]:
    """Bytes on each of `ranks` devices, a row a ZeRO stage."""
    needed = [
        training_memory(
            shape, parameters, rows=rows, optimizer=optimizer, precision=precision, zero_stage=stage, ranks=ranks
        )
        for stage in STAGES
    ]
    return [{"zero_stage": stage, **_parts(memory)} for stage, memory in zip(STAGES, needed, strict=True)]


def _parts(memory: Memory) -> dict[str, int]:
    parts = ("weights", "gradients", "optimizer", "activations", "total")
    return {f"{part}_bytes": round(getattr(memory, part)) for part in parts}


def forms(shape: Shape, parameters: Parameters) -> dict[str, dict[str, int]]:
    """Bytes of the weights, and of keys and values of one whole context, by the form of their numbers."""
    return {
        form: {
            "weights_bytes": round(weight_bytes(parameters, form)),
            "cache_bytes": round(cache_bytes(shape, 1, form)),
            "inference_bytes": round(inference_bytes(shape, parameters, form)),
        }
        for form in FORMS
    }


def device_table(
    shape: Shape, parameters: Parameters, rows: int, optimizer: Literal["adamw", "muon"]
) -> list[dict[str, Any]]:
    """Of each device with memory of its own: the fewest ranks that pretrain on it by ZeRO stage, and what else it holds.

    Pretraining in bf16 (stage 0, where bf16 has no master weights, in fp32), `rows` rows at a time; None: 1,024 are too few.
    """
    table = []
    for device in DEVICES.values():
        if device.memory_gib is None:
            continue
        room = device.memory_gib * GIB * USABLE
        tuning: dict[str, Any] = {name: tuning_memory(shape, parameters, name).total <= room for name in METHODS}
        inference = {form: inference_bytes(shape, parameters, form) <= room for form in FORMS}
        ranks = {str(stage): _fewest(room, shape, parameters, rows, optimizer, stage) for stage in STAGES}
        table.append(
            {"device": device.name, "memory_gib": device.memory_gib, "ranks": ranks, **tuning, "inference": inference}
        )
    return table


def _fewest(
    room: float, shape: Shape, parameters: Parameters, rows: int, optimizer: Literal["adamw", "muon"], stage: int
) -> int | None:
    for ranks in RANKS if stage else RANKS[:1]:
        needed = training_memory(
            shape,
            parameters,
            rows=rows,
            optimizer=optimizer,
            precision="bf16" if stage else "fp32",
            zero_stage=stage,
            ranks=ranks,
        )
        if needed.total <= room:
            return ranks
    return None


def room_bytes(device: Device) -> float | None:
    """What tensors can have of the device's own memory."""
    return None if device.memory_gib is None else device.memory_gib * GIB * USABLE
