"""Write a model for others: its weights as safetensors, config and tokenizer as JSON, and a model card.

microgpt export run=latest                   to export/ in the run directory
microgpt export run=latest out=my-model
"""

from collections.abc import Sequence
from dataclasses import dataclass

from microgpt.commands.arguments import print_help_if_asked, read_arguments
from microgpt.config.checks import as_path
from microgpt.config.program import relative
from microgpt.config.schema import REQUIRED, key
from microgpt.runs.directory import BEST
from microgpt.runs.finding import RUN, choose_run

FOLDER = "export"  # in the run directory


@dataclass
class ExportConfig:
    run: str = key(REQUIRED, RUN, example="latest", free_text=True)
    out: str | None = key(None, "the folder to write to; null: export in the run directory", free_text=True)


def main(words: Sequence[str]) -> None:
    print_help_if_asked(words, __doc__, ExportConfig)
    config = read_arguments(words, ExportConfig)
    run = choose_run(config.run, "run", BEST)
    folder = as_path("out", config.out) if config.out else run / FOLDER
    import torch

    from microgpt.runs.export import export
    from microgpt.runs.opening import open_run

    names = export(open_run(run, "best", torch.device("cpu")), folder)
    print(f"in {relative(folder.absolute())}: {', '.join(names)}")
