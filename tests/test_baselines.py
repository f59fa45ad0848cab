"""The ladder of counting models, against a second implementation, probabilities that sum to one, and known figures."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence

import pytest
import torch
from conftest import CORPORA, needs_corpora

from microgpt.baselines import RUNGS, ladder, relabel, verdict
from microgpt.batches import split_documents
from microgpt.datasets import read_corpus
from microgpt.tokenizer import Tokenizer

Context = tuple[tuple[int, ...], int]  # tokens, and how many were wanted, of which a document's beginning has less


class KneserNey:
    """The same model in dicts and recursion, straight from the formula."""

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
    """What a model may look at before token i: back to the boundary, itself included."""
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


@pytest.mark.parametrize("boundary", [3, None], ids=["documents", "a running text"])
def test_each_rung_is_what_a_second_implementation_computes(boundary: int | None) -> None:
    train, scored = documents_of(40, 1), documents_of(12, 2)
    losses = ladder(torch.tensor(train), torch.tensor(scored), 4, boundary)
    assert list(losses) == list(RUNGS) and losses["uniform"] == math.log(4)
    for order, name in enumerate(RUNGS[1:], 1):
        model = KneserNey(train, 4, boundary, order)
        nats = [-math.log(model.p(context_of(scored, i, boundary), scored[i])) for i in range(1, len(scored))]
        assert losses[name] == pytest.approx(sum(nats) / len(nats), rel=1e-9), name


@pytest.mark.parametrize("boundary", [3, None])
def test_probabilities_of_all_tokens_sum_to_one(boundary: int | None) -> None:
    train = torch.tensor(documents_of(30, 1))
    for history in ([3, 0], [3, 2, 2, 2], [1, 0, 1, 1]):
        for name in RUNGS[1:]:
            # The loss of one token more is its -log p: the mean over n, times n, less that over n - 1.
            before = ladder(train, torch.tensor(history), 4, boundary)[name] * (len(history) - 1)
            p = [
                math.exp(before - ladder(train, torch.tensor([*history, token]), 4, boundary)[name] * len(history))
                for token in range(4)
            ]
            assert sum(p) == pytest.approx(1) and min(p) > 0


def test_documents_do_not_look_at_each_other() -> None:
    train, scored = documents_of(40, 1), documents_of(12, 2)
    parts = " ".join(map(str, scored)).split("3")[1:-1]
    order = random.Random(0).sample(parts, len(parts))
    shuffled = [3, *(int(x) for part in order for x in (*part.split(), "3"))]
    assert shuffled != scored
    same, other = (ladder(torch.tensor(train), torch.tensor(s), 4, 3) for s in (scored, shuffled))
    assert other == pytest.approx(same)


def test_a_vocabulary_too_large_to_mark_each_code_gives_the_same_ids() -> None:
    codes = torch.tensor([7, 3, 7, 900, 3])
    few, n = relabel(codes, 1000)
    many, m = relabel(codes, 1 << 29)
    assert few.tolist() == many.tolist() == [1, 0, 1, 2, 0] and n == m == 3


@needs_corpora
def test_on_names_the_ladder_is_where_it_is_known_to_be() -> None:
    corpus = read_corpus("names", "discrete", reader="text", path=CORPORA / "names.txt")
    tokenizer = Tokenizer.of(corpus.documents)
    parts = [torch.tensor(tokenizer.encode_documents(part)) for part in split_documents(corpus.documents, 1337)]
    losses = ladder(parts[0], parts[1], tokenizer.vocab_size, tokenizer.bos)
    assert list(losses.values())[:5] == pytest.approx([3.30, 2.83, 2.46, 2.22, 2.09], abs=0.025)
    assert losses["5-gram"] < losses["4-gram"]


LOSSES = dict(zip(RUNGS, [3.3, 2.8, 2.5, 2.2, 2.1, 2.0], strict=True))


@pytest.mark.parametrize(
    ("loss", "clause"),
    [
        (1.9, "better than any counting model, up to 5-grams (2.000)"),
        (2.05, "better than the 4-gram counting model (2.100), not as good as the 5-gram counting model (2.000)"),
        (2.6, "better than the unigram counting model (2.800), not as good as the 5-gram counting model (2.000)"),
        (4.0, "not as good as the 5-gram counting model (2.000)"),
    ],
)
def test_the_verdict_names_the_rungs_that_were_passed_and_the_best_that_was_not(loss: float, clause: str) -> None:
    assert verdict(loss, LOSSES) == clause
