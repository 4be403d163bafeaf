"""One optimizer for all weights: Muon or NorMuon for the matrices, AdamW for everything else, on any share of them."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.adamw import adamw

from tasks.architectures.roles import weight_roles
from tasks.pretrain.optimizers.fragments import Fragment
from tasks.pretrain.optimizers.muon import Orthogonaliser
from tasks.pretrain.optimizers.swapping import Swapping

if TYPE_CHECKING:
    from tasks.pretrain.params import PlannedParams

EPSILON = 1e-8
STATE_KINDS = {
    "adamw": ("exp_avg", "exp_avg_sq"),
    "muon": ("momentum_buffer",),
    "normuon": ("momentum_buffer",),
}
"""What an algorithm remembers of each number of a weight."""


class MixedOptimizer(torch.optim.Optimizer):
    """AdamW (arXiv:1711.05101), and on the matrices Muon or NorMuon where asked for; weights of one role share a group.

    DeepSpeed puts flat fp32 tensors in the place of the weights and calls `step` for each group, or for a part of one: all
    state is kept by those tensors, in their form, so that DeepSpeed can offload it. `bind` tells which weights lie in them.

    Attributes:
        updates: steps that changed the weights so far.
        swapping: of what is kept in files between steps; None where nothing is.
    """

    def __init__(self, model: Any, params: "PlannedParams", multipliers: Mapping[str, float] | None = None) -> None:
        """`multipliers`: further multiples of the learning rate, by name of the weight (muP)."""
        self.roles, multipliers = weight_roles(model), multipliers or {}
        self.shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        groups: dict[tuple[Any, ...], list[torch.nn.Parameter]] = {}
        for parameter in model.parameters():
            if parameter.requires_grad:
                name = names[id(parameter)]
                algorithm, rate, decay = self._settings(name, params)
                groups.setdefault((algorithm, rate * multipliers.get(name, 1.0), decay), []).append(parameter)
        super().__init__(
            [
                {"params": members, "algorithm": algorithm, "rate": rate, "weight_decay": decay}
                for (algorithm, rate, decay), members in groups.items()
            ],
            {"lr": params.learning_rate},
        )
        self.betas, self.momentum, self.cautious = (params.beta1, params.beta2), params.momentum, params.cautious_decay
        self.names = [[names[id(parameter)] for parameter in group["params"]] for group in self.param_groups]
        self.ema_decay = params.ema_decay
        self.updates = 0
        self.swapping: Swapping | None = None
        self._scale, self._skip = 1.0, False
        self._fragments: dict[int, list[Fragment]] = {}
        self._members: dict[int, list[str]] = {}
        self.orthogonaliser = Orthogonaliser(self.roles, self.shapes, params.optimizer == "normuon", params.beta2)

    def _settings(self, name: str, params: "PlannedParams") -> tuple[str, float, float]:
        """(algorithm, multiple of the learning rate, weight decay) of a weight."""
        role = self.roles[name].role
        if role == "matrix":
            return params.optimizer, 1.0, params.weight_decay
        rate = {"embedding": params.rates.embedding, "head": params.rates.head, "vector": params.rates.vector}[role]
        return "adamw", rate, 0.0

    def bind(self, fragments: list[Fragment], sharded: bool, device: torch.device) -> None:
        """Learn which weights lie in which tensor; to be called when DeepSpeed has made them.

        `sharded`: over the ranks, which exchange them on `device`.
        """
        for fragment in fragments:
            self._fragments.setdefault(id(fragment.holder), []).append(fragment)
        self.orthogonaliser.sharded, self.orthogonaliser.device = sharded, device
        by_name = {fragment.name: fragment for fragment in fragments}
        for number, group in enumerate(self.param_groups):
            for holder in group["params"]:
                self._members[id(holder)] = self.names[number]
            if not group["params"]:  # stage 3 sets them for each step; every rank holds a part of every weight
                for name in self.names[number]:
                    self._members.setdefault(id(by_name[name].holder), []).append(name)

    def resident(self, holder: torch.Tensor, changed: bool = False) -> AbstractContextManager[None]:
        """Have a flat tensor and its state in memory, between steps; `changed`: they will be."""
        return self.swapping.resident(holder, changed) if self.swapping else nullcontext()

    def prepare(self, learning_rate: float, gradient_scale: float, skip: bool) -> None:
        """Say what the next step is to do; `skip` leaves weights and state as they are."""
        self._scale, self._skip = gradient_scale, skip
        self.updates += not skip
        for group in self.param_groups:
            group["lr"] = learning_rate * group["rate"]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update what is in the groups' `params`. Collective where matrices are sharded."""
        if self._skip:
            return
        for group in self.param_groups:
            holders = [holder for holder in group["params"] if holder.grad is not None]
            if self._scale != 1.0 and holders:
                torch._foreach_mul_([holder.grad for holder in holders], self._scale)
            if group["algorithm"] == "adamw":
                self._adamw(holders, group)
            else:
                self._muon(holders, group)
            if self.ema_decay:
                for holder in holders:
                    self.averaged(holder).lerp_(holder, 1 - self.ema_decay)

    def state_kinds(self, name: str) -> tuple[str, ...]:
        """What is remembered of each number of a weight, once it has been updated."""
        kinds = STATE_KINDS[
            next(g["algorithm"] for g, n in zip(self.param_groups, self.names, strict=True) if name in n)
        ]
        return (*kinds, "ema") if self.ema_decay else kinds

    def averaged(self, holder: torch.Tensor) -> torch.Tensor:
        """The exponential moving average of a holder's weights; it begins with what they are."""
        state = self.state[holder]
        if "ema" not in state:
            state["ema"] = holder.detach().clone()
        average: torch.Tensor = state["ema"]
        return average

    @torch.no_grad()
    def use_average(self) -> None:
        """Put the moving average in the place of the weights."""
        for holder, state in self.state.items():
            with self.resident(holder, changed=True):
                if "ema" in state:
                    holder.copy_(state["ema"])

    def _buffers(self, holders: list[torch.Tensor], key: str) -> list[torch.Tensor]:
        for holder in holders:
            if key not in self.state[holder]:
                self.state[holder][key] = torch.zeros_like(holder)
        return [self.state[holder][key] for holder in holders]

    def _adamw(self, holders: list[torch.Tensor], group: dict[str, Any]) -> None:
        if not holders:
            return
        steps = [torch.tensor(self.updates - 1.0, device=holder.device) for holder in holders]
        adamw(
            holders,
            [holder.grad for holder in holders],  # type: ignore[misc]
            self._buffers(holders, "exp_avg"),
            self._buffers(holders, "exp_avg_sq"),
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=EPSILON,
            maximize=False,
        )

    def _muon(self, holders: list[torch.Tensor], group: dict[str, Any]) -> None:
        """Nesterov momentum, orthogonalised matrix by matrix; state: `momentum_buffer`, and the orthogonaliser's."""
        directions: dict[str, torch.Tensor] = {}
        fragments: list[Fragment] = []
        members: list[str] = []
        for holder, average in zip(holders, self._buffers(holders, "momentum_buffer"), strict=True):
            gradient: torch.Tensor = holder.grad  # type: ignore[assignment]
            average.lerp_(gradient, 1 - self.momentum)
            direction = gradient.lerp_(average, self.momentum)
            members += [name for name in self._members[id(holder)] if name not in members]
            for fragment in self._fragments.get(id(holder), []):
                directions[fragment.name] = fragment.within(direction)
                fragments.append(fragment)
        by_name = {fragment.name: fragment for fragment in fragments}
        for name, update in self.orthogonaliser.updates(members, directions, by_name):
            weight = by_name[name].within(by_name[name].holder.data)
            rate, decay = group["lr"], group["lr"] * group["weight_decay"]
            if self.cautious and decay:  # only where the update goes the same way (arXiv:2510.12402)
                weight.mul_(1 - decay * (update * weight >= 0))
            elif decay:
                weight.mul_(1 - decay)
            weight.add_(update, alpha=-rate)
