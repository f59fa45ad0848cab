"""Comparisons of models: every model on every validation split, and every model on one text."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import torch

from microgpt.config.program import program, relative
from microgpt.errors import UserError
from microgpt.insight.scoring import LabelledRun, Passage, Score, open_labelled, score, validation_passage
from microgpt.plots.models import save_matrix
from microgpt.runs import directory, finding

TableRows = list[dict[str, str]]


def find_runs(names: Sequence[str]) -> list[LabelledRun]:
    """The runs in the directories `names`; if empty, the latest complete run of each `dataset.name`.

    Raises `UserError` if there are fewer than two.
    """
    folders = [finding.find_run(name, "runs", directory.BEST).resolve() for name in names]
    folders = folders or finding.latest_of_each_dataset()
    if len(set(folders)) < 2:
        hint = f"list two, or train some with: {program('train')} -m dataset=colors,python_docs"
        raise UserError(f"runs={','.join(names)}: there must be two finished runs to compare; {hint}")
    return open_labelled(list(dict.fromkeys(folders)))


def score_text(labelled: Sequence[LabelledRun], text: str) -> list[Score]:
    """The scores of the text under each model, fewest bits first."""
    return sorted((score(run, Passage(text)) for run in labelled), key=lambda found: found.bits)


def describe_likeliest(scores: Sequence[Score], text: str) -> tuple[TableRows, str]:
    """A table of the scores, and a sentence that names the model with the highest probability.

    `scores` are sorted, fewest bits first.
    """
    table = [
        {
            "run": str(relative(found.run.folder)),
            "corpus": found.run.config.dataset.name,
            "bits": f"{found.bits:.1f}",
            "bits per character": f"{found.bpc:.3f}",
            "unseen characters": str(found.unseen),
        }
        for found in scores
    ]
    first, second = scores[:2]
    ratio = Decimal(2) ** Decimal(second.bits - first.bits)  # may be too large for a float
    comparison = f"{ratio:.3g} times as likely as under {second.label}, the second"
    return table, f"{text} is most likely under {first.label}: {comparison}."


def describe_guess(scores: Sequence[Score], text: str) -> tuple[TableRows, str]:
    """A table of how likely each corpus is, and a sentence that names the likeliest; `scores` are fewest bits first."""
    shares = dict(zip([found.label for found in scores], posterior([found.bits for found in scores]), strict=True))
    table = [{"corpus": name, "share": f"{p:6.1%}", "": "█" * round(40 * p)} for name, p in shares.items()]
    name, share = next(iter(shares.items()))
    return table, f"{text} sounds like {name} ({share:.0%}), if all {len(scores)} are equally likely beforehand."


def posterior(bits: Sequence[float]) -> list[float]:
    """The posterior probabilities of models under a uniform prior (Bayes): 2^-bits, normalised to sum 1."""
    return torch.softmax(torch.tensor(bits, dtype=torch.float64) * -math.log(2), 0).tolist()


@dataclass(frozen=True)
class Matrix:
    """The scores of models (rows) on validation splits (columns)."""

    models: list[str]
    splits: list[str]
    scores: list[list[Score]]  # (n_models, n_splits)
    own: list[int]  # (n_models,) the column of the split that belongs to each model
    left_out: list[str]  # why each of the other runs could not be scored

    @property
    def bpc(self) -> list[list[float]]:
        return [[found.bpc for found in row] for row in self.scores]


def score_matrix(labelled: Sequence[LabelledRun], all_needed: bool) -> Matrix:
    """Score every validation split with every model; runs with the same split share a column.

    A run whose corpus has changed or is gone is left out. Raises `UserError` if `all_needed`, or if it leaves fewer
    than two.
    """
    tried = [(run, passage_or_reason(run, all_needed)) for run in labelled]
    kept = [run for run, passage in tried if isinstance(passage, Passage)]
    passages = [passage for _, passage in tried if isinstance(passage, Passage)]
    left_out = [reason for _, reason in tried if isinstance(reason, str)]
    if len(kept) < 2:
        raise UserError(f"runs=: two runs are needed, of which the corpora are there; {left_out[0]}")
    distinct = list(dict.fromkeys(passages))
    own = [distinct.index(passage) for passage in passages]
    models = [run.label for run in kept]
    # A column has the label of the first model with that split.
    splits = [models[own.index(j)] for j in range(len(distinct))]
    return Matrix(models, splits, [[score(run, passage) for passage in distinct] for run in kept], own, left_out)


def passage_or_reason(run: LabelledRun, needed: bool) -> Passage | str:
    """The validation split of a run, or why it is left out. Raises `UserError` instead if it is `needed`."""
    try:
        return validation_passage(run.run)
    except UserError as error:
        if needed:
            raise
        return f"{relative(run.run.folder)} is left out: {error}"


def describe_matrix(matrix: Matrix) -> tuple[TableRows, str]:
    """A table of the matrix in bits per character, and a legend with a summary."""
    best = [min(column) for column in zip(*matrix.bpc, strict=True)]
    table = []
    for model, own, row in zip(matrix.models, matrix.own, matrix.bpc, strict=True):
        line = {"model": model}
        for j, split in enumerate(matrix.splits):
            bpc = f"[{row[j]:.3f}]" if j == own else f" {row[j]:.3f} "
            line[split] = bpc + ("*" if row[j] == best[j] else " ")
        table.append(line)
    won = {own for own, row in zip(matrix.own, matrix.bpc, strict=True) if row[own] == best[own]}
    return table, (
        "Bits per character: one row per model, one column per validation split. [ ] the model's own split,"
        " * the lowest of the column.\n"
        f"{len(won)} of {len(best)} splits have the lowest bits per character under their own model."
    )


def save_matrix_files(matrix: Matrix, folder: Path) -> None:
    """Write the matrix as compare.csv and compare.png into `folder`. Raises `UserError` if that fails."""
    text = io.StringIO()
    rows = [[model, *row] for model, row in zip(matrix.models, matrix.bpc, strict=True)]
    csv.writer(text, lineterminator="\n").writerows([["model", *matrix.splits], *rows])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        directory.write_atomically(folder / "compare.csv", text.getvalue())
        save_matrix(matrix.bpc, matrix.models, matrix.splits, matrix.own, folder / "compare.png")
    except OSError as error:
        raise UserError(f"out={folder}: {error.strerror}; name another folder with out=") from None
