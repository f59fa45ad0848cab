"""Predictions and attention maps of a model on a given text, without changing the model.

Shapes: B, T, C, H, D, V as in the transformer, and L = n_layer. Attention is computed again from the queries and keys
of a forward pass, since the pass itself keeps no probabilities.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from microgpt.data.batches import windows
from microgpt.model.transformer import GPT, Attention, norm, rotate


@dataclass(frozen=True)
class Prediction:
    """The prediction of `token` from the tokens before it, as far back as the token at `start`."""

    token: int
    logprobs: Tensor  # (V,) float64, nats
    attention: Tensor  # (L, H, number of tokens read): the weight that each head gives to each of them
    start: int  # position in the text of the first token read

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
    """Each layer's attention (H, T, T) in a forward pass over idx (1, T) int64; row t: the weights of token t."""
    return forward_with_attention(model, idx)[1]


@torch.no_grad()
def forward_with_attention(model: GPT, idx: Tensor) -> tuple[Tensor, list[Tensor]]:
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


def predictions(model: GPT, ids: Sequence[int]) -> list[Prediction]:
    """The prediction of each of `ids` but the first; a text that is longer than a block is read in `windows`."""
    found = []
    for start, first, stop in windows(len(ids) - 1, model.block_size):
        logits, maps = forward_with_attention(model, torch.tensor([ids[start:stop]], device=model.head.weight.device))
        logprobs = logits.cpu().double().log_softmax(-1)  # (T, V)
        attention = torch.stack(maps).cpu()  # (L, H, T, T)
        found += [
            Prediction(ids[start + t + 1], logprobs[t], attention[:, :, t, : t + 1], start)
            for t in range(first - start, stop - start)
        ]
    return found
