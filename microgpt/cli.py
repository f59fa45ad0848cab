"""What the entry points do: Hydra's resolvers, overrides that need no quoting, the tasks of train.py and sample.py."""

import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from microgpt.config.checks import parse, unknown_key, validate
from microgpt.config.groups import groups
from microgpt.config.registry import CHECKPOINTS, DEVICES
from microgpt.config.schema import REQUIRED, Config, SamplingConfig, describe, key
from microgpt.errors import UserError
from microgpt.failure import SHOW_TRACE, guard, user_errors
from microgpt.runs import directory
from microgpt.sweeps import callback

# Their values are file names and free text: quoted here, so that no user has to know Hydra's grammar.
VERBATIM_KEYS = ("run", "resume", "prompt", "dataset.path", "datasets_dir")

# What keeps a rank that is not the first from making a directory and a log of its own.
WORKER_OVERRIDES = [
    "hydra.run.dir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
]

MAX_SLUG = 48  # characters

new_folders: set[Path] = set()  # directories that this process has made for runs and sweeps

# The settings of sampling, each null unless it is given: then it is as in the run.
SamplingOverrides = make_dataclass(
    "SamplingOverrides",
    [(f.name, f.type | None, field(default=None, metadata=f.metadata)) for f in fields(SamplingConfig)],  # type: ignore
)


@dataclass
class SampleConfig:
    run: str = key(REQUIRED, "the directory of a run, or latest", example="latest")
    prompt: str | None = key(None, "the text to continue (in place of sampling.prompts)")
    checkpoint: str = key("best", "which weights of the run", choices=CHECKPOINTS)
    seed: int | None = key(None, "of the draws; the run's own if not given", low=0, high=2**31 - 1)
    device: str = key("auto", "where to compute", choices=DEVICES)
    sampling: SamplingOverrides = field(default_factory=SamplingOverrides)  # type: ignore[valid-type]


# -- before Hydra ------------------------------------------------------------------------------------------


def quote(argument: str) -> str:
    """`key=value` with the value quoted, if the key is among VERBATIM_KEYS and the value has no quotes of its own."""
    name, equals, value = argument.partition("=")
    if name not in VERBATIM_KEYS or not equals or value in ("", "null"):
        return argument
    if re.fullmatch(r"(['\"]).*\1", value, re.DOTALL):
        return argument
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"{name}='{escaped}'"


def new_folder(root: str) -> str:
    """Make and return a directory below `root`, named by date and time, that no other run has."""
    stamp, n = time.strftime("%Y-%m-%d_%H-%M-%S"), 1
    while True:
        folder = Path(root) / (stamp if n == 1 else f"{stamp}_{n}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            n += 1
        else:
            new_folders.add(folder.resolve())
            return str(folder)


def run_dir(resume: str | None, root: str) -> str:
    """The directory of the run that is resumed, else a new one."""
    return str(directory.find_run(resume, "resume", directory.CONFIG)) if resume else new_folder(root)


def slug(overrides: str) -> str:
    """A short name for a sweep's job, fit for any file system: `dataset=names,optim.lr=0.01` → `-names-lr0.01`."""
    parts = []
    for override in filter(None, overrides.split(",")):
        name, _, value = override.partition("=")
        parts.append(value if name in groups() else name.rpartition(".")[2] + value)
    return "".join(f"-{re.sub(r'[^A-Za-z0-9_.-]+', '_', part)}" for part in parts)[:MAX_SLUG]


def by_dataset(values: DictConfig, *, _root_: DictConfig) -> Any:
    """The value for the chosen corpus, for experiments with different settings for each."""
    if (name := _root_.dataset.name) not in values:
        raise UserError(f"dataset={name}: the experiment has no settings for it; choose from {', '.join(values)}")
    return values[name]


def describe_keys(entry_point: str) -> str:
    return describe({"train": Config, "sample": SampleConfig}[entry_point])


def register() -> None:
    """Make the schemas and resolvers that the files in `conf/` refer to known to Hydra."""
    store = ConfigStore.instance()
    store.store(name="base_config", node=Config)
    store.store(name="base_sample", node=SampleConfig)
    OmegaConf.register_new_resolver("run_dir", run_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("slug", slug, replace=True)
    OmegaConf.register_new_resolver("keys", describe_keys, replace=True)
    OmegaConf.register_new_resolver("by_dataset", by_dataset, replace=True)


def run(main: Callable[[], Any]) -> None:
    """Call a Hydra entry point; a user's mistake ends as one line and exit status 2, Ctrl-C as 130.

    A sweep is gathered, however it ends; jobs that failed make the status 2.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises what is reported here
    register()
    try:
        guard(lambda: call_hydra(main))
    finally:
        remove_unused_folders()
        unfinished = callback.finish()
        if unfinished:
            print(f"error: {unfinished}", file=sys.stderr)
    if unfinished:
        sys.exit(2)


def call_hydra(main: Callable[[], Any]) -> None:
    """Hand the command line over to Hydra."""
    sys.argv[1:] = [quote(argument) for argument in expand_resume(sys.argv[1:])]
    if "RANK" in os.environ and {"-m", "--multirun"} & set(sys.argv):
        raise UserError("-m: torchrun trains one model; give a sweep hydra/launcher=joblib, or leave out -m")
    if is_worker():
        sys.argv += WORKER_OVERRIDES
    try:
        with user_errors():
            main()
    except UserError:
        raise
    except Exception as error:
        if "Unknown plugin class" in str(error):
            raise UserError(missing_launcher()) from None
        if callback.started_sweeps and not SHOW_TRACE:  # a job raises nothing: it was the launcher
            reason = str(error).strip().splitlines() or [""]
            raise UserError(f"the launcher failed: {type(error).__name__}: {reason[0]}") from None
        raise


def is_worker() -> bool:
    """Whether torchrun has started this process as another rank than the first."""
    return os.environ.get("RANK", "0") != "0"


def expand_resume(arguments: list[str]) -> list[str]:
    """`resume=` with the directory of a sweep stands for the command line of that sweep."""
    for argument in arguments:
        name, _, value = argument.partition("=")
        folder = Path(value.strip("'\"")).expanduser()
        if name == "resume" and value and (folder / callback.RECORD).is_file():
            return callback.resume_arguments(folder, [other for other in arguments if other != argument])
    return arguments


def missing_launcher() -> str:
    launcher = next((argument for argument in sys.argv if argument.startswith("hydra/launcher=")), "hydra/launcher")
    extra = {"joblib": "parallel", "ray": "ray"}.get(launcher.partition("=")[2], "cluster")
    return f"{launcher}: is not installed; add it with: pip install -c constraints.txt -e '.[{extra}]'"


def remove_unused_folders() -> None:
    """Remove the new directories in which no run began: they hold nothing that the error has not said."""
    logging.shutdown()
    for folder in new_folders:
        jobs = [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
        if not jobs and not (folder / directory.CONFIG).exists():
            shutil.rmtree(folder)
            if not any(folder.parent.iterdir()):
                folder.parent.rmdir()


# -- inside Hydra ------------------------------------------------------------------------------------------


def train(cfg: DictConfig) -> None:
    """The task of train.py: one run, new, resumed, or a job of a sweep."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        gpu = HydraConfig.get().job.num if callback.in_parallel() else None
        callback.run_job(folder, lambda: train_in(folder, cfg, gpu))
    elif is_worker():
        from microgpt.training.run import run_worker

        run_worker()
        # At once: a thread of gloo's that releases its last tensor while the interpreter ends aborts the process.
        os._exit(0)
    else:
        guard(lambda: train_in(folder, cfg))


def train_in(folder: Path, cfg: DictConfig, gpu: int | None = None) -> None:
    """Train the run of `cfg` in `folder`; a run that has begun there is resumed. Raises `UserError`."""
    with user_errors():
        config = resumed_config(folder) if cfg.resume else parse(cfg, Config)
        validate(config)
        if not cfg.resume and (folder / directory.CONFIG).exists():
            other = directory.difference(config, directory.read_config(folder))
            if other:
                raise UserError(
                    f"{directory.relative(folder)}: holds another run, with {other}; choose another directory"
                )
        from microgpt.training.run import (
            run_training,  # torch is slow to import: not before everything else is in order
        )

        run_training(config, folder, gpu=gpu)


def resumed_config(folder: Path) -> Config:
    """The config of the run in `folder`, with the overrides of the command line.

    Raises `UserError` for an override of what cannot change.
    """
    config = OmegaConf.structured(directory.read_config(folder))
    for override in OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task)):
        name = override.key_or_group
        if name == "resume":
            continue
        # A choice of a group would replace all of the run's own settings of that group.
        if ("." not in name and OmegaConf.is_dict(config.get(name))) or name == "experiment":
            raise UserError(f"{override.input_line}: a resumed run keeps its own {name}; leave it out")
        if OmegaConf.select(config, name, default=KeyError) is KeyError:
            raise UserError(unknown_key(name, Config, groups()))
        OmegaConf.update(config, name, override.value())
    result = parse(config, Config)
    if kept := directory.difference(result, directory.read_config(folder)):
        raise UserError(
            f"resume={directory.relative(folder)}: the run has {kept}, which cannot change; leave that out, or start a"
            " new run"
        )
    return result


def sample(cfg: DictConfig) -> None:
    """The task of sample.py: prints what the model of a run generates."""
    guard(lambda: sample_from(parse(cfg, SampleConfig)))


def sample_from(wanted: SampleConfig) -> None:
    folder = directory.find_run(wanted.run, "run", CHECKPOINTS[wanted.checkpoint])
    from microgpt.model.device import find_device
    from microgpt.runs.opening import open_run

    run = open_run(folder, wanted.checkpoint, find_device(wanted.device))
    given = {f.name: getattr(wanted.sampling, f.name) for f in fields(SamplingConfig)}
    if wanted.prompt is not None:
        given["prompts"] = [wanted.prompt]
    own = vars(run.config.sampling)
    sampling = SamplingConfig(**{name: own[name] if value is None else value for name, value in given.items()})
    seed = run.config.seed if wanted.seed is None else wanted.seed
    if sampling.stream:
        for piece in run.generator.stream(sampling, seed):
            print(piece, end="", flush=True)
    else:
        print("\n".join(run.generator.generate(sampling, seed)))
