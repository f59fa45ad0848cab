"""The bar of a run: which one is shown where, and what it shows. In a kernel it is tried by tests/test_notebook.py."""

import io
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from microgpt.runs.progress_bar import NotebookBar, TerminalBar, progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_the_steps_and_figures_and_then_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Terminal())
    bar = progress_bar(40, 10)
    assert isinstance(bar, TerminalBar)
    bar.start()
    bar.update(30, "train 2.000")
    bar.stop()
    assert isinstance(sys.stdout, Terminal) and "step 30/40" in sys.stdout.getvalue()
    assert "train 2.000" in sys.stdout.getvalue()


def test_a_file_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert progress_bar(40, 0) is None


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a notebook shows; each update replaces what was shown before."""
    texts: list[str] = []
    handle = SimpleNamespace(update=texts.append)
    display: Any = ModuleType("IPython.display")
    display.HTML = lambda text: text
    display.display = lambda text, display_id: (texts.append(text), handle)[1]
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return texts


def test_a_notebook_shows_the_same_as_an_element(shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.01, 10.0, 10.0, 10.0, 20.0, 20.0, 20.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    bar = NotebookBar(40, 10)
    bar.start()  # at second 0
    bar.update(11, "train <3")  # too early to be shown
    bar.update(20, "train <2")  # at second 10
    assert len(shown) == 2 and 'value="10" max="40"' in shown[0]
    assert 'value="20"' in shown[1] and "step 20/40  train &lt;2  20 s left" in shown[1]
    bar.stop()
    bar.stop()
    assert len(shown) == 3 and "step 20/40" in shown[2]
