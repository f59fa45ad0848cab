# pyright: strict
"""Runs and sweeps as objects, for notebooks and scripts: what `microgpt.train`, `load` and `sweep` return.

They read the directory of a run or a sweep, and write nothing. Torch is imported when the model is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microgpt.config.program import relative
from microgpt.config.schema import Config
from microgpt.errors import UserError
from microgpt.runs.directory import read_config, read_result, read_status, sample_lines
from microgpt.runs.finding import place_and_loss
from microgpt.runs.metrics import Series, read_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from microgpt.data.tokenizer import Tokenizer
    from microgpt.insight.explanation import Explanation
    from microgpt.model.transformer import GPT
    from microgpt.runs.opening import OpenRun
    from microgpt.sweeps.jobs import Job

MAX_SHOWN_SAMPLES = 5  # in the summary of a run


class Run:
    """A run in its directory `folder`. `checkpoint`: which weights, `best` or `last`; `device`: where to compute."""

    def __init__(self, folder: Path, checkpoint: str = "best", device: str = "auto") -> None:
        self.folder = folder.absolute()
        self.checkpoint = checkpoint
        self.device = device

    # -- what its files say: read each time, since the run may still be in training ------------------------

    @property
    def config(self) -> Config:
        """All settings of the run: `run.config.model.n_embd`."""
        return read_config(self.folder)

    @property
    def result(self) -> dict[str, Any]:
        """The content of `result.json`: status, final losses, n-gram baselines, novelty, findings, speed."""
        return read_result(self.folder)

    @property
    def metrics(self) -> Series:
        """The content of `metrics.csv`: metric → (steps, values). `run.metrics["val/loss"]` is in nats per token."""
        return read_metrics(self.folder)

    @property
    def samples(self) -> list[str]:
        """The lines of `samples.txt`, each sample with its mark: new, or in the training set. Empty before the end."""
        return sample_lines(self.folder)

    @property
    def status(self) -> str:
        """`finished`, `stopped early`, `interrupted`, `running`, `failed`, …"""
        return str(read_status(self.folder))

    @property
    def val_loss(self) -> float | None:
        """The loss on the whole validation split in nats per token, of the best weights. None before the end."""
        return self.result.get("val_loss")

    @property
    def val_bpc(self) -> float | None:
        """The same loss in bits per character of the raw text. None before the end of the run."""
        return self.result.get("val_bpc")

    # -- its model ----------------------------------------------------------------------------------------

    @cached_property
    def opened(self) -> OpenRun:
        """The run with its weights: `opened.generator` generates texts, `opened.load_data("run")` loads its corpus."""
        from microgpt.model.device import find_device
        from microgpt.runs.opening import open_run

        return open_run(self.folder, self.checkpoint, find_device(self.device))

    @property
    def model(self) -> GPT:
        """The model, a `torch.nn.Module` in evaluation mode: idx (B, T) int64 → logits (B, T, vocab_size) float32."""
        return self.opened.generator.model

    @property
    def tokenizer(self) -> Tokenizer:
        """Characters → ids and back: `encode("ka")`, `decode(ids)`; `bos` is the id of the boundary of documents."""
        return self.opened.generator.tokenizer

    def sample(
        self,
        prompt: str = "",
        n: int | None = None,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> list[str]:
        """`n` texts that continue the prompt, which they include: those that `sample.py` prints for these settings.

        What is None is as in the run. `temperature` 0 takes the likeliest token, `top_k` 0 draws among all tokens, and
        a text has at most `max_tokens` tokens (characters). Raises `UserError` for a character that the corpus lacks.
        """
        sampling = self.opened.sampling(
            {
                "prompts": [prompt],
                "n_samples": n,
                "max_tokens": max_tokens,
                "temperature": temperature,
                "top_k": top_k,
                "top_p": top_p,
            }
        )
        generator = self.opened.generator
        for note in generator.notes(sampling.prompts):
            print(note, file=sys.stderr)
        return generator.generate(sampling, self.opened.config.seed if seed is None else seed)

    def explain(self, text: str) -> Explanation:
        """What the model predicted at each character of `text`: surprisal in bits, rank, attention.

        A notebook shows it in colours. Raises `UserError` for a character that the corpus lacks.
        """
        from microgpt.insight.explanation import explain_text

        return explain_text(self.opened.generator, self.opened.generator.prompt(text))

    def plot(self) -> Figure:
        """A figure of the losses in nats per token over the steps, with the n-gram baselines as lines."""
        from microgpt.plots.losses import loss_figure

        result = self.result
        title = f"{self.config.dataset.name}: {result.get('status', '')}"
        if self.val_loss is not None:
            title = f"{self.config.dataset.name}: {self.val_loss:.3f} nats per token on the whole validation split"
        return loss_figure(self.metrics, title, result.get("baselines"))

    # -- how it is shown ------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"Run({place_and_loss(self.folder)})"

    def _repr_html_(self) -> str:
        """A summary: the losses, the best n-gram baseline, the share of new samples, and some samples."""
        result, rows = self.result, [("status", f"{self.status}, step {self.result.get('step', 0):,}")]
        if self.val_loss is not None:
            loss = f"{self.val_loss:.4f} nats per token, {self.val_bpc:.3f} bits per character"
            rows.append(("validation loss", loss))
        if baselines := result.get("baselines"):
            name = min(baselines, key=lambda name: baselines[name])
            rows.append(("best n-gram baseline", f"{baselines[name]:.4f} nats per token ({name})"))
        rows += [("warning", str(finding)) for finding in result.get("findings") or ()]
        rows += [("samples", sample) for sample in self.samples[:MAX_SHOWN_SAMPLES]]
        return to_html([{"run": key, place_and_loss(self.folder): value} for key, value in rows])


class Sweep:
    """The runs below the directory `folder` of a sweep. Raises `UserError` if it holds none."""

    def __init__(self, folder: Path) -> None:
        from microgpt.sweeps.jobs import best_first, read_jobs

        self.folder = folder.absolute()
        self.jobs: list[Job] = best_first(read_jobs(folder))

    @property
    def runs(self) -> list[Run]:
        """The runs, lowest validation loss first. Losses on different corpora cannot be compared."""
        return [Run(job.folder) for job in self.jobs]

    @property
    def best(self) -> Run:
        """The run with the lowest validation loss. Raises `UserError` if no run is complete."""
        if self.jobs[0].val_loss is None:
            raise UserError(f"{relative(self.folder)}: no run is complete yet; resume it with microgpt.sweep(resume=…)")
        return Run(self.jobs[0].folder)

    @property
    def best_of_each(self) -> dict[str, Run]:
        """The run with the lowest validation loss on each corpus, by the name of the corpus."""
        return {job.dataset: Run(job.folder) for job in reversed(self.jobs) if job.val_loss is not None}

    @property
    def table(self) -> list[dict[str, Any]]:
        """The rows of `summary.csv`, lowest validation loss first: settings, losses, mean over the seeds."""
        from microgpt.sweeps.summary import csv_rows

        return csv_rows(self.jobs)

    def plot(self) -> Figure:
        """A figure with the losses of each run in a panel of its own."""
        from microgpt.plots.losses import panels_figure
        from microgpt.sweeps.report import panels
        from microgpt.sweeps.summary import count_statuses

        return panels_figure(panels(self.jobs), count_statuses(self.jobs))

    def __repr__(self) -> str:
        from microgpt.sweeps.summary import count_statuses

        return f"Sweep({relative(self.folder)}: {count_statuses(self.jobs)})"

    def _repr_html_(self) -> str:
        from microgpt.sweeps.summary import table_rows

        return to_html(table_rows(self.jobs))


def to_html(rows: Sequence[dict[str, str]]) -> str:
    """The rows as a table of HTML."""
    head = "".join(f'<th style="text-align: left">{escape(column)}</th>' for column in rows[0])
    lines = ["".join(f'<td style="text-align: left">{escape(value)}</td>' for value in row.values()) for row in rows]
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
