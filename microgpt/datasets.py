"""Corpora: fetching a file (cached, verified) and reading it into documents. Knows nothing of tokens."""

import csv
import hashlib
import io
import logging
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microgpt.errors import UserError

log = logging.getLogger(__name__)

WAY_OUT = "train on dataset=colors, which needs no download, or point datasets_dir= at a folder that holds it"


@dataclass(frozen=True)
class Corpus:
    """What a corpus holds once it is read: documents (discrete) or paragraphs (stream), in their order.

    `duplicates`: exact repeats that were removed (discrete). `dropped`: documents (discrete) or characters
    (stream) left out for the sake of characters rarer than `min_count`.
    """

    name: str
    mode: str
    documents: list[str]
    duplicates: int = 0
    dropped: int = 0

    @property
    def fingerprint(self) -> str:
        """A hash of the documents: two runs with the same one have seen the same corpus."""
        return hashlib.sha256("\0".join(self.documents).encode()).hexdigest()[:16]


# -- fetching ----------------------------------------------------------------------------------------------


def fetch(name: str, url: str, sha256: str, file: str, folder: Path, retries: int = 3, timeout: float = 30) -> Path:
    """The cached file, downloaded from `url` if it is not there; `timeout` is seconds without a byte.

    Raises `UserError` when the download fails `retries` + 1 times or the cached file is not the pinned one.
    """
    path = folder / file
    if path.exists():
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise UserError(
                f"dataset={name}: {path} is not the file that the corpus is pinned to; delete it to fetch it"
                f" again, or train on it as it is with dataset=file dataset.path={path}"
            )
        return path
    import pooch  # here, so that a cached corpus needs neither it nor requests
    from requests.exceptions import HTTPError, RequestException, Timeout

    pooch.get_logger().setLevel(logging.ERROR)
    log.info("fetching %s from %s", name, url)
    retriever = pooch.create(
        path=folder,
        base_url="",
        registry={file: f"sha256:{sha256}"},
        urls={file: url},
        retry_if_failed=retries,
    )
    bar: Any = DownloadBar(name)
    downloader: Any = pooch.HTTPDownloader(timeout=timeout, progressbar=bar)
    try:
        return Path(retriever.fetch(file, downloader=downloader))
    except HTTPError as error:
        reason = f"the server answers {error.response.status_code if error.response is not None else error}"
    except Timeout:
        reason = f"nothing came for {timeout:g} s"
    except RequestException:
        reason = "there is no connection, or it broke off"
    except ValueError:
        reason = "what the server sends does not match the checksum of the corpus"
    raise UserError(f"dataset={name}: could not fetch {url}: {reason}; {WAY_OUT} ({file})")


class DownloadBar:
    """pooch's progress interface, drawn by rich; silent outside a terminal."""

    def __init__(self, name: str) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

        self.bar = Progress("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self.bar.disable = not self.bar.console.is_terminal
        self.task = self.bar.add_task(name, total=None)
        self.total = 0

    def update(self, amount: int) -> None:
        self.bar.start()
        self.bar.update(self.task, total=self.total, advance=amount)

    def reset(self) -> None:
        self.bar.reset(self.task)

    def close(self) -> None:
        self.bar.stop()


# -- reading -----------------------------------------------------------------------------------------------


def decode(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"dataset.path={path}: not UTF-8 at byte {error.start}; convert it first, for example with"
            f" iconv -f latin1 -t utf-8 {path}"
        ) from None


def read_text(path: Path, column: str | None) -> list[str]:
    return [decode(path.read_bytes(), path)]


def read_csv(path: Path, column: str | None) -> list[str]:
    csv.field_size_limit(2**31 - 1)
    table = csv.DictReader(io.StringIO(decode(path.read_bytes(), path), newline=""))
    columns = table.fieldnames or []
    if column not in columns:
        raise UserError(f"dataset.column={column}: {path} has no such column; it has: {', '.join(columns)}")
    return [row[column] or "" for row in table]


def read_zip(path: Path, column: str | None) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [decode(archive.read(name), path) for name in archive.namelist()]
    except zipfile.BadZipFile:
        raise UserError(f"dataset.path={path}: not a ZIP archive; dataset.reader=text reads plain text") from None


def read_colors(path: Path | None, column: str | None) -> list[str]:
    from matplotlib.colors import XKCD_COLORS

    return [name.removeprefix("xkcd:") for name in XKCD_COLORS]


def read_python_docs(path: Path | None, column: str | None) -> list[str]:
    from pydoc_data.topics import topics

    return list(topics.values())


FILE_READERS: Mapping[str, Callable[[Path, str | None], list[str]]] = {
    "text": read_text,
    "csv": read_csv,
    "zip": read_zip,
}
EMBEDDED_READERS: Mapping[str, Callable[[None, None], list[str]]] = {
    "colors": read_colors,
    "python_docs": read_python_docs,
}
READERS = [*FILE_READERS, *EMBEDDED_READERS]


def paragraphs(text: str) -> list[str]:
    """The text cut at its blank lines; lines lose their trailing spaces."""
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return [part for part in re.split(r"\n{2,}", lines.strip("\n")) if part]


def read_corpus(
    name: str,
    mode: str,
    *,
    reader: str,
    path: Path | None = None,
    column: str | None = None,
    lowercase: bool = False,
    replace: Mapping[str, str] | None = None,
    min_count: int = 1,
) -> Corpus:
    """Read, normalise and take apart a corpus: documents if `mode` is discrete, paragraphs if it is stream.

    Normalising is: Unicode NFC, `lowercase`, the substitutions of `replace`, and nothing rarer than `min_count`
    occurrences: a discrete document with such a character is dropped whole, from a stream the character is.
    Raises `UserError` when the file cannot be read as told, or holds less than two documents.
    """
    key = f"dataset.path={path}" if path else f"dataset={name}"
    if path is None:
        records = EMBEDDED_READERS[reader](None, None)
    elif not path.is_file():
        raise UserError(f"{key}: no such file; give the path of a UTF-8 text or CSV file")
    else:
        records = FILE_READERS[reader](path, column)
    records = [unicodedata.normalize("NFC", record) for record in records]
    if lowercase:
        records = [record.lower() for record in records]
    for old, new in (replace or {}).items():
        records = [record.replace(old, new) for record in records]
    cut = paragraphs if mode == "stream" else str.splitlines
    documents = [part for record in records for part in map(str.strip if mode == "discrete" else str, cut(record))]
    documents = [document for document in documents if document]
    if not documents:
        raise UserError(f"{key}: holds no text; give a file with some")
    n_read = len(documents)
    if mode == "discrete":
        documents = list(dict.fromkeys(documents))
    duplicates = n_read - len(documents)
    documents, dropped = drop_rare(documents, mode, min_count)
    if mode == "discrete" and len(documents) < 2:
        raise UserError(
            f"{key}: holds {len(documents)} different documents of at least 2; put one a line,"
            " or read it as one long text with dataset.mode=stream"
        )
    return Corpus(name, mode, documents, duplicates, dropped)


def drop_rare(documents: list[str], mode: str, min_count: int) -> tuple[list[str], int]:
    """Without characters that occur less than `min_count` times, and how many documents or characters went."""
    counts = Counter("".join(documents))
    rare = {char for char, count in counts.items() if count < min_count}
    if not rare:
        return documents, 0
    if mode == "discrete":
        kept = [document for document in documents if rare.isdisjoint(document)]
        return kept, len(documents) - len(kept)
    gone = str.maketrans(dict.fromkeys(rare, ""))
    kept = [text for document in documents if (text := document.translate(gone))]
    return kept, sum(counts[char] for char in rare)
