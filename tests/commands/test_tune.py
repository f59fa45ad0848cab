"""The search: real trials in a real database, resumed by the same command, pruned, and its best settings trained."""

import shlex
import signal
import sqlite3
from pathlib import Path

import pytest
import yaml
from fork_server import ForkServer
from helpers import wait_for
from settings import LEAN, QUICK, ROOT, Program

from microgpt.config.schema import Config, settings

pytest.importorskip("optuna")

SMALL = [*(q for q in QUICK if q.partition("=")[0] not in ("model.n_embd", "model.n_layer", "train.batch_size"))]
SMALL += [*LEAN, "startup=1", "train.steps=12", "train.val_every=2", "model.n_head=4"]


def states(folder: Path) -> list[str]:
    with sqlite3.connect(folder / "study.db") as database:
        return [state for (state,) in database.execute("select state from trials")]


def test_a_search_is_resumed_and_its_best_can_be_trained(program: Program, tmp_path: Path) -> None:
    program("-m", "microgpt", "tune", "n_trials=2", *SMALL)
    folder = tmp_path / "multirun/tune-colors"
    assert len(states(folder)) == 2
    done = program("-m", "microgpt", "tune", "n_trials=5", *SMALL)
    assert len(states(folder)) == 5 and set(states(folder)) <= {"COMPLETE", "PRUNED"}
    assert all((folder / name).is_file() for name in ("search.png", "summary.csv", "report.html"))
    command = next(line for line in done.stdout.splitlines() if "train.py" in line and "resume=" not in line).strip()
    assert all(key in command for key in ("optim.lr=", "model.n_embd=", "model.n_layer=", "train.batch_size="))
    words = [word for word in shlex.split(command)[2:] if not word.startswith("startup")]
    out = program("train.py", *words, "hydra.run.dir=best").stdout
    loss = next(line for line in done.stdout.splitlines() if line.startswith("best: trial")).split()[3]
    assert f"validation {loss}" in out
    before = states(folder)
    program("-m", "microgpt", "tune", "n_trials=5", *SMALL)
    assert states(folder) == before


def test_a_corpus_and_a_space_of_ones_own_are_searched(program: Program, tmp_path: Path) -> None:
    """The space that is typed is the whole one, and the command of the best trial has --config-dir."""
    for folder in ("dataset", "tune"):
        (tmp_path / "mine" / folder).mkdir(parents=True)
    (tmp_path / "mine/dataset/haiku.yaml").write_text("# @package _global_\ndataset: {name: haiku, path: my.txt}\n")
    (tmp_path / "mine/tune/two.yaml").write_text("n_trials: 2\nspace: {seed: {low: 1, high: 9}}\n")
    (tmp_path / "my.txt").write_text("".join(f"old pond {i}\n" for i in range(30)))
    lean = [word for word in (*QUICK, *LEAN) if not word.startswith("model.")]
    small = [*lean, "startup=1", "tune=two", "dataset=haiku", "--config-dir", "mine"]
    space = "space={optim.lr:{low:0.01,high:0.02},model:{choices:[tiny]}}"
    out = program("-m", "microgpt", "tune", *small, space, "save_as=best").stdout
    experiment = tmp_path / "mine/experiment/best.yaml"
    assert "saved as: experiment=best --config-dir mine" in out
    saved = yaml.safe_load(experiment.read_text())  # not the seed, and no setting of the shipped space
    assert list(saved) == ["defaults", "optim"] and saved["defaults"] == [{"override /model": "tiny"}]
    config = program("train.py", "dataset=haiku", "--config-dir=mine", "experiment=best", "--cfg", "job").stdout
    assert "n_embd: 32" in config and f"lr: {saved['optim']['lr']}" in config
    command = next(line for line in out.splitlines() if "optim.lr=" in line and "python" in line)
    words = shlex.split(command)[2:]
    assert words[0] == "--config-dir=mine"
    program("train.py", *words, "hydra.run.dir=again")


def test_processes_of_one_search_draw_different_settings(fork_server: ForkServer, tmp_path: Path) -> None:
    words = [
        "-m",
        "microgpt",
        "tune",
        "n_trials=4",
        *QUICK,
        *LEAN,
        "startup=9",
        "space={optim.lr:{low:0.01,high:0.02}}",
    ]
    processes = [fork_server.start(tmp_path, *words) for _ in range(2)]
    assert [process.communicate()[1] for process in processes] == ["", ""]
    with sqlite3.connect(tmp_path / "multirun/tune-colors/study.db") as database:
        drawn = database.execute("select param_value from trial_params").fetchall()
    assert len(drawn) >= 4 and len(set(drawn)) == len(drawn)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["n_trials=0"], "n_trials=0"),
        (["n_trial=3"], "n_trial"),
        (["dataset=nmes"], "did you mean dataset=names?"),
        (["tune=none"], "tune=none"),
        (["--config-dir", "nowhere"], "--config-dir nowhere: there is no such folder"),
    ],
)
def test_a_user_error_is_one_line(arguments: list[str], words: str, program: Program, tmp_path: Path) -> None:
    done = program("-m", "microgpt", "tune", *arguments, status=2)
    assert words in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "multirun").exists()


def test_every_space_consists_of_settings_that_exist() -> None:
    for file in (ROOT / "conf/tune").glob("*.yaml"):
        assert set(yaml.safe_load(file.read_text())["space"]) <= set(dict(settings(Config)))


def test_a_killed_trial_is_ended_and_replaced(program: Program, fork_server: ForkServer, tmp_path: Path) -> None:
    long = [word for word in QUICK if not word.startswith(("train.steps", "train.val_every"))]
    long += [*LEAN, "startup=1", "train.steps=600", "train.val_every=20", "space={optim.lr:{low:0.01,high:0.02}}"]
    process = fork_server.start(tmp_path, "-m", "microgpt", "tune", "n_trials=3", *long)
    wait_for(lambda: bool(list(tmp_path.glob("multirun/tune-colors/0-*/metrics.csv"))), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    folder = tmp_path / "multirun/tune-colors"
    assert states(folder) == ["RUNNING"]
    for _ in range(2):
        program("-m", "microgpt", "tune", "n_trials=2", *long)
        assert states(folder)[0] == "FAIL" and set(states(folder)[1:]) <= {"COMPLETE", "PRUNED"}
        assert len(states(folder)) == 3
