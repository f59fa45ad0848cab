"""Sizes by layer: right, and without a trace in the model."""

import copy

import pytest
import torch

from microgpt.batches import Rows, document_rows
from microgpt.layers import sizes
from microgpt.model import GPT, MLP, cross_entropy
from microgpt.tokenizer import Tokenizer


def model_and_rows() -> tuple[GPT, Rows]:
    torch.manual_seed(0)
    return GPT(4, 8, 8, 2, 2), document_rows(["abc", "ca", "bbbb"], Tokenizer("abc"), 8, pack=True)


def test_norms_are_those_of_weights_and_gradients() -> None:
    model, rows = model_and_rows()
    scalars = sizes(model, rows)
    (cross_entropy(model(rows.idx, rows.positions), rows.targets) / rows.n_targets).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        assert scalars[f"weights/{name.removesuffix('.weight')}"] == pytest.approx(weight.norm().item())
        assert scalars[f"gradients/{name.removesuffix('.weight')}"] == pytest.approx(
            weight.grad.norm().item(), rel=1e-5
        )


def test_activations_are_those_of_a_forward_pass() -> None:
    model, rows = model_and_rows()
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, MLP):
            module.register_forward_hook(lambda m, _, out, name=name: seen.__setitem__(name, out))
    scalars = sizes(model, rows)
    assert len(seen) == 2
    for name, output in seen.items():
        assert scalars[f"activations/{name}"] == pytest.approx(output.pow(2).mean().sqrt().item())


def test_units_that_no_token_switches_on_are_counted() -> None:
    model, rows = model_and_rows()
    mlp = model.blocks[1].mlp
    assert isinstance(mlp, MLP)
    with torch.no_grad():
        mlp.fc.weight[:24].zero_()
    scalars = sizes(model, rows)
    assert scalars["activations/blocks.1.mlp/silent"] >= 0.75
    assert scalars["activations/blocks.0.mlp/silent"] < 0.75


def test_the_model_and_the_random_numbers_are_as_before() -> None:
    model, rows = model_and_rows()
    before, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    sizes(model, rows)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(rng, torch.get_rng_state())
    assert not any(module._forward_hooks for module in model.modules())
