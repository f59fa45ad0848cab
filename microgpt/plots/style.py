"""The style of all figures: colours, sizes, and a context manager that applies them; the colours of HTML pages.

Imports no torch.

Matplotlib is slow to import. Each function that needs it imports it, so that --help does not.
"""

import importlib.resources
import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microgpt.runs.directory import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RAW, EMA, VAL, INK, FAINT, BASELINE = "#9bb8d3", "#1f5f99", "#d1495b", "#2b2d33", "#e4e6ea", "#6b7d3a"
LINES = ("#8b6bb1", "#d08c3c", "#4f9d94", EMA)  # colours of several lines in one chart
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


@contextmanager
def styled(settings: Mapping[Any, Any] | None = None) -> Iterator[None]:
    """Apply the style, and `settings` for one figure, while a figure is drawn.

    A character that the font lacks is drawn as a box, without matplotlib's warning.
    """
    import matplotlib

    with matplotlib.rc_context({**STYLE, **(settings or {})}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def draw(figure: "Figure", form: str = "png") -> bytes:
    """The figure as a file of this format."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form)
    return buffer.getvalue()


def save(figure: "Figure", out: Path) -> None:
    """Save the figure in the format that the suffix of `out` names. A figure that exists is whole."""
    write_atomically(out, draw(figure, out.suffix.removeprefix(".")))


def page_colors() -> str:
    """The colours of all HTML pages as CSS variables, for light and dark; a style begins with them."""
    return (importlib.resources.files("microgpt.plots") / "colors.css").read_text(encoding="utf-8")
