# pyright: strict
"""`microgpt.train`, `microgpt.load` and `microgpt.sweep`: the commands as functions, for notebooks and scripts.

Settings are overrides as on the command line (`"model.n_embd=32"`) or keywords (`n_embd=32`). They are those of the
commands, and so are the runs. A user's mistake is a `UserError` with the line that the command would print.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microgpt.errors import UserError
from microgpt.notebook import Run, Sweep


def train(*overrides: str, config_dir: str | Path | None = None, **settings: Any) -> Run:
    """Train a model, as `python train.py` does, in this process; returns the run.

        microgpt.train("dataset=names", "model.n_embd=32", steps=300)
        microgpt.train(dataset="names", model="large", optim={"name": "adamw", "lr": 0.003})
        microgpt.train(resume="latest", steps=2000)

    `overrides` are settings as on the command line. A keyword is a key or a group (`seed`, `dataset`), or the last part
    of a key, if no other key ends so (`steps` for `train.steps`). `config_dir` is a folder with groups of your own, as
    in `conf/`. The losses are those of the command, to the last bit.

    Ctrl-C, or the stop button of a notebook, ends the run after the current step, with its checkpoint saved, and raises
    `InterruptedRunError`; `microgpt.load("latest", "last")` has the model. Raises `UserError` for a user's mistake. The
    settings of torch, the log, Hydra and the signals are afterwards as they were before.
    """
    from microgpt.commands.session import train_here

    return Run(train_here(to_words(overrides, config_dir, settings)))


def load(run: str | Path = "latest", checkpoint: str = "best", device: str = "auto") -> Run:
    """A run that was trained before, by this library or by the command.

    `run` is its directory, or what `run=` takes on the command line: `latest`, `names/latest`, `best`, or the directory
    of a sweep for its best run. `checkpoint` is `best` (the lowest validation loss) or `last`, `device` as for `train`.
    Raises `UserError` if there is no such run.
    """
    from microgpt.config.registry import CHECKPOINTS
    from microgpt.runs.finding import choose_run

    if checkpoint not in CHECKPOINTS:
        raise UserError(f"checkpoint={checkpoint}: must be one of {', '.join(CHECKPOINTS)}")
    return Run(choose_run(str(run), "run", CHECKPOINTS[checkpoint]), checkpoint, device)


def sweep(*overrides: str, config_dir: str | Path | None = None, **settings: Any) -> Sweep:
    """Train a run for each combination of the values in lists, as `python train.py -m` does; returns the sweep.

        microgpt.sweep(dataset=["names", "cities"], seed=[1, 2]).best
        microgpt.sweep("dataset=names", "optim.lr=0.01,0.02", steps=300)
        microgpt.sweep(resume="multirun/2026-01-31_12-00-00")

    The runs are trained in another process, one after the other (`**{"hydra/launcher": "joblib"}` changes that). It
    knows nothing that this process has registered, such as an activation. Arguments are those of `train`. Raises
    `UserError` if it fails, also if one of its runs does: the message says how to resume it, and `microgpt.load` with
    its directory has the best of the others.
    """
    from microgpt.commands.session import sweep_apart

    return Sweep(sweep_apart(to_words(overrides, config_dir, settings, sweep=True)))


def to_words(
    overrides: Sequence[str], config_dir: str | Path | None, settings: dict[str, Any], sweep: bool = False
) -> list[str]:
    """The words of a command line. Raises `UserError` for what is no setting."""
    from microgpt.commands import keywords

    for word in overrides:
        if word.startswith("-"):
            raise UserError(f"{word}: is an option of the command line; settings are written as key=value")
    options = [f"--config-dir={config_dir}"] if config_dir else []
    return [*options, *overrides, *keywords.to_words(settings, sweep)]
