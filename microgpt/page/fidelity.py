"""How near the model of a page is to that of the run, measured on held-out text, and how many bits that takes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from microgpt.config.schema import SamplingConfig
from microgpt.data.batches import PADDING
from microgpt.data.loading import Data
from microgpt.model.evaluation import TOKENS_AT_ONCE
from microgpt.model.generation import probabilities
from microgpt.model.transformer import GPT, cross_entropy
from microgpt.page.weights import MAX_BITS, pack_model, with_packed

MAX_TOKENS = 20_000  # of the validation split
BITS = (18, 20, 22, MAX_BITS)  # of a weight, from which one is chosen
DEFAULT_BITS = 20  # if it cannot be measured
MAX_OTHER_DRAWS = 1 / 40_000  # share of the draws that may give another token


@dataclass(frozen=True)
class Fidelity:
    """The first `tokens` tokens of the validation split, read by the model of the run and by that of the page.

    `loss` and `page_loss` are in nats per token, `logits` is the largest difference of a logit. `draws` is the share of
    draws that give another token: the probability that a uniform number does so, averaged over the contexts.
    """

    tokens: int
    loss: float
    page_loss: float
    logits: float
    draws: float


@torch.inference_mode()
def compare(model: GPT, page_model: GPT, data: Data, sampling: SamplingConfig) -> Fidelity:
    """The fidelity of `page_model` to `model`, both on the CPU; draws with the settings of `sampling`."""
    rows = data.val_rows(model.block_size).first_tokens(MAX_TOKENS)
    losses, largest, others = [0.0, 0.0], 0.0, 0.0
    for part in rows.chunks(max(1, TOKENS_AT_ONCE // rows.block_size)):
        outputs = [each(part.idx, part.positions) for each in (model, page_model)]
        for i, logits in enumerate(outputs):
            losses[i] += cross_entropy(logits, part.targets).item()
        logits, page_logits = (output[part.targets != PADDING] for output in outputs)  # (n, V)
        largest = max(largest, (logits - page_logits).abs().max().item())
        others += other_draws(logits, page_logits, sampling).sum().item()
    n = rows.n_targets
    return Fidelity(n, losses[0] / n, losses[1] / n, largest, others / n)


def fewest_bits(model: GPT, data: Data | None, sampling: SamplingConfig) -> int:
    """The fewest of BITS with which at most MAX_OTHER_DRAWS of the draws differ, n-gram embeddings aside."""
    if data is None:
        return DEFAULT_BITS
    for bits in BITS:
        page_model = with_packed(model, pack_model(model, bits, MAX_BITS))
        if compare(model, page_model, data, sampling).draws <= MAX_OTHER_DRAWS:
            return bits
    return MAX_BITS


def other_draws(logits: Tensor, page_logits: Tensor, sampling: SamplingConfig) -> Tensor:
    """The share of the uniform numbers that give another token: logits, page_logits (n, V) → (n,) float64."""
    stops, starts = [], []  # (n, V) of the interval of uniform numbers of each token
    for each in (logits, page_logits):
        probs = probabilities(each, sampling.temperature, sampling.top_k, sampling.top_p)
        stops.append(probs.cumsum(1))
        starts.append(stops[-1] - probs)
    same = torch.minimum(*stops) - torch.maximum(*starts)
    return (1 - same.clamp(min=0).sum(1)).clamp(min=0)
