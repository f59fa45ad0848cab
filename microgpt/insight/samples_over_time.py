"""Samples at steps 0, 1, 2, 4, 8, … of a run, and the text file that holds them."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from microgpt.data.documents import INDENT
from microgpt.runs.directory import read_bytes, write_atomically

log = logging.getLogger(__name__)

FILE = "samples_over_time.txt"
FIRST = "- "  # as wide as INDENT


def is_sampled(step: int) -> bool:
    """Whether samples are drawn after `step` steps: at step 0 and at the powers of two."""
    return step & (step - 1) == 0  # removes the lowest 1 bit: nothing is left of 0 and of a power of two


def write_samples(folder: Path, samples: dict[int, list[str]]) -> None:
    """Write a line such as `step 64` for each step, and below it its samples, as `join_samples` does."""
    text = "".join(f"step {step}\n{join_samples(texts)}" for step, texts in sorted(samples.items()))
    write_atomically(folder / FILE, text)


def join_samples(texts: Sequence[str]) -> str:
    """The lines of the samples, indented: a sample may itself hold a line such as `step 64`.

    Where several samples are not one line each, a dash stands before the first line of each.
    """
    first = FIRST if len(texts) > 1 and any("\n" in text for text in texts) else INDENT
    return "".join(first + text.replace("\n", "\n" + INDENT) + "\n" for text in texts)


def read_samples(folder: Path) -> dict[int, list[str]]:
    """The samples of each step, as `write_samples` wrote them; empty if there is no file.

    A sample without a dash before it is given as its lines. Steps that are not readable as UTF-8 are left out, with a
    warning that counts them.
    """
    file = folder / FILE
    if not file.is_file():
        return {}
    # A pattern with a group: re.split gives [text before, step, lines, step, lines, …].
    before, *parts = re.split(rb"^step (\d{1,18})\n", read_bytes(file), flags=re.MULTILINE)
    samples, damaged = {}, int(bool(before))
    for step, lines in zip(parts[::2], parts[1::2], strict=True):
        text = lines.decode(errors="replace")
        if text.encode() == lines:
            samples[int(step)] = split_samples(text)
        else:
            damaged += 1
    if damaged:
        log.warning("%s: the samples of %d steps are damaged, and left out", file, damaged)
    return samples


def split_samples(lines: str) -> list[str]:
    """The samples that `join_samples` joined."""
    lines = "\n" + lines.removesuffix("\n")
    if lines.startswith("\n" + FIRST):
        return [text.replace("\n" + INDENT, "\n") for text in lines.split("\n" + FIRST)[1:]]
    return lines.split("\n" + INDENT)[1:]
