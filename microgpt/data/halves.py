"""The two halves of a corpus, for training and for validation, as texts and as tokens.

Torch is imported where tensors are made, as in `modes`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

from microgpt.data.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor


class Half(ABC):
    """The training or the validation half of a corpus, as texts and as tokens; each made when it is first asked for."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    @cached_property
    def documents(self) -> list[str]:
        """The documents of the half; of a running text, its one text."""
        raise NotImplementedError

    @cached_property
    def tokens(self) -> Tensor:
        """(N,) int64, as the model reads them; the first is context alone."""
        raise NotImplementedError

    @cached_property
    def text(self) -> str:
        """The raw text that the tokens after the first stand for."""
        raise NotImplementedError

    @cached_property
    def before(self) -> str:
        """The raw text that the first token stands for, where it belongs to the half before."""
        raise NotImplementedError

    @cached_property
    def size(self) -> int:
        """What the data card counts: documents, or the tokens of a running text."""
        raise NotImplementedError

    @abstractmethod
    def excerpt(self, max_tokens: int) -> Tensor:
        """Tokens (n,) of a passage to look at: a whole document if one is long enough and not too long."""


class DocumentHalf(Half):
    """Whole documents."""

    def __init__(self, documents: list[str], tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.given = documents

    @cached_property
    def documents(self) -> list[str]:
        return self.given

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

        fitting = (document for document in self.documents if 6 < len(document) < max_tokens)
        document = next(fitting, max(self.documents, key=len))
        return torch.tensor(self.tokenizer.encode_documents([document]))[:max_tokens]


class StreamHalf(Half):
    """A part of a running text, cut at any token."""

    def __init__(self, tokens: Tensor, tokenizer: Tokenizer, bos_text: str) -> None:
        super().__init__(tokenizer)
        self.given, self.bos_text = tokens, bos_text

    @cached_property
    def documents(self) -> list[str]:
        return [self.text]

    @cached_property
    def tokens(self) -> Tensor:
        return self.given

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
