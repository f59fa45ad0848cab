"""gpt.py: its gradients, its agreement with the torch model, and its samples."""

import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt import gpt
from microgpt.config.schema import ModelConfig, OptimConfig
from microgpt.data.batches import document_rows
from microgpt.data.corpus import Corpus
from microgpt.data.modes import Discrete
from microgpt.data.tokenizer import Tokenizer
from microgpt.model.generation import probabilities
from microgpt.model.transformer import GPT, cross_entropy
from microgpt.training.optimizers import build_optimizer

CHARS = "abcde"
DOCUMENTS = ["abc", "deed", "a", "bad", "acceded", "cab", "beadedacdcabbade", "e", "dada", "add", "bee"]
SHAPES = [(8, 8, 1, 2), (16, 12, 2, 4), (4, 6, 3, 1), (1, 4, 1, 2)]  # block_size, n_embd, n_layer, n_head

# -- autograd ----------------------------------------------------------------------------------------------

numbers = st.integers(-3000, 3000).map(lambda n: n / 1000)
vectors = st.lists(numbers, min_size=2, max_size=6)
OPERATIONS: dict[str, Callable[[list[Any]], Any]] = {
    "+": lambda x: x[0] + x[1],
    "+ number": lambda x: x[0] + 2.5,
    "-": lambda x: x[0] - x[1],
    "*": lambda x: x[0] * x[1],
    "* itself": lambda x: x[0] * x[0],
    "* number": lambda x: x[0] * -1.5,
    "** -0.5": lambda x: (x[0] * x[0] + 1.0) ** -0.5,
    "exp": lambda x: x[0].exp(),
    "relu": lambda x: (x[0] + 5e-4).relu(),  # off the corner, where there is no derivative to compare with
    "dot": lambda x: gpt.dot(x[: len(x) // 2], x[len(x) // 2 : len(x) // 2 * 2]),
    "dot with itself": lambda x: gpt.dot(x, x),
    "logsumexp": gpt.logsumexp,
    "softmax": lambda x: gpt.softmax(x)[-1],
    "norm": lambda x: gpt.norm([*x, gpt.Value(1.0)])[0],
    "all of them": lambda x: gpt.logsumexp(gpt.norm(gpt.softmax([*x, x[0] * x[1] + x[0].exp()]))) - gpt.dot(x, x),
}


def value_of(operation: Callable[[list[Any]], Any], x: list[float]) -> float:
    result = operation([gpt.Value(xi) for xi in x]).data
    gpt.tape.clear()
    return result


@pytest.mark.parametrize("name", OPERATIONS)
@given(x=vectors)
@settings(max_examples=40, deadline=None)
def test_the_gradient_of_each_operation_is_that_of_finite_differences(name: str, x: list[float]) -> None:
    operation, h = OPERATIONS[name], 1e-5
    inputs = [gpt.Value(xi) for xi in x]
    operation(inputs).backward()
    for i, value in enumerate(inputs):
        above, below = (value_of(operation, [*x[:i], x[i] + step, *x[i + 1 :]]) for step in (h, -h))
        assert value.grad == pytest.approx((above - below) / (2 * h), rel=1e-4, abs=1e-6)


def test_gradients_accumulate_until_they_are_taken_and_the_tape_is_cleared() -> None:
    x = gpt.Value(3.0)
    (x * x).backward()
    (x * x).backward()
    assert x.grad == 12
    assert not gpt.tape


def test_backward_through_a_deep_graph_does_not_recurse() -> None:
    x = y = gpt.Value(1.0)
    for _ in range(200_000):
        y = y + x
    y.backward()
    assert x.grad == 200_001
    del y


# -- the torch model ---------------------------------------------------------------------------------------


def two_models(block_size: int, n_embd: int, n_layer: int, n_head: int) -> tuple[gpt.GPT, GPT]:
    """A model of gpt.py and a torch model with the same weights, in float64."""
    ours = gpt.GPT(len(CHARS) + 1, block_size, n_embd, n_layer, n_head, random.Random(1))
    config = ModelConfig(block_size=block_size, n_embd=n_embd, n_layer=n_layer, n_head=n_head)
    theirs = GPT(len(CHARS) + 1, config).double()
    weights = {name: [[w.data for w in row] for row in matrix] for name, matrix in ours.weights.items()}
    theirs.load_state_dict({f"{name}.weight": torch.tensor(w, dtype=torch.float64) for name, w in weights.items()})
    return ours, theirs


def torch_loss(model: GPT, document: str, block_size: int) -> torch.Tensor:
    tokenizer = Tokenizer(CHARS)
    rows = document_rows(torch.tensor(tokenizer.encode_documents([document])), tokenizer.bos, block_size, pack=False)
    logits = model(rows.idx)
    logits.retain_grad()
    # As cross_entropy, which computes in float32.
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows.targets.flatten(), ignore_index=-1)
    assert nats.item() == pytest.approx(cross_entropy(logits, rows.targets).item() / rows.n_targets, rel=1e-6)
    return nats


def our_loss(model: gpt.GPT, document: str) -> gpt.Value:
    nats = list(gpt.losses(model, document, CHARS))
    assert len(nats) == len(document) + 1
    return gpt.dot(nats, [gpt.Value(1 / len(nats))] * len(nats))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_weights_give_the_same_logits(shape: tuple[int, int, int, int]) -> None:
    ours, theirs = two_models(*shape)
    tokens = [5, 0, 3, 2, 2, 4, 1, 0][: shape[0]]
    cache = ours.empty_cache()
    logits = [[logit.data for logit in ours(token, cache)] for token in tokens]
    gpt.tape.clear()
    torch.testing.assert_close(torch.tensor([logits]).double(), theirs(torch.tensor([tokens])), rtol=0, atol=1e-6)
    exact = torch.tensor([logits], dtype=torch.float64)
    torch.testing.assert_close(exact, theirs(torch.tensor([tokens])), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("document", ["a", "acceded", "beadedacdcabbade"])
def test_the_same_weights_give_the_same_loss_and_gradients(shape: tuple[int, int, int, int], document: str) -> None:
    ours, theirs = two_models(*shape)
    loss = our_loss(ours, document)
    loss.backward()
    other = torch_loss(theirs, document, shape[0])
    other.backward()
    assert loss.data == pytest.approx(other.item(), rel=1e-9, abs=1e-9)
    expected = dict(theirs.named_parameters())
    assert set(expected) == {f"{name}.weight" for name in ours.weights}
    for name, matrix in ours.weights.items():
        grads = torch.tensor([[weight.grad for weight in row] for row in matrix], dtype=torch.float64)
        assert grads.abs().sum() > 0 or "attention.q" in name or "attention.k" in name  # one token has one choice
        torch.testing.assert_close(grads, expected[f"{name}.weight"].grad, rtol=1e-9, atol=1e-9)


def test_ten_steps_of_adam_with_clipped_gradients_give_the_same_losses() -> None:
    ours, theirs = two_models(8, 8, 2, 2)
    for row in ours.weights["head"]:  # for gradients that are large enough
        for weight in row:
            weight.data *= 50
    theirs.head.weight.data *= 50
    parameters = ours.parameters()
    m, v = [0.0] * len(parameters), [0.0] * len(parameters)
    optimizer = build_optimizer(theirs, OptimConfig("adam", lr=0.01, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.0))
    clipped = 0.0
    for step in range(1, 11):
        document = DOCUMENTS[step]
        loss, other = our_loss(ours, document), torch_loss(theirs, document, 8)
        assert loss.data == pytest.approx(other.item(), rel=1e-9)
        loss.backward()
        gpt.adam(parameters, m, v, step, 0.01 * (1 - (step - 1) / 10))
        other.backward()
        clipped += sum(float((p.grad.abs() > 1).sum()) for p in theirs.parameters() if p.grad is not None)
        torch.nn.utils.clip_grad_value_(theirs.parameters(), 1.0)
        optimizer.scale_lr(1 - (step - 1) / 10)
        optimizer.step()
        optimizer.zero_grad()
    assert clipped > 100


def test_its_weights_are_drawn_as_those_of_the_torch_model() -> None:
    ours = gpt.GPT(30, 16, 48, 2, 4, random.Random(1))
    theirs = GPT(30, ModelConfig(block_size=16, n_embd=48, n_layer=2, n_head=4))
    for name, weight in theirs.named_parameters():
        mine = torch.tensor([[w.data for w in row] for row in ours.weights[name.removesuffix(".weight")]])
        assert mine.shape == weight.shape
        assert mine.std().item() == pytest.approx(weight.std().item(), rel=0.15)


def test_its_split_equals_the_split_of_the_package() -> None:
    for documents in ([f"name {i}" for i in range(57)], ["a", "b"]):
        train, val = Discrete().split(Corpus.of("names", Discrete(), documents), 7)
        assert gpt.split(documents, 7) == (train.documents, val.documents)


def test_evaluating_is_the_mean_over_tokens_and_leaves_the_tape_empty() -> None:
    model, _ = two_models(8, 8, 1, 2)
    nats = [loss.data for document in DOCUMENTS for loss in gpt.losses(model, document, CHARS)]
    gpt.tape.clear()
    assert gpt.evaluate(model, DOCUMENTS, CHARS) == pytest.approx(sum(nats) / len(nats))
    assert not gpt.tape and not any(p.grad for p in model.parameters())


# -- sampling ----------------------------------------------------------------------------------------------

LOGITS = [2.0, 0.0, 1.0, 1.0, -1.0, 1.5]


@pytest.mark.parametrize(
    ("temperature", "topk"), [(1.0, 0), (0.5, 2), (2.0, 3), (1.0, 4), (1.0, 99), (0.0, 0), (0.7, 1)]
)
def test_drawn_frequencies_match_the_probabilities(temperature: float, topk: int) -> None:
    n, rng = 20_000, random.Random(3)
    counts = Counter(gpt.draw(LOGITS, temperature, topk, rng) for _ in range(n))
    expected = probabilities(torch.tensor([LOGITS]), temperature, topk)[0].tolist()
    for token, p in enumerate(expected):
        assert abs(counts[token] - n * p) <= 4.5 * math.sqrt(n * p * (1 - p)), (token, p)
    if topk == 3:
        assert {token for token, p in enumerate(expected) if p} == {0, 5, 2, 3}  # the two that tie are both kept


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("prompt", ["", "ab", "cadabadabadab"])
def test_a_prompt_is_continued_as_the_torch_model_does(shape: tuple[int, int, int, int], prompt: str) -> None:
    from microgpt.model.generation import generate

    ours, theirs = two_models(*shape)
    text = gpt.generate(ours, CHARS, random.Random(0), prompt, temperature=0, max_tokens=20)
    tokenizer = Tokenizer(CHARS)
    ids = tokenizer.encode_documents([prompt])[:-1]
    (expected,) = generate(theirs, ids, torch.zeros(1, 20), temperature=0, stop=tokenizer.bos)
    assert text == prompt + tokenizer.decode(expected)
    assert not gpt.tape


def test_samples_longer_than_the_block_are_continued_and_seeded() -> None:
    model, _ = two_models(4, 6, 1, 2)
    texts = [gpt.generate(model, CHARS, random.Random(i), max_tokens=30) for i in (*range(30), *range(30))]
    assert texts[:30] == texts[30:] and len(set(texts)) > 20
    assert max(map(len, texts)) > 4 and all(len(text) <= 30 for text in texts)


def test_an_unknown_character_is_named() -> None:
    with pytest.raises(ValueError, match="the corpus holds no 'é'; use characters of: abcde"):
        gpt.generate(two_models(4, 6, 1, 2)[0], CHARS, random.Random(0), "cadébà")


# -- documents and pictures --------------------------------------------------------------------------------


def test_documents_are_the_distinct_lines_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    file.write_bytes("\ufeffone\r\n\n  two \none\ncafe\u0301\nthree\u2028four\n".encode())
    assert gpt.read_documents(file) == ["one", "two", "café", "three\u2028four"]


def test_without_a_file_documents_are_the_same_on_every_python() -> None:
    documents = gpt.read_documents("")
    assert len(documents) == 494 and {"cyclone", "cat", "see-no-evil"} & set(documents) == {"cyclone", "cat"}


def test_a_sparkline_is_ascii_and_follows_the_values() -> None:
    assert gpt.sparkline([6, 5, 4, 3, 2, 1]) == "^*=-._"
    assert gpt.sparkline([1.0] * 5) == "_____"
    line = gpt.sparkline([100 - i for i in range(1000)])
    assert len(line) == 32 and line.isascii()
    assert [gpt.HEIGHTS.index(c) for c in line] == sorted((gpt.HEIGHTS.index(c) for c in line), reverse=True)
    assert gpt.sparkline([0, 0, 9, 9, 0, 0], width=3) == "_^_"  # means of two
