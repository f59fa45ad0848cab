"""Measuring a model: the mean loss over tokens, in nats a token and in bits a character."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from microgpt.batches import Rows
from microgpt.model import cross_entropy
from microgpt.ranks import ALONE, Ranks

TOKENS_AT_ONCE = 8192


@dataclass(frozen=True)
class Evaluation:
    """`loss` in nats a token, `bpc` in bits a character of the raw text, and how many tokens they are means of."""

    loss: float
    bpc: float
    tokens: int


@torch.no_grad()
def evaluate(
    forward: Callable[[Tensor, Tensor | None], Tensor], rows: Rows, bos: int, bos_chars: int, ranks: Ranks = ALONE
) -> Evaluation:
    """Mean over all targets of `rows`: each token counts the same, whatever batch it falls into.

    `forward` is a model, (idx, positions) → logits. A BOS stands for `bos_chars` characters of the raw text:
    the newline that ends a document (1), the blank line that ends a paragraph (2). The rest are one each.
    """
    nats = torch.zeros((), dtype=torch.float64)
    mine = rows[ranks.share(len(rows))]
    for part in mine.chunks(max(1, TOKENS_AT_ONCE // rows.idx.size(1))):
        nats += cross_entropy(forward(part.idx, part.positions), part.targets).cpu().double()
    total, tokens = ranks.sum(nats).item(), rows.n_targets
    chars = tokens + (bos_chars - 1) * int((rows.targets == bos).sum())
    return Evaluation(total / tokens, total / math.log(2) / chars, tokens)
