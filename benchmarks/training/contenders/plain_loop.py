"""A plain loop in the manner of nanoGPT: GPT-2's block in PyTorch, random rows of a flat file, AdamW, cosine, clipping at 1.

LayerNorm without bias, GELU, learned positions, tied head; betas 0.9 and 0.95, decay 0.1 on matrices, warm-up over a
twentieth of the steps, cosine to a tenth of the rate (Karpathy's nanoGPT, README and config/train_gpt2.py).
"""

import math

import torch
from measure import Clock, flops_per_token, held_out_bits_per_byte, matrices, parameters, random_rows, settings
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, context, width] to the same."""
        rows, context, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(rows, context, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, context, width))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    """Embeddings of tokens and places, blocks, a head tied to the first."""

    def __init__(self, vocabulary: int, context: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width, bias=False), nn.Linear(width, vocabulary, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                narrow = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers) if narrow else 0.02)
        self.head.weight = self.tokens.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """int64 [rows, context] to logits."""
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def main() -> None:
    """Train and report."""
    config = settings()
    steps, warmup, peak = config["steps"], max(1, config["steps"] // 20), config["learning_rate"]
    model = Model(*(config[key] for key in ("vocabulary", "context", "hidden", "layers", "heads")))
    wide = [weight for weight in model.parameters() if weight.ndim == 2]
    narrow = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [{"params": wide, "weight_decay": 0.1}, {"params": narrow, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95), fused=True)
    clock = Clock()
    for step, rows in zip(range(steps), random_rows(config), strict=False):
        turn = 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
        for group in optimizer.param_groups:
            group["lr"] = peak * ((step + 1) / warmup if step < warmup else 0.1 + 0.9 * turn)
        loss = functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock.step(rows[:, 1:].numel())
    model.eval()
    clock.report(held_out_bits_per_byte(config, model), flops_per_token(config, matrices(model)), parameters(model))


if __name__ == "__main__":
    main()
