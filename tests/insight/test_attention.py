"""Predictions and attention maps: the same as what the forward pass of the model computes."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from microgpt.config.schema import ModelConfig
from microgpt.data.batches import Rows, window_rows, windows
from microgpt.insight.attention import attention_maps, predictions
from microgpt.model.transformer import GPT, Attention

MODERN: dict[str, Any] = {"rotary": True, "qk_norm": True, "activation": "relu_squared", "final_norm": True}


def make_model(**settings: Any) -> GPT:
    torch.manual_seed(0)
    return GPT(11, ModelConfig(n_embd=16, n_layer=3, n_head=4, block_size=8, **settings))


def draw_ids(n: int) -> list[int]:
    return torch.randint(11, (n,), generator=torch.Generator().manual_seed(1)).tolist()


@pytest.mark.parametrize("settings", [{}, MODERN, {"ngrams": 3, "ngram_rows": 20}])
def test_the_attention_maps_are_those_of_the_forward_pass(settings: dict[str, Any]) -> None:
    """The values weighted by the maps and projected equal the output of the attention module."""
    model, idx = make_model(**settings), torch.tensor([draw_ids(7)])
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, _: object, output: Tensor) -> None:
        outputs[module] = output

    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    for part in (part for a in attentions for part in (a, a.v)):
        part.register_forward_hook(keep)
    maps = attention_maps(model, idx)
    assert len(maps) == len(attentions) == 3
    for attention, shares in zip(attentions, maps, strict=True):
        assert shares.shape == (4, 7, 7)
        mixed = shares @ attention.heads(outputs[attention.v])[0]  # (H, T, D)
        expected = outputs[attention][0]
        torch.testing.assert_close(attention.proj(mixed.transpose(0, 1).flatten(1)), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(shares.sum(-1), torch.ones(4, 7))
        assert not shares.triu(1).any()


def test_computing_attention_maps_does_not_change_the_model() -> None:
    model, idx = make_model(), torch.tensor([draw_ids(7)])
    before = model(idx)
    attention_maps(model, idx)
    assert torch.equal(model(idx), before)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("settings", [{}, MODERN])
def test_a_text_of_a_block_is_scored_as_by_one_forward_pass(settings: dict[str, Any]) -> None:
    model, ids = make_model(**settings), draw_ids(9)
    with torch.no_grad():
        logprobs = model(torch.tensor([ids[:-1]]))[0].double().log_softmax(-1)
    found = predictions(model, ids)
    assert [p.token for p in found] == ids[1:]
    for t, prediction in enumerate(found):
        assert prediction.bits == pytest.approx(-logprobs[t, ids[t + 1]].item() / math.log(2))
        assert prediction.rank == 1 + logprobs[t].argsort(descending=True).tolist().index(ids[t + 1])
        assert prediction.start == 0 and prediction.attention.shape == (3, 4, t + 1)


def test_a_longer_text_is_scored_window_by_window() -> None:
    model, ids = make_model(), draw_ids(30)
    found = predictions(model, ids)
    assert [p.token for p in found] == ids[1:]
    for i, prediction in enumerate(found):
        with torch.no_grad():
            logits = model(torch.tensor([ids[prediction.start : i + 1]]))[0, -1]
        torch.testing.assert_close(prediction.logprobs, logits.double().log_softmax(-1), rtol=1e-5, atol=1e-6)
        assert prediction.attention.size(-1) == i + 1 - prediction.start <= 8
    assert [p.start for p in found[:14]] == [0] * 8 + [4] * 4 + [8] * 2


def test_the_likeliest_tokens_are_sorted_by_probability() -> None:
    (prediction,) = predictions(make_model(), draw_ids(2))
    likeliest = prediction.likeliest(99)
    assert len(likeliest) == 11 and sum(p for _, p in likeliest) == pytest.approx(1)
    assert likeliest == sorted(likeliest, key=lambda pair: -pair[1])
    assert likeliest[prediction.rank - 1] == (prediction.token, pytest.approx(2**-prediction.bits))
    assert prediction.likeliest(3) == likeliest[:3]


@pytest.mark.parametrize("block_size", [1, 2, 5, 8])
@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 30])
def test_windows_predict_each_token_once_from_half_a_block_or_more(n: int, block_size: int) -> None:
    found = list(windows(n, block_size))
    assert [i for _, first, stop in found for i in range(first, stop)] == list(range(n))
    for start, first, stop in found:
        assert 0 <= start <= first < stop <= start + block_size
        assert start == 0 or first - start >= block_size // 2


def targets_of(rows: Rows) -> list[int]:
    return rows.targets[rows.targets >= 0].tolist()


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("block_size", [1, 2, 5, 8])
@pytest.mark.parametrize("n", [1, 2, 8, 9, 10, 30])
def test_rows_of_windows_predict_each_token_once_from_the_tokens_before_it(
    n: int, block_size: int, positions: bool
) -> None:
    tokens = torch.arange(100, 100 + n)
    rows = window_rows(tokens, block_size, positions)
    assert targets_of(rows) == tokens[1:].tolist() and rows.idx.size(1) == block_size
    for (start, first, stop), idx, targets in zip(windows(n - 1, block_size), rows.idx, rows.targets, strict=True):
        assert idx[: stop - start].tolist() == tokens[start:stop].tolist()
        assert (targets >= 0).nonzero().flatten().tolist() == list(range(first - start, stop - start))
    assert (rows.positions is not None) == positions
    if rows.positions is not None:
        assert rows.positions.tolist() == [list(range(block_size))] * len(rows)


@pytest.mark.parametrize("settings", [{}, MODERN])
@pytest.mark.parametrize("positions", [False, True])
def test_rows_of_windows_give_the_logits_of_the_predictions(settings: dict[str, Any], positions: bool) -> None:
    model, ids = make_model(**settings), draw_ids(30)
    rows = window_rows(torch.tensor(ids), model.block_size, positions)
    with torch.no_grad():
        logprobs = model(rows.idx, rows.positions).double().log_softmax(-1)[rows.targets >= 0]
    expected = torch.stack([prediction.logprobs for prediction in predictions(model, ids)])
    torch.testing.assert_close(logprobs, expected, rtol=1e-5, atol=1e-6)
