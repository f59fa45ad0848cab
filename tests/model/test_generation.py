"""Sampling: the distribution, the draws, and that the cache does not change the samples."""

from itertools import accumulate
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from microgpt.config.schema import ModelConfig
from microgpt.model.generation import draw, generate, probabilities, random_draws, stream
from microgpt.model.transformer import GPT

VOCAB = 9
MODERN = {"rotary": True, "qk_norm": True, "activation": "relu_squared", "final_norm": True}
ALMOST_1 = 1 - 2**-53


def gpt(block_size: int = 8, **switches: Any) -> GPT:
    """A float64 model: its logits do not depend on the number of rows in the batch."""
    torch.manual_seed(0)
    config = ModelConfig(block_size=block_size, n_embd=12, n_layer=2, n_head=3, **switches)
    return GPT(VOCAB, config).double()


def logits_of(*probs: float) -> Tensor:
    return torch.tensor([probs], dtype=torch.float64).log()


def kept(probs: Tensor) -> list[int]:
    """The tokens of one row that can be drawn."""
    return (probs[0] > 0).nonzero().flatten().tolist()


def slow_sample(model: GPT, prompt: list[int], uniforms: Tensor, temperature: float) -> list[int]:
    """One continuation without a cache: the whole context is read for each token.

    When the context is longer than the block, only its last half block of tokens is kept.
    """
    context, sample = prompt[-model.block_size :], []
    for uniform in uniforms:
        logits = model(torch.tensor([context]))[:, -1]
        token = int(draw(probabilities(logits, temperature), uniform[None]))
        sample.append(token)
        context = [*context, token]
        if len(context) > model.block_size:
            context = context[-max(1, model.block_size // 2) :]
    return sample


@pytest.mark.parametrize(("temperature", "power"), [(1.0, 1), (0.5, 2), (0.25, 4)])
def test_temperature_is_an_exponent(temperature: float, power: int) -> None:
    weights = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64) ** power
    found = probabilities(logits_of(0.5, 0.3, 0.2), temperature)
    torch.testing.assert_close(found, weights / weights.sum())


def test_temperature_0_leaves_the_likeliest_token_of_each_row() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 3.0, 4.0]])
    assert probabilities(logits, 0).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_temperature_0_leaves_one_token_where_several_tie() -> None:
    assert len(kept(probabilities(torch.zeros(1, 5), 0))) == 1


@pytest.mark.parametrize(
    ("top_k", "expected"),
    [(0, [0, 1, 2, 3]), (1, [2]), (2, [0, 2]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])],
)
def test_top_k_keeps_the_k_likeliest(top_k: int, expected: list[int]) -> None:
    assert kept(probabilities(logits_of(0.3, 0.2, 0.4, 0.1), 1.0, top_k=top_k)) == expected


@pytest.mark.parametrize(("top_k", "expected"), [(1, [3]), (2, [0, 1, 3]), (3, [0, 1, 3])])
def test_top_k_keeps_tokens_that_tie_with_the_kth(top_k: int, expected: list[int]) -> None:
    assert kept(probabilities(logits_of(0.2, 0.2, 0.1, 0.5), 1.0, top_k=top_k)) == expected


def test_top_k_keeps_the_ratios() -> None:
    found = probabilities(logits_of(0.3, 0.2, 0.4, 0.1), 1.0, top_k=2)
    torch.testing.assert_close(found, torch.tensor([[3, 0, 4, 0]], dtype=torch.float64) / 7)


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.01, [2]),
        (0.49, [2]),
        (0.51, [0, 2]),
        (0.74, [0, 2]),
        (0.76, [0, 1, 2]),
        (0.9, [0, 1, 2, 3]),
        (1.0, [0, 1, 2, 3]),
    ],
)
def test_top_p_keeps_the_fewest_likeliest_that_reach_it(top_p: float, expected: list[int]) -> None:
    """The cumulative probabilities of the sorted tokens are 0.5, 0.75, 0.875 and 1."""
    assert kept(probabilities(logits_of(0.25, 0.125, 0.5, 0.125), 1.0, top_p=top_p)) == expected


def test_top_p_reached_exactly_takes_no_further_token() -> None:
    assert kept(probabilities(torch.zeros(1, 4), 1.0, top_p=0.5)) == [0, 1]


def test_top_p_keeps_the_ratios() -> None:
    found = probabilities(logits_of(0.25, 0.125, 0.5, 0.125), 1.0, top_p=0.7)
    torch.testing.assert_close(found / found.sum(), torch.tensor([[1, 0, 2, 0]], dtype=torch.float64) / 3)


def test_top_p_is_applied_after_top_k() -> None:
    """Of weights 4, 3, 2, 1 top_k leaves the probabilities 4/7 and 3/7; the first alone exceeds one half."""
    assert kept(probabilities(logits_of(0.4, 0.3, 0.2, 0.1), 1.0, top_k=2, top_p=0.5)) == [0]


def test_top_p_0_leaves_the_likeliest_token() -> None:
    assert kept(probabilities(logits_of(0.25, 0.125, 0.5, 0.125), 1.0, top_p=0.0)) == [2]


@pytest.mark.parametrize("temperature", [0, 0.1, 1.0, 3.0])
@pytest.mark.parametrize("top_k", [0, 1, 4])
@pytest.mark.parametrize("top_p", [1.0, 0.6])
def test_probabilities_sum_to_1(temperature: float, top_k: int, top_p: float) -> None:
    logits = torch.randn(20, VOCAB, generator=torch.Generator().manual_seed(0)) * 3
    sums = probabilities(logits, temperature, top_k, top_p).sum(1)
    torch.testing.assert_close(sums, torch.ones(20, dtype=torch.float64))


some_weights = st.lists(st.just(0.0) | st.floats(1e-9, 1), min_size=1, max_size=12).filter(any)


@settings(deadline=None)
@given(weights=some_weights, uniform=st.just(0.0) | st.just(ALMOST_1) | st.floats(0, ALMOST_1))
@example(weights=[0.0, 0.5, 0.0, 0.5, 0.0], uniform=0.0)
@example(weights=[0.0, 0.5, 0.0, 0.5, 0.0], uniform=0.5)
@example(weights=[0.0, 0.5, 0.0, 0.5, 0.0], uniform=ALMOST_1)
def test_draw_inverts_the_cdf_and_takes_no_token_of_probability_0(weights: list[float], uniform: float) -> None:
    probs, number = (torch.tensor(x, dtype=torch.float64) for x in (weights, uniform))
    token = int(draw(probs[None] / probs.sum(), number[None]))
    below = [0.0, *accumulate(weights)]
    assert weights[token] > 0
    assert below[token] - 1e-9 <= uniform * below[-1] <= below[token + 1] + 1e-9


def test_draw_gives_the_tokens_computed_by_hand() -> None:
    probs = torch.tensor([0.25, 0.0, 0.5, 0.25])
    numbers = torch.tensor([0.0, 0.24, 0.25, 0.5, 0.74, 0.75, 0.99])
    assert draw(probs.expand(7, -1), numbers).tolist() == [0, 0, 2, 2, 2, 3, 3]


def test_drawn_frequencies_match_the_probabilities() -> None:
    """20,000 draws: five standard deviations of a frequency are at most 0.018."""
    probs = torch.tensor([0.05, 0.5, 0.0, 0.15, 0.3])
    drawn = draw(probs.expand(20_000, -1), random_draws(20_000, 1, seed=0)[:, 0])
    torch.testing.assert_close(drawn.bincount(minlength=5) / 20_000, probs, rtol=0, atol=0.018)


@settings(deadline=None)
@given(few=st.integers(1, 8), more=st.integers(0, 30), max_tokens=st.integers(1, 40), seed=st.integers(0, 99))
def test_the_first_rows_of_random_draws_are_the_same_for_more_samples(
    few: int, more: int, max_tokens: int, seed: int
) -> None:
    draws = random_draws(few + more, max_tokens, seed)
    assert torch.equal(draws[:few], random_draws(few, max_tokens, seed))
    assert ((draws >= 0) & (draws < 1)).all()


def test_random_draws_differ_between_seeds() -> None:
    assert not torch.equal(random_draws(2, 3, seed=0), random_draws(2, 3, seed=1))


@pytest.mark.parametrize("switches", [{}, MODERN], ids=["plain", "modern"])
@pytest.mark.parametrize("temperature", [0.0, 1.0], ids=["greedy", "random"])
@pytest.mark.parametrize("n_prompt", [1, 3, 8, 9, 20])
def test_generation_with_the_cache_equals_generation_without_it(
    switches: dict[str, Any], temperature: float, n_prompt: int
) -> None:
    """Also for samples and prompts longer than the block, where the context is cut to its last half block."""
    model, prompt, draws = gpt(**switches), [i % VOCAB for i in range(n_prompt)], random_draws(3, 30, seed=1)
    samples = generate(model, prompt, draws, temperature=temperature)
    assert samples == [slow_sample(model, prompt, row, temperature) for row in draws]


@pytest.mark.parametrize("block_size", [1, 2, 3])
def test_the_smallest_blocks_generate_too(block_size: int) -> None:
    model, draws = gpt(block_size), random_draws(2, 12, seed=2)
    assert generate(model, [1, 2], draws) == [slow_sample(model, [1, 2], row, 1.0) for row in draws]


def test_of_a_prompt_longer_than_the_block_only_the_end_is_used() -> None:
    model, draws = gpt(), random_draws(2, 10, seed=3)
    prompt = [1, 2, 3, 4, 5, 6, 7, 8]
    assert generate(model, [0, 5, 0, *prompt], draws) == generate(model, prompt, draws)
    assert generate(model, [*prompt, 0], draws) != generate(model, prompt, draws)


def test_a_sample_ends_before_the_stop_token() -> None:
    model, draws = gpt(), random_draws(20, 25, seed=4)
    endless = generate(model, [0], draws)
    stopped = generate(model, [0], draws, stop=5)
    assert stopped == [sample[: sample.index(5)] if 5 in sample else sample for sample in endless]
    lengths = set(map(len, stopped))
    assert min(lengths) < 5 < max(lengths), "samples end at different places"


def test_a_sample_may_end_before_its_first_token() -> None:
    model, draws = gpt(), random_draws(3, 5, seed=0)
    (likeliest, *_), *_ = generate(model, [0], draws, temperature=0)
    assert generate(model, [0], draws, temperature=0, stop=likeliest) == [[], [], []]


@pytest.mark.parametrize("n_samples", [1, 2, 7])
def test_a_sample_does_not_depend_on_how_many_others_are_drawn(n_samples: int) -> None:
    model = gpt()
    many = generate(model, [0], random_draws(12, 20, seed=5), stop=5)
    assert generate(model, [0], random_draws(n_samples, 20, seed=5), stop=5) == many[:n_samples]


@pytest.mark.parametrize("max_tokens", [0, 1, 13])
def test_a_sample_has_as_many_tokens_as_it_has_draws(max_tokens: int) -> None:
    samples = generate(gpt(), [0], random_draws(4, max_tokens, seed=0))
    assert list(map(len, samples)) == [max_tokens] * 4


def test_generate_applies_top_k_and_top_p() -> None:
    model, draws = gpt(), random_draws(2, 20, seed=6)
    greedy = generate(model, [0], draws, temperature=0)
    assert generate(model, [0], draws) != greedy
    assert generate(model, [0], draws, top_k=1) == greedy
    assert generate(model, [0], draws, top_p=1e-6) == greedy


def test_the_stream_yields_one_token_of_each_unfinished_sample_per_step() -> None:
    model, draws = gpt(), random_draws(6, 15, seed=7)
    samples = generate(model, [0], draws, stop=5)
    for i, step in enumerate(stream(model, [0], draws, stop=5)):
        assert step == [(sample, ids[i]) for sample, ids in enumerate(samples) if len(ids) > i]


@pytest.mark.parametrize("temperature", [1e-6, 1e-40, 1e-300])
def test_a_tiny_temperature_leaves_the_likeliest_token(temperature: float) -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [-80.0, -90.0, -85.0]])
    assert probabilities(logits, temperature).tolist() == [[0, 1, 0], [1, 0, 0]]
