"""A search for better settings with Optuna. Each trial is a run, and the folder of the study is like that of a sweep.

The study is a database in its folder: the same command resumes it, and several processes can work on it at once.
"""

from __future__ import annotations

import shlex
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from microgpt.config.free_text import unescape
from microgpt.config.program import program
from microgpt.config.schema import Config
from microgpt.errors import InterruptedRunError, UserError
from microgpt.plots.losses import save_search_figure
from microgpt.runs.callback import Callback, Progress
from microgpt.runs.directory import Status, read_result, remove_partial_files, write_failure
from microgpt.runs.lock import RunInUseError, locked
from microgpt.sweeps.jobs import Job, slug
from microgpt.sweeps.report import gather
from microgpt.training.run import run_training
from microgpt.training.space import suggest

if TYPE_CHECKING:
    from optuna import Study, Trial

FIGURE = "search.png"
SECONDS_TO_LOCK = 1.0  # from the directory of a trial to the lock of its run
KILLED = "killed"  # attribute of a study: the numbers of the trials whose process was killed


@dataclass(frozen=True)
class Search:
    """A search: `space` holds the choices or the range of each setting that is searched.

    `shared` are the overrides of all trials; `make_config` makes a config of them and the overrides of one trial,
    and `options` are what the command that trains it has beside them, such as `--config-dir=mine`.
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
    options: Sequence[str] = ()

    @property
    def database(self) -> Path:
        return self.folder / "study.db"

    def open_study(self) -> Study:
        """The study in the folder, or a new one. Raises `UserError` if the folder holds another search."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"folder={self.folder}: {error.strerror}; choose another with folder=") from None
        study = optuna.create_study(
            storage=f"sqlite:///{self.database.absolute()}", study_name="microgpt", load_if_exists=True
        )
        definition = {"shared": self.shared, "space": dict(self.space)}
        if any(study.user_attrs.get(key, value) != value for key, value in definition.items()):
            other = " ".join(study.user_attrs.get("shared", ["damaged"]))
            raise UserError(f"folder={self.folder}: holds another search ({other}); choose another with folder=")
        for key, value in definition.items():
            study.set_user_attr(key, value)
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=self.startup)
        return study

    def run(self) -> Study:
        """Run trials until `n_trials` have ended."""
        from optuna.study import MaxTrialsCallback
        from optuna.trial import TrialState

        check_database(self.database)
        study = self.open_study()
        n_trials = self.n_trials + self.fail_killed_trials(study)
        ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        if len(study.get_trials(deepcopy=False, states=ended)) < n_trials:
            enough = MaxTrialsCallback(n_trials, states=ended)
            study.optimize(self.run_trial, callbacks=[enough], catch=(UserError,))
        return study

    def fail_killed_trials(self, study: Study) -> int:
        """End the trials whose process was killed; returns how many there are by now.

        The database says that they are running, but nothing locks their run.
        """
        from optuna.trial import TrialState

        killed = list(study.user_attrs.get(KILLED, []))
        if not (running := study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))):
            return len(killed)
        time.sleep(SECONDS_TO_LOCK)
        for trial in running:
            folder = next(self.folder.glob(f"{trial.number}-*"), None)
            with suppress(RunInUseError), locked(folder) if folder else nullcontext():
                if folder:
                    remove_partial_files(folder)
                    write_failure(folder, "its process was killed")
                study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)  # another process may have
                killed.append(trial.number)
        study.set_user_attr(KILLED, sorted({*killed, *study.user_attrs.get(KILLED, [])}))
        return len(study.user_attrs[KILLED])

    def run_trial(self, trial: Trial) -> float:
        """Train a run with the settings of the trial; returns its loss in nats per token on the whole validation split.

        Raises `TrialPruned` if the run was pruned.
        """
        from optuna import TrialPruned
        from optuna.samplers import TPESampler

        # A seed for each trial: a resumed search, or another process, would else draw the same settings again.
        trial.study.sampler = TPESampler(seed=self.seed + trial.number, n_startup_trials=self.startup)
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
        return f"{program('train')} {shlex.join([*self.options, *map(unescape, [*self.shared, *overrides])])}"

    def best_overrides(self, study: Study) -> list[str]:
        """The overrides of the best trial that are not shared, with the rounded values that the run used."""
        number = study.best_trial.number
        folder = next(self.folder.glob(f"{number}-*"), self.folder / str(number))
        overrides = Job(folder).overrides
        if missing := study.best_params.keys() - overrides.keys():
            missing_keys = ", ".join(sorted(missing))
            raise UserError(f"{folder}: the directory of the best trial no longer says its {missing_keys}; restore it")
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


def check_database(file: Path) -> None:
    """Raise `UserError` if `file` exists and is no database, or a damaged one."""
    if not file.exists():
        return
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            problem = str(database.execute("pragma quick_check(1)").fetchone()[0])
            if problem == "ok" and database.execute("pragma schema_version").fetchone()[0]:
                database.execute("select study_name from studies")  # of Optuna; a new database has no tables
    except (sqlite3.Error, OverflowError) as error:
        problem = str(error)
    if problem != "ok":
        raise UserError(
            f"{file}: not the database of a search, or damaged ({problem.splitlines()[0]}); restore it, or remove it"
            " to search anew"
        )


@contextmanager
def database_errors(file: Path) -> Iterator[None]:
    """A context that converts the errors of Optuna and its database `file` to `UserError`."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OptunaError, SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, SQLAlchemyError) else error
        reason = str(getattr(cause, "orig", None) or cause).splitlines() or [type(error).__name__]
        raise UserError(f"{file}: cannot be read or written ({reason[0]}); check it, or restore it") from error
