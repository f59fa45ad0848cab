"""The training split and the validation split of a corpus, as texts and as tokens.

Torch is imported in the functions that make tensors, as in `modes`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

from microgpt.data.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor


class Split(ABC):
    """The training or the validation split of a corpus. Texts and tokens are computed at the first use.

    A subclass defines all of its properties; Python checks that only for methods, not for cached properties.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    @cached_property
    def documents(self) -> list[str]:
        """The documents of the split; for a running text, a list with the whole text."""
        raise NotImplementedError

    @cached_property
    def tokens(self) -> Tensor:
        """(N,) int64, in the order in which the model reads them. The first is only context, never a target."""
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
    def size(self) -> int:
        """The number of documents, or of tokens of a running text, as the data card shows it."""
        raise NotImplementedError

    @abstractmethod
    def excerpt(self, max_tokens: int) -> Tensor:
        """Tokens (n,), n ≤ `max_tokens`, of a passage to show: a whole document if one has a suitable length."""


class DocumentSplit(Split):
    """Whole documents."""

    def __init__(self, documents: list[str], tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.given_documents = documents

    @cached_property
    def documents(self) -> list[str]:
        return self.given_documents

    @cached_property
    def tokens(self) -> Tensor:
        import torch

        return torch.tensor(self.tokenizer.encode_documents(self.documents))

    @cached_property
    def text(self) -> str:
        return "".join(f"{document}\n" for document in self.documents)

    @cached_property
    def before(self) -> str:
        return ""

    @cached_property
    def size(self) -> int:
        return len(self.documents)

    def excerpt(self, max_tokens: int) -> Tensor:
        import torch

        # The first document of 7 characters or more that fits; else the longest one, cut.
        fitting = (document for document in self.documents if 6 < len(document) < max_tokens)
        document = next(fitting, max(self.documents, key=len))
        return torch.tensor(self.tokenizer.encode_documents([document]))[:max_tokens]


class StreamSplit(Split):
    """A part of a running text, cut at any token."""

    def __init__(self, tokens: Tensor, tokenizer: Tokenizer, bos_text: str) -> None:
        super().__init__(tokenizer)
        self.given_tokens, self.bos_text = tokens, bos_text

    @cached_property
    def documents(self) -> list[str]:
        return [self.text]

    @cached_property
    def tokens(self) -> Tensor:
        return self.given_tokens

    @cached_property
    def text(self) -> str:
        return self.tokenizer.decode(self.tokens[1:].tolist(), self.bos_text)

    @cached_property
    def before(self) -> str:
        return self.tokenizer.decode(self.tokens[:1].tolist(), self.bos_text)

    @cached_property
    def size(self) -> int:
        return len(self.tokens)

    def excerpt(self, max_tokens: int) -> Tensor:
        return self.tokens[:max_tokens]
