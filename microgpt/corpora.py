"""`python -m microgpt.corpora`: a data card of every corpus, in a table.

Options are those of train.py: `python -m microgpt.corpora datasets_dir=elsewhere`. Nothing is downloaded.
"""

import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Column, Table

from microgpt import cli
from microgpt.config.checks import parse
from microgpt.config.groups import CONF, choices
from microgpt.config.schema import Config
from microgpt.data.corpus import cached_file
from microgpt.failure import guard

NOTES = """
documents: of a stream, its paragraphs. train, validation: documents, or the tokens of a stream. duplicates: removed
before the split. dropped: documents (characters, of a stream) for characters that are too rare. longest: characters.
fit a block: share of documents that the model reads in one piece, with the BOS before them. What is not cached is
fetched when train.py first needs it."""


def corpora(overrides: list[str]) -> list[Config]:
    """The composed config of every corpus that `conf/dataset/` names, but for `file`."""
    names = [name for name in choices("dataset") if name != "file"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return [parse(compose("config", [f"dataset={name}", *overrides]), Config) for name in names]


def row(config: Config) -> dict[str, str]:
    """One line of the table."""
    folder = Path(config.datasets_dir).expanduser()
    file = cached_file(config.dataset, folder)
    if file is not None and not file.exists():
        return {"mode": config.dataset.mode, "cached": "no"}
    from microgpt.data.loading import load_data  # imports torch, which --help does not need

    data = load_data(config.dataset, config.seed, folder)
    card = data.card(config.model.block_size)
    card["documents"] = card.pop(data.mode.unit)
    return {**card, "cached": "embedded" if file is None else "yes"}


def table(rows: dict[str, dict[str, str]]) -> Table:
    columns = ["mode", "documents", "duplicates", "dropped", "train", "validation", "characters", "longest"]
    columns += ["fit a block", "cached"]
    drawn = Table(Column("dataset", no_wrap=True), box=None, header_style="bold", pad_edge=False)
    for column in columns:
        drawn.add_column(column, justify="left" if column in ("mode", "cached") else "right", overflow="fold")
    for name, card in rows.items():
        drawn.add_row(name, *(card.get(column, "") for column in columns))
    return drawn


def main() -> None:
    cli.register()
    rows = {config.dataset.name: row(config) for config in corpora([cli.quote(argument) for argument in sys.argv[1:]])}
    console = Console()
    console.width = max(console.width, 122)  # a line each, also in a pipe
    console.print(table(rows))
    print(NOTES)


if __name__ == "__main__":
    guard(main, __doc__)
