"""Finding runs again, and telling them apart."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from microgpt.config import Config, Dataset, Model, Train
from microgpt.errors import UserError
from microgpt.runs import CONFIG, LAST, RESULT, difference, find_run, has_ended, latest_run, relative, write_atomically


def make_run(folder: Path, age: float) -> Path:
    folder.mkdir(parents=True)
    for name in (CONFIG, LAST):
        (folder / name).write_text("")
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    return folder


def test_latest_is_the_run_trained_last_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("outputs/names/b"), age=20)
    newest = make_run(Path("multirun/c/0-names"), age=10)
    make_run(Path("outputs/names/d"), age=30)
    assert latest_run(LAST) == newest
    assert find_run("latest", "run", LAST) == newest
    (newest / LAST).unlink()
    assert latest_run(LAST) == Path("outputs/names/b")


@pytest.mark.parametrize("name", ["latest", "nowhere", "."])
def test_what_is_no_run_is_told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=name if name != "." else r"run=\.") as caught:
        find_run(name, "run", LAST)
    assert "\n" not in str(caught.value)


def test_a_difference_is_named_by_its_key() -> None:
    mine = Config(dataset=Dataset(name="a"), model=Model(n_embd=8))
    assert difference(mine, Config(dataset=Dataset(name="a"), model=Model(n_embd=16))) == "model.n_embd=16"
    assert difference(mine, replace(mine, seed=7)) == "seed=7"
    assert difference(mine, replace(mine, dataset=Dataset(name="b"))) == "dataset.name=b"


def test_more_steps_or_a_new_note_are_no_other_run() -> None:
    mine = Config(dataset=Dataset(name="a", note="old"))
    assert difference(mine, replace(mine, train=Train(steps=9), dataset=Dataset(name="a", note="new"))) is None


def test_paths_are_shown_as_users_would_type_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert relative(tmp_path / "outputs" / "x") == Path("outputs/x")
    assert relative(Path("/elsewhere/x")) == Path("/elsewhere/x")


def test_writing_leaves_no_partial_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", "old")
    write_atomically(tmp_path / "a.txt", "new ü")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "new ü"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("result", "steps", "ended"),
    [
        ({"status": "finished", "steps": 100}, 100, True),
        ({"status": "stopped early", "steps": 100}, 100, True),
        ({"status": "finished", "steps": 100}, 200, False),
        ({"status": "running", "steps": 100}, 100, False),
        ({"status": "interrupted", "steps": 100}, 100, False),
    ],
)
def test_a_run_has_ended_when_its_result_says_so(
    result: dict[str, object], steps: int, ended: bool, tmp_path: Path
) -> None:
    assert not has_ended(tmp_path, steps)
    (tmp_path / RESULT).write_text(json.dumps(result))
    assert has_ended(tmp_path, steps) is ended
