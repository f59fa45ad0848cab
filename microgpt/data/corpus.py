"""A corpus: read from its file, normalised, divided into documents and encoded. The result is kept in the cache."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from microgpt.config.checks import as_path
from microgpt.config.registry import READERS
from microgpt.config.schema import DatasetConfig
from microgpt.data.cache import Cache, Entry, file_checksum
from microgpt.data.documents import check_found
from microgpt.data.download import fetch
from microgpt.data.encoding import Encoded, encode
from microgpt.data.files import describe_files, find_files, split_paths
from microgpt.data.modes import Mode, find_mode
from microgpt.data.normalisation import Normaliser
from microgpt.data.progress import progress
from microgpt.data.splits import draw_order
from microgpt.errors import UserError

# Settings on which the documents do not depend, or only through the content of the file.
NOT_IN_KEY = ("name", "note", "licence", "path", "url", "sha256", "file", "pack")
SHUFFLE_SEED = 0  # of a stream's documents: like its split, their order is the same for every seed of a run
LONG_LINE = 25  # characters; lines of lists of names and words have fewer
READER_OF_SUFFIX = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """A corpus as it was read: its documents, in their order; for a running text, its paragraphs.

    `duplicates`: the number of exact repeats that were removed (discrete mode). `dropped`: the number of removed
    characters that are rarer than `dataset.min_count` (stream mode), or of removed documents that hold such a character
    (discrete mode). `changes`: what normalisation changed, by kind: lines (normalized, lowercased), places (replaced),
    characters removed (stripped). `fingerprint`: a hash of the documents; runs with the same one were trained on the
    same corpus. `lengths`: the number of documents of each length, in characters.
    """

    name: str
    mode: Mode
    encoded: Encoded
    fingerprint: str
    lengths: Mapping[int, int]
    duplicates: int = 0
    dropped: int = 0
    changes: Mapping[str, int] = field(default_factory=dict)
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
    """The path of the corpus file, the first if there are several, downloaded or not; None for an embedded corpus."""
    if READERS[dataset.reader].embedded:
        return None
    return as_path("dataset.path", split_paths(dataset.path)[0]) if dataset.path else folder / str(dataset.file)


def load_corpus(dataset: DatasetConfig, folder: Path) -> Corpus:
    """The corpus, downloaded into `folder` if it is not there yet. Raises `UserError`."""
    if READERS[dataset.reader].embedded:
        return read_corpus(dataset)
    if dataset.path:
        if dataset.url:
            log.info("note: %s is read from %s, not from its own corpus", dataset.name, dataset.path)
        return read_corpus(dataset, find_files(dataset.path))
    if dataset.url and dataset.sha256 and dataset.file:
        path = fetch(dataset.name, dataset.url, dataset.sha256, dataset.file, folder)
        return read_corpus(dataset, [path], [dataset.sha256])
    if not dataset.file:
        hint = "give a file with dataset.path=my.txt, or choose a corpus with dataset=names"
        raise UserError(f"dataset.path: dataset.name={dataset.name} has neither a file nor an address; {hint}")
    if not (folder / dataset.file).exists():
        hint = "point datasets_dir= at a folder that holds it, or give dataset.url= and dataset.sha256="
        raise UserError(f"dataset.file={dataset.file}: there is no such file in {folder}; {hint}")
    return read_corpus(dataset, find_files(str(folder / dataset.file)))


def read_corpus(dataset: DatasetConfig, files: Sequence[Path] = (), checksums: Sequence[str] = ()) -> Corpus:
    """The corpus in `files` (none: an embedded corpus), normalised and divided into documents by its mode.

    `checksums` are the SHA-256 of the files, if they are known already. Raises `UserError` if a file cannot be read
    with the settings in `dataset`, or if they hold too little text.
    """
    key = f"dataset.path={dataset.path or files[0]}" if files else f"dataset={dataset.name}"
    mode = find_mode(dataset.mode, dataset.document, dataset.strip)
    note_files(dataset, files)
    try:
        checksums = checksums or [file_checksum(file) for file in files]
        cache = Cache([checksums, cache_settings(dataset)] if files else None)  # embedded: small, and may change
        entry = cache.get("corpus", lambda: build(dataset, mode, files, checksums, cache, key))
    except OSError as error:
        name = error.filename or dataset.path or files[0]
        raise UserError(f"dataset.path={name}: {error.strerror or error}; give a file that can be read") from None
    corpus = restore(dataset.name, mode, entry, cache)
    if dataset.path:
        note_running_text(corpus)
    return corpus


def cache_settings(dataset: DatasetConfig) -> dict[str, Any]:
    """The settings on which the documents depend."""
    settings = {name: value for name, value in asdict(dataset).items() if name not in NOT_IN_KEY}
    return settings | {"replace": list(dataset.replace.items())}  # their order matters


def build(
    dataset: DatasetConfig, mode: Mode, files: Sequence[Path], checksums: Sequence[str], cache: Cache, key: str
) -> Entry:
    """Read the corpus. `cache` keeps it unless a file has changed since its checksum was computed."""
    normalise, changes = Normaliser.of(dataset), Counter[str]()

    def texts() -> Iterator[str]:
        changes.clear()
        normalised = (normalise(text, changes) for text in raw_texts(dataset, mode, files))
        yield from limited(normalised, dataset.limit, mode) if dataset.limit else normalised
        if "separators" in changes:  # all texts are divided by now
            check_found(dataset.document, changes, key)

    with progress(f"reading {dataset.path or dataset.name}"):
        encoded, duplicates, dropped = mode.collect(texts, dataset.min_count, key, changes)
    if dataset.shuffle and not mode.ends_at_bos:
        encoded = Encoded(encoded.chars, encoded.take(draw_order(len(encoded.starts()) - 1, SHUFFLE_SEED)))
    if any(file_checksum(file) != checksum for file, checksum in zip(files, checksums, strict=True)):
        cache.key = None
    return describe(encoded, duplicates, dropped, changes)


def raw_texts(dataset: DatasetConfig, mode: Mode, files: Sequence[Path]) -> Iterator[str]:
    """What the reader reads of each file: in parts, if no document extends over two of them."""
    reader, gaps = READERS[dataset.reader], mode.division.gaps
    # What is replaced may extend over the end of a part, if it holds a newline.
    in_parts = None if not files or not gaps or any("\n" in old for old in dataset.replace) else reader.read_in_parts
    for file in files or [None]:
        for text in in_parts(file, dataset, gaps) if in_parts and file else reader.read(file, dataset):
            check_characters(text, file)
            yield text


def check_characters(text: str, file: Path | None) -> None:
    r"""Raise `UserError` for half of a surrogate pair, which no file can hold: JSON writes it as \ud800, UTF-7 can."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 20) : error.end + 20]
        problem = f"{around!a} holds {text[error.start]!a}, half of a character"
        raise UserError(f"dataset.path={file}: {problem}; remove it, or write the whole pair") from None


def limited(texts: Iterable[str], limit: int, mode: Mode) -> Iterator[str]:
    """The first texts, up to the end of the document in which they reach `limit` characters.

    A running text whose last document does not end is cut there.
    """
    for text in texts:
        if len(text) >= limit:
            end = text.find(mode.bos_text, limit)
            if end < 0 and not mode.ends_at_bos:
                end = limit  # a running text may be cut anywhere
            yield text if end < 0 else text[:end]
            return
        limit -= len(text)
        yield text


def note_files(dataset: DatasetConfig, files: Sequence[Path]) -> None:
    """Log which files of a folder are read, and that tables are read as plain text."""
    if len(files) > 1:
        log.info("%s", describe_files(dataset.path, files))
    tables = [file for file in files if Path(file.name.removesuffix(".gz")).suffix in READER_OF_SUFFIX]
    if tables and dataset.reader == "text":
        reader = READER_OF_SUFFIX[Path(tables[0].name.removesuffix(".gz")).suffix]
        log.info("note: %s is read as plain text; dataset.reader=%s reads its text column", tables[0], reader)


def note_running_text(corpus: Corpus) -> None:
    """Log that the lines of a corpus look like those of a running text: long, and some of them several times."""
    n = corpus.n_documents
    mean = sum(length * count for length, count in corpus.lengths.items()) / n
    if corpus.mode.ends_at_bos and corpus.mode.one_line and mean >= LONG_LINE and corpus.duplicates >= 0.01 * n:
        duplicates = f"{corpus.duplicates:,} duplicate lines dropped"
        log.info("note: %s; if this is a running text, add dataset.mode=stream", duplicates)


def describe(
    encoded: Encoded, duplicates: int = 0, dropped: int = 0, changes: Mapping[str, int] | None = None
) -> Entry:
    """A corpus of these documents as an entry of the cache."""
    fingerprint = hashlib.sha256()
    for part in encoded.decode(encoded.tokens[1:-1], "\0"):
        fingerprint.update(part.encode())
    facts = {"chars": encoded.chars, "fingerprint": fingerprint.hexdigest()[:16], "duplicates": duplicates}
    facts |= {"dropped": dropped, "changes": {kind: n for kind, n in (changes or {}).items() if n}}
    facts |= {"lengths": list(encoded.lengths().items())}
    return Entry({"tokens": encoded.tokens}, facts)


def restore(name: str, mode: Mode, entry: Entry, cache: Cache) -> Corpus:
    """The corpus of an entry that `describe` made."""
    facts = dict(entry.facts)
    encoded, lengths = Encoded(facts.pop("chars"), entry.arrays["tokens"]), Counter(dict(facts.pop("lengths")))
    return Corpus(name, mode, encoded, lengths=lengths, cache=cache, **facts)


def fits_block(lengths: Mapping[int, int], block_size: int) -> float:
    """The fraction of documents that fit into one block: a BOS and the characters are at most `block_size` tokens.

    `lengths`: the number of documents of each length, in characters.
    """
    return sum(n for length, n in lengths.items() if length < block_size) / sum(lengths.values())
