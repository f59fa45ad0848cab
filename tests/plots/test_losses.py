"""Figures of the losses of a run."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Annotation

from microgpt.plots.losses import LiveWindow, loss_figure, save_loss_figure
from microgpt.plots.style import BASELINE
from microgpt.runs.callback import Progress
from microgpt.runs.metrics import Series, read_metrics

HEADER = "step,train/loss,train/loss_ema,val/loss\n"
ROWS = ["10,3.5,3.6,\n", "20,3.1,3.4,3.25\n", "30,2.9,3.2,2.75\n", "40,2.8,3.0,2.85\n"]


def make_metrics(folder: Path, *rows: str) -> Series:
    (folder / "metrics.csv").write_text(HEADER + "".join(rows))
    return read_metrics(folder)


def assert_is_a_picture(path: Path) -> None:
    pixels = imread(path)
    assert pixels.shape[:2] == (675, 1200)
    assert len({tuple(color) for color in pixels.reshape(-1, pixels.shape[-1])[::7].tolist()}) > 20


def test_each_column_has_the_steps_at_which_it_was_measured(tmp_path: Path) -> None:
    metrics = make_metrics(tmp_path, *ROWS)
    assert metrics["train/loss"] == ([10, 20, 30, 40], [3.5, 3.1, 2.9, 2.8])
    assert metrics["val/loss"] == ([20, 30, 40], [3.25, 2.75, 2.85])
    assert "step" not in metrics


def test_a_loss_figure_is_saved_as_a_picture(tmp_path: Path) -> None:
    save_loss_figure(make_metrics(tmp_path, *ROWS), tmp_path / "loss.png", "names")
    assert_is_a_picture(tmp_path / "loss.png")


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(["10,3.5,3.6,3.4\n"], id="a single row"),
        pytest.param(["10,3.5,3.5,3.5\n"], id="a single value"),
        pytest.param(["10,3.5,3.6,\n", "20,3.1,3.4,\n"], id="no validation"),
        pytest.param([], id="no row"),
        pytest.param(["10,3.5,3.6,3.4\n", "20,3.1,3.2,nan\n"], id="diverged to nan"),
        pytest.param(["10,3.5,3.6,nan\n"], id="diverged at once"),
        pytest.param(["10,3.5,3.6,3.4\n", "20,3.1,3.2,inf\n"], id="diverged to infinity"),
    ],
)
def test_a_loss_figure_of_few_or_no_finite_values_is_saved_as_a_picture(tmp_path: Path, rows: list[str]) -> None:
    save_loss_figure(make_metrics(tmp_path, *rows), tmp_path / "loss.png", "names")
    assert_is_a_picture(tmp_path / "loss.png")


def test_the_curves_are_named_and_the_best_validation_is_marked(tmp_path: Path) -> None:
    (axes,) = loss_figure(make_metrics(tmp_path, *ROWS), "names").axes
    curves = {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in axes.get_lines()}
    assert curves["train (raw)"] == [3.5, 3.1, 2.9, 2.8]
    assert curves["train (EMA)"] == [3.6, 3.4, 3.2, 3.0]
    assert curves["validation (during training)"] == [3.25, 2.75, 2.85]
    (mark,) = axes.texts
    assert isinstance(mark, Annotation) and mark.xy == (30, 2.75) and mark.get_text() == "2.750"
    assert axes.get_title(loc="left") == "names"


def test_baselines_are_named_lines_where_they_lie_within_the_axes(tmp_path: Path) -> None:
    """The trigram and longer n-grams are always within the axes."""
    baselines = {"uniform": 9.0, "unigram": 8.0, "bigram": 3.1, "trigram": 4.0, "4-gram": 2.5, "5-gram": 2.4}
    (axes,) = loss_figure(make_metrics(tmp_path, *ROWS), "names", baselines).axes
    lines = [line for line in axes.get_lines() if line.get_color() == BASELINE]
    drawn = {name: loss for name, loss in baselines.items() if loss < 5}
    assert [np.asarray(line.get_ydata()).tolist() for line in lines] == [
        [loss, loss] for loss in sorted(drawn.values())
    ]
    names = {text.get_text(): text.get_position()[1] for text in axes.texts if not isinstance(text, Annotation)}
    assert list(names) == sorted(drawn, key=lambda name: drawn[name])
    places = list(names.values())
    assert all(abs(names[name] - loss) < 0.2 for name, loss in drawn.items())
    assert min(after - before for before, after in pairwise(places)) > 0.05  # the 4-gram and the 5-gram are 0.1 apart


def test_drawing_does_not_change_the_style_of_the_caller(tmp_path: Path) -> None:
    with matplotlib.rc_context({"font.size": 17.0, "axes.grid": False, "savefig.dpi": 33.0}):
        save_loss_figure(make_metrics(tmp_path, *ROWS), tmp_path / "loss.png", "names")
        assert matplotlib.rcParams["font.size"] == 17
        assert matplotlib.rcParams["savefig.dpi"] == 33
        assert not matplotlib.rcParams["axes.grid"]
    assert_is_a_picture(tmp_path / "loss.png")


def python(code: str, **environment: str) -> str:
    """What `code` prints, without a display."""
    kept = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=kept | environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_module_imports_neither_torch_nor_pyplot() -> None:
    code = "import sys, microgpt.plots; print(*(n for n in ('torch', 'matplotlib.pyplot') if n in sys.modules))"
    assert python(code).strip() == ""


def test_drawing_a_picture_needs_neither_torch_nor_pyplot(tmp_path: Path) -> None:
    make_metrics(tmp_path, *ROWS)
    code = f"""
import sys
from pathlib import Path
from microgpt.runs.callback import Progress
from microgpt.runs.metrics import read_metrics
from microgpt.plots.losses import save_loss_figure
save_loss_figure(read_metrics(Path({str(tmp_path)!r})), Path({str(tmp_path)!r}, "loss.png"), "names")
print(*(name for name in ("torch", "matplotlib.pyplot") if name in sys.modules))
"""
    assert python(code).strip() == ""
    assert_is_a_picture(tmp_path / "loss.png")


def test_a_live_window_draws_the_metrics_of_its_run_at_each_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib.pyplot as plt

    switch = plt.switch_backend
    monkeypatch.setattr(plt, "switch_backend", lambda name: switch("agg"))  # there may be no display
    monkeypatch.setattr(Figure, "show", lambda figure: None)
    make_metrics(tmp_path)
    window = LiveWindow(tmp_path, "names")
    try:
        for n in (1, 3):
            make_metrics(tmp_path, *ROWS[:n])
            window.after_validation(Progress(step=10 * n), is_best=True)
            curves = {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in window.axes.get_lines()}
            assert curves["train (raw)"] == [3.5, 3.1, 2.9][:n]
            assert curves["validation (during training)"] == [3.25, 2.75][: n - 1]
        assert window.axes.get_title(loc="left") == "names"
    finally:
        plt.close(window.figure)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
def test_a_live_window_without_a_display_is_an_import_error() -> None:
    code = """
from pathlib import Path
from microgpt.plots.losses import LiveWindow
try:
    LiveWindow(Path(), "names")
except ImportError:
    print("refused")
"""
    assert python(code).strip() == "refused"
