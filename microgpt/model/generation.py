"""Sampling from a model: it continues a prompt.

The keys and values of the tokens read so far are cached, so each new token needs a forward pass over one token. The
cache is exact: the logits equal those of a forward pass over the whole context. When the context reaches `block_size`,
the cache is emptied and the later half of the context is read again. From then on, a token has between half a block and
a whole block of context.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from microgpt.model.transformer import GPT

MAX_ACTIVE_TO_COPY = 0.75  # rows that have ended leave the batch when at most this share of the rows is active


def probabilities(logits: Tensor, temperature: float, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """The distribution to sample from: logits (B, V) → probabilities (B, V) float64.

    With `temperature` 0 the likeliest token has probability 1. `top_k` keeps the k likeliest tokens (0: all) and those
    tied with the k-th, so that no token is favoured for its id. `top_p` then keeps the fewest likeliest tokens whose
    probabilities sum to at least `top_p` (nucleus sampling, Holtzman et al. 2020).
    """
    logits = logits.double()  # float64, and the maximum is subtracted below: a small temperature cannot overflow
    if temperature == 0:
        return torch.zeros_like(logits).scatter(1, logits.argmax(1, keepdim=True), 1.0)
    if 0 < top_k < logits.size(1):
        kth = logits.topk(top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    probs = ((logits - logits.amax(1, keepdim=True)) / temperature).softmax(1)
    if top_p < 1:
        descending, order = probs.sort(dim=1, descending=True, stable=True)
        before = descending.cumsum(1) - descending  # the sum over all likelier tokens
        kept = descending.masked_fill((before >= top_p) & (before > 0), 0.0)  # the likeliest is kept even for top_p 0
        probs = torch.zeros_like(probs).scatter(1, order, kept / kept.sum(1, keepdim=True))
    return probs


def draw(probs: Tensor, uniforms: Tensor) -> Tensor:
    """One token for each row: probabilities (B, V), uniform numbers in [0, 1) (B,) → ids (B,), by inverting the CDF.

    With the same number, two similar models mostly give the same token, so their samples can be compared.
    """
    cdf = probs.double().cumsum(1)  # its last value can differ from 1 by rounding
    return torch.searchsorted(cdf, uniforms[:, None].double() * cdf[:, -1:], right=True).flatten()


def random_draws(n_samples: int, max_tokens: int, seed: int) -> Tensor:
    """Uniform numbers in [0, 1) (n_samples, max_tokens), one row for each sample, the same for every device."""
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

    Yields for each token step the pairs (index of the sample, token) of the samples that have not ended. A sample ends
    before the token `stop`, or after max_tokens.
    """
    device = model.head.weight.device
    samples = torch.arange(len(draws))  # (n_rows,) the sample of each row of the batch
    active = torch.ones(len(draws), dtype=torch.bool)  # (n_rows,) whether the sample has not ended
    new = torch.tensor(prompt, device=device)[-model.block_size :].repeat(len(draws), 1)  # (n_rows, T), not yet read
    cache = model.empty_cache(len(draws))
    for uniforms in draws.unbind(1):
        logits = model(new, cache=cache)[:, -1].cpu()  # float64 sampling on the CPU, the same for every device
        tokens = draw(probabilities(logits, temperature, top_k, top_p), uniforms[samples])
        if stop is not None:
            active &= tokens != stop
            kept = active.nonzero().flatten()  # rows of the batch
            if not len(kept):
                return
            if len(kept) <= MAX_ACTIVE_TO_COPY * len(samples):
                samples, tokens, active = samples[kept], tokens[kept], active[kept]
                cache.select(kept.to(device))
        yield list(zip(samples[active].tolist(), tokens[active].tolist(), strict=True))
        new = tokens[:, None].to(device)
        if cache.length == model.block_size:  # full: read the later half of the context again
            half = max(1, model.block_size // 2)
            new = torch.cat((cache.tokens[:, model.block_size - half + 1 :], new), dim=1)
            cache.length = 0


def generate(model: GPT, prompt: Sequence[int], draws: Tensor, **options: Any) -> list[list[int]]:
    """The new tokens of each sample; the arguments and the options are those of `stream`."""
    samples: list[list[int]] = [[] for _ in range(len(draws))]
    for step in stream(model, prompt, draws, **options):
        for sample, token in step:
            samples[sample].append(token)
    return samples
