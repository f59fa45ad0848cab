"""Search for better settings with Optuna.

    microgpt tune dataset=names n_trials=30
    microgpt tune dataset=names n_trials=60 save_as=my_names      resume, and save the best as an experiment
    microgpt tune tune=mine                                       another space, in conf/tune/mine.yaml
    microgpt tune --config-dir mine dataset=rivers                a corpus of your own, mine/dataset/rivers.yaml

The settings of train (python train.py --help) can be given as well; they apply to every trial. The study is a database
in its folder: the same command resumes it, several processes can work on it at once, and
`optuna-dashboard sqlite:///multirun/tune-names/study.db` shows it. Each trial is a run; the folder is like that of a
sweep.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from microgpt.commands.arguments import (
    check_own_file,
    check_word,
    print_help_if_asked,
    quote,
    read_arguments,
    split_config_dir,
)
from microgpt.commands.hydra_app import compose_config, register
from microgpt.config.checks import as_path, unknown_key, validate
from microgpt.config.groups import CONF, OWN_CONF, choices, files, groups, own_folder, with_groups_in
from microgpt.config.program import install
from microgpt.config.schema import Config, key, settings
from microgpt.errors import UserError
from microgpt.runs.directory import can_write, write_atomically


@dataclass
class TuneConfig:
    tune: str = key("default", "a file of conf/tune/ with the settings below; those that are typed replace its own")
    n_trials: int = key(30, "trials in all, including those of earlier calls on the same folder", low=1, high=10**6)
    folder: str | None = key(None, "folder of the study; null: multirun/tune-<dataset>", free_text=True)
    save_as: str | None = key(
        None, "write the best as experiment/<save_as>.yaml, in conf/ or in the folder of --config-dir"
    )
    startup: int = key(5, "trials that are drawn at random; until they have ended, none is pruned", low=0, high=10**6)
    space: dict[str, Any] = key(
        {},
        "for each setting its choices, or low and high, and log: true for a log scale; what is typed is the whole"
        " space: nothing of the file is added",
    )


def main(words: Sequence[str]) -> None:
    print_help_if_asked(words, __doc__, TuneConfig)
    try:
        import optuna  # noqa: F401 - checked before anything is written
    except ImportError:
        raise UserError(f"tune: Optuna is not installed; add it with: {install('tune')}") from None
    register()
    folder, words = split_config_dir(words)
    with with_groups_in(folder):
        search_and_save(*own_and_shared(words))


def search_and_save(own: Sequence[str], shared: list[str]) -> None:
    """Run the search of the settings `own`, whose trials have the overrides `shared`, and save the best if asked."""
    tune = read_tune(own)
    config = make_config(shared)
    experiment = (own_folder() or OWN_CONF) / "experiment" / f"{tune.save_as}.yaml"
    if tune.save_as is not None:
        check_name(tune.save_as, experiment)
    from microgpt.training.search import Search, database_errors
    from microgpt.training.space import check_space

    check_space(tune.space)
    folder = as_path("folder", tune.folder or f"multirun/tune-{config.dataset.name}")
    name, seed = config.dataset.name, config.seed
    options = [f"--config-dir={own_folder()}"] if own_folder() else []
    search = Search(folder, tune.space, tune.n_trials, tune.startup, seed, name, shared, make_config, options)
    with database_errors(search.database):
        best = search.report(search.run())
    if tune.save_as:
        save_experiment(best, experiment)


def check_name(name: str, experiment: Path) -> None:
    """Raise `UserError` if the best settings cannot be saved as `experiment`: before the search, not after it."""
    if not re.fullmatch(r"[\w-]+", name):
        raise UserError(f"save_as={name}: must be letters, digits, _ and -, such as my_search")
    if experiment.exists():
        raise UserError(f"save_as={name}: {experiment} exists; choose another name")
    if not can_write(experiment.parent):
        raise UserError(f"save_as={name}: {experiment.parent} cannot be written; leave it out")


def own_and_shared(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words that are settings of the search, and those that are overrides of its trials. Raises `UserError`."""
    check_own_file(words)
    for word in words:
        check_word(word)
    names = {f.name for f in fields(TuneConfig)}
    own = [word for word in words if word.partition("=")[0] in names]
    shared = [quote(word, Config) for word in words if word not in own]
    known = {name for name, _ in settings(Config)} | set(groups())
    for word in shared:
        name = word.partition("=")[0].lstrip("+")
        if name not in known and not name.startswith("~"):
            raise UserError(unknown_key(name, Config, (*groups(), *sorted(names))))
    return own, shared


def read_tune(words: Sequence[str]) -> TuneConfig:
    """The settings in the file of `conf/tune/` that `tune=` names, with `words` applied. Raises `UserError`."""
    choice = read_arguments(words, TuneConfig).tune
    if choice not in choices("tune"):
        raise UserError(f"tune={choice}: there is no such tune; choose from {', '.join(choices('tune'))}")
    file = next(file for file in files("tune") if file.stem == choice)
    return read_arguments(words, TuneConfig, OmegaConf.load(file))


def make_config(overrides: list[str]) -> Config:
    """The config that train composes from these overrides. Raises `UserError`."""
    config = compose_config(overrides)
    validate(config)
    return config


def save_experiment(best: list[str], file: Path) -> None:
    """Write the overrides `best` as an experiment."""
    is_choice = {word: word.partition("=")[0] in groups() for word in best}
    tree: dict[Any, Any] = dict(OmegaConf.from_dotlist([word for word in best if not is_choice[word]]))
    if chosen := [word.partition("=") for word in best if is_choice[word]]:
        tree = {"defaults": [{f"override /{group}": choice} for group, _, choice in chosen]} | tree
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, "# @package _global_\n# Found by microgpt tune.\n" + OmegaConf.to_yaml(tree))
    folder = file.parent.parent
    print(f"saved as: experiment={file.stem}" + ("" if folder == CONF else f" --config-dir {shlex.quote(str(folder))}"))
