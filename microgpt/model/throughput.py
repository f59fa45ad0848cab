"""How well a run uses its machine: the arithmetic of a training step, and the most that the machine can do."""

import time
from functools import cache

import torch

from microgpt.model.transformer import GPT

PEAK_SECONDS = 0.05  # spent to measure the peak
PEAK_SIZES = {"cpu": 512}  # rows and columns of the matrices whose product is timed; on other devices 4096


def flops_per_token(model: GPT) -> int:
    """Floating-point operations of a training step for each token: 6 W + 12 L C T.

    W are the weights of matrix products, so not those of embeddings (Chowdhery et al. 2022, PaLM, appendix B).
    """
    products = sum(w.numel() for name, w in model.dense_weights() if "embedding" not in name)
    attention = model.config.n_layer * model.config.n_embd * model.block_size
    return 6 * products + 12 * attention


@cache
def peak_flops(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    """The most floating-point operations per second in a product of large matrices, measured here and now.

    `threads` are those that torch uses: another number has another peak.
    """
    size = PEAK_SIZES.get(device.type, 4096)
    a = torch.linspace(-1, 1, size * size, device=device).view(size, size).to(dtype)
    best, end = 0.0, time.perf_counter() + PEAK_SECONDS
    while not best or time.perf_counter() < end:
        synchronize(device)
        start = time.perf_counter()
        torch.mm(a, a)
        synchronize(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all work that it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
