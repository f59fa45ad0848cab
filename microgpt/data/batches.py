"""Tokens → rows → batches.

A batch depends only on the seed and the step. So resuming needs no saved state of the data, and each rank of a
data-parallel run can make its own shard. In discrete mode every token is a target exactly once in an epoch.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = -1  # a target without loss


@dataclass(frozen=True)
class Rows:
    """n rows of T tokens: idx (n, T) int64 and targets (n, T) int64, the next token or PADDING.

    `positions` (n, T) int64, or None, are indices within a document, for rows that hold several documents.
    """

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
        """The fewest first rows that hold at least `n` targets; all rows if they hold fewer."""
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
    """Pack items into rows of size `capacity`: the row and the offset of each item, and the number of rows.

    Best fit (Johnson 1973): an item goes into the row with the least free space that is enough, else into a new row.
    """
    rows, offsets, n_rows = [], [], 0
    rows_by_space: list[list[int]] = [[] for _ in range(capacity + 1)]  # free space → rows that have it
    for size in sizes:
        space = next((space for space in range(size, capacity + 1) if rows_by_space[space]), None)
        if space is None:
            row, space, n_rows = n_rows, capacity, n_rows + 1
        else:
            row = rows_by_space[space].pop()
        rows.append(row)
        offsets.append(capacity - space)  # rows are filled from the left
        rows_by_space[space - size].append(row)
    return rows, offsets, n_rows


def document_rows(tokens: Tensor, bos: int, block_size: int, pack: bool) -> Rows:
    """Rows of separate documents. `tokens` (N,) int64: BOS, a document, BOS, a document, …, BOS.

    The input of a document begins with the BOS before it; its last target is the BOS after it. A document of more than
    `block_size` inputs is cut into pieces. With `pack`, a row of `block_size` tokens holds several pieces, without
    attention between them, and the positions of each piece count from 0. Without it, each piece has one row.
    """
    # An example with block_size 4:     tokens     B a b B c d e f g B
    # index of each input in its document          0 1 2 0 1 2 3 4 5
    # index of each input in its piece (position)  0 1 2 0 1 2 3 0 1    pieces of sizes 3, 4, 2
    starts = (tokens == bos).nonzero().flatten()
    lengths = starts.diff()  # (n_documents,) characters and one BOS
    in_document = torch.arange(len(tokens) - 1) - starts[:-1].repeat_interleave(lengths)  # (N - 1,)
    position = in_document % block_size  # (N - 1,)
    sizes = torch.diff((position == 0).nonzero().flatten(), append=torch.tensor([len(position)]))  # (n_pieces,)
    if pack:
        row, offset, n_rows = best_fit(sizes.tolist(), block_size)
    else:
        row, offset, n_rows = range(len(sizes)), [0] * len(sizes), len(sizes)
    piece_start = torch.tensor(row, dtype=torch.int64) * block_size + torch.tensor(offset, dtype=torch.int64)
    place = piece_start.repeat_interleave(sizes) + position  # (N - 1,) index in the flattened rows

    def rows_of(values: Tensor, padding: int) -> Tensor:
        flat = torch.full((n_rows * block_size,), padding)
        return flat.index_copy(0, place, values).view(n_rows, block_size)

    positions = rows_of(position, 0) if pack else None
    return Rows(rows_of(tokens[:-1], bos), rows_of(tokens[1:], PADDING), positions)


def stream_rows(tokens: Tensor, block_size: int, start: int = 0) -> Rows:
    """Rows of a running text, `tokens` (N,): consecutive blocks from the token `start` on; the last row is padded."""
    idx, targets = tokens[start:-1], tokens[start + 1 :]
    fill = -len(idx) % block_size  # tokens that the last row lacks
    idx, targets = F.pad(idx, (0, fill)), F.pad(targets, (0, fill), value=PADDING)
    return Rows(idx.view(-1, block_size), targets.view(-1, block_size), None)


def windows(n: int, block_size: int) -> Iterator[tuple[int, int, int]]:
    """Windows (start, first, stop) over n inputs: inputs start … stop - 1 are read, and first … stop - 1 have targets.

    Each input has its target in one window. In the first window all have. Each further window ends half a block later,
    and only its last half has targets, so each prediction there has at least half a block of context.
    """
    # An example with n 9 and block_size 4: (0, 0, 4), (2, 4, 6), (4, 6, 8), (5, 8, 9).
    first, stop = 0, min(n, block_size)
    while first < n:
        yield max(0, stop - block_size), first, stop
        first, stop = stop, min(n, stop + max(1, block_size // 2))


def window_rows(tokens: Tensor, block_size: int, positions: bool = False) -> Rows:
    """Rows of one text, `tokens` (N,): one for each of its `windows`, with `positions` (0, 1, 2, …) if wanted."""
    spans = list(windows(len(tokens) - 1, block_size))
    idx = torch.zeros(len(spans), block_size, dtype=torch.int64)
    targets = torch.full_like(idx, PADDING)
    for row, (start, first, stop) in enumerate(spans):
        idx[row, : stop - start] = tokens[start:stop]
        targets[row, first - start : stop - start] = tokens[first + 1 : stop + 1]  # the next tokens
    return Rows(idx, targets, torch.arange(block_size).expand_as(idx) if positions else None)


class Batches(ABC):
    """`batches(step)` returns the batch of a step, counted from 0: `batch_size` rows, if need be of several epochs."""

    def __init__(self, n_rows: int, batch_size: int, seed: int) -> None:
        self.n_rows, self.batch_size, self.seed = n_rows, batch_size, seed
        self.epoch = lru_cache(maxsize=2)(self.epoch_rows)  # two: a batch may extend into the next epoch

    @abstractmethod
    def epoch_rows(self, number: int) -> Rows:
        """The `n_rows` rows of the epoch `number`, in the order of training."""

    def generator(self, number: int) -> torch.Generator:
        # torch uses only 32 bits of a seed, so the run's seed and the epoch are hashed into 32 bits.
        return torch.Generator().manual_seed(random.Random(f"{self.seed} {number}").getrandbits(32))

    def __call__(self, step: int) -> Rows:
        # Rows are counted through all epochs: row i is row i % n_rows of epoch i // n_rows.
        first, parts = step * self.batch_size, []
        while (missing := (step + 1) * self.batch_size - first) > 0:
            number, place = divmod(first, self.n_rows)
            parts.append(self.epoch(number)[place : place + missing])
            first += len(parts[-1])
        return concatenate(parts)


class DocumentBatches(Batches):
    """Discrete mode: each epoch has the same rows, in another order."""

    def __init__(self, rows: Rows, batch_size: int, seed: int) -> None:
        super().__init__(len(rows), batch_size, seed)
        self.rows = rows

    def epoch_rows(self, number: int) -> Rows:
        order = torch.randperm(self.n_rows, generator=self.generator(number))
        return self.rows[order.to(self.rows.idx.device)]


class StreamBatches(Batches):
    """Stream mode: each epoch cuts the tokens into blocks from another offset. Less than two blocks are omitted."""

    def __init__(self, tokens: Tensor, block_size: int, batch_size: int, seed: int) -> None:
        # The number of full rows with any offset: the largest is block_size - 1, and the last token is only a target.
        super().__init__((len(tokens) - block_size) // block_size, batch_size, seed)
        assert self.n_rows > 0, "a stream must hold at least two blocks"
        self.tokens, self.block_size = tokens, block_size

    def epoch_rows(self, number: int) -> Rows:
        generator = self.generator(number)
        start = int(torch.randint(self.block_size, (), generator=generator))
        order = torch.randperm(self.n_rows, generator=generator)
        return stream_rows(self.tokens, self.block_size, start)[order.to(self.tokens.device)]
