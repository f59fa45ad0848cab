"""Tables: the text column of a CSV or TSV file, and of JSON lines. Imports no torch."""

import csv
import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from microgpt.config.schema import DatasetConfig, typed
from microgpt.data.decoding import read_file
from microgpt.errors import UserError

SEPARATORS = [",", "\t", ";", "|"]  # of columns; on a tie, the earlier one
PREVIEW = 1 << 16  # characters at the beginning of a table, from which its columns are known

log = logging.getLogger(__name__)


def read_csv(path: Path, dataset: DatasetConfig) -> list[str]:
    """One text for each row: its value in the column `dataset.column`. Raises `UserError`."""
    text = read_file(path, dataset.encoding)
    delimiter = find_delimiter(text[:PREVIEW], dataset)
    rows = parse_rows(path, text, delimiter)
    column = find_column(path, dataset, rows, f"read with {show(delimiter)} between columns")
    header = rows[0]
    place = header.index(column)
    if longer := [i for i, row in enumerate(rows) if len(row) > len(header)]:
        log.warning(
            "%s: %s rows have more than the %s columns of the header, the first of them is row %s;"
            " what is beyond is left out",
            path,
            f"{len(longer):,}",
            len(header),
            f"{longer[0]:,}",
        )
    return [row[place] if place < len(row) else "" for row in rows[1:] if row]


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
            return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
        except csv.Error:
            return []

    headers = {delimiter: header(delimiter) for delimiter in SEPARATORS}
    return max(SEPARATORS, key=lambda delimiter: (dataset.column in headers[delimiter], len(headers[delimiter])))


def parse_rows(path: Path, text: str, delimiter: str) -> list[list[str]]:
    """All rows, the header first. In a table with tabs, quotes are text unless each pair of them encloses a field."""
    csv.field_size_limit(2**31 - 1)
    if delimiter == "\t":
        try:
            return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
        except csv.Error:
            return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=csv.QUOTE_NONE))
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise UserError(
            f"dataset.path={path}: not a readable CSV file ({error}); dataset.reader=text reads it as plain text"
        ) from None


def find_column(path: Path, dataset: DatasetConfig, rows: Sequence[Sequence[str]], how: str) -> str:
    """`dataset.column`, if the header has it. Raises `UserError` that names the columns, and the likeliest of them."""
    columns = list(rows[0]) if rows else []
    if not any(columns):
        raise UserError(f"dataset.path={path}: holds no text; give a file with some")
    if dataset.column in columns:
        return str(dataset.column)
    lengths = [sum(len(row[i]) for row in rows[1:100] if i < len(row)) for i in range(len(columns))]
    likely = columns[lengths.index(max(lengths))]
    hint = f"{', '.join(columns)} ({how}); add {typed('dataset.column', likely)}"
    if not dataset.column:
        raise UserError(f"dataset.column: the table needs the name of its text column; {path} has: {hint}")
    others = ", or another dataset.delimiter" if len(columns) == 1 else ""
    raise UserError(f"dataset.column={dataset.column}: {path} has no such column; it has: {hint}{others}")


def show(delimiter: str) -> str:
    return "\\t" if delimiter == "\t" else delimiter


def read_jsonl(path: Path, dataset: DatasetConfig) -> list[str]:
    """JSON lines, or one list: the text of each value, a string or an object with the key `dataset.column`."""
    return [text for number, value in values_of(path, dataset) if (text := text_of(path, dataset, number, value))]


def values_of(path: Path, dataset: DatasetConfig) -> Iterator[tuple[int, Any]]:
    """Pairs of the number of each value, from 1, and the value: of each line, or of one list."""
    text = read_file(path, dataset.encoding)
    if text.lstrip().startswith("["):
        try:
            yield from enumerate(json.loads(text), 1)
            return
        except (ValueError, RecursionError):
            pass  # lines of lists, of which the first has a number
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                value = json.loads(line)
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
        raise UserError(
            f"dataset.path={path}: line {number:,} holds no text and no object; dataset.reader=text reads it"
        )
    if dataset.column not in value:
        texts = {key: text for key, text in value.items() if isinstance(text, str)}
        find_column(path, dataset, [list(texts), list(texts.values())], f"the texts in line {number:,}")
    text = value[dataset.column]
    if not isinstance(text, str | None):
        raise UserError(f"dataset.column={dataset.column}: line {number:,} of {path} holds {text!r:.40}, no text")
    return text or ""
