"""Finds the run that a user means by `run=`: a directory, the best of a sweep, `latest`, `names/latest`, `best`."""

import sys
from collections.abc import Iterable
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from microgpt.config.checks import as_path
from microgpt.config.groups import choices
from microgpt.config.program import program, relative
from microgpt.config.schema import typed
from microgpt.errors import UserError
from microgpt.runs.directory import BEST, GPT_CHECKPOINT, RESULT, Status, read_result

OUTPUTS, MULTIRUN = "outputs", "multirun"  # folders in which the directories of runs and of sweeps are made
LATEST_RUN, BEST_RUN = "latest", "best"  # words for a run; `names/latest` is one of a corpus

RUN = "a run: its directory, latest, names/latest, best, or the directory of a sweep for its best run"  # for --help


def choose_run(name: str, key: str, file: str) -> Path:
    """`find_run`; if `name` is not the directory of the run itself, the choice is printed on standard error."""
    folder = find_run(name, key, file)
    if folder != Path(name).expanduser():
        print(f"from {place_and_loss(folder)}", file=sys.stderr, flush=True)
    return folder


def find_run(name: str, key: str, file: str, in_folders: bool = True) -> Path:
    """The run directory that `name` stands for, a value of the setting `key`. It holds `file`; else `UserError`.

    `latest` is the run in `outputs/` that was written last. `best` is the complete run with the lowest validation loss,
    in `outputs/` or `multirun/`, on the corpus of the latest run. `names/latest` and `names/best` are those of a
    corpus. With `in_folders`, a folder that holds runs, such as that of a sweep, stands for the best of them.
    """
    if not name:
        raise UserError(f"{key}=: is empty (an unset variable of the shell?); give {key}=latest or a directory")
    folder = as_path(key, name)
    dataset, _, word = name.rpartition("/")
    if word in (LATEST_RUN, BEST_RUN) and (word == name or not folder.exists()):
        return latest_run(file, dataset) if word == LATEST_RUN else best_run(file, dataset)
    if file == BEST and not (folder / BEST).is_file() and (folder / GPT_CHECKPOINT).is_file():
        raise UserError(
            f"{key}={name}: a run of gpt.py; first make it one of microgpt: {program('convert')} {typed('run', name)}"
        )
    if not (folder / file).is_file():
        if in_folders and (best := best_in(folder, file, key)):
            return best
        raise UserError(
            f"{key}={name}: not the directory of a run (it holds no {file}); try {key}=latest, or look in outputs/"
        )
    return folder


def best_in(folder: Path, file: str, key: str) -> Path | None:
    """The complete run in `folder` with the lowest validation loss. Raises `UserError` if they are of several corpora.

    A loss on one corpus says nothing beside one on another.
    """
    best = {}
    for dataset, runs in groupby(
        sorted((path.parent for path in folder.glob(f"*/{file}")), key=dataset_of), dataset_of
    ):
        if run := lowest_loss(runs):
            best[dataset] = run
    if len(best) > 1:
        runs = ", ".join(typed(key, relative(run)) for run in best.values())
        raise UserError(f"{typed(key, folder)}: holds runs of several corpora; choose the best of one: {runs}")
    return next(iter(best.values()), None)


def latest_run(file: str, dataset: str = "") -> Path:
    """The run in `outputs/` that was written last and holds `file`; of `dataset`, if given. Raises `UserError`."""
    if found := runs_below(OUTPUTS, file, dataset or "*"):
        return max(found, key=last_change)
    setting = f" {typed('dataset', dataset)}" if dataset in choices("dataset") else ""
    name = f"{dataset}/{LATEST_RUN}" if dataset else LATEST_RUN
    message = f"{name}: there is no run in outputs/{dataset} yet; make one with: {program('train')}{setting}"
    if sweeps := {folder.parent for folder in runs_below(MULTIRUN, file)}:
        newest = max(sweeps, key=last_change)
        message += f"; for the best run of the latest sweep type {typed('run', newest)}"
    raise UserError(message)


def best_run(file: str, dataset: str = "") -> Path:
    """The complete run on `dataset` with the lowest validation loss; without it, on the corpus of the latest run.

    Raises `UserError` if there is none.
    """
    complete = [folder for folder in all_runs(file) if result_if_complete(folder)]
    if not dataset and complete:
        latest = runs_below(OUTPUTS, file) or complete
        dataset = dataset_of(max(latest, key=last_change))
    if best := lowest_loss(folder for folder in complete if dataset_of(folder) == dataset):
        return best
    name, of = (f"{dataset}/{BEST_RUN}", f" of {dataset}") if dataset else (BEST_RUN, "")
    raise UserError(f"{name}: there is no complete run{of} yet; make one with: {program('train')}")


def lowest_loss(folders: Iterable[Path]) -> Path | None:
    """The complete run with the lowest loss on its whole validation split; None if none is complete."""
    losses = {folder: result_if_complete(folder).get("val_loss") for folder in folders}
    complete = {folder: loss for folder, loss in losses.items() if loss is not None}
    return min(complete, key=lambda folder: complete[folder], default=None)


def result_if_complete(folder: Path) -> dict[str, Any]:
    """The result of a complete run; empty for any other, and for a damaged one."""
    with suppress(UserError):
        result = read_result(folder)
        if Status(result.get("status") or Status.RUNNING).is_complete:
            return result
    return {}


def dataset_of(folder: Path) -> str:
    """The corpus of a run, as its result says; else the name of its folder."""
    with suppress(UserError):
        return read_result(folder).get("dataset") or folder.parent.name
    return folder.parent.name


def place_and_loss(folder: Path) -> str:
    """`outputs/names/2026-01-31_12-00-00 (names, val 2.040)`: where a run is, its corpus, and its loss or status."""
    result: dict[str, Any] = {}
    with suppress(UserError):
        result = read_result(folder)
    loss = result.get("val_loss")
    parts = [result.get("dataset"), result.get("status") if loss is None else f"val {loss:.3f}"]
    text = ", ".join(part for part in parts if part)
    return f"{relative(folder.absolute())} ({text})" if text else str(relative(folder.absolute()))


def runs_below(root: str, file: str, folder: str = "*") -> list[Path]:
    """The run directories `root/folder/*` that hold `file`."""
    return [found.parent for found in Path(root, folder).parent.glob(f"{Path(folder).name}/*/{file}")]


def all_runs(file: str) -> list[Path]:
    """The run directories below `outputs/` and `multirun/` that hold `file`."""
    return runs_below(OUTPUTS, file) + runs_below(MULTIRUN, file)


def last_change(folder: Path) -> float:
    """When a file of the folder was last written, in seconds."""
    times = [0.0]
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # the run may be in training, and write its files at this moment
            times.append(file.stat().st_mtime)
    return max(times)


def latest_of_each_dataset() -> list[Path]:
    """The complete run of each `dataset.name` that ended last, sorted by that name."""
    latest: dict[str, Path] = {}
    for folder in sorted(all_runs(RESULT), key=lambda folder: (folder / RESULT).stat().st_mtime):
        if (result := result_if_complete(folder)) and (folder / BEST).is_file():
            latest[result["dataset"]] = folder.resolve()
    return [latest[name] for name in sorted(latest)]
