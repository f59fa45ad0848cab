"""Packed weights: what each format keeps of a matrix, and that the page reads the same numbers."""

from typing import Any

import pytest
import torch
from page_scripts import SWITCHES, model_json, needs_node, random_model, run_node

from microgpt.errors import UserError
from microgpt.page.weights import FORMATS, pack, pack_model, with_packed

MATRIX = torch.tensor([[1.0, -2.0, 1 / 3], [0.0, 0.0, 0.0], [1e-5, 6e-8, -0.1]])


@pytest.mark.parametrize("name", ["head.weight", "ngram_embedding.weight"])
def test_float32_keeps_every_bit(name: str) -> None:
    assert torch.equal(pack(name, MATRIX, "float32").unpack(), MATRIX)


@pytest.mark.parametrize("name", ["head.weight", "ngram_embedding.weight"])
def test_float16_is_the_rounding_of_torch(name: str) -> None:
    assert torch.equal(pack(name, MATRIX, "float16").unpack(), MATRIX.half().float())


def test_int8_is_off_by_at_most_half_a_step_of_its_row() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(50, 20) * torch.rand(50, 1)
    step = matrix.abs().amax(1, keepdim=True) / 127
    assert ((pack("head.weight", matrix, "int8").unpack() - matrix).abs() <= 0.501 * step).all()


def test_rows_of_zeros_of_a_table_take_no_space() -> None:
    table = torch.zeros(1000, 8)
    table[[3, 500]] = 1.0
    packed = pack("ngram_embedding.weight", table, "int8")
    assert packed.values.shape == (2, 8) and torch.equal(packed.unpack(), table)
    assert pack("head.weight", table, "int8").values.shape == (1000, 8)


def test_weights_beyond_float16_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^weights=float16: .*; use weights=float32$"):
        pack("head.weight", torch.tensor([[1e5]]), "float16")


@pytest.mark.parametrize("form", FORMATS)
def test_a_model_that_is_packed_twice_does_not_change(form: str) -> None:
    model = random_model(9, ngrams=3, ngram_rows=50)
    once = with_packed(model, pack_model(model, form))
    twice = with_packed(once, pack_model(once, form))
    for a, b in zip(once.parameters(), twice.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0)


@needs_node
@pytest.mark.parametrize("form", FORMATS)
def test_the_page_reads_what_was_packed(form: str) -> None:
    model = random_model(9, **SWITCHES["ngrams"])
    code = """
      return Object.fromEntries(Object.entries(unpackWeights(data.weights)).map(([name, weight]) => (
        [name, [...(weight.matrix ? weight.matrix() : weight)]])));
    """
    found: dict[str, Any] = run_node(["gpt.js", "weights.js"], code, model_json(model, form))
    for name, matrix in pack_model(model, form).items():
        assert torch.equal(torch.tensor(found[name]).view(matrix.shape), matrix.unpack()), name
