"""Score the validation split of every corpus with every trained model, or score a text.

    microgpt compare                          a matrix: models and validation splits
    microgpt compare out=folder               also write compare.csv and compare.png
    microgpt compare text="Bulbaton"          the bits that the text costs each model

The split of documents is drawn from the seed: a model trained with another seed has seen most of a validation split.
"""

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from microgpt.commands.arguments import print_help_if_asked, read_arguments, read_docstring
from microgpt.config.checks import as_path
from microgpt.config.schema import key
from microgpt.errors import UserError
from microgpt.runs.directory import can_write

if TYPE_CHECKING:
    from microgpt.insight.scoring import Score


@dataclass
class CompareConfig:
    runs: list[str] = key(
        [], "run directories, separated by commas; none: the latest complete one of each corpus", free_text=True
    )
    text: str | None = key(None, "a text to score; null: the validation splits", free_text=True, may_be_empty=True)
    out: str | None = key(None, "the folder for compare.csv and compare.png", free_text=True)


def main(words: Sequence[str]) -> None:
    print_help_if_asked(words, f"{__doc__}\n{read_docstring('microgpt.insight.scoring')}", CompareConfig)
    config = read_arguments(words, CompareConfig)
    if config.text is not None and config.out:
        raise UserError(f"out={config.out}: is for the matrix of models and corpora; leave out out= or text=")
    if config.out and not can_write(as_path("out", config.out)):
        raise UserError(f"out={config.out}: cannot be written; name another folder with out=")
    if config.text is None:
        compare_splits(config.runs, config.out)
    else:
        compare_text(config.runs, check_text(config.text))


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

    from microgpt.config.program import relative
    from microgpt.insight.comparison import describe_matrix, find_runs, save_matrix_files, score_matrix

    labelled = find_runs(runs)
    with Console().status("scoring"):
        matrix = score_matrix(labelled, all_needed=bool(runs))
    show(*describe_matrix(matrix), [score for row in matrix.scores for score in row])
    models = [run for run in labelled if run.label in matrix.models]
    print("Models:", ", ".join(f"{run.label} ({relative(run.run.folder)})" for run in models))
    for line in matrix.left_out:
        print(line)
    if out:
        save_matrix_files(matrix, as_path("out", out))


def explain_ends(scores: "Sequence[Score]") -> None:
    """Print why the numbers of scored characters differ between models, if they do."""
    if len({score.chars for score in scores}) > 1:
        print("For a discrete model the end of a text costs bits as well; for a stream model it does not.")


def show(rows: list[dict[str, str]], conclusion: str, scores: "Sequence[Score]") -> None:
    """Print the table, the conclusion, and the scoring rules that affected these scores."""
    from microgpt.insight.scoring import describe_rules
    from microgpt.plots.tables import to_table, wide_console

    wide_console().print(to_table(rows))
    print(conclusion, *describe_rules(scores), sep="\n")
