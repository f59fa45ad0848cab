"""Packing: how the documents of a corpus are laid out in rows. In numpy; `batches` makes the rows."""

from collections.abc import Sequence

import numpy as np

from microgpt.data.encoding import smallest_dtype


def best_fit(sizes: Sequence[int], capacity: int) -> tuple[np.ndarray, int]:
    """Pack items into rows of size `capacity`: the row of each item, (n_items,) int32, and the number of rows.

    Best fit (Johnson 1973): an item goes into the row with the least free space that is enough, else into a new row.
    """
    rows, n_rows = np.empty(len(sizes), np.int32), 0
    rows_by_space: list[list[int]] = [[] for _ in range(capacity)]  # free space → rows that have it
    spaces = 0  # bit i: there is a row with free space i
    for item, size in enumerate(sizes):
        if enough := spaces >> size:
            space = size + (enough & -enough).bit_length() - 1  # the lowest bit that is set
            having = rows_by_space[space]
            row = having.pop()
            if not having:
                spaces ^= 1 << space
        else:
            row, space, n_rows = n_rows, capacity, n_rows + 1
        rows[item] = row
        if space > size:
            rows_by_space[space - size].append(row)
            spaces |= 1 << (space - size)
    return rows, n_rows


def plan_rows(first: np.ndarray, sizes: np.ndarray, block_size: int, pack: bool) -> dict[str, np.ndarray]:
    """The arrays of `PackedRows` for documents of which `sizes` inputs begin at the indices `first` of some tokens."""
    # An example with block_size 4:     tokens     B a b B c d e f g B
    # index of each input in its document          0 1 2 0 1 2 3 4 5
    # index of each input in its piece (position)  0 1 2 0 1 2 3 0 1    pieces of sizes 3, 4, 2
    n_pieces = -(-sizes // block_size)  # of each document
    number = np.arange(n_pieces.sum(), dtype=first.dtype)  # (n_pieces,) of each piece, from here on in its document
    number -= np.repeat(n_pieces.cumsum(dtype=first.dtype) - n_pieces.astype(first.dtype), n_pieces)
    starts = np.repeat(first, n_pieces) + number * block_size
    sizes = np.minimum(np.repeat(sizes, n_pieces) - number * block_size, block_size)
    rows, n_rows = best_fit(sizes.tolist(), block_size) if pack else (np.arange(len(sizes)), len(sizes))
    order = rows.argsort(kind="stable")
    first_piece = np.append(0, np.bincount(rows, minlength=n_rows).cumsum())
    largest = int(starts.max(initial=0))
    return {
        "starts": starts[order].astype(np.int32 if largest < 1 << 31 else np.int64),
        "sizes": sizes[order].astype(smallest_dtype(block_size)),
        "first_piece": first_piece.astype(np.int32),
    }
