"""A sweep in Hydra: it is checked before its jobs start, a failed job does not stop the others, a report is written.

Hydra 1.3.8 does not call `on_multirun_end` when a launcher fails, and turns an exception in a callback into a warning.
So the callback only records which sweeps have started, and the caller of Hydra calls `finish` at the end.
"""

import atexit
import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from microgpt.config.checks import parse
from microgpt.config.free_text import unescape
from microgpt.config.program import program, relative
from microgpt.config.schema import Config, typed
from microgpt.errors import InterruptedRunError, UserError, exit_with
from microgpt.runs import directory
from microgpt.runs.lock import RunInUseError
from microgpt.runs.tracking import escape_unencodable
from microgpt.sweeps.jobs import EXCLUDE_KEYS, RECORD, Job

log = logging.getLogger(__name__)


started_sweeps: dict[Path, int] = {}  # those of this process: directory → number of jobs
new_folders: dict[Path, list[Path]] = {}  # those that this process makes for a run or sweep, with the parents it makes

LINK = "microgpt-link-"  # begins the name of a temporary folder that holds a link


class Sweep(Callback):
    """The Hydra callback at the start of a sweep: it checks the jobs and the directory, and records the start.

    Of a single run it records whether its directory is new. If a run is there already, the record of its command line
    in `.hydra` stays: whatever is typed to resume the run, and whether that is right.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            folder = Path(config.hydra.run.dir)
        except OmegaConfBaseException:
            return  # Hydra raises it again, and reports it there
        if not folder.exists():
            new_folders[folder] = missing_parents(folder)
        elif (folder / directory.CONFIG).exists():
            config.hydra.output_subdir = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit with an error if the sweep has no jobs, or if its directory belongs to another sweep or run."""
        try:
            if config.resume is not None:
                raise UserError(f"resume={unescape(config.resume)}: resumes one run, not a sweep; leave out -m")
            jobs = plan_jobs(list(config.hydra.overrides.task))
            folder = behind_link(Path(config.hydra.sweep.dir))
            check_directory(folder, config, jobs)
        except UserError as error:
            exit_with(error)  # Hydra would turn an exception into a warning
        except HydraException:
            return  # Hydra raises it again when it prepares the jobs, and reports it there
        if len(jobs) > 1:
            # The jobs' names hold only the settings that differ. (A single job has all its settings in its name.) Hydra
            # reads this override later, when it loads the config of each job.
            excluded = sorted(key.lstrip("+~") for key in constant_keys(jobs))
            config.hydra.overrides.hydra.append(f"{EXCLUDE_KEYS}={excluded}")
        started_sweeps[folder] = len(jobs)


def missing_parents(folder: Path) -> list[Path]:
    """The folders above `folder` that do not exist yet, the nearest first."""
    return [parent for parent in folder.absolute().parents if not parent.exists()]


def nameable(folder: Path) -> str:
    """A path of `folder` in which Hydra, which reads paths as templates, finds no `${`: itself, or a temporary link."""
    if "${" not in str(folder.absolute()):
        return str(folder)
    link = Path(mkdtemp(prefix=LINK)) / "run"
    link.symlink_to(folder.absolute(), target_is_directory=True)
    atexit.register(lambda: (link.unlink(missing_ok=True), link.parent.rmdir()))
    return str(link)


def behind_link(folder: Path) -> Path:
    """The folder itself, for a path that `nameable` returned, or one below it."""
    return folder.resolve() if any(part.startswith(LINK) for part in folder.parts) else folder


def plan_jobs(overrides: list[str]) -> list[list[str]]:
    """The overrides of each job of a sweep. Raises `UserError` if there is no job."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides(overrides), None)  # one batch that holds all jobs
    if not jobs:
        # One override without values, such as glob(x*), leaves no job. Find it to name it.
        empty = next(o for o in overrides if not BasicSweeper.split_arguments(parser.parse_overrides([o]), None)[0])
        raise UserError(f"{empty}: matches nothing, so the sweep has no job; --help lists the choices")
    return jobs


def constant_keys(jobs: Sequence[Sequence[str]]) -> set[str]:
    """The keys that all jobs override with the same value."""
    # The overrides of a job are texts `key=value`.
    values = [{key: value for key, _, value in (o.partition("=") for o in job)} for job in jobs]
    return {key for key in values[0] if all(job.get(key) == values[0][key] for job in values)}


def check_directory(folder: Path, config: DictConfig, jobs: list[list[str]]) -> None:
    """Raise `UserError` if `folder` is a run directory, or if its jobs are not those of this sweep.

    Jobs of the same sweep have the same command line, and their configs are the same as when they were trained.
    """
    if (folder / directory.CONFIG).exists():
        raise UserError(f"hydra.sweep.dir={folder}: is the directory of a run; choose another")
    existing_jobs = sorted(file.parents[1] for file in folder.glob("*/.hydra/overrides.yaml"))
    if not existing_jobs:
        return
    refusal = f"hydra.sweep.dir={folder}: belongs to another sweep"
    hint = "choose another directory, or leave it out for a new one"
    # With the same command line, job `n` of the directory is jobs[n] of this sweep.
    recorded = read_record(folder)[0] if (folder / RECORD).is_file() else []
    if recorded != list(config.hydra.overrides.task):
        command = unescape(" ".join(recorded)) or "runs without a recorded command line"
        raise UserError(f"{refusal}, of {command}; {hint}")
    # The same command line gives another config if the files in conf/ have changed since the job was trained.
    loader = GlobalHydra.instance().config_loader()
    for job in existing_jobs:
        number = job.name.partition("-")[0]  # of `3-lr0.1`
        if not (job / directory.CONFIG).exists() or not number.isdecimal():
            continue  # the job was never started, or this is no job: there is no config to compare
        if int(number) >= len(jobs):  # a choice of glob(*) is gone
            raise UserError(f"{refusal}, of more jobs: {job.name} is none of the {len(jobs)} of now; {hint}")
        composed = loader.load_sweep_config(config, jobs[int(number)])
        own_keys = [str(key) for key in composed if key != "hydra"]
        composed_config = parse(OmegaConf.masked_copy(composed, own_keys), Config)
        try:
            config_of_job = directory.read_config(job)
        except UserError:
            continue  # the job itself says so, and the others go on
        if changed := directory.difference(composed_config, config_of_job, directory.JOB_KEYS, free=()):
            raise UserError(f"{refusal}: {job.name} was trained with {changed}, which has changed in conf/; {hint}")


def resume_arguments(folder: Path, added: list[str]) -> list[str]:
    """The command line that resumes the sweep in `folder`: the recorded arguments, and `added` arguments for Hydra.

    Raises `UserError` for an added setting of the jobs.
    """
    for argument in added:
        if not argument.startswith(("hydra.", "hydra/", "-")):
            raise UserError(f"{argument}: a resumed sweep keeps its own settings; leave it out, or start a new sweep")
    task, recorded, own = read_record(folder)
    # Recorded Hydra options, without those that are given again here or that `on_multirun_start` appends again.
    replaced = {argument.partition("=")[0] for argument in added} | {"hydra.mode", "hydra.sweep.dir", EXCLUDE_KEYS}
    hydra = [override for override in recorded if override.partition("=")[0] not in replaced]
    quoted = nameable(folder).replace("'", "\\'")
    own = [] if any(argument.startswith("--config-dir") for argument in added) else own
    return [*own, *map(unescape, task), *hydra, *added, f"hydra.sweep.dir='{quoted}'", "--multirun"]


def read_record(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """The overrides of the jobs, those of Hydra, and `--config-dir` if it was given, in the record of the sweep.

    Raises `UserError` if it is damaged.
    """
    try:
        record = directory.read_yaml(folder / RECORD)["hydra"]
        overrides, sources = record["overrides"], record.get("runtime", {}).get("config_sources", [])
        task, hydra = ([str(word) for word in overrides[kind]] for kind in ("task", "hydra"))
        return task, hydra, config_dir(sources)
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{folder / RECORD}: damaged (no overrides); restore it") from None


def config_dir(sources: Iterable[Any]) -> list[str]:
    """`--config-dir` as it is typed, from Hydra's record of the folders with groups; nothing if it was not given."""
    return [f"--config-dir={source['path']}" for source in sources if source["provider"] == "command-line"]


def in_parallel() -> bool:
    """Whether jobs may run at the same time: with every launcher except Hydra's basic launcher."""
    return not HydraConfig.get().launcher._target_.endswith("BasicLauncher")


def run_job(folder: Path, job: Callable[[], None]) -> None:
    """Run a job of a sweep. A failure is written to the run directory `folder`, and the other jobs continue.

    It raises no exception, so that all launchers behave the same. A job in parallel prints only one line, at its end.
    """
    escape_unencodable()  # a launcher may have started this process
    with redirect_stdout(StringIO()) if in_parallel() else nullcontext():
        try:
            job()
        except InterruptedRunError as error:
            if not in_parallel():
                sys.exit(error.exit_status)  # ends the sweep; `finish` returns how to resume it
            log.warning("%s", error)
        except RunInUseError as error:  # its files are those of the process that trains it
            log.error("error: %s", error)
        except UserError as error:
            log_failure(folder, str(error))
        except Exception as error:  # a bug, which may not affect the other jobs
            log_failure(folder, f"{type(error).__name__}: {error}", traceback.format_exc())
    if in_parallel():
        print(Job(folder).line(), flush=True)


def log_failure(folder: Path, error: str, trace: str = "") -> None:
    """Log the error with its stack trace, and write it to the `result.json` of the job in `folder`."""
    log.error("error: %s", "\n".join(filter(None, (error, trace))))
    directory.write_failure(folder, error, dataset=HydraConfig.get().runtime.choices.get("dataset"))


def finish() -> str | None:
    """Write and print the report of the sweep that this process has started, if any.

    Returns one line on how to resume it if some jobs did not end, else None.
    """
    for folder, n_jobs in started_sweeps.items():
        if not any(folder.glob("*/.hydra")):
            continue  # no job has started
        from microgpt.sweeps.report import gather  # slow to import

        jobs = gather(folder)
        n_unfinished, n_missing = sum(not job.status.has_ended for job in jobs), n_jobs - len(jobs)
        if n_unfinished or n_missing:
            missing = f", {n_missing} did not start" if n_missing else ""
            resume = f"{program('train')} {typed('resume', relative(folder.absolute()))}"
            return f"{n_unfinished} of {n_jobs} jobs did not end{missing}; resume the sweep with: {resume}"
    return None
