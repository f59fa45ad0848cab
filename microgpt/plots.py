"""Figures from the files of a run, in one style. Imports no torch."""

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RAW, EMA, VAL, INK, FAINT = "#9bb8d3", "#1f5f99", "#d1495b", "#2b2d33", "#e4e6ea"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "savefig.dpi": 150,
}

Series = dict[str, tuple[list[int], list[float]]]


def read_metrics(path: Path) -> Series:
    """Each column of a `metrics.csv`: the steps at which it has a value, and the values."""
    series: Series = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for tag, value in row.items():
                if tag != "step" and value:
                    steps, values = series.setdefault(tag, ([], []))
                    steps.append(int(row["step"]))
                    values.append(float(value))
    return series


def draw_losses(axes: "Axes", metrics: Series, title: str) -> None:
    """Training loss (raw and EMA) and validation loss over the steps, the best validation marked."""
    empty: tuple[list[int], list[float]] = ([], [])
    axes.plot(*metrics.get("train/loss", empty), color=RAW, linewidth=0.8, alpha=0.7, label="train (raw)")
    axes.plot(*metrics.get("train/loss_ema", empty), color=EMA, linewidth=1.8, label="train (EMA)")
    steps, values = metrics.get("val/loss", empty)
    axes.plot(steps, values, color=VAL, linewidth=1.8, marker="o", markersize=3.5, label="validation (on the way)")
    finite = [(value, step) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
    if finite:
        mark_best(axes, *min(finite), steps[-1])
        # The first steps fall from ln(vocabulary) and would flatten everything after them.
        ema = metrics.get("train/loss_ema", empty)[1]
        settled = [value for value, _ in finite] + [value for value in ema[len(ema) // 20 :] if math.isfinite(value)]
        low, high = min(settled), max(settled)
        axes.set_ylim(low - 0.12 * (high - low or 1), high + 0.08 * (high - low or 1))
    axes.set(title=title, xlabel="step", ylabel="loss (nats a token)")
    axes.margins(x=0.01)
    axes.legend(loc="upper right")


def mark_best(axes: "Axes", value: float, step: int, last_step: int) -> None:
    axes.annotate(
        f"{value:.3f}",
        (step, value),
        xytext=(0, 10),
        textcoords="offset points",
        ha="right" if step > last_step / 2 else "left",
        color=VAL,
        fontweight="bold",
    )


def loss_figure(metrics: Series, title: str) -> "Figure":
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        draw_losses(figure.subplots(), metrics, title)
    return figure


def save_loss_figure(metrics_file: Path, out: Path, title: str) -> None:
    """Draw the losses of `metrics_file` as the picture `out`."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        loss_figure(read_metrics(metrics_file), title).savefig(out)


class LiveWindow:
    """A window with the loss curves that can be redrawn as training goes. Raises `ImportError` without a display."""

    def __init__(self, title: str) -> None:
        import matplotlib
        import matplotlib.pyplot as plt

        self.title = title
        plt.switch_backend("TkAgg")
        with matplotlib.rc_context(STYLE):
            self.figure, self.axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
        self.figure.show()

    def redraw(self, metrics_file: Path) -> None:
        import matplotlib

        with matplotlib.rc_context(STYLE):
            self.axes.clear()
            draw_losses(self.axes, read_metrics(metrics_file), self.title)
            self.figure.canvas.draw()
        self.figure.canvas.flush_events()
