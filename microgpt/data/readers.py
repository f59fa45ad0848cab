"""Readers: each returns the texts of a file, or of an installed package. Imports no torch.

A reader returns the records of a corpus unchanged; `corpus` normalises them, and divides them into documents.
Records need not be in memory together: a reader may be a generator.
A new reader is a function here and a line that registers it; `dataset.reader=` and --help then list it.
"""

import errno
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from microgpt.config.registry import READERS
from microgpt.config.schema import DatasetConfig
from microgpt.data.decoding import blocks_of, check_unpacked, decode, read_file, read_parts
from microgpt.data.files import is_visible
from microgpt.data.tables import read_csv, read_jsonl
from microgpt.errors import UserError

# What `zipfile` raises for damaged archives.
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError, LookupError)


@dataclass(frozen=True)
class Reader:
    """`read(path, dataset)` returns texts or raises `UserError`. An `embedded` corpus, of a package, has no path.

    `read_in_parts(path, dataset, gaps)`, if there is one, cuts the texts after some of the strings `gaps`, so that a
    large file need not be in memory.
    """

    read: Callable[[Any, DatasetConfig], Iterable[str]]
    embedded: bool = False
    read_in_parts: Callable[[Path, DatasetConfig, Sequence[str]], Iterable[str]] | None = None


def read_text(path: Path, dataset: DatasetConfig) -> list[str]:
    return [read_file(path, dataset.encoding)]


def read_text_in_parts(path: Path, dataset: DatasetConfig, gaps: Sequence[str]) -> Iterator[str]:
    return cut(read_parts(path, dataset.encoding), gaps)


def cut(parts: Iterable[str], gaps: Sequence[str]) -> Iterator[str]:
    """The text of `parts` in parts that end after one of `gaps`: of about their size, or longer where it holds none.

    Without gaps it is one text, which may be empty.
    """
    if not gaps:
        yield "".join(parts)
        return
    pending: list[str] = []
    tail, reach = "", max(map(len, gaps)) - 1  # the end of what is pending, in which a gap may begin
    for part in parts:
        searched = tail + part
        end = max((place + len(gap) for gap in gaps if (place := searched.rfind(gap)) >= 0), default=0)
        place = end - len(tail)
        if place > 0:
            text = "".join([*pending, part[:place]])
            pending, part, searched = [], part[place:], part[place:]
            yield text
        pending.append(part)
        tail = searched[len(searched) - reach :] if reach < len(searched) else searched
    text, pending = "".join(pending), []
    if text:
        yield text


def read_zip(path: Path, dataset: DatasetConfig) -> Iterator[str]:
    """One text for each file of the archive, in the order of the archive; hidden files are left out."""
    return read_zip_in_parts(path, dataset, ())


def read_zip_in_parts(path: Path, dataset: DatasetConfig, gaps: Sequence[str]) -> Iterator[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            visible = [file for file in archive.infolist() if is_visible(PurePosixPath(file.filename))]
            members = [file for file in visible if not file.is_dir()]
            check_members(members, path)
            for member in members:
                with archive.open(member) as file:
                    yield from cut(decode(blocks_of(file), path, dataset.encoding, member.filename), gaps)
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a place before the file
            raise
        reason = "the names in it are no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error) or "cut off"
        hint = "fetch it again, or unpack it and give its folder as dataset.path"
        if not zipfile.is_zipfile(path):
            hint = "dataset.reader=text reads plain text"
        raise UserError(f"dataset.path={path}: no readable ZIP archive ({reason}); {hint}") from None


def check_members(members: Sequence[zipfile.ZipInfo], path: Path) -> None:
    """Raise `UserError` if files of an archive cannot be read, or say that they are too large.

    No more is unpacked than a file says: what is beyond is an error of its checksum. That holds for these two methods
    of compression; Python unpacks a block of the others at once, whatever it unpacks to.
    """
    problem = ""
    for member in members:
        if member.flag_bits & 1:
            problem = f"{member.filename} in it is encrypted"
        elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            problem = f"{member.filename} in it is compressed by another method than deflate"
        if problem:
            raise UserError(f"dataset.path={path}: {problem}; unpack it, and give its folder as dataset.path")
    check_unpacked(sum(member.file_size for member in members), path)


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
READERS.register(Reader(read_jsonl), "jsonl")
READERS.register(Reader(read_zip, read_in_parts=read_zip_in_parts), "zip")
READERS.register(Reader(read_colors, embedded=True), "colors")
READERS.register(Reader(read_python_docs, embedded=True), "python_docs")
