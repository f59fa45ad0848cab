"""`metrics.csv`, one row for each logged step: a run writes it, figures and summaries read it."""

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from microgpt.runs.directory import METRICS, naming, read_bytes, write_atomically

MAX_POINTS = 2_000  # of a curve: more than a figure has pixels
MAX_NUMBER_CHARACTERS = 40  # the longest `repr` of a float has 24

log = logging.getLogger(__name__)

Series = dict[str, tuple[list[int], list[float]]]  # metric → (steps, values)

# The columns of every run. Another metric gets a new column when it is first logged.
COLUMNS = [
    "train/loss",
    "train/loss_ema",
    "val/loss",
    "val/bpc",
    "optim/lr",
    "optim/grad_norm",
    "speed/tokens_per_second",
]


class MetricsWriter:
    """Appends rows to the `metrics.csv` of a run.

    `resumed_at`: the step from which the run is resumed; rows of later steps, and damaged ones, are removed. None
    starts a new file.
    """

    def __init__(self, folder: Path, resumed_at: int | None = None) -> None:
        self.path = folder / METRICS
        columns, rows, damaged = [], [], 0
        if resumed_at is not None:
            columns, rows, damaged = read_table(self.path)
        if damaged:
            log.warning("%s: %d damaged rows removed", self.path, damaged)
        self.columns = list(dict.fromkeys(["step", *COLUMNS, *(columns if rows else [])]))
        self.file = self.rewrite([row for row in rows if int(row["step"]) <= (resumed_at or 0)])

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append the row of `step`, with every value in full precision."""
        if new := [name for name in metrics if name not in self.columns]:
            self.file.close()
            _, rows, _ = read_table(self.path)
            self.columns += new
            self.file = self.rewrite(rows)
        row = {"step": step, **{name: repr(value) for name, value in metrics.items()}}
        with naming(self.path):
            csv.DictWriter(self.file, self.columns).writerow(row)

    def rewrite(self, rows: list[dict[str, str]]) -> io.TextIOWrapper:
        """Replace the file by one with the current columns and these rows. Returns it, open for appending."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue())
        return self.path.open("a", newline="", encoding="utf-8")

    def flush(self) -> None:
        with naming(self.path):
            self.file.flush()

    def close(self) -> None:
        with naming(self.path):
            self.file.close()


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]], int]:
    """The columns and the whole rows of a `metrics.csv`, and how many rows are damaged.

    A row is a line with a step, and a number or nothing in each other column. A last line without its end is not
    counted: that is what a killed process leaves.
    """
    data = read_bytes(path) if path.exists() else b""
    first, *lines = data.splitlines(keepends=True) or [b""]
    columns = ["step", *split_line(first)[1:]]  # even if the name of the first column is damaged
    rows: list[dict[str, str]] = []
    damaged = 0
    for line in lines:
        fields = split_line(line)
        if len(fields) == len(columns) == len(set(columns)) and are_numbers(fields):
            rows.append(dict(zip(columns, fields, strict=True)))
        else:
            damaged += line.endswith(b"\n")
    return columns, rows, damaged


def split_line(line: bytes) -> list[str]:
    """The fields of a line of CSV; none if it has no end, or cannot be read."""
    try:
        return next(csv.reader([line.decode()], strict=True), []) if line.endswith(b"\n") else []
    except (UnicodeDecodeError, csv.Error):
        return []


def are_numbers(fields: Sequence[str]) -> bool:
    """Whether the first field is a step, and each of the others a number or empty."""
    if any(len(field) > MAX_NUMBER_CHARACTERS for field in fields):
        return False
    try:
        for field in fields[1:]:
            float(field or 0)
        return 0 <= int(fields[0]) < 10**18
    except ValueError:
        return False


def read_metrics(folder: Path) -> Series:
    """The columns of the `metrics.csv` of a run: metric → (steps at which it has a value, values).

    Empty if the run has logged nothing.
    """
    series: Series = {}
    _, rows, _ = read_table(folder / METRICS)
    for row in rows:
        for name, value in row.items():
            if name != "step" and value:
                steps, values = series.setdefault(name, ([], []))
                steps.append(int(row["step"]))
                values.append(float(value))
    return series


def thinned(steps: Sequence[int], values: Sequence[float]) -> tuple[Sequence[int], Sequence[float]]:
    """At most MAX_POINTS points of a curve: of neighbouring points the lowest and the highest, in their order."""
    n = len(steps)
    if n <= MAX_POINTS:
        return steps, values
    kept: list[int] = []
    for i in range(MAX_POINTS // 2):
        part = range(i * n // (MAX_POINTS // 2), (i + 1) * n // (MAX_POINTS // 2))
        kept += sorted({min(part, key=values.__getitem__), max(part, key=values.__getitem__)})
    return [steps[i] for i in kept], [values[i] for i in kept]
