"""Samples at steps 0, 1, 2, 4, 8, … of a run, and the text file that holds them."""

import re
from pathlib import Path

from microgpt.runs.directory import write_atomically

FILE = "samples_over_time.txt"


def is_sampled(step: int) -> bool:
    """Whether samples are drawn after `step` steps: at step 0 and at the powers of two."""
    return step & (step - 1) == 0  # removes the lowest 1 bit: nothing is left of 0 and of a power of two


def write_samples(folder: Path, samples: dict[int, list[str]]) -> None:
    """Write a line such as `step 64` for each step, and below it the lines of its samples.

    Samples are indented: a sample may itself hold a line such as `step 64`.
    """
    text = "".join(
        f"step {step}\n" + "".join(f"  {line}\n" for text in texts for line in text.split("\n"))
        for step, texts in sorted(samples.items())
    )
    write_atomically(folder / FILE, text)


def read_samples(folder: Path) -> dict[int, list[str]]:
    """The lines of the samples of each step, as `write_samples` wrote them; empty if there is no file."""
    file = folder / FILE
    if not file.is_file():
        return {}
    # A pattern with a group: re.split gives [text before, step, lines, step, lines, …].
    parts = re.split(r"^step (\d+)\n", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {
        int(step): [line.removeprefix("  ") for line in lines.splitlines()]
        for step, lines in zip(parts[::2], parts[1::2], strict=True)
    }
