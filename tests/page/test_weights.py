"""Packed weights: what their bits keep of a matrix, and that the page reads the same numbers."""

from typing import Any

import numpy as np
import pytest
import torch
from page_scripts import SWITCHES, model_json, needs_node, random_model, run_node

from microgpt.page.weights import pack, pack_bits, pack_model, with_packed


@pytest.mark.parametrize("bits", [2, 8, 13, 18, 24])
def test_a_weight_is_off_by_at_most_half_a_step_of_its_row(bits: int) -> None:
    torch.manual_seed(0)
    matrix = (torch.randn(50, 20) * torch.rand(50, 1)).double().float()
    step = matrix.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    error = (pack("head.weight", matrix, bits).unpack() - matrix).abs()
    assert (error <= 0.5001 * step + 1e-7 * matrix.abs()).all()  # and the rounding of float32


def test_18_bits_are_much_nearer_than_float16() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(100, 64)
    packed, half = pack("head.weight", matrix, 18).unpack(), matrix.half().float()
    assert (packed - matrix).square().mean().sqrt() < 0.05 * (half - matrix).square().mean().sqrt()


def test_a_row_of_zeros_stays_zero() -> None:
    matrix = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    assert torch.equal(pack("head.weight", matrix, 8).unpack()[0], matrix[0])


def test_rows_of_zeros_of_a_table_take_no_space() -> None:
    table = torch.zeros(1000, 8)
    table[[3, 500]] = 1.0
    packed = pack("ngram_embedding.weight", table, 8)
    assert packed.values.shape == (2, 8) and torch.equal(packed.unpack(), table)
    assert pack("head.weight", table, 8).values.shape == (1000, 8)


def test_bits_are_packed_lowest_first() -> None:
    assert pack_bits(np.array([0b101, 0b011, 0b110], np.int32), 3).tolist() == [0b10_011_101, 0b1]


@pytest.mark.parametrize("bits", [4, 8, 18])
def test_a_model_that_is_packed_twice_does_not_change(bits: int) -> None:
    model = random_model(9, ngrams=3, ngram_rows=50)
    once = with_packed(model, pack_model(model, bits, bits))
    twice = with_packed(once, pack_model(once, bits, bits))
    for a, b in zip(once.parameters(), twice.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0)


@needs_node
@pytest.mark.parametrize("bits", [4, 8, 11, 16, 18, 24])
def test_the_page_reads_what_was_packed(bits: int) -> None:
    model = random_model(9, **SWITCHES["ngrams"])
    code = """
      return Object.fromEntries(Object.entries(unpackWeights(data.weights)).map(([name, weight]) => (
        [name, [...(weight.matrix ? weight.matrix() : weight)]])));
    """
    found: dict[str, Any] = run_node(["gpt.js", "weights.js"], code, model_json(model, bits))
    for name, matrix in pack_model(model, bits, bits).items():
        assert torch.equal(torch.tensor(found[name]).view(matrix.shape), matrix.unpack()), name
