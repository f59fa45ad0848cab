"""Rows of texts as a table: in the terminal, as CSV, as Markdown. Columns of numbers are aligned to the right."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH = 200  # characters per line where the output is no terminal

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


def to_table(rows: Rows, highlighted: Callable[[Mapping[str, str]], bool] = lambda row: False) -> Table:
    """The rows as a table for a terminal. Rows for which `highlighted` is true are red."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column in rows[0]:
        table.add_column(column, justify="left" if is_text(rows, column) else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(value) for value in row.values()), style="red" if highlighted(row) else "")
    return table


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
