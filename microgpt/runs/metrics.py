"""`metrics.csv`, one row for each logged step: a run writes it, figures and summaries read it."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from microgpt.runs.directory import METRICS

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

    `resumed_at`: the step from which the run is resumed; rows of later steps are removed. None starts a new file.
    """

    def __init__(self, folder: Path, resumed_at: int | None = None) -> None:
        self.path = folder / METRICS
        columns, rows = read_table(self.path) if resumed_at is not None else ([], [])
        self.columns = list(dict.fromkeys(["step", *COLUMNS, *columns]))
        self.file = self.rewrite([row for row in rows if int(row["step"]) <= (resumed_at or 0)])

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append the row of `step`, with every value in full precision."""
        if new := [name for name in metrics if name not in self.columns]:
            self.file.close()
            rows = read_table(self.path)[1]
            self.columns += new
            self.file = self.rewrite(rows)
        row = {"step": step, **{name: repr(value) for name, value in metrics.items()}}
        csv.DictWriter(self.file, self.columns).writerow(row)

    def rewrite(self, rows: list[dict[str, str]]) -> io.TextIOWrapper:
        """Replace the file by one with the current columns and these rows. Returns it, open for appending."""
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
    """The columns and the rows of a `metrics.csv`, without rows that a killed process left incomplete."""
    if not path.exists():
        return [], []
    with path.open(newline="") as file:
        reader = csv.DictReader(line.replace("\0", "") for line in file)  # a power cut can leave zero bytes
        # DictReader marks a missing field by the value None, and fields without a column by the key None.
        rows = [row for row in reader if None not in row.values() and None not in row]
        return list(reader.fieldnames or []), rows


def read_metrics(folder: Path) -> Series:
    """The columns of the `metrics.csv` of a run: metric → (steps at which it has a value, values).

    Empty if the run has logged nothing.
    """
    series: Series = {}
    for row in read_table(folder / METRICS)[1]:
        for name, value in row.items():
            if name != "step" and value:
                steps, values = series.setdefault(name, ([], []))
                steps.append(int(row["step"]))
                values.append(float(value))
    return series
