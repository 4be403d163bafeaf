"""How evenly a router spreads the tokens over its experts."""

from collections.abc import Sequence

import torch


def load_balancing_loss(
    router_logits: Sequence[torch.Tensor], seen: torch.Tensor, experts_per_token: int
) -> torch.Tensor:
    """The load-balancing loss summed over rows, fp32: experts x sum over experts of (share of tokens x mean probability).

    Fedus et al. 2021 (arXiv:2101.03961), equations 4 to 6, of each row and the mean over the layers: `experts_per_token` where
    tokens are spread evenly, `experts` where all go to the same. Row by row, so that it does not matter how a batch is split.
    `router_logits`: of each layer [rows x tokens, experts]; `seen`, bool [rows, tokens]: those that are no padding.
    """
    weights = seen.float() / seen.sum(1, keepdim=True).clamp(min=1)
    total = torch.zeros((), device=seen.device)
    for logits in router_logits:
        probabilities = logits.float().softmax(-1).view(*seen.shape, -1)
        experts = probabilities.shape[-1]
        chosen = torch.zeros_like(probabilities).scatter(-1, probabilities.topk(experts_per_token, -1).indices, 1.0)
        shares, means = (torch.einsum("rt,rte->re", weights, values) for values in (chosen, probabilities))
        total = total + experts * (shares * means).sum()
    return total / len(router_logits)
