"""Muon, an optimizer for matrices: its update is the momentum with all singular values brought close to 1."""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Matrices (n, rows, columns) with the singular vectors of `matrices` and singular values close to 1.

    Newton-Schulz iteration; each step maps every singular value s to a s + b s^3 + c s^5 (Jordan et al. 2024).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices  # (n, r, c) with r <= c, so that x x^T is the smaller product
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)  # singular values of at most 1
    for _ in range(steps):
        gram = x @ x.mT  # (n, r, r)
        # a x + (b gram + c gram gram) x
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(Optimizer):
    """Muon (https://kellerjordan.github.io/posts/muon): orthogonalized Nesterov momentum, for matrices.

    The update is that of `torch.optim.Muon` (tests compare them), but computed in float32 and for all matrices of one
    shape at once. On CPUs without bfloat16, torch's version takes longer than the rest of a small model's step.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[weight.shape].append(weight)
            for shape, weights in by_shape.items():
                momenta = torch.stack([self.nesterov(weight, group["momentum"]) for weight in weights])
                update = orthogonalize(momenta)  # (n, rows, columns)
                scale = group["lr"] * math.sqrt(max(1.0, shape[0] / shape[1]))
                for weight, change in zip(weights, update, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(change, alpha=-scale)

    def nesterov(self, weight: Tensor, momentum: float) -> Tensor:
        """Update the moving average b = m b + (1 - m) g of the gradient g; returns (1 - m) g + m b."""
        assert weight.grad is not None
        buffer = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))
        buffer.lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(buffer, momentum)
