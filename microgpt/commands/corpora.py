"""List the corpora, each with a data card: what it holds, how it is split, and whether it is cached.

    microgpt corpora
    microgpt corpora datasets_dir=elsewhere model.block_size=16
    microgpt corpora --config-dir mine                            also those in mine/dataset/

Nothing is downloaded. The settings are those of train (python train.py --help) and apply to all corpora.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microgpt.commands.arguments import check_word, quote, split_config_dir
from microgpt.commands.failure import user_errors
from microgpt.commands.hydra_app import compose_config, register
from microgpt.config.checks import as_path
from microgpt.config.groups import choices, with_groups_in
from microgpt.config.program import in_help
from microgpt.config.schema import Config
from microgpt.data.corpus import cached_file
from microgpt.data.files import find_files
from microgpt.errors import UserError

COLUMNS = ["mode", "documents", "duplicates", "dropped", "train", "validation", "characters", "longest"]
COLUMNS += ["fit a block", "cached"]
MIN_WIDTH = 122  # characters per line in the terminal

LEGEND = """
documents: for a stream, its paragraphs. duplicates: removed before the split. dropped: documents with rare characters;
for a stream, the rare characters themselves. train, validation: documents; for a stream, tokens. longest: characters.
fit a block: share of the documents that fit a block, with the BOS before them. A corpus that is not cached is fetched
when training first needs it."""


def main(words: Sequence[str]) -> None:
    if {"-h", "--help"} & set(words):
        print(in_help(__doc__ or "").strip())
        return
    folder, settings = split_config_dir(words)
    register()
    from microgpt.plots.tables import to_table, wide_console

    with with_groups_in(folder):
        for word in settings:
            check_word(word)
        rows, errors = rows_and_errors([quote(word, Config) for word in settings])
    if rows:
        wide_console(at_least=MIN_WIDTH).print(to_table(rows))
        print(LEGEND)
    if errors:
        raise errors[0]


def rows_and_errors(overrides: list[str]) -> tuple[list[dict[str, str]], list[UserError]]:
    """The rows of the corpora, the choices of `dataset` except `file`, and why the others cannot be shown."""
    rows, errors = [], []
    for name in choices("dataset"):
        if name != "file":
            try:
                with user_errors():
                    rows.append(row(compose_config([f"dataset={name}", *overrides])))
            except UserError as error:
                errors.append(error)
    return rows, errors


def row(config: Config) -> dict[str, str]:
    """The data card of a corpus as a row of the table. If the corpus is not cached, most cells are empty."""
    folder = as_path("datasets_dir", config.datasets_dir)
    file = cached_file(config.dataset, folder)
    if file is not None and not is_at_hand(config.dataset.path, file):
        card = {"mode": config.dataset.mode, "cached": "no"}
    else:
        from microgpt.data.loading import load_data  # imports torch, which --help does not need

        try:
            data = load_data(config.dataset, config.seed, folder)
        except UserError as error:  # which may not say the corpus
            raise UserError(f"dataset={config.dataset.name}: {error}") from None
        card = data.card(config.model.block_size)
        card |= {"documents": card.pop(data.mode.unit), "cached": "embedded" if file is None else "yes"}
    return {"dataset": config.dataset.name, **{column: card.get(column, "") for column in COLUMNS}}


def is_at_hand(path: Any, file: Path) -> bool:
    """Whether the corpus is there: the files of `dataset.path`, which may be a pattern, else the download `file`."""
    if not path:
        return file.exists()
    try:
        return bool(find_files(path))
    except UserError:
        return False
