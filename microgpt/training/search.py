"""A search for better settings with Optuna. Each trial is a run, and the folder of the study is like that of a sweep.

The study is a database in its folder: the same command resumes it, and several processes can work on it at once.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from microgpt.config.free_text import unescape
from microgpt.config.groups import program
from microgpt.config.schema import Config
from microgpt.errors import InterruptedRunError, UserError
from microgpt.plots.losses import save_search_figure
from microgpt.runs.callback import Callback, Progress
from microgpt.runs.directory import Status, read_result, write_failure
from microgpt.sweeps.jobs import Job, slug
from microgpt.sweeps.report import gather
from microgpt.training.run import run_training

if TYPE_CHECKING:
    from optuna import Study, Trial

FIGURE = "search.png"


@dataclass(frozen=True)
class Search:
    """A search: `space` holds the choices or the range of each setting that is searched.

    `shared` are the overrides of all trials; `make_config` makes a config of them and the overrides of one trial.
    `n_trials` includes the trials of earlier calls. The first `startup` trials are drawn at random; until they have
    ended, none is pruned.
    """

    folder: Path
    space: Mapping[str, Mapping[str, Any]]
    n_trials: int
    startup: int
    seed: int
    dataset: str
    shared: list[str]
    make_config: Callable[[list[str]], Config]

    def open_study(self) -> Study:
        """The study in the folder, or a new one. Raises `UserError` if the folder holds another search."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder.mkdir(parents=True, exist_ok=True)
        storage = f"sqlite:///{(self.folder / 'study.db').absolute()}"
        study = optuna.create_study(storage=storage, study_name="microgpt", load_if_exists=True)
        definition = {"shared": self.shared, "space": dict(self.space)}
        if study.user_attrs and study.user_attrs != definition:
            other = " ".join(study.user_attrs["shared"])
            raise UserError(f"folder={self.folder}: holds another search ({other}); choose another with folder=")
        for key, value in definition.items():
            study.set_user_attr(key, value)
        # A resumed search needs another seed, or its sampler would draw the same settings again.
        seed = self.seed + len(study.trials)
        study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=self.startup)
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=self.startup)
        return study

    def run(self) -> Study:
        """Run trials until `n_trials` have ended."""
        from optuna.study import MaxTrialsCallback
        from optuna.trial import TrialState

        study = self.open_study()
        ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        if len(study.get_trials(deepcopy=False, states=ended)) < self.n_trials:
            enough = MaxTrialsCallback(self.n_trials, states=ended)
            study.optimize(self.run_trial, callbacks=[enough], catch=(UserError,))
        return study

    def run_trial(self, trial: Trial) -> float:
        """Train a run with the settings of the trial; returns its loss in nats per token on the whole validation split.

        Raises `TrialPruned` if the run was pruned.
        """
        from optuna import TrialPruned

        suggested = suggest(trial, self.space)
        folder = self.folder / f"{trial.number}{slug(','.join(suggested))}"
        config = self.make_config([*self.shared, *suggested])
        (folder / ".hydra").mkdir(parents=True)
        OmegaConf.save(OmegaConf.create([*self.shared, *suggested]), folder / ".hydra" / "overrides.yaml")
        try:
            command = self.command(suggested)
            run_training(config, folder, callbacks=[Pruner(trial, config.train.steps)], command=command)
        except InterruptedRunError:
            raise KeyboardInterrupt from None  # ends the search, not only the trial
        except UserError as error:
            write_failure(folder, str(error))
            raise
        finally:
            print(Job(folder).line(), flush=True)
        if (loss := read_result(folder).get("val_loss")) is None:
            raise TrialPruned
        return loss

    def report(self, study: Study) -> list[str]:
        """Write the summary and the figure of the search, and print the best trial; returns its overrides."""
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
        from optuna.trial import TrialState

        gather(self.folder)
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            raise UserError(f"folder={self.folder}: no trial is complete; see {self.folder}/report.html")
        importances: dict[str, float] = {}
        if len(complete) >= 2 and len({trial.value for trial in complete}) > 1:
            importances = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
        history = {trial.number: trial.value for trial in complete if trial.value is not None}
        save_search_figure(history, importances, self.folder / FIGURE, f"{self.dataset}: search for settings")
        best = self.best_overrides(study)
        print(f"best: trial {study.best_trial.number}, {study.best_value:.4f} nats per token; train it again with:")
        print(f"  {self.command(best)}")
        return best

    def command(self, overrides: Sequence[str]) -> str:
        """The command that trains a run with these overrides and the shared ones."""
        return f"{program('train')} {shlex.join(map(unescape, [*self.shared, *overrides]))}"

    def best_overrides(self, study: Study) -> list[str]:
        """The overrides of the best trial that are not shared, with the rounded values that the run used."""
        (folder,) = self.folder.glob(f"{study.best_trial.number}-*")
        overrides = Job(folder).overrides
        return [f"{key}={overrides[key]}" for key in study.best_params]


class Pruner(Callback):
    """Reports each validation loss of a run to its trial, and ends the run if the study prunes the trial."""

    def __init__(self, trial: Trial, steps: int) -> None:
        self.trial, self.steps = trial, steps

    def after_validation(self, progress: Progress, is_best: bool) -> Status | None:
        if progress.step == self.steps:  # the run is complete: nothing is left to prune
            return None
        self.trial.report(progress.val_loss, progress.step)
        return Status.PRUNED if self.trial.should_prune() else None


def suggest(trial: Trial, space: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One override for each setting of the space. Raises `UserError` for a setting with neither choices nor a range."""
    overrides = []
    for key, values in space.items():
        names: Sequence[str] = list(values) if isinstance(values, Mapping) else []
        if not (names == ["choices"] or {"low", "high"} <= set(names)):
            raise UserError(f"space.{key}={values}: must have choices, or low and high; see conf/tune/default.yaml")
        if "choices" in values:
            value = trial.suggest_categorical(key, values["choices"])
        elif isinstance(values["low"], int) and isinstance(values["high"], int):
            value = trial.suggest_int(key, values["low"], values["high"], log=values.get("log", False))
        else:
            value = trial.suggest_float(key, values["low"], values["high"], log=values.get("log", False))
            value = float(f"{value:.3g}")  # short in commands and in names of directories
        overrides.append(f"{key}={value}")
    return overrides
