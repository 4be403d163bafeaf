"""Optimizers, and the learning rate as a function of the step."""

import math
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from tasks.pretrain.params import PretrainParams


def learning_rate(params: "PretrainParams", step: int) -> float:
    """The rate of step `step` (from 0): linear warm-up to the peak, then `wsd` or `cosine` down to zero.

    wsd: warm-up, stable, decay (MiniCPM, arXiv:2404.06395); cosine: Loshchilov & Hutter 2017, arXiv:1608.03983.
    """
    if step < params.warmup_steps:
        return params.learning_rate * (step + 1) / params.warmup_steps
    if params.schedule == "cosine":
        progress = (step - params.warmup_steps) / max(params.steps - params.warmup_steps, 1)
        return params.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    decay_steps = params.steps * params.decay_fraction
    return params.learning_rate * min(1.0, (params.steps - step) / decay_steps if decay_steps else 1.0)


def build_optimizer(model: torch.nn.Module, params: "PretrainParams") -> torch.optim.Optimizer:
    """AdamW (arXiv:1711.05101), or Muon for the matrices inside the blocks with AdamW for the rest."""
    blocks: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    outer = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    outer.add(id(model.get_output_embeddings().weight))  # type: ignore[operator]
    for parameter in model.parameters():
        (blocks if parameter.ndim == 2 and id(parameter) not in outer else rest).append(parameter)
    betas = (params.beta1, params.beta2)
    if params.optimizer == "muon":
        return MuonAdamW(blocks, rest, params.learning_rate, params.weight_decay, betas)
    groups = [{"params": blocks, "weight_decay": params.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=params.learning_rate, betas=betas, fused=True)


class Muon(torch.optim.Optimizer):
    """Muon: Nesterov momentum 0.95, orthogonalised (Jordan 2024), scaled to AdamW's size (arXiv:2502.16982).

    As `torch.optim.Muon`, except that it computes in the parameters' own precision: bf16 is slow on CPUs without its units.
    """

    def __init__(self, matrices: list[torch.nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every matrix."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                average = state.setdefault("momentum_buffer", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - group["momentum"])
                update = newton_schulz(parameter.grad.lerp(average, group["momentum"]))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(parameter.shape)))


def newton_schulz(matrix: torch.Tensor) -> torch.Tensor:
    """Bring the singular values of `matrix` [rows, columns] to about 1 by five quintic Newton-Schulz iterations."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide: torch.Tensor = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    x: torch.Tensor = wide / wide.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if matrix.shape[0] > matrix.shape[1] else x


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan 2024; arXiv:2502.16982) on matrices, AdamW on everything else, as one optimizer.

    Muon's updates are scaled to AdamW's size (0.2·√max(rows, columns)), so one learning rate serves both.
    """

    def __init__(
        self,
        matrices: list[torch.nn.Parameter],
        rest: list[torch.nn.Parameter],
        lr: float,
        weight_decay: float,
        betas: tuple[float, float],
    ) -> None:
        super().__init__([*matrices, *rest], {"lr": lr})
        self._parts: tuple[torch.optim.Optimizer, ...] = (
            Muon(matrices, lr=lr, weight_decay=weight_decay),
            torch.optim.AdamW(rest, lr=lr, weight_decay=0.0, betas=betas, fused=True),
        )
        self._share_groups()

    def _share_groups(self) -> None:
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter."""
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of both parts."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()
