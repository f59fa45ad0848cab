"""A corpus: read from its file, normalised, and taken apart into documents. Knows nothing of tokens."""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from microgpt.config.registry import READERS
from microgpt.config.schema import DatasetConfig
from microgpt.data.download import fetch
from microgpt.data.modes import Mode, find_mode
from microgpt.errors import UserError


@dataclass(frozen=True)
class Corpus:
    """What a corpus holds once it is read: documents (discrete) or paragraphs (stream), in their order.

    `duplicates`: exact repeats that were removed (discrete). `dropped`: documents (discrete) or characters
    (stream) left out because they hold or are characters rarer than `dataset.min_count`.
    """

    name: str
    mode: Mode
    documents: list[str]
    duplicates: int = 0
    dropped: int = 0

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the documents: two runs with the same one have trained on the same corpus."""
        return hashlib.sha256("\0".join(self.documents).encode()).hexdigest()[:16]


def cached_file(dataset: DatasetConfig, folder: Path) -> Path | None:
    """Where the file of a corpus is or will be; None for an embedded one."""
    if READERS[dataset.reader].embedded:
        return None
    return Path(dataset.path).expanduser() if dataset.path else folder / str(dataset.file)


def load_corpus(dataset: DatasetConfig, folder: Path) -> Corpus:
    """Fetch the corpus into `folder` if it is not there, and read it. Raises `UserError`."""
    path = cached_file(dataset, folder)
    if dataset.url and dataset.sha256 and dataset.file and not dataset.path:
        path = fetch(dataset.name, dataset.url, dataset.sha256, dataset.file, folder)
    return read_corpus(dataset, path)


def read_corpus(dataset: DatasetConfig, path: Path | None = None) -> Corpus:
    """Read the corpus in the file `path` (None: an embedded one), normalise it and take it apart by its mode.

    Raises `UserError` when the file cannot be read as `dataset` says, or holds too little.
    """
    key = f"dataset.path={path}" if path else f"dataset={dataset.name}"
    if path is not None and not path.is_file():
        raise UserError(f"{key}: no such file; give the path of a UTF-8 text or CSV file")
    mode = find_mode(dataset.mode)
    texts = [normalise(text, dataset) for text in READERS[dataset.reader].read(path, dataset)]
    return Corpus(dataset.name, mode, *mode.take_apart(texts, dataset.min_count, key))


def normalise(text: str, dataset: DatasetConfig) -> str:
    """Unicode NFC, lower case if `dataset.lowercase`, and the substitutions of `dataset.replace`, in this order."""
    text = unicodedata.normalize("NFC", text)
    if dataset.lowercase:
        text = text.lower()
    for old, new in dataset.replace.items():
        text = text.replace(old, new)
    return text


def fits_block(documents: Sequence[str], block_size: int) -> float:
    """The share of documents that the model reads in one piece: their characters and a BOS, `block_size` tokens."""
    return sum(len(document) < block_size for document in documents) / len(documents)
