"""How near the model of a page is to that of the run: what its number format costs, measured on held-out text."""

from dataclasses import dataclass

import torch

from microgpt.config.schema import SamplingConfig
from microgpt.data.batches import PADDING
from microgpt.data.loading import Data
from microgpt.model.evaluation import TOKENS_AT_ONCE
from microgpt.model.generation import draw, probabilities
from microgpt.model.transformer import GPT, cross_entropy

MAX_TOKENS = 20_000  # of the validation split


@dataclass(frozen=True)
class Fidelity:
    """The first `tokens` tokens of the validation split, read by the model of the run and by that of the page.

    `loss` and `page_loss` are in nats per token, `logits` is the largest difference of a logit, and `draws` the number
    of tokens that the page draws differently, from the same context with the same uniform number.
    """

    tokens: int
    loss: float
    page_loss: float
    logits: float
    draws: int


@torch.inference_mode()
def compare(model: GPT, page_model: GPT, data: Data, sampling: SamplingConfig) -> Fidelity:
    """The fidelity of `page_model` to `model`, both on the CPU; draws with the settings of `sampling`."""
    rows = data.val_rows(model.block_size).first_tokens(MAX_TOKENS)
    generator = torch.Generator().manual_seed(0)
    losses, largest, n_other = [0.0, 0.0], 0.0, 0
    for part in rows.chunks(max(1, TOKENS_AT_ONCE // rows.block_size)):
        outputs = [each(part.idx, part.positions) for each in (model, page_model)]
        losses = [total + cross_entropy(logits, part.targets).item() for total, logits in zip(losses, outputs, strict=True)]
        targets = part.targets != PADDING
        some, others = (logits[targets] for logits in outputs)  # (n, V)
        largest = max(largest, (some - others).abs().max().item())
        uniforms = torch.rand(len(some), generator=generator)
        drawn = [
            draw(probabilities(logits, sampling.temperature, sampling.top_k, sampling.top_p), uniforms)
            for logits in (some, others)
        ]
        n_other += int((drawn[0] != drawn[1]).sum())
    n = rows.n_targets
    return Fidelity(n, losses[0] / n, losses[1] / n, largest, n_other)
