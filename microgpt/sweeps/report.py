"""The report of a sweep: summary, figure, an HTML page that loads no other files, and the table in the terminal."""

import base64
import shlex
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader
from rich.text import Text

from microgpt.config.program import program, relative
from microgpt.config.schema import typed
from microgpt.plots import losses
from microgpt.plots.style import page_colors
from microgpt.plots.tables import fit, is_text, table_width, to_csv, to_table, wide_console
from microgpt.runs.directory import Status, write_atomically
from microgpt.sweeps import summary
from microgpt.sweeps.jobs import Job, best_first, read_jobs, varied_settings

FIGURE, PAGE = "all_losses.png", "report.html"
MAX_LOG_LINES, MAX_SAMPLE_LINES = 25, 30  # for each job on the page


def gather(folder: Path) -> list[Job]:
    """Write summary, figure and page to the directory of a sweep, print the table, and return the jobs."""
    jobs = read_jobs(folder)
    write_atomically(folder / summary.CSV, to_csv(summary.csv_rows(jobs)))
    write_atomically(folder / summary.MARKDOWN, summary.markdown_page(jobs, folder.resolve().name))
    save_figure(jobs, folder)
    save_page(jobs, folder)
    print_summary(jobs, folder)
    return jobs


def print_summary(jobs: Sequence[Job], folder: Path) -> None:
    """Print the table (red: jobs that have not ended), the means over seeds, the errors, and the names of the files."""
    ended = {job.label for job in jobs if job.status.has_ended}
    console = wide_console()
    all_columns, same = summary.varied_rows(jobs)
    rows, left_out = fit(all_columns, table_width())
    console.print()
    console.print(to_table(rows, highlighted=lambda row: row["job"] not in ended, width=table_width()))
    if left_out:
        same = f"{same} Not shown: {', '.join(left_out)}.".strip()
    if same:
        console.print(same, markup=False, highlight=False, width=table_width())
    if groups := summary.group_rows(jobs):
        console.print(to_table(fit(groups, table_width())[0], width=table_width()))
        console.print(summary.group_note(jobs), highlight=False)
    for job in jobs:
        if job.error:
            console.print(Text(f"{job.name}: {job.error}", style="red"))
    files = ", ".join((summary.CSV, summary.MARKDOWN, FIGURE, PAGE))
    line = f"{summary.count_statuses(jobs)}; in {relative(folder.absolute())}: {files}"
    console.print(line, markup=False, highlight=False)
    commands = next_commands(jobs, folder)
    width = max(24, *(len(purpose) + 1 for purpose in commands)) if commands else 0
    for purpose, command in commands.items():
        print(f"  {purpose + ':':<{width}} {command}")


def next_commands(jobs: Sequence[Job], folder: Path) -> dict[str, str]:
    """What to do with the runs of a sweep next: purpose → the line to type in a shell. Empty if no job is complete."""
    best: dict[str, Job] = {}  # of each corpus: losses on different corpora cannot be compared
    for job in best_first(jobs):
        if job.val_loss is not None:
            best.setdefault(job.dataset, job)
    commands = {}
    for dataset, job in best.items():
        of = f" of {dataset}" if len(best) > 1 else ""
        commands[f"sample from the best{of}"] = f"{program('sample')} {typed('run', path(job))}"
        if not of:
            longer = typed("train.steps", 2 * (job.steps or 1000))
            commands["train it for longer"] = f"{program('train')} {typed('resume', path(job))} {longer}"
    if best:
        commands["open the report"] = f"python -m webbrowser {(folder / PAGE).absolute().as_uri()}"
        commands["open TensorBoard"] = f"tensorboard --logdir {shlex.quote(str(relative(folder.absolute())))}"
    return commands


def path(job: Job) -> Path:
    """The directory of a job as a user would type it."""
    return relative(job.folder.absolute())


def save_figure(jobs: Sequence[Job], folder: Path) -> None:
    """Save the losses of all jobs in the figure `all_losses.png`."""
    losses.save_panels(panels(jobs), folder / FIGURE, summary.count_statuses(jobs))


def panels(jobs: Sequence[Job]) -> list[losses.Panel]:
    """One panel per job, for a figure of their losses."""
    return [
        losses.Panel(
            heading(job), job.metrics, "" if job.metrics else job.status_text, job.result.get("baselines") or {}
        )
        for job in jobs
    ]


def heading(job: Job) -> str:
    """The title of a panel: the name of the job and its validation loss in nats per token."""
    return job.name if job.val_loss is None else f"{job.name}: {job.val_loss:.3f}"


def save_page(jobs: Sequence[Job], folder: Path) -> None:
    """Write `report.html`: tables, failures, curves, samples and differences. It loads no other files."""
    environment = Environment(loader=PackageLoader("microgpt.sweeps", "."), autoescape=True)
    (rows, same), groups = summary.varied_rows(jobs), summary.group_rows(jobs)
    page = environment.get_template("report.html.j2").render(
        colors=page_colors(),
        title=folder.resolve().name,
        counts=summary.count_statuses(jobs),
        note=f"{summary.NOTE} {same}".strip(),
        jobs=rows,
        statuses={job.label: job.status_text for job in jobs},
        names={job.label: job.name for job in jobs},
        groups=groups,
        group_note=summary.group_note(jobs) if groups else "",
        text_columns=lambda rows: [column for column in rows[0] if is_text(rows, column)],
        failures=[failure(job) for job in jobs if not job.status.has_ended],
        curves=curves(best_first(jobs)),
        panels=base64.b64encode((folder / FIGURE).read_bytes()).decode(),
        samples=[samples(job) for job in best_first(jobs) if job.samples],
        differences=differences(jobs),
    )
    write_atomically(folder / PAGE, page)


def failure(job: Job) -> dict[str, str]:
    """For a job that did not end: its name and status, the reason, and the last lines of its log."""
    log = job.folder / "train.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    running = job.status in (Status.RUNNING, Status.REPORTING)
    reason = "it was killed, or is still running" if running else "it was stopped before its end"
    tail = "\n".join(lines[-MAX_LOG_LINES:])
    return {"name": job.name, "status": job.status_text, "error": job.error or reason, "log": tail}


def samples(job: Job) -> dict[str, str]:
    """The name, the validation loss and the first lines of the samples of a job."""
    val = "" if job.val_loss is None else f"{job.val_loss:.3f}"
    return {"name": job.name, "val": val, "text": "\n".join(job.samples[:MAX_SAMPLE_LINES])}


def curves(jobs: Sequence[Job]) -> list[str]:
    """One SVG chart per corpus that several jobs use. Losses on different corpora cannot be compared."""
    charts = []
    for dataset in dict.fromkeys(job.dataset for job in jobs):
        lines = {
            job.name: (job.metrics["val/loss"], job.metrics.get("train/loss_ema", ([], [])))
            for job in jobs
            if job.dataset == dataset and "val/loss" in job.metrics
        }
        if len(lines) > 1:
            charts.append(losses.as_svg(losses.curves_figure(lines, dataset)))
    return charts


def differences(jobs: Sequence[Job]) -> list[dict[str, str]]:
    """One row per job with the settings in which the configs differ; empty if they do not differ."""
    keys = varied_settings(jobs)
    if not keys:
        return []
    return [{"job": job.label, **{key: str(job.config.get(key, "")) for key in keys}} for job in jobs]
