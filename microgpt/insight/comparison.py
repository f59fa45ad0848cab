"""Models compared: every model on every validation split, and one text under every model."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import torch

from microgpt.errors import UserError
from microgpt.insight.scoring import LabelledRun, Passage, Score, open_labelled, score, validation_passage
from microgpt.plots.models import save_matrix
from microgpt.runs import directory

TableRows = list[dict[str, str]]


def find_runs(names: Sequence[str]) -> list[LabelledRun]:
    """The runs that `names` lists; without any, the latest complete one of each `dataset.name`. Raises `UserError`."""
    folders = [directory.find_run(name, "runs", directory.BEST).resolve() for name in names]
    folders = folders or directory.latest_of_each_dataset()
    if len(set(folders)) < 2:
        hint = "list two, or train some with: python train.py -m dataset=colors,python_docs"
        raise UserError(f"runs={','.join(names)}: there must be two finished runs to compare; {hint}")
    return open_labelled(list(dict.fromkeys(folders)))


def score_text(labelled: Sequence[LabelledRun], text: str) -> list[Score]:
    """What the text costs each model, the best first."""
    return sorted((score(run, Passage(text)) for run in labelled), key=lambda found: found.bits)


def describe_likeliest(scores: Sequence[Score], text: str) -> tuple[TableRows, str]:
    """What the text costs each model, and the answer; `scores` are best first."""
    table = [
        {
            "run": str(directory.relative(found.run.folder)),
            "corpus": found.run.config.dataset.name,
            "bits": f"{found.bits:.1f}",
            "bits per character": f"{found.bpc:.3f}",
            "unseen characters": str(found.unseen),
        }
        for found in scores
    ]
    first, second = scores[:2]
    odds = Decimal(2) ** Decimal(second.bits - first.bits)  # more than a float may hold
    lead = f"{odds:.3g} times as likely as to {second.label}, the next"
    return table, f"{text} is likeliest to {first.label}, {lead}."


def describe_guess(scores: Sequence[Score], text: str) -> tuple[TableRows, str]:
    """Which corpus the text sounds like, and the answer; `scores` are best first."""
    chances = dict(zip([found.label for found in scores], posterior([found.bits for found in scores]), strict=True))
    table = [{"corpus": name, "share": f"{p:6.1%}", "": "█" * round(40 * p)} for name, p in chances.items()]
    name, share = next(iter(chances.items()))
    return table, f"{text} sounds like {name} ({share:.0%}), if each of the {len(scores)} is as likely beforehand."


def posterior(bits: Sequence[float]) -> list[float]:
    """Posterior probabilities of models that are as likely beforehand: 2^-bits, normalised."""
    return torch.softmax(torch.tensor(bits, dtype=torch.float64) * -math.log(2), 0).tolist()


@dataclass(frozen=True)
class Matrix:
    """Scores of models (rows) on validation splits (columns), and the column of each model's own split."""

    models: list[str]
    splits: list[str]
    scores: list[list[Score]]
    own: list[int]

    @property
    def bpc(self) -> list[list[float]]:
        return [[found.bpc for found in row] for row in self.scores]


def score_matrix(labelled: Sequence[LabelledRun]) -> Matrix:
    """Score each run's validation split with each model; runs of one split share a column. Raises `UserError`."""
    passages = [validation_passage(run.run) for run in labelled]
    distinct = list(dict.fromkeys(passages))
    own = [distinct.index(passage) for passage in passages]
    models = [run.label for run in labelled]
    splits = [models[own.index(j)] for j in range(len(distinct))]
    return Matrix(models, splits, [[score(run, passage) for passage in distinct] for run in labelled], own)


def describe_matrix(matrix: Matrix) -> tuple[TableRows, str]:
    """The matrix, and how to read it."""
    best = [min(column) for column in zip(*matrix.bpc, strict=True)]
    table = []
    for model, own, row in zip(matrix.models, matrix.own, matrix.bpc, strict=True):
        line = {"model": model}
        for j, split in enumerate(matrix.splits):
            bpc = f"[{row[j]:.3f}]" if j == own else f" {row[j]:.3f} "
            line[split] = bpc + ("*" if row[j] == best[j] else " ")
        table.append(line)
    at_home = {own for own, row in zip(matrix.own, matrix.bpc, strict=True) if row[own] == best[own]}
    return table, (
        "Bits per character of validation splits. A row a model, a column a corpus; [ ] its own, * best of a column.\n"
        f"{len(at_home)} of {len(best)} corpora are read best by a model of their own."
    )


def save_matrix_files(matrix: Matrix, folder: Path) -> None:
    """Write the matrix into `folder`, as compare.csv and compare.png. Raises `UserError`."""
    text = io.StringIO()
    rows = [[model, *row] for model, row in zip(matrix.models, matrix.bpc, strict=True)]
    csv.writer(text, lineterminator="\n").writerows([["model", *matrix.splits], *rows])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        directory.write_atomically(folder / "compare.csv", text.getvalue())
        save_matrix(matrix.bpc, matrix.models, matrix.splits, matrix.own, folder / "compare.png")
    except OSError as error:
        raise UserError(f"out={folder}: {error.strerror}; name another folder with out=") from None
