"""The end of a run: the best weights are evaluated, and the result is written before the steps that can fail."""

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml
from helpers import make_job

from microgpt.config.schema import (
    Config,
    DatasetConfig,
    InsightConfig,
    ModelConfig,
    OptimConfig,
    SamplingConfig,
    TrainConfig,
)
from microgpt.data.loading import load_data
from microgpt.insight.callback import Insight
from microgpt.model.text_generator import TextGenerator
from microgpt.runs import checkpoint
from microgpt.runs.directory import BEST, Status
from microgpt.runs.tracking import Tracker
from microgpt.sweeps.jobs import RECORD
from microgpt.training.build import build_model, build_trainer
from microgpt.training.finish import expected_files, finish, hyperparameters, is_complete, write_run_result
from microgpt.training.trainer import Trainer

Run = tuple[Config, Path, Trainer, Insight]


@pytest.fixture
def run(names_file: Path, tmp_path: Path) -> Run:
    """The parts of a trained run whose best weights differ from its last weights."""
    config = Config(
        dataset=DatasetConfig(name="file", path=str(names_file)),
        model=ModelConfig(n_embd=8, n_layer=1, n_head=2, block_size=8),
        train=TrainConfig(steps=4, batch_size=4, val_every=2, val_tokens=5),
        sampling=SamplingConfig(n_samples=3, max_tokens=8),
        insight=InsightConfig(baselines=False, novelty=0, over_time=False),
    )
    folder = tmp_path / "run"
    folder.mkdir()
    data = load_data(config.dataset, config.seed, tmp_path)
    model = build_model(config, data.tokenizer.vocab_size, torch.device("cpu"))
    trainer = build_trainer(config, data, model)
    checkpoint.save(folder / BEST, trainer.state_dict())
    trainer.fit()
    generator = TextGenerator(model, data.tokenizer, data.mode)
    tracker = Tracker(folder, config.train.steps)
    return config, folder, trainer, Insight(config.insight, config.sampling, data, generator, tracker, folder)


def finish_run(run: Run) -> dict[str, object]:
    config, folder, trainer, insight = run
    with insight.tracker:
        finish(config, folder, trainer, insight, insight.tracker, Status.FINISHED)
    return json.loads((folder / "result.json").read_text())


def test_the_best_weights_are_measured_on_the_whole_validation_split(run: Run) -> None:
    config, folder, trainer, insight = run
    last = trainer.evaluate(trainer.whole_val).loss
    result = finish_run(run)
    trainer.model.load_state_dict(checkpoint.load(folder / BEST)["model"])
    best = trainer.evaluate(trainer.whole_val)
    assert best.tokens > trainer.val.n_targets
    assert (result["val_loss"], result["val_bpc"], result["val_tokens"]) == (best.loss, best.bpc, best.tokens)
    assert result["val_loss"] != last
    assert result["status"] == "finished" and result["step"] == 4
    texts = insight.generator.generate(config.sampling, config.seed)
    assert (folder / "samples.txt").read_text() == "".join(f"{text}\n" for text in texts)
    assert (folder / "loss.png").is_file()


def test_without_plot_there_is_no_figure(run: Run) -> None:
    run[0].plot = False
    finish_run(run)
    assert not (run[1] / "loss.png").exists()


def test_the_loss_is_kept_when_samples_and_figures_fail(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(texts: Sequence[str]) -> list[str]:
        raise RuntimeError("no")

    monkeypatch.setattr(run[3], "mark", fail)
    with pytest.raises(RuntimeError):
        finish_run(run)
    result = json.loads((run[1] / "result.json").read_text())
    assert result["status"] == "reporting" and result["val_loss"] > 0


def test_the_status_is_final_only_when_all_files_are_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    save_figures = run[3].save_figures

    def note(step: int) -> None:
        seen.append(json.loads((run[1] / "result.json").read_text())["status"])
        save_figures(step)

    monkeypatch.setattr(run[3], "save_figures", note)
    assert finish_run(run)["status"] == "finished" and seen == ["reporting"]


@pytest.mark.parametrize(
    ("result", "steps", "complete"),
    [
        ({"status": "finished", "steps": 100}, 100, True),
        ({"status": "stopped early", "steps": 100}, 100, True),
        ({"status": "finished", "steps": 100}, 200, False),
        ({"status": "running", "steps": 100}, 100, False),
        ({"status": "reporting", "steps": 100}, 100, False),
        ({"status": "interrupted", "steps": 100}, 100, False),
        ({"status": "failed", "error": "no such file"}, 100, False),
        ({"status": "ended", "steps": 100}, 100, False),
        ({"status": "finished"}, 100, False),
        ([1], 100, False),
    ],
)
def test_a_run_is_complete_if_its_result_is_final_and_its_files_are_there(
    result: object, steps: int, complete: bool, tmp_path: Path
) -> None:
    config = Config(train=TrainConfig(steps=steps))
    assert not is_complete(config, tmp_path)
    (tmp_path / "result.json").write_text(json.dumps(result))
    for name in expected_files(config):
        assert not is_complete(config, tmp_path)
        (tmp_path / name).write_text("")
    assert is_complete(config, tmp_path) is complete


def test_the_expected_files_follow_the_config() -> None:
    everything = Config(insight=InsightConfig(embeddings=True, attention=True))
    assert {"loss.png", "samples_over_time.txt", "embeddings.png", "attention.png"} < set(expected_files(everything))
    nothing = Config(plot=False, insight=InsightConfig(over_time=False))
    assert expected_files(nothing) == ["best.pt", "ckpt.pt", "samples.txt"]


def test_the_result_is_reported_before_the_figures_are_drawn(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(step: int) -> None:
        raise RuntimeError("no")

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(run[3], "save_figures", fail)
    with pytest.raises(RuntimeError):
        finish_run(run)
    assert f"{json.loads((run[1] / 'result.json').read_text())['val_loss']:.4f} nats per token" in caplog.text


def test_a_number_that_is_not_finite_becomes_null(run: Run) -> None:
    """JSON has no NaN and no infinity, so that strict readers would reject result.json."""
    config, folder, trainer, _ = run
    trainer.progress.loss_ema, trainer.progress.best_val_loss = math.nan, math.inf
    write_run_result(folder, config, trainer, Status.RUNNING, error="none")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    result = json.loads((folder / "result.json").read_text(), parse_constant=refuse)
    assert result["train_loss_ema"] is None and result["best_val_loss"] is None
    assert (result["status"], result["steps"], result["error"]) == ("running", 4, "none")


def test_the_hyperparameters_are_named_as_they_are_typed(tmp_path: Path) -> None:
    config = Config(dataset=DatasetConfig(name="names"), model=ModelConfig(n_embd=24))
    settings, columns = hyperparameters(config, tmp_path)
    assert settings["dataset"] == "names" and settings["model.n_embd"] == 24 and settings["optim.lr"] == 0.02
    assert columns == {"dataset": False, "overrides": False} and settings["overrides"] == "none"


def test_single_runs_are_told_apart_by_what_their_command_lines_changed(tmp_path: Path) -> None:
    without_effect = {"dataset": "file", "dataset.path": "a.txt", "train.threads": 1, "insight": "off", "run.name": "x"}
    overrides = {"optim.lr": "1e-2", "optim.betas": "[0.9,0.95]", "sampling.top_k": 5, "experiment": "speedrun"}
    make_job(tmp_path / "a", without_effect | overrides | {"model": "modern", "seed": 3})
    config = Config(dataset=DatasetConfig(name="a"), optim=OptimConfig(lr=0.01), seed=3)
    settings, columns = hyperparameters(config, tmp_path / "a")
    assert settings["overrides"] == "lr0.01-betas0.9_0.95-speedrun-modern-seed3"
    assert columns == {"dataset": False, "overrides": False}


def test_the_hyperparameters_of_a_job_are_those_that_its_sweep_varies(tmp_path: Path) -> None:
    make_job(tmp_path / "0-a", {"model": "modern", "optim.betas": "[0.9,0.99]", "train.steps": 60})
    hydra = ["hydra.job.config.override_dirname.exclude_keys=['train.steps']", "hydra.mode=MULTIRUN"]
    task = ["model=modern,tuned", "+optim.betas=[0.9,0.99],[0.9,0.95]", "train.steps=60", "sampling.top_k=1,2"]
    record = {"hydra": {"overrides": {"task": task, "hydra": hydra}}}
    (tmp_path / RECORD).write_text(yaml.safe_dump(record))
    settings, columns = hyperparameters(Config(dataset=DatasetConfig(name="names")), tmp_path / "0-a")
    assert columns == {"model": True, "optim.betas": True, "sampling.top_k": True}
    assert settings["model"] == "modern" and settings["optim.betas"] == [0.9, 0.95] and settings["seed"] == 1337
