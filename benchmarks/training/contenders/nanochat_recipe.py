"""The published recipe of nanochat, written anew (it is no package): what its README and scripts/base_train.py say of it.

RoPE, QK-norm, norms without weights, a norm after the embedding, ReLU², untied head, soft-capped logits, projections and head
that begin at zero; Muon (0.02, momentum 0.85 rising to 0.95) on the matrices of blocks, AdamW (betas 0.8 and 0.95) on embedding
(0.2) and head (0.004), their rates times (width / 768)^-1/2; no warm-up, constant, linear to 0 over the last fifth. Left out:
what later versions added by ablation on GPUs (value embeddings, residual scalars, sliding windows, FP8).
"""

import math

import torch
from measure import Clock, flops_per_token, held_out_bits_per_byte, matrices, parameters, random_rows, settings
from torch import nn
from torch.nn import functional

SOFT_CAP = 15.0


def norm(x: torch.Tensor) -> torch.Tensor:
    """RMS norm without weights."""
    return functional.rms_norm(x, (x.shape[-1],))


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """[rows, context, width] to the same."""
        rows, context, width = x.shape
        q, k, v = self.qkv(norm(x)).view(rows, context, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = (norm(_rotated(each, cos[:context], sin[:context])) for each in (q, k))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, context, width))
        return x + self.down(functional.relu(self.up(norm(x))).square())


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    one, two = x.chunk(2, dim=-1)
    return torch.cat([one * cos + two * sin, two * cos - one * sin], dim=-1)


class Model(nn.Module):
    """Embedding, blocks, a head of its own."""

    def __init__(self, vocabulary: int, context: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.head = nn.Embedding(vocabulary, width), nn.Linear(width, vocabulary, bias=False)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        half = width // heads // 2
        angles = torch.outer(torch.arange(context), 10000.0 ** (-torch.arange(half) / half))
        self.cos, self.sin = angles.cos(), angles.sin()
        nn.init.normal_(self.tokens.weight)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                rows, columns = layer.weight.shape
                nn.init.normal_(layer.weight, std=min(1.0, math.sqrt(rows / columns)) / math.sqrt(columns))
        for block in self.blocks:
            nn.init.zeros_(block.out.weight)
            nn.init.zeros_(block.down.weight)
        nn.init.zeros_(self.head.weight)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """int64 [rows, context] to logits."""
        x = norm(self.tokens(ids))
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return SOFT_CAP * torch.tanh(self.head(norm(x)) / SOFT_CAP)


@torch.no_grad()
def muon_step(weight: torch.Tensor, average: torch.Tensor, rate: float, momentum: float) -> None:
    """Nesterov momentum, orthogonalised (Jordan 2024)."""
    average.lerp_(weight.grad, 1 - momentum)
    x = weight.grad.lerp(average, momentum)
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    weight.sub_(x.mT if tall else x, alpha=rate * math.sqrt(max(1.0, weight.shape[0] / weight.shape[1])))


def main() -> None:
    """Train and report."""
    config = settings()
    steps, scale = config["steps"], (config["hidden"] / 768) ** -0.5
    model = Model(*(config[key] for key in ("vocabulary", "context", "hidden", "layers", "heads")))
    blocks = list(model.blocks.parameters())
    averages = [torch.zeros_like(weight) for weight in blocks]
    groups = [
        {"params": [model.head.weight], "lr": 0.004 * scale},
        {"params": [model.tokens.weight], "lr": 0.2 * scale},
    ]
    adamw = torch.optim.AdamW(groups, betas=(0.8, 0.95), eps=1e-10, weight_decay=0.0, fused=True)
    peaks = [group["lr"] for group in adamw.param_groups]
    clock = Clock()
    for step, rows in zip(range(steps), random_rows(config), strict=False):
        share = min(1.0, (steps - step) / max(1.0, 0.2 * steps))
        for group, peak in zip(adamw.param_groups, peaks, strict=True):
            group["lr"] = peak * share
        functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
        for weight, average in zip(blocks, averages, strict=True):
            muon_step(weight, average, 0.02 * share, 0.85 + 0.10 * min(1.0, step / 300))
        model.zero_grad(set_to_none=True)
        clock.step(rows[:, 1:].numel())
    model.eval()
    clock.report(held_out_bits_per_byte(config, model), flops_per_token(config, matrices(model)), parameters(model))


if __name__ == "__main__":
    main()
