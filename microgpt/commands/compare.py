"""Score every validation split with every model, or a text of your own.

    microgpt compare                          a matrix: models on validation splits
    microgpt compare out=folder               the same, kept as a table and a figure
    microgpt compare text="Bulbaton"          what the text costs each model

A corpus is split by the seed: a model that was trained on it with another seed has seen much of that split.
"""

import ast
import importlib.resources
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from microgpt.commands.arguments import print_help_if_asked, read_arguments
from microgpt.config.schema import key
from microgpt.errors import UserError

if TYPE_CHECKING:
    from microgpt.insight.scoring import Score


@dataclass
class CompareConfig:
    runs: list[str] = key([], "run directories, by commas; none: the latest complete of each corpus", free_text=True)
    text: str | None = key(None, "a text to score; null: the validation splits", free_text=True)
    out: str | None = key(None, "the folder for compare.csv and compare.png", free_text=True)


def main(words: Sequence[str]) -> None:
    print_help_if_asked(words, f"{__doc__}\n{scoring_rules()}", CompareConfig)
    config = read_arguments(words, CompareConfig)
    if config.text is not None and config.out:
        raise UserError(f"out={config.out}: is for the matrix of models and corpora; leave it out, or text=")
    if config.text is None:
        compare_splits(config.runs, config.out)
    else:
        compare_text(config.runs, check_text(config.text))


def scoring_rules() -> str:
    """The rules, as the module that applies them states them; read and not imported, which would import torch."""
    source = importlib.resources.files("microgpt.insight") / "scoring.py"
    return ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""


def check_text(text: str) -> str:
    """The text without newlines around it. Raises `UserError` if nothing is left."""
    if not (stripped := text.strip("\n")):
        raise UserError('text=: needs a text to score; add text="Bulbaton"')
    return stripped


def compare_text(runs: Sequence[str], text: str) -> None:
    from microgpt.insight.comparison import describe_likeliest, find_runs, score_text

    scores = score_text(find_runs(runs), text)
    show(*describe_likeliest(scores, reprlib.repr(text)), scores)
    explain_ends(scores)


def compare_splits(runs: Sequence[str], out: str | None) -> None:
    from rich.console import Console

    from microgpt.insight.comparison import describe_matrix, find_runs, save_matrix_files, score_matrix
    from microgpt.runs.directory import relative

    labelled = find_runs(runs)
    with Console().status("scoring"):
        matrix = score_matrix(labelled)
    show(*describe_matrix(matrix), [found for row in matrix.scores for found in row])
    print("Models:", ", ".join(f"{run.label} ({relative(run.run.folder)})" for run in labelled))
    if out:
        save_matrix_files(matrix, Path(out).expanduser())


def explain_ends(scores: "Sequence[Score]") -> None:
    """Say why the models have scored different numbers of characters, if they have."""
    if len({found.chars for found in scores}) > 1:
        print("To a discrete model the end of a text costs bits as well, to a stream model it does not.")


def show(rows: list[dict[str, str]], conclusion: str, scores: "Sequence[Score]") -> None:
    """Print the table, what follows from it, and which rules of scoring mattered."""
    from microgpt.insight.scoring import describe_rules
    from microgpt.plots.tables import to_table, wide_console

    wide_console().print(to_table(rows))
    print(conclusion, *describe_rules(scores), sep="\n")
