"""Figures of losses: of one run, of many runs, of a search; and a window that shows the losses of a run in training."""

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microgpt.plots.labels import put_in_front, spread
from microgpt.plots.style import BASELINE, EMA, INK, RAW, VAL, save, styled
from microgpt.runs.callback import Callback, Progress
from microgpt.runs.metrics import Series, read_metrics, thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABEL_INCHES = 0.12  # height of a line of small text
MAX_TITLE_CHARACTERS = 42  # in a line above a panel
MIN_VALIDATIONS = 4  # that make a curve
LINESTYLES = ("solid", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
BASELINES_IN_LIMITS = ("trigram", "4-gram", "5-gram")  # the y-axis is extended to these baselines

MAX_MARKERS = 100  # validations of which each has a dot


def draw_losses(
    axes: "Axes", metrics: Series, title: str, legend: bool = True, baselines: Mapping[str, float] | None = None
) -> None:
    """Draw training loss (raw and EMA) and validation loss in nats per token over the steps; mark the best validation.

    `baselines` are the losses of n-gram baselines. Each one within the limits of the y-axis is a labelled line. The
    limits include BASELINES_IN_LIMITS, and every baseline below the highest loss that is shown.
    """
    empty: tuple[list[int], list[float]] = ([], [])
    axes.plot(*thinned(*metrics.get("train/loss", empty)), color=RAW, linewidth=0.8, alpha=0.7, label="train (raw)")
    axes.plot(*thinned(*metrics.get("train/loss_ema", empty)), color=EMA, linewidth=1.8, label="train (EMA)")
    steps, values = metrics.get("val/loss", empty)
    marker = "o" if len(steps) <= MAX_MARKERS else ""
    curve = thinned(steps, values)
    axes.plot(*curve, color=VAL, linewidth=1.8, marker=marker, markersize=3.5, label="validation (during training)")
    finite = [(value, step) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
    if finite:
        # The training loss starts near ln(vocab_size). The limits leave out its first 5%: the rest would look flat.
        ema = metrics.get("train/loss_ema", empty)[1]
        losses = [value for value, _ in finite] + [value for value in ema[len(ema) // 20 :] if math.isfinite(value)]
        highest = max(losses)
        losses += [x for name, x in (baselines or {}).items() if x < highest or name in BASELINES_IN_LIMITS]
        set_loss_limits(axes, min(losses), max(losses), 0.12, 0.08)
        mark_baselines(axes, baselines or {})
        best_value, best_step = min(finite)
        mark_best(axes, best_value, best_step, steps[-1], near(metrics, best_step))
    axes.set(title=title, xlabel="step", ylabel="loss (nats per token)")
    axes.margins(x=0.01)
    if legend:
        axes.legend(loc="best", frameon=True, edgecolor="none")


def near(metrics: Series, step: int) -> list[float]:
    """The training losses (EMA) at `step` and up to a fifth of the run before it."""
    steps, values = metrics.get("train/loss_ema", ([], []))
    return [value for s, value in zip(steps, values, strict=True) if step - 0.2 * steps[-1] <= s <= step]


def set_loss_limits(axes: "Axes", low: float, high: float, below: float, above: float) -> None:
    """Limit the y-axis to low … high, with margins `below` and `above` as fractions of that range; not below 0."""
    size = high - low if high > low else 1.0
    axes.set_ylim(max(0.0, low - below * size), high + above * size)


def mark_best(axes: "Axes", value: float, step: int, last_step: int, others: Sequence[float]) -> None:
    """Write the best validation loss at its point, on the side on which the nearest of `others` is further away.

    `others` are losses that are drawn near the point. The text is to the left of the point in the second half of the
    run, else to its right.
    """
    low, high = axes.get_ylim()
    above = min([high, *(other for other in others if other > value)]) - value
    below = value - max([low, *(other for other in others if other < value)])
    text = axes.annotate(
        f"{value:.3f}",
        (step, value),
        xytext=(-4 if step > last_step / 2 else 0, 7 if above >= below else -7),
        textcoords="offset points",
        ha="right" if step > last_step / 2 else "left",
        va="bottom" if above >= below else "top",
        color=VAL,
        fontweight="bold",
    )
    put_in_front(text)


def mark_baselines(axes: "Axes", baselines: Mapping[str, float]) -> None:
    """Draw a horizontal line for each baseline within the limits of the y-axis, with its name at the right end."""
    low, high = axes.get_ylim()
    shown = sorted((loss, name) for name, loss in baselines.items() if low < loss < high)
    inches = axes.get_window_extent().height / axes.figure.dpi
    line = LABEL_INCHES / max(inches, LABEL_INCHES) * (high - low)  # the height of a line of text
    for (loss, name), y in zip(shown, spread([loss for loss, _ in shown], line), strict=True):
        axes.axhline(loss, color=BASELINE, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        transform: Any = axes.get_yaxis_transform()  # x as a fraction of the axes, y as a loss
        axes.text(1.005, y, name, transform=transform, color=BASELINE, fontsize="small", va="center")


def loss_figure(metrics: Series, title: str, baselines: Mapping[str, float] | None = None) -> "Figure":
    """The figure of a run's losses, with the n-gram baselines as lines; a notebook shows it."""
    from microgpt.plots.inline import InlineFigure

    with styled():
        figure = InlineFigure(figsize=(8, 4.5), layout="constrained")
        draw_losses(figure.subplots(), metrics, title, baselines=baselines)
    return figure


def save_loss_figure(metrics: Series, out: Path, title: str, baselines: Mapping[str, float] | None = None) -> None:
    """Save the figure of a run's losses, with the n-gram baselines as lines, in the file `out`."""
    with styled():
        save(loss_figure(metrics, title, baselines), out)


@dataclass(frozen=True)
class Panel:
    """One run in a figure of many runs; `note` is text in its middle, such as the status of a run without metrics."""

    title: str
    metrics: Series
    note: str = ""
    baselines: Mapping[str, float] = field(default_factory=dict)


def panels_figure(panels: Sequence[Panel], title: str) -> "Figure":
    """A grid with one panel per run, filled row by row, and one legend. All panels have the same size."""
    from microgpt.plots.inline import InlineFigure

    columns = min(len(panels), max(2, math.ceil(math.sqrt(len(panels) * 0.75))))
    n_rows = math.ceil(len(panels) / columns)
    small = {"font.size": 9, "axes.titlesize": 9, "figure.titlesize": 12}
    with styled(small):
        figure = InlineFigure(figsize=(max(7, 3.6 * columns), 2.6 * n_rows + 1), layout="constrained")
        grid = figure.subplots(n_rows, columns, squeeze=False).flatten()
        for axes, panel in zip(grid, panels, strict=False):
            heading = textwrap.fill(panel.title, MAX_TITLE_CHARACTERS)  # also at hyphens
            draw_losses(axes, panel.metrics, heading, legend=False, baselines=panel.baselines)
            axes.set(xlabel="", ylabel="")
            if not panel.metrics.get("train/loss"):
                axes.set(xticks=[], yticks=[])
            axes.text(0.5, 0.5, panel.note, transform=axes.transAxes, ha="center", color=VAL, wrap=True)
        for axes in grid[len(panels) :]:
            axes.remove()
        handles, labels = grid[0].get_legend_handles_labels()
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", color=INK)
        figure.legend(handles, labels, loc="outside upper right", ncols=3)
        figure.supxlabel("step", fontsize=9, color=INK)
        figure.supylabel("loss (nats per token)", fontsize=9, color=INK)
    return figure


Curve = tuple[list[int], list[float]]  # steps, losses


def curves_figure(curves: Mapping[str, tuple[Curve, Curve]], title: str) -> "Figure":
    """The validation losses of many runs in one chart, each with its name in the legend.

    `curves` holds validation and training loss (EMA) by the name of the run, best run first. Where a run has fewer
    validations than MIN_VALIDATIONS, the training losses are drawn as thin lines.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=(10, max(4.2, 0.19 * len(curves) + 0.6)), layout="constrained")
        axes = figure.subplots()
        colors = matplotlib.color_sequences["tab10"]
        few = any(len(val[0]) < MIN_VALIDATIONS for val, _ in curves.values())
        # Drawn from worst to best, so that the best curve is on top.
        for n, (name, (val, train)) in reversed(list(enumerate(curves.items()))):
            style: Any = {"color": colors[n % len(colors)], "linestyle": LINESTYLES[n // len(colors) % len(LINESTYLES)]}
            if few:
                axes.plot(*train, linewidth=0.8, alpha=0.7, **style)
            axes.plot(*val, linewidth=1.8, marker="o", markersize=3, label=name, **style)
        drawn = [val for val, _ in curves.values()] + ([train for _, train in curves.values()] if few else [])
        finite = sorted(loss for _, losses in drawn for loss in losses[len(losses) // 10 :] if math.isfinite(loss))
        if finite:
            # The highest 3% of the losses are cut off: with them all other curves would look flat.
            set_loss_limits(axes, finite[0], finite[round(0.97 * (len(finite) - 1))], 0.05, 0.1)
        thin = " (thin lines: EMA of the training loss)" if few else ""
        axes.set(title=title + thin, xlabel="step", ylabel="validation loss (nats per token)")
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside right upper", fontsize=8)
    return figure


def save_search_figure(history: Mapping[int, float], importances: Mapping[str, float], out: Path, title: str) -> None:
    """Save a figure of a search: left the loss of each trial and the best so far, right the importance of each setting.

    `history` holds the final validation loss, in nats per token, by the number of the trial; `importances` shares of 1.
    """
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        trials, losses = list(history), list(history.values())
        left.scatter(trials, losses, color=RAW, label="a trial")
        best = [min(losses[: n + 1]) for n in range(len(losses))]
        left.step(trials, best, where="post", color=VAL, linewidth=1.8, label="best so far")
        left.set(title=title, xlabel="trial", ylabel="final validation loss (nats per token)")
        left.legend()
        names = sorted(importances, key=lambda name: importances[name])
        right.barh(names, [importances[name] for name in names], color=EMA)
        right.set(title="importance (PED-ANOVA)", xlabel="share")
        save(figure, out)


def save_panels(panels: Sequence[Panel], out: Path, title: str) -> None:
    """Save `panels_figure` in the file `out`."""
    with styled():
        save(panels_figure(panels, title), out)


def as_svg(figure: "Figure") -> str:
    """The figure as an `<svg>` element for an HTML page. It loads no other files."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    _, tag, rest = text.getvalue().partition("<svg")  # without the XML header, which HTML does not allow
    return tag + rest


class LiveWindow(Callback):
    """A callback that shows the loss curves of the run in `folder` in a window, drawn again after each validation.

    Raises `ImportError` without a display.
    """

    def __init__(self, folder: Path, title: str) -> None:
        import matplotlib.pyplot as plt

        self.folder, self.title = folder, title
        plt.switch_backend("TkAgg")
        with styled():
            self.figure, self.axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
        self.figure.show()

    def after_validation(self, progress: Progress, is_best: bool) -> None:
        with styled():
            self.axes.clear()
            draw_losses(self.axes, read_metrics(self.folder), self.title)
            self.figure.canvas.draw()
        self.figure.canvas.flush_events()
