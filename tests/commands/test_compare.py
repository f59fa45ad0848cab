"""`compare`: the matrix and the table that it prints and saves, and its error messages."""

import csv
import shutil
from pathlib import Path

import pytest
from settings import Program

from microgpt.insight.comparison import find_runs
from microgpt.insight.scoring import Passage, score


def test_a_text_is_printed_with_its_bits_under_each_run(program: Program, compared_runs: Path) -> None:
    listed = ",".join(f"{compared_runs}/outputs/{name}/1" for name in ("verses", "codes", "colors"))
    out = program("-m", "microgpt", "compare", f"runs=[{listed}]", "text=KJ-☃1").stdout
    rows = [line.split() for line in out.splitlines() if str(compared_runs) in line]
    assert rows[0][1] == "codes" and rows[0][-1] == "1" and {row[1] for row in rows} == {"codes", "colors", "verses"}
    costs = [float(row[2]) for row in rows]
    assert costs == sorted(costs)
    codes = next(labelled for labelled in find_runs(listed.split(",")) if labelled.label == "codes")
    assert costs[0] == pytest.approx(score(codes, Passage("KJ-☃1")).bits, abs=0.06)
    assert "'KJ-☃1' is most likely under codes: " in out and "corpus costs 20.09 bits" in out
    assert "Normalised as their corpora were" in out and "the end of a text costs bits" in out


def test_the_matrix_is_printed_and_saved(program: Program, compared_runs: Path, tmp_path: Path) -> None:
    (tmp_path / "outputs").symlink_to(compared_runs / "outputs")
    out = program("-m", "microgpt", "compare", "out=kept/here").stdout
    assert (
        "3 of 3 splits have the lowest bits per character under their own model." in out and "costs 20.09 bits" in out
    )
    (codes,) = [line.split() for line in out.splitlines() if line.startswith(" codes ")]
    with (tmp_path / "kept/here/compare.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["model"] for row in table] == list(table[0])[1:] == ["codes", "colors", "verses"]
    assert codes[1] == f"[{float(table[0]['codes']):.3f}]*" and codes[2] == f"{float(table[0]['colors']):.3f}"
    assert (tmp_path / "kept/here/compare.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_whose_corpus_has_changed_is_left_out_unless_it_is_named(
    program: Program, compared_runs: Path, tmp_path: Path
) -> None:
    shutil.copytree(compared_runs / "outputs", tmp_path / "outputs")
    corpus = compared_runs / "codes.txt"
    text = corpus.read_text()
    corpus.write_text(text.replace("K", "R"))
    try:
        out = program("-m", "microgpt", "compare").stdout
        assert "outputs/codes/1 is left out: runs=outputs/codes/1: the corpus is not the one" in out
        assert "2 of 2 splits" in out and "Models: colors (outputs/colors/1), verses (outputs/verses/1)" in out
        runs = "runs=outputs/codes/1,outputs/verses/1"
        assert "the corpus is not the one" in program("-m", "microgpt", "compare", runs, status=2).stderr
        (tmp_path / "outputs/colors").rename(tmp_path / "colors")
        assert "two runs are needed" in program("-m", "microgpt", "compare", status=2).stderr
    finally:
        corpus.write_text(text)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(
    program: Program, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for out in ("file", "file/folder"):
        done = program("-m", "microgpt", "compare", f"out={out}", status=2)
        assert done.stderr == f"error: out={out}: cannot be written; name another folder with out=\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Bulbaton"], "Bulbaton: cannot be read as key=value; use runs=, text=, out="),
        (["txt=x"], "txt: there is no such key; did you mean text?"),
        (["runs=nowhere", "text=x"], "runs=nowhere: not the directory of a run (it holds no best.pt); try runs=latest"),
        (["text=x"], "runs=: there must be two finished runs to compare; list two, or train some with: python "),
        (["text="], 'text=: needs a text to score; add text="Bulbaton"'),
        (["text=x", "out=y"], "out=y: is for the matrix of models and corpora; leave out out= or text="),
    ],
)
def test_a_user_error_is_one_line(words: list[str], message: str, program: Program) -> None:
    done = program("-m", "microgpt", "compare", *words, status=2)
    assert done.stderr.startswith(f"error: {message}") and len(done.stderr.splitlines()) == 1


def test_help_states_the_rules_of_scoring(program: Program) -> None:
    usage = program("-m", "microgpt", "compare", "--help").stdout
    assert "microgpt compare text=" in usage and "1,114,112" in usage
