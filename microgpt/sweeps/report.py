"""A sweep gathered: its summary, its figure, one page of HTML with nothing to load, and the table in the terminal."""

import base64
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader
from rich.text import Text

from microgpt.plots import losses
from microgpt.plots.tables import is_text, to_csv, to_table, wide_console
from microgpt.runs.directory import Status, relative, write_atomically
from microgpt.sweeps import summary
from microgpt.sweeps.jobs import Job, best_first, read_jobs, varied_settings

FIGURE, PAGE = "all_losses.png", "report.html"
MAX_LOG_LINES, MAX_SAMPLE_LINES = 25, 30  # of a job, on the page


def gather(folder: Path) -> list[Job]:
    """Leave summary, figure and page in a sweep's directory, print the table, and return the jobs."""
    jobs = read_jobs(folder)
    write_atomically(folder / summary.CSV, to_csv(summary.csv_rows(jobs)))
    write_atomically(folder / summary.MARKDOWN, summary.markdown_page(jobs, folder.resolve().name))
    save_figure(jobs, folder)
    save_page(jobs, folder)
    print_summary(jobs, folder)
    return jobs


def print_summary(jobs: Sequence[Job], folder: Path) -> None:
    ended = {job.name for job in jobs if job.status.has_ended}
    console = wide_console()
    console.print()
    console.print(to_table(summary.table_rows(jobs), highlighted=lambda row: row["job"] not in ended))
    if groups := summary.group_rows(jobs):
        console.print(to_table(groups))
    for job in jobs:
        if job.error:
            console.print(Text(f"{job.name}: {job.error}", style="red"))
    files = ", ".join((summary.CSV, summary.MARKDOWN, FIGURE, PAGE))
    line = f"{summary.count_statuses(jobs)}; in {relative(folder.absolute())}: {files}"
    console.print(line, markup=False, highlight=False)


def save_figure(jobs: Sequence[Job], folder: Path) -> None:
    """All runs' losses as the picture `all_losses.png`, a panel each."""
    panels = [
        losses.Panel(
            heading(job), job.metrics, "" if job.metrics else job.status_text, job.result.get("baselines") or {}
        )
        for job in jobs
    ]
    losses.save_panels(panels, folder / FIGURE, summary.count_statuses(jobs))


def heading(job: Job) -> str:
    return job.name if job.val_loss is None else f"{job.name}: {job.val_loss:.3f}"


def save_page(jobs: Sequence[Job], folder: Path) -> None:
    """`report.html`: table, curves, samples, differences and failures, with nothing to load from elsewhere."""
    environment = Environment(loader=PackageLoader("microgpt.sweeps", "."), autoescape=True)
    page = environment.get_template("report.html.j2").render(
        title=folder.resolve().name,
        counts=summary.count_statuses(jobs),
        note=summary.NOTE,
        jobs=summary.table_rows(jobs),
        groups=summary.group_rows(jobs),
        words=lambda rows: [column for column in rows[0] if is_text(rows, column)],
        failures=[failure(job) for job in jobs if not job.status.has_ended],
        curves=curves(best_first(jobs)),
        panels=base64.b64encode((folder / FIGURE).read_bytes()).decode(),
        samples=[samples(job) for job in best_first(jobs) if job.samples],
        differences=differences(jobs),
    )
    write_atomically(folder / PAGE, page)


def failure(job: Job) -> dict[str, str]:
    """What the page tells of a job that did not end: why, and the end of its log."""
    log = job.folder / "train.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    reason = "it was killed, or is still running" if job.status is Status.RUNNING else "it was stopped before its end"
    tail = "\n".join(lines[-MAX_LOG_LINES:])
    return {"name": job.name, "status": job.status_text, "error": job.error or reason, "log": tail}


def samples(job: Job) -> dict[str, str]:
    val = "" if job.val_loss is None else f"{job.val_loss:.3f}"
    return {"name": job.name, "val": val, "text": "\n".join(job.samples[:MAX_SAMPLE_LINES])}


def curves(jobs: Sequence[Job]) -> list[str]:
    """A chart for each corpus that several jobs share, since losses on different ones do not compare."""
    charts = []
    for dataset in dict.fromkeys(job.dataset for job in jobs):
        lines = {
            job.name: job.metrics["val/loss"] for job in jobs if job.dataset == dataset and "val/loss" in job.metrics
        }
        if len(lines) > 1:
            charts.append(losses.as_svg(losses.curves_figure(lines, dataset)))
    return charts


def differences(jobs: Sequence[Job]) -> list[dict[str, str]]:
    """The settings in which the jobs differ, a row for each job; empty if in none."""
    keys = varied_settings(jobs)
    return [{"job": job.name, **{key: str(job.config.get(key, "")) for key in keys}} for job in jobs] if keys else []
