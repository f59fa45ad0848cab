"""Tracking of a training run: each metric goes to `metrics.csv`, to TensorBoard and to the console."""

import io
import logging
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from microgpt.config.schema import Config
from microgpt.runs.directory import Status
from microgpt.runs.loggers import Loggers
from microgpt.runs.metrics import MetricsWriter
from microgpt.runs.progress_bar import progress_bar

if TYPE_CHECKING:
    from microgpt.runs.events import EventFile

log = logging.getLogger(__name__)

# Metric → its name on the console. Other metrics have the last part of their tag; of `optim/` and `speed/`, only SPEED
# is shown, at the end.
SHORT_NAMES = {"train/loss": "train", "train/loss_ema": "EMA", "val/loss": "val", "val/bpc": "bits/char"}
SPEED = "speed/tokens_per_second"
SLOW_FACTOR, SLOW_LOGS = 4, 5  # how many times slower, and for how many logs in a row, is worth a warning

# TensorBoard sorts the groups of tags by name. These losses come first, in a group of each corpus, since losses on
# different corpora cannot be compared. Groups whose name starts with z_ come last.
LOSSES = {"train/loss_ema": "train", "val/loss": "val"}
BASELINES, LAYERS, FINAL, FIGURES = "z_baselines", "z_layers", "z_final", "plots"


def escape_unencodable() -> None:
    """From now on, standard output shows a character that its encoding lacks as an escape sequence, such as \\u23ce."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


class ConsoleHandler(logging.Handler):
    """Prints log records to the current `sys.stdout`, which rich replaces while it shows a progress bar."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if sys.stdout.isatty() and not text.startswith("\n"):  # samples, after an empty line, are shown as they are
            text = "\n".join(wrapped(line, shutil.get_terminal_size().columns) for line in text.split("\n"))
        print(text, file=sys.stdout, flush=True)


def wrapped(line: str, width: int) -> str:
    """A line of the log, divided between words if it is longer than the terminal is wide."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    options: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False, "replace_whitespace": False}
    return textwrap.fill(line, width, subsequent_indent=indent, **options) if len(line) > width else line


class LogFile(logging.FileHandler):
    """Appends log records to the file `path`, with date, time and level."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """A context in which the log of this package goes to the console and the file `path`, and nowhere else."""
    logger = logging.getLogger("microgpt")
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    file = LogFile(path)
    logger.handlers, logger.propagate = [ConsoleHandler(), file], False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
        file.close()


class NoEvents:
    """Takes the place of TensorBoard's `EventFile` in a run without it: every call does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values, **named: None


class Tracker:
    """Writes the metrics of a run to its directory and to the console. A context manager: its files are open inside.

    `resumed_at`: the step from which the run is resumed. Metrics of later steps are removed from `metrics.csv` and from
    TensorBoard. `corpus`: its name; TensorBoard shows the losses once more under it.
    """

    table: MetricsWriter
    tensorboard: "EventFile | NoEvents"

    def __init__(
        self, folder: Path, steps: int, resumed_at: int | None = None, corpus: str = "", *, config: Config | None = None
    ) -> None:
        self.folder, self.resumed_at, self.corpus = folder, resumed_at, corpus
        self.others, self.has_tensorboard = Loggers(folder, config), config is None or config.logger.tensorboard
        self.console = ProgressReport(steps, resumed_at or 0, config.train.val_every if config else 0)
        self.is_complete = False

    def __enter__(self) -> "Tracker":
        self.table = MetricsWriter(self.folder, self.resumed_at)
        if self.has_tensorboard:
            from microgpt.runs.events import EventFile  # imports TensorBoard, which only such a run needs

            self.tensorboard = EventFile(self.folder, self.resumed_at)
        else:
            self.tensorboard = NoEvents()
        self.others.open()
        self.console.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.console.stop()
        # After an error, such as a full disk, closing a file may fail as well: the first error is the one to report.
        with suppress(OSError) if error else nullcontext():
            self.table.close()
        with suppress(OSError) if error else nullcontext():
            self.tensorboard.close()
        unfinished = Status.FAILED if error else Status.INTERRUPTED
        self.others.call("close", Status.FINISHED if self.is_complete else unfinished)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics that were measured after `step` steps, by tag."""
        self.table.write(step, metrics)
        losses = {name: metrics[tag] for tag, name in LOSSES.items() if tag in metrics and self.corpus}
        self.details(step, {f"loss/{self.corpus}/{name}": loss for name, loss in losses.items()} | dict(metrics))
        self.console.show(step, metrics)

    def details(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write scalars, by tag, to all loggers but `metrics.csv`."""
        if scalars:
            self.tensorboard.scalars(step, scalars)
            self.others.call("scalars", step, scalars)

    def chart_of_corpus(self, baseline: str) -> None:
        """Show the validation loss beside that of one baseline, in one of TensorBoard's custom scalars.

        All runs of a corpus share the chart, in which each has two lines.
        """
        category = f"Validation loss in nats per token; flat: that of a {baseline} model"
        tags = [f"loss/{self.corpus}/val", f"{BASELINES}/{self.corpus}/{baseline}"]
        self.tensorboard.chart(category, self.corpus, tags)

    def baselines(self, step: int, losses: Mapping[str, float]) -> None:
        """Write the losses of n-gram baselines, by name, to the loggers."""
        self.details(step, {f"{BASELINES}/{self.corpus}/{name}": loss for name, loss in losses.items()})

    def layers(self, step: int, statistics: Mapping[str, float]) -> None:
        """Write layer statistics, by tag, to the loggers, as one group."""
        self.details(step, {f"{LAYERS}/{tag}": value for tag, value in statistics.items()})

    def figure(self, step: int, name: str, png: bytes) -> None:
        """Show a figure, a PNG file, among TensorBoard's images."""
        self.tensorboard.image(step, f"{FIGURES}/{name}", png)

    def embeddings(self, vectors: Any, names: list[str], pictures: bytes, size: int) -> None:
        """Write a tensor of vectors (n, C), their names and pictures for TensorBoard's projector."""
        self.tensorboard.embeddings("characters", vectors.tolist(), names, pictures, size)

    def text(self, step: int, tag: str, text: str) -> None:
        """Write a text to the loggers; to TensorBoard verbatim: in Markdown, four spaces before a line make it code."""
        indented = "".join(f"    {line}\n" for line in text.split("\n"))
        self.tensorboard.text(step, tag, indented)
        self.others.call("text", step, tag, text)

    def hparams(
        self, step: int, settings: Mapping[str, Any], columns: Mapping[str, bool], results: Mapping[str, float]
    ) -> None:
        """Write the row of this run in TensorBoard's HPARAMS tab: its settings and final results, by heading.

        `columns` are the settings that have a column, and whether they differ between runs.
        """
        plain = {key: v if isinstance(v, bool | int | float | str) else str(v) for key, v in settings.items()}
        tags = {heading: f"{FINAL}/{heading.replace(' ', '_')}" for heading in results}
        self.tensorboard.hparams(plain, columns, {tag: heading for heading, tag in tags.items()})
        self.details(step, {tags[heading]: value for heading, value in results.items()})
        self.is_complete = True
        self.others.call("results", {f"final/{name.replace(' ', '_')}": value for name, value in results.items()})

    def before_checkpoint(self, step: int) -> None:
        """Write all buffered metrics to their files, so that these hold what was measured before the checkpoint."""
        self.tensorboard.checkpoint(step)
        self.flush()

    def flush(self) -> None:
        """Write all buffered metrics to their files, so that they survive the end of this process."""
        self.table.flush()
        self.tensorboard.flush()
        self.others.call("flush")


class ProgressReport:
    """A progress bar in a terminal or a notebook, and about ten lines of the log.

    There is a line at the first validation in each tenth of the steps. If `val_every` is more than a fifth of the
    steps, there is one at each validation, and one after each tenth.
    """

    def __init__(self, steps: int, done: int, val_every: int = 0) -> None:
        self.steps, self.waits = steps, 0 < 5 * val_every <= steps  # for the validation in each tenth
        self.figures: dict[str, str] = {}  # metric → its name and latest value, as shown
        self.tenth = 10 * done // steps  # completed tenths of the steps
        self.bar = progress_bar(steps, done)
        self.fastest, self.n_slow = 0.0, 0  # tokens per second; logs in a row that were many times slower

    def show(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            if not name.startswith(("optim/", "speed/")):
                self.figures[name] = f"{SHORT_NAMES.get(name, name.rpartition('/')[2])} {value:.3f}"
        speed = f"{metrics[SPEED]:,.0f} tokens/s"
        if self.bar:
            self.bar.update(step, "  ".join([*self.figures.values(), speed]))
        self.note_slowness(step, metrics[SPEED])
        tenth, validated = 10 * step // self.steps, "val/loss" in metrics
        if (tenth > self.tenth and validated) if self.waits else (tenth > self.tenth or validated):
            self.tenth = tenth
            seconds = time.perf_counter() - self.started
            current = "  ".join([text for name, text in self.figures.items() if name in metrics] + [speed])
            # %*d pads the step to the width of the total.
            log.info("step %*d/%d  %s  %.0f s", len(str(self.steps)), step, self.steps, current, seconds)

    def note_slowness(self, step: int, speed: float) -> None:
        """Log once that training has become many times slower, for a while and not for a moment."""
        self.fastest = max(self.fastest, speed)
        self.n_slow = self.n_slow + 1 if speed * SLOW_FACTOR < self.fastest else 0
        if self.n_slow == SLOW_LOGS:
            factor = self.fastest / speed
            log.warning(
                "step %d: training is %.0f times slower than before (%s tokens/s instead of %s): is the machine busy"
                " with something else, or too hot?",
                step,
                factor,
                f"{speed:,.0f}",
                f"{self.fastest:,.0f}",
            )

    def start(self) -> None:
        self.started = time.perf_counter()
        if self.bar:
            self.bar.start()

    def stop(self) -> None:
        if self.bar:
            self.bar.stop()
