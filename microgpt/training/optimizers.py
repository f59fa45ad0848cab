"""Optimizers: for each choice of `optim.name`, a function that gives the weights of a model to their updates.

To add one, register a function here: `optim.name=` and --help then offer it. Torch is imported inside the functions, so
that --help lists the choices without importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from microgpt.config.registry import OPTIMIZERS
from microgpt.config.schema import OptimConfig

if TYPE_CHECKING:
    from torch import Tensor

    from microgpt.model.transformer import GPT
    from microgpt.training.updates import Update


class Optimizers:
    """Several updates, each with its own weights, used like one optimizer."""

    def __init__(self, *members: Update) -> None:
        self.members = members

    @property
    def lr(self) -> float:
        """The current learning rate of the first member."""
        return self.members[0].lr

    def scale_lr(self, factor: float) -> None:
        """Set every learning rate to `factor` times its peak."""
        for member in self.members:
            member.lr = factor * member.peak_lr

    def step(self) -> None:
        for member in self.members:
            member.step()

    def zero_grad(self) -> None:
        for member in self.members:
            for weight in member.weights:
                weight.grad = None

    def state_dict(self) -> list[dict[str, Any]]:
        return [member.state_dict() for member in self.members]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for member, state in zip(self.members, states, strict=True):
            member.load_state_dict(state)


@OPTIMIZERS.register
def adam(model: GPT, config: OptimConfig) -> list[Update]:
    """Adam (Kingma & Ba 2015) for all weights; weight decay is added to the gradient."""
    from microgpt.training.updates import Adam

    return [Adam(dense_weights(model), config.lr, decoupled=False, **adam_settings(config))]


@OPTIMIZERS.register
def adamw(model: GPT, config: OptimConfig) -> list[Update]:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019) for all weights."""
    from microgpt.training.updates import Adam

    return [Adam(dense_weights(model), config.lr, decoupled=True, **adam_settings(config))]


@OPTIMIZERS.register
def muon(model: GPT, config: OptimConfig) -> list[Update]:
    """Muon for the matrices of the blocks, and AdamW at `adam_lr` for the embeddings and the head."""
    from microgpt.training.muon import Muon
    from microgpt.training.updates import Adam

    rest = [weight for name, weight in model.dense_weights() if not name.startswith("blocks.")]
    return [
        Muon(model.blocks.parameters(), config.lr, momentum=config.momentum, weight_decay=config.weight_decay),
        Adam(rest, config.adam_lr, decoupled=True, **adam_settings(config)),
    ]


def dense_weights(model: GPT) -> list[Tensor]:
    return [weight for _, weight in model.dense_weights()]


def adam_settings(config: OptimConfig) -> dict[str, Any]:
    """The keyword arguments that Adam and AdamW share, but for the learning rate."""
    return {"betas": config.betas, "eps": config.eps, "weight_decay": config.weight_decay}


def build_optimizer(model: GPT, config: OptimConfig) -> Optimizers:
    """The optimizer registered as `config.name`, for the weights of `model`; n-gram embeddings have their own."""
    updates = OPTIMIZERS[config.name](model, config)
    if (table := model.ngram_embedding) is not None:
        from microgpt.training.updates import TableSGD

        updates.append(TableSGD([table.weight], config.ngram_lr, table.longest - 1))
    return Optimizers(*updates)
