"""Tokens to rows, rows to batches.

A batch is a pure function of the seed and the step: nothing has to be saved to resume, and any rank of a
data-parallel run can make its own shard. Within an epoch every token of every document is a target once.
"""

import random
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = -1  # as a target: carries no loss


@dataclass(frozen=True)
class Rows:
    """Rows of T tokens: idx, targets (n, T) int64; positions (n, T) where a row holds several documents."""

    idx: Tensor
    targets: Tensor
    positions: Tensor | None

    def __len__(self) -> int:
        return len(self.idx)

    def __getitem__(self, which: Tensor | slice) -> "Rows":
        positions = None if self.positions is None else self.positions[which]
        return Rows(self.idx[which], self.targets[which], positions)

    def to(self, device: torch.device) -> "Rows":
        positions = None if self.positions is None else self.positions.to(device)
        return Rows(self.idx.to(device), self.targets.to(device), positions)

    def chunks(self, size: int) -> Iterator["Rows"]:
        return (self[i : i + size] for i in range(0, len(self), size))

    def first_tokens(self, n: int) -> "Rows":
        """The first rows, as many as hold at least `n` targets (all of them, if they hold fewer)."""
        counts = (self.targets != PADDING).sum(1).cumsum(0)
        return self[: int((counts < n).sum()) + 1]

    @property
    def n_targets(self) -> int:
        return int((self.targets != PADDING).sum())


def concatenate(parts: Sequence[Rows]) -> Rows:
    positions = [part.positions for part in parts if part.positions is not None]
    return Rows(
        torch.cat([part.idx for part in parts]),
        torch.cat([part.targets for part in parts]),
        torch.cat(positions) if positions else None,
    )


def best_fit(sizes: Sequence[int], capacity: int) -> tuple[list[int], list[int], int]:
    """Pack items into as few rows as best fit finds: each item's row and offset, and the number of rows.

    An item goes into the row that is left with the least space (Johnson 1973), or into a new one if none has enough.
    """
    rows, offsets, n_rows = [], [], 0
    rows_by_space: dict[int, list[int]] = defaultdict(list)
    for size in sizes:
        for space in range(size, capacity + 1):
            if rows_by_space[space]:
                row = rows_by_space[space].pop()
                break
        else:
            row, space, n_rows = n_rows, capacity, n_rows + 1
        rows.append(row)
        offsets.append(capacity - space)
        rows_by_space[space - size].append(row)
    return rows, offsets, n_rows


def document_rows(tokens: Tensor, bos: int, block_size: int, pack: bool) -> Rows:
    """Rows of separate documents, tokens (N,) int64: BOS, a document, BOS, a document, …, BOS.

    A document is read from the BOS before it, and its end, the BOS after it, is predicted as well. What is longer than
    `block_size` is continued in a further piece. The pieces are packed into rows of `block_size` tokens; they do not
    see each other, and the positions of each count from 0. With `pack` off a piece has a row of its own.
    """
    starts = (tokens == bos).nonzero().flatten()
    lengths = starts.diff()  # (n_documents,) of each document with one BOS
    in_document = torch.arange(len(tokens) - 1) - starts[:-1].repeat_interleave(lengths)  # (N - 1,)
    position = in_document % block_size  # place in the piece
    sizes = torch.diff((position == 0).nonzero().flatten(), append=torch.tensor([len(position)]))  # (n_pieces,)
    if pack:
        row, offset, n_rows = best_fit(sizes.tolist(), block_size)
    else:
        row, offset, n_rows = range(len(sizes)), [0] * len(sizes), len(sizes)
    piece_start = torch.tensor(row, dtype=torch.int64) * block_size + torch.tensor(offset, dtype=torch.int64)
    place = piece_start.repeat_interleave(sizes) + position  # (N - 1,) of each token in all rows, one after the other

    def rows_of(values: Tensor, padding: int) -> Tensor:
        flat = torch.full((n_rows * block_size,), padding)
        return flat.index_copy(0, place, values).view(n_rows, block_size)

    positions = rows_of(position, 0) if pack else None
    return Rows(rows_of(tokens[:-1], bos), rows_of(tokens[1:], PADDING), positions)


def stream_rows(tokens: Tensor, block_size: int, start: int = 0) -> Rows:
    """Rows of a running text, tokens (N,): windows of `block_size` + 1 tokens, overlapping in one, from `start` on."""
    idx, targets = tokens[start:-1], tokens[start + 1 :]
    fill = -len(idx) % block_size
    idx, targets = F.pad(idx, (0, fill)), F.pad(targets, (0, fill), value=PADDING)
    return Rows(idx.view(-1, block_size), targets.view(-1, block_size), None)


def windows(n: int, block_size: int) -> Iterator[tuple[int, int, int]]:
    """(start, first, stop) such that n tokens are predicted once: start … stop are read, first … stop are predicted.

    The first window is a block, and all of it is predicted. Each further one ends half a block later and predicts only
    that half, so that each of its predictions has half a block of context or more.
    """
    first, stop = 0, min(n, block_size)
    while first < n:
        yield max(0, stop - block_size), first, stop
        first, stop = stop, min(n, stop + max(1, block_size // 2))


def window_rows(tokens: Tensor, block_size: int, positions: bool = False) -> Rows:
    """Rows of one text, tokens (N,): a row for each of its `windows`; `positions` as in rows of documents."""
    spans = list(windows(len(tokens) - 1, block_size))
    idx = torch.zeros(len(spans), block_size, dtype=torch.int64)
    targets = torch.full_like(idx, PADDING)
    for row, (start, first, stop) in enumerate(spans):
        idx[row, : stop - start] = tokens[start:stop]
        targets[row, first - start : stop - start] = tokens[first + 1 : stop + 1]
    return Rows(idx, targets, torch.arange(block_size).expand_as(idx) if positions else None)


class Batches(ABC):
    """`batches(step)` is the batch of that step (0 the first): `batch_size` rows, epoch after epoch."""

    def __init__(self, n_rows: int, batch_size: int, seed: int) -> None:
        self.n_rows, self.batch_size, self.seed = n_rows, batch_size, seed
        self.epoch = lru_cache(maxsize=2)(self.epoch_rows)

    @abstractmethod
    def epoch_rows(self, number: int) -> Rows:
        """All rows of that epoch, `n_rows` of them, in its order."""

    def generator(self, number: int) -> torch.Generator:
        # torch keeps 32 bits of a seed: those of the pair must be mixed into them.
        return torch.Generator().manual_seed(random.Random(f"{self.seed} {number}").getrandbits(32))

    def __call__(self, step: int) -> Rows:
        first, parts = step * self.batch_size, []
        while (missing := (step + 1) * self.batch_size - first) > 0:
            number, place = divmod(first, self.n_rows)
            parts.append(self.epoch(number)[place : place + missing])
            first += len(parts[-1])
        return concatenate(parts)


class DocumentBatches(Batches):
    """Discrete mode: the same packed rows in an order of its own for each epoch."""

    def __init__(self, rows: Rows, batch_size: int, seed: int) -> None:
        super().__init__(len(rows), batch_size, seed)
        self.rows = rows

    def epoch_rows(self, number: int) -> Rows:
        order = torch.randperm(self.n_rows, generator=self.generator(number))
        return self.rows[order.to(self.rows.idx.device)]


class StreamBatches(Batches):
    """Stream mode: each epoch cuts the stream at other places, and leaves out less than two blocks of it."""

    def __init__(self, tokens: Tensor, block_size: int, batch_size: int, seed: int) -> None:
        super().__init__((len(tokens) - block_size) // block_size, batch_size, seed)
        assert self.n_rows > 0, "a stream must hold two blocks"
        self.tokens, self.block_size = tokens, block_size

    def epoch_rows(self, number: int) -> Rows:
        generator = self.generator(number)
        start = int(torch.randint(self.block_size, (), generator=generator))
        order = torch.randperm(self.n_rows, generator=generator)
        return stream_rows(self.tokens, self.block_size, start)[order.to(self.tokens.device)]
