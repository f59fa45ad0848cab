"""The arithmetic of a training step, counted, and the peak of the machine, measured."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from microgpt.config.schema import ModelConfig
from microgpt.model.throughput import flops_per_token, peak_flops
from microgpt.model.transformer import GPT, cross_entropy


@pytest.mark.parametrize("sizes", [{"n_layer": 1}, {"n_layer": 3, "rotary": True}, {"ngrams": 3, "ngram_rows": 100}])
def test_the_operations_are_those_that_torch_counts(sizes: dict[str, int]) -> None:
    model = GPT(50, ModelConfig(**{"n_embd": 32, "n_head": 4, "block_size": 16, **sizes}))  # type: ignore[arg-type]
    idx = torch.randint(50, (4, 16))
    with FlopCounterMode(display=False) as counter:
        cross_entropy(model(idx), idx).backward()
    counted = counter.get_total_flops() / idx.numel()
    # Torch counts the backward pass of attention as it is computed, which repeats a product of the forward pass.
    assert flops_per_token(model) == pytest.approx(counted, rel=0.1)


def test_the_peak_is_that_of_a_matrix_product() -> None:
    peak = peak_flops(torch.device("cpu"), torch.float32, torch.get_num_threads())
    assert 1e8 < peak < 1e14
    assert peak_flops(torch.device("cpu"), torch.float32, torch.get_num_threads()) == peak, "measured once"
