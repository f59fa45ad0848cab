"""Writes the page: its template, style and scripts, and the data of each run, in one file."""

import importlib.resources
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader

from microgpt.errors import UserError
from microgpt.page.contents import PageRun
from microgpt.plots.style import page_colors
from microgpt.runs.directory import write_atomically

FILE = "page.html"
SCRIPTS = (
    "gpt.js",
    "weights.js",
    "generation.js",
    "text.js",
    "charts.js",
    "play.js",
    "attention.js",
    "page.js",
)  # in the order of their use
MEGABYTE = 1_000_000
SKELETON = 70_000  # bytes of a page beside the weights and the known documents, roughly


def source(name: str) -> str:
    """A file of this folder: a script or the style."""
    return (importlib.resources.files("microgpt.page") / name).read_text(encoding="utf-8")


def check_size(runs: Sequence[PageRun], max_mb: float) -> None:
    """Raise `UserError` if the page would be larger than `max_mb` megabytes."""
    n_bytes = SKELETON + sum(run.n_bytes for run in runs)
    if n_bytes > max_mb * MEGABYTE:
        raise UserError(
            f"max_mb={max_mb:g}: the page would have about {n_bytes / MEGABYTE:.1f} MB; use"
            f" max_mb={n_bytes // MEGABYTE + 1}; fewer bits for each weight (bits, ngram_bits) make it smaller"
        )


def write_page(runs: Sequence[PageRun], title: str, out: Path) -> int:
    """Write the page of `runs`, the first one in view. Returns its size in bytes."""
    environment = Environment(loader=PackageLoader("microgpt.page", "."), autoescape=True)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}  # compact, and in the order of the data
    text = environment.get_template("page.html.j2").render(
        title=title,
        style=page_colors() + source("page.css"),
        script="\n".join(map(source, SCRIPTS)),
        runs=[run.as_json() for run in runs],
    )
    write_atomically(out, text)
    return len(text.encode())
