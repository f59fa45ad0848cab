"""`python -m microgpt.tune dataset=names n_trials=30`: a search for better settings, by Optuna.

The study is a database in its folder, so that the same command goes on with it, several may work on it at once, and
`optuna-dashboard sqlite:///multirun/tune-names/study.db` shows it. Its trials are runs: the folder is a sweep's.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from microgpt import cli
from microgpt.config.checks import parse, validate
from microgpt.config.groups import CONF
from microgpt.config.schema import Config
from microgpt.errors import InterruptedRunError, UserError
from microgpt.failure import guard
from microgpt.plots import losses
from microgpt.runs import directory
from microgpt.runs.callback import Callback, Progress
from microgpt.runs.directory import Status
from microgpt.sweeps.jobs import Job
from microgpt.sweeps.report import gather
from microgpt.training.run import run_training

if TYPE_CHECKING:
    from optuna import Study, Trial

KEYS = ("n_trials", "folder", "save_as", "startup")


def settings(arguments: list[str]) -> tuple[DictConfig, list[str]]:
    """The `tune` node, and the overrides that all trials share. Raises `UserError`."""
    choice, own, shared = "default", [], []
    for argument in map(cli.quote, arguments):
        key, _, value = argument.partition("=")
        if key == "tune":
            choice = value
        elif key in KEYS:
            own.append(argument)
        else:
            shared.append(argument)
    file = CONF / "tune" / f"{choice}.yaml"
    if not file.is_file():
        there = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
        raise UserError(f"tune={choice}: there is no such tune; choose from {there}")
    config = compose("config", shared)
    # Loaded by hand: the schema of a run has no place for it.
    tune = OmegaConf.load(file)
    assert isinstance(tune, DictConfig)
    for argument in own:
        key, _, value = argument.partition("=")
        OmegaConf.update(tune, key, yaml.safe_load(value))
    tune.folder = tune.folder or f"multirun/tune-{config.dataset.name}"
    if not isinstance(tune.n_trials, int) or tune.n_trials < 1:
        raise UserError(f"n_trials={tune.n_trials}: must be a number of at least 1; the default is n_trials=30")
    tune.dataset, tune.seed = config.dataset.name, config.seed
    return tune, shared


def suggest(trial: "Trial", space: DictConfig) -> list[str]:
    """An override for each setting of the space. Raises `UserError` for a range that is none."""
    overrides = []
    for name, about in space.items():
        key, about = str(name), OmegaConf.to_container(about)
        if not isinstance(about, dict) or not ({"choices"} == set(about) or {"low", "high"} <= set(about)):
            raise UserError(f"space.{key}={about}: must have choices, or low and high; see conf/tune/default.yaml")
        if "choices" in about:
            value = trial.suggest_categorical(key, about["choices"])
        elif isinstance(about["low"], int) and isinstance(about["high"], int):
            value = trial.suggest_int(key, about["low"], about["high"], log=about.get("log", False))
        else:
            value = trial.suggest_float(key, about["low"], about["high"], log=about.get("log", False))
            value = float(f"{value:.3g}")
        overrides.append(f"{key}={value}")
    return overrides


class Pruner(Callback):
    """Reports each validation of a run to its trial, and ends the run when the study gives the trial up."""

    def __init__(self, trial: "Trial", steps: int) -> None:
        self.trial, self.steps = trial, steps

    def after_validation(self, progress: Progress, is_best: bool) -> Status | None:
        if progress.step == self.steps:
            return None
        self.trial.report(progress.val_loss, progress.step)
        return Status.PRUNED if self.trial.should_prune() else None


def run_trial(trial: "Trial", tune: DictConfig, shared: list[str]) -> float:
    """Train the trial's run; its loss is the final one, nats per token on the whole validation split."""
    from optuna import TrialPruned

    chosen = suggest(trial, tune.space)
    folder = Path(tune.folder) / f"{trial.number}{cli.slug(','.join(chosen))}"
    config = parse(compose("config", [*shared, *chosen]), Config)
    validate(config)
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create([*shared, *chosen]), folder / ".hydra" / "overrides.yaml")

    try:
        run_training(config, folder, callbacks=[Pruner(trial, config.train.steps)])
    except InterruptedRunError:
        raise KeyboardInterrupt from None
    except UserError as error:
        directory.write_result(folder, {**directory.read_result(folder), "status": Status.FAILED, "error": str(error)})
        raise
    finally:
        print(Job(folder).line(), flush=True)
    if (loss := directory.read_result(folder).get("val_loss")) is None:
        raise TrialPruned
    return loss


def search(tune: DictConfig, shared: list[str]) -> "Study":
    import optuna
    from optuna.study import MaxTrialsCallback
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = Path(tune.folder)
    folder.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{(folder / 'study.db').absolute()}"
    study = optuna.create_study(storage=storage, study_name="microgpt", load_if_exists=True)
    described = {"shared": shared, "space": OmegaConf.to_container(tune.space)}
    if study.user_attrs and study.user_attrs != described:
        was = " ".join(study.user_attrs["shared"])
        raise UserError(f"folder={folder}: holds another search ({was}); choose another with folder=")
    for key, value in described.items():
        study.set_user_attr(key, value)
    # A sampler with the same seed would draw what it has drawn before.
    study.sampler = optuna.samplers.TPESampler(seed=tune.seed + len(study.trials), n_startup_trials=tune.startup)
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=tune.startup)
    ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    if len(study.get_trials(deepcopy=False, states=ended)) < tune.n_trials:
        enough = MaxTrialsCallback(tune.n_trials, states=ended)
        study.optimize(lambda trial: run_trial(trial, tune, shared), callbacks=[enough], catch=(UserError,))
    return study


def report(study: "Study", tune: DictConfig, shared: list[str]) -> None:
    """Table, figure, and the best as a command line and, if wanted, as an experiment."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    gather(Path(tune.folder))
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        raise UserError(f"folder={tune.folder}: no trial came to its end; {tune.folder}/report.html says why")
    importances: dict[str, float] = {}
    if len(complete) >= 2 and len({trial.value for trial in complete}) > 1:
        importances = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    history = {trial.number: trial.value for trial in complete if trial.value is not None}
    losses.save_search_figure(history, importances, Path(tune.folder) / "search.png", f"{tune.dataset}: the search")
    best = read_best(study, tune)
    print(f"best: trial {study.best_trial.number}, {study.best_value:.4f} nats per token; train it again with:")
    print(f"  python train.py {' '.join([*shared, *best])}")
    if tune.save_as:
        save_experiment(best, str(tune.save_as))


def read_best(study: "Study", tune: DictConfig) -> list[str]:
    (folder,) = Path(tune.folder).glob(f"{study.best_trial.number}-*")
    overrides = Job(folder).overrides
    return [f"{key}={overrides[key]}" for key in study.best_params]


def save_experiment(best: list[str], name: str) -> None:
    tree = OmegaConf.from_dotlist(best)
    text = "# @package _global_\n# Found by python -m microgpt.tune.\n" + yaml.safe_dump(OmegaConf.to_container(tree))
    file = CONF / "experiment" / f"{name}.yaml"
    if file.exists():
        raise UserError(f"save_as={name}: {file} exists; choose another name")
    directory.write_atomically(file, text)
    print(f"also: experiment={name}")


def main() -> None:
    try:
        import optuna  # noqa: F401 - asked for before anything begins
    except ImportError:
        raise UserError(
            "tune: Optuna is not installed; add it with: pip install -c constraints.txt -e '.[tune]'"
        ) from None
    cli.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        tune, shared = settings(sys.argv[1:])
        report(search(tune, shared), tune, shared)


if __name__ == "__main__":
    guard(main, __doc__)
