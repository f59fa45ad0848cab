"""List the corpora, each with a data card: what it holds, how it is split, and whether it is cached.

    microgpt corpora
    microgpt corpora datasets_dir=elsewhere model.block_size=16

Nothing is downloaded. The settings are those of train (python train.py --help) and apply to all corpora.
"""

from collections.abc import Sequence

from hydra import compose, initialize_config_dir

from microgpt.commands.arguments import check_word, quote
from microgpt.commands.hydra_app import register
from microgpt.config.checks import as_path, parse
from microgpt.config.groups import CONF, choices
from microgpt.config.schema import Config
from microgpt.data.corpus import cached_file

COLUMNS = ["mode", "documents", "duplicates", "dropped", "train", "validation", "characters", "longest"]
COLUMNS += ["fit a block", "cached"]
MIN_WIDTH = 122  # characters per line in the terminal

LEGEND = """
documents: for a stream, its paragraphs. duplicates: removed before the split. dropped: documents with rare characters;
for a stream, the rare characters themselves. train, validation: documents; for a stream, tokens. longest: characters.
fit a block: share of the documents that fit a block, with the BOS before them. A corpus that is not cached is fetched
when train.py first needs it."""


def main(words: Sequence[str]) -> None:
    if {"-h", "--help"} & set(words):
        print((__doc__ or "").strip())
        return
    for word in words:
        check_word(word)
    register()
    from microgpt.plots.tables import to_table, wide_console

    rows = [row(config) for config in compose_all([quote(word, Config) for word in words])]
    wide_console(at_least=MIN_WIDTH).print(to_table(rows))
    print(LEGEND)


def compose_all(overrides: list[str]) -> list[Config]:
    """The composed config of every corpus in `conf/dataset/`, except `file`."""
    names = [name for name in choices("dataset") if name != "file"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return [parse(compose("config", [f"dataset={name}", *overrides]), Config) for name in names]


def row(config: Config) -> dict[str, str]:
    """The data card of a corpus as a row of the table. If the corpus is not cached, most cells are empty."""
    folder = as_path("datasets_dir", config.datasets_dir)
    file = cached_file(config.dataset, folder)
    if file is not None and not file.exists():
        card = {"mode": config.dataset.mode, "cached": "no"}
    else:
        from microgpt.data.loading import load_data  # imports torch, which --help does not need

        data = load_data(config.dataset, config.seed, folder)
        card = data.card(config.model.block_size)
        card |= {"documents": card.pop(data.mode.unit), "cached": "embedded" if file is None else "yes"}
    return {"dataset": config.dataset.name, **{column: card.get(column, "") for column in COLUMNS}}
