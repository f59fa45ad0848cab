"""A corpus: read from its file, normalised, divided into documents and encoded. The result is kept in the cache."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from microgpt.config.registry import READERS
from microgpt.config.schema import DatasetConfig
from microgpt.data.cache import Cache, Entry, file_checksum
from microgpt.data.download import fetch
from microgpt.data.encoding import Encoded, encode
from microgpt.data.modes import Mode, find_mode
from microgpt.errors import UserError

# Settings on which the documents do not depend, or only through the content of the file.
NOT_IN_KEY = ("name", "note", "path", "url", "sha256", "file", "pack")


@dataclass(frozen=True)
class Corpus:
    """A corpus as it was read: its documents (discrete mode) or paragraphs (stream mode), in their order.

    `duplicates`: the number of exact repeats that were removed (discrete mode). `dropped`: the number of removed
    characters that are rarer than `dataset.min_count` (stream mode), or of removed documents that hold such a character
    (discrete mode). `fingerprint`: a hash of the documents; runs with the same one were trained on the same corpus.
    `lengths`: the number of documents of each length, in characters.
    """

    name: str
    mode: Mode
    encoded: Encoded
    fingerprint: str
    lengths: Mapping[int, int]
    duplicates: int = 0
    dropped: int = 0
    cache: Cache = field(default_factory=Cache)  # of what is computed from the corpus

    @classmethod
    def of(cls, name: str, mode: Mode, documents: Sequence[str]) -> "Corpus":
        """A corpus of these documents, as they are."""
        entry = describe(encode(documents, lambda text: [text]))
        return restore(name, mode, entry, Cache())

    @cached_property
    def documents(self) -> list[str]:
        return self.encoded.documents()

    @property
    def n_documents(self) -> int:
        return sum(self.lengths.values())


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
        return read_corpus(dataset, path, dataset.sha256)
    return read_corpus(dataset, path)


def read_corpus(dataset: DatasetConfig, path: Path | None = None, checksum: str = "") -> Corpus:
    """The corpus in the file `path` (None: an embedded corpus), normalised and divided into documents by its mode.

    `checksum` is the SHA-256 of the file, if it is known already. Raises `UserError` if the file cannot be read with
    the settings in `dataset`, or holds too little text.
    """
    key = f"dataset.path={path}" if path else f"dataset={dataset.name}"
    if path is None:
        cache = Cache()  # small, and no file tells whether it has changed
    elif path.is_file():
        settings = {name: value for name, value in asdict(dataset).items() if name not in NOT_IN_KEY}
        settings["replace"] = list(dataset.replace.items())  # their order matters
        checksum = checksum or file_checksum(path)
        cache = Cache([checksum, settings])
    else:
        raise UserError(f"{key}: no such file; give the path of a UTF-8 text or CSV file")
    mode, reader = find_mode(dataset.mode), READERS[dataset.reader]
    # What is replaced may extend over the end of a part, if it holds a newline.
    whole = path is None or reader.read_in_parts is None or any("\n" in old for old in dataset.replace)

    def texts() -> Iterable[str]:
        read = reader.read(path, dataset) if whole else reader.read_in_parts(path, mode.gaps)
        return (normalise(text, dataset) for text in read)

    def build() -> Entry:
        entry = describe(*mode.collect(texts, dataset.min_count, key))
        if path and file_checksum(path) != checksum:  # it changed while it was read
            cache.key = None
        return entry

    entry = cache.get("corpus", build)
    return restore(dataset.name, mode, entry, cache)


def describe(encoded: Encoded, duplicates: int = 0, dropped: int = 0) -> Entry:
    """A corpus of these documents as an entry of the cache."""
    fingerprint = hashlib.sha256()
    for part in encoded.decode(encoded.tokens[1:-1], "\0"):
        fingerprint.update(part.encode())
    facts = {"chars": encoded.chars, "fingerprint": fingerprint.hexdigest()[:16], "duplicates": duplicates}
    facts |= {"dropped": dropped, "lengths": list(encoded.lengths().items())}
    return Entry({"tokens": encoded.tokens}, facts)


def restore(name: str, mode: Mode, entry: Entry, cache: Cache) -> Corpus:
    """The corpus of an entry that `describe` made."""
    facts = dict(entry.facts)
    encoded, lengths = Encoded(facts.pop("chars"), entry.arrays["tokens"]), Counter(dict(facts.pop("lengths")))
    return Corpus(name, mode, encoded, lengths=lengths, cache=cache, **facts)


def normalise(text: str, dataset: DatasetConfig) -> str:
    """The text in Unicode NFC, in lower case if `dataset.lowercase`, then with `dataset.replace` applied in order."""
    text = unicodedata.normalize("NFC", text)
    if dataset.lowercase:
        text = text.lower()
    for old, new in dataset.replace.items():
        text = text.replace(old, new)
    return text


def fits_block(lengths: Mapping[int, int], block_size: int) -> float:
    """The fraction of documents that fit into one block: a BOS and the characters are at most `block_size` tokens.

    `lengths`: the number of documents of each length, in characters.
    """
    return sum(n for length, n in lengths.items() if length < block_size) / sum(lengths.values())
