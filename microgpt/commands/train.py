"""Train a character-level GPT.

    python train.py                                      the embedded corpus of colour names
    python train.py dataset=names model.n_embd=96        another corpus, another width
    python train.py -m dataset=names,pokemon,cities      a sweep: one run per corpus
    python train.py resume=multirun/2026-01-31_12-00-00  resume a sweep
    python train.py resume=latest                        resume the latest run
    python train.py resume=latest train.steps=2000       train a finished run for longer

More: python sample.py --help, microgpt --help (all commands), --cfg job (the composed config), --hydra-help (Hydra's
own flags), microgpt completion --help (for the shell).
"""

import os
import shlex
from collections.abc import Sequence
from dataclasses import Field, asdict
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from microgpt.commands.failure import report_errors, user_errors
from microgpt.commands.hydra_app import another_directory, first_import_of_torch, is_worker, run_app
from microgpt.config.checks import parse, unknown_key, validate
from microgpt.config.free_text import escape
from microgpt.config.groups import choices, files, groups
from microgpt.config.help import schema_default
from microgpt.config.program import program, relative
from microgpt.config.schema import Config, flatten
from microgpt.errors import UserError
from microgpt.runs import directory
from microgpt.sweeps import callback as sweep
from microgpt.sweeps.jobs import key_and_value

CHOICES = """Choices, each a file in conf/ (dataset=names, model=modern, ...); --config-dir mine adds those in mine/. A
dataset brings its recipe, the settings that were tuned for it. model=tuned, optim=tuned and sampling=tuned,
the defaults, keep what the recipe says."""


def main(words: Sequence[str]) -> None:
    run_app(lambda cfg: train(cfg, words), "config", Config, words, help_text, default_of)


def help_text() -> str:
    lines = "\n".join(f"  {group}: {', '.join(choices(group))}" for group in groups())
    return f"{__doc__}\n{CHOICES}\n\n{lines}"


def default_of(name: str, f: Field[Any]) -> str:
    """The default of a setting in words."""
    return "default by recipe" if name in recipe_keys() else schema_default(name, f)


@cache
def recipe_keys() -> set[str]:
    """The settings that the recipe of some corpus sets."""
    keys = set()
    for file in files("dataset"):
        with file.open(encoding="utf-8") as stream:  # whose name an error of YAML says
            keys |= set(flatten(yaml.safe_load(stream)))
    return keys


def train(cfg: DictConfig, words: Sequence[str]) -> None:
    """Called by Hydra for a run, and for each job of a sweep; `words` are the arguments of the command line."""
    folder = sweep.behind_link(Path(HydraConfig.get().runtime.output_dir))
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        gpu = HydraConfig.get().job.num if sweep.in_parallel() else None
        sweep.run_job(folder, lambda: train_in(folder, cfg, gpu, typed_command(job_words())))
    elif is_worker():
        with first_import_of_torch():
            from microgpt.training.run import run_worker
        report_errors(run_worker)
        # Without the usual shutdown, in which a thread of gloo that frees its last tensor would abort the process.
        os._exit(0)
    else:
        report_errors(lambda: train_in(folder, cfg, command=typed_command(words)))


def typed_command(words: Sequence[str]) -> str:
    return f"{program('train')} {shlex.join(words)}"


def job_words() -> list[str]:
    """The settings of a job of a sweep: a run with them alone is the same run."""
    overrides = map(str, HydraConfig.get().overrides.task)
    own = sweep.config_dir(HydraConfig.get().runtime.config_sources)
    return own + ["=".join(key_and_value(word)) if "=" in word else word for word in overrides]


def train_in(folder: Path, cfg: DictConfig, gpu: int | None = None, command: str | None = None) -> None:
    """Train the run of `cfg` in `folder`, or resume the run that is there. Raises `UserError`.

    `command` is what was typed, for the record of the run.
    """
    is_job = HydraConfig.get().mode == RunMode.MULTIRUN
    with user_errors(advice=another_directory(is_job) if cfg.resume is None else ""):
        config = resumed_config(folder) if cfg.resume is not None else parse(cfg, Config)
        validate(config)
        if cfg.resume is None and (folder / directory.CONFIG).exists():
            other = directory.difference(config, directory.read_config(folder))
            if other:
                name = relative(folder)
                raise UserError(f"{name}: holds another run, with {other}; choose another directory")
        with first_import_of_torch():  # only after all checks
            from microgpt.training.run import run_training
        run_training(config, folder, gpu=gpu, command=command)


def resumed_config(folder: Path) -> Config:
    """The config of the run in `folder`, with the overrides of the command line.

    Raises `UserError` if an override changes a setting that a resumed run must keep.
    """
    config: Any = OmegaConf.structured(Config)
    config.merge_with(escape(asdict(directory.read_config(folder))))
    for override in OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task)):
        name = override.key_or_group
        if name == "resume":
            continue
        # A choice of a group (model=large, experiment=mine) would replace many settings of the run. Most groups are
        # sections of the config, so their value there is a dictionary. `experiment` is a group without a section.
        if ("." not in name and OmegaConf.is_dict(config.get(name))) or name == "experiment":
            raise UserError(f"{override.input_line}: a resumed run keeps its own {name}; leave it out")
        # KeyError is only a marker for a missing key. None cannot be the marker, since a setting may be null.
        if OmegaConf.select(config, name, default=KeyError) is KeyError:
            raise UserError(unknown_key(name, Config, groups()))
        OmegaConf.update(config, name, override.value())
    result = parse(config, Config)
    if kept := directory.difference(result, directory.read_config(folder)):
        name = relative(folder)
        raise UserError(f"resume={name}: the run has {kept}, which cannot change; leave that out, or start a new run")
    return result
