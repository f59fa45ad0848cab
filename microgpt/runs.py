"""The directory of a run: which files it holds, and how a run is found again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from microgpt.config import Config, typed
from microgpt.errors import UserError

CONFIG, LAST, BEST, METRICS, RESULT = "config.yaml", "ckpt.pt", "best.pt", "metrics.csv", "result.json"
SAMPLES, FIGURE = "samples.txt", "loss.png"
OF_GPT = "ckpt.json"  # the checkpoint of gpt.py

# What `result.json` says of a run that came to its end; others are running, interrupted or failed.
ENDED = ("finished", "stopped early")

# A run is what these make it: going on with it under others would be another run.
FIXED = ("seed", "dataset", "model", "optim.name", "train.batch_size")

# What a job of a sweep is: all that its figures and samples follow from.
WHOLE = ("seed", "dataset", "model", "optim", "train", "sampling")
WITHOUT_EFFECT = ("dataset.note", "train.threads")


def write_atomically(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def read_result(folder: Path) -> dict[str, Any]:
    """What the run in `folder` has left in `result.json`; empty if nothing yet."""
    file = folder / RESULT
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def write_result(folder: Path, result: dict[str, Any]) -> None:
    write_atomically(folder / RESULT, json.dumps(result, indent=1) + "\n")


def relative(folder: Path) -> Path:
    """The path as a user would type it: from the current directory, if it lies below."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def read_config(folder: Path) -> Config:
    """The config of the run in `folder`. Raises `UserError`."""
    try:
        return typed(OmegaConf.create((folder / CONFIG).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{folder}: not the directory of a run: it holds no {CONFIG}") from None


def latest_run(needs: str) -> Path:
    """The run below `outputs/` or `multirun/` that was at work last, of those that hold the file `needs`.

    Raises `UserError` when there is none.
    """
    found = [file.parent for root in ("outputs", "multirun") for file in Path(root).glob(f"*/*/{needs}")]
    if not found:
        raise UserError("latest: there is no run in outputs/ or multirun/ yet; make one with: python train.py")
    return max(found, key=lambda folder: max(file.stat().st_mtime for file in folder.iterdir()))


def find_run(name: str, key: str, needs: str) -> Path:
    """The directory that `key` (run or resume) names. Raises `UserError` if it does not hold the file `needs`."""
    folder = latest_run(needs) if name == "latest" else Path(name).expanduser()
    if needs == BEST and not (folder / BEST).is_file() and (folder / OF_GPT).is_file():
        raise UserError(
            f"{key}={name}: a run of gpt.py; first make it one of train.py: python -m microgpt.convert run={name}"
        )
    if not (folder / needs).is_file():
        raise UserError(
            f"{key}={name}: not the directory of a run (it holds no {needs}); try {key}=latest, or look in outputs/"
        )
    return folder


def has_ended(folder: Path, steps: int) -> bool:
    """Whether the run in `folder` has come to its end, and that is no less than `steps` steps."""
    result = read_result(folder)
    return result.get("status") in ENDED and result["steps"] >= steps


def difference(config: Config, other: Config, keys: Sequence[str] = FIXED) -> str | None:
    """The first setting of `keys` in which two configs differ, as `key=value` of the second; None if there is none."""

    def flat(value: Any, name: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return {k: v for key, part in value.items() for k, v in flat(part, f"{name}.{key}").items()}
        return {name: value}

    mine, theirs = OmegaConf.structured(config), OmegaConf.structured(other)
    for key in keys:
        ours, others = (
            flat(OmegaConf.to_container(node) if OmegaConf.is_config(node) else node, key)
            for node in (OmegaConf.select(mine, key), OmegaConf.select(theirs, key))
        )
        for name, value in others.items():
            if ours.get(name) != value and name not in WITHOUT_EFFECT:
                return f"{name}={value}"
    return None
