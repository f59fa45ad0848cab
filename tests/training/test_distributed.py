"""Data-parallel training in real processes: the losses of one process, one directory, one log; ranks end together."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fork_server import ForkServer, Process
from helpers import LONG, read_rows, wait_for
from settings import LEAN, QUICK, ROOT, Program

from microgpt.training.distributed import Ranks

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
STEPS = [*QUICK, *LEAN, "train.steps=24", "train.val_every=8", "train.batch_size=5"]  # the shards are of unequal size


@pytest.fixture
def torchrun(fork_server: ForkServer, tmp_path: Path) -> Callable[..., Process]:
    """Starts torchrun, which starts each rank in a new Python."""
    return lambda *arguments: fork_server.start(tmp_path, *TORCHRUN, str(ROOT / "train.py"), *arguments)


@pytest.fixture
def two_ranks(torchrun: Callable[..., Process]) -> Program:
    """`program`, for `train.py` with two ranks."""

    def run(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        process = torchrun(*arguments)
        out, error = process.communicate(timeout=120)
        assert process.returncode == status, out + error
        return subprocess.CompletedProcess(process.argv, status, out, error)

    return run


def assert_same_losses(run: Path, other: Path) -> None:
    mine, theirs = read_rows(run), read_rows(other)
    assert [row["step"] for row in mine] == [row["step"] for row in theirs]
    for a, b in zip(mine, theirs, strict=True):
        assert a.keys() == b.keys()
        for tag in {"train/loss", "train/loss_ema", "val/loss", "val/ema_weights", "optim/grad_norm"} & a.keys():
            assert a[tag] == b[tag] == "" or float(a[tag]) == pytest.approx(float(b[tag]), rel=1e-4), (tag, a["step"])


def test_the_shards_of_all_ranks_are_all_rows() -> None:
    rows = torch.arange(11)
    shards = [rows[Ranks(rank, 3).shard(11)] for rank in range(3)]
    assert sorted(torch.cat(shards).tolist()) == rows.tolist()


def test_a_single_process_has_all_rows_and_reduces_nothing() -> None:
    rows, ranks, model = torch.arange(11), Ranks(), torch.nn.Linear(1, 1)
    assert torch.equal(rows[ranks.shard(11)], rows)
    assert torch.equal(ranks.sum(rows.clone()), rows)
    assert ranks.broadcast("value") == "value" and ranks.wrap(model) is model
    assert [ranks.any(flag, torch.device("cpu")) for flag in (True, False)] == [True, False]


@pytest.mark.parametrize(
    "data",
    [
        ["dataset=colors", "model=ngram", "model.ngram_dropout=0"],
        ["dataset=python_docs", "train.grad_accum=2", "train.val_tokens=2000", "train.ema_decay=0.9"],
    ],
)
def test_two_ranks_give_the_losses_of_one(
    data: list[str], program: Program, two_ranks: Program, tmp_path: Path
) -> None:
    program("train.py", "hydra.run.dir=one", *data, *STEPS)
    out = two_ranks(*data, *STEPS).stdout
    (run,) = tmp_path.glob("outputs/*/*")  # one directory
    assert out.count("step 24/24") == 1
    assert (run / "train.log").read_text().count("step 24/24") == 1
    assert not (tmp_path / "train.log").exists() and not (tmp_path / ".hydra").exists()
    assert_same_losses(run, tmp_path / "one")
    result, expected = (json.loads((folder / "result.json").read_text()) for folder in (run, tmp_path / "one"))
    assert result["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-4)
    assert result["tokens"] == expected["tokens"]


def test_a_run_is_resumed_with_another_number_of_ranks(program: Program, two_ranks: Program, tmp_path: Path) -> None:
    program("train.py", "hydra.run.dir=one", *STEPS, "optim.schedule=constant")
    program("train.py", "hydra.run.dir=run", *STEPS, "optim.schedule=constant", "train.steps=8")
    two_ranks("resume=run", "train.steps=16")
    program("train.py", "resume=run", "train.steps=24")
    rows = {row["step"]: row for row in read_rows(tmp_path / "run")}
    for row in read_rows(tmp_path / "one"):
        assert float(rows[row["step"]]["train/loss"]) == pytest.approx(float(row["train/loss"]), rel=1e-4)


def test_a_rank_that_is_killed_ends_all_and_the_run_can_be_resumed(
    torchrun: Callable[..., Process], two_ranks: Program, tmp_path: Path
) -> None:
    process = torchrun("hydra.run.dir=run", *LONG, *LEAN, "train.steps=20000")
    wait_for((tmp_path / "run/ckpt.pt").exists, process)
    workers = [path for path in Path("/proc").glob("[0-9]*") if is_worker(path, tmp_path)]
    assert len(workers) == 2
    second = next(path for path in workers if b"RANK=1\0" in (path / "environ").read_bytes())
    os.kill(int(second.name), signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0
    deadline = time.monotonic() + 10
    while any(is_worker(path, tmp_path) for path in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    two_ranks("resume=copy", "train.steps=400")


def is_worker(process: Path, folder: Path) -> bool:
    """Whether a process of /proc is a rank that torchrun has started in `folder`."""
    try:
        command = (process / "cmdline").read_bytes()
        return b"train.py" in command and b"distributed" not in command and (process / "cwd").resolve() == folder
    except OSError:
        return False


def test_a_signal_stops_all_ranks_and_the_checkpoint_is_saved(torchrun: Callable[..., Process], tmp_path: Path) -> None:
    process = torchrun("hydra.run.dir=run", *LONG, *LEAN, "train.steps=20000")
    wait_for((tmp_path / "run/ckpt.pt").exists, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert json.loads((tmp_path / "run/result.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model.n_embd=30"], "model.n_embd=30"),
        (["train.batch_size=1"], "train.batch_size=1"),
        (["-m", "seed=1,2"], "-m: torchrun trains one model"),
    ],
)
def test_a_user_error_ends_all_ranks(arguments: list[str], words: str, two_ranks: Program, tmp_path: Path) -> None:
    error = two_ranks(*arguments, "hydra.run.dir=run", status=1).stderr
    assert f"error: {words}" in error
    assert not (tmp_path / "run/config.yaml").exists()
