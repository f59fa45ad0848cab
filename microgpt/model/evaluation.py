"""Evaluation of a model: the mean loss, in nats per token and in bits per character."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from microgpt.data.batches import Rows
from microgpt.model.transformer import cross_entropy

TOKENS_AT_ONCE = 8192  # of one forward pass, to bound the memory

Forward = Callable[[Tensor, Tensor | None], Tensor]  # a model: (idx, positions) → logits


@dataclass(frozen=True)
class Evaluation:
    """`loss` in nats per token, `bpc` in bits per character of the raw text, and `tokens`, the number of targets."""

    loss: float
    bpc: float
    tokens: int

    @classmethod
    def of(cls, nats: float, tokens: int, chars: int) -> "Evaluation":
        """From the total loss in `nats` over `tokens` targets, which represent `chars` characters of raw text."""
        return cls(nats / tokens, nats / math.log(2) / chars, tokens)


@torch.no_grad()
def total_loss(forward: Forward, rows: Rows) -> Tensor:
    """The sum of -log p over all targets of `rows`, a float64 scalar in nats.

    It is a sum, not a mean of means over batches, so that each token has the same weight.
    """
    nats = torch.zeros((), dtype=torch.float64)
    for part in rows.chunks(max(1, TOKENS_AT_ONCE // rows.idx.size(1))):
        nats += cross_entropy(forward(part.idx, part.positions), part.targets).cpu().double()
    return nats


def evaluate(forward: Forward, rows: Rows, chars: int) -> Evaluation:
    """The mean losses over all targets of `rows`, which represent `chars` characters of raw text."""
    return Evaluation.of(total_loss(forward, rows).item(), rows.n_targets, chars)
