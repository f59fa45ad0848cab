"""Loggers by choice: what each of them holds after a run, several at once, and one that fails."""

import importlib.util
import logging
import signal
from pathlib import Path

import pytest
import yaml
from fork_server import ForkServer
from helpers import read_events, wait_for
from settings import LEAN, QUICK, Program, Trained

from microgpt.config.schema import Config, DatasetConfig, LoggerConfig, RunConfig
from microgpt.errors import UserError
from microgpt.runs import checkpoint, loggers
from microgpt.runs.directory import BEST, LAST, PREVIOUS, Status, read_result
from microgpt.runs.loggers import Logger, Loggers, title
from microgpt.runs.metrics import read_metrics
from microgpt.runs.wandb_files import records

RUN = [*QUICK, *LEAN, "run.name=wide", "run.tags=[a, b]", "run.note=a try"]


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


def test_csv_alone_writes_metrics_and_no_tensorboard(trained: Trained) -> None:
    run = trained(*QUICK, "logger=csv", "plot=false", "insight=full")
    assert read_metrics(run)["val/loss"][0] == [3, 6]
    assert not list(run.glob("events*")) and read_result(run)["status"] == "finished"
    assert (run / "samples.txt").is_file()


def test_the_default_is_tensorboard(trained: Trained) -> None:
    assert any(tag == "val/loss" for _, tag, _ in read_events(trained(*QUICK, *LEAN)))


@needs("wandb")
def test_wandb_logs_offline_into_the_run_directory(program: Program, tmp_path: Path) -> None:
    program("train.py", *RUN, "logger=wandb", "hydra.run.dir=run")
    (folder,) = (tmp_path / "run/wandb").glob("offline-run-*")
    (file,) = folder.glob("run-*.wandb")
    content = file.read_bytes()
    for text in (b"val/loss", b"train/loss_ema", b"final/val_loss", b"model.n_embd", b"wide", b"a try", b"microgpt"):
        assert text in content, text
    assert list((folder / "files/media/html").glob("samples_*.html"))
    assert not list((tmp_path / "run").glob("events*"))
    assert "left out" not in (tmp_path / "run/train.log").read_text()
    program("train.py", "resume=run", "train.steps=9")
    assert len({path.name.rpartition("-")[2] for path in (tmp_path / "run/wandb").glob("offline-run-*")}) == 1


def wandb_steps(run: Path, tag: str) -> list[int]:
    """The steps at which a tag was logged, in all sessions of a run."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore - an optional extra

    steps = []
    for file in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        for data in records(file.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            if any(tag in (item.key, *item.nested_key) for item in record.history.item):
                steps.append(record.history.step.num)
    return steps


def go_back(run: Path) -> None:
    """Leave the run as if it had been killed after its last validation, before it saved that checkpoint."""
    for name in (BEST, LAST):
        (run / name).unlink()


@needs("wandb")
def test_wandb_logs_each_step_once_in_a_run_that_is_resumed_from_before_it(program: Program, tmp_path: Path) -> None:
    run = tmp_path / "run"
    program("train.py", *RUN, "logger=wandb", "hydra.run.dir=run")
    go_back(run)
    out = program("train.py", "resume=run", "train.steps=9").stdout
    assert "resumed from step 3" in out and "left out" not in out
    for tag in ("val/loss", "loss/colors/val", "samples"):
        assert wandb_steps(run, tag) == [3, 6, 9], tag


@needs("wandb")
def test_what_wandb_lost_in_a_killed_process_is_logged_when_the_run_is_resumed(
    program: Program, fork_server: ForkServer, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = fork_server.start(
        tmp_path, "train.py", *RUN, "train.steps=5000", "train.val_every=5", "logger=wandb", "hydra.run.dir=run"
    )
    wait_for((run / PREVIOUS).exists, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    step = checkpoint.load(run / LAST)["progress"]["step"]
    program("train.py", "resume=run", f"train.steps={step + 5}")
    assert wandb_steps(run, "val/loss") == read_metrics(run)["val/loss"][0] == [*range(5, step + 6, 5)]


@needs("mlflow")
def test_mlflow_logs_each_step_once_in_a_run_that_is_resumed_from_before_it(program: Program, tmp_path: Path) -> None:
    program("train.py", *RUN, "logger=mlflow", "hydra.run.dir=run")
    go_back(tmp_path / "run")
    assert "resumed from step 3" in program("train.py", "resume=run", "train.steps=9").stdout
    for tag in ("val/loss", "train/loss", "loss/colors/val"):
        (file,) = tmp_path.glob(f"mlruns/*/*/metrics/{tag}")
        steps = [int(line.split()[2]) for line in file.read_text().splitlines()]
        assert steps == sorted(set(steps)) and steps[-1] == 9 and 6 in steps, tag


@needs("mlflow")
def test_a_logger_that_is_added_later_has_the_metrics_of_the_whole_run(program: Program, tmp_path: Path) -> None:
    program("train.py", *RUN, "logger=csv", "hydra.run.dir=run")
    program("train.py", "resume=run", "train.steps=9", "logger.mlflow=true")
    (file,) = tmp_path.glob("mlruns/*/*/metrics/val/loss")
    assert [int(line.split()[2]) for line in file.read_text().splitlines()] == [3, 6, 9]


@needs("mlflow")
def test_mlflow_logs_to_a_folder_and_a_resumed_run_goes_on(program: Program, tmp_path: Path) -> None:
    program("train.py", *RUN, "logger=[tensorboard,mlflow]", "hydra.run.dir=run", "logger.project=mine")
    program("train.py", "resume=run", "train.steps=9")
    (file,) = (tmp_path / "mlruns").glob("*/*/metrics/val/loss")  # one run
    rows = [line.split() for line in file.read_text().splitlines()]  # time, value, step
    steps, values = read_metrics(tmp_path / "run")["val/loss"]
    assert [int(step) for _, _, step in rows] == steps == [3, 6, 9]
    assert [float(value) for _, value, _ in rows] == values
    run = file.parents[2]
    assert (run / "params/model.n_embd").read_text() == "16" and (run / "tags/a").is_file()
    assert "wide" in (run / "meta.yaml").read_text() and "mine" in (run.parent / "meta.yaml").read_text()
    assert float((run / "tags/final/val_loss").read_text()) == read_result(tmp_path / "run")["val_loss"]
    assert list((run / "artifacts/samples").glob("*.txt"))
    assert read_events(tmp_path / "run"), "several at once"


@needs("wandb")
@needs("mlflow")
def test_a_run_that_is_interrupted_is_not_logged_as_finished(
    program: Program, fork_server: ForkServer, tmp_path: Path
) -> None:
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore - an optional extra

    def exit_codes() -> list[int]:
        found = []
        for file in sorted(tmp_path.glob("run/wandb/offline-run-*/*.wandb")):
            for data in records(file.read_bytes()):
                record = Record()
                record.ParseFromString(data)
                found += [record.exit.exit_code] if record.HasField("exit") else []
        return found

    def status() -> str:
        (file,) = tmp_path.glob("mlruns/*/*/meta.yaml")
        return str(RunStatus.to_string(yaml.safe_load(file.read_text())["status"]))

    from mlflow.entities import RunStatus  # pyright: ignore[reportMissingImports]

    words = [*RUN, "train.steps=5000", "train.val_every=5", "logger=[wandb,mlflow]", "hydra.run.dir=run"]
    process = fork_server.start(tmp_path, "train.py", *words)
    wait_for((tmp_path / "run" / LAST).exists, process)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert (exit_codes(), status()) == ([1], "KILLED")
    step = checkpoint.load(tmp_path / "run" / LAST)["progress"]["step"]
    program("train.py", "resume=run", f"train.steps={step + 5}")
    assert (exit_codes(), status()) == ([1, 0], "FINISHED")


def test_a_logger_that_is_not_installed_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"logger=wandb: is not installed.*\[wandb\]"):
        Loggers(tmp_path, Config(logger=LoggerConfig(wandb=True)))
    assert Loggers(tmp_path, Config()).wanted == [] == Loggers(tmp_path, None).wanted


class Memory(Logger):
    name = "mlflow"

    def __init__(self, folder: Path, config: Config) -> None:
        self.seen: list[object] = []

    def scalars(self, step: int, values: object) -> None:
        self.seen.append((step, values))


class Broken(Memory):
    name = "wandb"

    def text(self, step: int, tag: str, text: str) -> None:
        raise ConnectionError("no network\nat all")


def test_a_logger_that_fails_is_left_out_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loggers, "LOGGERS", {"wandb": Broken, "mlflow": Memory})
    monkeypatch.setattr(loggers, "find_spec", lambda name: name)
    several = Loggers(tmp_path, Config(logger=LoggerConfig(wandb=True, mlflow=True)))
    several.open()
    broken, memory = several.opened
    several.call("scalars", 1, {"a": 1.0})
    several.call("text", 1, "samples", "text")
    several.call("scalars", 2, {"a": 2.0})
    several.call("close", Status.FINISHED)
    assert broken.seen == [(1, {"a": 1.0})] and memory.seen == [(1, {"a": 1.0}), (2, {"a": 2.0})]  # type: ignore[attr-defined]
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage() == "logger=wandb: left out (ConnectionError: no network)"


def test_a_run_without_a_name_is_called_after_its_directory(tmp_path: Path) -> None:
    dataset = DatasetConfig(name="names")
    assert title(tmp_path / "names/1", Config(dataset=dataset)) == "names/1"
    assert title(tmp_path / "names/1", Config(dataset=dataset, run=RunConfig(name="wide"))) == "wide"
