"""Evaluation: a mean over tokens, in nats per token and in bits per character."""

import math

import pytest
import torch
from torch import Tensor

import microgpt.model.evaluation
from microgpt.config.schema import ModelConfig
from microgpt.data.batches import PADDING, Rows, document_rows
from microgpt.data.tokenizer import Tokenizer
from microgpt.model.evaluation import Evaluation, evaluate, total_loss
from microgpt.model.transformer import GPT

BOS = 3
TARGETS = [[0, 1, 2, 3], [3, PADDING, PADDING, PADDING], [2, 3, PADDING, PADDING]]
ROWS = Rows(torch.tensor([[3, 0, 1, 2], [3, 0, 0, 0], [3, 2, 0, 0]]), torch.tensor(TARGETS), None)


def uniform(idx: Tensor, positions: Tensor | None) -> Tensor:
    return torch.zeros(*idx.shape, 4)


def bigram(idx: Tensor, positions: Tensor | None) -> Tensor:
    """Logits that depend on the last token alone."""
    return torch.arange(16.0).view(4, 4).sin()[idx]


def test_loss_is_the_mean_over_tokens_of_rows_of_any_padding() -> None:
    log_probs = torch.arange(16.0).view(4, 4).sin().log_softmax(1)
    pairs = [(3, 0), (0, 1), (1, 2), (2, 3), (3, 3), (3, 2), (2, 3)]
    result = evaluate(bigram, ROWS, 7)
    assert result.tokens == 7
    assert result.loss == pytest.approx(-sum(log_probs[pair].item() for pair in pairs) / 7, rel=1e-6)


@pytest.mark.parametrize(("tokens_at_once", "calls"), [(1, 3), (4, 3), (8, 2), (100, 1)])
def test_evaluation_does_not_depend_on_the_chunks(
    monkeypatch: pytest.MonkeyPatch, tokens_at_once: int, calls: int
) -> None:
    sizes = []

    def counting(idx: Tensor, positions: Tensor | None) -> Tensor:
        sizes.append(len(idx))
        return bigram(idx, positions)

    expected = evaluate(bigram, ROWS, 10)
    monkeypatch.setattr(microgpt.model.evaluation, "TOKENS_AT_ONCE", tokens_at_once)
    result = evaluate(counting, ROWS, 10)
    assert (result.loss, result.bpc) == pytest.approx((expected.loss, expected.bpc), rel=1e-6)
    assert len(sizes) == calls
    assert sum(sizes) == len(ROWS)


def test_the_loss_of_a_uniform_model_is_ln_of_the_vocabulary_size() -> None:
    assert evaluate(uniform, ROWS, 7).loss == pytest.approx(math.log(4), rel=1e-6)


@pytest.mark.parametrize(("chars", "bpc"), [(7, 14 / 7), (10, 14 / 10)])
def test_bits_per_character_have_the_value_computed_by_hand(chars: int, bpc: float) -> None:
    """Seven tokens of two bits each. Three are BOS; if BOS counts as two characters, there are ten characters."""
    assert evaluate(uniform, ROWS, chars).bpc == pytest.approx(bpc, rel=1e-6)


def test_the_total_loss_is_a_float64_sum_and_an_evaluation_holds_its_means() -> None:
    total = total_loss(bigram, ROWS)
    assert total.dtype == torch.float64 and total.ndim == 0
    assert Evaluation.of(total.item(), 7, 10) == evaluate(bigram, ROWS, 10)
    result = Evaluation.of(14 * math.log(2), 7, 10)
    assert (result.loss, result.bpc, result.tokens) == (pytest.approx(2 * math.log(2)), pytest.approx(1.4), 7)


def test_rows_without_targets_have_a_loss_of_0() -> None:
    assert total_loss(bigram, ROWS[:0]).item() == 0


def test_packed_rows_have_the_loss_of_their_documents() -> None:
    torch.manual_seed(0)
    model = GPT(4, ModelConfig(block_size=6, n_embd=8, n_layer=2, n_head=2))
    tokens = torch.tensor(Tokenizer("abc").encode_documents(["abc", "a", "bb", "cabbacab", ""]))
    packed, alone = (evaluate(model, document_rows(tokens, BOS, 6, pack), 19) for pack in (True, False))
    assert packed.tokens == alone.tokens == 19
    assert packed.loss == pytest.approx(alone.loss, rel=1e-5)


def test_evaluation_leaves_no_gradient() -> None:
    model = GPT(4, ModelConfig(block_size=4, n_embd=8, n_layer=1, n_head=2))
    evaluate(model, ROWS, 7)
    assert all(weight.grad is None for weight in model.parameters())
