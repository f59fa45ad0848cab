"""Show what a model predicted at each character of a text, and what its attention heads attended to.

    microgpt explain run=latest text=charmander

For each character it shows the surprisal in bits, the rank, the likeliest characters, and for each head the character
with the largest attention weight, in the terminal and as an HTML page. The text is first normalised like the corpus
(for example, in lower case).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from microgpt.commands.arguments import print_help_if_asked, read_arguments
from microgpt.config.checks import as_path
from microgpt.config.program import relative
from microgpt.config.registry import CHECKPOINTS, DEVICES
from microgpt.config.schema import REQUIRED, key
from microgpt.data.tokenizer import BOS_SYMBOL as BOS
from microgpt.errors import UserError
from microgpt.runs.directory import write_atomically
from microgpt.runs.finding import RUN, choose_run

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from microgpt.insight.explanation import Explanation

PAGE = "explain.html"
MIN_WIDTH = 120  # characters per line in the terminal

LEGEND = f"""{BOS} begins and ends a document, or a paragraph of a stream. The column of a head (layer.head) shows the
character that it attended to most to predict this one: h³ 87% is a weight of 87% on the h 3 characters back."""


@dataclass
class ExplainConfig:
    run: str = key(REQUIRED, RUN, example="latest", free_text=True)
    text: str = key(REQUIRED, "the text to explain", example="abc", free_text=True, may_be_empty=True)
    checkpoint: str = key("best", "which checkpoint of the run", choices=CHECKPOINTS)
    top: int = key(5, "likeliest characters to list", low=1, high=1000)
    out: str | None = key(None, "the page, or its folder; null: the run's directory", free_text=True)
    device: str = key("auto", "where to compute", choices=DEVICES)


def main(words: Sequence[str]) -> None:
    print_help_if_asked(words, __doc__, ExplainConfig)
    config = read_arguments(words, ExplainConfig)
    folder = choose_run(config.run, "run", CHECKPOINTS[config.checkpoint])
    from microgpt.insight.explanation import explain_text, page
    from microgpt.model.device import find_device
    from microgpt.plots.tables import wide_console
    from microgpt.runs.opening import open_run

    run = open_run(folder, config.checkpoint, find_device(config.device))
    text = run.generator.prompt(config.text)
    explanation = explain_text(run.generator, text)
    out = as_path("out", config.out or str(folder))
    if out.is_dir():
        out /= PAGE
    try:
        write_atomically(out, page(explanation, config.top, run.title))
    except OSError as error:
        raise UserError(f"out={out}: {error.strerror}; name another file with out=") from None
    show(explanation, config.top, wide_console(at_least=MIN_WIDTH))
    if text != config.text:
        print(f"Normalised as its corpus was: {text!r}")
    print(f"page: {relative(out.absolute())}")


def show(explanation: Explanation, top: int, console: Console) -> None:
    """Print the coloured text, a table with a row for each character, and a summary."""
    from rich.text import Text

    from microgpt.insight.explanation import color, most_focused

    text = Text()
    for token, place in zip(explanation.tokens[1:], explanation.places, strict=True):
        text.append(token, f"black on {color(place.bits)}")
        if token in ("\\n", BOS):
            text.append("\n")
    # Width: 20 for character, bits and rank, 8 for each of the likeliest, 9 for each head.
    n_heads = max(1, (console.width - 20 - 8 * top) // 9)
    text.rstrip()
    console.print(text, end="\n\n")
    console.print(to_table(explanation, top, most_focused(explanation.places)[:n_heads]))
    console.print(Text(f"\n{explanation.summary()}\n{LEGEND}"), soft_wrap=True)


def to_table(explanation: Explanation, top: int, heads: Sequence[tuple[int, int]]) -> Table:
    """A row for each character, with a column for each of `heads`, (layer, head) from 0."""
    from rich.table import Table
    from rich.text import Text

    from microgpt.insight.explanation import color, most_attended, percent

    table = Table("", "bits", "rank", "likeliest", box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for layer, head in sorted(heads):
        table.add_column(f"{layer + 1}.{head + 1}", no_wrap=True)
    for i, place in enumerate(explanation.places):
        token, likeliest = explanation.tokens[i + 1], Text()
        for char, p in explanation.likeliest(place, top):
            likeliest.append(f"{char} {percent(p):5}", "bold" if char == token else "dim")
        attended = [Text(most_attended(explanation.tokens, i, place, *head)) for head in sorted(heads)]
        cell = Text(f" {token} ", f"black on {color(place.bits)}")
        table.add_row(cell, f"{place.bits:4.1f}", f"{place.rank:4}", likeliest, *attended)
    return table
