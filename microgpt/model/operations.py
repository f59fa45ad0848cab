"""Operations of the model with gradients of their own: on a CPU they take less time than those that torch derives.

Each is one node of the graph instead of four to ten, and keeps one tensor of the size of its input.
"""

from typing import Any

import torch
from torch import Tensor


class RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scale = norm_scale(x)
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # y = x s with s = (mean(x²) + eps)^(-1/2), so dL/dx = s (dL/dy - y mean(dL/dy · y)).
        (grad,), (y, scale) = grads, ctx.saved_tensors
        mean = torch.linalg.vecdot(grad, y).unsqueeze_(-1).mul_(-1 / y.size(-1))
        return torch.addcmul(grad, y, mean).mul_(scale)


class Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(table)
        return rotated(x, table, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (table,) = ctx.saved_tensors
        return rotated(grads[0], table, -1), None  # the transpose of a rotation is the rotation back


class SquaredReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.relu()
        ctx.save_for_backward(y)
        return y * y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return (y * grads[0]).mul_(2)


def rotated(x: Tensor, table: Tensor, sign: int) -> Tensor:
    """x (…, T, H, D) with each pair of channels rotated by `sign` times its angle."""
    cos, sin = table  # each (T, H, D)
    swapped = x.roll(x.size(-1) // 2, -1)  # the other channel of the pair
    return (x * cos).addcmul_(swapped, sin, value=sign)


def norm_scale(x: Tensor) -> Tensor:
    """1 / sqrt(mean(x²) + 1e-5) over the last axis: (…, C) → (…, 1)."""
    mean_square = torch.linalg.vecdot(x, x).unsqueeze_(-1).mul_(1 / x.size(-1))
    return mean_square.add_(1e-5).rsqrt_()


def norm(x: Tensor) -> Tensor:
    """RMSNorm over the last axis, without weights (Zhang & Sennrich 2019)."""
    if not torch.is_grad_enabled():  # a sample needs no node of the graph, which takes longer than the norm of a token
        return x * norm_scale(x)
    return RMSNorm.apply(x)


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0)² (Primer, So et al. 2021)."""
    return SquaredReLU.apply(x)


def rotary_table(block_size: int, n_head: int, head_size: int) -> Tensor:
    """Cosines and signed sines (2, block_size, n_head, head_size) of rotary positions (RoFormer, Su et al. 2021).

    Channel i is paired with channel i + head_size / 2. The angle of position t and of pair i is
    t * 10000^(-2i / head_size). It is the same for all heads: with a copy for each, products with it are faster.
    """
    frequencies = 10000.0 ** (-torch.arange(0, head_size, 2) / head_size)  # (head_size / 2,)
    angles = torch.outer(torch.arange(block_size).float(), frequencies)  # (block_size, head_size / 2)
    cos, sin = angles.cos(), angles.sin()
    table = torch.stack((torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)))  # (2, block_size, head_size)
    return table.unsqueeze(2).repeat(1, 1, n_head, 1)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate each pair of channels of x (B, T, H, D) by the angle of its position; `table` is a `rotary_table`."""
    return Rotation.apply(x, table)
