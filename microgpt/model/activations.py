"""Activations of the MLP, elementwise: Tensor → Tensor. They may overwrite their argument.

A new activation is a function here; `model.activation=` and --help then list it. What needs torch is imported in the
functions, so that --help can list the choices without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microgpt.config.registry import ACTIVATIONS

if TYPE_CHECKING:
    from torch import Tensor


@ACTIVATIONS.register
def relu(x: Tensor) -> Tensor:
    return x.relu_()  # in place: large batches would wait for new memory


@ACTIVATIONS.register
def relu_squared(x: Tensor) -> Tensor:
    """Primer, So et al. 2021."""
    from microgpt.model.operations import squared_relu

    return squared_relu(x)


@ACTIVATIONS.register
def gelu(x: Tensor) -> Tensor:
    """Gaussian error linear unit, Hendrycks & Gimpel 2016."""
    from torch.nn.functional import gelu

    return gelu(x)
