"""Find the temperature and top_k that give new, varied and plausible samples.

    microgpt tradeoff run=latest n=2000

Of each setting of a grid, and of the run's own, from the same random draws:
- novelty: the share of samples that are in neither the training nor the held-out set; of a running text, the share of
  the samples' different spans of 8 characters that the training text does not hold.
- diversity: the share of samples that are different; of a running text, of their spans of 8 characters.
- plausibility: the mean loss of the samples, in nats per token, under the trigram model of the training split.
  Held-out text has a loss there too: samples with a lower one are made of commoner parts than it, with a higher one
  of rarer parts. Trigrams see three characters: whether words are words, say, they do not tell.

The rule by which a setting is recommended: of those whose samples are no less plausible than held-out text (a trigram
loss of at most its own + 0.05), the one with the highest novelty × diversity; of those within 0.02 of that, which is
noise, the most plausible. If none qualifies, the most plausible of all.

`n` is how many samples are drawn for a setting; of a running text, samples of 1,000 characters, 20 n characters in all.
The table comes to lie beside the figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from microgpt.commands.arguments import print_help_if_asked, read_arguments
from microgpt.config.schema import REQUIRED, key
from microgpt.errors import UserError
from microgpt.runs.directory import BEST, find_run, relative, write_atomically

FIGURE, SUFFIXES = "tradeoff.png", (".png", ".svg", ".pdf")


@dataclass
class TradeoffConfig:
    run: str = key(REQUIRED, "the directory of a run, or latest", example="latest", free_text=True)
    n: int = key(500, "samples for a setting", low=20)
    out: str | None = key(None, "the figure, or its folder; null: the run's directory", free_text=True)
    datasets_dir: str | None = key(None, "where the corpus is; null: as in the run", free_text=True)


def main(words: Sequence[str]) -> None:
    print_help_if_asked(words, __doc__, TradeoffConfig)
    config = read_arguments(words, TradeoffConfig)
    folder = find_run(config.run, "run", BEST)
    out = figure_path(config.out, folder)
    from microgpt.insight.tradeoff import measure_run, recommend, save_figure, sentence, table_rows
    from microgpt.plots.tables import to_csv, to_table, wide_console

    console = wide_console()
    points, reference = measure_run(folder, config.n, config.datasets_dir or "", console)
    chosen = recommend(points, reference)
    rows = table_rows(points, reference, chosen)
    console.print(to_table(rows))
    console.print(sentence(points, reference, chosen), markup=False, highlight=False, soft_wrap=True)
    write_atomically(out.with_suffix(".csv"), to_csv(rows))
    title = f"{'/'.join(folder.resolve().parts[-2:])}: samples by top_k (lines) and temperature (boxes)"
    save_figure(points, reference, chosen, out, title)
    print(f"figure and table: {relative(out.absolute())}, {out.with_suffix('.csv').name}")


def figure_path(out: str | None, folder: Path) -> Path:
    """Where the figure goes. Raises `UserError` for a place that it cannot go to: better before the work than after."""
    path = Path(out or folder).expanduser()
    if path.is_dir():
        path /= FIGURE
    if path.suffix not in SUFFIXES or not path.parent.is_dir():
        raise UserError(f"out={out}: must be a folder, or a .png, .svg or .pdf in a folder that exists")
    return path
