"""The moving average of the weights: its values, that it costs no exactness, and that the best checkpoint holds it."""

import copy
import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_same_files, fit, make_trainer, resumed, weights_of

from microgpt.config.schema import Config, DatasetConfig, InsightConfig, ModelConfig, OptimConfig, TrainConfig
from microgpt.runs import checkpoint
from microgpt.runs.directory import BEST, LAST, PREVIOUS, read_result
from microgpt.runs.metrics import read_metrics
from microgpt.runs.opening import open_run
from microgpt.training.averaging import WeightAverage, for_best, for_training
from microgpt.training.run import run_training
from microgpt.training.trainer import Trainer

needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="Numba is not installed")


def average_of(trainer: Trainer) -> torch.Tensor:
    assert trainer.average is not None
    return torch.cat([weight.flatten() for weight in trainer.average.weights])


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_the_average_is_that_of_the_formula(decay: float) -> None:
    model = make_trainer().model
    average = WeightAverage(model, decay)
    expected = model.head.weight.detach().double()
    for step in range(20):
        with torch.no_grad():
            model.head.weight += torch.randn(model.head.weight.shape)
        kept = min(decay, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * model.head.weight.detach().double()
        average.update(step)
    assert torch.allclose(average.model.head.weight.double(), expected, atol=1e-5)


def test_the_average_does_not_change_training() -> None:
    (_, without), (_, with_average) = (fit(make_trainer(steps=40, ema_decay=decay)) for decay in (0.0, 0.9))
    assert all(metrics.pop("val/ema_weights") for _, metrics in with_average if "val/loss" in metrics)
    assert with_average == without
    assert make_trainer().average is None and "average" not in make_trainer().state_dict()


@pytest.mark.parametrize("engine", ["torch", pytest.param("tiny", marks=needs_numba)])
def test_a_resumed_run_has_the_same_average_bit_for_bit(engine: str) -> None:
    settings: dict[str, Any] = {"steps": 60, "engine": engine, "ema_decay": 0.9}
    straight, first = make_trainer(**settings), make_trainer(**settings)
    _, log = fit(straight)
    _, first_log = fit(first, lambda step: first.stop() if step == 30 else None)
    second = resumed(first, make_trainer(seed=1, **settings))
    _, second_log = fit(second)
    assert first_log + second_log == log
    assert torch.equal(average_of(second), average_of(straight))
    assert not torch.equal(average_of(second), weights_of(second))


@needs_numba
def test_the_average_follows_the_compiled_step() -> None:
    trainers = [make_trainer("adam", steps=20, ema_decay=0.9, engine=engine) for engine in ("torch", "tiny")]
    for trainer in trainers:
        fit(trainer)
    torch.testing.assert_close(*map(average_of, trainers), rtol=0, atol=1e-5)


def test_an_average_that_begins_later_begins_with_the_weights() -> None:
    first = make_trainer(steps=20)
    fit(first)
    second = resumed(first, make_trainer(steps=20, seed=1, ema_decay=0.9))
    assert torch.equal(average_of(second), weights_of(first))


def test_the_best_is_the_lower_of_both_losses() -> None:
    """At a high constant learning rate the average is better; at first, with the initial weights in it, it is not."""
    trainer = make_trainer(lr=0.05, steps=200, val_every=10, ema_decay=0.95, schedule=lambda step: 1.0)
    _, log = fit(trainer)
    losses = [(metrics["val/loss"], metrics["val/ema_weights"]) for _, metrics in log if "val/loss" in metrics]
    best = min(map(min, losses))
    assert trainer.average is not None and trainer.progress.best_val_loss == best
    assert trainer.average.is_best == (best in [averaged for _, averaged in losses])
    assert trainer.progress.best_step == 10 * (1 + [min(pair) for pair in losses].index(best))


def test_the_best_checkpoint_has_the_average_as_its_model_and_training_goes_on_from_the_weights() -> None:
    weights, averaged = {"head.weight": torch.zeros(2)}, {"head.weight": torch.ones(2)}
    state = {"model": weights, "optimizer": [], "average": {"weights": averaged, "is_best": True}}
    best = for_best(copy.copy(state))
    assert best["model"] is averaged and best["raw_model"] is weights and for_best(best) == best
    assert for_training(best) == state and for_training(state) is state
    worse = {**state, "average": {"weights": averaged, "is_best": False}}
    assert for_best(worse) is worse and for_best({"model": weights}) == {"model": weights}


# -- in a run directory --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run that ends with its best loss, which is that of the average."""
    file = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    file.write_text("".join(f"{a}{b}{c}\n" for a in "kmnt" for b in "aeiou" for c in ("ra", "lin")))
    return Config(
        dataset=DatasetConfig(name="file", path=str(file)),
        model=ModelConfig(n_embd=8, n_layer=1, n_head=2, block_size=8),
        optim=OptimConfig(name="adamw", lr=0.05, schedule="constant"),
        train=TrainConfig(steps=40, batch_size=4, val_every=20, log_every=10, ema_decay=0.95),
        insight=InsightConfig(baselines=False, novelty=0),
        plot=False,
        device="cpu",
    )


@pytest.fixture(scope="module")
def trained_once(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run_training(config, folder)
    return folder


def test_the_average_is_sampled_and_measured_where_it_is_better(trained_once: Path) -> None:
    best, last = (checkpoint.load(trained_once / name) for name in (BEST, LAST))
    assert best["average"]["is_best"] and read_result(trained_once)["best_is_average"] is True
    run = open_run(trained_once, "best", torch.device("cpu"))
    assert torch.equal(run.generator.model.head.weight, best["average"]["weights"]["head.weight"])
    assert not torch.equal(best["model"]["head.weight"], best["raw_model"]["head.weight"])
    assert "raw_model" not in last and not torch.equal(last["model"]["head.weight"], best["model"]["head.weight"])
    values = read_metrics(trained_once)
    assert read_result(trained_once)["best_val_loss"] == min(values["val/ema_weights"][1]) < min(values["val/loss"][1])


@pytest.mark.parametrize("lost", [[LAST], [BEST], [LAST, PREVIOUS], [BEST, PREVIOUS]], ids=" ".join)
def test_a_run_goes_on_from_any_checkpoint_with_its_average(
    lost: list[str], config: Config, trained_once: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(trained_once, tmp_path / "run")
    for name in [*lost, "samples.txt"]:
        (run / name).unlink()
    run_training(config, run)
    assert_same_files(run, trained_once)
    for name in (LAST, BEST):
        mine, theirs = (checkpoint.load(folder / name) for folder in (run, trained_once))
        assert mine.keys() == theirs.keys()
        weights, expected = (state["average"]["weights"] for state in (mine, theirs))
        assert all(torch.equal(weights[key], expected[key]) for key in expected)


def test_a_run_that_is_trained_longer_is_one_that_was_never_stopped(
    config: Config, trained_once: Path, tmp_path: Path
) -> None:
    longer = replace(config, train=replace(config.train, steps=80))
    run, other = shutil.copytree(trained_once, tmp_path / "run"), tmp_path / "other"
    other.mkdir()
    run_training(longer, run)
    run_training(longer, other)
    assert_same_files(run, other)
