"""How a corpus is read: as separate documents, or as one running text. All that depends on this is a method here.

A third mode is one more class, registered at the end; `dataset.mode=` and --help then list it. Torch is imported in the
functions that make tensors, so that --help can list the modes without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from microgpt.config.registry import MODES
from microgpt.data.documents import Division, find_division
from microgpt.data.encoding import Encoded, encode, first_occurrences, without_rare
from microgpt.data.splits import DocumentSplit, Split, StreamSplit
from microgpt.data.tokenizer import Tokenizer
from microgpt.errors import UserError

if TYPE_CHECKING:
    import torch

    from microgpt.data.batches import Batches, Rows
    from microgpt.data.corpus import Corpus

VALIDATION_FRACTION = 0.1  # of the documents, or of the tokens of a running text


@dataclass(frozen=True)
class Mode(ABC):
    """A way of reading a corpus, of which `division` says what a document is."""

    division: Division

    name: ClassVar[str]
    document: ClassVar[str]  # what a document is if `dataset.document` does not say
    ends_at_bos: ClassVar[bool]  # whether a BOS ends a sample, and no context extends over one
    overview: ClassVar[tuple[int, int]]  # number of samples, and tokens of each, to show what a model writes

    @property
    def unit(self) -> str:
        """The name of the parts of a corpus, in the plural."""
        return "documents"

    @property
    def bos_text(self) -> str:
        """The raw text that a BOS represents."""
        return self.division.separator

    @property
    def one_line(self) -> bool:
        """Whether no sample holds a newline."""
        return self.ends_at_bos and self.division.separator == "\n"

    def divide(self, text: str, changes: Counter[str]) -> list[str]:
        """The documents or paragraphs of a text; what is removed is added to `changes`."""
        return self.division.divide(text, changes)

    @abstractmethod
    def collect(
        self, texts: Callable[[], Iterable[str]], min_count: int, key: str, changes: Counter[str]
    ) -> tuple[Encoded, int, int]:
        """Divide and encode texts. Characters that occur less than `min_count` times are dropped.

        `texts()` may be called twice. Returns the documents, the number of duplicates removed, and the number of
        documents or characters dropped. Raises `UserError` about the setting `key` if the texts hold too little.
        """

    @abstractmethod
    def split(self, corpus: Corpus, seed: int, fraction: float = VALIDATION_FRACTION) -> tuple[Split, Split]:
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

    division: Division = Division("\n", "both")

    name = "discrete"
    document = "line"
    ends_at_bos = True
    overview = (5, 40)

    def collect(
        self, texts: Callable[[], Iterable[str]], min_count: int, key: str, changes: Counter[str]
    ) -> tuple[Encoded, int, int]:
        found = encode(texts(), lambda text: self.divide(text, changes))
        n_found = len(found.starts()) - 1
        if not n_found:
            raise UserError(f"{key}: holds no text; give a file with some")
        distinct = first_occurrences(found)
        n_distinct = len(distinct)
        documents = without_rare(found if n_distinct == n_found else found.only(distinct), min_count)
        if (n := len(documents.starts()) - 1) < 2:
            raise UserError(
                f"{key}: holds {n} different documents, and 2 are needed; put one on each"
                " line, say with dataset.document= what one is, or read it as one long text with dataset.mode=stream"
            )
        return documents, n_found - n_distinct, n_distinct - n

    def split(self, corpus: Corpus, seed: int, fraction: float = VALIDATION_FRACTION) -> tuple[Split, Split]:
        n = corpus.n_documents
        cut = n - max(1, round(fraction * n))
        return DocumentSplit(corpus, seed, 0, cut), DocumentSplit(corpus, seed, cut, n)

    def batches(
        self, split: Split, block_size: int, batch_size: int, seed: int, pack: bool, device: torch.device
    ) -> Batches:
        from microgpt.data.batches import DocumentBatches

        assert isinstance(split, DocumentSplit)
        rows = split.rows(block_size, pack)
        # A GPU gets all rows at once: it would have to wait for rows that are made during training.
        return DocumentBatches(rows if device.type == "cpu" else rows.all().to(device), batch_size, seed)

    def rows(self, split: Split, block_size: int, device: torch.device) -> Rows:
        assert isinstance(split, DocumentSplit)
        return split.all_rows(block_size).to(device)

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
        return self.division.parts(text.removesuffix(self.bos_text))

    def prompt_parts(self, prompt: str) -> list[str]:
        return [prompt]

    def count_characters(self, text: str) -> int:
        return len(text) + len(self.bos_text) * (not text.endswith(self.bos_text))


@dataclass(frozen=True)
class Stream(Mode):
    """One running text, with a BOS after each document: a paragraph. Its last part is the validation split."""

    division: Division = Division("\n\n", "right")

    name = "stream"
    document = "record"
    ends_at_bos = False
    overview = (1, 120)

    @property
    def unit(self) -> str:
        return "paragraphs" if self.bos_text == "\n\n" else "documents"

    def collect(
        self, texts: Callable[[], Iterable[str]], min_count: int, key: str, changes: Counter[str]
    ) -> tuple[Encoded, int, int]:
        counts: Counter[str] = Counter()
        for text in texts() if min_count > 1 else ():
            counts.update(text)
        needed = {"\n", *self.bos_text}
        rare = {char: count for char, count in counts.items() if count < min_count and char not in needed}
        removal = str.maketrans(dict.fromkeys(rare, ""))
        kept = (text.translate(removal) if rare else text for text in texts())
        documents = encode(kept, lambda text: self.divide(text, changes))
        if not documents.chars:
            raise UserError(f"{key}: holds no text (of characters that occur {min_count} times); give a file with some")
        return documents, 0, sum(rare.values())

    def split(self, corpus: Corpus, seed: int, fraction: float = VALIDATION_FRACTION) -> tuple[Split, Split]:
        n = len(corpus.encoded.tokens)
        cut = n - max(1, round(fraction * n))
        return StreamSplit(corpus, 0, cut), StreamSplit(corpus, cut, n)

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
        return min(train.size // 2, val.size - 1)

    def parts(self, text: str) -> list[str]:
        return self.division.parts(text)

    def prompt_parts(self, prompt: str) -> list[str]:
        return self.parts(prompt)

    def count_characters(self, text: str) -> int:
        return len(text)


for mode in (Discrete(), Stream()):
    MODES.register(mode, mode.name)


def find_mode(name: str, document: str = "auto", strip: str = "auto") -> Mode:
    """The mode with this name, a value of `dataset.mode`, in which a document is what `dataset.document` says."""
    mode = MODES[name]
    return replace(mode, division=find_division(document, strip, mode.document, mode.ends_at_bos))
