"""Kills real programs again and again, resumes them, and compares what they leave with an unbroken run.

    make torture ARGS="kills=100 seed=1 only=sweep,tune"

Each program is killed with SIGKILL: before a random operation on a file, in the middle of a write, or at any moment.
"""

import json
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from fork_server import ForkServer, Process
from helpers import assert_same_files
from settings import LEAN, QUICK, ROOT

STRAY = (".partial", ".tmp")  # ends of names of files that are being written
RUN = [*QUICK, "train.steps=12", "insight.novelty=5", "device=cpu", "train.threads=1"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(ROOT / "train.py")]
GPT = ["--n_embd", "4", "--n_head", "2", "--block_size", "8", "--steps", "210", "--n_samples", "2"]


@dataclass(frozen=True)
class Program:
    """What is killed: the command that starts it, the one that resumes it in a folder, and what must be the same."""

    start: Sequence[str]
    resume: Callable[[Path], Sequence[str]]
    compare: Callable[[Path, Path], None]
    timed: bool = False  # killed at random moments only: it starts processes of its own


def compare_runs(pattern: str) -> Callable[[Path, Path], None]:
    """Compares the run directories that match `pattern`, in their order."""

    def compare(folder: Path, expected: Path) -> None:
        runs, others = sorted(folder.glob(pattern)), sorted(expected.glob(pattern))
        assert len(runs) == len(others) > 0
        for run, other in zip(runs, others, strict=True):
            assert_same_files(run, other)

    return compare


def compare_sweeps(folder: Path, expected: Path) -> None:
    compare_runs("sweep/[0-9]*")(folder, expected)
    files = ({path.name for path in (where / "sweep").iterdir()} for where in (folder, expected))
    assert next(files) == next(files)


def compare_searches(folder: Path, expected: Path) -> None:
    """Which trials a search makes depends on when it was killed; that it makes all of them does not."""
    with sqlite3.connect(folder / "study" / "study.db") as database:
        states = [state for (state,) in database.execute("select state from trials")]
    assert sum(state in ("COMPLETE", "PRUNED") for state in states) >= 3, states
    assert not set(states) & {"RUNNING", "WAITING"}, states
    assert all((folder / "study" / name).is_file() for name in ("search.png", "summary.csv", "report.html"))


def compare_gpt(folder: Path, expected: Path) -> None:
    """The last run of gpt.py; one that was killed before its first checkpoint has left an empty directory."""
    saved = [json.loads(sorted(where.glob("outputs/gpt/*/ckpt.json"))[-1].read_text()) for where in (folder, expected)]
    assert saved[0] == saved[1]


def resume_run(command: Sequence[str]) -> Callable[[Path], Sequence[str]]:
    """`resume=` if there is a checkpoint, else the same command again."""
    resume = [*command[: list(command).index("hydra.run.dir=run")], "resume=run"]
    return lambda folder: resume if list(folder.glob("run/*.pt")) else command


def single(*settings: str) -> Program:
    start = ["train.py", "hydra.run.dir=run", *RUN, *settings]
    return Program(start, resume_run(start), compare_runs("run"))


SWEEP = ["train.py", "-m", "seed=1,2", "hydra.sweep.dir=sweep", *RUN, *LEAN]
RANKS = [*TORCHRUN, "hydra.run.dir=run", *RUN, *LEAN]
TUNE = [
    "-m",
    "microgpt",
    "tune",
    "n_trials=3",
    "startup=1",
    "folder=study",
    *LEAN,
    "train.steps=12",
    "train.val_every=2",
]
PROGRAMS = {
    "colors": single("insight.embeddings=true"),
    "stream": single("dataset=python_docs", "dataset.limit=20000", "model=modern", "sampling.max_tokens=20"),
    "ngram": single("model.ngrams=3", "model.ngram_rows=64", "optim=adamw", "model.dropout=0.1"),
    "sweep": Program(
        SWEEP,
        lambda folder: ["train.py", "resume=sweep"] if (folder / "sweep/multirun.yaml").is_file() else SWEEP,
        compare_sweeps,
    ),
    "gpt": Program(
        ["microgpt/gpt.py", *GPT],
        lambda folder: ["microgpt/gpt.py", *(["--resume"] if list(folder.glob("outputs/gpt/*/ckpt.json")) else GPT)],
        compare_gpt,
    ),
    "tune": Program(TUNE, lambda folder: TUNE, compare_searches),
    "ranks": Program(RANKS, resume_run(RANKS), compare_runs("run"), timed=True),
}


class Torture:
    """Kills one program in folders below `folder`; its unbroken run is made first."""

    def __init__(self, program: Program, server: ForkServer, folder: Path, seed: int) -> None:
        self.program, self.server, self.folder = program, server, folder
        self.draw, self.kills, self.trials = random.Random(seed), 0, 0
        self.unbroken = folder / "unbroken"
        self.unbroken.mkdir(parents=True)
        began = time.monotonic()
        done = server.run(self.unbroken, *program.start, kill_at=None if program.timed else -1)
        assert done.returncode == 0, done.stderr
        self.seconds = time.monotonic() - began
        log = self.unbroken / "operations"
        self.n_operations = 0 if program.timed else len(log.read_text().splitlines())
        log.unlink(missing_ok=True)

    def trial(self, n_kills: int) -> None:
        """Start the program, kill it up to `n_kills` times, resume it to its end and compare."""
        folder = self.folder / str(self.trials)
        folder.mkdir()
        self.trials += 1
        command = self.program.start
        for _ in range(n_kills):
            if not self.kill(folder, command):
                break
            self.kills += 1
            command = self.program.resume(folder)
        done = self.server.run(folder, *self.program.resume(folder))
        assert done.returncode == 0, f"{folder}: {done.stderr}"
        self.program.compare(folder, self.unbroken)
        stray = [path for path in folder.rglob("*") if path.name.endswith(STRAY)]
        assert not stray, stray
        shutil.rmtree(folder)

    def kill(self, folder: Path, command: Sequence[str]) -> bool:
        """Run the command and kill it at a random moment; whether it came so far."""
        if not self.program.timed and self.draw.random() < 0.75:
            done = self.server.run(folder, *command, kill_at=self.draw.randrange(self.n_operations))
            return done.returncode < 0
        process = self.server.start(folder, *command)
        end = time.monotonic() + self.draw.uniform(0, self.seconds)
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.001)
        return kill_all(process)


def kill_all(process: Process) -> bool:
    """Kill a program and the processes that it has started; whether it was running."""
    if process.poll() is not None:
        process.communicate()
        return False
    children = psutil.Process(process.pid).children(recursive=True)
    for number in [process.pid, *(child.pid for child in children)]:
        if psutil.pid_exists(number):
            os.kill(number, 9)
    process.communicate()
    psutil.wait_procs(children)
    return True


def main() -> None:
    options = dict(word.split("=", 1) for word in sys.argv[1:])
    kills, seed = int(options.get("kills", "100")), int(options.get("seed", "0"))
    names = options.get("only", ",".join(PROGRAMS)).split(",")
    server, folder = ForkServer(), Path(tempfile.mkdtemp())
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    total = 0
    for name in names:
        torture = Torture(PROGRAMS[name], server, folder / name, seed)
        while torture.kills < kills / len(names):
            torture.trial(torture.draw.choice((1, 1, 2, 3)))
        total += torture.kills
        print(f"{name}: {torture.kills} kills in {torture.trials} trials; all ended as the unbroken run", flush=True)
    server.close()
    shutil.rmtree(folder)
    print(f"{total} kills, no difference")


if __name__ == "__main__":
    main()
