"""How a corpus is read: as separate documents, or as one running text. All that depends on it is a method here.

A third way is a further class. It registers itself, and `dataset.mode=` and --help know it. Torch is imported where
tensors are made, so that --help can list the modes without it.
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
from microgpt.data.halves import DocumentHalf, Half, StreamHalf
from microgpt.data.tokenizer import Tokenizer
from microgpt.errors import UserError

if TYPE_CHECKING:
    import torch

    from microgpt.data.batches import Batches, Rows

VALIDATION_FRACTION = 0.1  # of the documents, or of the tokens of a running text


class Mode(ABC):
    """A way of reading a corpus; stateless."""

    name: ClassVar[str]
    unit: ClassVar[str]  # what the parts of a corpus are called
    bos_text: ClassVar[str]  # the raw text that a BOS stands for
    ends_at_bos: ClassVar[bool]  # whether a sample ends at a BOS, and no context reaches back beyond one
    overview: ClassVar[tuple[int, int]]  # samples, and tokens of each, that give an impression of a model

    @abstractmethod
    def take_apart(self, texts: Sequence[str], min_count: int, key: str) -> tuple[list[str], int, int]:
        """Documents or paragraphs, the number of duplicates removed, and of documents or characters dropped.

        Characters that occur less than `min_count` times are dropped. Raises `UserError` about the setting `key` for
        texts that hold too little.
        """

    @abstractmethod
    def split(
        self, documents: Sequence[str], tokenizer: Tokenizer, seed: int, fraction: float = VALIDATION_FRACTION
    ) -> tuple[Half, Half]:
        """The training and the validation half."""

    @abstractmethod
    def batches(
        self, half: Half, block_size: int, batch_size: int, seed: int, pack: bool, device: torch.device
    ) -> Batches:
        """The batches of training."""

    @abstractmethod
    def rows(self, half: Half, block_size: int, device: torch.device) -> Rows:
        """All tokens of the half, each a target once, as validation reads them."""

    @abstractmethod
    def context_rows(self, parts: Sequence[str], tokenizer: Tokenizer, block_size: int, before: str) -> Rows:
        """All tokens of `parts`, each with the most context: rows overlap by half a block where a text is longer."""

    @abstractmethod
    def longest_block(self, train: Half, val: Half) -> int | None:
        """The largest `block_size` that the halves have tokens enough for; None if any will do."""

    @abstractmethod
    def parts(self, text: str) -> list[str]:
        """A raw text cut where a BOS stands between its parts."""

    @abstractmethod
    def prompt_parts(self, prompt: str) -> list[str]:
        """The parts of a text that is to be continued."""

    @abstractmethod
    def count_characters(self, text: str) -> int:
        """How many characters a raw text is counted as: also the end that the model predicts."""

    def stop_token(self, tokenizer: Tokenizer) -> int | None:
        """BOS if it ends a sample, and bounds what an n-gram model may look back to; else None."""
        return tokenizer.bos if self.ends_at_bos else None


@dataclass(frozen=True)
class Discrete(Mode):
    """Separate documents: distinct, shuffled by the seed before they are split, independent of each other."""

    name = "discrete"
    unit = "documents"
    bos_text = "\n"
    ends_at_bos = True
    overview = (5, 40)

    def take_apart(self, texts: Sequence[str], min_count: int, key: str) -> tuple[list[str], int, int]:
        lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
        if not lines:
            raise UserError(f"{key}: holds no text; give a file with some")
        documents = distinct = list(dict.fromkeys(lines))
        # Dropping a document makes other characters rarer: until none is too rare.
        while rare := {char for char, count in Counter("".join(documents)).items() if count < min_count}:
            documents = [document for document in documents if rare.isdisjoint(document)]
        if len(documents) < 2:
            raise UserError(
                f"{key}: holds {len(documents)} different documents of at least 2; put one a line,"
                " or read it as one long text with dataset.mode=stream"
            )
        return documents, len(lines) - len(distinct), len(distinct) - len(documents)

    def split(
        self, documents: Sequence[str], tokenizer: Tokenizer, seed: int, fraction: float = VALIDATION_FRACTION
    ) -> tuple[Half, Half]:
        shuffled = random.Random(seed).sample(documents, len(documents))
        cut = len(shuffled) - max(1, round(fraction * len(shuffled)))
        return DocumentHalf(shuffled[:cut], tokenizer), DocumentHalf(shuffled[cut:], tokenizer)

    def batches(
        self, half: Half, block_size: int, batch_size: int, seed: int, pack: bool, device: torch.device
    ) -> Batches:
        from microgpt.data.batches import DocumentBatches, document_rows

        rows = document_rows(half.tokens, half.tokenizer.bos, block_size, pack).to(device)
        return DocumentBatches(rows, batch_size, seed)

    def rows(self, half: Half, block_size: int, device: torch.device) -> Rows:
        from microgpt.data.batches import document_rows

        return document_rows(half.tokens, half.tokenizer.bos, block_size, pack=True).to(device)

    def context_rows(self, parts: Sequence[str], tokenizer: Tokenizer, block_size: int, before: str) -> Rows:
        import torch

        from microgpt.data.batches import concatenate, document_rows, window_rows

        short = [part for part in parts if len(part) < block_size]
        long = [torch.tensor(tokenizer.encode_documents([part])) for part in parts if len(part) >= block_size]
        packed = document_rows(torch.tensor(tokenizer.encode_documents(short)), tokenizer.bos, block_size, pack=True)
        return concatenate([packed, *(window_rows(tokens, block_size, positions=True) for tokens in long)])

    def longest_block(self, train: Half, val: Half) -> int | None:
        return None

    def parts(self, text: str) -> list[str]:
        return text.removesuffix("\n").split("\n")

    def prompt_parts(self, prompt: str) -> list[str]:
        return [prompt]

    def count_characters(self, text: str) -> int:
        return len(text) + (not text.endswith("\n"))


@dataclass(frozen=True)
class Stream(Mode):
    """One running text: a BOS stands where a paragraph ends; the end of the text, by position, is held out."""

    name = "stream"
    unit = "paragraphs"
    bos_text = "\n\n"
    ends_at_bos = False
    overview = (1, 120)

    def take_apart(self, texts: Sequence[str], min_count: int, key: str) -> tuple[list[str], int, int]:
        counts = Counter("".join(texts))
        rare = {char: count for char, count in counts.items() if count < min_count and char != "\n"}
        removal = str.maketrans(dict.fromkeys(rare, ""))
        documents = [part for text in texts for part in paragraphs(text.translate(removal))]
        if not documents:
            raise UserError(f"{key}: holds no text (of characters that occur {min_count} times); give a file with some")
        return documents, 0, sum(rare.values())

    def split(
        self, documents: Sequence[str], tokenizer: Tokenizer, seed: int, fraction: float = VALIDATION_FRACTION
    ) -> tuple[Half, Half]:
        import torch

        tokens = torch.tensor(tokenizer.encode_documents(documents))
        cut = len(tokens) - max(1, round(fraction * len(tokens)))
        train, val = tokens[:cut], tokens[cut:]
        return StreamHalf(train, tokenizer, self.bos_text), StreamHalf(val, tokenizer, self.bos_text)

    def batches(
        self, half: Half, block_size: int, batch_size: int, seed: int, pack: bool, device: torch.device
    ) -> Batches:
        from microgpt.data.batches import StreamBatches

        return StreamBatches(half.tokens.to(device), block_size, batch_size, seed)

    def rows(self, half: Half, block_size: int, device: torch.device) -> Rows:
        from microgpt.data.batches import stream_rows

        return stream_rows(half.tokens.to(device), block_size)

    def context_rows(self, parts: Sequence[str], tokenizer: Tokenizer, block_size: int, before: str) -> Rows:
        import torch

        from microgpt.data.batches import window_rows

        # A BOS or the character `before` comes first; the last part has no end that the model would predict.
        tokens = tokenizer.encode_documents(parts)[:-1]
        tokens[0] = tokenizer.stoi.get(before, tokenizer.bos)
        return window_rows(torch.tensor(tokens), block_size)

    def longest_block(self, train: Half, val: Half) -> int | None:
        return min(len(train.tokens) // 2, len(val.tokens) - 1)

    def parts(self, text: str) -> list[str]:
        return re.split(r"\n{2,}", text)

    def prompt_parts(self, prompt: str) -> list[str]:
        return self.parts(prompt)

    def count_characters(self, text: str) -> int:
        return len(text)


def paragraphs(text: str) -> list[str]:
    """The text cut at its blank lines; lines lose their trailing spaces."""
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return [part for part in re.split(r"\n{2,}", lines.strip("\n")) if part]


for mode in (Discrete(), Stream()):
    MODES.register(mode, mode.name)


def find_mode(name: str) -> Mode:
    """The mode that `dataset.mode` names."""
    return MODES[name]
