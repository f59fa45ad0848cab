"""Guess which corpus a text is from: the probability of each model given the text, with equal priors.

microgpt guess text="Bulbaton"
"""

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass

from microgpt.commands.arguments import print_help_if_asked, read_arguments
from microgpt.commands.compare import check_text, explain_ends, show
from microgpt.config.schema import REQUIRED, key


@dataclass
class GuessConfig:
    text: str = key(REQUIRED, "the text", example="Bulbaton", free_text=True, may_be_empty=True)
    runs: list[str] = key(
        [], "run directories, separated by commas; none: the latest complete one of each corpus", free_text=True
    )


def main(words: Sequence[str]) -> None:
    print_help_if_asked(words, __doc__, GuessConfig)
    config = read_arguments(words, GuessConfig)
    text = check_text(config.text)
    from microgpt.insight.comparison import describe_guess, find_runs, score_text

    scores = score_text(find_runs(config.runs), text)
    show(*describe_guess(scores, reprlib.repr(text)), scores)
    explain_ends(scores)
