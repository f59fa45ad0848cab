"""`tradeoff`: the figure, the table and the recommendation for a run."""

import csv

from settings import QUICK, Program, Trained

from microgpt.runs import directory
from microgpt.runs.finding import RUN


def test_tradeoff_writes_a_figure_and_a_table_and_prints_a_recommendation(program: Program, trained: Trained) -> None:
    folder = trained(*QUICK)
    done = program("-m", "microgpt", "tradeoff", "run=run", "n=20")
    assert (folder / "tradeoff.png").read_bytes().startswith(b"\x89PNG")
    lines = list(csv.DictReader((folder / "tradeoff.csv").read_text().splitlines()))
    assert len(lines) == 20 and {line["top_k"] for line in lines} == {"0", "3", "5", "10"}
    own = directory.read_config(folder).sampling
    mine = [(line["top_k"], line["temperature"]) for line in lines if line["note"].endswith("the run's own")]
    assert mine == [(str(own.top_k), str(own.temperature))]
    (best,) = (line for line in lines if line["note"].startswith("recommended"))
    line = f"recommended: sampling.temperature={best['temperature']} sampling.top_k={best['top_k']}"
    assert line in done.stdout and done.stdout.count(" 0.8 ") >= 4
    assert done.stdout.endswith("figure and table: run/tradeoff.png, tradeoff.csv\n")
    program("-m", "microgpt", "tradeoff", "run=run", "n=20", "out=again.svg")
    assert (folder.parent / "again.csv").read_text() == (folder / "tradeoff.csv").read_text()


def test_errors_are_raised_before_anything_is_sampled(program: Program, trained: Trained) -> None:
    trained(*QUICK)

    def error(*words: str) -> str:
        return program("-m", "microgpt", "tradeoff", *words, status=2).stderr

    assert error() == f"error: run: must be given ({RUN}); add run=latest\n"
    assert error("run=run", "n=19") == "error: n=19: must be at least 20; the default is n=500\n"
    for word in ("out=no/figure.png", "out=figure.txt"):
        expected = f"error: {word}: must be a folder, or a .png, .svg or .pdf in a folder that exists\n"
        assert error("run=run", word) == expected
    assert "no/such: not the directory" in error("run=no/such")
