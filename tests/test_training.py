"""A run in its directory: what it leaves, and that no way of stopping it loses anything."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import QUICK, ROOT, Program, Trained
from nursery import Child, Nursery
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from microgpt import checkpoint

LONG = [*QUICK, "train.steps=400", "train.val_every=20", "train.log_every=10"]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition: object, process: subprocess.Popen[str] | Child) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)


def figures(run: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without the one column that depends on the machine's mood."""
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "speed/tokens_per_second"} for row in csv.DictReader(file)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(run / "ckpt.pt")["model"]


def assert_same_run(run: Path, unbroken: Path) -> None:
    assert figures(run) == figures(unbroken)
    expected = weights(unbroken)
    assert all(torch.equal(weight, expected[name]) for name, weight in weights(run).items())
    assert (run / "samples.txt").read_text() == (unbroken / "samples.txt").read_text()


def test_a_run_leaves_what_it_promises(fresh: Program, tmp_path: Path) -> None:
    fresh("train.py", "hydra.run.dir=run", *QUICK)
    run = tmp_path / "run"
    names = {file.name for file in run.iterdir()}
    assert names >= {
        "config.yaml",
        "ckpt.pt",
        "best.pt",
        "metrics.csv",
        "loss.png",
        "samples.txt",
        "train.log",
    }
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "finished"
    assert result["step"] == result["steps"] == 6
    assert result["val_loss"] > 0 and result["val_tokens"] > 1000
    assert [row["step"] for row in figures(run)] == ["2", "3", "4", "6"]
    assert len((run / "samples.txt").read_text().splitlines()) == 2
    assert not [name for name in names if name.endswith(".partial")]


def test_tensorboard_shows_one_run_with_all_it_measured(program: Program, trained: Trained, tmp_path: Path) -> None:
    trained(*QUICK, at="logs/run")
    program("train.py", "resume=logs/run", "train.steps=9")
    shown = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "logs"))
    shown.Reload()
    assert list(shown.Runs()) == ["run"]
    events = shown.GetAccumulator("run")
    assert [event.step for event in events.Scalars("val/loss")] == [3, 6, 9]
    tags = set(events.Tags()["scalars"])
    assert tags >= {"train/loss", "train/loss_ema", "val/loss", "val/bpc", "optim/lr", "optim/grad_norm"}
    assert "samples/text_summary" in events.Tags()["tensors"]


@pytest.mark.parametrize("data", [["dataset=colors"], ["dataset=python_docs", "model.block_size=16"]])
def test_a_killed_run_goes_on_to_exactly_the_losses_of_an_unbroken_one(
    data: list[str], program: Program, nursery: Nursery, tmp_path: Path
) -> None:
    arguments = [*data, *LONG, "train.steps=200"]
    program("train.py", "hydra.run.dir=unbroken", *arguments)
    process = nursery.start(tmp_path, "train.py", "hydra.run.dir=run", *arguments)
    run = tmp_path / "run"
    wait_for((run / "ckpt.pt").exists, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert json.loads((run / "result.json").read_text())["status"] == "running"
    assert checkpoint.load(run / "ckpt.pt")["progress"]["step"] < 200
    program("train.py", "resume=run")
    assert_same_run(run, tmp_path / "unbroken")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_a_step_with_the_checkpoint_saved_and_says_how_to_go_on(
    number: signal.Signals, program: Program, trained: Trained, tmp_path: Path
) -> None:
    process = start(tmp_path, *LONG, "train.steps=700", "train.val_every=700")
    files: list[Path] = []

    def logged() -> bool:
        files[:] = tmp_path.glob("outputs/colors/*/train.log")
        return bool(files) and "210/700" in files[0].read_text()

    wait_for(logged, process)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    run = files[0].parent
    state = checkpoint.load(run / "ckpt.pt")
    step = state["progress"]["step"]
    assert process.returncode == 130
    assert 210 <= step < 700
    assert error.strip().splitlines()[-1].endswith(f"go on with: python train.py resume={run.relative_to(tmp_path)}")
    assert json.loads((run / "result.json").read_text())["status"] == "interrupted"
    program("train.py", f"resume={run}")
    assert_same_run(run, trained(*LONG, "train.steps=700", "train.val_every=700", at="unbroken"))


def test_a_run_killed_before_its_first_checkpoint_begins_again_in_its_place(
    program: Program, nursery: Nursery, tmp_path: Path
) -> None:
    program("train.py", "hydra.run.dir=unbroken", *LONG, "train.steps=60", "train.val_every=60")
    process = nursery.start(tmp_path, "train.py", "hydra.run.dir=run", *LONG, "train.steps=60", "train.val_every=60")
    wait_for((tmp_path / "run/result.json").exists, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "run/ckpt.pt").exists()
    program("train.py", "resume=run")
    assert_same_run(tmp_path / "run", tmp_path / "unbroken")


def test_a_run_killed_after_its_last_step_still_gets_its_result(
    program: Program, trained: Trained, tmp_path: Path
) -> None:
    trained(*QUICK)
    expected = (tmp_path / "run/samples.txt").read_text()
    result = json.loads((tmp_path / "run/result.json").read_text())
    (tmp_path / "run/samples.txt").unlink()
    (tmp_path / "run/result.json").write_text(json.dumps({"status": "running"}))
    program("train.py", "resume=run")
    assert (tmp_path / "run/samples.txt").read_text() == expected
    assert json.loads((tmp_path / "run/result.json").read_text())["val_loss"] == result["val_loss"]


def test_more_steps_extend_a_finished_run(program: Program, trained: Trained, tmp_path: Path) -> None:
    trained(*QUICK, at="outputs/x/run")
    done = program("train.py", "resume=latest")
    assert "raise train.steps" in done.stdout
    program("train.py", "resume=latest", "train.steps=10")
    assert [row["step"] for row in figures(tmp_path / "outputs/x/run")][-1] == "10"
    assert "steps: 10" in (tmp_path / "outputs/x/run/config.yaml").read_text()


def test_resuming_needs_no_conf(program: Program, tmp_path: Path) -> None:
    """The run's own config holds: the recipe of the corpus may have changed since."""
    program("train.py", "hydra.run.dir=run", *QUICK, "optim.lr=0.0123")
    program("train.py", "resume=run", "train.steps=8")
    assert "lr: 0.0123" in (tmp_path / "run/config.yaml").read_text()


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("model.n_embd=32", "model.n_embd=16, which cannot change"),
        ("seed=1", "seed=1337, which cannot change"),
        ("dataset=names", "keeps its own dataset"),
        ("+model.n_embed=3", "did you mean model.n_embd"),
    ],
)
def test_a_resumed_run_stays_the_same_run(
    argument: str, words: str, program: Program, trained: Trained, tmp_path: Path
) -> None:
    trained(*QUICK)
    before = (tmp_path / "run/config.yaml").read_text()
    done = program("train.py", "resume=run", argument, status=2)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "run/config.yaml").read_text() == before


def test_a_directory_that_holds_another_run_is_refused(program: Program, trained: Trained, tmp_path: Path) -> None:
    trained(*QUICK)
    before = (tmp_path / "run/ckpt.pt").read_bytes()
    done = program("train.py", "hydra.run.dir=run", *QUICK, "model.n_embd=32", status=2)
    assert "holds another run" in done.stderr
    assert (tmp_path / "run/ckpt.pt").read_bytes() == before


def test_a_changed_corpus_is_noticed(program: Program, names_file: Path) -> None:
    program("train.py", "hydra.run.dir=run", *QUICK, "dataset=file", f"dataset.path={names_file}")
    names_file.write_text(names_file.read_text() + "more\n")
    done = program("train.py", "resume=run", "train.steps=9", status=2)
    assert "the corpus is not the one" in done.stderr


def test_the_same_seed_gives_the_same_losses(
    program: Program, fresh: Program, trained: Trained, tmp_path: Path
) -> None:
    trained(*QUICK, at="a")
    fresh("train.py", "hydra.run.dir=b", *QUICK)  # with another order of sets, and other numbers of `random`
    assert_same_run(tmp_path / "a", tmp_path / "b")
    program("train.py", "hydra.run.dir=c", *QUICK, "seed=2")
    assert figures(tmp_path / "a") != figures(tmp_path / "c")


def test_a_run_that_diverges_says_so_and_fails(program: Program, tmp_path: Path) -> None:
    wild = ["optim.name=adam", "optim.lr=1e30", "optim.clip_grad=0", "train.steps=50"]
    done = program("train.py", "hydra.run.dir=run", *QUICK, *wild, status=2)
    assert "diverged" in done.stderr and "optim.lr" in done.stderr
    assert json.loads((tmp_path / "run/result.json").read_text())["status"] == "failed"


def test_a_full_disk_is_told_and_loses_nothing(program: Program, trained: Trained, tmp_path: Path) -> None:
    """The limit on a file's size stands for the end of the disk: it makes `write` fail half-way."""
    trained(*QUICK)
    before = (tmp_path / "run/ckpt.pt").read_bytes()
    limited = f"ulimit -f {len(before) // 1024 // 2}; trap '' XFSZ; exec {sys.executable} {ROOT / 'train.py'} "
    done = subprocess.run(
        ["bash", "-c", limited + "resume=run train.steps=20"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "error: " in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert (tmp_path / "run/ckpt.pt").read_bytes() == before
    program("train.py", "resume=run", "train.steps=20")
