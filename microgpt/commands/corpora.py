"""List the corpora with a data card each: what it holds, how it is split, and whether it is cached.

    microgpt corpora
    microgpt corpora datasets_dir=elsewhere model.block_size=16

Nothing is downloaded. The settings are those of train, for all corpora: python train.py --help lists them.
"""

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir

from microgpt.commands.arguments import quote
from microgpt.commands.hydra_app import register
from microgpt.config.checks import parse
from microgpt.config.groups import CONF, choices
from microgpt.config.schema import Config
from microgpt.data.corpus import cached_file

COLUMNS = ["mode", "documents", "duplicates", "dropped", "train", "validation", "characters", "longest"]
COLUMNS += ["fit a block", "cached"]
MIN_WIDTH = 122  # characters of a line in the terminal

NOTES = """
documents: of a stream, its paragraphs. train, validation: documents, or the tokens of a stream. duplicates: removed
before the split. dropped: documents (characters, of a stream) for characters that are too rare. longest: characters.
fit a block: share of documents that the model reads in one piece, with the BOS before them. What is not cached is
fetched when train.py first needs it."""


def main(words: Sequence[str]) -> None:
    if {"-h", "--help"} & set(words):
        print((__doc__ or "").strip())
        return
    register()
    from microgpt.plots.tables import to_table, wide_console

    rows = [row(config) for config in compose_all([quote(word, Config) for word in words])]
    wide_console(at_least=MIN_WIDTH).print(to_table(rows))
    print(NOTES)


def compose_all(overrides: list[str]) -> list[Config]:
    """The composed config of every corpus that `conf/dataset/` names, but for `file`."""
    names = [name for name in choices("dataset") if name != "file"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return [parse(compose("config", [f"dataset={name}", *overrides]), Config) for name in names]


def row(config: Config) -> dict[str, str]:
    """The data card of a corpus as a row; of one that is not cached, only what the config says."""
    folder = Path(config.datasets_dir).expanduser()
    file = cached_file(config.dataset, folder)
    if file is not None and not file.exists():
        card = {"mode": config.dataset.mode, "cached": "no"}
    else:
        from microgpt.data.loading import load_data  # imports torch, which --help does not need

        data = load_data(config.dataset, config.seed, folder)
        card = data.card(config.model.block_size)
        card |= {"documents": card.pop(data.mode.unit), "cached": "embedded" if file is None else "yes"}
    return {"dataset": config.dataset.name, **{column: card.get(column, "") for column in COLUMNS}}
