"""Devices by name: memory, and arithmetic by their makers' data sheets.

Always the dense figure: data sheets lead with the one for sparse matrices, which is twice as large and which no training
reaches. The numbers of a data sheet are never measured: what a device really does stands in MLflow.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A device.

    Attributes:
        memory_gib: memory of its own that its driver shows, GiB; of a processor's core none (the machine's memory is shared).
        tflops: dense matrix products in bf16 with fp32 sums, 10^12 FLOP/s; of a processor's core, fp32.
        source: where both stand.
    """

    name: str
    memory_gib: float | None
    tflops: float
    source: str


AVX = "units x numbers x 2 operations x 2.5 GHz"
DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        Device("cpu-core-avx2", None, 0.08, f"fp32: 2 {AVX}, 8 numbers"),
        Device("cpu-core-avx512", None, 0.16, f"fp32: 2 {AVX}, 16 numbers"),
        Device("rtx-3090", 24, 71.2, "NVIDIA Ampere GA102 architecture whitepaper, fp32 sums"),
        Device("rtx-4090", 24, 165.2, "NVIDIA Ada architecture whitepaper, fp32 sums"),
        Device("l4", 22.5, 121, "NVIDIA L4 data sheet, 242 with sparsity"),
        Device("l40s", 48, 362, "NVIDIA L40S data sheet, 733 with sparsity"),
        Device("a100-40gb", 40, 312, "NVIDIA A100 data sheet"),
        Device("a100-80gb", 80, 312, "NVIDIA A100 data sheet"),
        Device("h100-pcie", 79.6, 756, "NVIDIA H100 data sheet, 1513 with sparsity"),
        Device("h100-sxm", 79.6, 989.4, "NVIDIA H100 data sheet, 1979 with sparsity"),
        Device("h200-sxm", 140.4, 989.4, "NVIDIA H200 data sheet, 1979 with sparsity"),
        Device("b200", 180, 2250, "NVIDIA DGX B200 data sheet, 4500 with sparsity"),
        Device("mi300x", 192, 1307.4, "AMD Instinct MI300X data sheet"),
    )
}
USABLE = 0.92
"""Share of a device's memory that tensors can have: the rest is the context of CUDA, workspaces and fragments."""
