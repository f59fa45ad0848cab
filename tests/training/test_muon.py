"""Muon, compared with the implementation of PyTorch."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from microgpt.training.muon import Muon, orthogonalize

SHAPES = [(16, 16), (48, 12), (12, 48), (48, 12)]


def take_steps(weights: Sequence[Tensor], optimizer: Muon | torch.optim.Muon, n: int) -> None:
    """Take n steps on random gradients whose seed is the number of the step."""
    for number in range(n):
        generator = torch.Generator().manual_seed(number)
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("momentum", [0.0, 0.95])
@pytest.mark.parametrize("weight_decay", [0.0, 5.0])
def test_muon_computes_the_updates_of_torch(momentum: float, weight_decay: float) -> None:
    """PyTorch computes in bfloat16, so the updates are only nearly equal.

    The gradients of the steps are independent, so that another momentum, another scale or no decay would change the
    direction or the length of the update.
    """
    torch.manual_seed(0)
    began = [torch.randn(shape) for shape in SHAPES]
    ours, theirs = ([torch.nn.Parameter(weight.clone()) for weight in began] for _ in range(2))
    take_steps(ours, Muon(ours, lr=0.02, momentum=momentum, weight_decay=weight_decay), 10)
    take_steps(theirs, torch.optim.Muon(theirs, lr=0.02, momentum=momentum, weight_decay=weight_decay), 10)
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
