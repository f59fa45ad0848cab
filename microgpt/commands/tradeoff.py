"""Find the temperature and top_k that give new, varied and plausible samples.

    microgpt tradeoff run=latest n=2000

`n` is the number of samples for each setting. For a stream, they are samples of 1,000 characters, 20 n characters in
all. The table is written next to the figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from microgpt.commands.arguments import print_help_if_asked, read_arguments, read_docstring
from microgpt.config.checks import as_path
from microgpt.config.program import relative
from microgpt.config.schema import REQUIRED, key
from microgpt.errors import UserError
from microgpt.runs.directory import BEST, write_atomically
from microgpt.runs.finding import RUN, choose_run

FIGURE, SUFFIXES = "tradeoff.png", (".png", ".svg", ".pdf")


@dataclass
class TradeoffConfig:
    run: str = key(REQUIRED, RUN, example="latest", free_text=True)
    n: int = key(500, "samples for each setting", low=20, high=10**5)
    out: str | None = key(None, "the figure, or its folder; null: the run's directory", free_text=True)
    datasets_dir: str | None = key(None, "where the corpus is; null: as in the run", free_text=True)


def main(words: Sequence[str]) -> None:
    print_help_if_asked(words, f"{__doc__}\n{read_docstring('microgpt.insight.tradeoff')}", TradeoffConfig)
    config = read_arguments(words, TradeoffConfig)
    folder = choose_run(config.run, "run", BEST)
    out = figure_path(config.out, folder)
    from microgpt.insight.tradeoff import measure_run, recommend, save_figure, sentence, table_rows
    from microgpt.plots.tables import to_csv, to_table, wide_console

    console = wide_console()
    points, reference = measure_run(folder, config.n, config.datasets_dir or "", console)
    chosen = recommend(points, reference)
    rows = table_rows(points, reference, chosen)
    console.print(to_table(rows))
    console.print(sentence(points, reference, chosen), markup=False, highlight=False, soft_wrap=True)
    title = f"{'/'.join(folder.resolve().parts[-2:])}: samples by top_k (lines) and temperature (boxes)"
    try:
        write_atomically(out.with_suffix(".csv"), to_csv(rows))
        save_figure(points, reference, chosen, out, title)
    except OSError as error:
        raise UserError(f"out={out}: {error.strerror or error}; name another file with out=") from None
    print(f"figure and table: {relative(out.absolute())}, {out.with_suffix('.csv').name}")


def figure_path(out: str | None, folder: Path) -> Path:
    """The path of the figure, checked before the long measurement. Raises `UserError` if it cannot be written there."""
    path = as_path("out", out or str(folder))
    if path.is_dir():
        path /= FIGURE
    if path.suffix not in SUFFIXES or not path.parent.is_dir():
        raise UserError(f"out={out}: must be a folder, or a .png, .svg or .pdf in a folder that exists")
    return path
