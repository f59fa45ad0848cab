"""The n-gram baselines, against a second implementation, probabilities that sum to one, and known figures."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from settings import CORPORA, needs_corpora

from microgpt.config.schema import DatasetConfig
from microgpt.data.loading import Data, load_data
from microgpt.insight import baselines
from microgpt.insight.baselines import NAMES, corpus_baselines, count_windows, number_codes, verdict


def baseline_losses(
    train: torch.Tensor, scored: torch.Tensor, vocab_size: int, boundary: int | None
) -> dict[str, float]:
    """The losses of all baselines on the tokens (M,) of `scored`."""
    counted, held_out = (count_windows(tokens.numpy(), vocab_size, boundary, 5) for tokens in (train, scored))
    return baselines.baseline_losses(counted, held_out, vocab_size)


Context = tuple[tuple[int, ...], int]  # tokens, and how many were wanted, of which a document's beginning has less


class KneserNey:
    """The same model with dictionaries and recursion, as in the formula."""

    def __init__(self, train: Sequence[int], vocab_size: int, boundary: int | None, order: int) -> None:
        self.vocab_size, self.order = vocab_size, order
        self.counts: list[dict[Context, Counter[int]]] = [defaultdict(Counter) for _ in range(order)]
        before: list[dict[Context, dict[int, set[tuple[int, ...]]]]] = [
            defaultdict(lambda: defaultdict(set)) for _ in range(order)
        ]
        for i in range(1, len(train)):
            history = context_of(train, i, boundary)
            for n in range(order):
                context = history[len(history) - n :] if n <= len(history) else history
                longer = history[len(history) - n - 1 :] if n + 1 <= len(history) else history
                if n == order - 1:
                    self.counts[n][context, n][train[i]] += 1
                else:
                    before[n][context, n][train[i]].add(longer)
        for n in range(order - 1):
            for context, followers in before[n].items():
                for token, kinds in followers.items():
                    self.counts[n][context][token] = len(kinds)

    def p(self, history: tuple[int, ...], token: int, n: int | None = None) -> float:
        n = self.order - 1 if n is None else n
        if n < 0:
            return 1 / self.vocab_size
        context = history[len(history) - n :] if n <= len(history) else history
        lower = self.p(history, token, n - 1)
        followers = self.counts[n].get((context, n))
        if not followers:
            return lower
        every = Counter(count for c in self.counts[n].values() for count in c.values())
        discount = every[1] / (every[1] + 2 * every[2]) if every[1] and every[2] else 0.5
        total = sum(followers.values())
        return (max(followers[token] - discount, 0) + discount * len(followers) * lower) / total


def context_of(tokens: Sequence[int], i: int, boundary: int | None) -> tuple[int, ...]:
    """The tokens before token i that a model reads: back to the boundary, itself included."""
    start = 0
    if boundary is not None:
        start = max((j for j in range(i) if tokens[j] == boundary), default=0)
    return tuple(tokens[start:i])


def documents_of(n: int, seed: int) -> list[int]:
    rng, tokens = random.Random(seed), [3]
    for _ in range(n):
        tokens += rng.choices([0, 1, 2], weights=[5, 3, 1], k=rng.randint(1, 6))
        tokens.append(3)
    return tokens


@pytest.mark.parametrize("vocab_size", [4, 300, 70_000])  # whose codes take 32 bits, 64 bits, or are hashed
@pytest.mark.parametrize("boundary", [3, None], ids=["documents", "a running text"])
def test_each_baseline_equals_a_second_implementation(
    boundary: int | None, vocab_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "TOKENS_AT_ONCE", 50)
    train, scored = documents_of(40, 1), documents_of(12, 2)
    losses = baseline_losses(torch.tensor(train), torch.tensor(scored), vocab_size, boundary)
    assert list(losses) == list(NAMES) and losses["uniform"] == math.log(vocab_size)
    for order, name in enumerate(NAMES[1:], 1):
        model = KneserNey(train, vocab_size, boundary, order)
        nats = [-math.log(model.p(context_of(scored, i, boundary), scored[i])) for i in range(1, len(scored))]
        assert losses[name] == pytest.approx(sum(nats) / len(nats), rel=1e-9), name


@pytest.mark.parametrize("boundary", [3, None])
def test_probabilities_of_all_tokens_sum_to_one(boundary: int | None) -> None:
    train = torch.tensor(documents_of(30, 1))
    for history in ([3, 0], [3, 2, 2, 2], [1, 0, 1, 1]):
        for name in NAMES[1:]:
            # The loss of one token more is its -log p: the mean over n, times n, less that over n - 1.
            before = baseline_losses(train, torch.tensor(history), 4, boundary)[name] * (len(history) - 1)
            p = [
                math.exp(
                    before - baseline_losses(train, torch.tensor([*history, token]), 4, boundary)[name] * len(history)
                )
                for token in range(4)
            ]
            assert sum(p) == pytest.approx(1) and min(p) > 0


def test_no_document_is_context_of_another() -> None:
    train, scored = documents_of(40, 1), documents_of(12, 2)
    parts = " ".join(map(str, scored)).split("3")[1:-1]
    order = random.Random(0).sample(parts, len(parts))
    shuffled = [3, *(int(x) for part in order for x in (*part.split(), "3"))]
    assert shuffled != scored
    same, other = (baseline_losses(torch.tensor(train), torch.tensor(s), 4, 3) for s in (scored, shuffled))
    assert other == pytest.approx(same)


def test_ngram_codes_too_large_for_a_table_give_the_same_losses() -> None:
    codes = torch.tensor([7, 3, 7, 900, 3])
    few, n = number_codes(codes, 1000)
    many, m = number_codes(codes, 1 << 29)
    assert few.tolist() == many.tolist() == [1, 0, 1, 2, 0] and n == m == 3


@needs_corpora
def test_on_names_the_baselines_have_their_known_losses() -> None:
    data = load_data(DatasetConfig(name="names", path=str(CORPORA / "names.txt")), 1337, CORPORA)
    losses = baseline_losses(data.train.tokens, data.val.tokens, data.tokenizer.vocab_size, data.tokenizer.bos)
    assert list(losses.values())[:5] == pytest.approx([3.30, 2.83, 2.46, 2.22, 2.09], abs=0.025)
    assert losses["5-gram"] < losses["4-gram"]


LOSSES = dict(zip(NAMES, [3.3, 2.8, 2.5, 2.2, 2.1, 2.0], strict=True))


@pytest.mark.parametrize(
    ("loss", "clause"),
    [
        (1.9, "better than all n-gram baselines, up to the 5-gram (2.000)"),
        (2.05, "better than the 4-gram baseline (2.100), not as good as the 5-gram baseline (2.000)"),
        (2.6, "better than the unigram baseline (2.800), not as good as the 5-gram baseline (2.000)"),
        (4.0, "not as good as the 5-gram baseline (2.000)"),
    ],
)
def test_the_verdict_names_the_nearest_baseline_that_is_worse_and_the_best_that_is_not(
    loss: float, clause: str
) -> None:
    assert verdict(loss, LOSSES) == clause


def load_names(folder: Path, seed: int = 1) -> Data:
    file = folder / "names.txt"
    file.write_text("".join(f"{a}{b}{c}\n" for a in "kmnt" for b in "aeiou" for c in ("ra", "lin")))
    return load_data(DatasetConfig(name="file", path=str(file)), seed, folder)


def test_ngrams_are_counted_once_for_a_corpus_and_a_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    counted = []
    losses = baselines.baseline_losses
    monkeypatch.setattr(baselines, "baseline_losses", lambda *windows: counted.append(windows) or losses(*windows))
    data = load_names(tmp_path)
    first = corpus_baselines(data)
    assert list(first) == list(NAMES)
    assert corpus_baselines(data) == first and len(counted) == 1
    assert corpus_baselines(load_names(tmp_path, seed=7)) != first and len(counted) == 2
    for file in (tmp_path / "cache").rglob("*.json"):
        file.write_text("{")  # damaged: counted again
    assert corpus_baselines(data) == first and len(counted) == 3


def test_a_cache_that_cannot_be_written_is_not_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert list(corpus_baselines(load_names(tmp_path))) == list(NAMES)


def test_of_a_text_with_too_many_windows_the_last_tokens_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.random.default_rng(0).integers(0, 20, 1000).astype(np.uint8)
    monkeypatch.setattr(baselines, "TOKENS_AT_ONCE", 100)
    monkeypatch.setattr(baselines, "MAX_WINDOWS", 250)
    few = count_windows(tokens, 20, None, 5)
    monkeypatch.setattr(baselines, "MAX_WINDOWS", 10_000)
    last = count_windows(tokens[-305:], 20, None, 5)  # three parts, and the context of their first windows
    assert few.counts.sum() == 300 and set(map(tuple, few.tokens.tolist())) <= set(map(tuple, last.tokens.tolist()))
