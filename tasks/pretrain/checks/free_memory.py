"""Memory that a rank can still have: of its GPU, or of this machine, and of the control groups that bound this process.

In a container the machine's own figure says nothing: what counts there is the group's limit, which psutil does not look at.
Both versions of control groups are read (kernel.org, admin-guide/cgroup-v2 and cgroup-v1/memory): what a group has used, less
the pages of files that the kernel gives back when memory is asked for.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

UNLIMITED = 1 << 60
"""Version 1 says a number near 2^63 where there is no limit."""


def free_bytes(device: "torch.device") -> tuple[int, str]:
    """Bytes that are free on `device`, and whose they are."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0]), f"GPU {device.index}"
    return free_host_bytes()


def free_host_bytes(proc: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> tuple[int, str]:
    """Bytes that this process and those that it starts can still have, and what bounds them."""
    import psutil

    found = [(int(psutil.virtual_memory().available), "this machine")]
    found += [(free, "this process's control group (a container's or a job's limit)") for free in _groups(proc, mount)]
    return min(found)


def _groups(proc: Path, mount: Path) -> Iterator[int]:
    """Free bytes of each group with a limit, from this process's up to the root."""
    try:
        lines = proc.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            roots, files = (mount, mount / "unified"), ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            roots, files = (mount / controllers, mount / "memory"), names
        else:
            continue
        for root in dict.fromkeys(roots):
            own = Path(path.lstrip("/"))  # where a container sees its own group as the root, the folder is missing
            for folder in (root / own, *(root / parent for parent in own.parents)):
                yield from _free(folder, *files)


def _free(folder: Path, limit: str, usage: str, given_back: str) -> Iterator[int]:
    try:
        most, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        if most == "max" or int(most) >= UNLIMITED:
            return
        counted = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return
    yield max(0, int(most) - used + int(counted.get(given_back, 0)))
