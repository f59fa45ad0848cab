"""Readers: each returns the texts of a file, or of an installed package. Imports no torch.

A reader returns the records of a corpus unchanged; `corpus` normalises them, and the mode divides them into documents.
A new reader is a function here and a line that registers it; `dataset.reader=` and --help then list it.
"""

import csv
import io
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microgpt.config.registry import READERS
from microgpt.config.schema import DatasetConfig
from microgpt.errors import UserError


@dataclass(frozen=True)
class Reader:
    """`read(path, dataset)` returns texts or raises `UserError`. An `embedded` corpus, of a package, has no path."""

    read: Callable[[Any, DatasetConfig], list[str]]
    embedded: bool = False


def decode(data: bytes, path: Path) -> str:
    """The text of UTF-8 bytes, without a byte order mark. Raises `UserError` if they are not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"dataset.path={path}: not UTF-8 at byte {error.start}; convert it first, for example with"
            f" iconv -f latin1 -t utf-8 {path}"
        ) from None


def read_text(path: Path, dataset: DatasetConfig) -> list[str]:
    return [decode(path.read_bytes(), path)]


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


READERS.register(Reader(read_text), "text")
READERS.register(Reader(read_csv), "csv")
READERS.register(Reader(read_zip), "zip")
READERS.register(Reader(read_colors, embedded=True), "colors")
READERS.register(Reader(read_python_docs, embedded=True), "python_docs")
