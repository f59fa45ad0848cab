"""How a corpus is read: as separate documents, or as one running text. All that depends on this is a method here.

A third mode is one more class, registered at the end; `dataset.mode=` and --help then list it. Torch is imported in the
functions that make tensors, so that --help can list the modes without it.
"""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from microgpt.config.registry import MODES
from microgpt.data.splits import DocumentSplit, Split, StreamSplit
from microgpt.data.tokenizer import Tokenizer
from microgpt.errors import UserError

if TYPE_CHECKING:
    import torch

    from microgpt.data.batches import Batches, Rows

VALIDATION_FRACTION = 0.1  # of the documents, or of the tokens of a running text


class Mode(ABC):
    """A way of reading a corpus; stateless."""

    name: ClassVar[str]
    unit: ClassVar[str]  # the name of the parts of a corpus, in the plural
    bos_text: ClassVar[str]  # the raw text that a BOS represents
    ends_at_bos: ClassVar[bool]  # whether a BOS ends a sample, and no context extends over one
    overview: ClassVar[tuple[int, int]]  # number of samples, and tokens of each, to show what a model writes

    @abstractmethod
    def divide(self, texts: Sequence[str], min_count: int, key: str) -> tuple[list[str], int, int]:
        """Divide texts into documents or paragraphs. Characters that occur less than `min_count` times are dropped.

        Returns the documents, the number of duplicates removed, and the number of documents or characters dropped.
        Raises `UserError` about the setting `key` if the texts hold too little.
        """

    @abstractmethod
    def split(
        self, documents: Sequence[str], tokenizer: Tokenizer, seed: int, fraction: float = VALIDATION_FRACTION
    ) -> tuple[Split, Split]:
        """The training and the validation split; `fraction` of the documents or tokens are for validation."""

    @abstractmethod
    def batches(
        self, split: Split, block_size: int, batch_size: int, seed: int, pack: bool, device: torch.device
    ) -> Batches:
        """The training batches."""

    @abstractmethod
    def rows(self, split: Split, block_size: int, device: torch.device) -> Rows:
        """The rows for validation: every token of the split but the first is a target once."""

    @abstractmethod
    def context_rows(self, parts: Sequence[str], tokenizer: Tokenizer, block_size: int, before: str) -> Rows:
        """Rows in which every token of `parts` is a target once. Rows of a long text overlap, to give more context."""

    @abstractmethod
    def longest_block(self, train: Split, val: Split) -> int | None:
        """The largest `block_size` for which both splits have enough tokens; None if there is no limit."""

    @abstractmethod
    def parts(self, text: str) -> list[str]:
        """The parts of a raw text between which the tokens have a BOS."""

    @abstractmethod
    def prompt_parts(self, prompt: str) -> list[str]:
        """The parts of a prompt between which the tokens have a BOS."""

    @abstractmethod
    def count_characters(self, text: str) -> int:
        """The characters of a raw text, for bits per character; a document's end is predicted, so it counts too."""

    def stop_token(self, tokenizer: Tokenizer) -> int | None:
        """BOS if it ends a sample and bounds the context of an n-gram model; None if it does neither."""
        return tokenizer.bos if self.ends_at_bos else None


@dataclass(frozen=True)
class Discrete(Mode):
    """Separate documents: distinct, independent of each other, and shuffled by the seed before they are split."""

    name = "discrete"
    unit = "documents"
    bos_text = "\n"
    ends_at_bos = True
    overview = (5, 40)

    def divide(self, texts: Sequence[str], min_count: int, key: str) -> tuple[list[str], int, int]:
        lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
        if not lines:
            raise UserError(f"{key}: holds no text; give a file with some")
        documents = distinct = list(dict.fromkeys(lines))
        # Dropping a document makes its other characters rarer, so this repeats until no character is too rare.
        while rare := {char for char, count in Counter("".join(documents)).items() if count < min_count}:
            documents = [document for document in documents if rare.isdisjoint(document)]
        if len(documents) < 2:
            raise UserError(
                f"{key}: holds {len(documents)} different documents, and 2 are needed; put one on each"
                " line, or read it as one long text with dataset.mode=stream"
            )
        return documents, len(lines) - len(distinct), len(distinct) - len(documents)

    def split(
        self, documents: Sequence[str], tokenizer: Tokenizer, seed: int, fraction: float = VALIDATION_FRACTION
    ) -> tuple[Split, Split]:
        shuffled = random.Random(seed).sample(documents, len(documents))
        cut = len(shuffled) - max(1, round(fraction * len(shuffled)))
        return DocumentSplit(shuffled[:cut], tokenizer), DocumentSplit(shuffled[cut:], tokenizer)

    def batches(
        self, split: Split, block_size: int, batch_size: int, seed: int, pack: bool, device: torch.device
    ) -> Batches:
        from microgpt.data.batches import DocumentBatches, document_rows

        rows = document_rows(split.tokens, split.tokenizer.bos, block_size, pack).to(device)
        return DocumentBatches(rows, batch_size, seed)

    def rows(self, split: Split, block_size: int, device: torch.device) -> Rows:
        from microgpt.data.batches import document_rows

        return document_rows(split.tokens, split.tokenizer.bos, block_size, pack=True).to(device)

    def context_rows(self, parts: Sequence[str], tokenizer: Tokenizer, block_size: int, before: str) -> Rows:
        import torch

        from microgpt.data.batches import concatenate, document_rows, window_rows

        # A BOS and the characters fit into one row; longer parts have overlapping windows.
        short = [part for part in parts if len(part) < block_size]
        long = [torch.tensor(tokenizer.encode_documents([part])) for part in parts if len(part) >= block_size]
        packed = document_rows(torch.tensor(tokenizer.encode_documents(short)), tokenizer.bos, block_size, pack=True)
        return concatenate([packed, *(window_rows(tokens, block_size, positions=True) for tokens in long)])

    def longest_block(self, train: Split, val: Split) -> int | None:
        return None

    def parts(self, text: str) -> list[str]:
        return text.removesuffix("\n").split("\n")

    def prompt_parts(self, prompt: str) -> list[str]:
        return [prompt]

    def count_characters(self, text: str) -> int:
        return len(text) + (not text.endswith("\n"))


@dataclass(frozen=True)
class Stream(Mode):
    """One running text, with a BOS after each paragraph. Its last part is the validation split."""

    name = "stream"
    unit = "paragraphs"
    bos_text = "\n\n"
    ends_at_bos = False
    overview = (1, 120)

    def divide(self, texts: Sequence[str], min_count: int, key: str) -> tuple[list[str], int, int]:
        counts = Counter("".join(texts))
        rare = {char: count for char, count in counts.items() if count < min_count and char != "\n"}
        removal = str.maketrans(dict.fromkeys(rare, ""))
        documents = [part for text in texts for part in paragraphs(text.translate(removal))]
        if not documents:
            raise UserError(f"{key}: holds no text (of characters that occur {min_count} times); give a file with some")
        return documents, 0, sum(rare.values())

    def split(
        self, documents: Sequence[str], tokenizer: Tokenizer, seed: int, fraction: float = VALIDATION_FRACTION
    ) -> tuple[Split, Split]:
        import torch

        tokens = torch.tensor(tokenizer.encode_documents(documents))
        cut = len(tokens) - max(1, round(fraction * len(tokens)))
        train, val = tokens[:cut], tokens[cut:]
        return StreamSplit(train, tokenizer, self.bos_text), StreamSplit(val, tokenizer, self.bos_text)

    def batches(
        self, split: Split, block_size: int, batch_size: int, seed: int, pack: bool, device: torch.device
    ) -> Batches:
        from microgpt.data.batches import StreamBatches

        return StreamBatches(split.tokens.to(device), block_size, batch_size, seed)

    def rows(self, split: Split, block_size: int, device: torch.device) -> Rows:
        from microgpt.data.batches import stream_rows

        return stream_rows(split.tokens.to(device), block_size)

    def context_rows(self, parts: Sequence[str], tokenizer: Tokenizer, block_size: int, before: str) -> Rows:
        import torch

        from microgpt.data.batches import window_rows

        # The first token is the character `before`, or BOS. The text may end within a paragraph: no BOS at its end.
        tokens = tokenizer.encode_documents(parts)[:-1]
        tokens[0] = tokenizer.stoi.get(before, tokenizer.bos)
        return window_rows(torch.tensor(tokens), block_size)

    def longest_block(self, train: Split, val: Split) -> int | None:
        # Two blocks for `StreamBatches`; one block and the target of its last token for validation.
        return min(len(train.tokens) // 2, len(val.tokens) - 1)

    def parts(self, text: str) -> list[str]:
        return re.split(r"\n{2,}", text)

    def prompt_parts(self, prompt: str) -> list[str]:
        return self.parts(prompt)

    def count_characters(self, text: str) -> int:
        return len(text)


def paragraphs(text: str) -> list[str]:
    """The parts of the text between blank lines, without spaces at the ends of lines."""
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return [part for part in re.split(r"\n{2,}", lines.strip("\n")) if part]


for mode in (Discrete(), Stream()):
    MODES.register(mode, mode.name)


def find_mode(name: str) -> Mode:
    """The mode with this name, a value of `dataset.mode`."""
    return MODES[name]
