"""`metrics.csv`, a row for each logged step: written by a run, read by figures and summaries."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from microgpt.runs.directory import METRICS

Series = dict[str, tuple[list[int], list[float]]]

# The columns of every run; a metric with another name gets a column when it is first logged.
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

    `resumed_at`: the step from which the run is resumed; rows of later steps are removed. None begins a new file.
    """

    def __init__(self, folder: Path, resumed_at: int | None = None) -> None:
        self.path = folder / METRICS
        columns, rows = read_table(self.path) if resumed_at is not None else ([], [])
        self.columns = list(dict.fromkeys(["step", *COLUMNS, *columns]))
        self.file = self.rewrite([row for row in rows if int(row["step"]) <= (resumed_at or 0)])

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add the row of `step`, each value in full precision."""
        if new := [name for name in metrics if name not in self.columns]:
            self.file.close()
            rows = read_table(self.path)[1]
            self.columns += new
            self.file = self.rewrite(rows)
        row = {"step": step, **{name: repr(value) for name, value in metrics.items()}}
        csv.DictWriter(self.file, self.columns).writerow(row)

    def rewrite(self, rows: list[dict[str, str]]) -> io.TextIOWrapper:
        """Replace the file by these rows under the present columns; returns it, open for the next row."""
        partial = self.path.with_name(f".{self.path.name}.partial")
        with partial.open("w", newline="") as new:
            writer = csv.DictWriter(new, self.columns)
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(self.path)
        return self.path.open("a", newline="")

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.file.close()


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of a `metrics.csv` and its rows, but for those that a killed process has left incomplete."""
    if not path.exists():
        return [], []
    with path.open(newline="") as file:
        reader = csv.DictReader(line.replace("\0", "") for line in file)  # zeros are what a power cut may leave
        rows = [row for row in reader if None not in row.values() and None not in row]
        return list(reader.fieldnames or []), rows


def read_metrics(folder: Path) -> Series:
    """Each column of the `metrics.csv` of a run: the steps at which it has a value, and the values.

    Empty for a run that has logged nothing.
    """
    series: Series = {}
    for row in read_table(folder / METRICS)[1]:
        for name, value in row.items():
            if name != "step" and value:
                steps, values = series.setdefault(name, ([], []))
                steps.append(int(row["step"]))
                values.append(float(value))
    return series
