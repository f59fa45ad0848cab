"""Write a run as one page of HTML, with the model in it: it generates text in any browser, without a network.

    microgpt page run=latest
    microgpt page run=multirun/2026-01-31_12-00-00           the best job of a sweep (of each corpus)
    microgpt page run=multirun/2026-01-31_12-00-00 jobs=3    the three best, with a chooser

With the same seed and settings the page draws the same random numbers as sample.py, and so writes the same, but for one
draw in some ten thousands, since its weights are rounded. With bits=24 they are rounded as little as float32 itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from microgpt.commands.arguments import print_help_if_asked, read_arguments
from microgpt.config.checks import as_path
from microgpt.config.program import program, relative
from microgpt.config.schema import REQUIRED, key, typed
from microgpt.errors import UserError
from microgpt.runs.directory import BEST, CONFIG
from microgpt.runs.finding import RUN, choose_run

if TYPE_CHECKING:
    from microgpt.data.loading import Data
    from microgpt.runs.opening import OpenRun


@dataclass
class PageConfig:
    run: str = key(REQUIRED, RUN, example="latest", free_text=True)
    jobs: int = key(1, "of a sweep: how many jobs of each corpus, lowest validation loss first", low=1, high=1000)
    bits: int | None = key(
        None, "of a weight in the page; null: 18 to 24, so that at most one draw in 40,000 differs", low=4, high=24
    )
    ngram_bits: int = key(12, "of a weight in the tables of n-gram embeddings, which are large", low=2, high=24)
    max_mb: float = key(20.0, "the largest page to write, in megabytes", low=0, high=10_000)
    out: str | None = key(None, "the page, or its folder; null: the directory of the run or sweep", free_text=True)
    datasets_dir: str | None = key(None, "folder of the downloaded corpora; null: that of the run", free_text=True)


def main(words: Sequence[str]) -> None:
    print_help_if_asked(words, __doc__, PageConfig)
    config = read_arguments(words, PageConfig)
    folder, folders = runs_for_page(config)
    import torch

    from microgpt.page.contents import prepare
    from microgpt.page.writing import FILE, MEGABYTE, check_size, write_page
    from microgpt.runs.opening import open_run

    runs = []
    for each in folders:
        run = open_run(each, "best", torch.device("cpu"))
        name = run.title if each == folder else each.name
        runs.append(prepare(run, name, config.bits, config.ngram_bits, load_data(run, config.datasets_dir)))
    check_size(runs, config.max_mb)
    out = as_path("out", config.out or str(folder))
    if out.is_dir():
        out /= FILE
    try:
        size = write_page(runs, runs[0].run.title if len(runs) == 1 else folder.resolve().name, out)
    except OSError as error:
        raise UserError(f"out={out}: {error.strerror}; name another file with out=") from None
    print(f"page: {relative(out.absolute())} ({size / MEGABYTE:.2f} MB)")


def runs_for_page(config: PageConfig) -> tuple[Path, list[Path]]:
    """The directory that `run` names, and those of the runs for the page: that one, or jobs of the sweep in it.

    Raises `UserError`.
    """
    folder = as_path("run", config.run)
    if (folder / CONFIG).is_file() or not any(folder.glob("*/.hydra")):
        found = choose_run(config.run, "run", BEST)
        return found, [found]
    from microgpt.sweeps.jobs import best_first, read_jobs

    best: dict[str, list[Path]] = {}  # by corpus: losses on different corpora cannot be compared
    for job in best_first(read_jobs(folder)):
        if job.val_loss is not None and (job.folder / BEST).is_file():
            best.setdefault(job.dataset, []).append(job.folder)
    if not best:
        raise UserError(
            f"run={config.run}: no job of this sweep has ended; resume it with: {program('train')}"
            f" {typed('resume', folder)}"
        )
    return folder, [each for jobs in best.values() for each in jobs[: config.jobs]]


def load_data(run: OpenRun, datasets_dir: str | None) -> Data | None:
    """The data of the run; None, with a note, if its corpus is not at hand."""
    try:
        return run.load_data("run", datasets_dir or "")
    except UserError as error:
        print(f"note: a page without the data card and without marks of what is new: {error}", file=sys.stderr)
        return None
