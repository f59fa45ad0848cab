"""The progress bar of a run: in a terminal, in a notebook, or none."""

import sys
import time
from html import escape
from typing import Any, Protocol

MIN_SECONDS = 0.1  # between two updates of the bar in a notebook, each of which is a message to the browser


class ProgressBar(Protocol):
    def start(self) -> None: ...

    def update(self, step: int, figures: str) -> None:
        """Show that `step` steps are done, and the latest figures."""

    def stop(self) -> None: ...


def progress_bar(steps: int, done: int) -> ProgressBar | None:
    """A bar for `steps` steps, of which `done` are done, where standard output is a terminal or a notebook's cell."""
    if sys.stdout.isatty():
        return TerminalBar(steps, done)
    return NotebookBar(steps, done) if in_notebook() else None


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, and what it prints is shown there."""
    if "IPython" not in sys.modules:
        return False
    shell: Any = sys.modules["IPython"].get_ipython()
    return hasattr(shell, "kernel") and type(sys.stdout).__module__.startswith("ipykernel")


class TerminalBar:
    """A bar with the step, the latest figures and the remaining time, which disappears at the end."""

    def __init__(self, steps: int, done: int) -> None:
        # Imported here, since rich takes a while to import.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=Console(file=sys.stdout),
            transient=True,
        )
        self.task = self.bar.add_task("", total=steps, completed=done, figures="")

    def start(self) -> None:
        self.bar.start()

    def update(self, step: int, figures: str) -> None:
        self.bar.update(self.task, completed=step, figures=figures)

    def stop(self) -> None:
        self.bar.stop()


class NotebookBar:
    """The same bar as an element of HTML in the output of a cell. It stays there, as it was at the end."""

    handle: Any = None  # of the output in the notebook

    def __init__(self, steps: int, done: int) -> None:
        self.steps, self.first, self.step, self.figures = steps, done, done, ""

    def start(self) -> None:
        from IPython.display import HTML, display

        self.html: Any = HTML
        self.started = self.shown = time.perf_counter()
        self.handle = display(HTML(self.text()), display_id=True)

    def update(self, step: int, figures: str) -> None:
        self.step, self.figures = step, figures
        if time.perf_counter() - self.shown >= MIN_SECONDS:
            self.show()

    def stop(self) -> None:
        if self.handle:
            self.show()
            self.handle = None

    def show(self) -> None:
        self.shown = time.perf_counter()
        self.handle.update(self.html(self.text()))

    def text(self) -> str:
        """The element, with the remaining time until the last step."""
        left = ""
        if self.first < self.step < self.steps:
            seconds = (time.perf_counter() - self.started) * (self.steps - self.step) / (self.step - self.first)
            left = f"  {seconds:.0f} s left"
        return (
            f'<progress value="{self.step}" max="{self.steps}" style="width: 12em"></progress>'
            f' <code style="white-space: pre">step {self.step}/{self.steps}  {escape(self.figures)}{left}</code>'
        )
