"""Time that `insight=light` and `insight=full` add to a run: python benchmarks/insight.py datasets_dir=datasets

Runs with the recipe of names, 300 steps each, in turn (off, light, full, off, light, …), each in its own process. The
ratio to `off` is computed for each round. The first round is left out: it computes the n-gram baselines, which later
rounds read from the cache.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHOICES = ("off", "light", "full")
ROUNDS = 4


def seconds(choice: str, overrides: list[str]) -> tuple[float, float]:
    """Seconds of the whole process, and of training with its validations."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "train.py"), "dataset=names", "train.steps=300", f"insight={choice}"]
        began = time.perf_counter()
        subprocess.run([*command, f"hydra.run.dir={folder}/run", *overrides], check=True, stdout=subprocess.DEVNULL)
        whole = time.perf_counter() - began
        return whole, json.loads(Path(folder, "run", "result.json").read_text())["seconds"]


def main() -> None:
    rounds = [[seconds(choice, sys.argv[1:]) for choice in CHOICES] for _ in range(ROUNDS)][1:]
    for n, what in enumerate(("the whole process", "training only")):
        print(what)
        for i, choice in enumerate(CHOICES):
            times = [times[i][n] for times in rounds]
            ratios = [times[i][n] / times[0][n] for times in rounds]
            print(
                f"  insight={choice}: {statistics.median(times):.1f} s; ratio to off {statistics.median(ratios):.2f}"
                f" ({min(ratios):.2f} to {max(ratios):.2f})"
            )


if __name__ == "__main__":
    main()
