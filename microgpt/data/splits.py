"""The training split and the validation split of a corpus, as texts and as tokens.

Torch is imported in the functions that make tensors, as in `modes`.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from microgpt.data.cache import Entry
from microgpt.data.encoding import Encoded, count, hash_documents
from microgpt.data.progress import progress
from microgpt.data.tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from microgpt.data.batches import PackedRows, Rows
    from microgpt.data.corpus import Corpus

DOCUMENTS_AT_ONCE = 50_000  # as texts, to bound the memory


class Split(ABC):
    """The training or the validation split of a corpus: from `first` to `stop` - 1, of documents or of tokens.

    Texts and tokens are computed at the first use. A subclass defines all of its properties; Python checks that only
    for methods, not for cached properties.
    """

    def __init__(self, corpus: Corpus, first: int, stop: int) -> None:
        self.corpus, self.first, self.stop = corpus, first, stop
        self.tokenizer = Tokenizer(corpus.encoded.chars)

    @property
    def size(self) -> int:
        """The number of documents, or of tokens of a running text, as the data card shows it."""
        return self.stop - self.first

    @cached_property
    def documents(self) -> list[str]:
        """The documents of the split; for a running text, a list with the whole text."""
        raise NotImplementedError

    @cached_property
    def lengths(self) -> Mapping[int, int]:
        """The number of `documents` of each length, in characters; known without the texts."""
        raise NotImplementedError

    @cached_property
    def tokens(self) -> Tensor:
        """(N,) uint8, int16 or int32, in the order in which the model reads them. The first is only context."""
        raise NotImplementedError

    @abstractmethod
    def last_tokens(self, n: int) -> np.ndarray:
        """The last `n` of `tokens`, or all if they are fewer, without those before them in memory."""

    @cached_property
    def text(self) -> str:
        """The raw text of all tokens but the first."""
        raise NotImplementedError

    @cached_property
    def before(self) -> str:
        """The raw text of the first token of a running text, which `text` omits; empty for documents."""
        raise NotImplementedError

    @cached_property
    def n_characters(self) -> int:
        """The number of characters of `text`; known without it."""
        raise NotImplementedError

    @abstractmethod
    def excerpt(self, max_tokens: int) -> Tensor:
        """Tokens (n,) int64, n ≤ `max_tokens`, of a passage to show: a whole document if one has a suitable length."""


class DocumentSplit(Split):
    """Whole documents, in an order that the seed draws."""

    def __init__(self, corpus: Corpus, seed: int, first: int, stop: int) -> None:
        super().__init__(corpus, first, stop)
        self.seed = seed

    @cached_property
    def indices(self) -> np.ndarray:
        """(size,) int32: which documents of the corpus these are."""
        n = self.corpus.n_documents
        entry = self.corpus.cache.get(["order", self.seed], lambda: Entry({"order": draw_order(n, self.seed)}))
        return entry.arrays["order"][self.first : self.stop]

    @cached_property
    def spans(self) -> tuple[np.ndarray, np.ndarray]:
        """The index in the tokens of the corpus of the BOS before each document, and its length in characters."""
        starts = self.corpus.encoded.starts()
        return starts[self.indices], starts[self.indices + 1] - starts[self.indices] - 1

    @cached_property
    def documents(self) -> list[str]:
        documents = self.corpus.documents
        return [documents[i] for i in self.indices.tolist()]

    def text_parts(self) -> Iterator[list[str]]:
        """The documents, DOCUMENTS_AT_ONCE at a time, so that not all of them are in memory."""
        encoded = self.corpus.encoded
        for first in range(0, self.size, DOCUMENTS_AT_ONCE):
            yield Encoded(encoded.chars, encoded.take(self.indices[first : first + DOCUMENTS_AT_ONCE])).documents()

    def contains(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is one of the documents. They are found by their hashes, and then compared."""
        import numpy as np

        known = [i for i, text in enumerate(texts) if set(text) <= self.tokenizer.stoi.keys()]
        tokens = np.array(self.tokenizer.encode_documents(texts[i] for i in known), self.corpus.encoded.tokens.dtype)
        starts = np.flatnonzero(tokens == self.tokenizer.bos)
        wanted = hash_documents(tokens, starts[:-1], np.diff(starts), 0)
        table = self.cached(["hashes"], self.hash_table)
        places = np.minimum(np.searchsorted(table["hashes"], wanted), self.size - 1)
        result, (first, lengths) = [False] * len(texts), self.spans
        for n in np.flatnonzero(table["hashes"][places] == wanted):
            document = table["documents"][places[n]]
            found = self.corpus.encoded.tokens[first[document] :][: lengths[document] + 1]
            result[known[n]] = np.array_equal(found, tokens[starts[n] : starts[n + 1]])
        return result

    def hash_table(self) -> Mapping[str, np.ndarray]:
        """The hashes of the documents in ascending order, and the document of each."""
        starts = self.corpus.encoded.starts()
        hashes = hash_documents(self.corpus.encoded.tokens, starts[:-1], starts[1:] - starts[:-1], 0)[self.indices]
        order = hashes.argsort(kind="stable")
        return {"hashes": hashes[order], "documents": order.astype("int32")}

    @cached_property
    def lengths(self) -> Mapping[int, int]:
        return count(self.spans[1])

    @cached_property
    def tokens(self) -> Tensor:
        import torch

        return torch.from_numpy(self.corpus.encoded.take(self.indices))

    def last_tokens(self, n: int) -> np.ndarray:
        sizes = self.spans[1][::-1] + 1
        return self.corpus.encoded.take(self.indices[-int(sizes.cumsum().searchsorted(n)) - 1 :])[-n:]

    @cached_property
    def text(self) -> str:
        return "".join(f"{document}{self.corpus.mode.bos_text}" for document in self.documents)

    @cached_property
    def before(self) -> str:
        return ""

    @cached_property
    def n_characters(self) -> int:
        end = len(self.corpus.mode.bos_text)
        return sum((length + end) * n for length, n in self.lengths.items())

    def excerpt(self, max_tokens: int) -> Tensor:
        import torch

        # The first document of 7 characters or more that fits; else the longest one, cut.
        first, lengths = self.spans
        fitting = ((lengths > 6) & (lengths < max_tokens)).nonzero()[0]
        start = first[fitting[0] if len(fitting) else lengths.argmax()]
        tokens = torch.from_numpy(self.corpus.encoded.tokens[start : start + max_tokens]).long()
        ends = (tokens[1:] == self.tokenizer.bos).nonzero()
        return tokens[: int(ends[0]) + 2] if len(ends) else tokens

    def cached(self, name: Sequence[Any], build: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
        """Arrays of this split: from the cache, or else built and kept there."""
        key = [*name, self.seed, self.first, self.stop]
        return self.corpus.cache.get(key, lambda: Entry(build())).arrays

    def plan(self, block_size: int, pack: bool) -> Mapping[str, np.ndarray]:
        from microgpt.data.packing import plan_rows

        with progress("laying out the documents in rows"):
            return plan_rows(self.spans[0], self.spans[1] + 1, block_size, pack)

    def rows(self, block_size: int, pack: bool) -> PackedRows:
        """The rows of the split, packed or not, made when they are read."""
        from microgpt.data.batches import PackedRows

        plan = self.cached(["plan", block_size, pack], lambda: self.plan(block_size, pack))
        return PackedRows.of(self.corpus.encoded.tokens, self.tokenizer.bos, block_size, pack, plan)

    def all_rows(self, block_size: int) -> Rows:
        """All packed rows of the split, in small integers."""
        import torch

        from microgpt.data.batches import PackedRows, Rows

        def build() -> Mapping[str, np.ndarray]:
            plan = self.plan(block_size, True)
            rows = PackedRows.of(self.corpus.encoded.tokens, self.tokenizer.bos, block_size, True, plan).all()
            return {name: tensor.numpy() for name, tensor in vars(rows).items()}

        arrays = self.cached(["rows", block_size], build)
        return Rows(**{name: torch.from_numpy(array) for name, array in arrays.items()})


class StreamSplit(Split):
    """A part of a running text, cut at any token."""

    @cached_property
    def documents(self) -> list[str]:
        return [self.text]

    @cached_property
    def lengths(self) -> Mapping[int, int]:
        return {self.n_characters: 1}

    @cached_property
    def tokens(self) -> Tensor:
        import torch

        return torch.from_numpy(self.corpus.encoded.tokens[self.first : self.stop])

    def last_tokens(self, n: int) -> np.ndarray:
        return self.corpus.encoded.tokens[max(self.first, self.stop - n) : self.stop]

    def decode(self, first: int, stop: int) -> str:
        """The raw text of the tokens of the corpus from `first` to `stop` - 1."""
        encoded = self.corpus.encoded
        return "".join(encoded.decode(encoded.tokens[first:stop], self.corpus.mode.bos_text))

    @cached_property
    def text(self) -> str:
        return self.decode(self.first + 1, self.stop)

    @cached_property
    def before(self) -> str:
        return self.decode(self.first, self.first + 1)

    @cached_property
    def n_characters(self) -> int:
        encoded = self.corpus.encoded
        n_bos = int(encoded.occurrences(encoded.tokens[self.first + 1 : self.stop])[encoded.bos])
        return self.size - 1 + (len(self.corpus.mode.bos_text) - 1) * n_bos

    def excerpt(self, max_tokens: int) -> Tensor:
        return self.tokens[:max_tokens].long()


def draw_order(n: int, seed: int) -> np.ndarray:
    """(n,) int32: the numbers from 0 to n - 1, shuffled."""
    import numpy as np

    order = array("i", range(n))  # a list would take 40 bytes for each number
    random.Random(seed).shuffle(order)
    return np.frombuffer(order, np.int32)[::-1].copy()
