"""Two jobs of a sweep side by side (hydra/launcher=joblib) against one after the other, A B A B in one run.

`python benchmarks/parallel_sweep.py [rounds]`, on a machine with two cores or more and nothing else to do.
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
        print(f"one after the other {serial:.1f} s, side by side {parallel:.1f} s: {ratios[-1]:.2f} times as fast")
    print(f"median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
