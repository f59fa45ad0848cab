"""Resuming from the newest whole checkpoint, whatever has happened to the others."""

import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_same_files

from microgpt.config.schema import Config, DatasetConfig, InsightConfig, ModelConfig, OptimConfig, TrainConfig
from microgpt.errors import UserError
from microgpt.runs import checkpoint
from microgpt.runs.directory import BEST, LAST, METRICS, PREVIOUS, RESULT, Status, write_result
from microgpt.training.restoring import restore
from microgpt.training.run import run_training

FILES = (LAST, PREVIOUS, BEST)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Validations at 2, 4, 6, 8: LAST is of step 8, PREVIOUS of step 6."""
    file = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    file.write_text("".join(f"{a}{b}{c}\n" for a in "kmnt" for b in "aeiou" for c in ("ra", "lin")))
    return Config(
        dataset=DatasetConfig(name="file", path=str(file)),
        model=ModelConfig(n_embd=8, n_layer=1, n_head=2, block_size=8, ngrams=2, ngram_rows=64),
        train=TrainConfig(steps=8, batch_size=4, val_every=2, log_every=1),
        insight=InsightConfig(baselines=False, novelty=0),
        plot=False,
        device="cpu",
    )


@pytest.fixture(scope="module")
def trained_once(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run_training(config, folder)
    return folder


@pytest.fixture
def run(trained_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained_once, tmp_path / "run")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def step_of(path: Path) -> int:
    return checkpoint.load(path)["progress"]["step"]


def change(path: Path, how: Callable[[dict[str, Any]], object]) -> None:
    state = checkpoint.load(path)
    how(state)
    checkpoint.save(path, state)


def test_a_run_keeps_its_last_two_checkpoints_and_the_best(run: Path) -> None:
    assert [step_of(run / name) for name in FILES] == [8, 6, 8]


@pytest.mark.parametrize("damage", [Path.unlink, cut], ids=["gone", "cut"])
@pytest.mark.parametrize(
    ("names", "source"),
    [([LAST], BEST), ([LAST, BEST], PREVIOUS), ([LAST, PREVIOUS], BEST), ([BEST], LAST), ([BEST, PREVIOUS], LAST)],
)
def test_a_run_goes_on_from_its_newest_whole_checkpoint_and_says_so(
    names: list[str],
    source: str,
    damage: Callable[[Path], object],
    run: Path,
    trained_once: Path,
    config: Config,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = step_of(run / source)
    for name in names:
        damage(run / name)
    (run / "samples.txt").unlink()
    run_training(config, run)
    assert_same_files(run, trained_once)
    said = [record.message for record in caplog.records if "resumed from" in record.message]
    if source != LAST or damage is not Path.unlink:
        assert len(said) == 1 and f"resumed from {source}, of step {expected}" in said[0] and names[0] in said[0]


def test_without_a_whole_checkpoint_nothing_begins_anew(run: Path, config: Config) -> None:
    (run / "samples.txt").unlink()
    for name in FILES:
        cut(run / name)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.name != ".lock"}
    with pytest.raises(UserError, match="no checkpoint is whole") as error:
        run_training(config, run)
    assert "\n" not in str(error.value) and all(name in str(error.value) for name in FILES)
    assert before == {path.name: path.read_bytes() for path in run.iterdir() if path.name != ".lock"}
    for name in FILES:
        (run / name).unlink()
    with pytest.raises(UserError, match="its checkpoints have been removed"):
        run_training(config, run)


def test_a_run_without_a_checkpoint_yet_begins_at_its_start(config: Config, tmp_path: Path) -> None:
    assert restore(tmp_path, config) is None
    for result in ({"status": Status.RUNNING}, {"status": Status.FAILED, "error": "no space left"}):
        write_result(tmp_path, result)
        assert restore(tmp_path, config) is None
    (tmp_path / RESULT).write_text("")
    assert restore(tmp_path, config) is None


def test_the_best_weights_are_replaced_if_they_are_lost(
    run: Path, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (LAST, PREVIOUS):
        change(run / name, lambda s: s["progress"].update(best_step=4, best_val_loss=0.5, stale=1))
    (run / BEST).unlink()
    state = restore(run, config)
    assert state is not None and state["progress"]["best_step"] == 8 and state["progress"]["stale"] == 0
    assert state["progress"]["best_val_loss"] == state["progress"]["val_loss"]
    assert step_of(run / BEST) == 8
    assert "the best weights, of step 4, are lost; those of step 8 replace them" in caplog.text


def test_a_run_stopped_before_its_first_validation_has_no_best_weights_to_lose(
    run: Path, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (PREVIOUS, BEST):
        (run / name).unlink()
    change(run / LAST, lambda s: s["progress"].update(step=1, best_step=0, best_val_loss=math.inf, val_loss=math.nan))
    assert restore(run, config) is not None
    assert not (run / BEST).exists() and caplog.text == ""


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "none": lambda s: s.pop("optimizer"),
    "text": lambda s: s.update(optimizer="muon"),
    "one member less": lambda s: s["optimizer"].pop(),
    "no state": lambda s: s["optimizer"][0].update(state={}),
    "a weight less": lambda s: s["optimizer"][1]["state"].popitem(),
    "a weight too many": lambda s: s["optimizer"][0]["state"].update({99: s["optimizer"][0]["state"][0]}),
    "another shape": lambda s: s["optimizer"][0]["state"][0].update(momentum_buffer=torch.ones(3)),
    "another name": lambda s: s["optimizer"][0]["state"][0].update(exp_avg=torch.ones(3)),
    "a number": lambda s: s["optimizer"][1]["state"][0].update(exp_avg=1.0),
    "NaN": lambda s: s["optimizer"][1]["state"][0]["exp_avg"].fill_(math.nan),
    "tables": lambda s: s["optimizer"][2]["state"][0].update(mean_square=torch.ones(7)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_state_of_the_optimizer_is_refused_in_one_line(name: str, run: Path, config: Config) -> None:
    for file in FILES:
        change(run / file, WRONG[name])
    with pytest.raises(UserError, match=r"no checkpoint is whole .*optimizer is damaged") as error:
        restore(run, config)
    assert "\n" not in str(error.value)


def test_the_checkpoint_of_another_run_is_refused(run: Path, config: Config) -> None:
    other = Config(**{**vars(config), "optim": OptimConfig(name="adam")})
    with pytest.raises(UserError, match=r"is of another run, with optim\.name=muon"):
        restore(run, other)


def test_weights_alone_do_not_resume(run: Path, config: Config) -> None:
    for file in FILES:
        change(run / file, lambda s: [s.pop(key) for key in ("progress", "optimizer", "corpus")])
    with pytest.raises(UserError, match="holds weights alone"):
        restore(run, config)


def spoil(path: Path, place: float, content: bytes) -> None:
    """Overwrite bytes of a file."""
    data = bytearray(path.read_bytes())
    start = int(place * len(data))
    data[start : start + len(content)] = content
    path.write_bytes(bytes(data))


SIDE_FILES = {
    "an empty result": (RESULT, lambda path: path.write_text("")),
    "a deeply nested result": (RESULT, lambda path: path.write_text("[" * 100_000)),
    "a result in UTF-16": (RESULT, lambda path: path.write_bytes(b"\xff\xfe{\0}\0")),
    "a result of another shape": (RESULT, lambda path: path.write_text('{"status": ["finished"], "steps": "8"}')),
    "an empty table": (METRICS, lambda path: path.write_bytes(b"")),
    "a table of random bytes": (METRICS, lambda path: path.write_bytes(bytes(range(256)) * 9)),
    "a broken row": (METRICS, lambda path: spoil(path, 0.5, b'"\xff,\0')),
    "samples in UTF-16": ("samples_over_time", lambda path: path.write_text(path.read_text(), encoding="utf-16")),
    "a broken sample": ("samples_over_time", lambda path: spoil(path, 0.6, b"\xff")),
    "a broken event": ("events", lambda path: spoil(path, 0.4, b"\xff\xff")),
    "no events": ("events", Path.unlink),
    "no table": (METRICS, Path.unlink),
}


@pytest.mark.parametrize("name", SIDE_FILES)
def test_a_damaged_side_file_does_not_keep_a_run_from_going_on(
    name: str, run: Path, trained_once: Path, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    file, damage = SIDE_FILES[name]
    path = next(run.glob(f"{file}*"))
    damage(path)
    (run / "samples.txt").unlink()
    caplog.set_level(logging.WARNING)
    run_training(config, run)
    if not name.startswith(("no ", "an empty table")):
        assert [record for record in caplog.records if path.name in record.message], caplog.text
    last, expected = (checkpoint.load(folder / LAST)["model"]["head.weight"] for folder in (run, trained_once))
    assert torch.equal(last, expected)
    assert (run / "samples.txt").read_text() == (trained_once / "samples.txt").read_text()
    if file == RESULT:
        assert_same_files(run, trained_once)
