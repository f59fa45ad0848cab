from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from microgpt.model.operations import norm, rotary_table, rotate, squared_relu

TABLE = rotary_table(5, 3, 8).double()


def plain_norm(x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def plain_rotate(x: Tensor) -> Tensor:
    """Each pair of channels as a complex number, times e^(i angle)."""
    a, b = x.chunk(2, -1)
    turned = torch.complex(a, b) * torch.complex(TABLE[0, ..., :4], TABLE[1, ..., 4:])
    return torch.cat((turned.real, turned.imag), -1)


@pytest.mark.parametrize(
    ("operation", "plain"),
    [
        (norm, plain_norm),
        (lambda x: rotate(x, TABLE), plain_rotate),
        (squared_relu, lambda x: x.clamp_min(0) ** 2),
    ],
)
def test_values_and_gradients_are_those_of_the_plain_formula(
    operation: Callable[[Tensor], Tensor], plain: Callable[[Tensor], Tensor]
) -> None:
    x = torch.randn(2, 5, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    torch.testing.assert_close(operation(x), plain(x), rtol=1e-12, atol=1e-12)
    weights = torch.linspace(-1, 1, x.numel(), dtype=torch.float64).view_as(x)
    (ours,) = torch.autograd.grad((operation(x) * weights).sum(), x)
    (theirs,) = torch.autograd.grad((plain(x) * weights).sum(), x)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    assert torch.autograd.gradcheck(operation, x)
