"""Rows of texts as a table: in the terminal, as CSV, as Markdown. Columns of numbers are aligned to the right."""

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH = 200  # characters per line where the output is no terminal
TABLE_WIDTH = 120  # the same of a table whose last columns may be left out
MAX_VALUE_WIDTH = 24  # characters of a value in such a table, as of a path

Rows = Sequence[Mapping[str, str]]


def wide_console(at_least: int = 0) -> Console:
    """A console for standard output: as wide as the terminal but `at_least` characters, or WIDTH in a pipe.

    WIDTH is enough to print a row of a table in one line.
    """
    console = Console()
    console.width = max(console.width, at_least) if console.is_terminal else WIDTH
    return console


def is_text(rows: Rows, column: str) -> bool:
    """Whether a column holds texts rather than numbers. Digits, signs, ± and 1e-05 count as numbers."""
    return not all(set(row[column]) <= set("0123456789.,e+-/± ") for row in rows)


def to_table(
    rows: Rows, highlighted: Callable[[Mapping[str, str]], bool] = lambda row: False, width: int = WIDTH
) -> Table:
    """The rows as a table for a terminal. Rows for which `highlighted` is true are red.

    If the headings make the table wider than `width`, they have several lines.
    """
    wrapped = sum(max(len(column), column_width(rows, column)) + 2 for column in rows[0]) > width
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column in rows[0]:
        justify = "left" if is_text(rows, column) else "right"
        exact = column_width(rows, column) if wrapped else None
        table.add_column(column, justify=justify, overflow="fold", width=exact)
    for row in rows:
        table.add_row(*(Text(value) for value in row.values()), style="red" if highlighted(row) else "")
    return table


def column_width(rows: Rows, column: str) -> int:
    """The characters of the longest value, or of the longest word of the heading, which may have several lines."""
    return max(map(len, [*column.split(), *(row[column] for row in rows)]), default=0)


def without_constants(rows: Rows, kept: Sequence[str]) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The rows without the columns that have the same value in all of several rows, and these values.

    Columns in `kept` stay.
    """
    same = {name: value for name, value in rows[0].items() if name not in kept} if len(rows) > 1 else {}
    same = {name: value for name, value in same.items() if all(row[name] == value for row in rows)}
    return [{name: value for name, value in row.items() if name not in same} for row in rows], same


def table_width() -> int:
    """Characters per line of a table: those of the terminal; in a pipe `COLUMNS`, or TABLE_WIDTH if it is not set."""
    console = Console()
    columns = os.environ.get("COLUMNS", "")
    return console.width if console.is_terminal or columns.isdecimal() else TABLE_WIDTH


def fit(rows: Rows, width: int) -> tuple[list[dict[str, str]], list[str]]:
    """The rows as they fit in `width` characters, and the names of the last columns, which are left out.

    Long values have an ellipsis in their middle.
    """
    half = MAX_VALUE_WIDTH // 2
    short = [
        {name: v if len(v) <= MAX_VALUE_WIDTH else f"{v[: half - 1]}…{v[-half:]}" for name, v in row.items()}
        for row in rows
    ]
    names, used = list(rows[0]), 0
    for n, name in enumerate(names):
        used += column_width(short, name) + 2  # of the first column at the edges, of the others before it
        if n and used > width:
            return [{name: row[name] for name in names[:n]} for row in short], names[n:]
    return short, []


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as CSV, with every column that any row has."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_markdown(rows: Rows) -> str:
    """The rows as a Markdown table."""
    columns = list(rows[0])
    lines = [columns, ["---" if is_text(rows, column) else "---:" for column in columns]]
    lines += [[row[column].replace("|", "\\|") for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
