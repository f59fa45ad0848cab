"""A search for better settings with Optuna: each trial is a run, and the folder of the study that of a sweep.

The study is a database in its folder, so that the same command continues it, and several processes can work on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from microgpt.config.schema import Config
from microgpt.errors import InterruptedRunError, UserError
from microgpt.plots.losses import save_search_figure
from microgpt.runs.callback import Callback, Progress
from microgpt.runs.directory import Status, read_result, write_result
from microgpt.sweeps.jobs import Job, slug
from microgpt.sweeps.report import gather
from microgpt.training.run import run_training

if TYPE_CHECKING:
    from optuna import Study, Trial

FIGURE = "search.png"


@dataclass(frozen=True)
class Search:
    """What is searched: `space` holds, for each setting, its choices or its range.

    `shared` are the overrides of all trials, which `make_config` turns into a config together with those of one trial.
    `n_trials` counts those of earlier calls as well; the first `startup` are drawn at random, and none is pruned
    before.
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
        described = {"shared": self.shared, "space": dict(self.space)}
        if study.user_attrs and study.user_attrs != described:
            other = " ".join(study.user_attrs["shared"])
            raise UserError(f"folder={self.folder}: holds another search ({other}); choose another with folder=")
        for key, value in described.items():
            study.set_user_attr(key, value)
        # A sampler with the same seed would draw what it has drawn before.
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
        """Train the trial's run; returns its final loss, nats per token on the whole validation split."""
        from optuna import TrialPruned

        chosen = suggest(trial, self.space)
        folder = self.folder / f"{trial.number}{slug(','.join(chosen))}"
        config = self.make_config([*self.shared, *chosen])
        (folder / ".hydra").mkdir(parents=True)
        OmegaConf.save(OmegaConf.create([*self.shared, *chosen]), folder / ".hydra" / "overrides.yaml")
        try:
            run_training(config, folder, callbacks=[Pruner(trial, config.train.steps)])
        except InterruptedRunError:
            raise KeyboardInterrupt from None
        except UserError as error:
            write_result(folder, {**read_result(folder), "status": Status.FAILED, "error": str(error)})
            raise
        finally:
            print(Job(folder).line(), flush=True)
        if (loss := read_result(folder).get("val_loss")) is None:
            raise TrialPruned
        return loss

    def report(self, study: Study) -> list[str]:
        """Leave the summary and the figure of the search, print the best; returns the overrides of the best trial."""
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
        from optuna.trial import TrialState

        gather(self.folder)
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            raise UserError(f"folder={self.folder}: no trial came to its end; {self.folder}/report.html says why")
        importances: dict[str, float] = {}
        if len(complete) >= 2 and len({trial.value for trial in complete}) > 1:
            importances = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
        history = {trial.number: trial.value for trial in complete if trial.value is not None}
        save_search_figure(history, importances, self.folder / FIGURE, f"{self.dataset}: the search")
        best = self.best_overrides(study)
        print(f"best: trial {study.best_trial.number}, {study.best_value:.4f} nats per token; train it again with:")
        print(f"  python train.py {' '.join([*self.shared, *best])}")
        return best

    def best_overrides(self, study: Study) -> list[str]:
        (folder,) = self.folder.glob(f"{study.best_trial.number}-*")
        overrides = Job(folder).overrides
        return [f"{key}={overrides[key]}" for key in study.best_params]


class Pruner(Callback):
    """Reports each validation of a run to its trial, and ends the run when the study gives the trial up."""

    def __init__(self, trial: Trial, steps: int) -> None:
        self.trial, self.steps = trial, steps

    def after_validation(self, progress: Progress, is_best: bool) -> Status | None:
        if progress.step == self.steps:
            return None
        self.trial.report(progress.val_loss, progress.step)
        return Status.PRUNED if self.trial.should_prune() else None


def suggest(trial: Trial, space: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """An override for each setting of the space. Raises `UserError` for what is neither choices nor a range."""
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
            value = float(f"{value:.3g}")
        overrides.append(f"{key}={value}")
    return overrides
