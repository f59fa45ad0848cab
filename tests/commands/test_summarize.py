"""`summarize`: the files that a sweep writes at its end, written again from the directories of its jobs."""

from pathlib import Path

from helpers import make_job
from settings import Program


def test_summarize_writes_tables_a_figure_and_a_page(program: Program, tmp_path: Path) -> None:
    for n, loss in enumerate((2.5, 2.25)):
        make_job(tmp_path / f"sweep/{n}-seed{n}", {"seed": n}, val_loss=loss)
    done = program("-m", "microgpt", "summarize", "folder=sweep")
    assert "2 jobs: 2 finished" in done.stdout
    for name in ("summary.csv", "summary.md", "all_losses.png", "report.html"):
        assert (tmp_path / "sweep" / name).is_file()


def test_a_user_error_is_one_line(program: Program, tmp_path: Path) -> None:
    assert "folder: must be given" in program("-m", "microgpt", "summarize", status=2).stderr
    (tmp_path / "empty").mkdir()
    assert "empty: holds no runs" in program("-m", "microgpt", "summarize", "folder=empty", status=2).stderr
