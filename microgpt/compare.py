"""`python -m microgpt.compare`: every model on every corpus; with text="…", which model finds a text likeliest.

    python -m microgpt.compare                          a matrix: models on validation splits (out=folder keeps it)
    python -m microgpt.compare text="Bulbaton"          what the text costs each model
    python -m microgpt.compare guess text="Bulbaton"    which corpus the text sounds like

`runs=[outputs/names/…,multirun/…/3-names]` says which runs; without it, the latest complete one of each `dataset.name`
below outputs/ and multirun/. A corpus is split by the seed: a model that was trained on it under another seed has seen
much of that split.
"""

import csv
import io
import math
import reprlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import torch
from rich.console import Console

from microgpt.arguments import read_words
from microgpt.errors import UserError
from microgpt.failure import guard
from microgpt.insight import scoring
from microgpt.insight.scoring import (
    LabelledRun,
    Passage,
    Score,
    describe_rules,
    open_labelled,
    score,
    validation_passage,
)
from microgpt.plots.models import save_matrix
from microgpt.plots.tables import to_table, wide_console
from microgpt.runs import directory

DEFAULTS = {"runs": "", "text": "", "out": ""}
Lines = list[dict[str, str]]  # of a table


def find_likeliest(scores: Sequence[Score], text: str) -> tuple[Lines, str]:
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


def guess(scores: Sequence[Score], text: str) -> tuple[Lines, str]:
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


def measure(labelled: Sequence[LabelledRun]) -> Matrix:
    """Score each run's validation split with each model; runs of one split share a column. Raises `UserError`."""
    passages = [validation_passage(run.run) for run in labelled]
    distinct = list(dict.fromkeys(passages))
    own = [distinct.index(passage) for passage in passages]
    models = [run.label for run in labelled]
    splits = [models[own.index(j)] for j in range(len(distinct))]
    return Matrix(models, splits, [[score(run, passage) for passage in distinct] for run in labelled], own)


def describe(matrix: Matrix) -> tuple[Lines, str]:
    """The matrix, and how to read it."""
    best = [min(column) for column in zip(*matrix.bpc, strict=True)]
    table = []
    for model, own, row in zip(matrix.models, matrix.own, matrix.bpc, strict=True):
        line = {"model": model}
        for j, split in enumerate(matrix.splits):
            line[split] = (f"[{row[j]:.3f}]" if j == own else f" {row[j]:.3f} ") + " *"[row[j] == best[j]]
        table.append(line)
    at_home = {own for own, row in zip(matrix.own, matrix.bpc, strict=True) if row[own] == best[own]}
    return table, (
        "Bits per character of validation splits. A row a model, a column a corpus; [ ] its own, * best of a column.\n"
        f"{len(at_home)} of {len(best)} corpora are read best by a model of their own."
    )


def save(matrix: Matrix, folder: Path) -> None:
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


def find_runs(names: str) -> list[LabelledRun]:
    """The runs that `names` lists, else the latest complete one of each `dataset.name`. Raises `UserError`."""
    listed = names.strip("[]").split(",") if names else []
    folders = [
        directory.find_run(name.strip(), "runs", directory.BEST).resolve() for name in listed
    ] or directory.latest_of_each_dataset()
    if len(set(folders)) < 2:
        way_out = "list two, or train some with: python train.py -m dataset=colors,python_docs"
        raise UserError(f"runs={names}: there must be two finished runs to compare; {way_out}")
    return open_labelled(list(dict.fromkeys(folders)))


def show(table: Lines, conclusion: str, scores: Sequence[Score]) -> None:
    wide_console().print(to_table(table))
    print(conclusion, *describe_rules(scores), sep="\n")


def main() -> None:
    is_guess = sys.argv[1:2] == ["guess"]
    words = sys.argv[1 + is_guess :]
    values = read_words(words, DEFAULTS, {})
    text = values["text"].strip("\n")
    if not text and (is_guess or any(word.startswith("text=") for word in words)):
        raise UserError('text=: needs a text to read; add text="Bulbaton"')
    if text and values["out"]:
        raise UserError(f"out={values['out']}: is for the matrix of models and corpora; leave it out, or text=")
    labelled = find_runs(values["runs"])
    if text:
        scores = sorted((score(run, Passage(text)) for run in labelled), key=lambda found: found.bits)
        show(*(guess if is_guess else find_likeliest)(scores, reprlib.repr(text)), scores)
        if len({found.chars for found in scores}) > 1:
            print("To a discrete model the end of a text costs bits as well, to a stream model it does not.")
        return
    with Console().status("reading"):
        matrix = measure(labelled)
    show(*describe(matrix), [found for row in matrix.scores for found in row])
    print("Models:", ", ".join(f"{run.label} ({directory.relative(run.run.folder)})" for run in labelled))
    if values["out"]:
        save(matrix, Path(values["out"]).expanduser())


if __name__ == "__main__":
    guard(main, f"{__doc__}\n{scoring.__doc__}")
