"""Optimizers and learning-rate schedules, and which weights each optimizer gets."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

from microgpt.model import GPT

Schedule = Callable[[int], float]


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of matrices (n, rows, columns) towards 1 by Newton-Schulz (Jordan et al. 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(Optimizer):
    """Nesterov momentum, orthogonalized: Muon (https://kellerjordan.github.io/posts/muon) for matrices.

    The same update as `torch.optim.Muon` (a test holds them together), but in float32 and with all matrices
    of a shape at once: on CPUs without bfloat16 that one costs more than the rest of a small model's step.
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
                update = orthogonalize(torch.stack([self.nesterov(w, group["momentum"]) for w in weights]))
                scale = group["lr"] * math.sqrt(max(1.0, shape[0] / shape[1]))
                for weight, change in zip(weights, update, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(change, alpha=-scale)

    def nesterov(self, weight: Tensor, momentum: float) -> Tensor:
        assert weight.grad is not None
        buffer = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))
        buffer.lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(buffer, momentum)


class Optimizers:
    """Several optimizers, each with its own weights, behind the interface of one."""

    def __init__(self, *members: Optimizer) -> None:
        self.members = members
        for group in self.param_groups:
            group["initial_lr"] = group["lr"]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for member in self.members for group in member.param_groups]

    def scale_lr(self, factor: float) -> float:
        """Set every learning rate to `factor` times its peak; returns the first group's."""
        for group in self.param_groups:
            group["lr"] = factor * group["initial_lr"]
        return self.param_groups[0]["lr"]

    def step(self) -> None:
        for member in self.members:
            member.step()

    def zero_grad(self) -> None:
        for member in self.members:
            member.zero_grad()

    def state_dict(self) -> list[dict[str, Any]]:
        return [member.state_dict() for member in self.members]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for member, state in zip(self.members, states, strict=True):
            # The settings come from the config, so that a resumed run may be given others.
            settings = [{key: v for key, v in group.items() if key != "params"} for group in member.param_groups]
            member.load_state_dict(state)
            for group, own in zip(member.param_groups, settings, strict=True):
                group.update(own)


def build_optimizer(
    model: GPT,
    name: str,
    lr: float,
    adam_lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    momentum: float,
) -> Optimizers:
    """`adam` and `adamw` for all weights; `muon` for the blocks' matrices, with AdamW at `adam_lr` for the rest.

    Weight decay is decoupled (AdamW), but for `adam`, where it is added to the gradient.
    """
    matrices = list(model.blocks.parameters())
    if name != "muon":
        kind = {"adam": Adam, "adamw": AdamW}[name]
        return Optimizers(kind(model.parameters(), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True))
    inside = set(map(id, matrices))
    rest = [weight for weight in model.parameters() if id(weight) not in inside]
    return Optimizers(
        Muon(matrices, lr=lr, momentum=momentum, weight_decay=weight_decay),
        AdamW(rest, lr=adam_lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True),
    )


def build_schedule(name: str, steps: int, warmup_steps: int, final_fraction: float) -> Schedule:
    """A function of the step (0 the first) to the fraction of the peak learning rate.

    It rises linearly over `warmup_steps`, then stays (`constant`) or falls to `final_fraction` at `steps`
    along a line (`linear`) or half a cosine (`cosine`, Loshchilov & Hutter 2017).
    """
    falls: dict[str, Callable[[float], float]] = {
        "constant": lambda t: 1.0,
        "linear": lambda t: 1 - t * (1 - final_fraction),
        "cosine": lambda t: final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * t)) / 2,
    }
    fall = falls[name]

    def schedule(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return fall(min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps)))

    return schedule
