"""N-gram embeddings: which n-grams share a row, that none reaches into another document, and that all paths agree."""

from typing import Any

import pytest
import torch
from torch import Tensor

from microgpt.config.schema import ModelConfig
from microgpt.model.ngrams import NgramEmbedding
from microgpt.model.transformer import GPT, cross_entropy

VOCAB, BLOCK = 9, 8
SHAPE: dict[str, Any] = {"block_size": BLOCK, "n_embd": 12, "n_layer": 2, "n_head": 3, "ngrams": 4, "ngram_rows": 50}


def gpt(**options: Any) -> GPT:
    """A float64 model whose n-gram embeddings are not 0."""
    torch.manual_seed(0)
    model = GPT(VOCAB, ModelConfig(**(SHAPE | options))).double()
    assert model.ngram_embedding is not None
    torch.nn.init.normal_(model.ngram_embedding.weight)
    return model


def tokens(*shape: int) -> Tensor:
    return torch.randint(VOCAB, shape, generator=torch.Generator().manual_seed(1))


def test_equal_n_grams_have_one_row_and_different_ones_have_others() -> None:
    embedding = NgramEmbedding(longest=4, rows=2**20, n_embd=2, dropout=0.0)
    idx = torch.tensor([[1, 2, 3, 4, 2, 3, 4, 8, 3, 4]])
    places = embedding.places(idx, None)[0]  # (T, 3)
    assert (places[3] == places[6]).tolist() == [True, True, False]  # 3 4 and 2 3 4, but 1 2 3 4 and 4 2 3 4
    assert (places[3] == places[9]).tolist() == [True, False, False]
    assert [len(column.unique()) for column in places.T] == [7, 9, 10]  # the different 2-, 3- and 4-grams


def test_the_rows_of_each_n_lie_in_a_table_of_their_own_and_are_evenly_used() -> None:
    embedding = NgramEmbedding(longest=3, rows=64, n_embd=2, dropout=0.0)
    pairs = torch.cartesian_prod(torch.arange(80), torch.arange(80))  # 6400 different 2-grams
    places = embedding.places(pairs, None)[:, 1]  # (6400, 2)
    assert places[:, 0].max() < 64 <= places[:, 1].min() and places[:, 1].max() < 128
    counts = places[:, 0].bincount(minlength=64)
    assert counts.min() > 50 and counts.max() < 160  # 100 on average, with a standard deviation of 10


def test_the_result_is_the_sum_of_the_embeddings() -> None:
    embedding = gpt().ngram_embedding
    assert embedding is not None
    idx = tokens(2, 5)
    expected = embedding.weight[embedding.places(idx, None)].sum(2)
    torch.testing.assert_close(embedding(idx), expected)


def test_no_n_gram_reaches_into_another_document() -> None:
    """The logits of documents packed in a row are those of each alone."""
    model, first, second = gpt(), tokens(1, 3), tokens(1, 5)
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4]])
    packed = model(torch.cat((first, second), dim=1), positions)
    torch.testing.assert_close(packed, torch.cat((model(first), model(second)), dim=1))


@pytest.mark.parametrize("n_prompt", [1, 2, 5])
def test_one_token_at_a_time_with_a_cache_gives_the_logits_of_the_full_forward(n_prompt: int) -> None:
    model, idx = gpt(), tokens(2, BLOCK)
    cache = model.empty_cache(2)
    found = [model(idx[:, :n_prompt], cache=cache)]
    found += [model(idx[:, t : t + 1], cache=cache) for t in range(n_prompt, BLOCK)]
    torch.testing.assert_close(torch.cat(found, dim=1), model(idx))


def test_a_new_model_has_the_logits_and_the_weights_of_the_plain_model() -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = SHAPE | {"ngrams": 0}
    plain = GPT(VOCAB, ModelConfig(**options))
    torch.manual_seed(0)
    model = GPT(VOCAB, ModelConfig(**SHAPE))
    assert torch.equal(model(tokens(2, 5)), plain(tokens(2, 5)))
    assert plain.ngram_embedding is None


def test_the_gradient_holds_only_the_rows_that_were_looked_up() -> None:
    model, idx = gpt(), tokens(2, 5)
    cross_entropy(model(idx), idx).backward()
    embedding = model.ngram_embedding
    assert embedding is not None and embedding.weight.grad is not None and embedding.weight.grad.is_sparse
    assert torch.equal(embedding.weight.grad.coalesce().indices()[0], embedding.places(idx, None).unique())


def test_dropout_leaves_out_embeddings_in_training_alone_and_keeps_their_mean() -> None:
    model = gpt(ngram_dropout=0.25)
    embedding, idx = model.ngram_embedding, torch.ones(1, 4000, dtype=torch.int64)
    assert embedding is not None and model.has_dropout
    expected = embedding.weight[embedding.places(idx, None)[0, -1]].sum(0)  # (C,)
    assert torch.allclose(embedding(idx)[0, -1], expected)
    embedding.train()
    torch.manual_seed(0)
    kept = embedding(idx)[0, 3:]
    assert len(kept.unique(dim=0)) == 2**3  # each of the three embeddings is there or not
    torch.testing.assert_close(kept.mean(0), expected, rtol=0, atol=0.1)


def test_dropout_of_the_model_is_active_in_training_alone() -> None:
    model, idx = gpt(dropout=0.5), tokens(2, 5)
    assert model.has_dropout and not gpt().has_dropout
    assert torch.equal(model(idx), gpt()(idx))
    model.train()
    assert not torch.allclose(model(idx), model(idx))
