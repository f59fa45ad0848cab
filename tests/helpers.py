"""Functions that several test files use: tiny trainers, run directories, started processes, jobs of a sweep."""

import csv
import io
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from fork_server import Process
from omegaconf import OmegaConf
from settings import QUICK
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from microgpt.config.schema import ModelConfig, OptimConfig, TrainConfig
from microgpt.data.batches import DocumentBatches, Rows, document_rows
from microgpt.data.tokenizer import Tokenizer
from microgpt.model.transformer import GPT
from microgpt.runs import checkpoint
from microgpt.runs.callback import Callback, Progress
from microgpt.runs.directory import PREVIOUS, Status
from microgpt.runs.events import read_records
from microgpt.training.optimizers import Optimizers
from microgpt.training.schedules import Schedule
from microgpt.training.trainer import Trainer
from microgpt.training.updates import TorchUpdate

# -- trainers of a tiny model ------------------------------------------------------------------------------

DOCUMENTS = [
    "anna",
    "bob",
    "otto",
    "hannah",
    "ada",
    "eve",
    "noon",
    "radar",
    "level",
    "kayak",
    "civic",
    "madam",
]
HELD_OUT = ["refer", "abba", "solos"]
TOKENIZER = Tokenizer.of(DOCUMENTS + HELD_OUT)

Log = list[tuple[int, dict[str, float]]]


def rows_of(documents: Sequence[str], pack: bool = True) -> Rows:
    """Rows of 8 tokens."""
    return document_rows(torch.tensor(TOKENIZER.encode_documents(documents)), TOKENIZER.bos, 8, pack)


def make_trainer(
    optim: str = "adamw",
    lr: float = 0.01,
    seed: int = 0,
    pack: bool = False,
    clip_grad: float = 1.0,
    schedule: Schedule | None = None,
    callbacks: Sequence[Callback] = (),
    **train: Any,
) -> Trainer:
    """A trainer of a tiny model for 50 steps; `train` are further fields of `TrainConfig`.

    The optimizer may be `sgd` as well. Without `pack` the rows of a batch hold different numbers of targets.
    """
    torch.manual_seed(seed)
    model = GPT(TOKENIZER.vocab_size, ModelConfig(n_embd=16, n_layer=1, n_head=2, block_size=8))
    trainer = Trainer(
        model,
        DocumentBatches(rows_of(DOCUMENTS, pack), batch_size=6, seed=0),
        rows_of(HELD_OUT),
        lambda rows: rows.n_targets,
        OptimConfig(
            name="adamw" if optim == "sgd" else optim,
            lr=lr,
            adam_lr=lr,
            schedule="cosine",
            warmup_steps=10,
            final_fraction=0.1,
            clip_grad=clip_grad,
        ),
        TrainConfig(**{"steps": 50, "batch_size": 6, "val_every": 20, **train}),
        callbacks=callbacks,
    )
    if optim == "sgd":
        trainer.optimizer = Optimizers(TorchUpdate(torch.optim.SGD(model.parameters(), lr=lr)))
    if schedule:
        trainer.schedule = schedule
    return trainer


class MetricsLog(Callback):
    """Keeps what is logged, without the speed; calls `then` with the step after each log."""

    def __init__(self, then: Callable[[int], None]) -> None:
        self.then = then
        self.entries: Log = []

    def at_log(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        kept = {key: value for key, value in metrics.items() if not key.startswith("speed/")}
        self.entries.append((progress.step, kept))
        self.then(progress.step)


def fit(trainer: Trainer, then: Callable[[int], None] = lambda step: None) -> tuple[Status, Log]:
    """Train; returns the status and what was logged, without the speed. `then` is called after each log."""
    log = MetricsLog(then)
    trainer.callbacks = [*trainer.callbacks, log]
    return trainer.fit(), log.entries


def weights_of(trainer: Trainer) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])


# -- run directories ---------------------------------------------------------------------------------------

# A run that takes long enough to be stopped.
LONG = [*QUICK, "train.steps=400", "train.val_every=20", "train.log_every=10"]


def read_rows(run: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, without the speed, which differs between runs."""
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "speed/tokens_per_second"} for row in csv.DictReader(file)]


def assert_same_run(run: Path, other: Path) -> None:
    """Assert that two runs have the same metrics, weights and samples."""
    assert read_rows(run) == read_rows(other)
    weights, expected = (checkpoint.load(folder / "ckpt.pt")["model"] for folder in (run, other))
    assert all(torch.equal(weight, expected[name]) for name, weight in weights.items())
    assert (run / "samples.txt").read_text() == (other / "samples.txt").read_text()


def read_events(run: Path) -> list[tuple[int, str, str]]:
    """The step, the tag and the content of all that TensorBoard shows, sorted; without the speed."""
    (file,) = run.glob("events.out.tfevents.*")
    values = [(event.step, value) for event, _ in read_records(file)[0] for value in event.summary.value]
    return sorted((step, value.tag, str(value)) for step, value in values if not value.tag.startswith("speed/"))


def assert_same_files(run: Path, other: Path) -> None:
    """Assert that two runs have the same files with the same content, but for times and what is drawn."""
    assert_same_run(run, other)
    names, expected = (
        {str(f.relative_to(path)) for f in path.rglob("*") if "tfevents" not in f.name and f.name != PREVIOUS}
        for path in (run, other)
    )
    assert names == expected
    for name in names & {"samples_over_time.txt", "config.yaml"}:
        assert (run / name).read_text() == (other / name).read_text()
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, other)]
    assert {**results[0], "seconds": 0, "sessions": []} == {**results[1], "seconds": 0, "sessions": []}
    best, expected_best = (checkpoint.load(folder / "best.pt") for folder in (run, other))
    assert best["progress"]["step"] == expected_best["progress"]["step"]
    assert all(torch.equal(weight, expected_best["model"][name]) for name, weight in best["model"].items())
    assert read_events(run) == read_events(other)


# -- started processes -------------------------------------------------------------------------------------


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str] | Process) -> None:
    """Wait until the condition holds, at most a minute, and no longer than the process runs."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)


# -- jobs of a sweep ---------------------------------------------------------------------------------------


def make_job(folder: Path, overrides: Mapping[str, Any], **result: Any) -> None:
    """Create the directory of a job without training."""
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create([f"{k}={v}" for k, v in overrides.items()]), folder / ".hydra/overrides.yaml")
    config = {"dataset": {"name": overrides.get("dataset", "names")}, "optim": {"lr": overrides.get("optim.lr", 0.5)}}
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    if result:
        figures = {"status": "finished", "dataset": config["dataset"]["name"], "parameters": 1234, "steps": 60}
        figures |= {"step": 60, "best_step": 40, "seconds": 2.0, "tokens": 5000, "train_loss_ema": 2.5, "val_bpc": 3.0}
        (folder / "result.json").write_text(json.dumps(figures | result))


# -- TensorBoard -------------------------------------------------------------------------------------------


def read_scalars(run: Path, tag: str) -> list[tuple[int, float]]:
    """The steps and values that TensorBoard shows for a tag."""
    events = EventAccumulator(str(run)).Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


@contextmanager
def tensorboard(folder: Path) -> Iterator[str]:
    """TensorBoard as a process that shows the runs in `folder`: its address, as soon as it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "tensorboard"), f"--logdir={folder}", f"--port={port}"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{address}/data/environment", timeout=10):
                break
            assert time.monotonic() < deadline and server.poll() is None
            time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()


def resumed(trainer: Trainer, fresh: Trainer) -> Trainer:
    """`fresh` with the state of `trainer`, which is saved to a file and loaded."""
    file = io.BytesIO()
    torch.save(trainer.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return fresh
