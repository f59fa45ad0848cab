"""The style of figures: set while a figure is drawn, and not after it."""

import io
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from microgpt.plots.style import BASELINE, EMA, FAINT, INK, LINES, RAW, STYLE, VAL, save, styled


def test_the_style_is_set_only_inside_the_context() -> None:
    before = dict(matplotlib.rcParams)
    with styled({"font.size": 7, "axes.grid": False}):
        assert matplotlib.rcParams["savefig.dpi"] == STYLE["savefig.dpi"] == 150
        assert matplotlib.rcParams["font.size"] == 7 and not matplotlib.rcParams["axes.grid"]
    assert dict(matplotlib.rcParams) == before
    with styled():
        assert matplotlib.rcParams["font.size"] == STYLE["font.size"] and matplotlib.rcParams["axes.grid"]


def test_the_previous_style_is_restored_after_an_error() -> None:
    before = dict(matplotlib.rcParams)
    with pytest.raises(ZeroDivisionError), styled():
        raise ZeroDivisionError
    assert dict(matplotlib.rcParams) == before


def test_a_character_missing_from_the_font_gives_no_warning() -> None:
    def draw() -> None:
        figure = Figure()
        figure.text(0.5, 0.5, "\U0001f3b2\u13a0")
        figure.savefig(io.BytesIO())

    with pytest.warns(UserWarning, match="Glyph"):
        draw()
    with styled(), warnings.catch_warnings(record=True) as caught:
        draw()
    assert caught == []


def test_other_warnings_are_still_given() -> None:
    with pytest.warns(UserWarning, match="something else"), styled():
        warnings.warn("something else", stacklevel=1)


def test_colours_used_in_one_figure_differ() -> None:
    assert len({RAW, EMA, VAL, INK, FAINT, BASELINE}) == 6
    assert len(set(LINES)) == 4 and not {VAL, INK, BASELINE} & set(LINES)


def test_importing_the_style_imports_neither_torch_nor_matplotlib() -> None:
    code = "import sys, microgpt.plots.style; print(*(name for name in ('torch', 'matplotlib') if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


def test_a_figure_that_exists_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        save(Figure(), tmp_path / f"a.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes().startswith(start)

    def fail(figure: Figure, file: io.BytesIO, **options: object) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(KeyboardInterrupt):
        save(Figure(), tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()
