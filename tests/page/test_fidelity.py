"""What a number format costs: nothing for float32, more for int8, and as an evaluation of the same rows finds."""

import pytest
import torch

from microgpt.config.schema import DatasetConfig, SamplingConfig
from microgpt.data.loading import Data, load_data
from microgpt.model.evaluation import evaluate
from microgpt.page.fidelity import Fidelity, compare
from microgpt.page.weights import pack_model, with_packed
from page_scripts import random_model
from pathlib import Path


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(DatasetConfig(name="colors", reader="colors"), 0, Path("none"))


def fidelity(data: Data, form: str) -> Fidelity:
    model = random_model(data.tokenizer.vocab_size)
    return compare(model, with_packed(model, pack_model(model, form)), data, SamplingConfig())


def test_float32_costs_nothing(data: Data) -> None:
    found = fidelity(data, "float32")
    assert found.loss == found.page_loss and found.logits == 0 and found.draws == 0


def test_int8_costs_more_than_float16(data: Data) -> None:
    half, byte = fidelity(data, "float16"), fidelity(data, "int8")
    assert 0 < half.logits < byte.logits and half.draws < byte.draws < 0.1 * byte.tokens
    assert abs(half.page_loss - half.loss) < abs(byte.page_loss - byte.loss) < 0.1


def test_the_loss_is_that_of_the_same_rows(data: Data) -> None:
    model, found = random_model(data.tokenizer.vocab_size), fidelity(data, "float16")
    rows = data.val_rows(model.block_size).first_tokens(found.tokens)
    assert found.tokens == rows.n_targets and not torch.is_inference_mode_enabled()
    assert found.loss == pytest.approx(evaluate(model, rows, data.count_characters(rows)).loss)
