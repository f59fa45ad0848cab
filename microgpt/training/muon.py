"""Muon, an optimizer for matrices: its update is the momentum with all singular values brought close to 1."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from microgpt.training.updates import Update


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


class Muon(Update):
    """Muon (https://kellerjordan.github.io/posts/muon): orthogonalized Nesterov momentum, for matrices.

    The update is that of `torch.optim.Muon` (tests compare them), but computed in float32 and for all matrices of one
    shape at once. On CPUs without bfloat16, torch's version takes longer than the rest of a small model's step.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(weights, lr)
        self.momentum, self.weight_decay = momentum, weight_decay

    def state_sizes(self, weight: Tensor) -> dict[str, tuple[int, ...]]:
        return {"momentum_buffer": tuple(weight.shape)}

    @torch.no_grad()
    def step(self) -> None:
        by_shape: dict[torch.Size, list[int]] = defaultdict(list)
        for i, weight in enumerate(self.weights):
            if weight.grad is not None:
                by_shape[weight.shape].append(i)
        for shape, members in by_shape.items():
            weights = [self.weights[i] for i in members]
            update = orthogonalize(self.nesterov(members))  # (n, rows, columns)
            scale = self.lr * math.sqrt(max(1.0, shape[0] / shape[1]))
            torch._foreach_mul_(weights, 1 - self.lr * self.weight_decay)
            torch._foreach_add_(weights, list(update), alpha=-scale)

    def nesterov(self, members: Sequence[int]) -> Tensor:
        """Update the moving averages b = m b + (1 - m) g of the gradients g of these weights, which have one shape.

        Returns (1 - m) g + m b (n, rows, columns).
        """
        grads, buffers = [], []
        for i in members:
            grads.append(self.weights[i].grad)
            if "momentum_buffer" not in self.state[i]:
                self.state[i]["momentum_buffer"] = torch.zeros_like(self.weights[i])
            buffers.append(self.state[i]["momentum_buffer"])
        torch._foreach_lerp_(buffers, grads, 1 - self.momentum)
        return torch.stack(torch._foreach_lerp(grads, buffers, self.momentum))
