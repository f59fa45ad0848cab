"""The training split and the validation split of a corpus, as texts and as tokens.

Torch is imported in the functions that make tensors, as in `modes`.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from microgpt.data.cache import Entry
from microgpt.data.encoding import count
from microgpt.data.tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from microgpt.data.batches import PackedRows, Rows
    from microgpt.data.corpus import Corpus


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
        first = starts[self.indices]
        return first, starts[self.indices + 1] - first - 1

    @cached_property
    def documents(self) -> list[str]:
        documents = self.corpus.documents
        return [documents[i] for i in self.indices.tolist()]

    @cached_property
    def lengths(self) -> Mapping[int, int]:
        return count(self.spans[1])

    @cached_property
    def tokens(self) -> Tensor:
        import torch

        return torch.from_numpy(self.corpus.encoded.take(self.indices))

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

        first, lengths = self.spans
        return plan_rows(first, lengths + 1, block_size, pack)

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

    return np.array(random.Random(seed).sample(range(n), n), np.int32)
