"""Schedules to the exact value, and optimizers against those of PyTorch."""

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.optim import Adam, AdamW

from microgpt.model import GPT
from microgpt.optim import Muon, Optimizers, build_optimizer, build_schedule, orthogonalize

SHAPES = [(16, 16), (48, 12), (12, 48), (48, 12)]
NAMES = ["adam", "adamw", "muon"]


def gpt() -> GPT:
    torch.manual_seed(0)
    return GPT(vocab_size=7, block_size=4, n_embd=8, n_layer=2, n_head=2)


def build(model: GPT, name: str, lr: float = 0.01, weight_decay: float = 0.1) -> Optimizers:
    return build_optimizer(
        model,
        name,
        lr=lr,
        adam_lr=lr / 2,
        betas=(0.8, 0.95),
        eps=1e-8,
        weight_decay=weight_decay,
        momentum=0.9,
    )


def take_steps(optimizer: Optimizers | torch.optim.Optimizer, first: int, last: int) -> None:
    """Steps on gradients that are drawn by the number of the step."""
    for number in range(first, last):
        generator = torch.Generator().manual_seed(number)
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()


def weights_of(model: GPT) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


@pytest.mark.parametrize(
    ("name", "final_fraction", "middle", "end"),
    [
        ("constant", 0.0, 1.0, 1.0),
        ("linear", 0.0, 0.5, 0.0),
        ("linear", 0.2, 0.6, 0.2),
        ("cosine", 0.0, 0.5, 0.0),
        ("cosine", 0.2, 0.6, 0.2),
    ],
)
@pytest.mark.parametrize("warmup", [0, 10])
def test_schedule_values(name: str, final_fraction: float, middle: float, end: float, warmup: int) -> None:
    schedule = build_schedule(name, 100, warmup, final_fraction)
    assert schedule(warmup) == 1.0
    assert schedule((100 + warmup) // 2) == pytest.approx(middle, abs=1e-12)
    assert schedule(100) == pytest.approx(end, abs=1e-12)
    assert schedule(200) == schedule(100)


def test_warmup_is_linear_and_begins_above_0() -> None:
    schedule = build_schedule("cosine", 100, 10, 0.1)
    assert [schedule(step) for step in range(11)] == pytest.approx([(step + 1) / 11 for step in range(11)])


def test_the_cosine_lies_above_the_line_first_and_below_it_last() -> None:
    cosine, linear = build_schedule("cosine", 100, 0, 0.0), build_schedule("linear", 100, 0, 0.0)
    assert cosine(25) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert linear(25) == 0.75
    assert cosine(75) == pytest.approx((1 - math.sqrt(0.5)) / 2)
    assert linear(75) == 0.25


@pytest.mark.parametrize("momentum", [0.0, 0.95])
@pytest.mark.parametrize("weight_decay", [0.0, 5.0])
def test_muon_makes_the_updates_of_torch(momentum: float, weight_decay: float) -> None:
    """That one works in bfloat16, hence only nearly the same. The gradients of a step are independent of the
    last one's, so that another momentum, another scale or no decay would show in direction or length."""
    torch.manual_seed(0)
    began = [torch.randn(shape) for shape in SHAPES]
    ours, theirs = ([torch.nn.Parameter(weight.clone()) for weight in began] for _ in range(2))
    take_steps(Muon(ours, lr=0.02, momentum=momentum, weight_decay=weight_decay), 0, 10)
    take_steps(torch.optim.Muon(theirs, lr=0.02, momentum=momentum, weight_decay=weight_decay), 0, 10)
    for a, b, start in zip(ours, theirs, began, strict=True):
        a, b = (a - start).flatten(), (b - start).flatten()
        assert torch.cosine_similarity(a, b, dim=0) > 0.99
        assert (a.norm() / b.norm()).item() == pytest.approx(1, abs=0.02)


def test_muon_leaves_a_weight_without_a_gradient_alone() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 3))
    Muon([weight], lr=0.1, weight_decay=0.1).step()
    assert torch.equal(weight, torch.ones(2, 3))


@pytest.mark.parametrize("shape", [(32, 32), (64, 16), (16, 64)])
def test_orthogonalize_brings_singular_values_near_1_and_keeps_the_singular_vectors(
    shape: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(3, *shape, dtype=torch.float64), full_matrices=False)
    values = torch.logspace(-1, 1, min(shape), dtype=torch.float64)
    inside = u.mT @ orthogonalize(u @ values.diag() @ v) @ v.mT
    found = inside.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(inside, torch.diag_embed(found), rtol=0, atol=1e-9)
    assert found.min() > 0.6 and found.max() < 1.3


def test_orthogonalize_treats_each_matrix_by_itself_and_leaves_0_at_0() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, 6, 4) * torch.tensor([1.0, 100.0, 0.0])[:, None, None]
    together = orthogonalize(matrices)
    alone = torch.cat([orthogonalize(matrix[None]) for matrix in matrices])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert torch.equal(together[2], torch.zeros(6, 4))


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
def test_adam_and_adamw_make_the_updates_of_torch(name: str, kind: type, weight_decay: float) -> None:
    ours, theirs = gpt(), gpt()
    take_steps(build(ours, name, weight_decay=weight_decay), 0, 10)
    take_steps(kind(theirs.parameters(), lr=0.01, betas=(0.8, 0.95), eps=1e-8, weight_decay=weight_decay), 0, 10)
    torch.testing.assert_close(weights_of(ours), weights_of(theirs), rtol=0, atol=1e-6)


def test_scale_lr_is_relative_to_the_peak_of_each_group() -> None:
    optimizer = build(gpt(), "muon", lr=0.02)
    optimizer.scale_lr(0.1)
    assert optimizer.scale_lr(0.5) == pytest.approx(0.01)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.005])


def test_zero_grad_clears_all_gradients() -> None:
    model = gpt()
    optimizer = build(model, "muon")
    take_steps(optimizer, 0, 1)
    optimizer.zero_grad()
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_state_goes_on_to_identical_weights(name: str) -> None:
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
def test_without_its_state_an_optimizer_goes_on_to_other_weights(name: str) -> None:
    """What the test before this one would not notice if the state did not matter."""
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
