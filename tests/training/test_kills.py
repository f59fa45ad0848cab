"""A run that is killed, or whose files fail, at any moment, ends with the files of a run that was never stopped.

Every so many moments and faults are tried; MICROGPT_STRIDE=1 tries all of them, which takes half an hour.
"""

import errno
import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401 - so that the forks need not import it
import pytest
import torch
from faults import ERRORS, Count, FailAt, Fault, KillAt, install
from helpers import assert_same_files

from microgpt.commands.failure import report_errors
from microgpt.config.schema import Config, DatasetConfig, InsightConfig, ModelConfig, SamplingConfig, TrainConfig
from microgpt.runs.directory import read_result
from microgpt.runs.lock import LOCK
from microgpt.training.run import run_training

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the processes are forks, whose files /proc names"),
    pytest.mark.skipif(sys.version_info < (3, 11), reason="the layer of faults is for pathlib of Python 3.11"),
]

STRIDE = int(os.environ.get("MICROGPT_STRIDE", "37"))


def make_config(file: Path) -> Config:
    """A run with every file that a run can have but the figure of the losses, whose drawing takes a while."""
    return Config(
        dataset=DatasetConfig(name="file", path=str(file)),
        model=ModelConfig(n_embd=8, n_layer=1, n_head=2, block_size=8),
        train=TrainConfig(steps=12, batch_size=4, val_every=4, log_every=1, patience=2),
        sampling=SamplingConfig(n_samples=2, max_tokens=8),
        insight=InsightConfig(novelty=5, embeddings=True),
        plot=False,
        device="cpu",
    )


def in_fork(task: Callable[[], None], errors: Path | None = None) -> int:
    """The exit status of a process that does the task; negative: the number of the signal that ended it.

    What it prints on stderr goes to the file `errors`.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            if errors:
                sys.stderr = errors.open("w")
                os.dup2(sys.stderr.fileno(), 2)
            task()
            status = 0
        except SystemExit as end:
            sys.stderr.flush()
            status = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@dataclass(frozen=True)
class Trial:
    """A run in `folder`, which also holds its corpus and its cache."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Trial":
        folder.mkdir(exist_ok=True)
        corpus = "".join(f"{a}{b}{c}\n" for a in "kmnt" for b in "aeiou" for c in ("ra", "lin"))
        (folder / "corpus.txt").write_text(corpus)
        return cls(folder)

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def train(self, fault: Fault | None = None) -> int:
        """The exit status of a process that trains or resumes the run, and meets `fault`."""

        def task() -> None:
            os.environ["XDG_CACHE_HOME"] = str(self.folder / "cache")
            torch.set_num_threads(1)
            if fault:
                install(self.folder, fault)
            report_errors(self.train_here)

        return in_fork(task, self.folder / "stderr")

    def train_here(self) -> None:
        self.run.mkdir(exist_ok=True)
        # The config is the same in every folder, so that the files are.
        os.chdir(self.folder)
        run_training(make_config(Path("corpus.txt")), self.run)

    @property
    def errors(self) -> str:
        return (self.folder / "stderr").read_text()

    def finish(self, unbroken: "Trial") -> None:
        """Resume the run to its end, and compare it with one that was never stopped."""
        assert self.train() == 0, self.errors
        assert_same_files(self.run, unbroken.run)
        names = {path.name for path in self.folder.rglob("*") if path.is_file()} - {LOCK}
        assert not [name for name in names if name.startswith((".", "tmp"))], "a stray file"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trial, list[str]]:
    """A run that was never stopped, and the names of all operations on its files, in their order."""
    trial = Trial.make(tmp_path_factory.mktemp("unbroken"))
    log = tmp_path_factory.mktemp("log") / "operations"
    assert trial.train(Count(os.open(log, os.O_CREAT | os.O_WRONLY))) == 0, trial.errors
    return trial, [line.split()[0] for line in log.read_text().splitlines()]


def test_a_run_killed_at_an_operation_on_a_file_ends_as_if_it_had_not_been(
    unbroken: tuple[Trial, list[str]], tmp_path: Path
) -> None:
    expected, operations = unbroken
    assert len(operations) > 180 and {"open", "read", "write", "fsync", "os.rename"} <= set(operations)
    for at in range(2, len(operations), STRIDE):
        trial = Trial.make(tmp_path / str(at))
        assert trial.train(KillAt(at)) == -signal.SIGKILL, (at, operations[at])
        trial.finish(expected)


def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(
    unbroken: tuple[Trial, list[str]], tmp_path: Path
) -> None:
    expected, operations = unbroken
    trial, draw = Trial.make(tmp_path / "trial"), random.Random(0)
    kills = [trial.train(KillAt(draw.randrange(len(operations) // 2))) for _ in range(8)]
    assert kills.count(-signal.SIGKILL) > 3
    trial.finish(expected)


def test_a_run_whose_file_fails_is_complete_or_stops_with_one_line_and_can_be_resumed(
    unbroken: tuple[Trial, list[str]], tmp_path: Path
) -> None:
    """The operation fails once: the disk is full, an error of the device, no permission; or a write writes a part."""
    expected, operations = unbroken
    faults = [(at, kind) for at, operation in enumerate(operations) for kind in ERRORS[operation]]
    for at, kind in faults[3 :: 2 * STRIDE]:
        what = f"{at}: {operations[at]} {errno.errorcode.get(kind, kind) if isinstance(kind, int) else kind}"
        trial = Trial.make(tmp_path / f"{at}-{kind}")
        status = trial.train(FailAt(at, kind))
        assert status in (0, 2), f"{what}: {trial.errors}"
        if status == 2:
            assert trial.errors.startswith("error: ") and trial.errors.count("\n") == 1, f"{what}: {trial.errors}"
        else:
            assert read_result(trial.run)["status"] in ("finished", "stopped early"), what
        try:
            trial.finish(expected)
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from error


def test_the_end_of_a_run_is_completed(unbroken: tuple[Trial, list[str]], tmp_path: Path) -> None:
    """Whatever file of the end is missing, also in a run that says it is finished."""
    expected, _ = unbroken
    for name in ("samples.txt", "embeddings.png", "best.pt", "ckpt.pt", "result.json"):
        trial = Trial(shutil.copytree(expected.folder, tmp_path / name))
        (trial.run / name).unlink()
        trial.finish(expected)
    assert read_result(expected.run)["status"] in ("finished", "stopped early")
