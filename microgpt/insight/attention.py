"""Predictions and attention maps of a model on a given text. The model is not changed.

Shapes: B, T, C, H, D, V as in the transformer, and L = n_layer. The attention weights are computed a second time, from
the queries and keys of a forward pass, because the forward pass does not return them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from microgpt.data.batches import windows
from microgpt.model.transformer import GPT, Attention


@dataclass(frozen=True)
class Prediction:
    """The prediction of one token of a text from its context: the tokens before it, from position `start` on."""

    token: int
    logprobs: Tensor  # (V,) float64, nats
    attention: Tensor  # (L, H, n_context): the weight that each head gives to each token of the context
    start: int  # position in the text of the first token of the context

    @property
    def bits(self) -> float:
        """Surprisal of the token, -log2 p."""
        return -self.logprobs[self.token].item() / math.log(2)

    @property
    def rank(self) -> int:
        """1 + the number of tokens of the vocabulary with a higher probability."""
        return 1 + int((self.logprobs > self.logprobs[self.token]).sum())

    def likeliest(self, n: int) -> list[tuple[int, float]]:
        """(token, probability) of the n likeliest tokens, likeliest first."""
        best = self.logprobs.topk(min(n, len(self.logprobs)))
        return list(zip(best.indices.tolist(), best.values.exp().tolist(), strict=True))


def attention_maps(model: GPT, idx: Tensor) -> list[Tensor]:
    """The attention weights (H, T, T) of each layer in a forward pass over idx (1, T) int64; row t is of token t."""
    return forward_with_attention(model, idx)[1]


@torch.no_grad()
def forward_with_attention(model: GPT, idx: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The logits (T, V) of a forward pass over idx (1, T) int64, and the attention weights (H, T, T) of each layer."""
    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    outputs: dict[nn.Module, Tensor] = {}  # (1, T, C) of each query and key projection

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
    """softmax(q kᵀ / √D) with a causal mask (Vaswani et al. 2017, section 3.2.1): q, k (1, T, C) → (H, T, T)."""
    q, k = attention.qk_heads(q, rotary), attention.qk_heads(k, rotary)  # (1, H, T, D)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (1, H, T, T)
    is_future = torch.ones_like(scores, dtype=torch.bool).triu(1)
    return scores.masked_fill(is_future, -torch.inf).softmax(-1)[0]


def predictions(model: GPT, ids: Sequence[int]) -> list[Prediction]:
    """The predictions of all `ids` except the first. A text longer than a block is read in overlapping `windows`."""
    found = []
    # A window reads the tokens start … stop - 1. Row t of its output predicts token start + t + 1 from t + 1 tokens.
    for start, first, stop in windows(len(ids) - 1, model.block_size):
        logits, maps = forward_with_attention(model, torch.tensor([ids[start:stop]], device=model.head.weight.device))
        logprobs = logits.cpu().double().log_softmax(-1)  # (T, V)
        attention = torch.stack(maps).cpu()  # (L, H, T, T)
        found += [
            Prediction(ids[start + t + 1], logprobs[t], attention[:, :, t, : t + 1], start)
            for t in range(first - start, stop - start)
        ]
    return found
