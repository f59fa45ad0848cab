"""The runs below a directory as figures and as one page of HTML with all of it inside, to keep or to send on."""

import base64
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader

from microgpt import plots, runs, summary
from microgpt.summary import Job

FIGURE, PAGE = "all_losses.png", "report.html"
LOG_LINES, SAMPLE_LINES = 25, 30


def save_figure(jobs: Sequence[Job], folder: Path) -> None:
    """All runs' losses as the picture `all_losses.png`, a panel each."""
    panels = [
        plots.Panel(heading(job), metrics(job), "" if metrics(job) else job.status, job.result.get("baselines") or {})
        for job in jobs
    ]
    plots.save_panels(panels, folder / FIGURE, summary.counts(jobs))


def heading(job: Job) -> str:
    return job.name if job.val_loss is None else f"{job.name}: {job.val_loss:.3f}"


def metrics(job: Job) -> plots.Series:
    file = job.folder / runs.METRICS
    return plots.read_metrics(file) if file.is_file() else {}


def save_page(jobs: Sequence[Job], folder: Path) -> None:
    """`report.html`: table, curves, samples, differences and failures, with nothing to load from elsewhere."""
    environment = Environment(loader=PackageLoader("microgpt", "."), autoescape=True)
    sorted_jobs = summary.best_first(jobs)
    page = environment.get_template("report.html.j2").render(
        title=folder.resolve().name,
        counts=summary.counts(jobs),
        note=summary.NOTE,
        jobs=summary.shown(jobs),
        groups=summary.shown_groups(jobs),
        words=lambda table: [column for column in table[0] if summary.is_text(table, column)],
        failures=[failure(job) for job in jobs if not job.has_ended],
        curves=curves(sorted_jobs),
        panels=base64.b64encode((folder / FIGURE).read_bytes()).decode(),
        samples=[sample(job) for job in sorted_jobs if job.samples],
        differences=differences(jobs),
    )
    runs.write_atomically(folder / PAGE, page)


def failure(job: Job) -> dict[str, str]:
    log = job.folder / "train.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    why = "it was killed, or is still at work" if job.status == "unfinished" else "it was stopped before its end"
    error = job.result.get("error") or why
    return {"name": job.name, "status": job.status, "error": error, "log": "\n".join(lines[-LOG_LINES:])}


def sample(job: Job) -> dict[str, str]:
    val = "" if job.val_loss is None else f"{job.val_loss:.3f}"
    return {"name": job.name, "val": val, "text": "\n".join(job.samples[:SAMPLE_LINES])}


def curves(jobs: Sequence[Job]) -> list[str]:
    """A chart for each corpus that several jobs share, since losses on different ones do not compare."""
    charts = []
    for dataset in dict.fromkeys(job.dataset for job in jobs):
        lines = {
            job.name: metrics(job)["val/loss"] for job in jobs if job.dataset == dataset and "val/loss" in metrics(job)
        }
        if len(lines) > 1:
            charts.append(plots.as_svg(plots.curves_figure(lines, dataset)))
    return charts


def differences(jobs: Sequence[Job]) -> list[dict[str, str]]:
    keys = summary.differing(jobs)
    return [{"job": job.name, **{key: str(job.config.get(key, "")) for key in keys}} for job in jobs] if keys else []
