"""Train a tiny model for 200,000 steps, and print its memory, the sizes of its files and the time beside the steps.

python benchmarks/long_run.py [datasets_dir=…] [train.steps=200000 …]: some minutes with its 40 validations.
"""

import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
SETTINGS = ["dataset=names", "experiment=ancestor", "train.steps=200000", "train.val_every=5000", "train.log_every=1"]


def memory_of(process: "subprocess.Popen[bytes]", folder: Path) -> list[tuple[int, int]]:
    """(logged step, bytes of memory) each second while the process runs."""
    found = []
    while process.poll() is None:
        lines = (folder / "metrics.csv").read_bytes().splitlines() if (folder / "metrics.csv").exists() else []
        if len(lines) > 2:
            found.append((int(lines[-2].split(b",")[0] or 0), psutil.Process(process.pid).memory_info().rss))
        time.sleep(1)
    return found


def step_seconds(folder: Path, tokens: int) -> float:
    """The seconds that the run spent in its steps, from the speed of each logged part."""
    with (folder / "metrics.csv").open(newline="") as file:
        speeds = [float(row["speed/tokens_per_second"]) for row in csv.DictReader(file)]
    return sum(tokens / len(speeds) / speed for speed in speeds)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        command = [sys.executable, "train.py", *SETTINGS, *sys.argv[1:], f"hydra.run.dir={folder}"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        memory = memory_of(process, folder)
        result = json.loads((folder / "result.json").read_text())
        assert process.returncode == 0
        for step, used in memory[:: max(1, len(memory) // 8)]:
            print(f"step {step:>7,}: {used / 1e6:.0f} MB of memory")
        for file in sorted(folder.iterdir(), key=lambda file: -file.stat().st_size)[:6]:
            print(f"{file.name:<60} {file.stat().st_size / 1e6:.2f} MB")
        share = 1 - step_seconds(folder, result["tokens"]) / result["seconds"]
        print(f"{result['seconds']:.0f} s, of which {share:.1%} beside the steps (metrics, validation, checkpoints)")


if __name__ == "__main__":
    main()
