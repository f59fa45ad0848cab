"""Measures what docs/performance.md claims, and writes its table and its figure: make bench ARGS="datasets_dir=…"

Takes some minutes on two cores that do nothing else. `sections=start,step` measures only these and prints them;
`rounds=5` repeats each measurement more often.
"""

import os
import platform
import sys
import tempfile
from pathlib import Path

import torch
from growth import draw, growth_rows, measure
from processes import corpus_rows, end_rows, start_rows
from timing import ROOT, Row
from work import goal_rows, sampling_rows, step_rows

PAGE, FIGURE = ROOT / "docs" / "performance.md", ROOT / "docs" / "images" / "growth.png"
BEGIN, END = "<!-- measured by make bench -->\n", "<!-- end -->\n"
HEADER = "| what | here | beside it | ratio |\n|---|---|---|---|"
SECTIONS = {
    "start": start_rows,
    "corpus": corpus_rows,
    "end": end_rows,
    "step": step_rows,
    "goal": goal_rows,
    "sampling": sampling_rows,
}


def machine() -> str:
    """Processor, cores and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"


def main() -> None:
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    rounds = int(given.get("rounds", 3))
    datasets = f"datasets_dir={Path(given.get('datasets_dir', 'datasets')).resolve()}"
    sections = given["sections"].split(",") if "sections" in given else [*SECTIONS, "growth"]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for section in sections:
            found = []
            if section == "growth":
                points = measure(folder, rounds)
                draw(points, FIGURE)
                found = growth_rows(points)
            else:
                found = SECTIONS[section](folder, datasets, rounds)
            print(*found, sep="\n", flush=True)
            rows += found
    if "sections" not in given:
        write_page([f"{machine()}; {rounds} rounds: the median and the range.\n", HEADER, *map(str, rows)])


def write_page(lines: list[str]) -> None:
    """Put the lines between the marks of the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n\n" + END + after)


if __name__ == "__main__":
    main()
