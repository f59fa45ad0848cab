"""Finding a run by what a user types: a directory, the best of a sweep, `latest`, `names/latest`, `best`."""

import os
import shlex
from pathlib import Path

import pytest

from microgpt.errors import UserError
from microgpt.runs.directory import BEST, CONFIG, LAST, RESULT, Status, write_result
from microgpt.runs.finding import all_runs, choose_run, find_run, latest_of_each_dataset, latest_run, place_and_loss


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_run(place: str, age: float = 0, loss: float | None = None, status: Status = Status.FINISHED) -> Path:
    """A run that was written `age` seconds before others; it has a result if it has a loss."""
    folder = Path(place)
    folder.mkdir(parents=True)
    for name in (CONFIG, LAST, BEST):
        (folder / name).write_text("")
    if loss is not None:
        write_result(folder, {"status": status, "dataset": place.split("/")[1].split("-")[0], "val_loss": loss})
    for file in folder.iterdir():
        os.utime(file, (1e9 - age, 1e9 - age))
    return folder


def test_latest_is_the_run_in_outputs_that_was_written_last() -> None:
    make_run("outputs/names/b", age=20)
    newest = make_run("outputs/colors/c", age=10)
    make_run("outputs/names/d", age=30)
    make_run("multirun/c/0-names", age=0)  # a sweep that starts changes nothing
    assert latest_run(LAST) == find_run("latest", "run", LAST) == newest
    assert find_run("names/latest", "run", LAST) == Path("outputs/names/b")
    (newest / LAST).unlink()
    assert latest_run(LAST) == Path("outputs/names/b")
    assert set(all_runs(LAST)) == {Path(f"outputs/names/{name}") for name in "bd"} | {Path("multirun/c/0-names")}


def test_best_is_the_complete_run_with_the_lowest_loss_on_its_corpus() -> None:
    make_run("outputs/names/a", age=30, loss=2.0)
    best = make_run("outputs/names/b", age=40, loss=1.5)
    make_run("outputs/names/c", age=10, loss=1.0, status=Status.INTERRUPTED)
    make_run("outputs/names/d", age=10)
    colors = make_run("outputs/colors/a", age=50, loss=0.5)
    assert find_run("best", "run", BEST) == find_run("names/best", "run", BEST) == best
    assert find_run("colors/best", "run", BEST) == colors
    sweep = Path("multirun/names-x")
    job = make_run(f"{sweep}/1", loss=1.2)
    make_run(f"{sweep}/0", loss=1.4)
    make_run(f"{sweep}/2")
    assert find_run("best", "run", BEST) == find_run(str(sweep), "run", BEST) == job
    assert find_run("outputs/names", "run", BEST) == best
    with pytest.raises(UserError, match="not the directory of a run"):
        find_run(str(sweep), "resume", CONFIG, in_folders=False)


def test_of_runs_of_several_corpora_none_is_the_best() -> None:
    for place, dataset, loss in (("s/0", "names", 2.0), ("s/1", "names", 1.9), ("s/2", "my words", 1.0)):
        write_result(make_run(place), {"status": Status.FINISHED, "dataset": dataset, "val_loss": loss})
    with pytest.raises(UserError) as caught:
        find_run("s", "run", BEST)
    assert str(caught.value) == ("run=s: holds runs of several corpora; choose the best of one: run=s/2, run=s/1")


def test_what_was_chosen_is_printed_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run("outputs/names/b", loss=2.04)
    assert choose_run("latest", "run", BEST) == choose_run("outputs/names", "run", BEST) == run
    assert capsys.readouterr() == ("", "from outputs/names/b (names, val 2.040)\n" * 2)
    assert choose_run("outputs/names/b/", "run", BEST) == run
    assert capsys.readouterr() == ("", "")
    assert place_and_loss(make_run("outputs/names/c")) == "outputs/names/c"
    (run / RESULT).write_text('{"status": "running", "dataset": "names"}')
    assert place_and_loss(run) == "outputs/names/b (names, running)"
    (run / RESULT).write_text("{")
    assert place_and_loss(run) == "outputs/names/b"


def test_a_folder_may_have_the_name_of_a_word() -> None:
    run = make_run("mine/latest")
    assert find_run("mine/latest", "run", LAST) == run


@pytest.mark.parametrize("name", ["latest", "names/latest", "best", "names/best", "nowhere", "."])
def test_a_directory_without_a_run_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=name if name != "." else r"run=\.") as caught:
        find_run(name, "run", LAST)
    assert "\n" not in str(caught.value)


def test_where_only_sweeps_have_runs_the_last_of_them_is_suggested() -> None:
    make_run("multirun/old/0", age=9, loss=1.0)
    best = make_run("multirun/a new one/0", loss=1.0)
    with pytest.raises(UserError) as caught:
        find_run("latest", "run", BEST)
    *_, setting = shlex.split(str(caught.value))
    assert find_run(setting.removeprefix("run="), "run", BEST) == best


def test_an_empty_name_is_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_run("run"))
    with pytest.raises(UserError, match="resume=: is empty"):
        find_run("", "resume", LAST)


def test_the_latest_complete_run_of_each_dataset_is_found() -> None:
    make_run("outputs/names/a", age=30, loss=1)
    names = make_run("multirun/names-x/0", age=20, loss=1, status=Status.STOPPED_EARLY)
    make_run("outputs/names/b", age=10, loss=1, status=Status.INTERRUPTED)
    colors = make_run("outputs/colors/a", age=40, loss=1)
    (make_run("outputs/cities/a", age=5, loss=1) / BEST).unlink()
    (make_run("outputs/colors/b") / RESULT).write_text("{")
    assert latest_of_each_dataset() == [colors.resolve(), names.resolve()]
