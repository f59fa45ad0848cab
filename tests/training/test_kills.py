"""A run that is killed, at any moment and often, ends with the files of a run that was never stopped."""

import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401 - so that the forks need not import it
import pytest
import torch
from helpers import assert_same_files

from microgpt.config.schema import Config, DatasetConfig, InsightConfig, ModelConfig, SamplingConfig, TrainConfig
from microgpt.runs.directory import read_result
from microgpt.training.run import run_training

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed processes are forks of this one")

# Every so many moments are tried. All of them, stride 1, were tried once: some minutes.
STRIDE = 12

# Events at which a file is about to change: https://docs.python.org/3/library/audit_events.html
MOMENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree")


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


def in_fork(task: Callable[[], None]) -> int:
    """The exit status of a process that does the task; negative: the number of the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            task()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def train(config: Config, folder: Path, on_moment: Callable[[], None] | None = None) -> None:
    """Train in a process that calls `on_moment` before each change of a file of the folder."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if on_moment and event in MOMENTS and str(folder) in str(arguments[0]):
            on_moment()

    torch.set_num_threads(1)
    if on_moment:
        sys.addaudithook(hook)
    folder.mkdir(exist_ok=True)
    run_training(config, folder)


def kill_at(moment: int) -> Callable[[], None]:
    """Kills this process at its `moment`-th call."""
    left = moment

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return count


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path, int]:
    """The config and the directory of a run that was never stopped, and how often its files changed."""
    folder = tmp_path_factory.mktemp("unbroken")
    (folder / "corpus.txt").write_text("".join(f"{a}{b}{c}\n" for a in "kmnt" for b in "aeiou" for c in ("ra", "lin")))
    config = make_config(folder / "corpus.txt")
    log = folder / "moments"

    def note() -> None:
        with log.open("a") as file:
            file.write(".")

    assert in_fork(lambda: train(config, folder / "run", note)) == 0
    return config, folder / "run", len(log.read_text())


def finish(config: Config, folder: Path, unbroken: Path) -> None:
    """Resume the run to its end, and compare it with one that was never stopped."""
    assert in_fork(lambda: train(config, folder)) == 0
    assert_same_files(folder, unbroken)


def killed(config: Config, folder: Path, moment: int) -> bool:
    """Train or resume the run, and kill it at this moment; whether it came so far."""
    return in_fork(lambda: train(config, folder, kill_at(moment))) == -signal.SIGKILL


def test_a_run_killed_before_a_change_of_a_file_ends_as_if_it_had_not_been(
    unbroken: tuple[Config, Path, int], tmp_path: Path
) -> None:
    config, expected, n_moments = unbroken
    assert n_moments > 60
    for moment in range(2, n_moments, STRIDE):
        folder = tmp_path / str(moment)
        assert killed(config, folder, moment)
        finish(config, folder, expected)


def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(
    unbroken: tuple[Config, Path, int], tmp_path: Path
) -> None:
    config, expected, n_moments = unbroken
    draw = random.Random(0)
    kills = [killed(config, tmp_path / "run", draw.randrange(n_moments // 2)) for _ in range(8)]
    assert kills.count(True) > 3
    finish(config, tmp_path / "run", expected)


def test_the_end_of_a_run_is_completed(unbroken: tuple[Config, Path, int], tmp_path: Path) -> None:
    """Whatever file of the end is missing, also in a run that says it is finished."""
    config, expected, _ = unbroken
    for name in ("samples.txt", "embeddings.png", "best.pt", "ckpt.pt", "result.json"):
        folder = shutil.copytree(expected, tmp_path / name)
        (folder / name).unlink()
        finish(config, folder, expected)
    assert read_result(expected)["status"] in ("finished", "stopped early")
