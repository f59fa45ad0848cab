"""The table of a sweep, one row per job, for summary.csv, summary.md, the page and the terminal.

COLUMNS defines the columns of all four.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from microgpt.plots.tables import to_markdown, without_constants
from microgpt.sweeps.jobs import Job, best_first, varied_overrides

CSV, MARKDOWN = "summary.csv", "summary.md"

NOTE = (
    "Losses are in nats per token. train: the EMA of the training loss at the last step. val: the loss on the whole"
    " validation split, with the weights of the best step."
)


@dataclass(frozen=True)
class Column:
    """A column: `name` is its header in summary.csv, `heading` that in the other tables.

    A table whose header is empty does not have the column. `form` is the format of the values in the other tables,
    where None is an empty text.
    """

    name: str
    heading: str
    value: Callable[[Job], Any]
    form: str = ""

    def text(self, job: Job) -> str:
        value = self.value(job)
        return "" if value is None else f"{value:{self.form}}"


def steps_text(job: Job) -> str | None:
    """The number of steps, or `7/60` if the job ended before its last step."""
    if not job.step:
        return None
    return f"{job.step:,}" if job.step == job.steps or not job.steps else f"{job.step:,}/{job.steps:,}"


FIRST_COLUMNS = [  # before the columns of the settings that the sweep varies
    Column("job", "", lambda job: job.name),
    Column("", "job", lambda job: job.label),
    Column("", "val", lambda job: job.val_loss, ".4f"),
    Column("dataset", "dataset", lambda job: job.dataset),
]
RUN_COLUMNS = [  # of the group `run`; only those that some job has
    Column("name", "name", lambda job: job.described("name")),
    Column("tags", "tags", lambda job: job.described("tags")),
    Column("note", "note", lambda job: job.described("note")),
]
COLUMNS = [  # a terminal that is too narrow for all has the first ones
    Column("status", "status", lambda job: job.status_text),
    Column("val_loss", "", lambda job: job.val_loss),
    Column("val_bpc", "bits/char", lambda job: job.result.get("val_bpc"), ".3f"),
    Column("gain_over_trigram", "gain over trigram", lambda job: job.gain_over_trigram, "+.3f"),
    Column("train_loss_ema", "train", lambda job: job.result.get("train_loss_ema"), ".4f"),
    Column("step", "", lambda job: job.step),
    Column("steps", "", lambda job: job.steps),
    Column("", "steps", steps_text),
    Column("parameters", "parameters", lambda job: job.result.get("parameters"), ",d"),
    Column("best_step", "best step", lambda job: job.result.get("best_step") or None, ",d"),
    Column("seconds", "seconds", lambda job: job.result.get("seconds") or None, ",.1f"),
    Column("tokens_per_second", "tokens/s", lambda job: job.tokens_per_second, ",.0f"),
    Column("error", "", lambda job: job.error or None),
]


def first_columns(jobs: Sequence[Job]) -> list[Column]:
    """The columns before those of the settings that the sweep varies."""
    return FIRST_COLUMNS + [column for column in RUN_COLUMNS if any(map(column.value, jobs))]


def csv_rows(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """One row per job for summary.csv, lowest validation loss first.

    Losses are in nats per token (`val_loss` on the whole validation split), `val_bpc` in bits per character.
    """
    settings = varied_overrides(jobs)
    groups = {job.folder: group for group in seed_groups(jobs) for job in group.jobs}
    rows = []
    for job in best_first(jobs):
        row = {column.name: column.value(job) for column in first_columns(jobs) if column.name}
        row |= {key: job.overrides.get(key, job.config.get(key)) for key in settings}
        row |= {column.name: column.value(job) for column in COLUMNS if column.name}
        if group := groups.get(job.folder):
            row |= {"val_loss_mean": group.mean, "val_loss_sd": group.sd, "seeds": len(group.jobs)}
        rows.append(row)
    return rows


def table_rows(jobs: Sequence[Job]) -> list[dict[str, str]]:
    """The values of each job as texts, best first, for the other tables."""
    headings = setting_headings(varied_overrides(jobs))
    return [
        {column.heading: column.text(job) for column in first_columns(jobs) if column.heading}
        | {heading: str(job.overrides.get(key, job.config.get(key, ""))) for key, heading in headings.items()}
        | {column.heading: column.text(job) for column in COLUMNS if column.heading}
        for job in best_first(jobs)
    ]


def varied_rows(jobs: Sequence[Job]) -> tuple[list[dict[str, str]], str]:
    """`table_rows` without the columns that are the same in all jobs, and a sentence that states these."""
    rows, same = without_constants(table_rows(jobs), kept=("job", "val"))
    stated = ", ".join(f"{heading} {value}" for heading, value in same.items() if value)
    return rows, f"The same in all jobs: {stated}." if stated else ""


def setting_headings(keys: Sequence[str]) -> dict[str, str]:
    """The headings of the columns of settings: `lr` of `optim.lr`, or all of it if another column has that heading."""
    short = [key.rpartition(".")[2] for key in keys]
    taken = Counter(short) + Counter(column.heading for column in (*FIRST_COLUMNS, *RUN_COLUMNS, *COLUMNS))
    return {key: name if taken[name] == 1 else key for key, name in zip(keys, short, strict=True)}


@dataclass(frozen=True)
class SeedGroup:
    """Jobs that differ only in the seed, with mean and standard deviation of their `val_loss` in nats per token.

    The standard deviation is that of a sample (division by n - 1); None for a single job.
    """

    dataset: str
    settings: dict[str, str | None]
    jobs: list[Job]

    @property
    def losses(self) -> list[float]:
        return [job.val_loss for job in self.jobs if job.val_loss is not None]

    @property
    def mean(self) -> float:
        return statistics.mean(self.losses)

    @property
    def sd(self) -> float | None:
        return statistics.stdev(self.losses) if len(self.losses) > 1 else None

    @property
    def bpc(self) -> float:
        return statistics.mean(job.result["val_bpc"] for job in self.jobs)


def seed_groups(jobs: Sequence[Job]) -> list[SeedGroup]:
    """The groups of jobs that have a loss, lowest mean first; empty if the sweep has only one seed."""
    varied = varied_overrides(jobs)
    if "seed" not in varied:
        return []
    keys = [key for key in varied if key != "seed"]
    # By corpus and the settings other than the seed.
    members: dict[tuple[str | None, ...], list[Job]] = defaultdict(list)
    for job in jobs:
        if job.val_loss is not None:
            members[(job.dataset, *(job.overrides.get(key) for key in keys))].append(job)
    groups = [
        SeedGroup(str(dataset), dict(zip(keys, values, strict=True)), group_jobs)
        for (dataset, *values), group_jobs in members.items()
    ]
    return sorted(groups, key=lambda group: group.mean)


def group_rows(jobs: Sequence[Job]) -> list[dict[str, str]]:
    """The means over the seeds as texts, one row per group; empty if the sweep has only one seed.

    A corpus or a number of seeds that all groups have in common has no column.
    """
    groups = seed_groups(jobs)
    headings = setting_headings(list(dict.fromkeys(key for group in groups for key in group.settings)))
    rows = [
        {
            "val": f"{group.mean:.4f}" + (f" ± {group.sd:.4f}" if group.sd is not None else ""),
            "dataset": group.dataset,
            **{headings[key]: value or "" for key, value in group.settings.items()},
            "seeds": str(len(group.jobs)),
            "bits/char": f"{group.bpc:.3f}",
        }
        for group in groups
    ]
    return without_constants(rows, kept=("val",))[0]


def group_note(jobs: Sequence[Job]) -> str:
    """What the means over the seeds are, in one sentence."""
    counts = sorted({len(group.jobs) for group in seed_groups(jobs)})
    numbers = " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))
    return f"val: mean ± standard deviation over {numbers} seeds, in nats per token."


def count_statuses(jobs: Sequence[Job]) -> str:
    """The number of jobs with each status: `3 jobs: 2 finished, 1 failed`."""
    counts = Counter(job.status_text for job in jobs)
    noun = "job" if len(jobs) == 1 else "jobs"
    return f"{len(jobs)} {noun}: " + ", ".join(f"{n} {status}" for status, n in counts.items())


def markdown_page(jobs: Sequence[Job], title: str) -> str:
    """The text of `summary.md`: the table, the means over the seeds, the failures."""
    rows, same = varied_rows(jobs)
    parts = [f"# {title}", f"{count_statuses(jobs)}. {NOTE} {same}".strip(), to_markdown(rows)]
    if groups := group_rows(jobs):
        parts += ["## Over the seeds", group_note(jobs), to_markdown(groups)]
    if failed := [job for job in jobs if job.error]:
        parts += ["## Failures", "\n".join(f"- `{job.name}`: {job.error}" for job in failed)]
    return "\n\n".join(parts) + "\n"
