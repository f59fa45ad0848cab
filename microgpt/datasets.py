"""Corpora: fetching a file (cached, verified) and reading it into documents. Knows nothing of tokens."""

import csv
import hashlib
import io
import logging
import re
import unicodedata
import zipfile
import zlib
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
    from urllib3.exceptions import ReadTimeoutError

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
    except RequestException as error:
        timed_out = any(isinstance(cause, ReadTimeoutError) for cause in error.args)
        reason = f"nothing came for {timeout:g} s" if timed_out else "there is no connection, or it broke off"
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
    try:
        return [row[column] or "" for row in table]
    except csv.Error as error:
        raise UserError(f"dataset.path={path}: no readable CSV file ({error}); is it another kind of file?") from None


def read_zip(path: Path, column: str | None) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [decode(archive.read(name), path) for name in archive.namelist()]
    except (zipfile.BadZipFile, zlib.error, RuntimeError):  # the last for an encrypted one
        raise UserError(f"dataset.path={path}: no readable ZIP archive; dataset.reader=text reads plain text") from None


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
    if mode == "stream":
        return read_stream(name, key, records, min_count)
    return read_documents(name, key, records, min_count)


def read_stream(name: str, key: str, texts: list[str], min_count: int) -> Corpus:
    counts = Counter("".join(texts))
    rare = {char: count for char, count in counts.items() if count < min_count and char != "\n"}
    gone = str.maketrans(dict.fromkeys(rare, ""))
    documents = [part for text in texts for part in paragraphs(text.translate(gone))]
    if not documents:
        raise UserError(f"{key}: holds no text (of characters that occur {min_count} times); give a file with some")
    return Corpus(name, "stream", documents, dropped=sum(rare.values()))


def read_documents(name: str, key: str, texts: list[str], min_count: int) -> Corpus:
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{key}: holds no text; give a file with some")
    documents = distinct = list(dict.fromkeys(lines))
    while rare := {char for char, count in Counter("".join(documents)).items() if count < min_count}:
        documents = [document for document in documents if rare.isdisjoint(document)]
    if len(documents) < 2:
        raise UserError(
            f"{key}: holds {len(documents)} different documents of at least 2; put one a line,"
            " or read it as one long text with dataset.mode=stream"
        )
    return Corpus(name, "discrete", documents, len(lines) - len(distinct), len(distinct) - len(documents))
