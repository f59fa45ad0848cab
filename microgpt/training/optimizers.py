"""Optimizers: which weights each of them gets, with which settings.

A new one is a function here; `optim.name=` and --help know it then. Torch is imported where an optimizer is built, so
that --help can list the choices without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from microgpt.config.registry import OPTIMIZERS
from microgpt.config.schema import OptimConfig

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from microgpt.model.transformer import GPT


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


@OPTIMIZERS.register
def adam(model: GPT, config: OptimConfig) -> Optimizers:
    """Adam (Kingma & Ba 2015) for all weights; weight decay is added to the gradient."""
    from torch.optim import Adam

    return Optimizers(Adam(model.parameters(), lr=config.lr, **adam_settings(config)))


@OPTIMIZERS.register
def adamw(model: GPT, config: OptimConfig) -> Optimizers:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019) for all weights."""
    from torch.optim import AdamW

    return Optimizers(AdamW(model.parameters(), lr=config.lr, **adam_settings(config)))


@OPTIMIZERS.register
def muon(model: GPT, config: OptimConfig) -> Optimizers:
    """Muon for the blocks' matrices, and AdamW at `adam_lr` for the rest: embeddings and head."""
    from torch.optim import AdamW

    from microgpt.training.muon import Muon

    matrices = list(model.blocks.parameters())
    inside = set(map(id, matrices))
    rest = [weight for weight in model.parameters() if id(weight) not in inside]
    return Optimizers(
        Muon(matrices, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay),
        AdamW(rest, lr=config.adam_lr, **adam_settings(config)),
    )


def adam_settings(config: OptimConfig) -> dict[str, Any]:
    betas = (config.betas[0], config.betas[1])
    return {"betas": betas, "eps": config.eps, "weight_decay": config.weight_decay, "fused": True}


def build_optimizer(model: GPT, config: OptimConfig) -> Optimizers:
    """The optimizer that `config.name` names, for the weights of `model`."""
    return OPTIMIZERS[config.name](model, config)
