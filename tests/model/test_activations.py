"""Activations: their exact values, and how one is added."""

import math

import pytest
import torch

from microgpt.config.registry import ACTIVATIONS
from microgpt.config.schema import ModelConfig
from microgpt.model.transformer import GPT

X = [-2.0, -0.5, 0.0, 0.5, 2.0]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("relu", [0.0, 0.0, 0.0, 0.5, 2.0]),
        ("relu_squared", [0.0, 0.0, 0.0, 0.25, 4.0]),
        ("gelu", [x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in X]),
    ],
)
def test_activation_values(name: str, values: list[float]) -> None:
    assert ACTIVATIONS[name](torch.tensor(X)).tolist() == pytest.approx(values, abs=1e-6)


def test_a_new_activation_is_one_registered_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ACTIVATIONS, "choices", dict(ACTIVATIONS))

    @ACTIVATIONS.register
    def half(x: torch.Tensor) -> torch.Tensor:
        return x / 2

    model = GPT(5, ModelConfig(block_size=4, n_embd=8, n_layer=1, n_head=2, activation="half"))
    x = torch.randn(1, 4, 8)
    mlp = model.get_submodule("blocks.0.mlp")
    expected = x @ mlp.get_parameter("fc.weight").T @ mlp.get_parameter("proj.weight").T / 2
    torch.testing.assert_close(mlp(x), expected)
