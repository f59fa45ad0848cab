"""What the entry points do: Hydra's resolvers, overrides that need no quoting, the tasks of train.py and sample.py."""

import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from microgpt import config as settings
from microgpt import runs, sweep
from microgpt.errors import UserError
from microgpt.failure import EXPECTED, guard, with_trace

# Their values are file names and free text: quoted here, so that no user has to know Hydra's grammar.
VERBATIM = ("run", "resume", "prompt", "dataset.path", "datasets_dir")

GROUPS = ("dataset", "model", "optim", "sampling", "insight", "experiment")

# What keeps a rank that is not the first from making a directory and a log of its own.
FOLLOWING = ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none"]

claimed: set[Path] = set()  # directories that this process made for itself


# -- before Hydra ------------------------------------------------------------------------------------------


def quote(argument: str) -> str:
    """`key=value` with the value quoted, if the key is VERBATIM and the value has no quotes of its own."""
    key, equals, value = argument.partition("=")
    if key not in VERBATIM or not equals or value in ("", "null") or re.fullmatch(r"(['\"]).*\1", value, re.DOTALL):
        return argument
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"{key}='{escaped}'"


def claim(root: str) -> str:
    """Make and return a directory below `root`, named by date and time, that no other run has."""
    stamp, n = time.strftime("%Y-%m-%d_%H-%M-%S"), 1
    while True:
        folder = Path(root) / (stamp if n == 1 else f"{stamp}_{n}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            n += 1
        else:
            claimed.add(folder.resolve())
            return str(folder)


def run_dir(resume: str | None, root: str) -> str:
    """The directory of the run that is resumed, else a new one."""
    return str(runs.find_run(resume, "resume", runs.CONFIG)) if resume else claim(root)


def slug(overrides: str) -> str:
    """A short name for a sweep's job, fit for any file system: `dataset=names,optim.lr=0.01` → `-names-lr0.01`."""
    parts = []
    for override in filter(None, overrides.split(",")):
        key, _, value = override.partition("=")
        parts.append(value if key in GROUPS else key.rpartition(".")[2] + value)
    return "".join(f"-{re.sub(r'[^A-Za-z0-9_.-]+', '_', part)}" for part in parts)[:48]


def by_dataset(values: DictConfig, *, _root_: DictConfig) -> Any:
    """The value for the chosen corpus, for experiments that are set otherwise on each."""
    if (name := _root_.dataset.name) not in values:
        raise UserError(f"dataset={name}: the experiment has no settings for it; choose from {', '.join(values)}")
    return values[name]


def prepare() -> None:
    """Register what the configs in `conf/` refer to."""
    settings.register()
    OmegaConf.register_new_resolver("run_dir", run_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("slug", slug, replace=True)
    OmegaConf.register_new_resolver("keys", describe, replace=True)
    OmegaConf.register_new_resolver("by_dataset", by_dataset, replace=True)


def describe(name: str) -> str:
    return settings.describe({"train": settings.Config, "sample": settings.SampleConfig}[name])


def run(main: Callable[[], Any]) -> None:
    """Call a Hydra entry point; a user's mistake ends as one line and exit status 2, Ctrl-C as 130.

    A sweep is gathered, however it ends; jobs that failed make the status 2.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises what is told here
    prepare()
    try:
        guard(lambda: hydra(main))
    finally:
        remove_unbegun()
        left = sweep.finish()
        if left:
            print(f"error: {left}", file=sys.stderr)
    if left:
        sys.exit(2)


def hydra(main: Callable[[], Any]) -> None:
    """Hand the command line over to Hydra."""
    sys.argv[1:] = [quote(argument) for argument in sweep_again(sys.argv[1:])]
    if "RANK" in os.environ and {"-m", "--multirun"} & set(sys.argv):
        raise UserError("-m: torchrun trains one model; give a sweep hydra/launcher=joblib, or leave out -m")
    if is_follower():
        sys.argv += FOLLOWING
    try:
        main()
    except EXPECTED:
        raise
    except Exception as error:
        if "Unknown plugin class" in str(error):
            raise UserError(missing_launcher()) from None
        if sweep.begun and not with_trace:  # a job raises nothing: it was the launcher
            reason = str(error).strip().splitlines() or [""]
            raise UserError(f"the launcher broke off: {type(error).__name__}: {reason[0]}") from None
        raise


def is_follower() -> bool:
    """Whether torchrun has started this process as another rank than the first."""
    return os.environ.get("RANK", "0") != "0"


def sweep_again(arguments: list[str]) -> list[str]:
    """`resume=` with the directory of a sweep stands for the command line of that sweep."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        folder = Path(value.strip("'\"")).expanduser()
        if key == "resume" and value and (folder / sweep.RECORD).is_file():
            return sweep.again(folder, [other for other in arguments if other != argument])
    return arguments


def missing_launcher() -> str:
    typed = next((argument for argument in sys.argv if argument.startswith("hydra/launcher=")), "hydra/launcher")
    extra = {"joblib": "parallel", "ray": "ray"}.get(typed.partition("=")[2], "cluster")
    return f"{typed}: is not installed; add it with: pip install -c constraints.txt -e '.[{extra}]'"


def remove_unbegun() -> None:
    """Remove the claimed directories in which no run began: they would say nothing that the error has not said."""
    logging.shutdown()
    for folder in claimed:
        jobs = [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
        if not jobs and not (folder / runs.CONFIG).exists():
            shutil.rmtree(folder)
            if not any(folder.parent.iterdir()):
                folder.parent.rmdir()


# -- inside Hydra ------------------------------------------------------------------------------------------


def train(cfg: DictConfig) -> None:
    """The task of train.py: one run, new, resumed, or a job of a sweep."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        gpu = HydraConfig.get().job.num if sweep.in_parallel() else None
        sweep.run_job(folder, lambda: train_in(folder, cfg, gpu))
    elif is_follower():
        from microgpt import training

        training.follow()
        # At once: a thread of gloo's that lets go of its last tensor while the interpreter ends aborts the process.
        os._exit(0)
    else:
        guard(lambda: train_in(folder, cfg))


def train_in(folder: Path, cfg: DictConfig, gpu: int | None = None) -> None:
    """Train what `cfg` says in `folder`; a run that has begun there goes on. Raises `UserError`."""
    config = resumed(folder) if cfg.resume else settings.typed(cfg)
    settings.validate(config)
    if not cfg.resume and (folder / runs.CONFIG).exists():
        other = runs.difference(config, runs.read_config(folder))
        if other:
            raise UserError(f"{runs.relative(folder)}: holds another run, with {other}; choose another directory")
    from microgpt import training  # torch is slow to import: not before everything else is in order

    training.train(config, folder, gpu=gpu)


def resumed(folder: Path) -> settings.Config:
    """The config of a run, with what was typed beside `resume=`. Raises `UserError` for what cannot change."""
    config = OmegaConf.structured(runs.read_config(folder))
    typed = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    for override in typed:
        key = override.key_or_group
        if key == "resume":
            continue
        if ("." not in key and OmegaConf.is_dict(config.get(key))) or key == "experiment":
            raise UserError(f"{override.input_line}: a resumed run keeps its own {key}; leave it out")
        if OmegaConf.select(config, key, default=KeyError) is KeyError:
            raise UserError(settings.unknown_key(key))
        OmegaConf.update(config, key, override.value())
    result = settings.typed(config)
    if changed := runs.difference(result, runs.read_config(folder)):
        raise UserError(
            f"resume={runs.relative(folder)}: the run has {changed}, which cannot change; leave that out, or start anew"
        )
    return result


def sample(cfg: DictConfig) -> None:
    """The task of sample.py: prints what the model of a run writes."""
    guard(lambda: sample_from(cfg))


def sample_from(cfg: DictConfig) -> None:
    if OmegaConf.is_missing(cfg, "run"):
        raise UserError("run: say which run to sample from; add run=latest or run=outputs/…")
    wanted: settings.SampleConfig = settings.typed(cfg, settings.SampleConfig)
    folder = runs.find_run(wanted.run, "run", {"best": runs.BEST, "last": runs.LAST}[wanted.checkpoint])
    from microgpt import samples
    from microgpt.build import find_device

    writer, config = samples.open_run(folder, wanted.checkpoint, find_device(wanted.device))
    chosen = {key: value for key, value in wanted.sampling.items() if value is not None}
    if wanted.prompt is not None:
        chosen["prompts"] = [wanted.prompt]
    merged = OmegaConf.merge(OmegaConf.structured(config), {"sampling": chosen})
    sampling = settings.typed(merged).sampling
    seed = config.seed if wanted.seed is None else wanted.seed
    if sampling.stream:
        for piece in samples.stream_texts(writer, sampling, seed):
            print(piece, end="", flush=True)
    else:
        print("\n".join(samples.draw_texts(writer, sampling, seed)))
