"""Muon's updates (Jordan 2024; scaled to AdamW's size, arXiv:2502.16982) and NorMuon's (arXiv:2510.05491), over ranks too."""

import math
from collections.abc import Iterator
from itertools import islice

import torch

from tasks.architectures.roles import Weight
from tasks.pretrain.optimizers.fragments import Fragment
from tasks.pretrain.optimizers.newton_schulz import join_maps, linear_maps, newton_schulz

BUCKET_NUMBERS = 1 << 25
"""Numbers that are put together for one exchange between ranks, unless one matrix has more: 128 MiB of fp32."""
SIZE = 0.2
"""Root mean square of an update's numbers, at a learning rate of 1: about AdamW's."""


class Orthogonaliser:
    """Turns momenta into updates, matrix by matrix.

    Where the matrices are sharded over the ranks, each is put together from its fragments, orthogonalised by one rank, and
    handed back: sums of numbers and zeros, so the result does not depend on how many ranks there are.

    Attributes:
        sharded, device: whether a rank holds fragments only, and where ranks exchange them.
        second_moments: of NorMuon, by weight and number of the map in it: fp32 [..., outputs]; of the matrices that
            this rank orthogonalises.
    """

    def __init__(
        self, roles: dict[str, Weight], shapes: dict[str, tuple[int, ...]], normalise: bool, beta2: float
    ) -> None:
        self.roles, self.shapes, self.normalise, self.beta2 = roles, shapes, normalise, beta2
        self.sharded, self.device = False, torch.device("cpu")
        self.second_moments: dict[str, torch.Tensor] = {}
        self._numbers = {name: number for number, name in enumerate(shapes)}

    def updates(
        self, members: list[str], directions: dict[str, torch.Tensor], fragments: dict[str, Fragment]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """(name, update) of each weight in `directions`, flat as the momentum there is; to be subtracted, times the rate.

        `members`: the weights that all ranks go through together, the same everywhere. Collective where sharded.
        """
        if not self.sharded:
            for name, direction in directions.items():
                yield name, self._orthogonal(name, direction.view(self.shapes[name])).reshape(-1)
            return
        rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
        for bucket in _buckets(members, self.shapes):
            sizes = [math.prod(self.shapes[name]) for name in bucket]
            gathered = torch.zeros(sum(sizes), device=self.device)
            for name, whole in zip(bucket, torch.split(gathered, sizes), strict=True):
                if name in directions:
                    whole.narrow(0, fragments[name].start, fragments[name].count).copy_(directions[name])
            torch.distributed.all_reduce(gathered)
            for name, whole in zip(bucket, torch.split(gathered, sizes), strict=True):
                if self.owner(name, ranks) == rank:
                    whole.copy_(self._orthogonal(name, whole.view(self.shapes[name])).reshape(-1))
                else:
                    whole.zero_()
            torch.distributed.all_reduce(gathered)
            for name, whole in zip(bucket, torch.split(gathered, sizes), strict=True):
                if name in directions:
                    update = whole.narrow(0, fragments[name].start, fragments[name].count)
                    yield name, update.to(directions[name].device)

    def owner(self, name: str, ranks: int) -> int:
        """The rank that orthogonalises a sharded weight."""
        return self._numbers[name] % ranks

    def moment_shapes(self) -> Iterator[tuple[str, torch.Size]]:
        """Keys and shapes of the second moments that this rank keeps once it has updated something."""
        if self.sharded:
            rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
        for name, weight in self.roles.items():
            if weight.role == "matrix" and (not self.sharded or self.owner(name, ranks) == rank):
                for number, part in enumerate(linear_maps(torch.empty(self.shapes[name], device="meta"), weight)):
                    yield f"{name}/{number}", part.shape[:-1]

    def _orthogonal(self, name: str, direction: torch.Tensor) -> torch.Tensor:
        weight = self.roles[name]
        maps = [
            self._update(f"{name}/{number}", part) for number, part in enumerate(linear_maps(direction.float(), weight))
        ]
        return join_maps(maps, weight)

    def _update(self, key: str, direction: torch.Tensor) -> torch.Tensor:
        """The update of one linear map, [..., outputs, inputs]."""
        update = newton_schulz(direction)
        if not self.normalise:
            return update * (SIZE * math.sqrt(max(direction.shape[-2:])))
        mean = update.square().mean(-1)
        moment = self.second_moments.setdefault(key, torch.zeros_like(mean))
        moment.lerp_(mean, 1 - self.beta2)
        update = update / (moment.sqrt().unsqueeze(-1) + 1e-8)
        root_mean_square = update.square().mean((-2, -1), keepdim=True).sqrt()
        return update * (SIZE / root_mean_square.clamp(min=1e-8))


def _buckets(names: list[str], shapes: dict[str, tuple[int, ...]]) -> Iterator[list[str]]:
    rest = iter(names)
    for first in rest:
        bucket, size = [first], math.prod(shapes[first])
        while size < BUCKET_NUMBERS and (following := list(islice(rest, 1))):
            bucket += following
            size += math.prod(shapes[following[0]])
        yield bucket
