"""What rounded weights change: nothing if they are the same, more with fewer bits, and what other measurements find."""

from pathlib import Path

import pytest
import torch
from page_scripts import random_model

from microgpt.config.schema import DatasetConfig, SamplingConfig
from microgpt.data.loading import Data, load_data
from microgpt.model.evaluation import evaluate
from microgpt.model.generation import draw, probabilities
from microgpt.page.fidelity import BITS, DEFAULT_BITS, Fidelity, compare, fewest_bits, other_draws
from microgpt.page.weights import MAX_BITS, pack_model, with_packed


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(DatasetConfig(name="colors", reader="colors"), 0, Path("none"))


def fidelity(data: Data, bits: int) -> Fidelity:
    model = random_model(data.tokenizer.vocab_size)
    return compare(model, with_packed(model, pack_model(model, bits, bits)), data, SamplingConfig())


def test_the_same_weights_change_nothing(data: Data) -> None:
    model = random_model(data.tokenizer.vocab_size)
    found = compare(model, model, data, SamplingConfig())
    assert found.loss == found.page_loss and found.logits == 0 and found.draws < 1e-12


def test_fewer_bits_change_more(data: Data) -> None:
    many, few = fidelity(data, 16), fidelity(data, 8)
    assert 0 < many.logits < 0.05 * few.logits and 0 < many.draws < 0.05 * few.draws
    assert abs(many.page_loss - many.loss) < abs(few.page_loss - few.loss) < 0.2


def test_as_many_bits_are_taken_as_the_draws_need(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    model, sampling = random_model(data.tokenizer.vocab_size), SamplingConfig()
    draws = {bits: fidelity(data, bits).draws for bits in BITS}
    for bits in BITS:
        monkeypatch.setattr("microgpt.page.fidelity.MAX_OTHER_DRAWS", draws[bits])
        assert fewest_bits(model, data, sampling) == bits
    monkeypatch.setattr("microgpt.page.fidelity.MAX_OTHER_DRAWS", 0.0)
    assert fewest_bits(model, data, sampling) == MAX_BITS
    assert fewest_bits(model, None, sampling) == DEFAULT_BITS


def test_the_loss_is_that_of_an_evaluation_of_the_same_rows(data: Data) -> None:
    model, found = random_model(data.tokenizer.vocab_size), fidelity(data, 12)
    rows = data.val_rows(model.block_size).first_tokens(found.tokens)
    assert found.tokens == rows.n_targets
    assert found.loss == pytest.approx(evaluate(model, rows, data.count_characters(rows)).loss)


def test_the_share_of_other_draws_is_that_of_many_draws() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 8)
    changed, sampling = logits + 0.2 * torch.randn(1, 8), SamplingConfig(temperature=1.3, top_k=6)
    uniforms = (torch.arange(50_000) + 0.5) / 50_000
    drawn = [draw(probabilities(each, 1.3, 6).expand(50_000, 8), uniforms) for each in (logits, changed)]
    assert other_draws(logits, changed, sampling).item() == pytest.approx(
        (drawn[0] != drawn[1]).double().mean().item(), abs=1e-3
    )
