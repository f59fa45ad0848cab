"""A sweep: checked before it begins, gathered when it ends, however it ends; `python -m microgpt.sweep multirun/…`.

On Hydra 1.3.8 `on_multirun_end` is not called when a launcher gives up, and what a callback raises is only a
warning: so the callback notes what has begun, and `gather` is called by whoever called Hydra.
"""

import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout
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
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from microgpt import runs, summary
from microgpt.config import typed
from microgpt.errors import InterruptedRunError, UserError
from microgpt.failure import EXPECTED, fail, guard, one_line
from microgpt.summary import Job

log = logging.getLogger(__name__)

# Hydra warns that the launchers in conf/ have the names of the plugins' own, whose types and defaults they take. It is
# meant so.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/")

RECORD = "multirun.yaml"  # Hydra's own record of what was typed
EXCLUDE = "hydra.job.config.override_dirname.exclude_keys"

begun: dict[Path, int] = {}  # the sweeps of this process, with the number of jobs that each has


# -- before the jobs ---------------------------------------------------------------------------------------


class Sweep(Callback):
    """Hydra's callback: refuses a sweep that has no jobs, or whose directory is another's, and notes that it began."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            if config.resume:
                raise UserError(f"resume={config.resume}: goes on with one run, not with a sweep; leave out -m")
            jobs = planned(list(config.hydra.overrides.task))
            folder = Path(config.hydra.sweep.dir)
            check_place(folder, config, jobs)
        except UserError as error:
            fail(error)  # ends the program: an exception would be a mere warning
        except HydraException:
            return  # which Hydra tells itself as soon as it comes to the jobs
        # Names of jobs are made of what varies; a sweep of one keeps all that was typed.
        constant = set.intersection(*({override.partition("=")[0] for override in job} for job in jobs))
        constant -= {key for key in constant if len({value_of(key, job) for job in jobs}) > 1}
        if len(jobs) > 1:
            config.hydra.overrides.hydra.append(f"{EXCLUDE}={sorted(key.lstrip('+~') for key in constant)}")
        begun[folder] = len(jobs)


def planned(overrides: list[str]) -> list[list[str]]:
    """The overrides of each job of a sweep. Raises `UserError` if there is no job."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides(overrides), None)
    if not jobs:
        empty = next(o for o in overrides if not BasicSweeper.split_arguments(parser.parse_overrides([o]), None)[0])
        raise UserError(f"{empty}: matches nothing, so that the sweep has no job; --help lists the choices")
    return jobs


def value_of(key: str, job: Sequence[str]) -> str:
    return next(override.partition("=")[2] for override in job if override.partition("=")[0] == key)


def check_place(folder: Path, config: DictConfig, jobs: list[list[str]]) -> None:
    """Raise `UserError` if `folder` holds jobs that are not those of this sweep."""
    if (folder / runs.CONFIG).exists():
        raise UserError(f"hydra.sweep.dir={folder}: is the directory of a run; choose another")
    there = sorted(folder.glob("*/.hydra/overrides.yaml"))
    if not there:
        return
    refusal = f"hydra.sweep.dir={folder}: belongs to another sweep"
    way_out = "choose another directory, or leave it out for a new one"
    record = folder / RECORD
    theirs = list(OmegaConf.load(record).hydra.overrides.task) if record.is_file() else []
    if theirs != list(config.hydra.overrides.task):
        raise UserError(f"{refusal}, of {' '.join(theirs) or 'runs that were put there'}; {way_out}")
    loader = GlobalHydra.instance().config_loader()
    for file in there:
        job, number = file.parents[1], file.parents[1].name.partition("-")[0]
        if not (job / runs.CONFIG).exists() or not number.isdecimal():
            continue
        composed = loader.load_sweep_config(config, jobs[int(number)])
        mine = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        if other := runs.difference(typed(mine), runs.read_config(job), runs.WHOLE):
            raise UserError(f"{refusal}: {job.name} was trained with {other}, which conf/ has changed; {way_out}")


def again(folder: Path, more: list[str]) -> list[str]:
    """The command line that goes on with the sweep in `folder`: what was typed for it, and more of Hydra's own."""
    for argument in more:
        if not argument.startswith(("hydra.", "hydra/", "-")):
            raise UserError(f"{argument}: a sweep that goes on keeps its own settings; leave it out, or start anew")
    kept = OmegaConf.load(folder / RECORD).hydra.overrides
    new = {argument.partition("=")[0] for argument in more} | {"hydra.mode", "hydra.sweep.dir", EXCLUDE}
    hydra = [override for override in kept.hydra if override.partition("=")[0] not in new]
    place = str(folder).replace("'", "\\'")
    return [*kept.task, *hydra, *more, f"hydra.sweep.dir='{place}'", "--multirun"]


# -- a job -------------------------------------------------------------------------------------------------


def in_parallel() -> bool:
    """Whether this job may have others beside it: any launcher but Hydra's own runs them so."""
    return not HydraConfig.get().launcher._target_.endswith("BasicLauncher")


def run_job(folder: Path, job: Callable[[], None]) -> None:
    """Do a job; its failure is written down and stops nothing.

    Nothing is raised, so that every launcher behaves alike. Beside others it prints one line, when it ends.
    """
    with ExitStack() as stack:
        if in_parallel():
            stack.enter_context(redirect_stdout(StringIO()))
        try:
            job()
        except InterruptedRunError as error:
            if not in_parallel():
                sys.exit(130)  # which ends the sweep; `finish` says how to go on
            log.warning("%s", error)
        except EXPECTED as error:
            write_failure(folder, one_line(error))
        except Exception as error:  # a bug; the other jobs may not have it
            write_failure(folder, f"{type(error).__name__}: {error}", traceback.format_exc())
    if in_parallel():
        print(line(Job(folder)), flush=True)


def write_failure(folder: Path, error: str, trace: str = "") -> None:
    log.error("error: %s", "\n".join(filter(None, (error, trace))))
    dataset = {"dataset": HydraConfig.get().runtime.choices.get("dataset")}
    runs.write_result(folder, {**dataset, **runs.read_result(folder), "status": "failed", "error": error})


def line(job: Job) -> str:
    """How a job ended, in a line."""
    if job.val_loss is None:
        return f"{job.name}: {job.status} {job.result.get('error', '')}".strip()
    return f"{job.name}: {job.status}, validation {job.val_loss:.4f} nats a token, {job.result['seconds']:.0f} s"


# -- after the jobs ----------------------------------------------------------------------------------------


def how_to_go_on(folder: Path) -> str:
    return f"python train.py resume={runs.relative(folder.absolute())}"


def gather(folder: Path) -> list[Job]:
    """Leave summary, figure and report in a sweep's directory, print the table, and return the jobs."""
    from microgpt import report  # slow to import

    jobs = summary.read_jobs(folder)
    title = folder.resolve().name
    runs.write_atomically(folder / summary.CSV, summary.to_csv(jobs))
    runs.write_atomically(folder / summary.MARKDOWN, summary.to_markdown(jobs, title))
    report.save_figure(jobs, folder)
    report.save_page(jobs, folder)
    console = Console()
    if not console.is_terminal:
        console.width = 200  # a line each
    console.print()
    console.print(drawn(summary.shown(jobs)))
    if groups := summary.shown_groups(jobs):
        console.print(drawn(groups))
    for job in jobs:
        if job.result.get("error"):
            console.print(Text(f"{job.name}: {job.result['error']}", style="red"))
    files = ", ".join((summary.CSV, summary.MARKDOWN, report.FIGURE, report.PAGE))
    console.print(
        f"{summary.counts(jobs)}; in {runs.relative(folder.absolute())}: {files}", markup=False, highlight=False
    )
    return jobs


def drawn(lines: summary.Table) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column in lines[0]:
        is_text = summary.is_text(lines, column)
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for row in lines:
        ended = row.get("status", "finished") in (*runs.ENDED, "pruned")
        table.add_row(*(Text(value) for value in row.values()), style="" if ended else "red")
    return table


def finish() -> str | None:
    """Gather the sweep that this process began, if any; what is left to do, in one line, if not all came to its end."""
    for folder, n in begun.items():
        if not any(folder.glob("*/.hydra")):
            continue
        jobs = gather(folder)
        n_cut_off, n_missing = sum(not job.has_ended for job in jobs), n - len(jobs)
        if n_cut_off or n_missing:
            missing = f", {n_missing} did not begin" if n_missing else ""
            return f"{n_cut_off} of {n} jobs did not come to their end{missing}; go on with: {how_to_go_on(folder)}"
    return None


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise UserError("usage: python -m microgpt.sweep multirun/…  (any directory that holds runs)")
    gather(Path(sys.argv[1]))


if __name__ == "__main__":
    guard(main, __doc__)
