"""A corpus: read from its file, normalised, and divided into documents. It holds texts, not tokens."""

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
    """A corpus as it was read: its documents (discrete mode) or paragraphs (stream mode), in their order.

    `duplicates`: the number of exact repeats that were removed (discrete mode). `dropped`: the number of removed
    characters that are rarer than `dataset.min_count` (stream mode), or of removed documents that hold such a character
    (discrete mode).
    """

    name: str
    mode: Mode
    documents: list[str]
    duplicates: int = 0
    dropped: int = 0

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the documents: runs with the same fingerprint were trained on the same corpus."""
        return hashlib.sha256("\0".join(self.documents).encode()).hexdigest()[:16]


def cached_file(dataset: DatasetConfig, folder: Path) -> Path | None:
    """The path of the corpus file, downloaded or not yet; None for an embedded corpus."""
    if READERS[dataset.reader].embedded:
        return None
    return Path(dataset.path).expanduser() if dataset.path else folder / str(dataset.file)


def load_corpus(dataset: DatasetConfig, folder: Path) -> Corpus:
    """The corpus, downloaded into `folder` if it is not there yet. Raises `UserError`."""
    path = cached_file(dataset, folder)
    if dataset.url and dataset.sha256 and dataset.file and not dataset.path:
        path = fetch(dataset.name, dataset.url, dataset.sha256, dataset.file, folder)
    return read_corpus(dataset, path)


def read_corpus(dataset: DatasetConfig, path: Path | None = None) -> Corpus:
    """The corpus in the file `path` (None: an embedded corpus), normalised and divided into documents by its mode.

    Raises `UserError` if the file cannot be read with the settings in `dataset`, or holds too little text.
    """
    key = f"dataset.path={path}" if path else f"dataset={dataset.name}"
    if path is not None and not path.is_file():
        raise UserError(f"{key}: no such file; give the path of a UTF-8 text or CSV file")
    mode = find_mode(dataset.mode)
    texts = [normalise(text, dataset) for text in READERS[dataset.reader].read(path, dataset)]
    return Corpus(dataset.name, mode, *mode.divide(texts, dataset.min_count, key))


def normalise(text: str, dataset: DatasetConfig) -> str:
    """The text in Unicode NFC, in lower case if `dataset.lowercase`, then with `dataset.replace` applied in order."""
    text = unicodedata.normalize("NFC", text)
    if dataset.lowercase:
        text = text.lower()
    for old, new in dataset.replace.items():
        text = text.replace(old, new)
    return text


def fits_block(documents: Sequence[str], block_size: int) -> float:
    """The fraction of documents that fit into one block: a BOS and the characters are at most `block_size` tokens."""
    return sum(len(document) < block_size for document in documents) / len(documents)
