"""What the runs below a directory have come to: read from their files, as rows of a table.

A sweep's directory is such a directory, and so is `outputs/names`: whatever holds runs can be summed up.
"""

import csv
import io
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from microgpt import runs
from microgpt.errors import UserError
from microgpt.plots import read_metrics

CSV, MARKDOWN = "summary.csv", "summary.md"


@dataclass(frozen=True)
class Job:
    """A run of a sweep, as its directory shows it."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def result(self) -> dict[str, Any]:
        return runs.read_result(self.folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config as `key: value`, keys as they are typed; of a job that never began, what Hydra kept."""
        files = [self.folder / runs.CONFIG, self.folder / ".hydra" / "config.yaml"]
        found = [OmegaConf.load(file) for file in files if file.is_file()]
        return flat(OmegaConf.to_container(found[0])) if found else {}

    @cached_property
    def overrides(self) -> dict[str, str]:
        """What was typed for this job."""
        file = self.folder / ".hydra" / "overrides.yaml"
        typed = OmegaConf.to_container(OmegaConf.load(file)) if file.is_file() else []
        return {key.lstrip("+"): value for key, _, value in (str(item).partition("=") for item in typed or [])}

    @property
    def dataset(self) -> str:
        return self.result.get("dataset") or self.config.get("dataset.name") or ""

    @property
    def status(self) -> str:
        """As in `result.json`; `unfinished` for a job that did not come to write how it ended."""
        status = self.result.get("status", "running")
        return "unfinished" if status == "running" else status

    @property
    def has_ended(self) -> bool:
        return self.status in (*runs.ENDED, "pruned")

    @property
    def val_loss(self) -> float | None:
        """Nats a token on the whole validation split; None until the job has ended."""
        return self.result.get("val_loss")

    @property
    def gain(self) -> float | None:
        """By how many nats a token the run is better than a trigram model of its corpus."""
        trigram = (self.result.get("baselines") or {}).get("trigram")
        return None if self.val_loss is None or trigram is None else trigram - self.val_loss

    @property
    def step(self) -> int | None:
        """The last step that is known of; for a job that was killed, the last that it logged."""
        file = self.folder / runs.METRICS
        if self.status != "unfinished" or not file.is_file():
            return self.result.get("step")
        steps = [steps[-1] for steps, _ in read_metrics(file).values()]
        return max(steps, default=0)

    @property
    def samples(self) -> list[str]:
        file = self.folder / runs.SAMPLES
        return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix[:-1]: tree}
    return {key: value for name, node in tree.items() for key, value in flat(node, f"{prefix}{name}.").items()}


def read_jobs(folder: Path) -> list[Job]:
    """The jobs below `folder` in the order of their numbers. Raises `UserError` if there are none."""

    def number(path: Path) -> tuple[int, str]:
        digits = path.name.partition("-")[0]
        return int(digits) if digits.isdecimal() else 0, path.name

    found = sorted((path.parent for path in folder.glob("*/.hydra")), key=number)
    if not found:
        raise UserError(f"{folder}: holds no runs; give a sweep's directory, multirun/…, or one of outputs/")
    return [Job(path) for path in found]


def best_first(jobs: Sequence[Job]) -> list[Job]:
    """Sorted by validation loss, those without one at the end."""
    return sorted(jobs, key=lambda job: float("inf") if job.val_loss is None else job.val_loss)


def swept(jobs: Sequence[Job]) -> list[str]:
    """The settings that were typed and in which the jobs differ, but for the corpus, which has its own column."""
    keys = dict.fromkeys(key for job in jobs for key in job.overrides if key not in ("dataset", "resume"))
    return [key for key in keys if len({job.overrides.get(key) for job in jobs}) > 1]


def differing(jobs: Sequence[Job]) -> list[str]:
    """The settings in which the jobs' whole configs differ, their recipes' included."""
    keys = dict.fromkeys(key for job in jobs for key in job.config if not key.startswith("dataset."))
    return [key for key in keys if len({str(job.config.get(key)) for job in jobs if job.config}) > 1]


# -- one row a job -----------------------------------------------------------------------------------------


def rows(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """The figures of each job, best first.

    Losses are nats a token (`val_loss` on the whole validation split), `val_bpc` bits a character.
    """
    keys = swept(jobs)
    over_seeds = {id(job): group for group in seed_groups(jobs) for job in group["jobs"]}
    table = []
    for job in best_first(jobs):
        result = job.result
        seconds = result.get("seconds") or 0
        row = {
            "job": job.name,
            "dataset": job.dataset,
            **{key: job.overrides.get(key, job.config.get(key)) for key in keys},
            "parameters": result.get("parameters"),
            "step": job.step,
            "steps": result.get("steps") or job.config.get("train.steps"),
            "train_loss_ema": result.get("train_loss_ema"),
            "val_loss": job.val_loss,
            "val_bpc": result.get("val_bpc"),
            "gain_over_trigram": job.gain,
            "best_step": result.get("best_step") or None,
            "seconds": seconds or None,
            "tokens_per_second": result["tokens"] / seconds if seconds and "tokens" in result else None,
            "status": job.status,
            "error": result.get("error"),
        }
        if group := over_seeds.get(id(job)):
            row |= {"val_loss_mean": group["mean"], "val_loss_sd": group["sd"], "seeds": len(group["jobs"])}
        table.append(row)
    return table


def seed_groups(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Where seeds were swept: the jobs that differ in nothing else, with mean and standard deviation of `val_loss`.

    The deviation is that of a sample (n - 1); None for a single job. Best mean first.
    """
    keys = swept(jobs)
    if "seed" not in keys:
        return []
    alike = defaultdict(list)
    for job in jobs:
        if job.val_loss is not None:
            alike[(job.dataset, *(job.overrides.get(key) for key in keys if key != "seed"))].append(job)
    groups = []
    for (dataset, *values), members in alike.items():
        losses = [job.val_loss for job in members if job.val_loss is not None]
        bpc = [job.result["val_bpc"] for job in members]
        groups.append(
            {
                "dataset": dataset,
                "settings": dict(zip([key for key in keys if key != "seed"], values, strict=True)),
                "jobs": members,
                "mean": statistics.mean(losses),
                "sd": statistics.stdev(losses) if len(losses) > 1 else None,
                "bpc": statistics.mean(bpc),
            }
        )
    return sorted(groups, key=lambda group: group["mean"])


def to_csv(jobs: Sequence[Job]) -> str:
    table, text = rows(jobs), io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in table for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


# -- for people --------------------------------------------------------------------------------------------

Table = list[dict[str, str]]


def shown(jobs: Sequence[Job]) -> Table:
    """`rows` as texts, a dict a line, columns in order."""
    keys, table = swept(jobs), []
    for row in rows(jobs):
        done = text(row["step"], ",d")
        table.append(
            {
                "job": row["job"],
                "dataset": row["dataset"],
                **{key.rpartition(".")[2]: text(row[key]) for key in keys},
                "parameters": text(row["parameters"], ",d"),
                "steps": done
                if row["step"] == row["steps"] or not done or not row["steps"]
                else f"{done}/{row['steps']:,}",
                "train": text(row["train_loss_ema"], ".4f"),
                "val": text(row["val_loss"], ".4f"),
                "bits/char": text(row["val_bpc"], ".3f"),
                "gain over trigram": text(row["gain_over_trigram"], "+.3f"),
                "best step": text(row["best_step"], ",d"),
                "seconds": text(row["seconds"], ",.1f"),
                "tokens/s": text(row["tokens_per_second"], ",.0f"),
                "status": row["status"],
            }
        )
    return table


def shown_groups(jobs: Sequence[Job]) -> Table:
    """The means over the seeds as texts; empty where no seeds were swept."""
    return [
        {
            "dataset": group["dataset"],
            **{key.rpartition(".")[2]: text(value) for key, value in group["settings"].items()},
            "seeds": str(len(group["jobs"])),
            "val": f"{group['mean']:.4f}" + (f" ± {group['sd']:.4f}" if group["sd"] is not None else ""),
            "bits/char": f"{group['bpc']:.3f}",
        }
        for group in seed_groups(jobs)
    ]


def text(value: Any, form: str = "") -> str:
    return "" if value is None else format(value, form) if not isinstance(value, str) else value


def counts(jobs: Sequence[Job]) -> str:
    """How the jobs ended: `3 jobs: 2 finished, 1 failed`."""
    tally: dict[str, int] = defaultdict(int)
    for job in jobs:
        tally[job.status] += 1
    return f"{len(jobs)} job{'s' * (len(jobs) != 1)}: " + ", ".join(f"{n} {status}" for status, n in tally.items())


NOTE = (
    "Losses in nats a token: train is the EMA at the last step, val the whole validation split with the weights of"
    " the best step."
)


def to_markdown(jobs: Sequence[Job], title: str) -> str:
    parts = [f"# {title}", f"{counts(jobs)}. {NOTE}", markdown(shown(jobs))]
    if groups := shown_groups(jobs):
        parts += ["## Over the seeds", "Mean ± standard deviation of the validation loss.", markdown(groups)]
    if failed := [job for job in jobs if job.result.get("error")]:
        parts += ["## Failures", "\n".join(f"- `{job.name}`: {job.result['error']}" for job in failed)]
    return "\n\n".join(parts) + "\n"


def markdown(table: Table) -> str:
    columns = list(table[0])
    lines = [columns, ["---" if is_text(table, column) else "---:" for column in columns]]
    lines += [[row[column].replace("|", "\\|") for column in columns] for row in table]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def is_text(table: Table, column: str) -> bool:
    """Whether a column holds words, which stand on the left, rather than figures, which stand on the right."""
    return not all(set(row[column]) <= set("0123456789.,e+-/± ") for row in table)
