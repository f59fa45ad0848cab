"""The run directory: the names of its files, its config, result and status, and the search for runs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from microgpt.config.checks import parse
from microgpt.config.registry import CHECKPOINTS
from microgpt.config.schema import Config, flatten, show
from microgpt.errors import UserError

CONFIG, METRICS, RESULT, SAMPLES, FIGURE = "config.yaml", "metrics.csv", "result.json", "samples.txt", "loss.png"
GPT_CHECKPOINT = "ckpt.json"  # of a run of gpt.py
ROOTS = ("outputs", "multirun")  # folders in which run directories are made

BEST = CHECKPOINTS.register("best.pt", "best")
LAST = CHECKPOINTS.register("ckpt.pt", "last")

# Settings that must keep their values when a run is resumed.
FIXED_KEYS = ("seed", "dataset", "model", "optim.name", "train.batch_size")

# Settings on which the losses and samples of a sweep's job depend, except those in KEYS_WITHOUT_EFFECT.
JOB_KEYS = ("seed", "dataset", "model", "optim", "train", "sampling")
KEYS_WITHOUT_EFFECT = ("dataset.note", "train.threads")


class Status(str, Enum):
    """The status of a run, as in `result.json`."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED_EARLY = "stopped early"
    INTERRUPTED = "interrupted"
    PRUNED = "pruned"
    FAILED = "failed"

    @property
    def is_complete(self) -> bool:
        """Whether the run finished or stopped early, so that it has final losses."""
        return self in (Status.FINISHED, Status.STOPPED_EARLY)

    @property
    def has_ended(self) -> bool:
        """Whether no training is left to do: the run is complete, or a search pruned it."""
        return self.is_complete or self is Status.PRUNED

    def __str__(self) -> str:
        return self.value


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path`. If this fails, the old file is unchanged."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def read_result(folder: Path) -> dict[str, Any]:
    """The content of `result.json` in `folder`; empty if there is no such file yet."""
    file = folder / RESULT
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def write_result(folder: Path, result: dict[str, Any]) -> None:
    write_atomically(folder / RESULT, json.dumps(result, indent=1) + "\n")


def read_status(folder: Path) -> Status:
    """The status of the run in `folder`; RUNNING if it has not written one yet."""
    return Status(read_result(folder).get("status", Status.RUNNING))


def relative(folder: Path) -> Path:
    """The path as a user would type it: relative to the current directory, if it is below that."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def read_config(folder: Path) -> Config:
    """The config of the run in `folder`. Raises `UserError`."""
    try:
        return parse(OmegaConf.create((folder / CONFIG).read_text(encoding="utf-8")), Config)
    except FileNotFoundError:
        raise UserError(f"{folder}: not the directory of a run: it holds no {CONFIG}") from None


def write_config(folder: Path, config: Config) -> None:
    write_atomically(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.structured(config)))


def all_runs(file: str) -> list[Path]:
    """The run directories below `outputs/` and `multirun/` that hold `file`."""
    return [found.parent for root in ROOTS for found in Path(root).glob(f"*/*/{file}")]


def latest_run(file: str) -> Path:
    """The most recently written run directory that holds `file`. Raises `UserError` if there is none."""
    if not (found := all_runs(file)):
        raise UserError("latest: there is no run in outputs/ or multirun/ yet; make one with: python train.py")
    return max(found, key=lambda folder: max(file.stat().st_mtime for file in folder.iterdir()))


def latest_of_each_dataset() -> list[Path]:
    """The complete run of each `dataset.name` that ended last, sorted by that name."""
    latest: dict[str, Path] = {}
    for folder in sorted(all_runs(RESULT), key=lambda folder: (folder / RESULT).stat().st_mtime):
        if read_status(folder).is_complete and (folder / BEST).is_file():
            latest[read_result(folder)["dataset"]] = folder.resolve()
    return [latest[name] for name in sorted(latest)]


def find_run(name: str, key: str, file: str) -> Path:
    """The run directory `name`, a value of the setting `key`. Raises `UserError` if it does not hold `file`."""
    folder = latest_run(file) if name == "latest" else Path(name).expanduser()
    if file == BEST and not (folder / BEST).is_file() and (folder / GPT_CHECKPOINT).is_file():
        raise UserError(
            f"{key}={name}: a run of gpt.py; first make it one of train.py: python -m microgpt convert run={name}"
        )
    if not (folder / file).is_file():
        raise UserError(
            f"{key}={name}: not the directory of a run (it holds no {file}); try {key}=latest, or look in outputs/"
        )
    return folder


def is_complete(folder: Path, steps: int) -> bool:
    """Whether the run in `folder` is complete and was trained for at least `steps` steps."""
    return read_status(folder).is_complete and read_result(folder)["steps"] >= steps


def difference(config: Config, other: Config, keys: Sequence[str] = FIXED_KEYS) -> str | None:
    """The first setting in or below `keys` that differs, as `name=value` of `other`; None if none differs."""
    mine, theirs = flatten(asdict(config)), flatten(asdict(other))
    names = list(dict.fromkeys([*theirs, *mine]))  # either may lack some, such as the entries of dataset.replace
    for key in keys:
        for name in names:
            is_below = name == key or name.startswith(f"{key}.")
            if is_below and name not in KEYS_WITHOUT_EFFECT and mine.get(name) != theirs.get(name):
                return f"{name}={show(theirs.get(name))}"
    return None
