"""Sampling from a model: what it would write after a prompt.

Keys and values of what has been read are cached, so that a token costs one token's work. The cache is always
exact: a token is drawn from what the model computes for the context in view. When the context reaches
`block_size`, the model starts anew on the later half of it, so that from then on a token sees between half a
block and a whole one.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from microgpt.model.transformer import GPT


def probabilities(logits: Tensor, temperature: float, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """What to draw from: logits (B, V) → probabilities (B, V) float64.

    `temperature` 0 leaves the likeliest token alone. `top_k` keeps the k likeliest (0: all; those that tie with
    the k-th are kept, so that no token is favoured for its id), `top_p` then the fewest likeliest whose
    probabilities reach it (nucleus sampling, Holtzman et al. 2020).
    """
    logits = logits.double()  # with which, and from the likeliest down, no temperature is too small
    if temperature == 0:
        return torch.zeros_like(logits).scatter(1, logits.argmax(1, keepdim=True), 1.0)
    if 0 < top_k < logits.size(1):
        kth = logits.topk(top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    probs = ((logits - logits.amax(1, keepdim=True)) / temperature).softmax(1)
    if top_p < 1:
        descending, order = probs.sort(dim=1, descending=True, stable=True)
        before = descending.cumsum(1) - descending
        kept = descending.masked_fill((before >= top_p) & (before > 0), 0.0)
        probs = torch.zeros_like(probs).scatter(1, order, kept / kept.sum(1, keepdim=True))
    return probs


def draw(probs: Tensor, uniforms: Tensor) -> Tensor:
    """A token for each row: probabilities (B, V), numbers in [0, 1) (B,) → ids (B,), by inverting the CDF.

    The same number and a slightly other model give, mostly, the same token: samples of different models can
    be compared.
    """
    cdf = probs.double().cumsum(1)
    return torch.searchsorted(cdf, uniforms[:, None].double() * cdf[:, -1:], right=True).flatten()


def random_draws(n_samples: int, max_tokens: int, seed: int) -> Tensor:
    """Numbers in [0, 1) (n_samples, max_tokens), a row for each sample, the same on every device."""
    return torch.rand(n_samples, max_tokens, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def stream(
    model: GPT,
    prompt: Sequence[int],
    draws: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    stop: int | None = None,
) -> Iterator[list[tuple[int, int]]]:
    """Continue `prompt` (ids, at least one) once for each row of `draws` (n_samples, max_tokens).

    Yields (sample, token) pairs as they are drawn. A sample ends before the token `stop`, or with its draws.
    """
    device = model.head.weight.device
    alive = torch.arange(len(draws))
    context = torch.tensor(prompt, device=device).repeat(len(draws), 1)
    cache, unread = model.empty_cache(), context[:, -model.block_size :]
    for draw_now in draws.unbind(1):
        logits = model(unread, cache=cache)[:, -1].cpu()  # drawn there in float64, alike for every device
        drawn = draw(probabilities(logits, temperature, top_k, top_p), draw_now[alive])
        if stop is not None:
            going = (drawn != stop).nonzero().flatten()
            if not len(going):
                return
            if len(going) < len(alive):
                alive, drawn, context = alive[going], drawn[going], context[going.to(device)]
                cache.select(going.to(device))
        yield list(zip(alive.tolist(), drawn.tolist(), strict=True))
        unread = drawn[:, None].to(device)
        context = torch.cat((context, unread), dim=1)[:, -model.block_size :]
        if cache.length == model.block_size:
            cache, unread = model.empty_cache(), context[:, -max(1, model.block_size // 2) :]


def generate(
    model: GPT,
    prompt: Sequence[int],
    draws: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    stop: int | None = None,
) -> list[list[int]]:
    """The new tokens of each continuation that `stream` makes of the same arguments."""
    samples: list[list[int]] = [[] for _ in range(len(draws))]
    for step in stream(model, prompt, draws, temperature=temperature, top_k=top_k, top_p=top_p, stop=stop):
        for sample, token in step:
            samples[sample].append(token)
    return samples
