"""Optimizers: which weights each gets, what a state holds, and the same updates as PyTorch."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from microgpt.config.schema import ModelConfig, OptimConfig
from microgpt.model.transformer import GPT
from microgpt.training.muon import Muon
from microgpt.training.optimizers import Optimizers, build_optimizer
from microgpt.training.updates import Adam, TableSGD

NAMES = ["adam", "adamw", "muon"]


def gpt(**options: Any) -> GPT:
    torch.manual_seed(0)
    return GPT(7, ModelConfig(block_size=4, n_embd=8, n_layer=2, n_head=2, **options))


def build(model: GPT, name: str, lr: float = 0.01, weight_decay: float = 0.1) -> Optimizers:
    config = OptimConfig(name, lr, adam_lr=lr / 2, betas=[0.8, 0.95], momentum=0.9, weight_decay=weight_decay)
    return build_optimizer(model, config)


def take_steps(model: GPT, optimizer: Optimizers | torch.optim.Optimizer, first: int, last: int) -> None:
    """Take steps on random gradients whose seed is the number of the step."""
    for number in range(first, last):
        generator = torch.Generator().manual_seed(number)
        for weight in model.parameters():
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()


def weights_of(model: GPT) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


@pytest.mark.parametrize(("name", "decoupled"), [("adam", torch._fused_adam_), ("adamw", torch._fused_adamw_)])
def test_adam_and_adamw_get_all_weights(name: str, decoupled: object) -> None:
    model = gpt()
    (member,) = build(model, name).members
    assert isinstance(member, Adam) and member.update is decoupled
    assert list(map(id, member.weights)) == list(map(id, model.parameters()))


def test_muon_gets_the_matrices_of_the_blocks_and_adamw_embeddings_and_head() -> None:
    model = gpt()
    names = {id(weight): name for name, weight in model.named_parameters()}
    first, second = build(model, "muon").members
    assert (type(first), type(second)) == (Muon, Adam)
    muon, adamw = ([names[id(weight)] for weight in member.weights] for member in (first, second))
    assert sorted(adamw) == ["head.weight", "position_embedding.weight", "token_embedding.weight"]
    assert all(name.startswith("blocks.") for name in muon)
    assert sorted(muon + adamw) == sorted(names.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_n_gram_embeddings_have_an_update_of_their_own(name: str) -> None:
    model = gpt(ngrams=3, ngram_rows=5)
    assert model.ngram_embedding is not None
    *others, last = build(model, name).members
    assert isinstance(last, TableSGD) and list(map(id, last.weights)) == [id(model.ngram_embedding.weight)]
    assert id(model.ngram_embedding.weight) not in {id(weight) for member in others for weight in member.weights}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_adam_and_adamw_compute_the_updates_of_torch(name: str, kind: type, weight_decay: float) -> None:
    ours, theirs = gpt(), gpt()
    take_steps(ours, build(ours, name, weight_decay=weight_decay), 0, 10)
    reference = kind(theirs.parameters(), lr=0.01, betas=(0.8, 0.95), eps=1e-8, weight_decay=weight_decay)
    take_steps(theirs, reference, 0, 10)
    torch.testing.assert_close(weights_of(ours), weights_of(theirs), rtol=0, atol=1e-6)


def test_a_checkpoint_of_torchs_optimizer_can_be_loaded() -> None:
    ours, theirs = gpt(), gpt()
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01, betas=(0.8, 0.95), weight_decay=0.1)
    take_steps(theirs, reference, 0, 3)
    ours.load_state_dict(theirs.state_dict())
    optimizer = build(ours, "adamw")
    optimizer.load_state_dict([copy.deepcopy(reference.state_dict())])
    take_steps(ours, optimizer, 3, 6)
    take_steps(theirs, reference, 3, 6)
    torch.testing.assert_close(weights_of(ours), weights_of(theirs), rtol=0, atol=1e-6)


def test_scale_lr_is_relative_to_the_peak_of_each_member() -> None:
    optimizer = build(gpt(), "muon", lr=0.02)
    optimizer.scale_lr(0.1)
    optimizer.scale_lr(0.5)
    assert optimizer.lr == pytest.approx(0.01)
    assert [member.lr for member in optimizer.members] == pytest.approx([0.01, 0.005])


def test_the_settings_reach_the_updates() -> None:
    expected = {"beta1": 0.8, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1}
    for name in ("adam", "adamw"):
        (member,) = build(gpt(), name).members
        assert isinstance(member, Adam) and (member.lr, member.settings) == (0.01, expected)
    muon, rest = build(gpt(), "muon").members
    assert isinstance(muon, Muon) and (muon.lr, muon.momentum, muon.weight_decay) == (0.01, 0.9, 0.1)
    assert isinstance(rest, Adam) and (rest.lr, rest.settings) == (0.005, expected)


def test_zero_grad_clears_all_gradients() -> None:
    model = gpt()
    optimizer = build(model, "muon")
    take_steps(model, optimizer, 0, 1)
    optimizer.zero_grad()
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_state_continues_to_identical_weights(name: str) -> None:
    model = gpt()
    optimizer = build(model, name)
    take_steps(model, optimizer, 0, 3)
    resumed = copy.deepcopy(model)
    resumed_optimizer = build(resumed, name)
    resumed_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    take_steps(model, optimizer, 3, 6)
    take_steps(resumed, resumed_optimizer, 3, 6)
    assert torch.equal(weights_of(resumed), weights_of(model))


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_without_its_state_continues_to_other_weights(name: str) -> None:
    """This shows that the test above would fail if the state were lost."""
    model = gpt()
    optimizer = build(model, name)
    take_steps(model, optimizer, 0, 3)
    other = copy.deepcopy(model)
    take_steps(model, optimizer, 3, 6)
    take_steps(other, build(other, name), 3, 6)
    assert not torch.equal(weights_of(other), weights_of(model))


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_state_keeps_the_peak_and_the_decay_of_the_new_config(name: str) -> None:
    model = gpt()
    old = build(model, name, lr=0.1, weight_decay=0.1)
    old.scale_lr(0.3)
    take_steps(model, old, 0, 1)
    new = build(gpt(), name, lr=0.01, weight_decay=0.2)
    new.load_state_dict(copy.deepcopy(old.state_dict()))
    new.scale_lr(0.5)
    assert [member.lr for member in new.members] == pytest.approx([0.005, 0.0025][: len(new.members)])
    decays = [m.settings["weight_decay"] if isinstance(m, Adam) else vars(m)["weight_decay"] for m in new.members]
    assert decays == [0.2] * len(new.members)
