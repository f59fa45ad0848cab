"""`page`: where the page goes, which jobs of a sweep are on it, and its error messages."""

import re
from pathlib import Path

import pytest
from page_scripts import save_run
from settings import QUICK, Program, Trained


def test_the_page_is_written_into_the_run_or_to_another_place(
    program: Program, trained: Trained, tmp_path: Path
) -> None:
    folder = trained(*QUICK)
    done = program("-m", "microgpt", "page", f"run={folder}")
    assert done.stdout.startswith("page: run/page.html (0.") and not done.stderr
    size = (folder / "page.html").stat().st_size
    program("-m", "microgpt", "page", "run=run", "bits=4", "out=small.html")
    assert (tmp_path / "small.html").stat().st_size < size


def test_a_run_without_its_corpus_gets_a_page_and_a_note(program: Program, tmp_path: Path) -> None:
    save_run(tmp_path / "run", "discrete", 2, 5)
    done = program("-m", "microgpt", "page", "run=run")
    assert done.stdout.startswith("page: run/page.html") and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("note: a page without the data card and without marks of what is new: run=run: ")


def test_the_page_of_a_sweep_has_its_best_jobs_of_each_corpus(program: Program, tmp_path: Path) -> None:
    program("train.py", "-m", "dataset=colors,python_docs", "seed=1,2", "hydra.sweep.dir=sweep", "insight=off", *QUICK)
    names = {}
    for jobs in (1, 2):
        assert program("-m", "microgpt", "page", "run=sweep", f"jobs={jobs}").stdout.startswith("page: sweep/page.html")
        text = (tmp_path / "sweep/page.html").read_text()
        names[jobs] = re.findall(r"<option[^>]*>(colors|python_docs): \d-", text)
    assert sorted(names[1]) == ["colors", "python_docs"]
    assert sorted(names[2]) == ["colors", "colors", "python_docs", "python_docs"]


def test_damaged_and_missing_runs_are_one_line(program: Program, trained: Trained, tmp_path: Path) -> None:
    folder = trained(*QUICK)
    (folder / "best.pt").write_bytes((folder / "best.pt").read_bytes()[:1000])
    done = program("-m", "microgpt", "page", "run=run", status=2)
    assert done.stderr.startswith("error: run/best.pt: corrupt") and len(done.stderr.splitlines()) == 1
    nowhere = program("-m", "microgpt", "page", "run=nowhere", status=2)
    assert nowhere.stderr.startswith("error: run=nowhere: not the directory of a run")
    (tmp_path / "sweep/0/.hydra").mkdir(parents=True)
    none = program("-m", "microgpt", "page", "run=sweep", status=2)
    assert none.stderr.startswith("error: run=sweep: no job of this sweep has ended; resume it")


def test_what_no_page_can_hold_is_one_line(program: Program, tmp_path: Path) -> None:
    save_run(tmp_path / "run", "discrete", 2, 5)
    large = program("-m", "microgpt", "page", "run=run", "max_mb=0.01", status=2)
    assert "error: max_mb=0.01: the page would have about 0.1 MB; use max_mb=1;" in large.stderr
    unwritten = program("-m", "microgpt", "page", "run=run", "out=no/page.html", status=2)
    assert "error: out=no/page.html: No such file or directory; name another file with out=" in unwritten.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "run: must be given"),
        (["run=x", "bits=30"], "bits=30: must be from 4 to 24"),
        (["run=x", "job=2"], "job: there is no such key; did you mean jobs?"),
        (["run=x", "jobs=0"], "jobs=0: must be at least 1"),
    ],
)
def test_an_error_in_the_settings_is_one_line(words: list[str], message: str, program: Program) -> None:
    assert program("-m", "microgpt", "page", *words, status=2).stderr.startswith(f"error: {message}")
