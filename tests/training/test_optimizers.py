"""Optimizers: which weights each gets, what a state holds, and the same updates as PyTorch."""

import copy

import pytest
import torch
from torch import Tensor
from torch.optim import Adam, AdamW

from microgpt.config.schema import ModelConfig, OptimConfig
from microgpt.model.transformer import GPT
from microgpt.training.muon import Muon
from microgpt.training.optimizers import Optimizers, build_optimizer

NAMES = ["adam", "adamw", "muon"]


def gpt() -> GPT:
    torch.manual_seed(0)
    return GPT(7, ModelConfig(block_size=4, n_embd=8, n_layer=2, n_head=2))


def build(model: GPT, name: str, lr: float = 0.01, weight_decay: float = 0.1) -> Optimizers:
    config = OptimConfig(name, lr, adam_lr=lr / 2, betas=[0.8, 0.95], momentum=0.9, weight_decay=weight_decay)
    return build_optimizer(model, config)


def take_steps(optimizer: Optimizers | torch.optim.Optimizer, first: int, last: int) -> None:
    """Take steps on random gradients whose seed is the number of the step."""
    for number in range(first, last):
        generator = torch.Generator().manual_seed(number)
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()


def weights_of(model: GPT) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


@pytest.mark.parametrize(("name", "kind"), [("adam", Adam), ("adamw", AdamW)])
def test_adam_and_adamw_get_all_weights(name: str, kind: type) -> None:
    model = gpt()
    (member,) = build(model, name).members
    assert type(member) is kind
    assert list(map(id, member.param_groups[0]["params"])) == list(map(id, model.parameters()))


def test_muon_gets_the_matrices_of_the_blocks_and_adamw_embeddings_and_head() -> None:
    model = gpt()
    names = {id(weight): name for name, weight in model.named_parameters()}
    first, second = build(model, "muon").members
    assert (type(first), type(second)) == (Muon, AdamW)
    muon, adamw = ([names[id(w)] for w in member.param_groups[0]["params"]] for member in (first, second))
    assert sorted(adamw) == ["head.weight", "position_embedding.weight", "token_embedding.weight"]
    assert all(name.startswith("blocks.") for name in muon)
    assert sorted(muon + adamw) == sorted(names.values())


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("name", "kind"), [("adam", Adam), ("adamw", AdamW)])
def test_adam_and_adamw_compute_the_updates_of_torch(name: str, kind: type, weight_decay: float) -> None:
    ours, theirs = gpt(), gpt()
    take_steps(build(ours, name, weight_decay=weight_decay), 0, 10)
    take_steps(kind(theirs.parameters(), lr=0.01, betas=(0.8, 0.95), eps=1e-8, weight_decay=weight_decay), 0, 10)
    torch.testing.assert_close(weights_of(ours), weights_of(theirs), rtol=0, atol=1e-6)


def test_scale_lr_is_relative_to_the_peak_of_each_group() -> None:
    optimizer = build(gpt(), "muon", lr=0.02)
    optimizer.scale_lr(0.1)
    assert optimizer.scale_lr(0.5) == pytest.approx(0.01)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.005])


def test_the_settings_reach_the_optimizers() -> None:
    for name in ("adam", "adamw"):
        (group,) = build(gpt(), name).param_groups
        assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.01, (0.8, 0.95), 1e-8, 0.1)
    muon, rest = build(gpt(), "muon").param_groups
    assert (muon["lr"], muon["momentum"], muon["weight_decay"]) == (0.01, 0.9, 0.1)
    assert (rest["lr"], rest["betas"], rest["eps"], rest["weight_decay"]) == (0.005, (0.8, 0.95), 1e-8, 0.1)


def test_zero_grad_clears_all_gradients() -> None:
    model = gpt()
    optimizer = build(model, "muon")
    take_steps(optimizer, 0, 1)
    optimizer.zero_grad()
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_state_continues_to_identical_weights(name: str) -> None:
    model = gpt()
    optimizer = build(model, name)
    take_steps(optimizer, 0, 3)
    resumed = copy.deepcopy(model)
    resumed_optimizer = build(resumed, name)
    resumed_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    take_steps(optimizer, 3, 6)
    take_steps(resumed_optimizer, 3, 6)
    assert torch.equal(weights_of(resumed), weights_of(model))


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_without_its_state_continues_to_other_weights(name: str) -> None:
    """This shows that the test above would fail if the state were lost."""
    model = gpt()
    optimizer = build(model, name)
    take_steps(optimizer, 0, 3)
    other = copy.deepcopy(model)
    take_steps(optimizer, 3, 6)
    take_steps(build(other, name), 3, 6)
    assert not torch.equal(weights_of(other), weights_of(model))


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_state_keeps_the_peak_and_the_decay_of_the_new_config(name: str) -> None:
    old = build(gpt(), name, lr=0.1, weight_decay=0.1)
    old.scale_lr(0.3)
    new = build(gpt(), name, lr=0.01, weight_decay=0.2)
    new.load_state_dict(copy.deepcopy(old.state_dict()))
    assert new.scale_lr(0.5) == pytest.approx(0.005)
    assert [group["lr"] for group in new.param_groups] == pytest.approx([0.005, 0.0025][: len(new.members)])
    assert all(group["weight_decay"] == 0.2 for group in new.param_groups)
