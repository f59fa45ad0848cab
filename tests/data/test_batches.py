"""Batches: every token once per epoch, rows packed without overlap, all determined by seed and step."""

from collections.abc import Callable
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.data.batches import (
    PADDING,
    Batches,
    DocumentBatches,
    Rows,
    StreamBatches,
    concatenate,
    document_rows,
    stream_rows,
)
from microgpt.data.tokenizer import Tokenizer

TOKENIZER = Tokenizer("abc")
Pairs = list[tuple[int, int]]

corpora = st.lists(st.text("abc", max_size=12), min_size=1, max_size=12)
block_sizes = st.integers(1, 7)
either_pack = pytest.mark.parametrize("pack", [True, False], ids=["packed", "unpacked"])


def rows_of(documents: list[str], block_size: int, pack: bool) -> Rows:
    tokens = torch.tensor(TOKENIZER.encode_documents(documents))
    return document_rows(tokens, TOKENIZER.bos, block_size, pack)


def numbered_rows(n: int) -> Rows:
    """Rows that hold their index as their only token."""
    return Rows(torch.arange(n)[:, None], torch.arange(n)[:, None], torch.zeros(n, 1, dtype=torch.int64))


def document_batches(seed: int) -> Batches:
    return DocumentBatches(numbered_rows(50), 8, seed)


def stream_batches(seed: int) -> Batches:
    return StreamBatches(torch.arange(200), 4, 8, seed)


either_kind = pytest.mark.parametrize("make", [document_batches, stream_batches])


def same(a: Rows, b: Rows) -> bool:
    if a.positions is None or b.positions is None:
        positions = a.positions is b.positions
    else:
        positions = torch.equal(a.positions, b.positions)
    return positions and torch.equal(a.idx, b.idx) and torch.equal(a.targets, b.targets)


def pieces_of(rows: Rows) -> list[Pairs]:
    """The pieces of the rows, split where a position is 0: each piece's (input, target) pairs, sorted."""
    positions = rows.positions
    if positions is None:
        positions = torch.arange(rows.idx.size(1)).expand_as(rows.idx)
    pieces: list[Pairs] = []
    for row in zip(rows.idx.tolist(), rows.targets.tolist(), positions.tolist(), strict=True):
        for token, target, position in zip(*row, strict=True):
            if target != PADDING:
                if position == 0:
                    pieces.append([])
                assert position == len(pieces[-1]), "positions count from 0 without a gap"
                pieces[-1].append((token, target))
    return sorted(pieces)


def pieces_expected(documents: list[str], block_size: int) -> list[Pairs]:
    pieces: list[Pairs] = []
    for document in documents:
        ids = [TOKENIZER.bos, *TOKENIZER.encode(document), TOKENIZER.bos]
        pairs = list(pairwise(ids))
        pieces += [pairs[i : i + block_size] for i in range(0, len(pairs), block_size)]
    return sorted(pieces)


@either_pack
@settings(deadline=None)
@given(documents=corpora, block_size=block_sizes)
def test_rows_hold_every_token_once_in_the_order_of_its_document(
    pack: bool, documents: list[str], block_size: int
) -> None:
    """Also: pieces do not overlap, long documents continue in another piece, and positions count from 0."""
    rows = rows_of(documents, block_size, pack)
    assert pieces_of(rows) == pieces_expected(documents, block_size)


@either_pack
@settings(deadline=None)
@given(documents=corpora, block_size=block_sizes, batch_size=st.integers(1, 5))
def test_batches_hold_every_token_of_every_document_once_an_epoch(
    pack: bool, documents: list[str], block_size: int, batch_size: int
) -> None:
    """As many batches as an epoch has rows are `batch_size` epochs."""
    rows = rows_of(documents, block_size, pack)
    batches = DocumentBatches(rows, batch_size, seed=0)
    drawn = concatenate([batches(step) for step in range(len(rows))])
    for part in drawn.chunks(len(rows)):
        assert pieces_of(part) == pieces_expected(documents, block_size)


def test_packed_rows_are_full_where_documents_fit() -> None:
    rows = rows_of(["abc", "a", "ab", "b"], 6, pack=True)
    assert len(rows) == 2
    assert rows.n_targets == 11


def test_without_packing_a_row_has_one_piece_and_no_positions() -> None:
    rows = rows_of(["abc", "a"], 3, pack=False)
    assert rows.idx.tolist() == [[3, 0, 1], [2, 3, 3], [3, 0, 3]]
    assert rows.targets.tolist() == [[0, 1, 2], [3, PADDING, PADDING], [0, 3, PADDING]]
    assert rows.positions is None


@either_pack
def test_no_documents_give_no_rows(pack: bool) -> None:
    rows = rows_of([], 5, pack)
    assert len(rows) == rows.n_targets == 0
    assert rows.idx.shape == rows.targets.shape == (0, 5)


@either_kind
@settings(deadline=None)
@given(steps=st.lists(st.integers(0, 40), max_size=12))
def test_a_batch_is_a_pure_function_of_seed_and_step(make: Callable[[int], Batches], steps: list[int]) -> None:
    batches = make(7)
    for step in steps:
        assert same(batches(step), make(7)(step))


@either_kind
def test_batches_differ_between_seeds(make: Callable[[int], Batches]) -> None:
    first = [make(seed)(0) for seed in range(4)]
    assert not any(same(a, b) for a, b in combinations(first, 2))


@either_kind
def test_batches_differ_between_epochs(make: Callable[[int], Batches]) -> None:
    epochs = [make(0).epoch_rows(number) for number in range(4)]
    assert not any(same(a, b) for a, b in combinations(epochs, 2))


@pytest.mark.parametrize("n_rows", [7, 8, 3, 1], ids=lambda n: f"{n}rows")
@pytest.mark.parametrize("batch_size", [1, 4, 8, 20])
def test_batches_continue_across_epochs_of_any_size(n_rows: int, batch_size: int) -> None:
    batches = DocumentBatches(numbered_rows(n_rows), batch_size, seed=0)
    drawn = [batches(step) for step in range(n_rows)]
    assert {len(batch) for batch in drawn} == {batch_size}
    for epoch in concatenate(drawn).idx.view(batch_size, n_rows):
        assert sorted(epoch.tolist()) == list(range(n_rows))


def test_changing_a_batch_in_place_does_not_change_another() -> None:
    batches = document_batches(0)
    batches(0).idx.zero_()
    assert same(batches(0), document_batches(0)(0))


stream_sizes = st.integers(1, 9).flatmap(lambda block: st.tuples(st.just(block), st.integers(2 * block, 60)))


@settings(deadline=None)
@given(sizes=stream_sizes, number=st.integers(0, 20))
def test_an_epoch_of_a_stream_is_windows_of_it_with_no_target_twice(sizes: tuple[int, int], number: int) -> None:
    """Each token is its own index, so that a window is a row of consecutive numbers."""
    block_size, n_tokens = sizes
    batches = StreamBatches(torch.arange(n_tokens), block_size, 3, seed=0)
    rows = batches.epoch_rows(number)
    assert len(rows) == batches.n_rows
    assert torch.equal(rows.idx, rows.idx[:, :1] + torch.arange(block_size))
    assert torch.equal(rows.targets, rows.idx + 1)
    targets = rows.targets.flatten().tolist()
    assert len(set(targets)) == len(targets)
    assert max(targets) < n_tokens
    assert n_tokens - 1 - len(targets) < 2 * block_size


def test_the_epochs_of_a_stream_begin_at_every_offset_within_a_block() -> None:
    batches = StreamBatches(torch.arange(40), 4, 1, seed=0)
    assert {int(batches.epoch_rows(number).idx.min()) for number in range(50)} == {0, 1, 2, 3}


@settings(deadline=None)
@given(n_tokens=st.integers(2, 40), block_size=st.integers(1, 9))
def test_stream_rows_from_0_cover_every_token_but_the_first_once(n_tokens: int, block_size: int) -> None:
    tokens = torch.arange(n_tokens) + 100
    rows = stream_rows(tokens, block_size)
    real = rows.targets != PADDING
    assert torch.equal(rows.targets[real], tokens[1:])
    assert torch.equal(rows.idx[real], tokens[:-1])
    assert rows.idx.size(1) == block_size
    assert rows.positions is None


@pytest.mark.parametrize(("n", "n_rows"), [(1, 1), (3, 1), (4, 2), (5, 3), (6, 3), (100, 3)])
def test_first_tokens_are_as_few_rows_as_hold_so_many_targets(n: int, n_rows: int) -> None:
    targets = torch.tensor([[1, 1, 1], [1, PADDING, PADDING], [1, 1, PADDING]])
    rows = Rows(torch.arange(9).view(3, 3), targets, None)
    assert same(rows.first_tokens(n), rows[:n_rows])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_chunks_are_all_rows_in_order(size: int) -> None:
    rows = numbered_rows(7)
    chunks = list(rows.chunks(size))
    assert [len(chunk) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
    assert 0 < len(chunks[-1]) <= size
    assert same(concatenate(chunks), rows)


def test_n_targets_counts_no_padding() -> None:
    assert Rows(torch.zeros(1, 3), torch.tensor([[0, 2, PADDING]]), None).n_targets == 2
