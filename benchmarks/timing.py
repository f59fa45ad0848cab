"""Times variants of the same work in turn (A, B, A, B, …), since the speed of a machine drifts."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHON = sys.executable


@dataclass(frozen=True)
class Row:
    """A row of the table: what was done, the figure here, what it is compared with, and the ratio of the two."""

    what: str
    here: str
    beside: str = ""
    ratio: str = ""

    def __str__(self) -> str:
        return f"| {self.what} | {self.here} | {self.beside} | {self.ratio} |"


def in_turn(rounds: int, *variants: Callable[[], float]) -> list[list[float]]:
    """The results of each variant, in `rounds` rounds."""
    return list(map(list, zip(*[[variant() for variant in variants] for _ in range(rounds)], strict=True)))


def seconds(work: Callable[[], object], repeat: int = 1) -> Callable[[], float]:
    """A variant for `in_turn`: the seconds of one call of `work`, the mean of `repeat` calls."""

    def timed() -> float:
        began = time.perf_counter()
        for _ in range(repeat):
            work()
        return (time.perf_counter() - began) / repeat

    return timed


def spread(values: Sequence[float], unit: str = "", digits: int = 2) -> str:
    """The median and the range of `values`."""
    low, middle, high = (f"{f(values):,.{digits}f}" for f in (min, statistics.median, max))
    return f"{middle}{unit} ({low} to {high})"


def ratios(a: Sequence[float], b: Sequence[float]) -> str:
    """The median and the range of the ratios a / b, one for each round."""
    return spread([x / y for x, y in zip(a, b, strict=True)])


def differences(a: Sequence[float], b: Sequence[float]) -> str:
    """The median and the range of the differences a - b, one for each round."""
    found = [x - y for x, y in zip(a, b, strict=True)]
    return f"{statistics.median(found):+.2f} s ({min(found):+.2f} to {max(found):+.2f})"


def compare(
    what: str, here: Sequence[float], beside: str, there: Sequence[float], unit: str = " s", digits: int = 2
) -> Row:
    """The row of two variants, with the ratio of their results."""
    return Row(what, spread(here, unit, digits), f"{beside} {spread(there, unit, digits)}", ratios(here, there))


def beyond(what: str, here: Sequence[float], beside: str, there: Sequence[float]) -> Row:
    """The row of the seconds of two programs, with how much longer the first takes."""
    return Row(what, spread(here, " s"), f"{beside} {spread(there, ' s')}", differences(here, there))


def run(*words: str, environment: Mapping[str, str] | None = None) -> str:
    """The output of a program of the project or of Python, started in the root of the project."""
    return subprocess.run(
        [PYTHON, *words], cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def seconds_until(ready: Callable[[subprocess.Popen[bytes]], bool], *words: str) -> float:
    """Seconds from the start of a program until `ready`; then the program is killed."""
    began = time.perf_counter()
    process = subprocess.Popen([PYTHON, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        while not ready(process):
            assert process.poll() in (None, 0), f"failed: {' '.join(words)}"
            time.sleep(0.005)
        return time.perf_counter() - began
    finally:
        process.kill()
        process.wait()
