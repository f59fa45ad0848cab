"""The run directory: the names of its files, its config, result and status."""

import glob
import json
import os
import reprlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from microgpt.config.checks import parse_data
from microgpt.config.registry import CHECKPOINTS
from microgpt.config.schema import Config, flatten, show
from microgpt.data.partial import PARTIAL, partial_path, remove_abandoned
from microgpt.errors import UserError

CONFIG, METRICS, RESULT, SAMPLES, FIGURE = "config.yaml", "metrics.csv", "result.json", "samples.txt", "loss.png"
GPT_CHECKPOINT = "ckpt.json"  # of a run of gpt.py

BEST = CHECKPOINTS.register("best.pt", "best")
LAST = CHECKPOINTS.register("ckpt.pt", "last")
PREVIOUS = "ckpt.previous.pt"  # the last checkpoint before LAST

# What a value of `result.json` is, by its key. Any may be null; other keys may hold anything.
RESULT_KINDS = {
    **dict.fromkeys(("parameters", "steps", "step", "best_step", "tokens", "val_tokens"), "count"),
    **dict.fromkeys(("train_loss_ema", "last_val_loss", "best_val_loss", "val_loss", "val_bpc", "seconds"), "number"),
    **dict.fromkeys(("dataset", "device", "torch", "error", "corpus"), "text"),
    **{"status": "status", "baselines": "numbers", "novelty": "numbers", "findings": "texts", "sessions": "objects"},
}

# Settings that must keep their values when a run is resumed.
FIXED_KEYS = ("seed", "dataset", "model", "optim.name", "train.batch_size")

# Except where the corpus is: it may have moved, and its fingerprint says whether it is the same.
PLACES = ("dataset.path", "dataset.url", "dataset.sha256", "dataset.file")

# Settings on which the losses and samples of a sweep's job depend, except those in KEYS_WITHOUT_EFFECT.
JOB_KEYS = ("seed", "dataset", "model", "optim", "train", "sampling")
KEYS_WITHOUT_EFFECT = ("dataset.note", "dataset.licence", "train.threads", "train.profile")


class Status(str, Enum):
    """The status of a run, as in `result.json`. REPORTING: training is done, the files of the end are not."""

    RUNNING = "running"
    REPORTING = "reporting"
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


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A context whose `OSError`s name a file, so that the user learns which one could not be written."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)  # and not that of a partial file
        raise


def read_bytes(path: Path) -> bytes:
    """The content of a file; an `OSError` names it."""
    with naming(path):
        return path.read_bytes()


def write_atomically(path: Path, content: str | bytes | memoryview, keep: Path | None = None) -> None:
    """Write `content` to `path`. If this fails, or the process is killed, the old file is unchanged.

    The old file is kept as `keep`, if that is given.
    """
    remove_abandoned(path.parent, glob.escape(path.name))
    partial = partial_path(path)
    try:
        with naming(path):
            with partial.open("wb") as file:
                # A path on the command line that is no UTF-8 holds surrogates, which cannot be encoded.
                file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            if keep and path.exists():
                path.replace(keep)
            partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def remove_partial_files(folder: Path) -> None:
    """Remove what a process that was killed while it wrote left in `folder`."""
    for partial in folder.glob(f".*{PARTIAL}"):
        partial.unlink(missing_ok=True)


def sample_lines(folder: Path) -> list[str]:
    """The lines of `samples.txt` in `folder`; empty if there is no such file yet."""
    file = folder / SAMPLES
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    return text.removesuffix("\n").split("\n") if text else []  # a sample may hold other ends of lines


def read_result(folder: Path) -> dict[str, Any]:
    """The content of `result.json` in `folder`; empty if there is no such file yet. Raises `UserError` if damaged."""
    file = folder / RESULT
    if not file.is_file():
        return {}
    try:
        result = json.loads(read_bytes(file).decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: damaged ({first_line(error)}); resume= makes it again") from None
    if not isinstance(result, dict):
        raise UserError(f"{file}: damaged (no object); resume= makes it again")
    for key, kind in RESULT_KINDS.items():
        if result.get(key) is not None and not has_kind(result[key], kind):
            raise UserError(f"{file}: damaged ({key} is {reprlib.repr(result[key])}); resume= makes it again")
    return result


def has_kind(value: Any, kind: str) -> bool:
    """Whether a value of JSON is of one of the kinds that RESULT_KINDS names."""
    if kind == "numbers":
        return isinstance(value, dict) and all(x is None or has_kind(x, "number") for x in value.values())
    if kind == "objects":
        return isinstance(value, list) and all(isinstance(x, dict) for x in value)
    if kind == "texts":
        return isinstance(value, list) and all(isinstance(x, str) for x in value)
    if kind == "status":
        return value in list(Status)
    if kind == "text":
        return isinstance(value, str)
    is_count = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return is_count or (kind == "number" and isinstance(value, float))


def write_result(folder: Path, result: dict[str, Any]) -> None:
    write_atomically(folder / RESULT, json.dumps(result, indent=1) + "\n")


def write_failure(folder: Path, error: str, **values: Any) -> None:
    """Write the status FAILED with its reason; what `result.json` held stays, and `values` are added if missing."""
    try:
        result = read_result(folder)
    except UserError:
        result = {}
    write_result(folder, {**values, **result, "status": Status.FAILED, "error": error})


def read_status(folder: Path) -> Status:
    """The status of the run in `folder`; RUNNING if it has not written one yet. Raises `UserError`."""
    return Status(read_result(folder).get("status") or Status.RUNNING)


def can_write(folder: Path) -> bool:
    """Whether files can be written into `folder`, which may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file as plain data. Raises `UserError` if it cannot be read.

    An alias (`*name`) is refused: with a few of them, a file of some lines is gigabytes of data.
    """
    try:
        text = read_bytes(path).decode()
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("it holds an alias")
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError, TypeError) as error:
        # The last three: a tag such as !!bool or !!timestamp before what is none.
        raise UserError(f"{path}: damaged ({first_line(error)}); restore it") from None


def first_line(error: Exception) -> str:
    return " ".join(str(error).splitlines()[:1]) or type(error).__name__


def read_config(folder: Path) -> Config:
    """The config of the run in `folder`. Raises `UserError`."""
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder}: not the directory of a run: it holds no {CONFIG}")
    return parse_data(read_yaml(folder / CONFIG), Config, folder / CONFIG)


def write_config(folder: Path, config: Config, heading: str = "") -> None:
    """Write `config.yaml`: the comments in `heading`, then all settings."""
    write_atomically(folder / CONFIG, heading + yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True))


def difference(
    config: Config, other: Config, keys: Sequence[str] = FIXED_KEYS, free: Sequence[str] = PLACES
) -> str | None:
    """The first setting in or below `keys` that differs, as `name=value` of `other`; None if none differs.

    Those in `free` and KEYS_WITHOUT_EFFECT may differ.
    """
    mine, theirs = flatten(asdict(config)), flatten(asdict(other))
    names = list(dict.fromkeys([*theirs, *mine]))  # either may lack some, such as the entries of dataset.replace
    for key in keys:
        for name in names:
            is_below = name == key or name.startswith(f"{key}.")
            if is_below and name not in (*free, *KEYS_WITHOUT_EFFECT) and mine.get(name) != theirs.get(name):
                return f"{name}={show(theirs.get(name))}"
    return None
