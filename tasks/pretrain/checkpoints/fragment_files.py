"""Fragments in safetensors files: what each rank holds of weights and optimizer state, addressed by weight and place in it.

An entry `<kind>|<weight>|<start>` is one-dimensional and holds the flattened weight's numbers from `start` on, so whoever reads
takes what it needs from whatever files have it: the ranks and the ZeRO stage that wrote them do not matter. Kinds are `weight`
(fp32) and the optimizer's state (`exp_avg`, `momentum_buffer`, ...); `second_moment` is NorMuon's, whole, from 0 on.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from tasks.core.errors import UserError
from tasks.pretrain.optimizers.fragments import Fragment, by_holder
from tasks.pretrain.optimizers.optimizer import MixedOptimizer

SECOND_MOMENT = "second_moment"


def write_fragments(
    folder: Path, fragments: Iterable[Fragment], optimizer: MixedOptimizer, rank: int, ranks: int
) -> list[Path]:
    """Write the fragments' weights and state, and the second moments of the matrices that are this rank's to write.

    Returns the files: `rank-<rank>.safetensors`, and of each flat tensor that is kept in a file one more, so that they are in
    memory one after the other.
    """
    from safetensors.torch import save_file

    paths: list[Path] = []
    entries: dict[str, torch.Tensor] = {}
    for number, own in enumerate(by_holder(fragments)):
        with optimizer.resident(own[0].holder):
            for fragment in own:
                kinds = {"weight": fragment.holder.data, **optimizer.state[fragment.holder]}
                for kind, numbers in kinds.items():
                    part = fragment.within(numbers).detach().cpu().contiguous()
                    entries[f"{kind}|{fragment.name}|{fragment.start}"] = part
            if optimizer.swapping:
                paths.append(folder / f"rank-{rank:05d}-{number:03d}.safetensors")
                save_file(entries, paths[-1])
                entries = {}
    orthogonaliser = optimizer.orthogonaliser
    for key, moment in orthogonaliser.second_moments.items():
        if orthogonaliser.owner(key.rpartition("/")[0], ranks) == rank:
            entries[f"{SECOND_MOMENT}|{key}|0"] = moment.cpu().flatten()
    paths.append(folder / f"rank-{rank:05d}.safetensors")
    save_file(entries, paths[-1])
    return paths


def first_problem(fragments: Iterable[Fragment], optimizer: MixedOptimizer) -> str | None:
    """The name of a weight that holds an inf or nan; None where all numbers are finite."""
    for own in by_holder(fragments):
        with optimizer.resident(own[0].holder):
            for fragment in own:
                if not torch.isfinite(fragment.within(fragment.holder.data).sum()):
                    return fragment.name
    return None


class FragmentFiles:
    """The files that all ranks wrote into one folder, as one store."""

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self.folder = folder
        self._parts: dict[tuple[str, str], list[tuple[int, int, Any, str]]] = defaultdict(list)
        for path in sorted(folder.glob("*.safetensors")):
            file: Any = safe_open(path, "pt")  # type: ignore[no-untyped-call]
            for entry in file.keys():  # noqa: SIM118
                kind, name, start = entry.split("|")
                count = file.get_slice(entry).get_shape()[0]
                self._parts[kind, name].append((int(start), count, file, entry))

    def read(self, kind: str, name: str, start: int, count: int) -> torch.Tensor:
        """`count` numbers of a weight from `start` on, fp32.

        Raises:
            UserError: the files lack some of them.
        """
        found = torch.empty(count)
        missing = count
        seen: set[int] = set()
        for begin, length, file, entry in self._parts.get((kind, name), ()):
            first, last = max(start, begin), min(start + count, begin + length)
            if first < last and first not in seen:  # at stage 0 several ranks may have written the same
                seen.add(first)
                found[first - start : last - start] = file.get_slice(entry)[first - begin : last - begin]
                missing -= last - first
        if missing:
            raise UserError(
                f"{self.folder}: lacks {missing} of {count} numbers of {kind} {name}: it is a checkpoint of another model or "
                "optimizer. Remove the folder to start over"
            )
        return found

    def load(self, fragments: Iterable[Fragment], optimizer: MixedOptimizer) -> None:
        """Fill the fragments and the optimizer's state, as it is after `optimizer.updates` steps."""
        for own in by_holder(fragments):
            with optimizer.resident(own[0].holder, changed=True):
                for fragment in own:
                    self._load_fragment(fragment, optimizer)
        orthogonaliser = optimizer.orthogonaliser
        if optimizer.updates and orthogonaliser.normalise:
            for name, shape in orthogonaliser.moment_shapes():
                moment = self.read(SECOND_MOMENT, name, 0, shape.numel()).view(shape)
                orthogonaliser.second_moments[name] = moment.to(orthogonaliser.device)

    def _load_fragment(self, fragment: Fragment, optimizer: MixedOptimizer) -> None:
        place = (fragment.name, fragment.start, fragment.count)
        fragment.within(fragment.holder.data).copy_(self.read("weight", *place))
        for kind in optimizer.state_kinds(fragment.name) if optimizer.updates else ():
            state = optimizer.state[fragment.holder]
            if kind not in state:
                state[kind] = torch.zeros_like(fragment.holder, requires_grad=False)
            fragment.within(state[kind]).copy_(self.read(kind, *place))
