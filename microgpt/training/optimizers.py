"""Optimizers: for each, a function that gives the weights of a model to torch optimizers, with their settings.

To add one, register a function here: `optim.name=` and --help then offer it. Torch is imported inside the functions, so
that --help lists the choices without importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from microgpt.config.registry import OPTIMIZERS
from microgpt.config.schema import OptimConfig

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from microgpt.model.transformer import GPT


class Optimizers:
    """Several torch optimizers, each with its own weights, used like one."""

    def __init__(self, *members: Optimizer) -> None:
        self.members = members
        for group in self.param_groups:
            group["initial_lr"] = group["lr"]  # the peak, since `scale_lr` overwrites lr

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for member in self.members for group in member.param_groups]

    def scale_lr(self, factor: float) -> float:
        """Set every learning rate to `factor` times its peak; returns that of the first group."""
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
            # Loading also restores the settings in the checkpoint. Those of the config are put back, since they may
            # have been changed for the resumed run.
            settings = [{key: v for key, v in group.items() if key != "params"} for group in member.param_groups]
            member.load_state_dict(state)
            for group, current in zip(member.param_groups, settings, strict=True):
                group.update(current)


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
    """Muon for the matrices of the blocks, and AdamW at `adam_lr` for the embeddings and the head."""
    from torch.optim import AdamW

    from microgpt.training.muon import Muon

    matrices = list(model.blocks.parameters())
    matrix_ids = set(map(id, matrices))  # `in` would compare tensors elementwise
    rest = [weight for weight in model.parameters() if id(weight) not in matrix_ids]
    return Optimizers(
        Muon(matrices, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay),
        AdamW(rest, lr=config.adam_lr, **adam_settings(config)),
    )


def adam_settings(config: OptimConfig) -> dict[str, Any]:
    """The keyword arguments that torch's Adam and AdamW share, but for the learning rate."""
    betas = (config.betas[0], config.betas[1])
    return {"betas": betas, "eps": config.eps, "weight_decay": config.weight_decay, "fused": True}


def build_optimizer(model: GPT, config: OptimConfig) -> Optimizers:
    """The optimizer registered as `config.name`, for the weights of `model`."""
    return OPTIMIZERS[config.name](model, config)
