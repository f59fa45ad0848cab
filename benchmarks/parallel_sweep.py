"""Compares two jobs of a sweep in parallel (hydra/launcher=joblib) to the same jobs in sequence, in turn (A, B, A, …).

`python benchmarks/parallel_sweep.py [rounds]`, on an idle machine with two cores or more.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = Path(__file__).parents[1] / "train.py"
JOBS = ["-m", "dataset=colors", "seed=1,2", "plot=false"]


def seconds(*more: str) -> float:
    """Seconds of the sweep with these further arguments."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        command = [sys.executable, str(TRAIN), *JOBS, *more]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began


def main() -> None:
    ratios = []
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        serial, parallel = seconds(), seconds("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
        ratios.append(serial / parallel)
        print(f"in sequence {serial:.1f} s, in parallel {parallel:.1f} s: {ratios[-1]:.2f} times as fast")
    print(f"median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
