"""Run directories: finding them, comparing their configs, and reading their status."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from microgpt.config.schema import Config, DatasetConfig, ModelConfig, TrainConfig
from microgpt.errors import UserError
from microgpt.runs.directory import (
    BEST,
    CONFIG,
    LAST,
    RESULT,
    Status,
    all_runs,
    difference,
    find_run,
    is_complete,
    latest_of_each_dataset,
    latest_run,
    read_config,
    read_status,
    relative,
    write_atomically,
    write_config,
    write_result,
)


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
    assert set(all_runs(LAST)) == {Path("outputs/names/b"), Path("outputs/names/d")}


def test_the_latest_complete_run_of_each_dataset_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def make(place: str, dataset: str, status: Status, age: float) -> Path:
        folder = make_run(Path(place), age)
        (folder / BEST).write_text("")
        write_result(folder, {"status": status, "dataset": dataset})
        os.utime(folder / RESULT, (1e9 - age, 1e9 - age))
        return folder.resolve()

    make("outputs/names/a", "names", Status.FINISHED, age=30)
    names = make("multirun/x/0-names", "names", Status.STOPPED_EARLY, age=20)
    make("outputs/names/b", "names", Status.INTERRUPTED, age=10)
    colors = make("outputs/colors/a", "colors", Status.FINISHED, age=40)
    (make("outputs/cities/a", "cities", Status.FINISHED, age=5) / BEST).unlink()
    assert latest_of_each_dataset() == [colors, names]


@pytest.mark.parametrize("name", ["latest", "nowhere", "."])
def test_a_directory_without_a_run_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=name if name != "." else r"run=\.") as caught:
        find_run(name, "run", LAST)
    assert "\n" not in str(caught.value)


def test_a_difference_is_named_by_its_key() -> None:
    config = Config(dataset=DatasetConfig(name="a"), model=ModelConfig(n_embd=8))
    assert difference(config, replace(config, model=ModelConfig(n_embd=16))) == "model.n_embd=16"
    assert difference(config, replace(config, seed=7)) == "seed=7"
    assert difference(config, replace(config, dataset=DatasetConfig(name="b"))) == "dataset.name=b"


def test_more_steps_or_a_new_note_do_not_change_the_identity_of_a_run() -> None:
    config = Config(dataset=DatasetConfig(name="a", note="old"))
    other = replace(config, train=TrainConfig(steps=9), dataset=DatasetConfig(name="a", note="new"))
    assert difference(config, other) is None


def test_a_config_is_read_as_it_was_written(tmp_path: Path) -> None:
    config = Config(dataset=DatasetConfig(name="a", replace={"ß": "ss"}), model=ModelConfig(n_embd=8), plot=False)
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config
    (tmp_path / CONFIG).unlink()
    with pytest.raises(UserError, match="not the directory of a run"):
        read_config(tmp_path)


def test_paths_are_shown_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert relative(tmp_path / "outputs" / "x") == Path("outputs/x")
    assert relative(Path("/elsewhere/x")) == Path("/elsewhere/x")


def test_writing_leaves_no_partial_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", "old")
    write_atomically(tmp_path / "a.txt", "new ü")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "new ü"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("result", "steps", "complete"),
    [
        ({"status": "finished", "steps": 100}, 100, True),
        ({"status": "stopped early", "steps": 100}, 100, True),
        ({"status": "finished", "steps": 100}, 200, False),
        ({"status": "running", "steps": 100}, 100, False),
        ({"status": "interrupted", "steps": 100}, 100, False),
        ({"status": "failed", "error": "no such file"}, 100, False),
    ],
)
def test_a_run_is_complete_if_its_result_has_a_final_status(
    result: dict[str, object], steps: int, complete: bool, tmp_path: Path
) -> None:
    assert not is_complete(tmp_path, steps)
    (tmp_path / RESULT).write_text(json.dumps(result))
    assert is_complete(tmp_path, steps) is complete


@pytest.mark.parametrize("status", Status)
def test_a_status_is_read_as_it_was_written(status: Status, tmp_path: Path) -> None:
    assert read_status(tmp_path) is Status.RUNNING
    write_result(tmp_path, {"status": status})
    assert json.loads((tmp_path / RESULT).read_text()) == {"status": str(status)}
    assert read_status(tmp_path) is status


def test_the_final_statuses_are_known() -> None:
    assert {status for status in Status if status.is_complete} == {Status.FINISHED, Status.STOPPED_EARLY}
    assert {status for status in Status if status.has_ended} == {Status.FINISHED, Status.STOPPED_EARLY, Status.PRUNED}
