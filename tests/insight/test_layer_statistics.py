"""Layer statistics: correct values, and no change to the model."""

import copy

import pytest
import torch

from microgpt.config.schema import ModelConfig
from microgpt.data.batches import Rows, document_rows
from microgpt.data.tokenizer import Tokenizer
from microgpt.insight.layer_statistics import layer_statistics
from microgpt.model.transformer import GPT, MLP, cross_entropy


def model_and_rows() -> tuple[GPT, Rows]:
    torch.manual_seed(0)
    tokenizer = Tokenizer("abc")
    model = GPT(tokenizer.vocab_size, ModelConfig(n_embd=8, n_layer=2, n_head=2, block_size=8))
    tokens = torch.tensor(tokenizer.encode_documents(["abc", "ca", "bbbb"]))
    return model, document_rows(tokens, tokenizer.bos, 8, pack=True)


def test_norms_are_those_of_weights_and_gradients() -> None:
    model, rows = model_and_rows()
    scalars = layer_statistics(model, rows)
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
    scalars = layer_statistics(model, rows)
    assert len(seen) == 2
    for name, output in seen.items():
        assert scalars[f"activations/{name}"] == pytest.approx(output.pow(2).mean().sqrt().item())


def test_units_that_are_zero_for_all_tokens_are_counted() -> None:
    model, rows = model_and_rows()
    mlp = model.blocks[1].mlp
    assert isinstance(mlp, MLP)
    with torch.no_grad():
        mlp.fc.weight[:24].zero_()
    scalars = layer_statistics(model, rows)
    assert scalars["activations/blocks.1.mlp/silent"] >= 0.75
    assert scalars["activations/blocks.0.mlp/silent"] < 0.75


def test_layer_statistics_do_not_change_the_model_or_the_random_state() -> None:
    model, rows = model_and_rows()
    before, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    layer_statistics(model, rows)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(rng, torch.get_rng_state())
    assert not any(module._forward_hooks for module in model.modules())
