"""What a run reports as it goes: one `log(step, metrics)` to TensorBoard, `metrics.csv` and the console."""

import csv
import io
import logging
import math
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

logger = logging.getLogger(__name__)

COLUMNS = [
    "train/loss",
    "train/loss_ema",
    "val/loss",
    "val/bpc",
    "optim/lr",
    "optim/grad_norm",
    "speed/tokens_per_second",
]


class ConsoleHandler(logging.Handler):
    """Log records to what is standard output at that moment, so that a live bar can make room for them."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stdout, flush=True)


class Tracker:
    """Writes a run's metrics into its directory; a context manager.

    `resumed_at`: the step from which the run goes on. What it had logged after that step is forgotten, in
    `metrics.csv` and in TensorBoard.
    """

    def __init__(self, folder: Path, steps: int, resumed_at: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self.table = open_table(folder / "metrics.csv", resumed_at)
        self.rows = csv.DictWriter(self.table, ["step", *COLUMNS])
        self.tensorboard = SummaryWriter(str(folder), purge_step=None if resumed_at is None else resumed_at + 1)
        self.console = ProgressReport(steps, resumed_at or 0)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record what was measured after `step` steps; the keys of `metrics` are among COLUMNS."""
        self.rows.writerow({"step": step, **{tag: repr(value) for tag, value in metrics.items()}})
        self.scalars(step, metrics)
        self.console.show(step, metrics)

    def scalars(self, step: int, scalars: dict[str, float]) -> None:
        """What is for TensorBoard alone."""
        for tag, value in scalars.items():
            self.tensorboard.add_scalar(tag, value, step)

    def one_chart(self, title: str, tags: list[str]) -> None:
        """Have TensorBoard's custom scalars show these tags in one chart."""
        self.tensorboard.add_custom_scalars({"microgpt": {title: ["Multiline", tags]}})

    def embeddings(self, step: int, vectors: Any, names: list[str]) -> None:
        """Vectors (n, C) with their names, for TensorBoard's projector."""
        self.tensorboard.add_embedding(vectors, metadata=names, global_step=step, tag="characters")

    def text(self, step: int, tag: str, text: str) -> None:
        """A text for TensorBoard, verbatim."""
        indented = "".join(f"    {line}\n" for line in text.splitlines())
        self.tensorboard.add_text(tag, indented, step)

    def hparams(self, step: int, settings: dict[str, Any], results: dict[str, float]) -> None:
        """The row of this run in TensorBoard's HPARAMS tab: its settings and final figures."""
        from torch.utils.tensorboard.summary import hparams

        plain = {key: v if isinstance(v, bool | int | float | str) else str(v) for key, v in settings.items()}
        # SummaryWriter.add_hparams would do this in a run of its own, which TensorBoard shows as a phantom.
        assert self.tensorboard.file_writer is not None
        for summary in hparams(plain, results):
            self.tensorboard.file_writer.add_summary(summary)
        self.scalars(step, results)

    def flush(self) -> None:
        """Hand all that was logged to the operating system, where it survives the end of this process."""
        self.table.flush()
        self.tensorboard.flush()

    def __enter__(self) -> "Tracker":
        self.console.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.console.stop()
        self.table.close()
        self.tensorboard.close()


def open_table(path: Path, resumed_at: int | None) -> io.TextIOWrapper:
    """`metrics.csv`, ready for the next row: new, or as it stood at the step from which the run goes on."""
    kept = []
    if resumed_at is not None and path.exists():
        with path.open(newline="") as old:
            lines = (line.replace("\0", "") for line in old)  # what a power cut may leave
            kept = [row for row in csv.DictReader(lines) if is_row(row) and int(row["step"]) <= resumed_at]
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", newline="") as new:
        writer = csv.DictWriter(new, ["step", *COLUMNS])
        writer.writeheader()
        writer.writerows(kept)
    partial.replace(path)
    return path.open("a", newline="")


def is_row(row: dict[str, str | None]) -> bool:
    """Whether a line of the table is whole: a process that was killed may have left half of its last one."""
    return None not in row.values() and None not in row


class ProgressReport:
    """A live bar in a terminal; elsewhere, and in the log file, ten lines a run."""

    def __init__(self, steps: int, done: int) -> None:
        self.steps, self.began, self.val = steps, time.perf_counter(), math.nan
        self.tenth = 10 * done // steps
        self.bar = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=Console(file=sys.stdout),
            transient=True,
        )
        self.bar.disable = not self.bar.console.is_terminal
        self.task = self.bar.add_task("", total=steps, completed=done, figures="")

    def show(self, step: int, metrics: dict[str, float]) -> None:
        self.val = metrics.get("val/loss", self.val)
        figures = f"train {metrics['train/loss']:.3f}  EMA {metrics['train/loss_ema']:.3f}"
        if not math.isnan(self.val):
            figures += f"  val {self.val:.3f}"
        speed = f"{metrics['speed/tokens_per_second']:,.0f} tokens/s"
        self.bar.update(self.task, completed=step, figures=f"{figures}  {speed}")
        tenth = 10 * step // self.steps
        if tenth > self.tenth:
            self.tenth = tenth
            seconds = time.perf_counter() - self.began
            logger.info("step %*d/%d  %s  %s  %.0f s", len(str(self.steps)), step, self.steps, figures, speed, seconds)

    def start(self) -> None:
        if not self.bar.disable:
            self.bar.start()

    def stop(self) -> None:
        self.bar.stop()
