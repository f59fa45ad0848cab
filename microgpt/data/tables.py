"""Tables: the text column of a CSV or TSV file, and of JSON lines. Imports no torch."""

import csv
import io
import json
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, dropwhile, filterfalse, islice
from pathlib import Path
from typing import Any

from microgpt.config.schema import DatasetConfig, typed
from microgpt.data.decoding import read_file, read_parts
from microgpt.errors import UserError

SEPARATORS = [",", "\t", ";", "|"]  # of columns; on a tie, the earlier one
PREVIEW = 1 << 16  # characters at the beginning of a table, from which its columns are known
PREVIEW_ROWS = 100  # by which the likeliest column is known

log = logging.getLogger(__name__)


def read_csv(path: Path, dataset: DatasetConfig) -> Iterator[str]:
    """One text for each row: its value in the column `dataset.column`. Raises `UserError`."""
    delimiter = find_delimiter(preview(path, dataset), dataset)
    rows = read_rows(path, dataset, delimiter)
    first = list(islice(rows, PREVIEW_ROWS))
    column = find_column(path, dataset, first, f"read with {show(delimiter)} between columns")
    header = first[0]
    place, longer = header.index(column), []
    for number, row in enumerate(chain(first[1:], rows), 1):
        if len(row) > len(header):
            longer.append(number)
        if row:
            yield row[place] if place < len(row) else ""
    if longer:
        log.warning(
            "%s: %s rows have more than the %s columns of the header, the first of them is row %s;"
            " what is beyond is left out",
            path,
            f"{len(longer):,}",
            len(header),
            f"{longer[0]:,}",
        )


def preview(path: Path, dataset: DatasetConfig) -> str:
    """The first characters of a file, PREVIEW or more if it has so many."""
    text = ""
    for part in read_parts(path, dataset.encoding):
        text += part
        if len(text) >= PREVIEW:
            break
    return text


def read_lines(parts: Iterable[str], newline: str) -> Iterator[str]:
    r"""The lines of a text in parts, with their ends: \n, or if `newline` is empty also \r and \r\n."""
    pending: list[str] = []
    for part in parts:
        pending.append(part)
        if "\n" in part or (not newline and "\r" in part):
            *lines, last = io.StringIO("".join(pending), newline=newline)
            yield from lines
            pending = [last]  # a \r at its end may be half of \r\n
    yield from io.StringIO("".join(pending), newline=newline)


def find_delimiter(text: str, dataset: DatasetConfig) -> str:
    """The character between columns: `dataset.delimiter`, or the one that finds the column, or most columns."""
    if dataset.delimiter:
        delimiter = dataset.delimiter.replace("\\t", "\t")
        if len(delimiter) != 1:
            hint = typed("dataset.delimiter", ";")
            raise UserError(f"dataset.delimiter={dataset.delimiter}: must be one character; try {hint}")
        return delimiter

    def header(delimiter: str) -> list[str]:
        try:
            return next(filterfalse(is_blank, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)), [])
        except csv.Error:
            return []

    headers = {delimiter: header(delimiter) for delimiter in SEPARATORS}
    return max(SEPARATORS, key=lambda delimiter: (dataset.column in headers[delimiter], len(headers[delimiter])))


def is_blank(row: Sequence[str]) -> bool:
    return not "".join(row).strip()


def read_rows(path: Path, dataset: DatasetConfig, delimiter: str) -> Iterator[list[str]]:
    """All rows, the header first. In a table with tabs, quotes are text unless each pair of them encloses a field."""
    csv.field_size_limit(2**31 - 1)

    def rows(**options: Any) -> Iterator[list[str]]:
        return csv.reader(read_lines(read_parts(path, dataset.encoding), ""), delimiter=delimiter, **options)

    options: dict[str, Any] = {}
    if delimiter == "\t":
        try:
            deque(rows(strict=True), maxlen=0)  # to the end: a quote that encloses no field may stand anywhere
        except csv.Error:
            options = {"quoting": csv.QUOTE_NONE}
    try:
        yield from dropwhile(is_blank, rows(**options))  # the header may stand below blank lines
    except csv.Error as error:
        raise UserError(
            f"dataset.path={path}: not a readable CSV file ({error}); dataset.reader=text reads it as plain text"
        ) from None


def find_column(
    path: Path, dataset: DatasetConfig, rows: Sequence[Sequence[str]], how: str, kind: str = "column"
) -> str:
    """`dataset.column`, if the header has it. Raises `UserError` that names the columns, and the likeliest of them.

    `kind` is what they are called: column, or in JSON key.
    """
    columns = list(rows[0]) if rows else []
    if not any(columns):
        raise UserError(f"dataset.path={path}: holds no text; give a file with some")
    if dataset.column in columns:
        return str(dataset.column)
    lengths = [sum(len(row[i]) for row in rows[1:100] if i < len(row)) for i in range(len(columns))]
    likely = columns[lengths.index(max(lengths))]
    hint = f"{', '.join(columns)} ({how}); add {typed('dataset.column', likely)}"
    if not dataset.column:
        raise UserError(f"dataset.column: which {kind} holds the text must be given; {path} has: {hint}")
    others = ", or another dataset.delimiter" if len(columns) == 1 and kind == "column" else ""
    raise UserError(f"dataset.column={dataset.column}: {path} has no such {kind}; it has: {hint}{others}")


def show(delimiter: str) -> str:
    return "\\t" if delimiter == "\t" else delimiter


def read_jsonl(path: Path, dataset: DatasetConfig) -> Iterator[str]:
    """JSON lines, or one list: the text of each value, a string or an object with the key `dataset.column`."""
    return (text for number, value in values_of(path, dataset) if (text := text_of(path, dataset, number, value)))


def values_of(path: Path, dataset: DatasetConfig) -> Iterator[tuple[int, Any]]:
    """Pairs of the number of each value, from 1, and the value: of each line, or of one list, which is read whole."""
    if preview(path, dataset).lstrip().startswith("["):
        with suppress(ValueError, RecursionError):  # lines of lists, of which the first has a number
            yield from enumerate(json.loads(read_file(path, dataset.encoding)), 1)
            return
    for number, line in enumerate(read_lines(read_parts(path, dataset.encoding), "\n"), 1):
        if line.strip():
            try:
                value = json.loads(line.removesuffix("\n"))
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"dataset.path={path}: line {number:,} is no JSON ({error}); dataset.reader=text reads plain text"
                ) from None
            yield number, value


def text_of(path: Path, dataset: DatasetConfig, number: int, value: Any) -> str:
    """The text in a value of JSON, empty for null. Raises `UserError` if it holds none."""
    if isinstance(value, str | None) and not dataset.column:
        return value or ""
    if not isinstance(value, Mapping):
        if isinstance(value, str):
            raise UserError(
                f"dataset.column={dataset.column}: line {number:,} of {path} is a text without keys; leave it out"
            )
        raise UserError(
            f"dataset.path={path}: line {number:,} holds no text and no object; dataset.reader=text reads it"
        )
    if dataset.column not in value:
        texts = {key: text for key, text in value.items() if isinstance(text, str)}
        find_column(path, dataset, [list(texts), list(texts.values())], f"the texts in line {number:,}", "key")
    text = value[dataset.column]
    if not isinstance(text, str | None):
        raise UserError(f"dataset.column={dataset.column}: line {number:,} of {path} holds {text!r:.40}, no text")
    return text or ""
