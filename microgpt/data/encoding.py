"""Documents ↔ one array of tokens, for whole corpora: in numpy, and with little memory beside the array.

Tokens have the smallest dtype that holds the vocabulary: uint8, int16 or int32. An array of documents is BOS, a
document, BOS, a document, …, BOS. Numpy is imported in the functions, since --help imports the modules of `data`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

AT_ONCE = 1 << 16  # characters or tokens that are worked on at once, to bound the memory
DOCUMENTS_AT_ONCE = 1 << 12  # that are encoded at once


@dataclass(frozen=True)
class Encoded:
    """Documents as `tokens` (N,). The id of a character is its index in `chars`, and BOS is the last id."""

    chars: str
    tokens: np.ndarray

    @property
    def bos(self) -> int:
        return len(self.chars)

    @property
    def unused(self) -> str:
        """A character that no document holds, to stand for BOS."""
        return next(char for char in map(chr, range(len(self.chars) + 1)) if char not in self.chars)

    def starts(self) -> np.ndarray:
        """(n_documents + 1,) int32 or int64: the indices of the BOS before each document, and of the last BOS."""
        import numpy as np

        edges, dtype = range(0, len(self.tokens), AT_ONCE), np.int32 if len(self.tokens) < 1 << 31 else np.int64
        found = (np.flatnonzero(self.tokens[i : i + AT_ONCE] == self.bos) + i for i in edges)
        return np.concatenate([part.astype(dtype) for part in found])

    def lengths(self) -> Counter[int]:
        """How many documents have each length, in characters."""
        starts = self.starts()
        return count(starts[1:] - starts[:-1] - 1)

    def take(self, which: np.ndarray) -> np.ndarray:
        """The tokens of the documents with the indices `which`, in that order: BOS, a document, BOS, …, BOS."""
        import numpy as np

        starts = self.starts()
        first, sizes = starts[which] + 1, starts[which + 1] - starts[which]  # characters and one BOS
        taken, end = np.empty(1 + sizes.sum(), self.tokens.dtype), 1
        taken[0] = self.bos
        for part in parts(sizes):
            tokens = self.tokens[spans(first[part], sizes[part])]
            taken[end : end + len(tokens)] = tokens
            end += len(tokens)
        return taken

    def only(self, which: np.ndarray) -> Encoded:
        """The documents with the indices `which` alone, with ids for the characters that are left in them."""
        import numpy as np

        tokens = self.take(which)
        left = np.flatnonzero(self.occurrences(tokens)[:-1])
        if len(left) == len(self.chars):
            return Encoded(self.chars, tokens)
        ids = np.full(len(self.chars) + 1, len(left))
        ids[left] = np.arange(len(left))
        return Encoded("".join(self.chars[i] for i in left), renumber(tokens, ids))

    def occurrences(self, tokens: np.ndarray) -> np.ndarray:
        """(len(chars) + 1,) int64: how often each id occurs in `tokens`."""
        import numpy as np

        total = np.zeros(len(self.chars) + 1, np.int64)
        for i in range(0, len(tokens), AT_ONCE):
            total += np.bincount(tokens[i : i + AT_ONCE], minlength=len(total))
        return total

    def decode(self, tokens: np.ndarray, bos_text: str) -> Iterator[str]:
        """The text of tokens (n,), in parts; each BOS becomes `bos_text`."""
        import numpy as np

        unused = self.unused
        codes = np.array([*map(ord, self.chars), ord(unused)], "<u4")
        for i in range(0, len(tokens), AT_ONCE):
            yield codes[tokens[i : i + AT_ONCE]].tobytes().decode("utf-32-le").replace(unused, bos_text)

    def documents(self) -> list[str]:
        """The texts of all documents."""
        unused = self.unused
        return "".join(self.decode(self.tokens[1:-1], unused)).split(unused)


def count(values: np.ndarray) -> Counter[int]:
    """How often each of some non-negative integers occurs."""
    import numpy as np

    return Counter(dict(zip(*(found.tolist() for found in np.unique(values, return_counts=True)), strict=True)))


def smallest_dtype(largest: int) -> type[np.generic]:
    """The smallest of the dtypes of tokens that holds ids up to `largest`."""
    import numpy as np

    return np.uint8 if largest < 1 << 8 else np.int16 if largest < 1 << 15 else np.int32


def renumber(tokens: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Each token t becomes ids[t], in the smallest dtype; in place if this is the dtype of `tokens`."""
    import numpy as np

    ids = ids.astype(smallest_dtype(int(ids.max())))
    result = tokens if tokens.dtype == ids.dtype else np.empty(len(tokens), ids.dtype)
    for i in range(0, len(tokens), AT_ONCE):
        result[i : i + AT_ONCE] = ids[tokens[i : i + AT_ONCE]]
    return result


def parts(sizes: np.ndarray) -> Iterator[slice]:
    """Slices of documents of these sizes, in tokens: all of them in order, about AT_ONCE tokens in each slice."""
    import numpy as np

    total = sizes.cumsum()
    edges = np.searchsorted(total, np.arange(AT_ONCE, total[-1] if len(total) else 0, AT_ONCE), "right").tolist()
    for first, stop in zip([0, *edges], [*edges, len(sizes)], strict=True):
        if first < stop:
            yield slice(first, stop)


def spans(first: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The indices first[i], first[i] + 1, …, of sizes[i] tokens, for all i one after the other."""
    import numpy as np

    return np.arange(sizes.sum()) + np.repeat(first - (sizes.cumsum() - sizes), sizes)


def encode(texts: Iterable[str], divide: Callable[[str], list[str]]) -> Encoded:
    """The documents of all texts, encoded; `divide` returns those of a text. Holds few texts at once."""
    import numpy as np

    ids = np.full(0x110000, -1, np.int32)  # code point → id, in the order in which characters appear; 0 is BOS
    found: list[int] = []
    encoded = bytearray(1)  # tokens of `dtype`; it grows in place, where a list of arrays would be copied at the end
    dtype = np.dtype(np.uint8)

    def number(text: str) -> np.ndarray:
        codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
        if len(new := np.unique(codes[ids[codes] < 0])):
            ids[new] = np.arange(len(new)) + len(found) + 1
            found.extend(new.tolist())
        return ids[codes].astype(smallest_dtype(len(found)))

    def add(documents: list[str]) -> None:
        nonlocal encoded, dtype
        text, ends = "".join(documents), np.fromiter(map(len, documents), np.int64, len(documents)).cumsum()
        n_ended = 0
        for first in range(0, max(1, len(text)), AT_ONCE):
            tokens = number(text[first : first + AT_ONCE])
            n = int(ends.searchsorted(first + len(tokens), "right"))
            part = np.insert(tokens, ends[n_ended:n] - first, 0)  # a BOS after each document that ends here
            n_ended = n
            if part.dtype != dtype:
                encoded, dtype = bytearray(np.frombuffer(encoded, dtype).astype(part.dtype).data), part.dtype
            encoded += part.data

    documents, size = [], 0
    for text in texts:
        documents += divide(text)
        size += len(text)
        if size >= AT_ONCE:
            for i in range(0, len(documents), DOCUMENTS_AT_ONCE):
                add(documents[i : i + DOCUMENTS_AT_ONCE])
            documents, size = [], 0
    add(documents)
    tokens = np.frombuffer(encoded, dtype)
    codes = np.array(found, np.int64)
    final = np.full(len(found) + 1, len(found))
    final[codes.argsort() + 1] = np.arange(len(found))
    return Encoded("".join(map(chr, np.sort(codes).tolist())), renumber(tokens, final))


def without_rare(documents: Encoded, min_count: int) -> Encoded:
    """The documents without those that hold a character that occurs less than `min_count` times."""
    import numpy as np

    # Dropping a document makes its other characters rarer, so this repeats until no character is too rare.
    while (rare := documents.occurrences(documents.tokens)[:-1] < min_count).any():
        starts = documents.starts()
        dropped = np.searchsorted(starts, np.flatnonzero(np.append(rare, False)[documents.tokens]), "right") - 1
        documents = documents.only(np.setdiff1d(np.arange(len(starts) - 1), dropped))
    return documents


def first_occurrences(encoded: Encoded) -> np.ndarray:
    """The indices of the documents that are not equal to an earlier one, ascending."""
    import numpy as np

    starts = encoded.starts()
    first, sizes, salt = starts[:-1], starts[1:] - starts[:-1], 0
    while True:
        copies, originals = repeats(hash_documents(encoded.tokens, first, sizes, salt))
        if same_documents(encoded.tokens, first, sizes, copies, originals):
            is_first = np.ones(len(sizes), bool)
            is_first[copies] = False
            return np.flatnonzero(is_first)
        salt += 1  # two different documents have the same hash


def repeats(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The indices (n,) of the values (N,) that occur earlier as well, and (n,) of where each of them occurs first."""
    import numpy as np

    order = values.argsort(kind="stable").astype(np.int32)
    is_new = np.append(True, values[order[1:]] != values[order[:-1]])
    place = np.where(is_new, np.arange(len(order), dtype=np.int32), 0)
    np.maximum.accumulate(place, out=place)  # in `order`, of the first of the same value
    return order[~is_new], order[place[~is_new]]


def hash_documents(tokens: np.ndarray, first: np.ndarray, sizes: np.ndarray, salt: int) -> np.ndarray:
    """(n_documents,) uint64: the sum over the tokens of each document of the token times a hash of its position."""
    import numpy as np

    hashes = np.empty(len(sizes), np.uint64)
    for part in parts(sizes):
        ends = sizes[part].cumsum()
        begin = int(first[part.start])
        x = (np.arange(ends[-1]) - np.repeat(ends - sizes[part], sizes[part]) + salt).view(np.uint64)
        # The finalizer of SplitMix64 (Steele, Lea & Flood 2014); arithmetic is modulo 2^64.
        x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x *= tokens[begin : begin + len(x)].astype(np.uint64) + np.uint64(1)
        hashes[part] = np.add.reduceat(x, ends - sizes[part])
    return hashes


def same_documents(
    tokens: np.ndarray, first: np.ndarray, sizes: np.ndarray, some: np.ndarray, others: np.ndarray
) -> bool:
    """Whether the documents with the indices `some` (n,) are equal to those with the indices `others` (n,)."""
    import numpy as np

    if not np.array_equal(sizes[some], sizes[others]):
        return False
    return all(
        np.array_equal(
            tokens[spans(first[some[part]], sizes[some[part]])], tokens[spans(first[others[part]], sizes[some[part]])]
        )
        for part in parts(sizes[some])
    )
