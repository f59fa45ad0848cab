"""Looking into a model without changing it: what it expects of a text, and where its heads look meanwhile.

Shapes as in model.py, and L = n_layer. Attention is computed anew from the queries and keys of a forward pass, since
the pass itself keeps no probabilities.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from microgpt.model import GPT, Attention, norm, rotate


@dataclass(frozen=True)
class Prediction:
    """What a model thought of `token` when it had read the tokens `start` … before it, and no further back."""

    token: int
    logprobs: Tensor  # (V,) float64, nats
    attention: Tensor  # (L, H, number of tokens read): the shares that each head took from them
    start: int  # place in the text of the first token read

    @property
    def bits(self) -> float:
        """Surprisal of the token, -log2 p."""
        return -self.logprobs[self.token].item() / math.log(2)

    @property
    def rank(self) -> int:
        """1 if no token of the vocabulary was likelier, 2 if one was, …"""
        return 1 + int((self.logprobs > self.logprobs[self.token]).sum())

    def likeliest(self, n: int) -> list[tuple[int, float]]:
        """The n likeliest tokens and their probabilities, best first."""
        best = self.logprobs.topk(min(n, len(self.logprobs)))
        return list(zip(best.indices.tolist(), best.values.exp().tolist(), strict=True))


def attention_maps(model: GPT, idx: Tensor) -> list[Tensor]:
    """Each layer's attention (H, T, T) in a forward pass over idx (1, T) int64; row t: what token t took from each."""
    return observe(model, idx)[1]


@torch.no_grad()
def observe(model: GPT, idx: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The logits (T, V) of a forward pass over idx (1, T) int64, and the attention (H, T, T) of each layer."""
    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, _: object, output: Tensor) -> None:
        outputs[module] = output

    hooks = [part.register_forward_hook(keep) for a in attentions for part in (a.q, a.k)]
    try:
        logits = model(idx)[0]
    finally:
        for hook in hooks:
            hook.remove()
    rotary = model.rotary[:, : idx.size(1)] if model.position_embedding is None else None
    return logits, [attention_map(a, outputs[a.q], outputs[a.k], rotary) for a in attentions]


def attention_map(attention: Attention, q: Tensor, k: Tensor, rotary: Tensor | None) -> Tensor:
    """Softmax of the scaled, causal products of queries and keys: q, k (1, T, C) → (H, T, T)."""
    q, k = attention.heads(q), attention.heads(k)
    if attention.qk_norm:
        q, k = norm(q), norm(k)
    if rotary is not None:
        q, k = rotate(q, rotary), rotate(k, rotary)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    later = torch.ones_like(scores, dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(-1)[0]


def windows(n: int, block_size: int) -> Iterator[tuple[int, int, int]]:
    """(start, first, stop) such that n places are covered once: start … stop are read, first … stop count.

    The first window is a block and counts whole. Each further one ends half a block later and counts only that
    half, so that what counts has always half a block or more before it.
    """
    first, stop = 0, min(n, block_size)
    while first < n:
        yield max(0, stop - block_size), first, stop
        first, stop = stop, min(n, stop + max(1, block_size // 2))


def predictions(model: GPT, ids: Sequence[int]) -> list[Prediction]:
    """One for each of `ids` but the first, which is given; a text longer than the block is read in `windows`."""
    found = []
    for start, first, stop in windows(len(ids) - 1, model.block_size):
        logits, maps = observe(model, torch.tensor([ids[start:stop]], device=model.head.weight.device))
        logprobs = logits.cpu().double().log_softmax(-1)  # (T, V)
        attention = torch.stack(maps).cpu()  # (L, H, T, T)
        found += [
            Prediction(ids[start + t + 1], logprobs[t], attention[:, :, t, : t + 1], start)
            for t in range(first - start, stop - start)
        ]
    return found
