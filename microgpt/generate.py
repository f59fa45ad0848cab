"""Sampling from a model: what it would write after a prompt.

Keys and values of what has been read are cached, so that a token costs one token's work. The cache is always
exact: a token is drawn from what the model computes for the context in view. When the context reaches
`block_size`, the model starts anew on the later half of it, so that from then on a token sees between half a
block and a whole one.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from microgpt.model import GPT


def probabilities(logits: Tensor, temperature: float, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """What to draw from: logits (B, V) → probabilities (B, V).

    `temperature` 0 leaves the likeliest token alone. `top_k` keeps the k likeliest (0: all; those that tie with
    the k-th are kept, so that no token is favoured for its id), `top_p` then the fewest likeliest whose
    probabilities reach it (nucleus sampling, Holtzman et al. 2020).
    """
    if temperature == 0:
        return torch.zeros_like(logits).scatter(1, logits.argmax(1, keepdim=True), 1.0)
    if 0 < top_k < logits.size(1):
        kth = logits.topk(top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    probs = (logits / temperature).softmax(1)
    if top_p < 1:
        descending, order = probs.sort(dim=1, descending=True, stable=True)
        before = descending.cumsum(1) - descending
        kept = descending.masked_fill(before >= top_p, 0.0)
        probs = torch.zeros_like(probs).scatter(1, order, kept)
    return probs


def draw(probs: Tensor, uniforms: Tensor) -> Tensor:
    """A token for each row: probabilities (B, V), numbers in [0, 1) (B,) → ids (B,), by inverting the CDF.

    The same number and a slightly other model give, mostly, the same token: samples of different models can
    be compared.
    """
    cdf = probs.double().cumsum(1)
    return torch.searchsorted(cdf, uniforms[:, None].double() * cdf[:, -1:], right=True).flatten()


@torch.inference_mode()
def stream(
    model: GPT,
    prompt: Sequence[int],
    n_samples: int,
    max_tokens: int,
    *,
    generator: torch.Generator,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    stop: int | None = None,
) -> Iterator[list[tuple[int, int]]]:
    """Continue `prompt` (ids, at least one) `n_samples` times; yields (sample, token) pairs as they are drawn.

    A sample ends before the token `stop`, or after `max_tokens`. `generator` is on the CPU: the draws are the
    same on every device, and those of a sample do not depend on how many others there are.
    """
    device = model.head.weight.device
    uniforms = torch.rand(n_samples, max_tokens, generator=generator).to(device)
    alive = torch.arange(n_samples, device=device)
    context = torch.tensor(prompt, device=device).repeat(n_samples, 1)
    cache, unread = model.empty_cache(), context[:, -model.block_size :]
    for i in range(max_tokens):
        logits = model(unread, cache=cache)[:, -1]
        unread = draw(probabilities(logits, temperature, top_k, top_p), uniforms[alive, i])[:, None]
        if stop is not None:
            going = (unread[:, 0] != stop).nonzero().flatten()
            if len(going) < len(alive):
                alive, unread, context = alive[going], unread[going], context[going]
                cache.select(going)
            if not len(alive):
                return
        yield list(zip(alive.tolist(), unread[:, 0].tolist(), strict=True))
        context = torch.cat((context, unread), dim=1)[:, -model.block_size :]
        if cache.length == model.block_size:
            cache, unread = model.empty_cache(), context[:, -max(1, model.block_size // 2) :]


def generate(model: GPT, prompt: Sequence[int], n_samples: int, max_tokens: int, **how) -> list[list[int]]:
    """The new tokens of `n_samples` continuations of `prompt`; `how` is what `stream` takes."""
    samples: list[list[int]] = [[] for _ in range(n_samples)]
    for step in stream(model, prompt, n_samples, max_tokens, **how):
        for sample, token in step:
            samples[sample].append(token)
    return samples
