"""Tokens → rows → batches.

A batch depends only on the seed and the step. So resuming needs no saved state of the data, and each rank of a
data-parallel run can make its own shard. In discrete mode every token is a target exactly once in an epoch.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from microgpt.data.packing import plan_rows

PADDING = -1  # a target without loss
TOKENS_AT_ONCE = 1 << 16  # of rows that are made at once


@dataclass(frozen=True)
class Rows:
    """n rows of T tokens: idx (n, T), and targets (n, T), the next token or PADDING.

    `positions` (n, T), or None, are indices within a document, for rows that hold several documents. All are int64, or
    smaller integers if there are many rows: `chunks`, `first_tokens` and `long` make int64 of them, for a model.
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
        return (self[i : i + size].long() for i in range(0, len(self), size))

    def long(self) -> "Rows":
        return Rows(self.idx.long(), self.targets.long(), None if self.positions is None else self.positions.long())

    def first_tokens(self, n: int) -> "Rows":
        """The fewest first rows that hold at least `n` targets; all rows if they hold fewer."""
        stop, step = 0, max(1, TOKENS_AT_ONCE // self.block_size)
        while n > 0 and stop < len(self):
            counts = (self.targets[stop : stop + step] != PADDING).sum(1).cumsum(0)
            stop, n = stop + min(len(counts), int((counts < n).sum()) + 1), n - int(counts[-1])
        return self[:stop].long()

    def small(self, tokens: torch.dtype, positions: torch.dtype) -> "Rows":
        """The same rows, with tokens and positions of these dtypes."""
        small = None if self.positions is None else self.positions.to(positions)
        return Rows(self.idx.to(tokens), self.targets.to(signed(tokens)), small)

    @property
    def block_size(self) -> int:
        return self.idx.size(1)

    @property
    def n_targets(self) -> int:
        return int(torch.count_nonzero(self.targets != PADDING))


def concatenate(parts: Sequence[Rows]) -> Rows:
    positions = [part.positions for part in parts if part.positions is not None]
    return Rows(
        torch.cat([part.idx for part in parts]),
        torch.cat([part.targets for part in parts]),
        torch.cat(positions) if positions else None,
    )


@dataclass(frozen=True)
class PackedRows:
    """n rows of `block_size` tokens, made when they are read: spans of `tokens` (N,), BOS, a document, BOS, …, BOS.

    The input of a document begins with the BOS before it; its last target is the BOS after it. A document of more than
    `block_size` inputs is cut into pieces. With `pack`, a row holds several pieces, without attention between them, and
    the positions of each piece count from 0. Without it, each piece has one row.

    Piece i has the `sizes[i]` inputs from `tokens[starts[i]]` on; row r holds the pieces from `first_piece[r]` to
    `first_piece[r + 1] - 1`, one after the other. All tensors have the smallest integers that hold their values.
    """

    tokens: Tensor
    bos: int
    block_size: int
    pack: bool
    starts: Tensor  # (n_pieces,)
    sizes: Tensor  # (n_pieces,)
    first_piece: Tensor  # (n + 1,)

    @classmethod
    def of(
        cls, tokens: np.ndarray, bos: int, block_size: int, pack: bool, arrays: Mapping[str, np.ndarray]
    ) -> "PackedRows":
        """The rows of a plan that `plan_rows` made."""
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return cls(torch.from_numpy(tokens), bos, block_size, pack, **tensors)

    def __len__(self) -> int:
        return len(self.first_piece) - 1

    def __getitem__(self, which: Tensor) -> Rows:
        """The rows with the indices `which` (n,)."""
        n_pieces = self.first_piece[which + 1].long() - self.first_piece[which]  # (n,) of each row
        ends = n_pieces.cumsum(0)
        piece = repeat(self.first_piece[which] - (ends - n_pieces), n_pieces)  # (p,) of all rows, one after the other
        piece += torch.arange(len(piece))
        sizes = self.sizes[piece].long()  # (p,)
        before = sizes.cumsum(0) - sizes  # (p,) inputs in all pieces before each
        place = torch.arange(int(sizes.sum()))  # (n_inputs,) in all pieces, one after the other
        source = place + repeat(self.starts[piece] - before, sizes)  # (n_inputs,) indices of tokens
        row = repeat(torch.arange(len(which)), n_pieces)  # (p,)
        row_sizes = torch.zeros_like(n_pieces).index_add(0, row, sizes)
        is_input = torch.arange(self.block_size) < row_sizes[:, None]  # (n, block_size)

        def rows_of(values: Tensor, padding: int) -> Tensor:
            return torch.full(is_input.shape, padding).masked_scatter(is_input, values.long())

        positions = rows_of(place - repeat(before, sizes), 0) if self.pack else None
        return Rows(rows_of(self.tokens[source], self.bos), rows_of(self.tokens[source + 1], PADDING), positions)

    def all(self) -> Rows:
        """All rows, in small integers."""
        step = max(1, TOKENS_AT_ONCE // self.block_size)
        parts = (self[torch.arange(i, min(i + step, len(self)))] for i in range(0, max(1, len(self)), step))
        return concatenate([part.small(self.tokens.dtype, self.sizes.dtype) for part in parts])


def repeat(values: Tensor, counts: Tensor) -> Tensor:
    """values[i], counts[i] times, for all i one after the other."""
    return values.repeat_interleave(counts, output_size=int(counts.sum()))


def signed(dtype: torch.dtype) -> torch.dtype:
    """The smallest signed dtype that holds all tokens of this dtype."""
    return torch.int16 if dtype == torch.uint8 else dtype


def document_rows(tokens: Tensor, bos: int, block_size: int, pack: bool) -> Rows:
    """Rows of separate documents, as of `PackedRows`. `tokens` (N,): BOS, a document, BOS, a document, …, BOS."""
    starts = (tokens == bos).nonzero().flatten().numpy()
    arrays = plan_rows(starts[:-1], np.diff(starts), block_size, pack)
    return PackedRows.of(tokens.numpy(), bos, block_size, pack, arrays).all().long()


def stream_rows(tokens: Tensor, block_size: int, start: int = 0) -> Rows:
    """Rows of a running text, `tokens` (N,): consecutive blocks from the token `start` on; the last row is padded."""
    idx, targets = tokens[start:-1], tokens[start + 1 :].to(signed(tokens.dtype))
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

    def __init__(self, n_rows: int, block_size: int, batch_size: int, seed: int) -> None:
        self.n_rows, self.batch_size, self.seed = n_rows, batch_size, seed
        self.part_size = max(1, TOKENS_AT_ONCE // block_size)  # rows that are made at once
        # Two of each: a batch may extend into the next part or epoch.
        self.order = lru_cache(maxsize=2)(self.epoch_order)
        self.part = lru_cache(maxsize=2)(self.epoch_rows)

    @abstractmethod
    def epoch_order(self, number: int) -> Tensor:
        """(n_rows,) int64: what tells `rows` the rows of the epoch `number`, in the order of training."""

    @abstractmethod
    def rows(self, which: Tensor) -> Rows:
        """The rows that a part of an `epoch_order` (n,) tells."""

    def epoch_rows(self, number: int, first: int = 0, stop: int | None = None) -> Rows:
        """The rows of the epoch `number`, in the order of training: all `n_rows`, or from `first` to `stop` - 1."""
        return self.rows(self.order(number)[first:stop])

    def generator(self, number: int) -> torch.Generator:
        # torch uses only 32 bits of a seed, so the run's seed and the epoch are hashed into 32 bits.
        return torch.Generator().manual_seed(random.Random(f"{self.seed} {number}").getrandbits(32))

    def __call__(self, step: int) -> Rows:
        # Rows are counted through all epochs: row i is row i % n_rows of epoch i // n_rows.
        first, parts = step * self.batch_size, []
        while (missing := (step + 1) * self.batch_size - first) > 0:
            number, place = divmod(first, self.n_rows)
            start = place // self.part_size * self.part_size
            parts.append(self.part(number, start, start + self.part_size)[place - start :][:missing])
            first += len(parts[-1])
        return concatenate(parts)


class DocumentBatches(Batches):
    """Discrete mode: each epoch has the same rows, in another order."""

    def __init__(self, rows: Rows | PackedRows, batch_size: int, seed: int) -> None:
        super().__init__(len(rows), rows.block_size, batch_size, seed)
        self.all_rows, self.device = rows, rows.idx.device if isinstance(rows, Rows) else torch.device("cpu")

    def epoch_order(self, number: int) -> Tensor:
        return torch.randperm(self.n_rows, generator=self.generator(number)).to(self.device)

    def rows(self, which: Tensor) -> Rows:
        return self.all_rows[which].long()


class StreamBatches(Batches):
    """Stream mode: each epoch cuts `tokens` (N,) into blocks from another offset. Less than two blocks are omitted."""

    def __init__(self, tokens: Tensor, block_size: int, batch_size: int, seed: int) -> None:
        # The number of full rows with any offset: the largest is block_size - 1, and the last token is only a target.
        super().__init__((len(tokens) - block_size) // block_size, block_size, batch_size, seed)
        assert self.n_rows > 0, "a stream must hold at least two blocks"
        self.tokens, self.block_size = tokens, block_size

    def epoch_order(self, number: int) -> Tensor:
        """(n_rows,) int64: the index of the first token of each row."""
        generator = self.generator(number)
        start = int(torch.randint(self.block_size, (), generator=generator))
        return torch.randperm(self.n_rows, generator=generator).mul_(self.block_size).add_(start).to(self.tokens.device)

    def rows(self, which: Tensor) -> Rows:
        places = which[:, None] + torch.arange(self.block_size + 1, device=which.device)
        tokens = self.tokens[places].long()  # (n, block_size + 1)
        return Rows(tokens[:, :-1], tokens[:, 1:], None)
