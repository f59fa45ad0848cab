"""Readers: each returns the texts of a file, or of an installed package. Imports no torch.

A reader returns the records of a corpus unchanged; `corpus` normalises them, and the mode divides them into documents.
Records need not be in memory together: a reader may be a generator.
A new reader is a function here and a line that registers it; `dataset.reader=` and --help then list it.
"""

import csv
import io
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microgpt.config.registry import READERS
from microgpt.config.schema import DatasetConfig
from microgpt.errors import UserError

BYTES_AT_ONCE = 1 << 20  # of a text file, to bound the memory


@dataclass(frozen=True)
class Reader:
    """`read(path, dataset)` returns texts or raises `UserError`. An `embedded` corpus, of a package, has no path.

    `read_in_parts(path, gaps)`, if there is one, cuts the texts after some of the byte strings `gaps`, so that a large
    file need not be in memory.
    """

    read: Callable[[Any, DatasetConfig], Iterable[str]]
    embedded: bool = False
    read_in_parts: Callable[[Path, Sequence[bytes]], Iterable[str]] | None = None


def decode(data: bytes | bytearray, path: Path, start: int = 0) -> str:
    """The text of UTF-8 bytes, without a byte order mark. Raises `UserError` if they are not UTF-8.

    The bytes are those of the file from the byte `start` on.
    """
    try:
        return data.decode("utf-8" if start else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"dataset.path={path}: not UTF-8 at byte {start + error.start}; convert it first, for example with"
            f" iconv -f latin1 -t utf-8 {path}"
        ) from None


def read_text(path: Path, dataset: DatasetConfig) -> list[str]:
    return [decode(path.read_bytes(), path)]


def read_text_in_parts(path: Path, gaps: Sequence[bytes]) -> Iterator[str]:
    """The text in parts of about BYTES_AT_ONCE, or longer ones where it holds none of `gaps`."""
    with path.open("rb") as file:
        start, data = 0, bytearray()
        while block := file.read(BYTES_AT_ONCE):
            searched = max(0, len(data) - max(map(len, gaps)))
            data += block
            end = max((place + len(gap) for gap in gaps if (place := data.rfind(gap, searched)) >= 0), default=0)
            if end:
                yield decode(data[:end], path, start)
                del data[:end]
                start += end
    if data:
        yield decode(data, path, start)


def read_csv(path: Path, dataset: DatasetConfig) -> list[str]:
    """One text for each row: its value in the column `dataset.column`."""
    column = dataset.column
    if not column:
        raise UserError("dataset.column: a CSV file needs the name of its text column; add dataset.column=text")
    csv.field_size_limit(2**31 - 1)
    table = csv.DictReader(io.StringIO(decode(path.read_bytes(), path), newline=""))
    columns = table.fieldnames or []
    if column not in columns:
        raise UserError(f"dataset.column={column}: {path} has no such column; it has: {', '.join(columns)}")
    try:
        return [row[column] or "" for row in table]
    except csv.Error as error:
        raise UserError(
            f"dataset.path={path}: not a readable CSV file ({error}); choose another dataset.reader"
        ) from None


def read_zip(path: Path, dataset: DatasetConfig) -> list[str]:
    """One text for each file of the archive, in the order of the archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [decode(archive.read(name), path) for name in archive.namelist()]
    except (zipfile.BadZipFile, zlib.error, RuntimeError):  # RuntimeError: it is encrypted
        raise UserError(f"dataset.path={path}: no readable ZIP archive; dataset.reader=text reads plain text") from None


def read_colors(path: None, dataset: DatasetConfig) -> list[str]:
    """The 949 names of the xkcd colour survey, from matplotlib."""
    from matplotlib.colors import XKCD_COLORS

    return [name.removeprefix("xkcd:") for name in XKCD_COLORS]


def read_python_docs(path: None, dataset: DatasetConfig) -> list[str]:
    """The language reference that Python contains, one text for each topic."""
    from pydoc_data.topics import topics

    return list(topics.values())


READERS.register(Reader(read_text, read_in_parts=read_text_in_parts), "text")
READERS.register(Reader(read_csv), "csv")
READERS.register(Reader(read_zip), "zip")
READERS.register(Reader(read_colors, embedded=True), "colors")
READERS.register(Reader(read_python_docs, embedded=True), "python_docs")
