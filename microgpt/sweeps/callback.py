"""A sweep inside Hydra: checked before its jobs start, each job kept from stopping the others, gathered at the end.

On Hydra 1.3.8 `on_multirun_end` is not called when a launcher gives up, and an exception in a callback is only a
warning. So the callback records which sweeps have started, and whoever called Hydra calls `finish`.
"""

import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from microgpt.config.checks import parse
from microgpt.config.schema import Config
from microgpt.errors import InterruptedRunError, UserError, exit_with
from microgpt.runs import directory
from microgpt.runs.directory import Status
from microgpt.sweeps.jobs import Job

log = logging.getLogger(__name__)

# Hydra warns that the launchers in conf/ have the names of the plugins' own, whose types and defaults they take. That
# is intended.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/")

RECORD = "multirun.yaml"  # Hydra's own record of the command line
EXCLUDE_KEYS = "hydra.job.config.override_dirname.exclude_keys"  # left out of the names of jobs

started_sweeps: dict[Path, int] = {}  # by this process: their directories, and how many jobs each has


class Sweep(Callback):
    """Hydra's callback: refuses a sweep that has no jobs, or whose directory is another's, and records its start."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            if config.resume:
                raise UserError(f"resume={config.resume}: resumes one run, not a sweep; leave out -m")
            jobs = plan_jobs(list(config.hydra.overrides.task))
            folder = Path(config.hydra.sweep.dir)
            check_directory(folder, config, jobs)
        except UserError as error:
            exit_with(error)  # an exception would be a mere warning
        except HydraException:
            return  # Hydra raises it again, where it is reported, as soon as it comes to the jobs
        if len(jobs) > 1:  # a sweep of one job is named by all that was typed
            excluded = sorted(key.lstrip("+~") for key in constant_keys(jobs))
            config.hydra.overrides.hydra.append(f"{EXCLUDE_KEYS}={excluded}")
        started_sweeps[folder] = len(jobs)


def plan_jobs(overrides: list[str]) -> list[list[str]]:
    """The overrides of each job of a sweep. Raises `UserError` if there is no job."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides(overrides), None)
    if not jobs:
        empty = next(o for o in overrides if not BasicSweeper.split_arguments(parser.parse_overrides([o]), None)[0])
        raise UserError(f"{empty}: matches nothing, so that the sweep has no job; --help lists the choices")
    return jobs


def constant_keys(jobs: Sequence[Sequence[str]]) -> set[str]:
    """The keys that all jobs override with the same value."""
    values = [{key: value for key, _, value in (o.partition("=") for o in job)} for job in jobs]
    return {key for key in values[0] if all(job.get(key) == values[0][key] for job in values)}


def check_directory(folder: Path, config: DictConfig, jobs: list[list[str]]) -> None:
    """Raise `UserError` if `folder` is the directory of a run, or holds jobs that are not those of this sweep."""
    if (folder / directory.CONFIG).exists():
        raise UserError(f"hydra.sweep.dir={folder}: is the directory of a run; choose another")
    existing = sorted(file.parents[1] for file in folder.glob("*/.hydra/overrides.yaml"))
    if not existing:
        return
    refusal = f"hydra.sweep.dir={folder}: belongs to another sweep"
    hint = "choose another directory, or leave it out for a new one"
    record = folder / RECORD
    # The command line must be the same: then the jobs have the same numbers.
    recorded = list(OmegaConf.load(record).hydra.overrides.task) if record.is_file() else []
    if recorded != list(config.hydra.overrides.task):
        raise UserError(f"{refusal}, of {' '.join(recorded) or 'runs that were put there'}; {hint}")
    # And what it composes to must be the same: the files in conf/ may have changed since.
    loader = GlobalHydra.instance().config_loader()
    for job in existing:
        number = job.name.partition("-")[0]
        if not (job / directory.CONFIG).exists() or not number.isdecimal():
            continue
        composed = loader.load_sweep_config(config, jobs[int(number)])
        without_hydra = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        composed_config = parse(without_hydra, Config)
        if changed := directory.difference(composed_config, directory.read_config(job), directory.JOB_KEYS):
            raise UserError(f"{refusal}: {job.name} was trained with {changed}, which conf/ has changed; {hint}")


def resume_arguments(folder: Path, added: list[str]) -> list[str]:
    """The command line that resumes the sweep in `folder`: the recorded one, and `added` options of Hydra's own.

    Raises `UserError` for an added setting.
    """
    for argument in added:
        if not argument.startswith(("hydra.", "hydra/", "-")):
            raise UserError(f"{argument}: a resumed sweep keeps its own settings; leave it out, or start a new sweep")
    recorded = OmegaConf.load(folder / RECORD).hydra.overrides
    replaced = {argument.partition("=")[0] for argument in added} | {"hydra.mode", "hydra.sweep.dir", EXCLUDE_KEYS}
    hydra = [override for override in recorded.hydra if override.partition("=")[0] not in replaced]
    quoted = str(folder).replace("'", "\\'")
    return [*recorded.task, *hydra, *added, f"hydra.sweep.dir='{quoted}'", "--multirun"]


def in_parallel() -> bool:
    """Whether this job may run beside others: with any launcher but Hydra's own."""
    return not HydraConfig.get().launcher._target_.endswith("BasicLauncher")


def run_job(folder: Path, job: Callable[[], None]) -> None:
    """Do a job of a sweep; its failure is written to its directory and stops no other.

    Nothing is raised, so that every launcher behaves alike. In parallel a job prints one line, when it ends.
    """
    with redirect_stdout(StringIO()) if in_parallel() else nullcontext():
        try:
            job()
        except InterruptedRunError as error:
            if not in_parallel():
                sys.exit(error.exit_status)  # which ends the sweep; `finish` says how to resume it
            log.warning("%s", error)
        except UserError as error:
            write_failure(folder, str(error))
        except Exception as error:  # a bug; the other jobs may not have it
            write_failure(folder, f"{type(error).__name__}: {error}", traceback.format_exc())
    if in_parallel():
        print(Job(folder).line(), flush=True)


def write_failure(folder: Path, error: str, trace: str = "") -> None:
    log.error("error: %s", "\n".join(filter(None, (error, trace))))
    dataset = {"dataset": HydraConfig.get().runtime.choices.get("dataset")}
    directory.write_result(
        folder, {**dataset, **directory.read_result(folder), "status": Status.FAILED, "error": error}
    )


def finish() -> str | None:
    """Gather the sweep that this process started, if any; how to resume it, in one line, if not all jobs have ended."""
    for folder, n_jobs in started_sweeps.items():
        if not any(folder.glob("*/.hydra")):
            continue
        from microgpt.sweeps.report import gather  # slow to import

        jobs = gather(folder)
        n_unfinished, n_missing = sum(not job.status.has_ended for job in jobs), n_jobs - len(jobs)
        if n_unfinished or n_missing:
            missing = f", {n_missing} did not start" if n_missing else ""
            resume = f"python train.py resume={directory.relative(folder.absolute())}"
            return f"{n_unfinished} of {n_jobs} jobs did not end{missing}; resume the sweep with: {resume}"
    return None
