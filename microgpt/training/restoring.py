"""Restores a run from its checkpoints: the newest that is whole, whatever has happened to the others."""

import logging
from pathlib import Path
from typing import Any

from microgpt.config.program import relative
from microgpt.config.schema import Config
from microgpt.errors import UserError
from microgpt.runs import checkpoint
from microgpt.runs.contents import read_contents
from microgpt.runs.directory import BEST, LAST, PREVIOUS, Status, difference, read_status
from microgpt.training.averaging import for_best, for_training
from microgpt.training.optimizers import build_optimizer

log = logging.getLogger(__name__)

State = dict[str, Any]  # what a checkpoint holds


def restore(folder: Path, config: Config) -> State | None:
    """The newest whole checkpoint of the run of `config` in `folder`; None for a run that has not saved one yet.

    It is LAST from then on. If the best weights are lost, its weights are saved as the best. Raises `UserError` if no
    checkpoint is whole, or if they have been removed.
    """
    name = f"resume={relative(folder)}"
    states, faults = read_checkpoints(folder, config)
    if not states:
        if faults:
            raise UserError(f"{name}: no checkpoint is whole ({'; '.join(faults.values())}); start a new run")
        if status_or_running(folder) not in (Status.RUNNING, Status.FAILED):
            raise UserError(f"{name}: its checkpoints have been removed; start a new run")
        return None
    chosen = max(states, key=lambda file: states[file]["progress"]["step"])  # of equal ones, the first: LAST
    if chosen != LAST or faults:
        reasons = faults if LAST in states or LAST in faults else {LAST: f"{LAST}: missing", **faults}
        reason = "; ".join(reasons.values()) or f"{LAST} is older"
        log.warning("resumed from %s, of step %d (%s)", chosen, states[chosen]["progress"]["step"], reason)
    if chosen != LAST:
        checkpoint.save(folder / LAST, states[chosen])
    if BEST not in states and states[chosen]["progress"]["best_step"]:  # 0 before the first validation
        restore_best(folder, states, chosen)
    return states[chosen]


def read_checkpoints(folder: Path, config: Config) -> tuple[dict[str, State], dict[str, str]]:
    """The whole checkpoints in `folder` by the name of the file, and for each of the others what is wrong with it."""
    states: dict[str, State] = {}
    faults: dict[str, str] = {}
    for file in (LAST, PREVIOUS, BEST):
        if (folder / file).exists():
            try:
                states[file] = for_training(read_state(folder / file, config))
            except UserError as error:
                faults[file] = str(error).partition(";")[0].replace(str(folder / file), file)
    return states, faults


def read_state(path: Path, config: Config) -> State:
    """A checkpoint from which the run of `config` can be resumed. Raises `UserError`."""
    contents = read_contents(path)
    if contents.progress is None or contents.corpus is None:
        raise UserError(f"{path}: holds weights alone, no training that could go on")
    if other := difference(config, contents.config):
        raise UserError(f"{path}: is of another run, with {other}")
    try:
        optimizer = build_optimizer(contents.model, config.optim)
        optimizer.load_state_dict(contents.state["optimizer"])
        for member in optimizer.members if contents.progress.step else ():
            for weight, state in zip(member.weights, member.state, strict=True):
                if member.state_sizes(weight) and not state:
                    raise ValueError("that of a weight is missing")
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: the state of its optimizer is damaged ({' '.join(str(error).split())})") from None
    return contents.state


def restore_best(folder: Path, states: dict[str, State], chosen: str) -> None:
    """Save the best weights again: those of a checkpoint of the best step, else those of the chosen one."""
    best_step = states[chosen]["progress"]["best_step"]
    same = next((state for state in states.values() if state["progress"]["step"] == best_step), None)
    if same is None:
        progress = states[chosen]["progress"]
        step = progress["step"]
        log.warning("the best weights, of step %d, are lost; those of step %d replace them", best_step, step)
        progress |= {"best_step": step, "best_val_loss": progress["val_loss"], "stale": 0}
        same = states[chosen]
        if "average" in same:
            same["average"]["is_best"] = False
    checkpoint.save(folder / BEST, for_best(same))


def status_or_running(folder: Path) -> Status:
    """The status of the run; RUNNING if its result is damaged."""
    try:
        return read_status(folder)
    except UserError as error:
        log.warning("%s", error)
        return Status.RUNNING
