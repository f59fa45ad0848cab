"""Summarize the runs below a directory in a table, a figure and an HTML page. A sweep does this itself when it ends.

microgpt summarize folder=multirun/2026-01-31_12-00-00
microgpt summarize folder=outputs/names
"""

from collections.abc import Sequence
from dataclasses import dataclass

from microgpt.commands.arguments import print_help_if_asked, read_arguments
from microgpt.config.checks import as_path
from microgpt.config.schema import REQUIRED, key


@dataclass
class SummarizeConfig:
    folder: str = key(REQUIRED, "a directory that holds runs", example="multirun/…", free_text=True)


def main(words: Sequence[str]) -> None:
    print_help_if_asked(words, __doc__, SummarizeConfig)
    config = read_arguments(words, SummarizeConfig)
    from microgpt.sweeps.report import gather

    gather(as_path("folder", config.folder))
